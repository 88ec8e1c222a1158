//! The states in which a fault may find a node, a replica or an image.

use drop_planner::{Phase, SetPhase};
use drop_protocol::GrantState;
use serde::{Deserialize, Serialize};

use crate::coordinator::Process;
use crate::runtime::Pull;
use crate::simulation::Simulation;

macro_rules! states {
    ($(#[$about:meta])* $kind:ident { $($(#[doc = $doc:literal])* $name:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $kind {
            $($(#[doc = $doc])* $name,)*
        }
        impl $kind {
            /// All of them.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];
            /// Its name in reports.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

states! {
    /// How the grant of a node stands.
    NodeState {
        /// The node has no Lease, or no Node object.
        NoLease = "no Lease",
        /// No grant is live.
        Idle = "none",
        /// The coordinator does not know whether its issue was applied.
        IssueUnknown = "issue unknown",
        /// Issued, and no process has taken it.
        Untaken = "untaken",
        /// The coordinator has asked for its removal, and has not heard of it.
        BeingWithdrawn = "being withdrawn",
        /// Taken, and no pull runs.
        Taken = "taken",
        /// Taken, and a pull runs.
        Pulling = "pulling",
        /// Taken and marked as withdrawn.
        Marked = "marked",
        /// The agent has asked to finish it, and the Lease does not say so yet.
        Finishing = "unreported",
    }
}

states! {
    /// How a replica stands, or the leadership of them all.
    LeaderState {
        /// The replica does not run. Struck itself only.
        Down = "down",
        /// It runs and neither leads nor tries to. Struck itself only.
        Follower = "follower",
        /// Nobody leads, and nobody has asked to. Of them all only.
        Vacant = "nobody",
        /// The leader Lease was asked for, and the outcome is not known.
        Electing = "electing",
        /// It leads since less than ten seconds, or still lists.
        JustAcquired = "just acquired",
        /// It leads.
        Steady = "steady",
        /// It believes that it leads, and the leader Lease says otherwise.
        Deposed = "deposed",
    }
}

states! {
    /// What the status of a CachedImage says.
    ImageState {
        /// Nothing yet about this generation.
        Unknown = "no status",
        /// Phase `Pending`.
        Pending = "pending",
        /// Phase `Pulling`.
        Pulling = "pulling",
        /// Phase `Ready`.
        Ready = "ready",
        /// Phase `Degraded`.
        Degraded = "degraded",
    }
}

states! {
    /// What the status of a CachedImageSet says.
    SetState {
        /// Nothing yet about this generation.
        Unknown = "no status",
        /// Phase `Pending`.
        Pending = "pending",
        /// Phase `Ready`.
        Ready = "ready",
        /// Phase `Degraded`.
        Degraded = "degraded",
    }
}

/// A leadership is new for so long.
const NEW: std::time::Duration = std::time::Duration::from_secs(10);

impl Simulation {
    /// How the grant of a machine's node stands.
    #[must_use]
    pub fn node_state(&self, machine: usize) -> NodeState {
        let host = &self.machines[machine];
        let Some(stored) = self.api.lease(&host.name) else { return NodeState::NoLease };
        if self.api.node(&host.name).is_none() {
            return NodeState::NoLease;
        }
        let asked = |which: &dyn Fn(&Process) -> bool| {
            self.coordinators.iter().filter_map(|coordinator| coordinator.process.as_ref()).any(which)
        };
        let state = stored.lease.state();
        match state {
            GrantState::Untaken | GrantState::Taken
                if asked(&|process| process.withdraws_from(&host.name)) =>
            {
                return NodeState::BeingWithdrawn;
            }
            GrantState::None | GrantState::Untaken | GrantState::Ended(_)
                if asked(&|process| process.wonders_about(&host.name)) =>
            {
                return NodeState::IssueUnknown;
            }
            GrantState::None | GrantState::Ended(_) => return NodeState::Idle,
            GrantState::Untaken => return NodeState::Untaken,
            GrantState::Taken => {}
        }
        let runs = |pull: &Pull| !pull.ending;
        if host.agent.as_ref().is_some_and(|agent| agent.finishing) {
            NodeState::Finishing
        } else if stored.lease.grant.as_ref().is_some_and(|grant| grant.withdrawn.is_some()) {
            NodeState::Marked
        } else if host.runtime.pulls.values().any(runs) {
            NodeState::Pulling
        } else {
            NodeState::Taken
        }
    }

    /// How a replica stands.
    #[must_use]
    pub fn replica_state(&self, index: usize) -> LeaderState {
        let replica = &self.coordinators[index];
        let Some(process) = &replica.process else { return LeaderState::Down };
        match &process.world.leadership {
            None if process.stands_for_election() => LeaderState::Electing,
            None => LeaderState::Follower,
            Some(leads) if self.checker.leader.as_ref() != Some(&leads.epoch) => LeaderState::Deposed,
            Some(leads) => {
                let now = replica.clock.monotonic(self.now);
                if !process.plans() || now < leads.since.after(NEW) {
                    LeaderState::JustAcquired
                } else {
                    LeaderState::Steady
                }
            }
        }
    }

    /// How the leadership stands: what most concerns the cluster of all replicas' states.
    #[must_use]
    pub fn leader_state(&self) -> LeaderState {
        let states = (0..self.coordinators.len()).map(|index| self.replica_state(index));
        states.max().filter(|state| *state >= LeaderState::Electing).unwrap_or(LeaderState::Vacant)
    }

    /// What the status of a CachedImage says.
    #[must_use]
    pub fn image_state(&self, name: &str) -> Option<ImageState> {
        let image = self.api.image(name)?;
        let known = image.status.observed_generation == Some(image.generation);
        Some(match image.status.phase.filter(|_| known) {
            None => ImageState::Unknown,
            Some(Phase::Pending) => ImageState::Pending,
            Some(Phase::Pulling) => ImageState::Pulling,
            Some(Phase::Ready) => ImageState::Ready,
            Some(Phase::Degraded) => ImageState::Degraded,
        })
    }

    /// What the status of a CachedImageSet says.
    #[must_use]
    pub fn set_state(&self, name: &str) -> Option<SetState> {
        let set = self.api.set(name)?;
        let known = set.status.observed_generation == Some(set.generation);
        Some(match set.status.phase.filter(|_| known) {
            None => SetState::Unknown,
            Some(SetPhase::Pending) => SetState::Pending,
            Some(SetPhase::Ready) => SetState::Ready,
            Some(SetPhase::Degraded) => SetState::Degraded,
        })
    }
}
