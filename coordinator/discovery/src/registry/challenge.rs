//! The header `WWW-Authenticate`: what a registry wants to see before it answers.

/// One way to log in that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// User and password.
    Basic,
    /// A token from a token server.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// For which service.
        service: Option<String>,
        /// What it should allow.
        scope: Option<String>,
    },
}

/// The ways that one header offers, in its order. Those that nobody here knows are left out.
#[must_use]
pub fn parse(header: &str) -> Vec<Challenge> {
    let mut found: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let (word, after) = token(rest);
        if word.is_empty() {
            break;
        }
        match after.trim_start().strip_prefix('=') {
            // name=value belongs to the challenge before it.
            Some(value) => {
                let (value, after) = self::value(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.push((word.to_ascii_lowercase(), value));
                }
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), Vec::new()));
                rest = after;
            }
        }
    }
    found.into_iter().filter_map(|(scheme, parameters)| challenge(&scheme, parameters)).collect()
}

fn challenge(scheme: &str, parameters: Vec<(String, String)>) -> Option<Challenge> {
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => {
            let (mut realm, mut service, mut scope) = (None, None, None);
            for (name, value) in parameters {
                match name.as_str() {
                    "realm" => realm = Some(value),
                    "service" => service = Some(value),
                    "scope" => scope = Some(value),
                    _ => {}
                }
            }
            Some(Challenge::Bearer { realm: realm?, service, scope })
        }
        _ => None,
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| matches!(c, '=' | ',' | '"') || c.is_whitespace()).unwrap_or(text.len());
    text.split_at(end)
}

/// A token, or a quoted text with its escapes resolved; and what follows.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn commas_within_quotes_belong_to_the_value() {
        let header = r#"Bearer realm="https://auth.io/token",service="registry, main",scope="repository:team/app:pull,push""#;
        assert_eq!(
            parse(header),
            [bearer("https://auth.io/token", Some("registry, main"), Some("repository:team/app:pull,push"))]
        );
    }

    #[test]
    fn several_ways_may_stand_in_one_header() {
        let header = r#"Negotiate, Basic realm="a \"b\", c", bearer Realm=https://t ,Scope = "x""#;
        assert_eq!(parse(header), [Challenge::Basic, bearer("https://t", None, Some("x"))]);
    }

    #[test]
    fn a_bearer_without_realm_and_unfinished_texts_are_nothing() {
        for header in ["", "Bearer", "Bearer service=a", ",,,", "=", "\"", "Digest realm=\"x\""] {
            assert_eq!(parse(header), [], "{header}");
        }
        assert_eq!(parse("Bearer realm=\"unfinished"), [bearer("unfinished", None, None)]);
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(realm in "[ -~]{1,30}", scope in "[ -~]{0,30}") {
            let quote = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let header = format!("Bearer realm={},scope={}", quote(&realm), quote(&scope));
            prop_assert_eq!(parse(&header), [bearer(&realm, None, Some(&scope))]);
        }

        #[test]
        fn no_header_upsets_it(header in ".{0,60}") {
            let _ = parse(&header);
        }
    }
}
