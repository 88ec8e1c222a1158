//! Node Leases to create and to delete.

use drop_protocol::names::LEADER_LEASE;

use crate::cluster::World;
use crate::memory::WriteKey;
use crate::plan::{CreateLease, DeleteLease};
use crate::wake::Wake;

/// Leases for nodes that have none, and those that belong to an earlier Node of the same name.
///
/// A node whose last Lease may still have somebody pulling under it waits: were the new Lease there, the next leader
/// would not know. Leases of Nodes that are gone are left to the garbage collector.
pub(crate) fn plan(world: &World, wake: &Wake) -> (Vec<CreateLease>, Vec<DeleteLease>) {
    let memory = &world.memory;
    let haunted = memory.leases.haunted();
    let left_alone = |write| memory.writes.left_alone_until(&write).is_some_and(|until| wake.ahead(until));
    let (mut create, mut delete) = (Vec::new(), Vec::new());
    let without_lease = memory.nodes.iter().filter(|(_, known)| known.lease.is_none());
    for (name, known) in without_lease.filter(|(name, _)| name.as_str() != LEADER_LEASE) {
        match world.cluster.leases.get(name) {
            None => {
                if known.holds_images
                    && !haunted.get(name.as_str()).is_some_and(|until| wake.ahead(*until))
                    && !left_alone(WriteKey::CreateLease(name.clone()))
                {
                    create.push(CreateLease { node: name.clone(), node_uid: known.node.uid.clone() });
                }
            }
            Some(lease) => {
                if !left_alone(WriteKey::DeleteLease(name.clone())) {
                    let (uid, resource_version) = (lease.uid.clone(), lease.resource_version);
                    delete.push(DeleteLease { node: name.clone(), uid, resource_version });
                }
            }
        }
    }
    (create, delete)
}
