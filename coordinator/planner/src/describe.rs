//! A plan as text: for traces and for tests that show a whole plan.

use std::fmt;

use drop_protocol::Monotonic;

use crate::plan::{
    ChildWrite, ChildWriteKind, EventType, Issue, IssueKind, Plan, SetStatusWrite, StatusWrite, Withdraw,
    WithdrawKind,
};
use crate::set::SetPhase;
use crate::status::{Condition, ConditionStatus, Phase};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for lease in &self.create_leases {
            writeln!(f, "create lease {} for node {}", lease.node, lease.node_uid)?;
        }
        for lease in &self.delete_leases {
            writeln!(f, "delete lease {} uid {} version {}", lease.node, lease.uid, lease.resource_version)?;
        }
        for withdraw in &self.withdrawals {
            writeln!(f, "{withdraw}")?;
        }
        for policy in &self.issues {
            let name = if policy.policy.is_empty() { "the built-in policy" } else { &policy.policy };
            writeln!(f, "issue under {name}, {:?} apart:", policy.delay)?;
            for issue in &policy.issues {
                writeln!(f, "  {issue}")?;
            }
        }
        if let Some(catalog) = &self.catalog {
            let within = catalog.answer_within;
            writeln!(f, "catalog generation {}, answer within {within:?}:", catalog.generation)?;
            for (reference, uids) in &catalog.wanted {
                let uids: Vec<&str> = uids.iter().map(String::as_str).collect();
                writeln!(f, "  {reference} {}", uids.join(","))?;
            }
        }
        if let Some(secrets) = &self.pull_secrets {
            let names: Vec<&str> = secrets.iter().map(String::as_str).collect();
            writeln!(f, "agents may read Secrets: {}", names.join(" "))?;
        }
        for write in &self.children {
            writeln!(f, "{write}")?;
        }
        for write in &self.set_statuses {
            writeln!(f, "{write}")?;
        }
        for status in &self.statuses {
            writeln!(f, "{status}")?;
        }
        for check in &self.checks {
            writeln!(f, "ask the registry for {} of {}", check.reference, check.image)?;
        }
        for event in &self.events {
            let kind = match event.kind {
                EventType::Normal => "normal",
                EventType::Warning => "warning",
            };
            writeln!(f, "event {}: {kind} {}: {}", event.image, event.reason, event.note)?;
        }
        for (image, node, reason) in self.waiting.iter() {
            write!(f, "waits {image} on {node}: {}", reason.as_str())?;
            match reason.until() {
                Some(until) => writeln!(f, " until {}", At(until))?,
                None => writeln!(f)?,
            }
        }
        match self.wake_at {
            Some(at) => writeln!(f, "wake at {}", At(at)),
            None => writeln!(f, "wake never"),
        }
    }
}

/// A point in time in seconds.
struct At(Monotonic);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.since_start())
    }
}

impl fmt::Display for Withdraw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = self.grant.as_ref().map_or("unreadable", |id| id.as_str());
        match &self.kind {
            WithdrawKind::Remove => write!(f, "remove grant {grant} from {}: {}", self.node, self.reason),
            WithdrawKind::Mark(mark) => {
                write!(f, "mark grant {grant} of {}: {}", self.node, self.reason)?;
                if !mark.unwanted.is_empty() {
                    write!(f, ", unwanted {}", mark.unwanted.join(" "))?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            IssueKind::New => "new",
            IssueKind::Restamp => "restamp",
            IssueKind::Repeat => "repeat",
        };
        write!(f, "{kind} {} to {} at version {}:", self.grant.id, self.node, self.resource_version)?;
        for image in &self.grant.images {
            write!(f, " {}{}", image.name, if image.refresh { "(refresh)" } else { "" })?;
        }
        if self.grant.withdrawn.is_some() {
            write!(f, ", withdrawn")?;
        }
        Ok(())
    }
}

impl fmt::Display for ChildWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (child, set) = (&self.child, &self.set);
        match &self.kind {
            ChildWriteKind::Create { spec, .. } => {
                write!(f, "create image {child} of set {set}: {}", spec.image)
            }
            ChildWriteKind::Patch { spec, resource_version, .. } => {
                write!(f, "patch image {child} of set {set} at version {resource_version}: {}", spec.image)
            }
            ChildWriteKind::Delete { resource_version, .. } => {
                write!(f, "delete image {child} of set {set} at version {resource_version}")
            }
        }
    }
}

impl fmt::Display for SetStatusWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        let phase = match status.phase {
            Some(SetPhase::Pending) => "Pending",
            Some(SetPhase::Ready) => "Ready",
            Some(SetPhase::Degraded) => "Degraded",
            None => "none",
        };
        write!(f, "status of set {}: {phase} {}/{}", self.set, status.images_ready, status.images_managed)?;
        conditions(f, &status.conditions)?;
        if let Some(event) = &self.event {
            write!(f, "\n  event {}: {}", event.reason, event.note)?;
        }
        Ok(())
    }
}

fn conditions(f: &mut fmt::Formatter<'_>, conditions: &[Condition]) -> fmt::Result {
    for condition in conditions {
        let value = match condition.status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        };
        write!(f, "\n  {} {value} {}: {}", condition.kind, condition.reason, condition.message)?;
    }
    Ok(())
}

impl fmt::Display for StatusWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = &self.status;
        let phase = match status.phase {
            Some(Phase::Pending) => "Pending",
            Some(Phase::Pulling) => "Pulling",
            Some(Phase::Ready) => "Ready",
            Some(Phase::Degraded) => "Degraded",
            None => "none",
        };
        write!(f, "status {}: {phase} {}", self.image, status.ready)?;
        let (pulling, failing) = (status.nodes_pulling, status.nodes_failing);
        write!(f, ", {pulling} pulling, {failing} failing, {} waiting", status.nodes_waiting)?;
        conditions(f, &status.conditions)?;
        if let Some(digest) = &status.resolved_digest {
            write!(f, "\n  digest {digest}")?;
        }
        if let Some(check) = &status.registry_check {
            write!(f, "\n  registry says {}", check.digest)?;
        }
        for failed in &status.failed_nodes {
            write!(f, "\n  failed {} {} x{}", failed.node, failed.reason, failed.attempts)?;
        }
        for waiting in &status.waiting {
            write!(f, "\n  waiting {} x{}", waiting.reason, waiting.nodes)?;
        }
        Ok(())
    }
}
