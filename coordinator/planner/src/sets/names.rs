//! Names of children, and the label that leads to their set.
//!
//! A name tells people which image it is about: `<set>-<image>-<tag>-<hash>`. The hash makes it unique: it is taken from
//! the whole name of the set and the whole normalised reference, so that nothing that had to be cut off or spelled
//! otherwise is lost. Nothing else goes into a name: it stays the same whatever else is edited.

use drop_protocol::reference::Reference;
use sha2::{Digest, Sha256};

/// The API server takes no longer name.
const LONGEST_NAME: usize = 253;
/// The API server takes no longer label value.
const LONGEST_LABEL: usize = 63;
/// So much of an image's name is shown.
const IMAGE: usize = 60;
/// So much of its tag is shown.
const TAG: usize = 40;
/// So many digits of a digest are shown.
const DIGEST: usize = 12;
/// Bytes of the hash; each takes two characters.
const HASH: usize = 6;

/// The name of the child of `set` for an image.
pub(super) fn child(set: &str, normalised: &str) -> String {
    let mut rest = String::new();
    if let Ok(reference) = Reference::parse(normalised) {
        let image = reference.repository.rsplit('/').next().unwrap_or_default();
        push(&mut rest, &spelled(image, IMAGE));
        let hex = reference.digest.as_deref().and_then(|digest| digest.split_once(':'));
        match (hex, &reference.tag) {
            (Some((_, hex)), _) => push(&mut rest, &spelled(hex, DIGEST)),
            (None, Some(tag)) => push(&mut rest, &spelled(tag, TAG)),
            (None, None) => {}
        }
    }
    push(&mut rest, &hash(&[set, normalised]));
    format!("{}{rest}", cut(set, LONGEST_NAME - rest.len()))
}

/// The value of the label that leads from a child to `set`: its name, or what fits of it and a hash.
pub(super) fn label(set: &str) -> String {
    if set.len() <= LONGEST_LABEL {
        return set.to_owned();
    }
    let hash = hash(&[set]);
    format!("{}-{hash}", cut(set, LONGEST_LABEL - hash.len() - 1))
}

fn push(name: &mut String, part: &str) {
    if !part.is_empty() {
        name.push('-');
        name.push_str(part);
    }
}

/// `text` in the letters of a DNS label, without dashes at its ends.
fn spelled(text: &str, longest: usize) -> String {
    let mut spelled = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            spelled.push(c);
        } else if !spelled.is_empty() && !spelled.ends_with('-') {
            spelled.push('-');
        }
    }
    cut(&spelled, longest).to_owned()
}

/// The longest beginning of at most `longest` bytes after which a dash may stand.
fn cut(text: &str, longest: usize) -> &str {
    text[..text.floor_char_boundary(longest)].trim_end_matches(['-', '.'])
}

/// A hash of all `parts`, in hexadecimal digits.
fn hash(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part.as_bytes());
        // No name and no reference holds a zero.
        hasher.update([0]);
    }
    hasher.finalize().iter().take(HASH).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{child, label};

    const DIGEST: &str = "sha256:a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4";

    /// What the API server takes as the name of an object.
    fn is_object_name(name: &str) -> bool {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        name.len() <= 253
            && name.split('.').all(|label| {
                label.starts_with(inner)
                    && label.ends_with(inner)
                    && label.chars().all(|c| inner(c) || c == '-')
            })
    }

    #[test]
    fn a_name_tells_set_image_and_tag() {
        assert_eq!(
            child("tools", "docker.io/library/golang:1.26"),
            format!("tools-golang-1-26-{}", super::hash(&["tools", "docker.io/library/golang:1.26"]))
        );
        let pinned = child("tools", &format!("reg.test:5000/team/base@{DIGEST}"));
        assert!(pinned.starts_with("tools-base-a3ed95caeb02-"), "{pinned}");
        let spelled = child("tools", "reg.test/app:_1.-2");
        assert!(spelled.starts_with("tools-app-1-2-"), "{spelled}");
    }

    #[test]
    fn names_are_the_same_in_every_release() {
        assert_eq!(child("tools", "docker.io/library/nginx:latest"), "tools-nginx-latest-b8ae5ed39420");
        assert_eq!(label("tools"), "tools");
    }

    #[test]
    fn images_that_look_alike_have_different_names() {
        let references = [
            "reg.test/a/app:v1".to_owned(),
            "reg.test/b/app:v1".to_owned(),
            "other.test/a/app:v1".to_owned(),
            "reg.test/a/app:V1".to_owned(),
            "reg.test/a/app:v1-".to_owned(),
            "reg.test/a/app:v1.".to_owned(),
            "reg.test/a/app:v_1".to_owned(),
            format!("reg.test/a/app@{DIGEST}"),
            format!("reg.test/a/app@{}0", &DIGEST[..DIGEST.len() - 1]),
            format!("reg.test/a/{}:v1", "x".repeat(200)),
            format!("reg.test/a/{}y:v1", "x".repeat(199)),
        ];
        let names: BTreeSet<String> = references.iter().map(|reference| child("set", reference)).collect();
        assert_eq!(names.len(), references.len());
        assert_ne!(child("a", "reg.test/b-c:1"), child("a-b", "reg.test/c:1"));
    }

    #[test]
    fn long_set_names_differ_in_name_and_label_though_cut() {
        let (one, two) = (format!("{}.a", "s".repeat(251)), format!("{}.b", "s".repeat(251)));
        let names = [&one, &two].map(|set| child(set, "reg.test/app:1"));
        assert_ne!(names[0], names[1]);
        assert!(names.iter().all(|name| is_object_name(name)), "{names:?}");
        assert_ne!(label(&one), label(&two));
        assert_eq!(label(&one).len(), 63);
    }

    proptest! {
        #[test]
        fn every_name_and_label_is_one_that_the_api_server_takes(
            set in "[a-z0-9]([-.]?[a-z0-9]){0,126}",
            host in "([a-z0-9]{1,9}\\.test(:[0-9]{1,4})?/)?",
            path in "[a-z0-9]{1,30}([._-]?[a-z0-9]{1,30}){0,4}(/[a-z0-9]{1,90}){0,2}",
            tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}",
        ) {
            let name = child(&set, &format!("{host}{path}:{tag}"));
            prop_assert!(is_object_name(&name), "{}", name);
            let label = label(&set);
            let ends = |c: char| c.is_ascii_alphanumeric();
            prop_assert!(label.len() <= 63 && label.starts_with(ends) && label.ends_with(ends), "{}", label);
        }
    }
}
