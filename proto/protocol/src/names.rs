//! Names that both programs, the admission policy and the manifests in `deploy/` agree on.

/// Annotation of a node Lease that carries the grant; written by the coordinator only.
pub const GRANT_ANNOTATION: &str = "drop.corewire.io/grant";
/// Annotation of a node Lease that carries the report; written by that node's agent only.
pub const REPORT_ANNOTATION: &str = "drop.corewire.io/report";
/// Label that tells node Leases apart from every other Lease in the namespace.
pub const NODE_LEASE_LABEL: &str = "drop.corewire.io/node-lease";
/// Label value of everything that Drop creates.
pub const MANAGED_BY: &str = "drop";
/// The Lease by which coordinators elect their leader. A Node of this name is refused.
pub const LEADER_LEASE: &str = "drop-coordinator";
/// The ConfigMap that lists every wanted reference.
pub const CATALOG: &str = "drop-catalog";
/// The Role by which agents read the Secrets that some `imagePullSecrets` names.
pub const PULL_SECRETS_ROLE: &str = "drop-agent-pull-secrets";
/// Value of `app.kubernetes.io/name` on agent Pods.
pub const AGENT_APP: &str = "drop-agent";
/// Where Drop's own objects live unless `--pod-namespace` says otherwise.
pub const DEFAULT_NAMESPACE: &str = "drop-system";
/// All annotations of an object together may hold this many bytes (a limit of the API server).
pub const ANNOTATION_LIMIT: usize = 256 * 1024;
/// A grant names at most this many images.
pub const GRANT_MAX_IMAGES: usize = 64;
/// A grant's JSON is at most this large, in bytes.
pub const GRANT_MAX_BYTES: usize = 64 * 1024;
/// A report's JSON stays below this, in bytes.
pub const REPORT_MAX_BYTES: usize = 128 * 1024;
/// The text of one failure stays below this, in bytes.
pub const FAILURE_TEXT_MAX_BYTES: usize = 256;
