//! Whether everything is as it was asked for: what the API server holds, against what was wanted and what the runtimes hold.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use drop_crds::cached_image::Phase;
use drop_crds::{CachedImage, CachedImageSet, IMAGE_SET_LABEL};
use drop_protocol::{Catalog, names};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};

use super::fleet::Fleet;
use super::wanted::{Reach, Wanted, reference};
use crate::place::{NAMESPACE, Place};
use crate::population::node_name;

/// What the API server holds of Drop.
pub(super) struct Found {
    images: Vec<CachedImage>,
    sets: Vec<CachedImageSet>,
    leases: Vec<Lease>,
    nodes: Vec<Node>,
    catalog: Catalog,
}

impl Found {
    /// Reads all of it.
    pub(super) async fn read(place: &Place) -> Result<Self> {
        let (client, all) = (&place.client, ListParams::default());
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
        let catalog = maps.get(names::CATALOG).await.context("reading the catalog")?;
        Ok(Self {
            images: Api::all(client.clone()).list(&all).await?.items,
            sets: Api::all(client.clone()).list(&all).await?.items,
            leases: Api::namespaced(client.clone(), NAMESPACE).list(&all).await?.items,
            nodes: Api::all(client.clone()).list(&all).await?.items,
            catalog: Catalog::decode(&catalog.data.unwrap_or_default())?,
        })
    }

    /// Names of all CachedImages.
    pub(super) fn image_names(&self) -> BTreeSet<String> {
        self.images.iter().map(kube::ResourceExt::name_any).collect()
    }

    /// Their `spec.image`.
    pub(super) fn repositories(&self) -> BTreeSet<String> {
        self.images.iter().map(|image| image.spec.image.clone()).collect()
    }

    /// Whatever is not as it should be, in words.
    pub(super) fn differences(&self, wanted: &Wanted, fleet: &Fleet) -> Vec<String> {
        let mut differences = Vec::new();
        self.objects(wanted, &mut differences);
        for image in &self.images {
            match reach(wanted, image) {
                Some(reach) => status(wanted, fleet, image, reach, &mut differences),
                None => differences.push(format!("CachedImage {}: nobody wants it", image.name_any())),
            }
        }
        self.leases(&mut differences);
        let listed: BTreeSet<&str> = self.catalog.wanted.keys().map(String::as_str).collect();
        let references: BTreeSet<String> = wanted.references().collect();
        if !listed.iter().copied().eq(references.iter().map(String::as_str)) {
            differences.push(format!(
                "catalog: {} lines, {} images are wanted",
                listed.len(),
                references.len()
            ));
        }
        differences
    }

    /// Images and children: all that are wanted, each once.
    fn objects(&self, wanted: &Wanted, differences: &mut Vec<String>) {
        let mut children: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut lone = BTreeSet::new();
        for image in &self.images {
            match image.labels().get(IMAGE_SET_LABEL) {
                Some(set) => children.entry(set).or_default().push(image.spec.reference()),
                None => drop(lone.insert(image.name_any())),
            }
        }
        if !lone.iter().eq(wanted.images.keys()) {
            differences.push(format!("{} CachedImages, {} are wanted", lone.len(), wanted.images.len()));
        }
        for (name, set) in &wanted.sets {
            let mut there = children.remove(name.as_str()).unwrap_or_default();
            there.sort();
            let mut members: Vec<String> = wanted.members(set).iter().map(|app| reference(*app, 1)).collect();
            members.sort();
            if there != members {
                differences.push(format!("{name}: {} children, {} are wanted", there.len(), members.len()));
            }
            let status =
                self.sets.iter().find(|found| found.name_any() == *name).and_then(|s| s.status.clone());
            let (managed, ready) =
                status.map_or((0, 0), |status| (status.images_managed, status.images_ready));
            let all = i32::try_from(members.len()).unwrap_or(i32::MAX);
            if managed != all || ready != all {
                differences.push(format!("{name}: status says {ready} ready of {managed}, not {all}"));
            }
        }
        differences.extend(children.keys().map(|set| format!("{set}: is gone, its children are not")));
        // A child without its set is an orphan, whatever its label says.
        let uids: BTreeSet<&str> = self.sets.iter().filter_map(|set| set.metadata.uid.as_deref()).collect();
        for image in &self.images {
            for owner in image.owner_references().iter().filter(|owner| !uids.contains(owner.uid.as_str())) {
                differences.push(format!("{}: its owner {} is gone", image.name_any(), owner.name));
            }
        }
    }

    /// One Lease for each Node, owned by it, and the leader's.
    fn leases(&self, differences: &mut Vec<String>) {
        let nodes: BTreeMap<String, &str> = self
            .nodes
            .iter()
            .filter_map(|node| Some((node.name_any(), node.metadata.uid.as_deref()?)))
            .collect();
        let mut without: BTreeSet<&String> = nodes.keys().collect();
        for lease in self.leases.iter().filter(|lease| lease.name_any() != names::LEADER_LEASE) {
            let name = lease.name_any();
            without.remove(&name);
            let owner = lease.owner_references().first().map(|owner| owner.uid.as_str());
            if owner.is_none() || owner != nodes.get(&name).copied() {
                differences.push(format!("Lease {name}: not of a Node that there is"));
            }
        }
        differences.extend(without.iter().map(|node| format!("{node}: no Lease")));
    }
}

/// Where the image is wanted, if it is.
fn reach(wanted: &Wanted, image: &CachedImage) -> Option<Reach> {
    match image.labels().get(IMAGE_SET_LABEL) {
        Some(set) => wanted.sets.get(set).map(|set| set.reach),
        None => wanted.images.get(&image.name_any()).map(|image| image.reach),
    }
}

/// Status and runtimes: the image is on all of its targets, and status says so and nothing else.
fn status(wanted: &Wanted, fleet: &Fleet, image: &CachedImage, reach: Reach, differences: &mut Vec<String>) {
    let name = image.name_any();
    let targets: BTreeSet<String> = wanted.targets(reach).into_iter().map(node_name).collect();
    let holders = fleet.holders(&image.spec.reference());
    let lacking = targets.difference(&holders).count();
    if lacking > 0 {
        differences.push(format!("{name}: {lacking} nodes do not hold it"));
    }
    let Some(status) = &image.status else {
        return differences.push(format!("{name}: no status"));
    };
    let told: BTreeSet<String> = status.cached_nodes.iter().cloned().collect();
    let counts = (
        status.nodes_targeted,
        status.nodes_ready,
        status.nodes_pulling,
        status.nodes_failing,
        status.nodes_waiting,
    );
    let all = i32::try_from(targets.len()).unwrap_or(i32::MAX);
    if told != targets || counts != (all, all, 0, 0, 0) {
        let waiting: Vec<_> = status.waiting.iter().map(|w| format!("{} × {}", w.nodes, w.reason)).collect();
        differences.push(format!("{name}: status says {counts:?} of {all} nodes ({})", waiting.join(", ")));
    }
    if status.observed_generation != image.metadata.generation {
        differences.push(format!("{name}: status is about an earlier generation"));
    }
    if !targets.is_empty() && status.phase != Some(Phase::Ready) {
        differences.push(format!("{name}: phase {:?}", status.phase));
    }
}
