//! How each fault is brought about, and how it is healed.
//!
//! | module | subject |
//! |---|---|
//! | [`leader`], [`agent`] | Drop's processes: killed, stopped, cut off |
//! | [`node`] | what else is on a node: containerd, kubelet, its disk |
//! | [`control_plane`], [`api`] | API server and etcd away; an API server that refuses or is slow |
//! | [`registry`] | the registry away |
//! | [`clock`] | wall clocks that are wrong |
//! | [`objects`] | Drop's own objects, deleted and edited by hand |

pub(crate) mod agent;
pub(crate) mod api;
pub(crate) mod clock;
pub(crate) mod control_plane;
pub(crate) mod leader;
pub(crate) mod node;
pub(crate) mod objects;
pub(crate) mod registry;
