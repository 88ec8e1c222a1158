//! Agents may read the Secrets that images name, no others, and before they are asked to pull with them.

use std::collections::BTreeSet;

use crate::rig::{Rig, SECOND};

fn named(rig: &Rig) -> Vec<&str> {
    let stored = rig.world.cluster.pull_secrets.as_ref().unwrap();
    stored.secrets.iter().flatten().map(String::as_str).collect()
}

fn private(rig: &mut Rig, image: &str, secrets: &[&str]) {
    rig.image(image, |image| image.secrets = secrets.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn no_grant_goes_out_before_agents_may_read_its_secrets() {
    let mut rig = Rig::with_nodes(&["n1"]);
    rig.pull_secrets([]);
    private(&mut rig, "app", &["login"]);
    while rig.live().is_empty() {
        let allowed = named(&rig) == ["login"];
        let plan = rig.step();
        assert!(allowed || plan.issues.is_empty(), "granted before the Role names the Secret");
        rig.advance(SECOND / 10);
    }
    assert_eq!(rig.granted("n1"), ["app"]);
}

#[test]
fn a_pair_whose_secrets_may_not_be_read_yet_says_so_and_holds_up_nobody() {
    let mut rig = Rig::with_nodes(&["n1"]);
    rig.pull_secrets([]);
    private(&mut rig, "app", &["login"]);
    rig.image("public", |_| {});
    for _ in 0..5 {
        // The server refuses: the Role stays as it is.
        let mut plan = rig.plan();
        plan.pull_secrets = None;
        rig.apply(&plan);
        rig.advance(SECOND);
    }
    assert_eq!(rig.granted("n1"), ["public"]);
    assert_eq!(rig.waiting()["app/n1"], "PullSecretsPending");
}

#[test]
fn what_nobody_names_any_more_is_taken_away_once_no_grant_carries_it() {
    let mut rig = Rig::with_nodes(&["n1"]);
    rig.pull_secrets([]);
    private(&mut rig, "app", &["login"]);
    rig.run(5 * SECOND);
    rig.take("n1");
    private(&mut rig, "app", &["other"]);
    rig.run(20 * SECOND);
    assert_eq!(named(&rig), ["login", "other"], "the pull in flight keeps its Secret");
    rig.pulled("n1", "app", "sha256:one");
    rig.finish("n1");
    rig.run(20 * SECOND);
    assert_eq!(named(&rig), ["other"]);
    rig.delete_image("app");
    rig.run(20 * SECOND);
    assert_eq!(named(&rig), [] as [&str; 0]);
}

#[test]
fn while_names_change_the_role_is_rewritten_every_five_seconds() {
    let mut rig = Rig::with_nodes(&["n1"]);
    rig.pull_secrets([]);
    private(&mut rig, "one", &["one"]);
    rig.run(SECOND);
    let written = rig.now.monotonic;
    private(&mut rig, "two", &["two"]);
    while named(&rig).len() < 2 {
        rig.run(SECOND / 10);
    }
    let waited = rig.elapsed(written);
    assert!(waited > 3 * SECOND && waited <= 5 * SECOND, "{waited:?}");
}

#[test]
fn a_role_that_says_anything_else_is_put_right() {
    let mut rig = Rig::with_nodes(&["n1"]);
    rig.pull_secrets([]);
    let mut stored = (**rig.world.cluster.pull_secrets.as_ref().unwrap()).clone();
    stored.secrets = None;
    rig.world.cluster.pull_secrets = Some(stored.into());
    assert_eq!(rig.plan().pull_secrets, Some(BTreeSet::new()));
}

#[test]
fn without_the_role_nothing_is_written_and_nobody_waits_for_it() {
    let mut rig = Rig::with_nodes(&["n1"]);
    private(&mut rig, "app", &["login"]);
    rig.run(5 * SECOND);
    assert_eq!(rig.plan().pull_secrets, None);
    assert_eq!(rig.granted("n1"), ["app"]);
}
