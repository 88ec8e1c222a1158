use std::collections::BTreeMap;

use super::{can_hold_images, is_target};
use crate::cluster::{CachedImage, Node, PullPolicy, Taint, TaintEffect, Toleration, TolerationOperator};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn node() -> Node {
    Node {
        name: "a".to_owned(),
        os: "linux".to_owned(),
        labels: labels(&[("pool", "ci"), ("disk", "ssd")]),
        ..Node::default()
    }
}

fn tainted(effect: TaintEffect) -> Node {
    Node { taints: vec![Taint { key: "dedicated".to_owned(), value: "ci".to_owned(), effect }], ..node() }
}

fn toleration(
    key: &str,
    operator: TolerationOperator,
    value: &str,
    effect: Option<TaintEffect>,
) -> Toleration {
    Toleration { key: key.to_owned(), operator, value: value.to_owned(), effect }
}

fn tolerating(tolerations: Vec<Toleration>) -> CachedImage {
    CachedImage { tolerations, ..CachedImage::default() }
}

#[test]
fn both_selectors_narrow_the_targets() {
    let image = CachedImage { node_selector: labels(&[("pool", "ci")]), ..CachedImage::default() };
    let narrow = |pairs| PullPolicy { node_selector: labels(pairs), ..PullPolicy::default() };
    assert!(is_target(&image, None, &node()));
    assert!(is_target(&image, Some(&narrow(&[("disk", "ssd")])), &node()));
    assert!(!is_target(&image, Some(&narrow(&[("disk", "hdd")])), &node()));
    let other = CachedImage { node_selector: labels(&[("pool", "web")]), ..CachedImage::default() };
    assert!(!is_target(&other, Some(&narrow(&[("disk", "ssd")])), &node()));
}

#[test]
fn a_taint_that_forbids_scheduling_keeps_the_image_away_and_a_preference_does_not() {
    let image = CachedImage::default();
    assert!(!is_target(&image, None, &tainted(TaintEffect::NoSchedule)));
    assert!(!is_target(&image, None, &tainted(TaintEffect::NoExecute)));
    assert!(is_target(&image, None, &tainted(TaintEffect::PreferNoSchedule)));
}

#[test]
fn tolerations_match_as_the_scheduler_matches_them() {
    use TaintEffect::{NoExecute, NoSchedule};
    use TolerationOperator::{Equal, Exists, Other};
    let node = tainted(NoSchedule);
    let cases = [
        (toleration("", Exists, "", None), true),
        (toleration("dedicated", Exists, "", None), true),
        (toleration("dedicated", Exists, "", Some(NoSchedule)), true),
        (toleration("dedicated", Exists, "", Some(NoExecute)), false),
        (toleration("other", Exists, "", None), false),
        (toleration("dedicated", Equal, "ci", None), true),
        (toleration("dedicated", Equal, "web", None), false),
        (toleration("", Equal, "ci", None), false),
        (toleration("dedicated", Other, "ci", None), false),
    ];
    for (toleration, expected) in cases {
        assert_eq!(is_target(&tolerating(vec![toleration.clone()]), None, &node), expected, "{toleration:?}");
    }
}

#[test]
fn the_policy_s_tolerations_add_to_those_of_the_image() {
    let policy = PullPolicy {
        tolerations: vec![toleration("dedicated", TolerationOperator::Exists, "", None)],
        ..PullPolicy::default()
    };
    assert!(is_target(&CachedImage::default(), Some(&policy), &tainted(TaintEffect::NoSchedule)));
}

#[test]
fn nodes_without_linux_virtual_kubelets_and_a_node_named_like_the_leader_lease_hold_no_images() {
    assert!(can_hold_images(&node()));
    assert!(!can_hold_images(&Node { os: "windows".to_owned(), ..node() }));
    assert!(!can_hold_images(&Node { virtual_kubelet: true, ..node() }));
    assert!(!can_hold_images(&Node { name: "drop-coordinator".to_owned(), ..node() }));
}
