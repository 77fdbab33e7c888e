//! What all messages of a dialogue are judged by: the rules in force, and the evidence before the first message.

use super::{
    Mismatches, Opened,
    call::{Subject, note},
};
use crate::{
    Bounds, Connection, Enforcement, Inspector, Passage,
    in_force::InForce,
    inspector::Endpoint,
    passage::{Asked, Signs},
    shadow::tempered,
    sighting::{Findings, SpokeBefore},
};
use gnomon_engine::{Answer, Arguments, Progress, RuleIndex, Verdict};
use gnomon_observe::{Action, Confidence, Field, Observation, Phase};
use gnomon_wire::{
    jsonrpc::{ArgumentCapture, Limits},
    mcp::Signature,
};
use smol_str::SmolStr;
use std::sync::Arc;

/// Bytes of a request that `http.request.body.text` shows.
const TEXT_BYTES: usize = 1024;

/// The rules, and the evidence shared by every message.
pub(super) struct Basis {
    pub inspector: Arc<Inspector>,
    pub rules: Arc<InForce>,
    /// The enforcement that its connection was opened under.
    enforcement: Enforcement,
    /// The shared evidence.
    pub seen: Observation,
    /// The rules as decided by it.
    pub progress: Progress,
    pub findings: Findings,
    mismatches: Mismatches,
    endpoint: Arc<Endpoint>,
    /// Why messages are not read, if they are not.
    unread: Option<Passage>,
    /// The text for `http.request.body.text`, if a rule reads it.
    text: Option<Vec<u8>>,
}

impl Basis {
    /// With the rules' answer to the evidence before the first message.
    pub fn open(connection: &Connection, opened: Opened) -> (Self, Answer) {
        let Opened { rules, base: seen, mut progress, findings, endpoint, mismatches, unread, wants: _ } = opened;
        let answer = tempered(rules.judge(&seen, Phase::Head, &mut progress), connection.enforcement());
        let text = rules.wanted().body_text.then(Vec::new);
        let (inspector, enforcement) = (connection.inspector.clone(), connection.own_enforcement());
        (Self { inspector, rules, enforcement, seen, progress, findings, mismatches, endpoint, unread, text }, answer)
    }

    /// Holds a page of a list of tools against the one that its server gave before, and says what that was if it was another.
    pub fn tools_listed(&self, server: SmolStr, page: SmolStr, hash: [u8; 32]) -> Option<[u8; 32]> {
        self.inspector.tools_listed((*self.endpoint).clone(), server, page, hash)
    }

    /// The evidence with which a message begins.
    pub fn begin(&self) -> (Observation, Findings) {
        (self.seen.clone(), self.findings)
    }

    /// Judges by the rules, as far as verdicts are carried out at this moment.
    pub fn judge(&self, seen: &Observation, phase: Phase, progress: &mut Progress) -> Answer {
        tempered(self.rules.judge(seen, phase, progress), self.enforcement())
    }

    /// Judges a message of the request, or the exchange as such, with what is noted of every one.
    pub fn judge_request(&self, subject: Subject, findings: &Findings, seen: &mut Observation, progress: &mut Progress) -> Answer {
        for word in self.mismatches.into_iter().flatten() {
            note(seen, Field::Mismatch, word);
        }
        if let Some(text) = self.text.as_ref().filter(|text| !text.is_empty()) {
            seen.set(Field::BodyText, String::from_utf8_lossy(text).into_owned());
        }
        match (subject, self.unread) {
            (Subject::Exchange, Some(passage)) => {
                let signs = Signs::among(findings.signatures, seen.text(Field::UrlPath).unwrap_or_default());
                let asked = Asked { rules: &self.rules, signs, enforcement: self.enforcement(), phase: Phase::Message };
                passage.judge(asked, seen, progress)
            }
            _ => self.judge(seen, Phase::Message, progress),
        }
    }

    /// The enforcement at this moment.
    pub fn enforcement(&self) -> Enforcement {
        self.inspector.enforcement(self.enforcement)
    }

    /// The action and rule reported for a call that passes.
    pub fn passing(&self, progress: &Progress) -> (Action, Option<RuleIndex>) {
        let Verdict { action, rule } = self.rules.passing(progress);
        (action, rule)
    }

    /// The action and rule of a call as it is decided so far: a rule that still waits for an answer sets aside nothing that matches
    /// already.
    pub fn as_it_stands(&self, decided: (Action, Option<RuleIndex>), progress: &Progress) -> (Action, Option<RuleIndex>) {
        match decided {
            (Action::Allow, _) => self.passing(progress),
            decided => decided,
        }
    }

    pub fn bounds(&self) -> &Bounds {
        &self.inspector.bounds
    }

    /// The capture limits of a request's message.
    pub fn limits(&self) -> Limits {
        let bounds = self.bounds();
        bounds.scanner(match self.rules.wanted().arguments {
            Arguments::Unwanted => ArgumentCapture::Off,
            _ => ArgumentCapture::On { max_bytes: bounds.max_arguments, max_leaves: 1024 },
        })
    }

    pub fn unread(&self) -> Option<Passage> {
        self.unread
    }

    /// Marks messages as unreadable, before the exchange is judged as such.
    pub fn pass_on(&mut self, passage: Passage) {
        self.unread.get_or_insert(passage);
    }

    /// The same, whatever it was known to pass by before.
    pub fn passes_as(&mut self, passage: Passage) {
        self.unread = Some(passage);
    }

    /// The exchange is known to show this signature.
    pub fn shows(&mut self, signature: Signature) {
        self.findings.signatures.insert(signature);
    }

    /// The answer has this status.
    pub fn has_status(&mut self, status: Option<u16>) {
        self.seen.set_some(Field::HttpStatus, status.map(u64::from));
    }

    /// More of the request's text, for rules that look at its beginning.
    pub fn show_text(&mut self, plain: &[u8]) {
        if let Some(text) = &mut self.text {
            let room = TEXT_BYTES.saturating_sub(text.len());
            text.extend_from_slice(plain.get(..room).unwrap_or(plain));
        }
    }

    /// True if the head of the request identifies it as MCP.
    pub fn says_mcp(&self) -> bool {
        Signs::among(self.findings.signatures, self.seen.text(Field::UrlPath).unwrap_or_default()) == Signs::OfMcp
    }

    /// Remembers the endpoint where these are the first that show it to speak MCP.
    pub fn remember(&self, findings: &Findings) {
        if findings.spoke_before == SpokeBefore::No && findings.confidence().0 == Some(Confidence::Confirmed) {
            self.inspector.remember((*self.endpoint).clone());
        }
    }
}
