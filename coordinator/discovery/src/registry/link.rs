//! The header `Link`: where the next page is.

use url::Url;

use crate::failure::{Failure, Reason};

/// The next page after `current`, if a header says that there is one.
///
/// # Errors
/// If it lies on another server, which must not be asked with these credentials, or is the same page again.
pub fn next<'a>(current: &Url, headers: impl IntoIterator<Item = &'a str>) -> Result<Option<Url>, Failure> {
    let Some(target) = headers.into_iter().find_map(target) else { return Ok(None) };
    let bad =
        |what: &str| Err(Failure::new(Reason::InvalidResponse, format!("the next page of tags {what}")));
    let Ok(next) = current.join(target) else { return bad("is not a URL") };
    // A registry behind a proxy may take itself for an http server on a port of its own: only path and query count.
    let mut url = current.clone();
    if next.host() != current.host() {
        return bad("lies on another server");
    }
    url.set_path(next.path());
    url.set_query(next.query());
    if url == *current {
        return bad("is the same page again");
    }
    Ok(Some(url))
}

/// The target of the link that is called `next` in one header, which may hold several.
fn target(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        // A comma within a quoted parameter is none that separates links.
        let mut quoted = false;
        let end = after.find(|c| {
            quoted ^= c == '"';
            c == ',' && !quoted
        });
        let parameters = &after[..end.unwrap_or(after.len())];
        if parameters.split(';').any(is_next) {
            return Some(target);
        }
        rest = &after[end?..];
    }
}

fn is_next(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("rel")
            && value.trim().trim_matches('"').split(' ').any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn following(header: &str) -> Result<Option<String>, String> {
        let current = Url::parse("https://r.io/v2/app/tags/list?n=2").unwrap();
        next(&current, [header]).map(|url| url.map(Into::into)).map_err(|failure| failure.message)
    }

    #[test]
    fn relative_and_absolute_links_lead_on() {
        let page = Ok(Some("https://r.io/v2/app/tags/list?last=b&n=2".to_owned()));
        for link in [
            "</v2/app/tags/list?last=b&n=2>; rel=\"next\"",
            "<https://r.io/v2/app/tags/list?last=b&n=2>;rel=next",
            "<http://r.io/v2/app/tags/list?last=b&n=2>; rel=\"next\"",
            "<list?last=b&n=2>; title=\"a, b\"; Rel=\"prev next\"",
            "</other>; rel=\"prev\", </v2/app/tags/list?last=b&n=2>; rel=\"next\"",
        ] {
            assert_eq!(following(link), page, "{link}");
        }
    }

    #[test]
    fn no_link_ends_the_list() {
        for link in ["", "</a>", "</a>; rel=prev", "rel=next", "<unfinished; rel=next"] {
            assert_eq!(following(link), Ok(None), "{link}");
        }
    }

    #[test]
    fn links_to_other_servers_and_to_the_same_page_are_refused() {
        assert!(
            following("<https://evil.io/v2/app/tags/list?n=2&last=b>; rel=next")
                .unwrap_err()
                .contains("another")
        );
        assert!(following("<//evil.io/x>; rel=next").unwrap_err().contains("another"));
        assert!(following("</v2/app/tags/list?n=2>; rel=next").unwrap_err().contains("same page"));
    }

    proptest! {
        #[test]
        fn no_header_upsets_it_nor_leads_away(header in "[<>;,=\" a-z/:.?]{0,60}") {
            if let Ok(Some(url)) = following(&header) {
                prop_assert!(url.starts_with("https://r.io/"), "{}", url);
            }
        }
    }
}
