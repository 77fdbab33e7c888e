//! Rules that are written for the logs of web proxies and web servers, in Sigma's names for their fields.

use gnomon_engine::{Answer, Origin, RuleSet, Source, explain};
use gnomon_observe::{Class, Family, Field, Observation, Phase, Value};

fn text(logsource: &str, detection: &str) -> String {
    format!(
        "title: T\nid: 3c1d2a51-2f57-4f0e-8d0b-5d0f8c1c7e22\nlogsource: {logsource}\ndetection:\n    s:\n{detection}    condition: s\nlevel: high\n"
    )
}

fn compile(logsource: &str, detection: &str) -> Result<RuleSet, String> {
    let source = Source { name: "r.yml".into(), text: text(logsource, detection), origin: Origin::Admin };
    RuleSet::compile(&[source]).map_err(|errors| errors.to_string())
}

/// `GET https://files.example/a/b.zip?v=../etc`, answered with 200.
fn seen() -> Observation {
    let mut seen = Observation::new();
    let urls = ["https://files.example/a/b.zip?v=../etc", "/a/b.zip?v=../etc"];
    seen.set(Field::UrlOriginal, Value::List(urls.iter().map(|url| (*url).into()).collect()));
    seen.set(Field::UrlQuery, "v=../etc");
    seen.set(Field::UrlExtension, "zip");
    seen.set(Field::UrlPath, "/a/b.zip");
    seen.set(Field::ServerAddress, "files.example");
    seen.set(Field::HttpMethod, "GET");
    seen.set(Field::HttpStatus, 200_u16);
    seen.set(Field::UserAgent, "curl/8.5.0");
    seen.set(Field::UserName, "ada");
    seen.set_member(Family::RequestHeader, "referer", "https://start.example/");
    seen
}

fn matches(rules: &RuleSet, seen: &Observation) -> bool {
    matches!(rules.judge(seen, Phase::Response, &mut rules.start()), Answer::Decided(verdict) if verdict.rule.is_some())
}

#[test]
fn rules_in_the_names_of_web_logs_find_what_they_name() {
    for (logsource, detection, expected) in [
        ("{category: proxy}", "        c-uri|contains: '.zip?v='\n", true),
        ("{category: proxy}", "        c-uri|startswith: 'https://files'\n        c-useragent|startswith: curl\n", true),
        ("{category: proxy}", "        c-uri-extension: [exe, zip]\n        cs-host|endswith: '.example'\n", true),
        ("{category: proxy}", "        r-dns: other.example\n", false),
        ("{category: proxy}", "        cs-referrer: null\n", false),
        ("{category: proxy}", "        cs-cookie: null\n", true),
        ("{category: webserver}", "        cs-method: GET\n        cs-uri-query|contains: '../'\n        sc-status: 200\n", true),
        // Paths are looked for in the query by many rules.
        ("{category: webserver}", "        cs-uri-query: '/a/b.zip?*'\n", true),
        ("{category: webserver}", "        cs-uri-query: null\n", false),
        ("{category: webserver, definition: 'with queries'}", "        cs-uri-stem|endswith: '/b.zip'\n        cs-username: ada\n", true),
        ("{category: webserver}", "        - 'v=../etc'\n", true),
        ("{category: webserver}", "        cs-user-agent|contains: sqlmap\n", false),
    ] {
        let rules = compile(logsource, detection).unwrap_or_else(|errors| panic!("{detection}: {errors}"));
        assert_eq!(matches(&rules, &seen()), expected, "{detection}");
        assert!(rules.rules().iter().all(|rule| rule.class == Class::Threat), "{detection}");
    }
}

#[test]
fn what_a_web_log_has_and_gnomon_does_not_is_refused_by_name() {
    for (logsource, detection, says) in [
        ("{category: proxy}", "        sc-bytes|gt: 5\n", "sc-bytes"),
        ("{category: webserver}", "        cs-versoin: x\n", "cs-versoin"),
        ("{category: webserver, product: apache}", "        c-uri: x\n", "`product` in `logsource` is of one product's logs"),
        ("{product: mcp, category: mcp_traffic}", "        c-uri: x\n", "c-uri"),
        ("{category: dns}", "        query: x\n", "{category: webserver}"),
    ] {
        let error = compile(logsource, detection).unwrap_err();
        assert!(error.contains(says), "{detection}: {error}");
    }
}

#[test]
fn an_explanation_of_such_a_rule_shows_what_was_seen() {
    let text = text("{category: proxy}", "        c-uri-extension: zip\n");
    let explained = format!("{:?}", explain(&text, 1, &seen()).unwrap());
    assert!(explained.contains("url.extension: zip") && explained.contains("`zip`"), "{explained}");
}

#[test]
fn urls_are_gathered_where_a_rule_reads_them() {
    let wants = |logsource: &str, detection: &str| compile(logsource, detection).unwrap().wanted().url;
    assert!(wants("{category: proxy}", "        c-uri|contains: x\n"));
    assert!(wants("{category: proxy}", "        c-uri-extension: x\n"));
    assert!(wants("{product: mcp, category: mcp_traffic}", "        url.query: x\n"));
    assert!(!wants("{category: proxy}", "        cs-host: x\n"));
}
