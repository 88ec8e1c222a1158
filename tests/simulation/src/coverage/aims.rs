//! Faults that wait for a state: some states last for milliseconds, and chance alone seldom strikes there.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::possible::not_with_leader;
use super::{LeaderState, NodeState};
use crate::faults::{Fault, Strike, Target};
use crate::simulation::{Event, Simulation};

/// What a fault waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aim {
    /// A node whose grant stands so; it is the one that is struck, if the fault strikes nodes.
    Node(NodeState),
    /// A replica, or the leadership, that stands so; likewise.
    Leader(LeaderState),
}

impl std::fmt::Display for Aim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(state) => write!(f, "a node's grant is: {}", state.text()),
            Self::Leader(state) => write!(f, "the leader is: {}", state.text()),
        }
    }
}

impl Aim {
    /// Faults that make it come about.
    #[must_use]
    pub fn helped_by(self) -> &'static [Fault] {
        match self {
            Self::Node(NodeState::NoLease) => &[Fault::ReplaceMachine],
            Self::Node(NodeState::Marked) => &[Fault::EditImage, Fault::EditImage, Fault::DeleteImage],
            Self::Node(NodeState::BeingWithdrawn) => {
                &[Fault::PauseAgent, Fault::PauseAgent, Fault::EditImage]
            }
            Self::Node(NodeState::Idle) => &[],
            Self::Node(_) => &[Fault::EditImage, Fault::Evict],
            Self::Leader(LeaderState::Deposed) => &[Fault::DeafLeader],
            Self::Leader(LeaderState::Steady | LeaderState::Follower) => &[],
            Self::Leader(_) => &[Fault::CrashCoordinator],
        }
    }

    /// Whether it comes about only when requests get lost.
    #[must_use]
    pub fn needs_losses(self) -> bool {
        self == Self::Node(NodeState::IssueUnknown)
    }
}

/// The combination that is aimed at when `n` have had their turn.
#[must_use]
pub fn turn(n: u64) -> (Fault, Aim) {
    let states = NodeState::ALL.len() + LeaderState::ALL.len();
    let combinations = (states * Fault::ALL.len()) as u64;
    // The next possible one; every kind of fault has some.
    (n..)
        .map(|n| {
            let n = usize::try_from(n % combinations).unwrap_or(0);
            let (fault, state) = (Fault::ALL[n % Fault::ALL.len()], n / Fault::ALL.len());
            match NodeState::ALL.get(state) {
                Some(state) => (fault, Aim::Node(*state), None),
                None => {
                    let state = LeaderState::ALL[state - NodeState::ALL.len()];
                    (fault, Aim::Leader(state), not_with_leader(fault, state))
                }
            }
        })
        .find(|(.., impossible)| impossible.is_none())
        .map_or((Fault::CrashAgent, Aim::Node(NodeState::Idle)), |(fault, aim, _)| (fault, aim))
}

impl Simulation {
    /// A fault is due: it strikes, or waits for its moment.
    pub fn fault(&mut self, strike: Strike) {
        match strike.aim.filter(|_| !strike.ready) {
            None => self.strike(&strike),
            Some(aim) => {
                self.aims.push(strike);
                match aim {
                    Aim::Node(_) => (0..self.machines.len()).for_each(|machine| self.node_moment(machine)),
                    Aim::Leader(_) => self.leader_moment(),
                }
            }
        }
    }

    /// Something about this node's grant has changed: does a fault wait for it?
    pub fn node_moment(&mut self, machine: usize) {
        if !self.aims.iter().any(|strike| matches!(strike.aim, Some(Aim::Node(_)))) {
            return;
        }
        let state = self.node_state(machine);
        let due: Vec<Strike> =
            self.aims.extract_if(.., |strike| strike.aim == Some(Aim::Node(state))).collect();
        for strike in due {
            let machine = (strike.fault.target() == Target::Node).then_some(machine);
            self.after(Duration::ZERO, Event::Fault(Strike { ready: true, machine, ..strike }));
        }
    }

    /// The same by the name of the node.
    pub fn moment_of(&mut self, node: &str) {
        if !self.aims.is_empty()
            && let Some(machine) = self.machines.iter().position(|machine| machine.name == node)
        {
            self.node_moment(machine);
        }
    }

    /// Something about the leadership has changed: does a fault wait for it?
    pub fn leader_moment(&mut self) {
        if !self.aims.iter().any(|strike| matches!(strike.aim, Some(Aim::Leader(_)))) {
            return;
        }
        let all = self.leader_state();
        let each: Vec<LeaderState> =
            (0..self.coordinators.len()).map(|index| self.replica_state(index)).collect();
        let mut due = Vec::new();
        self.aims.retain(|strike| {
            let Some(Aim::Leader(state)) = strike.aim else { return true };
            let (now, replica) = match strike.fault.target() {
                Target::Replica => {
                    let replica = each.iter().position(|each| *each == state);
                    (replica.is_some(), replica)
                }
                _ => (all == state, None),
            };
            if now {
                due.push(Strike { ready: true, replica, ..*strike });
            }
            !now
        });
        for strike in due {
            self.after(Duration::ZERO, Event::Fault(strike));
        }
    }
}
