//! Which combinations of fault and state can't be, and why. A node's grant may be anything when a fault strikes.

use super::{ImageState, LeaderState, SetState};
use crate::faults::{Fault, Target};

/// Why `fault` can't find the leadership, or the replica that it strikes, so; `None`: it can.
#[must_use]
pub fn not_with_leader(fault: Fault, state: LeaderState) -> Option<&'static str> {
    match (fault.target(), state) {
        (Target::Replica, LeaderState::Vacant) => {
            Some("a state of all replicas, not of the one that is struck")
        }
        (Target::Replica, _) => match (fault, state) {
            (Fault::DeafLeader, LeaderState::Down | LeaderState::Follower | LeaderState::Electing) => {
                Some("strikes those that lead")
            }
            _ => None,
        },
        (_, LeaderState::Down | LeaderState::Follower) => Some("a state of one replica, and none is struck"),
        _ => None,
    }
}

/// Why `fault` can't touch an image in this state; `None`: it can.
#[must_use]
pub fn not_on_image(fault: Fault, _state: ImageState) -> Option<&'static str> {
    match fault.target() {
        Target::Image => None,
        _ => Some("touches no CachedImage"),
    }
}

/// Why `fault` can't touch a set in this state; `None`: it can.
#[must_use]
pub fn not_on_set(fault: Fault, _state: SetState) -> Option<&'static str> {
    match fault.target() {
        Target::Set => None,
        _ => Some("touches no CachedImageSet"),
    }
}
