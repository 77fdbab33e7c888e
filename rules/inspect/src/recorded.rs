//! Judging an observation that was written down earlier: the phases are walked as they were live,
//! and left where they would have been left.

use crate::{
    Inspector, Sighting,
    dialogue::describe_malformed,
    inspector::Endpoint,
    local::{is_local, judge_local},
    normal_host,
    sighting::{Findings, MessageFinding, SpokeBefore, sightings},
};
use gnomon_engine::Answer;
use gnomon_observe::{Action, Confidence, Evidence, Field, Lookup, Observation, Phase, Role, Value};
use gnomon_wire::mcp::{Signature, SignatureSet};
use std::sync::Arc;

/// Judges a recorded event by the rules in force now. What an earlier judgement wrote into it is
/// taken out first, and what surroundings say of the server is looked up anew. Fields that are never
/// stored (arguments, body text) are missing, so rules on them cannot match here: replay a HAR for
/// those.
#[must_use]
pub fn judge_recorded(inspector: &Arc<Inspector>, mut seen: Observation) -> Vec<Sighting> {
    let likely = seen.text(Field::Confidence) == Some(Confidence::Probable.as_str());
    for field in Field::all().filter(|f| f.info().role == Role::Outcome) {
        seen.clear(field);
    }
    if is_local(&seen) {
        for field in [Field::Catalogue, Field::Sanctioned, Field::ServerReview] {
            seen.clear(field);
        }
        return judge_local(inspector, seen);
    }
    let server = normal_host(seen.text(Field::ServerAddress).unwrap_or_default());
    let port = match seen.get(Field::ServerPort) {
        Lookup::Value(value) => value.as_int().and_then(|p| u16::try_from(p).ok()).unwrap_or_default(),
        _ => 0,
    };
    inspector.describe_standing(&mut seen, &inspector.reviews(), &server, port);
    let surroundings = inspector.surroundings();
    let entry = surroundings.catalogue.lookup(&server);
    seen.clear(Field::Catalogue);
    seen.set_some(Field::Catalogue, entry.map(|e| e.kind.as_str()));

    let mut findings = Findings {
        signatures: signatures(&seen, Field::Signatures),
        response_signatures: signatures(&seen, Field::ResponseSignatures),
        ..Findings::default()
    };
    if inspector.host_points_to_mcp(&server) {
        findings.evidence.insert(Evidence::Host);
    }
    if let Some(reason) = seen.text(Field::Malformed).map(str::to_owned) {
        describe_malformed(&mut seen, &mut findings, &reason);
    } else if seen.text(Field::McpMethod).is_some() {
        findings.message = if likely { MessageFinding::Likely } else { MessageFinding::Mcp };
    }

    let endpoint = Endpoint::of(&seen, seen.text(Field::UrlPath).unwrap_or_default());
    if inspector.remembers(&endpoint) {
        findings.spoke_before = SpokeBefore::Yes;
    }
    if findings.confidence().0 == Some(Confidence::Confirmed) {
        inspector.remember(endpoint);
    }
    let rules = inspector.rules();
    let mut progress = rules.start();
    for phase in Phase::ALL {
        // Evidence later than this phase is not in the judge's way: it looks no further.
        let verdict = match rules.judge(&seen, *phase, &mut progress) {
            Answer::Decided(verdict) if verdict.action.interferes() => verdict,
            Answer::Undecidable(verdict) => verdict,
            Answer::Decided(_) | Answer::Needs(_) => continue,
        };
        // The message is read even where it is refused before: the answer needs it. So its rules
        // are judged as well, but nothing of the answer, which never came.
        if *phase < Phase::Message {
            let _ = rules.judge(&seen, Phase::Message, &mut progress);
        }
        if *phase < Phase::Response {
            forget_answer(&mut seen);
            findings.response_signatures = SignatureSet::EMPTY;
        }
        return sightings(&rules, &progress, seen, findings, verdict.action, verdict.rule);
    }
    let answer = rules.judge(&seen, Phase::Response, &mut progress);
    let (action, deciding) = match answer {
        Answer::Decided(verdict) => (verdict.action, verdict.rule),
        Answer::Undecidable(_) | Answer::Needs(_) => (Action::Allow, None),
    };
    sightings(&rules, &progress, seen, findings, action, deciding.filter(|_| action == Action::Allow))
}

fn forget_answer(seen: &mut Observation) {
    for field in Field::all().filter(|f| f.info().phase == Phase::Response) {
        seen.clear(field);
    }
}

fn signatures(seen: &Observation, field: Field) -> SignatureSet {
    let mut set = SignatureSet::EMPTY;
    if let Lookup::Value(Value::List(names)) = seen.get(field) {
        for signature in Signature::ALL.iter().filter(|s| names.iter().any(|n| n == s.as_str())) {
            set.insert(*signature);
        }
    }
    set
}
