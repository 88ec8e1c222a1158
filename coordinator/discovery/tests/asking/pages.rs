//! Tag lists in pages: Debian's registry gives all tags at once.

use drop_discovery::{Answer, Credentials};
use serde_json::json;

use crate::server::{Server, failure, images, list, say};

/// Tags 0 to 24 of each repository but `gone`, ten a page.
fn registry() -> Server {
    Server::start(|request, stream| {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let repository = path.trim_start_matches("/v2/").trim_end_matches("/tags/list");
        if repository == "gone" {
            return say(stream, 404, "", r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#);
        }
        let first = query
            .split('&')
            .find_map(|part| part.strip_prefix("last=")?.parse::<usize>().ok())
            .map_or(0, |n| n + 1);
        let last = (first + 9).min(24);
        let tags: Vec<String> = (first..=last).map(|n| n.to_string()).collect();
        let link = if last < 24 {
            format!("Link: <{path}?last={last}&n=10>; rel=\"next\"\r\n")
        } else {
            String::new()
        };
        say(stream, 200, &link, &json!({ "name": repository, "tags": tags }).to_string());
    })
}

async fn listed(server: &Server, more: serde_json::Value) -> Answer {
    let mut registry = json!({ "url": server.url() });
    registry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    list(registry, &Credentials::default()).await
}

#[tokio::test]
async fn every_page_is_read_and_later_tags_score_higher() {
    let server = registry();
    let answer = listed(&server, json!({ "repositories": ["app"] })).await;
    assert_eq!((&answer.failure, answer.images.len()), (&None, 25));
    let score = |tag: u8| {
        let image = format!("{}/app:{tag}", server.address);
        answer.images.iter().find(|found| found.image == image).unwrap().score
    };
    assert_eq!((score(0), score(23), score(24)), (1, 24, 25));
    assert_eq!(server.asked().len(), 3);
}

#[tokio::test]
async fn the_last_ones_are_kept_and_the_last_of_every_repository_scores_best() {
    let server = registry();
    let answer = listed(&server, json!({ "repositories": ["b", "a"], "tagFilter": "[05]$", "topX": 2, "imageTemplate": "m/{{ .Repository }}:{{.Tag}}" })).await;
    let wanted = [("m/a:15", 1), ("m/a:20", 2), ("m/b:15", 1), ("m/b:20", 2)];
    assert_eq!(images(&answer), wanted.map(|(image, score)| (image.to_owned(), score)));
}

#[tokio::test]
async fn a_repository_that_is_missing_takes_nothing_from_the_others() {
    let server = registry();
    let answer = listed(&server, json!({ "repositories": ["gone", "app"], "topX": 1 })).await;
    assert_eq!(images(&answer), [(format!("{}/app:24", server.address), 1)]);
    assert_eq!(failure(&answer), ("NotFound", "1 of 2 repositories failed: not found: gone".to_owned()));
    assert!(answer.keep[0].fits(&format!("{}/gone:7", server.address)));
    assert!(!answer.keep[0].fits(&format!("{}/app:7", server.address)));
}
