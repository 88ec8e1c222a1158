//! Which references the runtime's images answer to, and with which manifest digest.

use std::collections::BTreeMap;

use drop_cri::Image;

/// A reference of an image, and how its manifest digest is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The runtime tells it.
    Known(String),
    /// The image has several manifests in this repository, or came without any (imported from a file): only the image
    /// store can tell which one the tag stands for. The second best guess stands here.
    Ambiguous(String),
}

/// All references of `images` in the runtime's normal form, which is [`drop_protocol::reference::normalise`]'s.
#[must_use]
pub fn entries(images: &[Image]) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    for image in images {
        for name in &image.digests {
            if let Some((_, digest)) = name.split_once('@') {
                entries.insert(name.clone(), Entry::Known(digest.to_owned()));
            }
        }
        for tag in &image.tags {
            entries.insert(tag.clone(), entry(image, tag));
        }
    }
    entries
}

/// How the manifest digest of `name`, one of `image`'s references, is found.
#[must_use]
pub fn entry(image: &Image, name: &str) -> Entry {
    if let Some((_, digest)) = name.split_once('@') {
        return Entry::Known(digest.to_owned());
    }
    let repository = name.rsplit_once(':').map_or(name, |(repository, _)| repository);
    let mut manifests = image
        .digests
        .iter()
        .filter_map(|name| name.split_once('@'))
        .filter(|(of, _)| *of == repository)
        .map(|(_, digest)| digest);
    match (manifests.next(), manifests.next()) {
        (Some(only), None) => Entry::Known(only.to_owned()),
        (Some(first), Some(_)) => Entry::Ambiguous(first.to_owned()),
        (None, _) => Entry::Ambiguous(image.id.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(tags: &[&str], digests: &[&str]) -> Image {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Image { id: "sha256:config".to_owned(), tags: owned(tags), digests: owned(digests), size: 1 }
    }

    #[test]
    fn a_tag_has_the_manifest_of_its_own_repository() {
        let image = image(
            &["host:5000/team/app:1", "docker.io/library/nginx:latest"],
            &["host:5000/team/app@sha256:aa", "docker.io/library/nginx@sha256:bb"],
        );
        let entries = entries(&[image]);
        assert_eq!(entries["host:5000/team/app:1"], Entry::Known("sha256:aa".to_owned()));
        assert_eq!(entries["docker.io/library/nginx:latest"], Entry::Known("sha256:bb".to_owned()));
        assert_eq!(entries["host:5000/team/app@sha256:aa"], Entry::Known("sha256:aa".to_owned()));
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn a_tag_with_several_manifests_or_none_is_left_to_the_image_store() {
        let several = image(&["host/app:1"], &["host/app@sha256:aa", "host/app@sha256:bb"]);
        assert_eq!(entry(&several, "host/app:1"), Entry::Ambiguous("sha256:aa".to_owned()));
        let none = image(&["host/app:1"], &[]);
        assert_eq!(entry(&none, "host/app:1"), Entry::Ambiguous("sha256:config".to_owned()));
    }
}
