//! The faults: what each does, what it may cost, and in front of which rollout it happens.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use drop_harness::Cluster;

use crate::faults::api::Behind;
use crate::faults::clock::Wrong;
use crate::faults::{agent, api, clock, control_plane, leader, node, objects, registry};
use crate::stage::{CAP, Rollout, Stage};

/// A fault of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(clippy::missing_docs_in_private_items, reason = "`done` tells of each")]
pub(crate) enum Fault {
    LeaderKilled,
    LeaderPaused,
    LeaderCutOff,
    LeaderLeaseDeleted,
    AgentKilled,
    AgentPaused,
    AgentConnectionsForgotten,
    ContainerdRestarted,
    KubeletStopped,
    NodeReborn,
    ApiServerRestarted,
    ApiServerTerminated,
    ApiServerAway,
    EtcdRestarted,
    ApiTooManyRequests,
    ApiServerErrors,
    ApiSlow,
    RegistryAway,
    LeaderClockAhead,
    LeaderClockBehind,
    AgentClockAhead,
    AgentClockBehind,
    LeaseDeleted,
    LeaseEdited,
    CatalogDeletedAndEdited,
}

impl Fault {
    /// Part of the form that runs with all other tests.
    pub(crate) fn is_short(self) -> bool {
        matches!(
            self,
            Self::LeaderKilled
                | Self::LeaderPaused
                | Self::AgentKilled
                | Self::AgentPaused
                | Self::ContainerdRestarted
                | Self::ApiServerRestarted
                | Self::LeaseEdited
                | Self::CatalogDeletedAndEdited
        )
    }

    /// What is done, in words.
    pub(crate) fn done(self) -> &'static str {
        match self {
            Self::LeaderKilled => "the leader ends by SIGKILL",
            Self::LeaderPaused => {
                "the leader is stopped (SIGSTOP) for 20 s, five more than its lease, and goes on"
            }
            Self::LeaderCutOff => "no packet of the leader reaches the API server for 30 s",
            Self::LeaderLeaseDeleted => "the leader's Lease is deleted",
            Self::AgentKilled => "the agent of a node that pulls ends by SIGKILL",
            Self::AgentPaused => "the agent of a node that pulls is stopped (SIGSTOP) and never goes on",
            Self::AgentConnectionsForgotten => {
                "the network forgets the connections of an agent that waits for its turn; new ones pass"
            }
            Self::ContainerdRestarted => "containerd of a node that pulls restarts",
            Self::KubeletStopped => "the kubelet of a node that pulls is stopped for a minute",
            Self::NodeReborn => {
                "a node that pulls is deleted; it comes back under its name without any image"
            }
            Self::ApiServerRestarted => "the API server is killed and started again",
            Self::ApiServerTerminated => {
                "the API server ends by SIGTERM, and by SIGKILL after 30 s, as the kubelet does it, and starts again"
            }
            Self::ApiServerAway => "the API server is away for two minutes",
            Self::EtcdRestarted => "etcd is killed and started again",
            Self::ApiTooManyRequests => "for 20 s, every request of Drop's is answered 429",
            Self::ApiServerErrors => "for 20 s, every request of Drop's is answered 500",
            Self::ApiSlow => "for 40 s, the API server answers Drop 3 s late",
            Self::RegistryAway => "the registry is away for 20 s",
            Self::LeaderClockAhead => "the wall clock of both coordinators jumps an hour ahead",
            Self::LeaderClockBehind => "the wall clock of both coordinators falls an hour behind",
            Self::AgentClockAhead => "the wall clock of an agent that pulls jumps an hour ahead",
            Self::AgentClockBehind => "the wall clock of an agent that pulls falls an hour behind",
            Self::LeaseDeleted => "the Lease of a node that pulls is deleted",
            Self::LeaseEdited => "grant and report in the Lease of a node that pulls are overwritten by hand",
            Self::CatalogDeletedAndEdited => {
                "the catalog is deleted, and what takes its place is emptied by hand"
            }
        }
    }

    /// Pulls that it may cost: those in flight where it happens.
    pub(crate) fn may_repeat(self) -> usize {
        match self {
            Self::LeaderKilled
            | Self::LeaderPaused
            | Self::LeaderCutOff
            | Self::LeaderLeaseDeleted
            | Self::AgentConnectionsForgotten
            | Self::ApiServerRestarted
            | Self::ApiServerTerminated
            | Self::EtcdRestarted
            | Self::ApiTooManyRequests
            | Self::ApiServerErrors
            | Self::ApiSlow
            | Self::LeaderClockAhead
            | Self::LeaderClockBehind
            | Self::AgentClockAhead
            | Self::AgentClockBehind
            | Self::CatalogDeletedAndEdited => 0,
            Self::AgentKilled
            | Self::AgentPaused
            | Self::ContainerdRestarted
            | Self::LeaseDeleted
            | Self::LeaseEdited => 1,
            // A node that is not ready is tainted, and then no target: its grant is withdrawn.
            Self::KubeletStopped => 1,
            // Longer than a grant lives without its agent being able to renew it.
            Self::ApiServerAway => CAP,
            // The image that it was pulling, and the one that it had.
            Self::NodeReborn => 2,
            // Every attempt while the registry is away breaks off.
            Self::RegistryAway => CAP,
        }
    }

    /// The rollout that it happens to: pulls last longer than it takes until the fault is noticed.
    pub(crate) fn rollout(self) -> Rollout {
        let (images, takes) = match self {
            // Until somebody else leads.
            Self::LeaderKilled | Self::LeaderPaused | Self::LeaderCutOff | Self::LeaderLeaseDeleted => {
                (2, 12)
            }
            // Until a grant expires.
            Self::AgentPaused | Self::ApiServerAway | Self::KubeletStopped | Self::LeaseDeleted => (1, 70),
            Self::ApiTooManyRequests | Self::ApiServerErrors | Self::ApiSlow => (1, 25),
            // Until the one that waits may pull, and is seen to.
            Self::AgentConnectionsForgotten => (1, 8),
            // Until it is back.
            Self::ApiServerTerminated => (1, 50),
            Self::LeaderClockAhead
            | Self::LeaderClockBehind
            | Self::AgentClockAhead
            | Self::AgentClockBehind => (2, 12),
            Self::AgentKilled
            | Self::ContainerdRestarted
            | Self::NodeReborn
            | Self::ApiServerRestarted
            | Self::EtcdRestarted
            | Self::RegistryAway
            | Self::LeaseEdited
            | Self::CatalogDeletedAndEdited => (2, 8),
        };
        Rollout { images, takes: Duration::from_secs(takes) }
    }

    /// What has to be in place before a rollout starts.
    pub(crate) async fn prepare(self, cluster: &Cluster) -> Result<Option<Behind>> {
        match self {
            _ if self.is_of_clocks() => clock::install(cluster).await.map(|()| None),
            Self::ApiTooManyRequests | Self::ApiServerErrors | Self::ApiSlow => {
                api::put_door(cluster).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Lets it happen, and returns when it is over.
    pub(crate) async fn happen(self, stage: &Stage<'_>, behind: Option<&Behind>) -> Result<()> {
        match self {
            Self::LeaderKilled => leader::killed(stage).await,
            Self::LeaderPaused => leader::paused(stage).await,
            Self::LeaderCutOff => leader::cut_off(stage).await,
            Self::LeaderLeaseDeleted => leader::lease_deleted(stage).await,
            Self::AgentKilled => agent::killed(stage).await,
            Self::AgentPaused => agent::paused(stage).await,
            Self::AgentConnectionsForgotten => agent::connections_forgotten(stage).await,
            Self::ContainerdRestarted => node::containerd_restarted(stage).await,
            Self::KubeletStopped => node::kubelet_stopped(stage).await,
            Self::NodeReborn => node::reborn(stage).await,
            Self::ApiServerRestarted => control_plane::api_server_restarted(stage).await,
            Self::ApiServerTerminated => control_plane::api_server_terminated(stage).await,
            Self::ApiServerAway => control_plane::api_server_away(stage).await,
            Self::EtcdRestarted => control_plane::etcd_restarted(stage).await,
            Self::ApiTooManyRequests => api::answers(behind, 429).await,
            Self::ApiServerErrors => api::answers(behind, 500).await,
            Self::ApiSlow => api::slow(behind).await,
            Self::RegistryAway => registry::away(stage).await,
            Self::LeaderClockAhead => clock::leader_wrong(stage, Wrong::Ahead).await,
            Self::LeaderClockBehind => clock::leader_wrong(stage, Wrong::Behind).await,
            Self::AgentClockAhead => clock::agent_wrong(stage, Wrong::Ahead).await,
            Self::AgentClockBehind => clock::agent_wrong(stage, Wrong::Behind).await,
            Self::LeaseDeleted => objects::lease_deleted(stage).await,
            Self::LeaseEdited => objects::lease_edited(stage).await,
            Self::CatalogDeletedAndEdited => objects::catalog(stage).await,
        }
    }

    /// Needs clocks that can be made wrong.
    fn is_of_clocks(self) -> bool {
        matches!(
            self,
            Self::LeaderClockAhead | Self::LeaderClockBehind | Self::AgentClockAhead | Self::AgentClockBehind
        )
    }

    /// Takes away what [`Self::prepare`] put in place.
    pub(crate) async fn clear(self, cluster: &Cluster, behind: Option<Behind>) -> Result<()> {
        match behind {
            Some(behind) => api::take_door(cluster, behind).await,
            None if self.is_of_clocks() => clock::uninstall(cluster).await,
            None => Ok(()),
        }
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
