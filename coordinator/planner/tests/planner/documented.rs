//! `crds/STATUS.md` explains every word that a status can contain.

use drop_planner::WaitReason;
use drop_planner::status::reason;
use drop_protocol::{FailureReason, Monotonic};

const PAGE: &str = include_str!("../../../../crds/STATUS.md");

/// The words of all variants: one that is added and not named here does not compile.
macro_rules! words {
    ($kind:ident: $($variant:ident $({ $until:ident })?),* $(,)?) => {{
        const fn _all(reason: $kind) {
            match reason {
                $($kind::$variant { .. } => {})*
            }
        }
        vec![$($kind::$variant $({ $until: Monotonic::default() })?.as_str()),*]
    }};
}

fn wait_reasons() -> Vec<&'static str> {
    words![WaitReason:
        InvalidSpec, PolicyNotFound, InvalidPolicy, ErrImageNeverPull, PullSecretsPending, LeasePending, AgentNotReady,
        ReportUnreadable, ReportFull, CatalogFull, LowDisk, NotYetAnswered, CheckingRegistry,
        BackingOff { until },
        EvictionBackoff { until }, NotAnswering { until }, WaitingForProbe, WaitingForPlatformProbe,
        WaitingForRegistryProbe, WaitingForNodeProbe, NodeBusy, WaitingForSlot, MinDelay { until },
    ]
}

fn failure_reasons() -> Vec<&'static str> {
    words![FailureReason:
        NotFound, Unauthorized, Forbidden, SecretNotFound, InvalidSecret, SecretUnreadable, CredentialProviderFailed,
        InvalidImage, NoMatchingPlatform, TooManyRequests, ServerError, DNSError,
        ConnectionRefused, Timeout, TLSError, DiskError, RuntimeError, Stuck, ErrImagePull,
    ]
}

/// The part of the page under a heading.
fn part(heading: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n## {heading}\n")).unwrap();
    rest.split("\n## ").next().unwrap()
}

#[test]
fn every_reason_to_wait_has_a_row() {
    for word in wait_reasons() {
        assert!(part("Why a node waits").contains(&format!("\n| `{word}` |")), "{word}");
    }
}

#[test]
fn every_reason_of_a_failure_has_a_row() {
    for word in failure_reasons() {
        assert!(part("Why a pull failed").contains(&format!("\n| `{word}` |")), "{word}");
    }
}

#[test]
fn every_reason_of_a_condition_has_a_row() {
    let conditions = [part("Condition `Ready`"), part("Condition `PullProgress`")].concat();
    for word in reason::ALL {
        assert!(conditions.contains(&format!("\n| `{word}` |")), "{word}");
    }
}

#[test]
fn every_phase_has_a_row() {
    for word in ["Pending", "Pulling", "Ready", "Degraded"] {
        assert!(part("Phases").contains(&format!("\n| `{word}` |")), "{word}");
    }
}

/// The page says that the reasons in `waiting` add up, so the list has to have room for all of them.
#[test]
fn a_status_has_room_for_every_reason_to_wait() {
    let schema = include_str!("../../../../crds/yaml/cachedimages.yaml");
    let (_, waiting) = schema.split_once("              waiting:\n").unwrap();
    let (_, most) = waiting.split_once("maxItems: ").unwrap();
    let most: usize = most.lines().next().unwrap().parse().unwrap();
    assert!(wait_reasons().len() <= most, "{most}");
}
