//! The Role by which agents read pull Secrets ⇄ row.

use std::collections::BTreeSet;

use drop_planner::StoredPullSecrets;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

/// The Role as stored. Rules that [`rules`] would not make are no names at all, so that they are written anew.
#[must_use]
pub fn row(role: Role) -> StoredPullSecrets {
    let meta = role.metadata;
    let stored = role.rules.unwrap_or_default();
    let named: BTreeSet<String> =
        stored.iter().filter_map(|rule| rule.resource_names.clone()).flatten().collect();
    StoredPullSecrets {
        secrets: (stored == rules(&named)).then_some(named),
        uid: meta.uid.unwrap_or_default(),
        resource_version: meta.resource_version.and_then(|version| version.parse().ok()).unwrap_or(0),
    }
}

/// The rules that let agents read these Secrets; none for no Secret, because a rule without names means all of them.
#[must_use]
pub fn rules(secrets: &BTreeSet<String>) -> Vec<PolicyRule> {
    if secrets.is_empty() {
        return Vec::new();
    }
    vec![PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["secrets".to_owned()]),
        resource_names: Some(secrets.iter().cloned().collect()),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    }]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

    use super::{row, rules};

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn read_back(rules: Option<Vec<PolicyRule>>) -> Option<BTreeSet<String>> {
        row(Role { rules, ..Role::default() }).secrets
    }

    #[test]
    fn what_was_written_is_read_back() {
        for secrets in [names(&[]), names(&["a"]), names(&["a", "b"])] {
            assert_eq!(read_back(Some(rules(&secrets))), Some(secrets));
        }
        assert_eq!(read_back(None), Some(names(&[])));
    }

    #[test]
    fn rules_that_allow_anything_else_are_written_anew() {
        let mut wider = rules(&names(&["a"]));
        wider[0].verbs.push("list".to_owned());
        assert_eq!(read_back(Some(wider)), None);
        let mut every = rules(&names(&["a"]));
        every[0].resource_names = None;
        assert_eq!(read_back(Some(every)), None);
        let twice = [rules(&names(&["a"])), rules(&names(&["a"]))].concat();
        assert_eq!(read_back(Some(twice)), None);
    }
}
