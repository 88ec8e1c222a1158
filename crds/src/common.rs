//! What several kinds share: references by name, pull policy, and the composition of an image reference.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::schema;

/// When a node asks the registry about an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Each node confirms the reference against the registry once, even if it already holds it.
    #[default]
    Always,
    /// An image that is on the node counts as cached; only an absent one is pulled.
    IfNotPresent,
    /// Nothing is pulled; the image is only looked for.
    Never,
}

/// Names a PullPolicy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyReference {
    /// Name of the PullPolicy.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// Names a DiscoveryPolicy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiscoveryPolicyReference {
    /// Name of the DiscoveryPolicy.
    #[schemars(schema_with = "schema::object_name")]
    pub name: String,
}

/// What nodes are asked for: `image@digest`, else `image:tag`, else `image:latest`. Empty counts as unset.
#[must_use]
pub fn compose_reference(image: &str, tag: Option<&str>, digest: Option<&str>) -> String {
    match (digest.filter(|d| !d.is_empty()), tag.filter(|t| !t.is_empty())) {
        (Some(digest), _) => format!("{image}@{digest}"),
        (None, Some(tag)) => format!("{image}:{tag}"),
        (None, None) => format!("{image}:latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::compose_reference;

    #[test]
    fn a_digest_wins_over_a_tag_and_an_empty_field_counts_as_unset() {
        assert_eq!(compose_reference("nginx", None, None), "nginx:latest");
        assert_eq!(compose_reference("nginx", Some(""), Some("")), "nginx:latest");
        assert_eq!(compose_reference("nginx", Some("1.25"), None), "nginx:1.25");
        assert_eq!(compose_reference("h:5000/a", Some("1"), Some("sha256:0")), "h:5000/a@sha256:0");
    }
}
