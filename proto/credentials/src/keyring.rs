//! Logins by the images that they are for, offered in the kubelet's order.

use std::cmp::Reverse;

use drop_protocol::reference::Reference;

use crate::place::Place;

/// Host of images that name none.
const DOCKER: &str = "docker.io";
/// Its other names: a login for one of them is used if there is none for its own.
const DOCKER_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// Logins of type `T`, each under a key such as `registry.test:5000/team`.
#[derive(Debug)]
pub struct Keyring<T> {
    logins: Vec<(Place, T)>,
}

impl<T> Default for Keyring<T> {
    fn default() -> Self {
        Self { logins: Vec::new() }
    }
}

impl<T> Keyring<T> {
    /// Adds what stands under `key`. A key that no image can match is left out.
    pub fn add(&mut self, key: &str, login: T) {
        if let Some(place) = Place::of_login(key) {
            self.logins.push((place, login));
        }
    }

    /// What there is for `image`: narrower places first, within one place in the order in which it was added.
    #[must_use]
    pub fn lookup(self, image: &Reference) -> Vec<T> {
        let (mut found, others): (Vec<_>, Vec<_>) =
            self.logins.into_iter().partition(|(place, _)| place.holds(image));
        if found.is_empty() && image.host == DOCKER {
            let alias =
                |place: &Place| DOCKER_ALIASES.iter().position(|alias| place.bare_host() == Some(alias));
            let mut aliased: Vec<_> =
                others.into_iter().filter_map(|(place, login)| Some((alias(&place)?, login))).collect();
            aliased.sort_by_key(|(position, _)| *position);
            return aliased.into_iter().map(|(_, login)| login).collect();
        }
        found.sort_by_key(|(place, _)| Reverse(place.order()));
        found.into_iter().map(|(_, login)| login).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(keys: &[&str], image: &str) -> Vec<String> {
        let mut ring = Keyring::default();
        for key in keys {
            ring.add(key, (*key).to_owned());
        }
        ring.lookup(&Reference::parse(image).unwrap())
    }

    #[test]
    fn the_narrowest_place_comes_first() {
        let keys = ["*.test", "registry.test", "registry.test/team/app", "registry.test/team", "other.test"];
        let expected = ["registry.test/team/app", "registry.test/team", "registry.test", "*.test"];
        assert_eq!(offered(&keys, "registry.test/team/app:v1"), expected);
    }

    #[test]
    fn docker_hub_goes_by_all_its_names() {
        let aliases = ["https://registry-1.docker.io", "https://index.docker.io/v1/"];
        assert_eq!(offered(&aliases, "nginx"), [aliases[1], aliases[0]]);
        assert_eq!(offered(&["index.docker.io", "docker.io"], "nginx"), ["docker.io"]);
        assert_eq!(offered(&["docker.io/team"], "nginx"), [""; 0]);
        assert_eq!(offered(&aliases, "registry.test/nginx"), [""; 0]);
    }

    /// Answers of the kubelet's own code to questions made up at random; `tests/kubelet/keyring.go` asks them.
    #[test]
    fn the_kubelet_would_offer_the_same_logins_in_the_same_order() {
        #[derive(serde::Deserialize)]
        struct Answer {
            image: String,
            secrets: Vec<Vec<String>>,
            offered: Vec<String>,
        }
        let answers = include_str!("../tests/kubelet/keyring.jsonl");
        assert!(answers.lines().count() > 400);
        for line in answers.lines() {
            let answer: Answer = serde_json::from_str(line).unwrap();
            let mut ring = Keyring::default();
            for (number, keys) in answer.secrets.iter().enumerate() {
                for key in keys {
                    ring.add(key, format!("{number} {key}"));
                }
            }
            let (host, repository) = answer.image.split_once('/').unwrap();
            let (host, repository) = (host.to_owned(), repository.to_owned());
            let image = Reference { host, repository, tag: None, digest: None };
            let mut offered = ring.lookup(&image);
            // The third name of docker.io is one that the kubelet does not know.
            offered.retain(|login| !login.contains("registry-1") || answer.offered.contains(login));
            assert_eq!(offered, answer.offered, "{line}");
        }
    }
}
