//! Turns an observation and the rules that matched it into reports: at most one report per class of
//! detection, so that one call is one alert.

use gnomon_engine::{Origin, Progress, Rule, RuleIndex, RuleSet};
use gnomon_observe::{Action, Class, Confidence, Evidence, EvidenceSet, Field, Observation};
use gnomon_wire::mcp::{Part, Signature, SignatureSet, Strength};
use smol_str::SmolStr;
use std::cmp::Reverse;

/// A report: the observation with its outcome fields filled.
#[derive(Clone, Debug)]
pub struct Sighting {
    /// The evidence, and the judgement on it.
    pub seen: Observation,
    /// The rule of this report; none where no rule matched.
    pub rule: Option<RuleIndex>,
    /// The action taken.
    pub action: Action,
    /// The class of the report.
    pub class: Class,
    /// The index of the call in its exchange, from 0: reports of one call share it.
    pub call: u32,
}

/// The signs of MCP found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Findings {
    pub signatures: SignatureSet,
    pub response_signatures: SignatureSet,
    pub evidence: EvidenceSet,
    pub message: MessageFinding,
    pub spoke_before: SpokeBefore,
    /// What a local server's start, or its entry in a file, says by itself.
    pub local: Option<Confidence>,
}

/// The type of the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MessageFinding {
    /// No message, or not one of MCP.
    #[default]
    None,
    /// A message that is probably of MCP: not quite of its form, or told by its method and its path together.
    Likely,
    /// A message of MCP.
    Mcp,
    /// Resembles JSON-RPC and cannot be read.
    Malformed,
}

/// A confirmed exchange of this client with this endpoint earlier, or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SpokeBefore {
    #[default]
    No,
    Yes,
}

impl Findings {
    /// The evidence and how sure it makes one (DESIGN: from signature to confidence).
    pub fn confidence(&self) -> (Option<Confidence>, EvidenceSet) {
        let mut evidence = self.evidence;
        let mut best: Option<Confidence> = evidence.contains(Evidence::Host).then_some(Confidence::Suspected);
        let mut raise = |to: Confidence| best = best.max(Some(to));
        self.local.into_iter().for_each(&mut raise);
        for signature in self.signatures.iter().chain(self.response_signatures.iter()) {
            let to = match signature.strength() {
                Strength::Confirmed if self.message == MessageFinding::Likely && signature.part() == Part::Body => Confidence::Probable,
                Strength::Confirmed => Confidence::Confirmed,
                Strength::Probable => Confidence::Probable,
                Strength::Suspected => Confidence::Suspected,
                // `ping` and the like say nothing by themselves; `message` tells when they count.
                Strength::Weak => continue,
            };
            raise(to);
            evidence.insert(evidence_of(signature));
        }
        match self.message {
            MessageFinding::Mcp => {
                raise(Confidence::Confirmed);
                evidence.insert(Evidence::Body);
            }
            MessageFinding::Malformed | MessageFinding::Likely => {
                raise(Confidence::Probable);
                evidence.insert(Evidence::Body);
            }
            MessageFinding::None if self.spoke_before == SpokeBefore::Yes => raise(Confidence::Probable),
            MessageFinding::None => {}
        }
        (best, evidence)
    }
}

fn evidence_of(signature: Signature) -> Evidence {
    match signature.part() {
        Part::Header => Evidence::Header,
        Part::Body => Evidence::Body,
        Part::Response => Evidence::Response,
        Part::Path => Evidence::Path,
    }
}

/// Builds the reports of one observation. `deciding` is the rule that interfered, if one did.
pub(crate) fn sightings(
    rules: &RuleSet,
    progress: &Progress,
    mut seen: Observation,
    findings: Findings,
    action: Action,
    deciding: Option<RuleIndex>,
) -> Vec<Sighting> {
    let (confidence, evidence) = findings.confidence();
    let mut matched: Vec<(RuleIndex, &Rule)> =
        progress.matched().chain(deciding).filter_map(|index| Some((index, rules.rule(index)?))).collect();
    let worth_telling = confidence >= Some(Confidence::Probable);
    if matched.is_empty() && !worth_telling {
        return Vec::new();
    }
    matched.sort_by(|a, b| rank(*a, deciding).cmp(&rank(*b, deciding)));
    matched.dedup_by_key(|(index, _)| *index);
    seen.set(Field::Action, action.as_str());
    if let Some(confidence) = confidence {
        seen.set(Field::Confidence, confidence.as_str());
        seen.set(Field::Evidence, evidence.iter().map(|e| SmolStr::new_static(e.as_str())).collect::<Vec<_>>());
    }
    if !matched.is_empty() {
        seen.set(Field::RulesMatched, matched.iter().map(|(_, rule)| rule.id.clone()).collect::<Vec<_>>());
    }
    // One report per class, by the first of its rules. Most calls have one class: its report takes the
    // observation, further ones take copies.
    let mut firsts: Vec<(RuleIndex, &Rule)> = Vec::with_capacity(2);
    for (index, rule) in &matched {
        if firsts.iter().all(|(_, first)| first.class != rule.class) {
            firsts.push((*index, rule));
        }
    }
    let Some(last) = firsts.pop() else {
        seen.set(Field::DetectionClass, Class::Mcp.as_str());
        return vec![Sighting { seen, rule: None, action, class: Class::Mcp, call: 0 }];
    };
    let mut reports: Vec<Sighting> = firsts.into_iter().map(|first| by_rule(seen.clone(), first, action)).collect();
    reports.push(by_rule(seen, last, action));
    reports
}

fn by_rule(mut seen: Observation, (index, rule): (RuleIndex, &Rule), action: Action) -> Sighting {
    seen.set(Field::RuleId, rule.id.clone());
    seen.set(Field::RuleName, rule.title.clone());
    seen.set(Field::RuleLevel, rule.level.as_str());
    seen.set(Field::DetectionClass, rule.class.as_str());
    Sighting { seen, rule: Some(index), action, class: rule.class, call: 0 }
}

/// The rank of a matched rule for standing for the report: the one that decided, then an administrator's, then the most serious, then the
/// one with the strongest evidence. Ids make the order total, so live and replay agree.
fn rank<'r>((index, rule): (RuleIndex, &'r Rule), deciding: Option<RuleIndex>) -> impl Ord + use<'r> {
    (deciding != Some(index), rule.origin != Origin::Admin, Reverse(rule.level), Reverse(rule.phase), rule.id.as_str())
}
