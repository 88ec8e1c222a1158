//! Which images a login is for: keys as docker configurations and kubelets write them, such as `registry.test:5000`,
//! `https://index.docker.io/v1/` or `*.registry.test/team`.
//!
//! The rules are the kubelet's, so that Drop and the Pods of a node agree: a `*` stands for any part of one label of
//! the host, ports are equal or both absent, and a path is the beginning of the repository. This knows nothing of
//! secrets.

use drop_protocol::reference::Reference;

/// The images that one key names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    host: String,
    /// Empty, or begins with a slash.
    path: String,
}

impl Place {
    /// Reads a key of a docker configuration; `None`: no image can match it.
    #[must_use]
    pub fn of_login(key: &str) -> Option<Self> {
        let address = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
        let mut place = Self::of_images(address)?;
        // Docker wrote the version of the registry's interface behind its host.
        if let Some(rest) = place.path.strip_prefix("/v2/").or_else(|| place.path.strip_prefix("/v1/")) {
            place.path = format!("/{rest}");
        }
        if place.path == "/" {
            place.path.clear();
        }
        Some(place)
    }

    /// Reads a pattern that has no scheme, such as an item of `matchImages`; `None`: no image can match it.
    #[must_use]
    pub fn of_images(pattern: &str) -> Option<Self> {
        let address = pattern.split(['?', '#']).next()?;
        let (authority, path) = address.split_at(address.find('/').unwrap_or(address.len()));
        let host = authority.rsplit('@').next()?;
        // Repository names have no character that would need an escape.
        let readable = !host.is_empty() && is_host(host) && !path.contains('%');
        readable.then(|| Self { host: host.to_owned(), path: path.to_owned() })
    }

    /// What logins are ordered by, the last first: of two places of which one lies within the other, the narrower
    /// comes first.
    #[must_use]
    pub fn order(&self) -> String {
        format!("{}{}", self.host, self.path)
    }

    /// The host alone, if no path belongs to the key.
    #[must_use]
    pub fn bare_host(&self) -> Option<&str> {
        self.path.is_empty().then_some(self.host.as_str())
    }

    /// Whether `image` lies here.
    #[must_use]
    pub fn holds(&self, image: &Reference) -> bool {
        let ((pattern, pattern_port), (host, port)) = (split_port(&self.host), split_port(&image.host));
        pattern_port == port
            && pattern.split('.').count() == host.split('.').count()
            && pattern.split('.').zip(host.split('.')).all(|(pattern, label)| matches(pattern, label))
            && format!("/{}", image.repository).starts_with(&self.path)
    }
}

fn is_host(host: &str) -> bool {
    let unusual =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\\' | '%' | '^' | '`' | '{' | '}');
    let digits = |port: &str| port.chars().all(|c| c.is_ascii_digit());
    let port_is_number = match host.strip_prefix('[') {
        Some(literal) => literal
            .split_once(']')
            .is_some_and(|(_, rest)| rest.is_empty() || rest.strip_prefix(':').is_some_and(digits)),
        None => host.rsplit_once(':').is_none_or(|(_, port)| digits(port)),
    };
    port_is_number && !host.contains(unusual)
}

/// The name and the port; an absent one is empty.
fn split_port(host: &str) -> (&str, &str) {
    match host.rsplit_once(':') {
        // A colon inside of brackets belongs to an address.
        Some((_, behind)) if behind.ends_with(']') => (host, ""),
        Some((name, port)) => (name, port),
        None => (host, ""),
    }
}

/// Whether `label` is `pattern`, in which each `*` stands for anything.
fn matches(pattern: &str, label: &str) -> bool {
    let Some((beginning, rest)) = pattern.split_once('*') else { return pattern == label };
    let Some(mut left) = label.strip_prefix(beginning) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match left.split_once(part) {
            Some((_, behind)) => left = behind,
            None => return false,
        }
    }
    left.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn holds(key: &str, image: &str) -> bool {
        Place::of_login(key).is_some_and(|place| place.holds(&Reference::parse(image).unwrap()))
    }

    #[test]
    fn keys_match_as_the_kubelet_matches_them() {
        let image = "registry.test:5000/team/app:v1";
        for (key, expected) in [
            ("registry.test:5000", true),
            ("https://registry.test:5000", true),
            ("http://registry.test:5000/", true),
            ("https://registry.test:5000/v2/", true),
            ("registry.test:5000/team", true),
            ("registry.test:5000/team/app", true),
            // A beginning of the text, not of the path.
            ("registry.test:5000/te", true),
            ("registry.test:5000/v1/team", true),
            ("*.test:5000", true),
            ("re*ry.t*:5000", true),
            ("registry.test", false),
            ("registry.test:443", false),
            ("registry.test:*", false),
            ("registry.test:5000/other", false),
            ("registry.test:5000/team/app/more", false),
            ("*:5000", false),
            ("*.*.test:5000", false),
            ("REGISTRY.test:5000", false),
            ("ftp://registry.test:5000", false),
            ("", false),
            ("https://", false),
        ] {
            assert_eq!(holds(key, image), expected, "{key}");
        }
    }

    #[test]
    fn a_star_stays_within_its_label() {
        for (pattern, label, expected) in [
            ("*", "", true),
            ("*", "a", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("a*a", "a", false),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("*ab*ab*", "ab", false),
            ("**", "anything", true),
        ] {
            assert_eq!(matches(pattern, label), expected, "{pattern} {label}");
        }
        assert!(!holds("*.test", "a.b.test/app"));
    }

    #[test]
    fn an_item_of_match_images_has_no_scheme_and_a_literal_path() {
        let image = Reference::parse("registry.test/v2/app").unwrap();
        assert!(Place::of_images("registry.test/v2/").unwrap().holds(&image));
        assert!(Place::of_images("registry.test/v2/app/").is_some_and(|place| !place.holds(&image)));
        assert!(Place::of_images("https://registry.test").is_none_or(|place| !place.holds(&image)));
    }

    proptest! {
        #[test]
        fn no_key_is_too_strange(key in "\\PC{0,60}") {
            let image = Reference::parse("registry.test:5000/team/app:v1").unwrap();
            if let Some(place) = Place::of_login(&key) {
                let _ = place.holds(&image);
            }
        }

        #[test]
        fn a_login_is_shown_to_no_other_host(host in "[a-z]{1,8}\\.test(:[0-9]{2,4})?", other in "[a-z]{1,8}\\.test(:[0-9]{2,4})?", path in "(/[a-z]{1,4}){0,2}") {
            let image = format!("{other}/team/app:v1");
            let key = format!("{host}{path}");
            prop_assert!(host == other || !holds(&key, &image));
        }

        #[test]
        fn whatever_a_label_is_stars_match_it(label in "[a-z0-9-]{1,12}", at in 0_usize..12, to in 0_usize..12) {
            let (at, to) = (at.min(label.len()), to.min(label.len()));
            let pattern = format!("{}*{}", &label[..at.min(to)], &label[at.max(to)..]);
            prop_assert!(matches(&pattern, &label));
        }
    }
}
