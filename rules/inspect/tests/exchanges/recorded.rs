//! Recorded events, judged anew: what was seen on the wire counts as it did then.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Bounds, Inspector, Surroundings, judge_recorded};
use gnomon_observe::{Confidence, Evidence, Field, Lookup, Observation, Value};
use gnomon_wire::mcp::{Part, Signature, Strength};
use smol_str::SmolStr;
use std::sync::Arc;

/// Matches whatever is seen, so that weak evidence is reported as well.
const ANYTHING: &str = "title: t\nid: 00000000-0000-4000-8000-000000000001\nlogsource: {product: mcp, category: mcp_traffic}\n\
     detection:\n  s: {server.address: plain.example}\n  condition: s\nlevel: low\ngnomon: {class: policy}\n";

/// One that remembers nothing of any endpoint.
fn inspector() -> Arc<Inspector> {
    let rule = Source { name: "r.yml".into(), text: ANYTHING.to_owned(), origin: Origin::Admin };
    let rules = RuleSet::compile(&[rule]).unwrap_or_else(|errors| panic!("{errors}"));
    Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()))
}

/// An exchange with a server whose name says nothing, of which these signatures were recorded.
fn recorded(field: Field, signatures: &[&'static str]) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::Channel, "https");
    seen.set(Field::ServerAddress, "plain.example");
    seen.set(Field::ServerPort, 443_i64);
    seen.set(Field::UrlPath, "/");
    seen.set(field, signatures.iter().copied().map(SmolStr::new_static).collect::<Vec<_>>());
    seen
}

/// The confidence and the evidence of the only report.
fn judged(seen: Observation) -> (Option<String>, Vec<String>) {
    let reports = judge_recorded(&inspector(), seen);
    let [report] = &reports[..] else { panic!("one: {reports:?}") };
    let evidence = match report.seen.get(Field::Evidence) {
        Lookup::Value(Value::List(names)) => names.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    };
    (report.seen.text(Field::Confidence).map(str::to_owned), evidence)
}

#[test]
fn every_signature_counts_again_in_replay() {
    for signature in Signature::ALL {
        let (field, evidence) = match signature.part() {
            Part::Header => (Field::Signatures, Evidence::Header),
            Part::Body => (Field::Signatures, Evidence::Body),
            Part::Path => (Field::Signatures, Evidence::Path),
            Part::Response => (Field::ResponseSignatures, Evidence::Response),
        };
        let confidence = match signature.strength() {
            Strength::Weak => None,
            Strength::Suspected => Some(Confidence::Suspected),
            Strength::Probable => Some(Confidence::Probable),
            Strength::Confirmed => Some(Confidence::Confirmed),
        };
        let expected = confidence.map(|confidence| confidence.as_str().to_owned());
        let shown: Vec<String> = expected.iter().map(|_| evidence.as_str().to_owned()).collect();
        assert_eq!(judged(recorded(field, &[signature.as_str()])), (expected, shown), "{signature:?}");
    }
}

#[test]
fn a_signature_that_is_not_known_any_more_is_no_evidence_and_hides_no_other() {
    assert_eq!(judged(recorded(Field::Signatures, &["B99"])), (None, Vec::new()));
    assert_eq!(judged(recorded(Field::Signatures, &["B99", "B3"])), (Some("confirmed".to_owned()), vec!["body".to_owned()]));
}
