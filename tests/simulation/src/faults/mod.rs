//! What goes wrong, and how it ends.
//!
//! | module | subject |
//! |---|---|
//! | here | kinds of faults, and whom one strikes |
//! | [`strikes`] | what they do to processes, machines and servers |
//! | [`people`] | what people do to objects |
//! | [`heal`] | how they end |

mod heal;
mod people;
mod strikes;

use serde::{Deserialize, Serialize};

use crate::coordinator::{Coordinator, Process};
use crate::coverage::Aim;
use crate::schedule::Planned;
use crate::simulation::Simulation;
pub use heal::Heal;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $name:ident: $target:ident,)*) => {
        /// A kind of fault; whom it strikes is drawn when it does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Fault {
            $($(#[doc = $doc])* $name,)*
        }
        impl Fault {
            /// All kinds.
            pub const ALL: [Self; [$(stringify!($name)),*].len()] = [$(Self::$name),*];
            /// Its name in schedules and reports.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
            /// What it strikes.
            #[must_use]
            pub fn target(self) -> Target {
                match self { $(Self::$name => Target::$target,)* }
            }
        }
    };
}

faults! {
    /// An agent is killed.
    CrashAgent: Node,
    /// An agent is paused, perhaps beyond its deadline.
    PauseAgent: Node,
    /// An agent's Pod is replaced, with a grace period.
    ReplaceAgent: Node,
    /// A machine is cut off from the API server.
    CutMachine: Node,
    /// A coordinator is killed.
    CrashCoordinator: Replica,
    /// A coordinator is asked to end.
    EndCoordinator: Replica,
    /// A coordinator is paused.
    PauseCoordinator: Replica,
    /// A coordinator is cut off from the API server.
    CutCoordinator: Replica,
    /// A leader goes on believing that it leads.
    DeafLeader: Replica,
    /// The API server restarts.
    RestartApi: Cluster,
    /// Every watch breaks.
    BreakWatches: Cluster,
    /// The wall clock of a node is set to something.
    SetNodeClock: Node,
    /// The wall clock of a coordinator is.
    SetCoordinatorClock: Replica,
    /// containerd restarts.
    RestartRuntime: Node,
    /// An image is evicted.
    Evict: Node,
    /// A pod brings an image.
    PodPulls: Node,
    /// A disk fills up.
    LowDisk: Node,
    /// A registry fails.
    FailRegistry: Cluster,
    /// An image vanishes from its registry, or comes back.
    FailImage: Cluster,
    /// A tag is moved.
    MoveTag: Cluster,
    /// Somebody edits a CachedImage.
    EditImage: Image,
    /// Somebody deletes a CachedImage.
    DeleteImage: Image,
    /// Somebody creates a CachedImage.
    CreateImage: Cluster,
    /// Somebody creates a CachedImageSet.
    CreateSet: Cluster,
    /// Somebody edits one.
    EditSet: Set,
    /// Somebody deletes one: in the background, in the foreground, or leaving its children to nobody.
    DeleteSet: Set,
    /// Somebody edits the CachedImage of a set by hand.
    EditChild: Image,
    /// Somebody deletes one.
    DeleteChild: Image,
    /// A discovery finds something else, nothing, or fails.
    Discover: Cluster,
    /// Somebody deletes a DiscoveryPolicy.
    DeleteDiscovery: Cluster,
    /// Somebody edits a PullPolicy.
    EditPolicy: Cluster,
    /// Somebody deletes a PullPolicy.
    DeletePolicy: Cluster,
    /// Somebody deletes a node Lease.
    DeleteLease: Node,
    /// Somebody deletes the leader Lease.
    DeleteLeaderLease: Cluster,
    /// Somebody deletes the catalog.
    DeleteCatalog: Cluster,
    /// A Node is deleted and registers again, as the same machine.
    ReregisterNode: Node,
    /// A machine is replaced by a new one of the same name.
    ReplaceMachine: Node,
    /// A machine is taken out for good.
    RemoveMachine: Node,
    /// A machine joins.
    AddMachine: Cluster,
    /// A Node is tainted, or no longer.
    Taint: Node,
    /// A Node changes its pool.
    Relabel: Node,
}

impl Fault {
    /// Whether there is nothing to strike without CachedImageSets.
    #[must_use]
    pub fn is_about_sets(self) -> bool {
        matches!(
            self,
            Self::CreateSet
                | Self::EditSet
                | Self::DeleteSet
                | Self::EditChild
                | Self::DeleteChild
                | Self::Discover
                | Self::DeleteDiscovery
        )
    }
}

/// What a kind of fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// One node.
    Node,
    /// One replica of the coordinator.
    Replica,
    /// One CachedImage.
    Image,
    /// One CachedImageSet.
    Set,
    /// Nothing of these alone.
    Cluster,
}

/// One fault that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strike {
    /// Names it: what it draws follows from this.
    pub number: u64,
    /// What.
    pub fault: Fault,
    /// What it waits for.
    pub aim: Option<Aim>,
    /// What it waited for has come.
    pub ready: bool,
    /// Whom it strikes, if that is not to be drawn.
    pub machine: Option<usize>,
    /// The same for replicas.
    pub replica: Option<usize>,
}

impl From<&Planned> for Strike {
    fn from(planned: &Planned) -> Self {
        let Planned { number, fault, aim, .. } = *planned;
        Self { number, fault, aim, ready: false, machine: None, replica: None }
    }
}

impl Simulation {
    /// Any machine; rather one that pulls than one that is idle.
    fn any_machine(&mut self) -> usize {
        let busy: Vec<usize> =
            (0..self.machines.len()).filter(|m| !self.machines[*m].runtime.pulls.is_empty()).collect();
        let (any, rather_busy) = (self.rng.usize(0..self.machines.len()), self.rng.bool());
        let one = self.rng.usize(0..busy.len().max(1));
        busy.get(one).copied().filter(|_| rather_busy).unwrap_or(any)
    }

    /// Any replica; rather the leader than another.
    fn any_coordinator(&mut self) -> usize {
        let leads = |coordinator: &Coordinator| coordinator.process.as_ref().is_some_and(Process::plans);
        let leader = self.coordinators.iter().position(leads);
        let (any, rather_leader) = (self.rng.usize(0..self.coordinators.len()), self.rng.bool());
        leader.filter(|_| rather_leader).unwrap_or(any)
    }

    /// A fault strikes, if there is anything that it can strike.
    pub fn strike(&mut self, strike: &Strike) {
        if self.trace.on() {
            self.tell(&format!("fault     {} {:?}", strike.number, strike.fault));
        }
        let machine = self.any_machine();
        let machine = strike.machine.unwrap_or(machine);
        let replica = self.any_coordinator();
        let replica = strike.replica.unwrap_or(replica);
        let (fault, target) = (strike.fault, strike.fault.target());
        let nodes: Vec<usize> = match target {
            Target::Node => vec![self.node_state(machine) as usize],
            _ => {
                let mut states: Vec<usize> = (0..self.machines.len())
                    .filter(|machine| self.machines[*machine].powered)
                    .map(|machine| self.node_state(machine) as usize)
                    .collect();
                states.sort_unstable();
                states.dedup();
                states
            }
        };
        let leader = match target {
            Target::Replica => self.replica_state(replica),
            _ => self.leader_state(),
        };
        let struck = match target {
            Target::Node => self.strike_node(fault, machine),
            Target::Replica => self.strike_replica(fault, replica),
            Target::Image => self.strike_image(fault),
            Target::Set => self.touch_set(fault),
            Target::Cluster => self.strike_cluster(fault),
        };
        if struck {
            self.coverage.faults += 1;
            nodes.into_iter().for_each(|state| self.coverage.nodes.count(fault, state));
            self.coverage.leaders.count(fault, leader as usize);
        }
    }
}
