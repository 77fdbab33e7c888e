//! URLs with their queries, which rules read and no event shows.

use gnomon_engine::{Origin, Source};
use gnomon_stage::{
    client::H1,
    gnomon::Gnomon,
    request::h1_head,
    rules::{MESSAGE, block},
    upstream::{Answer, Upstream},
};

const HTTP1: &[&str] = &["http/1.1"];
const PATH: &str = "/a/b.zip?key=hush-hush";

#[tokio::test]
async fn rules_read_the_url_as_it_was_asked_for_and_no_event_shows_its_query() {
    for (selection, refused) in [
        ("url.original|endswith: '/a/b.zip?key=hush-hush'", true),
        ("url.original|startswith: '/a/'", true),
        ("url.original|startswith: 'https://'", true),
        ("url.query: 'key=hush-hush'", true),
        ("url.query: null", false),
        ("url.extension: zip", true),
        ("url.extension: exe", false),
    ] {
        let upstream = Upstream::answering(HTTP1, |received| {
            received.end?;
            Some(Answer::full("text/plain", "content"))
        })
        .await;
        let gnomon = Gnomon::with().rules([block(1, selection)]).before(&upstream).await;
        let mut client = H1::connect(&gnomon).await;
        let answer = client.send(&[h1_head("GET", PATH, "")]).await.text().to_owned();
        assert_eq!((answer.contains("content"), answer.contains(MESSAGE)), (!refused, refused), "{selection}: {answer}");
        client.close().await;
        let events = gnomon.finish().await;
        assert_eq!(events.iter().any(|event| event["gnomon.action"] == "block"), refused, "{selection}: {events:#?}");
        assert!(!format!("{events:?}").contains("hush"), "{selection}: {events:#?}");
    }
}

#[tokio::test]
async fn a_rule_for_the_logs_of_a_web_proxy_finds_what_it_names_on_the_wire() {
    let text = "title: Download of an archive with a key\nid: 00000000-0000-4000-8000-0000000000aa\nlogsource: {category: proxy}\n\
                detection:\n    s:\n        c-uri-extension: zip\n        c-uri|contains: '?key='\n        sc-status: 200\n    condition: s\nlevel: high\n";
    let upstream = Upstream::answering(HTTP1, |received| {
        received.end?;
        Some(Answer::full("text/plain", "content"))
    })
    .await;
    let source = Source { name: "public.yml".into(), text: text.to_owned(), origin: Origin::Admin };
    let gnomon = Gnomon::with().rules([source]).before(&upstream).await;
    let mut client = H1::connect(&gnomon).await;
    assert!(client.send(&[h1_head("GET", PATH, "")]).await.text().contains("content"));
    client.close().await;
    let events = gnomon.finish().await;
    let found = events.iter().find(|event| event["rule.name"] == "Download of an archive with a key");
    let found = found.unwrap_or_else(|| panic!("{events:#?}"));
    assert_eq!((&found["gnomon.detection.class"], &found["url.path"]), (&"threat".into(), &"/a/b.zip".into()));
    assert!(!found.to_string().contains("hush"), "{found}");
}
