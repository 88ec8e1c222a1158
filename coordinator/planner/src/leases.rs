//! Node Leases to create and to delete.

use drop_protocol::names::LEADER_LEASE;

use crate::cluster::World;
use crate::memory::WriteKey;
use crate::plan::{CreateLease, DeleteLease};
use crate::targets;
use crate::wake::Wake;
use crate::walk::Walk;

/// Leases for nodes that have none. A node whose last Lease may still have somebody pulling under it waits: were the
/// new Lease there, the next leader would not know.
pub(crate) fn create(world: &World, wake: &Wake) -> Vec<CreateLease> {
    let memory = &world.memory;
    let mut leases = Walk::new(&world.cluster.leases);
    let haunted = memory.leases.haunted();
    world
        .cluster
        .nodes
        .iter()
        .filter(|(name, node)| {
            let write = || WriteKey::CreateLease((*name).clone());
            targets::can_hold_images(node)
                && leases.at(name).is_none()
                && !haunted.get(name.as_str()).is_some_and(|until| wake.ahead(*until))
                && !memory.writes.left_alone_until(&write()).is_some_and(|until| wake.ahead(until))
        })
        .map(|(name, node)| CreateLease { node: name.clone(), node_uid: node.uid.clone() })
        .collect()
}

/// Leases that belong to an earlier Node of the same name. Those of Nodes that are gone are left to the garbage
/// collector.
pub(crate) fn delete(world: &World, wake: &Wake) -> Vec<DeleteLease> {
    let memory = &world.memory;
    let mut nodes = Walk::new(&world.cluster.nodes);
    world
        .cluster
        .leases
        .iter()
        .filter(|(name, lease)| {
            let write = || WriteKey::DeleteLease((*name).clone());
            name.as_str() != LEADER_LEASE
                && nodes.at(name).is_some_and(|node| lease.node_uid.as_ref() != Some(&node.uid))
                && !memory.writes.left_alone_until(&write()).is_some_and(|until| wake.ahead(until))
        })
        .map(|(name, lease)| DeleteLease {
            node: name.clone(),
            uid: lease.uid.clone(),
            resource_version: lease.resource_version,
        })
        .collect()
}
