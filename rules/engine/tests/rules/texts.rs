//! Texts that pass: matched piece by piece, with the result that the whole text would have.

use gnomon_engine::{Answer, Origin, RuleSet, Source, TextMatcher};
use gnomon_observe::{Action, Field, Observation, Phase, TextFindings, TextHit, Value};
use proptest::prelude::*;
use std::sync::Arc;

fn compile(selection: &str) -> Result<RuleSet, String> {
    let text = format!(
        "title: T\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection:\n    s:\n        {selection}\n    condition: s\ngnomon: {{ response: {{ action: block }} }}\n"
    );
    RuleSet::compile(&[Source { name: "r.yml".into(), text, origin: Origin::Admin }]).map_err(|errors| errors.to_string())
}

/// What is found in these texts of a field, each fed in pieces of this size, and how often each finding is told.
fn found(matcher: &mut TextMatcher, field: Field, texts: &[&str], size: usize) -> TextFindings {
    let mut hits = Vec::new();
    for text in texts {
        matcher.begin(field);
        hits.extend(matcher.fresh());
        for piece in text.as_bytes().chunks(size) {
            matcher.feed(piece);
            hits.extend(matcher.fresh());
        }
        matcher.end();
        hits.extend(matcher.fresh());
    }
    matcher.reset();
    let told = hits.len();
    hits.sort_unstable();
    hits.dedup();
    assert_eq!(hits.len(), told, "each is told once");
    let hits = hits.into_iter().map(|question| TextHit { question, field, path: "p".into() }).collect();
    TextFindings::new(if texts.is_empty() { Vec::new() } else { vec![field] }, hits)
}

fn blocks(rules: &RuleSet, seen: &Observation) -> bool {
    let answer = rules.judge(seen, Phase::Response, &mut rules.start());
    assert_eq!(answer, rules.one_shot(seen).answer, "both judges agree");
    matches!(answer, Answer::Decided(verdict) if verdict.action == Action::Block)
}

/// Whether the selection matches these texts: alike for the texts themselves and for what is found in them however they are cut.
fn matches(selection: &str, texts: &[&str]) -> bool {
    let field = Field::ToolResult;
    let rules = compile(selection).unwrap_or_else(|errors| panic!("{selection}: {errors}"));
    let mut whole = Observation::new();
    if !texts.is_empty() {
        whole.set(field, Value::List(texts.iter().map(|text| (*text).into()).collect()));
    }
    let expected = blocks(&rules, &whole);
    let mut matcher = rules.texts().unwrap().matcher();
    for size in [usize::MAX, 1, 2, 3, 5] {
        let mut seen = Observation::new();
        seen.set_texts(Some(Arc::new(found(&mut matcher, field, texts, size))));
        assert_eq!(blocks(&rules, &seen), expected, "{selection} in pieces of {size} of {texts:?}");
    }
    expected
}

#[test]
fn each_way_of_asking_finds_in_pieces_what_it_finds_in_the_whole() {
    let field = "gen_ai.tool.call.result";
    for (asks, text, expected) in [
        ("|contains: 'ignore all'", "please IGNORE ALL of it", true),
        ("|contains: 'ignore all'", "please ignore  all of it", false),
        ("|contains|cased: 'Ignore'", "please ignore", false),
        ("|contains: ['aaab', 'aab', 'ab']", "aaaaab", true),
        ("|contains|all: ['one', 'two']", "two and one", true),
        ("|contains|all: ['one', 'two']", "two and none", true),
        ("|contains|all: ['one', 'two']", "two", false),
        ("|startswith: 'abc'", "ABCD", true),
        ("|startswith: 'abc'", "xabc", false),
        ("|endswith: 'abc'", "ab abc", true),
        ("|endswith: 'abc'", "abc ", false),
        (": 'abc'", "aBc", true),
        (": 'abc'", "abcabc", false),
        (": ''", "", true),
        (": ''", "x", false),
        (": '*'", "", true),
        (": 'a*c?e'", "abbbcde", true),
        (": 'a*c?e'", "abbbcdde", false),
        ("|contains: 'ÄÖ?x'", "..äö\u{1f600}X..", true),
        ("|contains: 'ÄÖ?x'", "..äöx..", false),
        ("|re: 'a+b$'", "xaaab", true),
        ("|re: 'a+b$'", "xaaabc", false),
        ("|re: '^a'", "ba", false),
        (r"|re|i: '\bsudo\b'", "run SUDO now", true),
        (r"|re|i: '\bsudo\b'", "pseudonym", false),
        ("|re: 'x*'", "", true),
        ("|exists: true", "", true),
        ("|exists: false", "x", false),
        (": null", "x", false),
        ("|neq: 'x'", "x", false),
        ("|neq: 'x'", "y", true),
        ("|windash|contains: ' -f'", "rm /f", true),
    ] {
        assert_eq!(matches(&format!("{field}{asks}"), &[text]), expected, "{asks} in {text:?}");
    }
    assert!(matches(&format!("{field}|exists: false"), &[]) && matches(&format!("{field}: null"), &[]));
    assert!(!matches(&format!("{field}|contains: ab"), &["a", "b"]), "texts are not joined");
    assert!(matches(&format!("{field}|contains|all: [a, b]"), &["a", "b"]), "each needs some text");
}

#[test]
fn many_needles_are_found_as_few_are() {
    let needles: Vec<String> = (0..3000).map(|n| format!("needle-{n:05}-{}", "x".repeat(n % 7))).collect();
    let selection =
        format!("gen_ai.tool.call.result|contains: [{}]", needles.iter().map(|n| format!("'{n}'")).collect::<Vec<_>>().join(", "));
    assert!(matches(&selection, &["before NEEDLE-02999-xxx after"]));
    assert!(!matches(&selection, &["before needle-02999-x after"]));
}

#[test]
fn what_was_found_in_one_field_is_not_found_in_another() {
    let rules = compile("gen_ai.tool.description|contains: evil\n        gen_ai.tool.call.result|contains: good").unwrap();
    let mut matcher = rules.texts().unwrap().matcher();
    let in_field = |field| Arc::new(found(&mut matcher, field, &["good and evil"], 3));
    let [result, description] = [Field::ToolResult, Field::ToolDescription].map(in_field);
    for found in [&result, &description] {
        let mut seen = Observation::new();
        seen.set_texts(Some(found.clone()));
        assert!(!blocks(&rules, &seen) && seen.texts().unwrap().hits().len() == 1);
    }
}

#[test]
fn what_texts_that_pass_cannot_be_asked_is_an_error_with_the_reason() {
    for (asks, why) in [
        (": 5", "this field has texts; put the value in quotes"),
        (": true", "this field has texts; put the value in quotes"),
        ("|gt: 5", "`gen_ai.tool.call.result` is matched as it passes and never held, so it is compared with texts only"),
        ("|cidr: 10.0.0.0/8", "compared with texts only"),
        ("|fieldref: url.path", "compared with texts only"),
        ("|re: '(a|b)*a(a|b){24}'", "the regular expression is too large for texts of any length"),
        (r"|re: '\bé'", "write (?-u:\\b)"),
    ] {
        let errors = compile(&format!("gen_ai.tool.call.result{asks}")).unwrap_err();
        assert!(errors.contains(why), "{asks}: {errors}");
    }
    let errors = compile("url.path|fieldref: gen_ai.tool.call.result").unwrap_err();
    assert!(errors.contains("nothing can be compared with it"), "{errors}");
    let errors = compile(&format!("gen_ai.tool.call.result: '?{}'", "x".repeat(600))).unwrap_err();
    assert!(errors.contains("may have 512 characters here"), "{errors}");
}

fn pattern() -> impl Strategy<Value = String> {
    let modifier =
        prop_oneof![Just(""), Just("|contains"), Just("|startswith"), Just("|endswith"), Just("|cased"), Just("|contains|cased")];
    (modifier, "[aAbé*?]{1,5}").prop_map(|(modifier, value)| format!("gen_ai.tool.call.result{modifier}: '{value}'"))
}

fn expression() -> impl Strategy<Value = String> {
    let part = prop_oneof![Just("a"), Just("b+"), Just("[ab]"), Just("(a|bb)*"), Just("."), Just("A?"), Just("\\b")];
    (any::<bool>(), any::<bool>(), any::<bool>(), proptest::collection::vec(part, 1..5)).prop_map(|(start, end, folds, parts)| {
        let (start, end, folds) = (if start { "^" } else { "" }, if end { "$" } else { "" }, if folds { "|i" } else { "" });
        format!("gen_ai.tool.call.result|re{folds}: '{start}{}{end}'", parts.concat())
    })
}

proptest! {
    #[test]
    fn pieces_and_the_whole_give_the_same_verdict(selection in prop_oneof![pattern(), expression()], texts in proptest::collection::vec("[aAbBéÉ ]{0,9}", 0..4)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        matches(&selection, &texts);
    }
}
