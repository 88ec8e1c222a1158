//! The development cluster: a real Kubernetes on one machine, without virtual machines or a container engine.
//!
//! Control plane, registry and nodes run as ordinary processes in one network namespace, so that nothing in it reaches
//! the outside. Every node has a mount namespace of its own in which containerd and the kubelet find their usual
//! paths (`/run/containerd`, `/var/lib/kubelet` …): manifests written for real nodes work as they are.
//!
//! | module | subject |
//! |---|---|
//! | [`packages`], [`parts`] | what the machine needs: Debian packages, programs built from pinned Go modules |
//! | [`containerd_releases`] | releases of containerd that the agent is tested on alone |
//! | [`settings`], [`state`] | what is asked for; where everything lies and what is up, for tests and scripts |
//! | [`certs`], [`control_plane`], [`registry`], [`prometheus`], [`node`] | the parts and their configuration |
//! | [`network`], [`mounts`], [`disk`], [`cgroups`] | the namespaces, disks and control groups the parts live in |
//! | [`daemon`] | starting, finding and ending processes |
//! | [`cluster`], [`teardown`], [`status`] | the commands: order of things |
//! | [`images`] | real and synthetic images for demonstration, tests and benchmarks |
//! | [`sources`] | metrics servers and registries for tests of discovery |
//! | [`command`], [`files`], [`wait`], [`progress`] | running a program, writing a file, polling, talking to the user |
//!
//! It must not know Drop itself: no custom resources, no leases, no Kubernetes client.

pub mod certs;
pub mod cgroups;
pub mod cluster;
pub mod command;
pub mod containerd_releases;
pub mod control_plane;
pub mod daemon;
pub mod demo;
pub mod disk;
pub mod files;
pub mod images;
pub mod mounts;
pub mod network;
pub mod node;
pub mod packages;
pub mod parts;
pub mod product_images;
pub mod progress;
pub mod prometheus;
pub mod registry;
pub mod settings;
pub mod sources;
pub mod state;
pub mod status;
pub mod teardown;
pub mod wait;
