//! Pulls the images of a grant one after another, and ends what may not go on.

use drop_protocol::failure::Classified;
use drop_protocol::reference::registry_host;
use drop_protocol::{FailureReason, FailureScope, GrantedImage, ImagePullPolicy, Monotonic, Now};

use crate::admission::low_disk_text;
use crate::agent::Agent;
use crate::api::{Effect, PullError, PullId, Pulled};
use crate::work::{Cancelled, InFlight};

impl Agent {
    /// Cancels the pull in flight when its grant lapses, it is stuck, or the process must end.
    pub(crate) fn end_pulls_in_time(&mut self, now: Monotonic) {
        if let Some(work) = &mut self.work
            && let Some(held) = work.held
        {
            if now >= held.cancel_at {
                work.held = None;
                self.cancel_pull(Cancelled::Lapsed);
            } else {
                self.wake_no_later_than(held.cancel_at);
            }
        }
        let Some(pull) = self.pull.as_ref().filter(|pull| pull.cancelled.is_none()) else { return };
        let stuck_at = pull.moved.map(|(_, moved)| moved.after(self.config.stuck_after));
        let leave_at = self.shutdown.map(|deadline| deadline.before(self.config.safety_margin));
        for (at, why) in [(stuck_at, Cancelled::Stuck), (leave_at, Cancelled::Shutdown)] {
            match at {
                Some(at) if at <= now => self.cancel_pull(why),
                Some(at) => self.wake_no_later_than(at),
                None => {}
            }
        }
    }

    /// Ends the pull in flight unless that was done already.
    pub(crate) fn cancel_pull(&mut self, why: Cancelled) {
        if let Some(pull) = self.pull.as_mut().filter(|pull| pull.cancelled.is_none()) {
            pull.cancelled = Some(why);
            self.effects.push(Effect::CancelPull { pull: pull.id });
        }
    }

    /// Obeys a withdrawal, then starts the next pull or finds that there is none.
    pub(crate) fn work_on(&mut self, now: Now) {
        let Some(work) = &mut self.work else { return };
        let withdrawal =
            self.lease.as_ref().and_then(|l| l.grant.as_ref()).and_then(|g| g.withdrawn.as_ref());
        let mut unwanted = false;
        if let Some(withdrawal) = withdrawal {
            work.end(format!("withdrawn: {}", withdrawal.reason));
            unwanted = self.pull.as_ref().is_some_and(|pull| withdrawal.unwanted.contains(&pull.image.uid));
        }
        if self.shutdown.is_some() {
            work.end("the agent is shutting down");
        }
        if unwanted {
            self.cancel_pull(Cancelled::Unwanted);
        }
        self.start_next(now);
    }

    fn start_next(&mut self, now: Now) {
        if self.pull.is_some() {
            return;
        }
        while let Some(work) = self.work.as_mut().filter(|work| work.ended.is_none()) {
            let Some(held) = work.held else { return };
            let Some(image) = work.images.get(work.next).cloned() else {
                let failed: Vec<&str> = work.failed_hosts.iter().map(String::as_str).collect();
                let reason =
                    if failed.is_empty() { String::new() } else { format!("failed: {}", failed.join(", ")) };
                return work.end(reason);
            };
            if image.pull_policy == ImagePullPolicy::Never
                || work.failed_hosts.contains(&registry_host(&image.reference))
            {
                work.next += 1;
            } else if !image.asks_registry_when_present() && self.known.digest_of(&image.reference).is_some()
            {
                work.next += 1;
                self.known.found_present(&image, now);
                self.news = None;
            } else if let Some(low) = self.disk.low() {
                work.end(low_disk_text(low.free_percent, low.wanted_percent));
            } else {
                let grant = work.grant.clone();
                self.last_pull += 1;
                let id = PullId(self.last_pull);
                self.arm(held.kill_at);
                self.effects.push(Effect::StartPull { pull: id, image: image.clone() });
                self.pull = Some(InFlight { id, grant, image, cancelled: None, moved: None });
                return;
            }
        }
    }

    /// Takes in how the pull in flight ended; nothing of it goes on in the runtime.
    pub(crate) fn pull_finished(&mut self, id: PullId, result: Result<Pulled, PullError>, now: Now) {
        let Some(pull) = self.pull.take_if(|pull| pull.id == id) else { return };
        self.news = None;
        let failure = match (result, pull.cancelled) {
            (Ok(pulled), _) => {
                self.known.pulled(&pull.image, pulled.digest.as_deref(), now);
                self.distrust_list(pulled.digest.is_none(), now.monotonic);
                None
            }
            (Err(_), Some(Cancelled::Stuck)) => Some(self.stuck(&pull.image)),
            (Err(PullError::Failed(why)), None) => Some(why),
            // Begun again if the same grant is taken again.
            (Err(_), Some(Cancelled::Lapsed | Cancelled::Lost)) => return,
            (Err(_), _) => None,
        };
        let work = self.work.as_mut().filter(|work| work.grant == pull.grant);
        if let Some(work) = work {
            work.next += 1;
            match failure.as_ref().map(|why| (why.scope, why.reason)) {
                Some((FailureScope::Registry, _)) => {
                    work.failed_hosts.insert(registry_host(&pull.image.reference));
                }
                Some((FailureScope::Node, reason)) => work.end(format!("the node failed: {reason}")),
                Some((FailureScope::Image | FailureScope::Platform, _)) | None => {}
            }
        }
        if let Some(why) = failure {
            self.known.failed(&pull.image, &why, now);
        }
    }

    fn stuck(&self, image: &GrantedImage) -> Classified {
        let minutes = self.config.stuck_after.as_secs() / 60;
        Classified {
            scope: FailureScope::Node,
            reason: FailureReason::Stuck,
            message: format!(
                "the pull of {} made no progress for {minutes} minutes and was ended",
                image.reference
            ),
            retry_after_seconds: None,
        }
    }

    /// Keeps the kernel's timer at the deadline of the grant under which something is being pulled.
    pub(crate) fn settle_timer(&mut self) {
        match &self.pull {
            // A pull that is being cancelled keeps the deadline of the grant that it was started under.
            Some(pull) if pull.cancelled.is_none() => {
                let held =
                    self.work.as_ref().filter(|work| work.grant == pull.grant).and_then(|work| work.held);
                if let Some(held) = held {
                    self.arm(held.kill_at);
                }
            }
            Some(_) => {}
            None => {
                if self.timer.take().is_some() {
                    self.effects.push(Effect::DisarmTimer);
                }
            }
        }
    }

    fn arm(&mut self, deadline: Monotonic) {
        if self.timer != Some(deadline) {
            self.timer = Some(deadline);
            self.effects.push(Effect::ArmTimer { deadline });
        }
    }
}
