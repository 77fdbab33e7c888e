//! The page with names that strangers chose to do harm.

use super::*;
use gnomon_kit::unix_millis;
use gnomon_ledger::{Event, EventFilter, Ledger, LedgerOptions, Order};
use gnomon_observe::{Field, Observation};
use std::{fs, time::Duration};

const HOSTILE: [&str; 9] = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>",
    "' onmouseover='alert(1)",
    "</style><style>*{display:none}</style>",
    "</title><script src=//evil.example></script>",
    "&lt;b&gt; &amp; <b>",
    "\u{202e}gnp.exe\u{1b}[2J\u{0}",
    "javascript:alert(1)",
];

/// What the known server offers.
fn listing(tool: &'static str) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::ServerAddress, "known.example");
    seen.set(Field::ServerPort, 443_i64);
    seen.set(Field::McpMethod, "tools/list");
    seen.set(Field::Sanctioned, true);
    seen.set(Field::Tools, vec![tool.into()]);
    seen
}

/// A state folder with a week in it whose every name is hostile.
async fn hostile_week(dir: &Path) {
    let (ledger, writer) = Ledger::open(LedgerOptions::new(ledger_in(dir))).await.unwrap();
    // A server known before, which offers a new tool later.
    let old = SystemTime::now() - Duration::from_secs(10 * 86_400);
    let _ = ledger.record(Event::at(listing("old"), old));
    ledger.flush().await.unwrap();
    let long = "x".repeat(100_000);
    for (n, name) in HOSTILE.iter().copied().chain([long.as_str()]).enumerate() {
        let mut seen = Observation::new();
        seen.set(Field::EventKind, "alert");
        seen.set(Field::ServerAddress, name);
        seen.set(Field::ServerPort, 443_i64);
        seen.set(Field::UrlPath, name);
        seen.set(Field::McpMethod, "tools/call");
        seen.set(Field::McpServerName, name);
        seen.set(Field::ToolName, name);
        seen.set(Field::HttpStatus, 200_i64);
        seen.set(Field::UserName, name);
        seen.set(Field::RuleId, name);
        seen.set(Field::RuleName, name);
        seen.set(Field::RuleLevel, "high");
        seen.set(Field::DetectionClass, "mcp");
        seen.set(Field::Confidence, "confirmed");
        let _ = ledger.record(Event::now(seen));
        let mut unread = Observation::new();
        unread.set(Field::FlowOutcome, name);
        unread.set(Field::ServerAddress, format!("host-{n}.example"));
        let _ = ledger.record(Event::now(unread));
    }
    ledger.flush().await.unwrap();
    let _ = ledger.record(Event::now(listing("<script>new")));
    writer.shutdown().await;
}

#[tokio::test]
async fn hostile_names_stay_text_on_the_page() {
    let dir = tempfile::tempdir().unwrap();
    hostile_week(dir.path()).await;
    let (page, _) = gather(dir.path(), &Decided::of(dir.path()), unix_millis(SystemTime::now()), Looked::default()).await.unwrap();
    assert_eq!(page.calls(), (1, HOSTILE.len() as u64 + 1));
    assert_eq!(page.calls_before(), (1, 0));
    assert_eq!(page.new_servers.len(), HOSTILE.len() + 1);
    assert_eq!(page.new_tools.iter().map(|tool| tool.name.as_str()).collect::<Vec<_>>(), ["<script>new"]);
    assert_eq!(page.debt.unreviewed.len(), HOSTILE.len() + 1);

    let html = html::render(&page);
    // The only tags are ours: every `<` begins one of them.
    const TAGS: [&str; 25] = [
        "!DOCTYPE", "html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "svg", "rect", "text", "table", "tr", "th", "td",
        "strong", "small", "span", "/", "/html", "/p", "/svg", "/rect",
    ];
    for tag in html.split('<').skip(1) {
        let name: String = tag.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '!' | '/')).collect();
        assert!(TAGS.contains(&name.as_str()) || TAGS.contains(&name.trim_start_matches('/')), "<{}", &tag[..tag.len().min(60)]);
        let attributes = tag.split('>').next().unwrap_or_default();
        assert!(!attributes.contains("onerror") && !attributes.contains("onload") && !attributes.contains("onmouseover"), "{attributes}");
        assert!(!attributes.contains("src=") && !attributes.contains("href="), "{attributes}");
    }
    assert_eq!(html.matches("<style>").count(), 1);
    assert_eq!(html.matches("<title>").count(), 1);
    assert!(!html.contains(['\u{202e}', '\u{1b}', '\u{0}']));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && html.contains("Content-Security-Policy"));
    assert!(html.contains("@media print"));

    let mut text = Vec::new();
    text::write(&mut text, &page).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{0}']), "{text}");
    assert!(text.contains("shadow share") && text.contains("Review debt: 10 unreviewed"), "{text}");
    let events = Reader::open(&ledger_in(dir.path())).await.unwrap().events(&EventFilter::default(), Order::OldestFirst).await.unwrap();
    assert!(events.len() > 20);
}

#[tokio::test]
async fn a_week_without_anything_is_a_page_too() {
    let dir = tempfile::tempdir().unwrap();
    let (_ledger, writer) = Ledger::open(LedgerOptions::new(ledger_in(dir.path()))).await.unwrap();
    writer.shutdown().await;
    let (page, _) = gather(dir.path(), &Decided::of(dir.path()), unix_millis(SystemTime::now()), Looked::default()).await.unwrap();
    assert!(html::render(&page).contains("no calls"));
    let mut text = Vec::new();
    text::write(&mut text, &page).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("0 to shadow servers"));

    // While the database of decisions is away, the debt is of the time when it was read last.
    fs::write(dir.path().join("decisions.cache"), "").unwrap();
    let away = Decided::shared(dir.path(), Some("postgres://gnomon@/gnomon?host=/nowhere".parse().unwrap()));
    let (page, stale) = gather(dir.path(), &away, unix_millis(SystemTime::now()), Looked::default()).await.unwrap();
    assert!(stale.unwrap().complaint().cause.contains("cannot connect to"));
    let mut text = Vec::new();
    text::write(&mut text, &page).unwrap();
    assert!(String::from_utf8(text).unwrap().contains("Review debt (decisions as of 2"));
    assert!(html::render(&page).contains("Decisions as of 2"));
}

#[test]
fn a_small_share_of_shadow_calls_is_not_rounded_to_zero() {
    assert_eq!(shadow_percent((999, 1)), Some(1));
    assert_eq!((shadow_percent((0, 0)), shadow_percent((1, 0)), shadow_percent((0, 1))), (None, Some(0), Some(100)));
    assert_eq!(shadow_percent((u64::MAX, u64::MAX)), Some(100));
}

#[tokio::test]
async fn what_was_never_reached_and_what_is_merely_listed_stand_apart_from_what_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (ledger, writer) = Ledger::open(LedgerOptions::new(ledger_in(dir.path()))).await.unwrap();
    let call = |host: &'static str, port: i64| {
        let mut seen = Observation::new();
        seen.set(Field::ServerAddress, host);
        seen.set(Field::ServerPort, port);
        seen.set(Field::McpMethod, "tools/call");
        seen.set(Field::Confidence, "confirmed");
        seen.set(Field::UrlPath, "/mcp");
        seen
    };
    for _ in 0..3 {
        let mut refused = call("127.0.0.1", 19011);
        refused.set(Field::ErrorType, "upstream_unreachable");
        let _ = ledger.record(Event::now(refused));
    }
    let mut answered = call("127.0.0.1", 19012);
    answered.set(Field::HttpStatus, 200_i64);
    let _ = ledger.record(Event::now(answered));
    for (field, place) in [(Field::ServerAddress, "listed.example"), (Field::LocalServer, "pkg:npm/listed")] {
        let mut listed = Observation::new();
        listed.set(field, place);
        listed.set(Field::Channel, "config");
        listed.set(Field::Confidence, "probable");
        listed.set(Field::ConfigClient, "Cursor");
        listed.set(Field::UserName, "ada");
        let _ = ledger.record(Event::now(listed));
    }
    ledger.flush().await.unwrap();
    writer.shutdown().await;
    let (page, _) = gather(dir.path(), &Decided::of(dir.path()), unix_millis(SystemTime::now()), Looked::default()).await.unwrap();
    let named = |list: &[ServerRecord]| list.iter().map(|s| s.address.clone()).collect::<std::collections::BTreeSet<_>>();
    assert_eq!((page.calls(), named(&page.new_servers)), ((0, 1), ["127.0.0.1".to_owned()].into()));
    assert_eq!(named(&page.newly_listed), ["listed.example".to_owned(), "pkg:npm/listed".to_owned()].into());
    assert_eq!(page.usage.shadow_servers.by_count(), [("127.0.0.1:19012", 1)]);
    assert_eq!(page.usage.unreached_servers.by_count(), [("127.0.0.1:19011", 3)]);
    let waiting: Vec<_> = page.debt.unreviewed.iter().map(|w| (w.server.to_string(), w.used())).collect();
    assert!(waiting.iter().all(|(server, _)| server != "127.0.0.1:19011") && waiting.len() == 2, "{waiting:?}");
    assert!(waiting.iter().any(|(server, used)| server.starts_with("listed.example") && used == "listed, not seen in use"), "{waiting:?}");
    let mut text = Vec::new();
    text::write(&mut text, &page).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (before, after) = text.split_once("\nServers tried and not reached, which are no use: 1\n").unwrap_or_else(|| panic!("{text}"));
    assert!(!before.contains("19011") && after.starts_with("         3  127.0.0.1:19011\n"), "{text}");
    assert!(text.contains("pkg:npm/listed  listed by ada") && text.contains("\nNew servers: 1\n") && text.contains(COUNTED), "{text}");
    assert!(html::render(&page).contains("Servers tried and not reached"));
}
