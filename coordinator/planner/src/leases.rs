//! Node Leases to create and to delete.

use drop_protocol::names::LEADER_LEASE;

use crate::cluster::World;
use crate::memory::WriteKey;
use crate::plan::{CreateLease, DeleteLease};
use crate::targets;
use crate::wake::Wake;

/// Leases for nodes that have none. A node whose last Lease may still have somebody pulling under it waits: were the
/// new Lease there, the next leader would not know.
pub(crate) fn create(world: &World, wake: &Wake) -> Vec<CreateLease> {
    let memory = &world.memory;
    world
        .cluster
        .nodes
        .iter()
        .filter(|(name, node)| {
            let write = || WriteKey::CreateLease((*name).clone());
            targets::can_hold_images(node)
                && !world.cluster.leases.contains_key(*name)
                && !memory.leases.haunted_until(name).is_some_and(|until| wake.ahead(until))
                && !memory.writes.left_alone_until(&write()).is_some_and(|until| wake.ahead(until))
        })
        .map(|(name, node)| CreateLease { node: name.clone(), node_uid: node.uid.clone() })
        .collect()
}

/// Leases that belong to an earlier Node of the same name. Those of Nodes that are gone are left to the garbage
/// collector.
pub(crate) fn delete(world: &World, wake: &Wake) -> Vec<DeleteLease> {
    let memory = &world.memory;
    world
        .cluster
        .leases
        .iter()
        .filter(|(name, lease)| {
            let write = || WriteKey::DeleteLease((*name).clone());
            name.as_str() != LEADER_LEASE
                && world
                    .cluster
                    .nodes
                    .get(*name)
                    .is_some_and(|node| lease.node_uid.as_ref() != Some(&node.uid))
                && !memory.writes.left_alone_until(&write()).is_some_and(|until| wake.ahead(until))
        })
        .map(|(name, lease)| DeleteLease {
            node: name.clone(),
            uid: lease.uid.clone(),
            resource_version: lease.resource_version,
        })
        .collect()
}
