//! `imageTemplate`: the part of Go's template syntax that names the three fields.

use crate::answer::Shape;

/// The template of a source that has none.
pub const DEFAULT: &str = "{{.Registry}}/{{.Repository}}:{{.Tag}}";

/// A template, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Registry,
    Repository,
    Tag,
}

/// What is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An action other than the three fields.
    #[error("{{{{{0}}}}} is not known: use {{{{.Registry}}}}, {{{{.Repository}}}} and {{{{.Tag}}}}")]
    Unknown(String),
    /// `{{` without `}}`.
    #[error("{{{{ without }}}}: close it")]
    Open,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// If it holds anything but text and the three fields.
    pub fn parse(template: &str) -> Result<Self, Error> {
        let mut pieces = Vec::new();
        let mut rest = template;
        let mut trim_next = false;
        while let Some(start) = rest.find("{{") {
            let (text, after) = (&rest[..start], &rest[start + 2..]);
            let end = after.find("}}").ok_or(Error::Open)?;
            let (action, after) = (&after[..end], &after[end + 2..]);
            // A minus sign trims only if white space sets it apart from the action.
            let (trim_before, inner) = match action.strip_prefix('-') {
                Some(inner) if inner.starts_with(is_space) => (true, inner),
                _ => (false, action),
            };
            let (trim_after, inner) = match inner.strip_suffix('-') {
                Some(inner) if inner.ends_with(is_space) => (true, inner),
                _ => (false, inner),
            };
            push_text(&mut pieces, text, trim_next, trim_before);
            pieces.push(match inner.trim_matches(is_space) {
                ".Registry" => Piece::Registry,
                ".Repository" => Piece::Repository,
                ".Tag" => Piece::Tag,
                _ => return Err(Error::Unknown(action.to_owned())),
            });
            trim_next = trim_after;
            rest = after;
        }
        push_text(&mut pieces, rest, trim_next, false);
        Ok(Self(pieces))
    }

    /// The reference of one tag.
    #[must_use]
    pub fn render(&self, registry: &str, repository: &str, tag: &str) -> String {
        self.text(registry, repository, |text| text.push_str(tag))
    }

    /// What the references of all tags of a repository have in common.
    #[must_use]
    pub fn shape(&self, registry: &str, repository: &str) -> Shape {
        let mark = '\0';
        let text = self.text(registry, repository, |text| text.push(mark));
        match (text.split_once(mark), text.rsplit_once(mark)) {
            (Some((prefix, _)), Some((_, suffix))) => {
                Shape { prefix: prefix.to_owned(), suffix: suffix.to_owned() }
            }
            _ => Shape { prefix: text, suffix: String::new() },
        }
    }

    fn text(&self, registry: &str, repository: &str, tag: impl Fn(&mut String)) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(piece) => text.push_str(piece),
                Piece::Registry => text.push_str(registry),
                Piece::Repository => text.push_str(repository),
                Piece::Tag => tag(&mut text),
            }
        }
        text
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start_matches(is_space) } else { text };
    let text = if trim_end { text.trim_end_matches(is_space) } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// White space as Go's templates know it.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn render(template: &str) -> String {
        Template::parse(template).unwrap().render("r.io:5000", "team/app", "v1")
    }

    #[test]
    fn fields_are_filled_in_with_or_without_spaces() {
        assert_eq!(render(DEFAULT), "r.io:5000/team/app:v1");
        assert_eq!(render("{{ .Registry }}/{{\t.Repository\n}}@{{.Tag }}"), "r.io:5000/team/app@v1");
        assert_eq!(render("mirror.io/{{.Repository}}:{{.Tag}}-debug"), "mirror.io/team/app:v1-debug");
    }

    #[test]
    fn trim_markers_eat_the_white_space_beside_them() {
        assert_eq!(render("a/ {{- .Repository -}} \n:{{.Tag}}"), "a/team/app:v1");
        assert_eq!(render(" {{.Tag}} "), " v1 ");
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        for (template, named) in [
            ("{{.Digest}}", "{{.Digest}}"),
            ("{{ .Tag | upper }}", "{{ .Tag | upper }}"),
            ("{{-.Tag}}", "{{-.Tag}}"),
            ("{{if .Tag}}x{{end}}", "{{if .Tag}}"),
            ("{{/* c */}}", "{{/* c */}}"),
            ("{{}}", "{{}}"),
        ] {
            let error = Template::parse(template).unwrap_err().to_string();
            assert!(error.starts_with(named), "{error}");
        }
        assert_eq!(Template::parse("{{.Tag"), Err(Error::Open));
    }

    proptest! {
        #[test]
        fn every_reference_of_a_repository_has_its_shape(
            before in "[a-z/]{0,5}", after in "[a-z-]{0,5}", tag in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}"
        ) {
            let template = Template::parse(&format!("{before}{{{{.Registry}}}}/{{{{.Repository}}}}:{{{{.Tag}}}}{after}")).unwrap();
            let shape = template.shape("r.io", "team/app");
            prop_assert!(shape.fits(&template.render("r.io", "team/app", &tag)));
            prop_assert!(!shape.fits(&template.render("r.io", "team/apple", &tag)));
        }

        #[test]
        fn what_the_api_server_accepts_is_understood(
            template in r"([a-z/:]|\{\{(- )?[ \t]?\.(Registry|Repository|Tag)[ \t]?( -)?\}\}){1,8}"
        ) {
            prop_assert_eq!(drop_crds::validation::text(&drop_crds::rules::IMAGE_TEMPLATE, &template), Ok(()));
            prop_assert!(Template::parse(&template).is_ok());
        }

        #[test]
        fn no_text_upsets_it(text in "[{} .\\-A-Za-z]{0,40}") {
            let _ = Template::parse(&text);
        }
    }
}
