//! Two or more elections over one modelled Lease, stepped by hand.

use std::time::Duration;

use drop_protocol::Monotonic;

use super::{Election, Record, Step, Timing, Write, Written};

/// The Lease as a server keeps it: applies a write only to the version that it names.
#[derive(Default)]
struct Server {
    lease: Option<Record>,
    writes: u64,
}

impl Server {
    fn apply(&mut self, write: &Write) -> Written {
        let (over, holder, transitions) = match write {
            Write::Create { holder } if self.lease.is_none() => (None, Some(holder.clone()), 1),
            Write::Create { .. } => return Written::Refused,
            Write::Acquire { over, holder, transitions } => (Some(over), Some(holder.clone()), *transitions),
            Write::Renew { over } => (Some(over), over.holder.clone(), over.transitions),
            Write::Release { over } => (Some(over), None, over.transitions),
        };
        if over != self.lease.as_ref() {
            return Written::Refused;
        }
        self.writes += 1;
        let uid = over.map_or_else(|| format!("uid-{}", self.writes), |record| record.uid.clone());
        let record = Record { uid, resource_version: self.writes.to_string(), holder, transitions };
        self.lease = Some(record.clone());
        Written::Applied(record)
    }

    /// Lets `election` act until it waits; returns until when.
    fn run(&mut self, election: &mut Election, now: Monotonic) -> Monotonic {
        for _ in 0..10 {
            match election.step(now) {
                Step::Read => election.read(self.lease.clone(), now),
                Step::Write(write) => {
                    let outcome = self.apply(&write);
                    election.written(&write, outcome, now, now);
                }
                Step::Wait(until) => return until,
            }
        }
        panic!("never comes to rest");
    }
}

fn at(seconds: f64) -> Monotonic {
    Monotonic::from_start(Duration::from_secs_f64(seconds))
}

fn election(identity: &str) -> Election {
    Election::new(identity.to_owned(), Timing::default())
}

fn leads(election: &Election) -> bool {
    election.term().is_some()
}

#[test]
fn the_first_comer_leads_and_the_second_waits() {
    let (mut server, mut a, mut b) = (Server::default(), election("a"), election("b"));
    server.run(&mut a, at(0.0));
    server.run(&mut b, at(0.0));
    assert!(leads(&a) && !leads(&b));
}

#[test]
fn a_dead_leader_is_followed_within_sixteen_seconds_by_another_epoch() {
    let (mut server, mut a, mut b) = (Server::default(), election("a"), election("b"));
    server.run(&mut a, at(0.0));
    let dead = a.term().cloned().unwrap();
    let mut now = at(0.9);
    while !leads(&b) {
        assert!(now < at(16.9), "took too long");
        assert!(now >= at(0.9));
        now = server.run(&mut b, now);
    }
    assert!(now >= at(15.0), "took over from a leader that could still believe it leads");
    assert_ne!(b.term().unwrap().epoch, dead.epoch);
}

#[test]
fn a_leader_that_renews_is_never_followed() {
    let (mut server, mut a, mut b) = (Server::default(), election("a"), election("b"));
    let (mut wake_a, mut wake_b) = (at(0.0), at(0.5));
    while wake_a < at(120.0) {
        if wake_a <= wake_b {
            wake_a = server.run(&mut a, wake_a);
        } else {
            wake_b = server.run(&mut b, wake_b);
        }
        assert!(leads(&a) && !leads(&b));
    }
    assert_eq!(a.term().unwrap().epoch.transitions, 1);
}

#[test]
fn a_leader_that_cannot_renew_gives_up_before_anyone_may_follow() {
    let (mut server, mut a) = (Server::default(), election("a"));
    server.run(&mut a, at(0.0));
    let mut now = at(5.0);
    while leads(&a) {
        match a.step(now) {
            Step::Read => a.read_failed(now),
            Step::Write(write) => a.written(&write, Written::Unknown, now, now),
            Step::Wait(until) => now = until,
        }
    }
    assert_eq!(now, at(0.0).after(Timing::default().proof));
    assert!(Timing::default().proof < Timing::default().lease);
}

#[test]
fn proof_counts_from_sending_not_from_the_answer() {
    let (mut server, mut a) = (Server::default(), election("a"));
    server.run(&mut a, at(0.0));
    let Step::Write(renewal) = a.step(at(5.0)) else { panic!("no renewal") };
    let outcome = server.apply(&renewal);
    a.written(&renewal, outcome, at(5.0), at(8.0));
    assert_eq!(a.term().unwrap().until, at(17.0));
}

#[test]
fn a_renewal_answered_after_the_proof_ran_out_does_not_revive_the_term() {
    let (mut server, mut a) = (Server::default(), election("a"));
    server.run(&mut a, at(0.0));
    let Step::Write(renewal) = a.step(at(5.0)) else { panic!("no renewal") };
    let outcome = server.apply(&renewal);
    a.written(&renewal, outcome, at(5.0), at(30.0));
    assert!(!leads(&a));
    server.run(&mut a, at(30.0));
    assert_eq!(a.term().unwrap().epoch.transitions, 2, "the same identity counts up too");
}

#[test]
fn a_released_lease_is_taken_at_the_next_look() {
    let (mut server, mut a, mut b) = (Server::default(), election("a"), election("b"));
    server.run(&mut a, at(0.0));
    let look = server.run(&mut b, at(0.0));
    assert!(look <= at(1.0));
    let release = a.release().unwrap();
    let outcome = server.apply(&release);
    a.written(&release, outcome, at(0.1), at(0.1));
    assert!(!leads(&a));
    server.run(&mut b, look);
    assert_eq!(b.term().unwrap().epoch.transitions, 2);
}

#[test]
fn one_that_does_not_lead_releases_nothing() {
    let (mut server, mut a, mut b) = (Server::default(), election("a"), election("b"));
    server.run(&mut a, at(0.0));
    server.run(&mut b, at(0.0));
    assert_eq!(b.release(), None);
}

#[test]
fn a_deleted_lease_ends_the_term_and_comes_back_as_another_epoch() {
    let (mut server, mut a) = (Server::default(), election("a"));
    server.run(&mut a, at(0.0));
    let before = a.term().cloned().unwrap().epoch;
    server.lease = None;
    server.run(&mut a, at(5.0));
    server.run(&mut a, at(6.0));
    assert_ne!(a.term().unwrap().epoch, before);
}

#[test]
fn a_renewal_with_unknown_outcome_that_was_applied_keeps_the_term() {
    let (mut server, mut a) = (Server::default(), election("a"));
    server.run(&mut a, at(0.0));
    let before = a.term().cloned().unwrap();
    let Step::Write(renewal) = a.step(at(5.0)) else { panic!("no renewal") };
    server.apply(&renewal);
    a.written(&renewal, Written::Unknown, at(5.0), at(8.0));
    let retry = server.run(&mut a, at(8.0));
    server.run(&mut a, retry);
    assert_eq!(a.term().unwrap().epoch, before.epoch);
    assert_eq!(a.term().unwrap().until, at(21.0));
}

#[test]
fn an_acquisition_with_unknown_outcome_that_was_applied_is_acquired_anew() {
    let (mut server, mut a) = (Server::default(), election("a"));
    assert_eq!(a.step(at(0.0)), Step::Read);
    a.read(None, at(0.0));
    let Step::Write(create) = a.step(at(0.0)) else { panic!("nothing to create") };
    server.apply(&create);
    a.written(&create, Written::Unknown, at(0.0), at(3.0));
    assert!(!leads(&a), "leads without proof");
    let retry = server.run(&mut a, at(3.0));
    server.run(&mut a, retry);
    assert_eq!(a.term().unwrap().epoch.transitions, 2);
}

#[test]
fn a_lease_that_somebody_else_took_ends_the_term() {
    let (mut server, mut a) = (Server::default(), election("a"));
    server.run(&mut a, at(0.0));
    let over = server.lease.clone().unwrap();
    server.apply(&Write::Acquire { over, holder: "b".to_owned(), transitions: 2 });
    server.run(&mut a, at(5.0));
    assert!(!leads(&a));
}

#[test]
fn a_foreign_edit_of_the_lease_does_not_end_the_term() {
    let (mut server, mut a) = (Server::default(), election("a"));
    server.run(&mut a, at(0.0));
    server.lease.as_mut().unwrap().resource_version = "77".to_owned();
    server.run(&mut a, at(5.0));
    assert_eq!(a.term().unwrap().until, at(17.0));
}
