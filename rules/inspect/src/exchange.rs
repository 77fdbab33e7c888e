//! One request and its answer: the request side. See [`crate::response`] for the answer.

use crate::{
    Connection, Enforcement, Inspector, Sighting,
    answer::{Form, Refusal, Target, Wants},
    call::{Call, Subject, Waits, describe, describe_malformed, id_text, names, note, without_body},
    connection::Place,
    inspector::Endpoint,
    named::{Named, lossy, text},
    outcome::Pending,
    request_body::{RequestBody, State, Stop},
    response::ResponseBody,
    shadow::{tempered, would},
    sighting::{Findings, SpokeBefore, sightings},
};
use gnomon_engine::{Answer, Mode, Progress, RuleSet, Verdict};
use gnomon_observe::{Action, Confidence, Evidence, Family, Field, Observation, Phase};
use gnomon_wire::{
    jsonrpc::{Kind, Likeness, Malformed, Message},
    mcp::{self, Signature},
};
use http::{HeaderMap, Method, Version};
use smol_str::{SmolStr, format_smolstr};
use std::sync::Arc;

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, without the query.
    pub path: &'a str,
    /// The query, without its `?`.
    pub query: Option<&'a str>,
    /// The HTTP version on the client's side.
    pub version: Version,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The protocol that ALPN chose on the client's side.
    pub alpn: Option<&'static str>,
    /// Set where `Host` or `:authority` names another server than the connection is for.
    pub authority: Authority,
}

/// Whether a request is for the server that its connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// It is, or names none.
    Agrees,
    /// It names another: domain fronting or a confused client.
    Differs,
}

/// What may be done with the bytes that were fed so far.
#[derive(Clone, Debug)]
pub enum Gate {
    /// Forward them.
    Stream,
    /// Keep them (up to the window).
    Hold,
    /// Forward nothing of them; give this answer instead, or break off if the head has left.
    Refuse(Box<Refusal>),
}

/// One request and its answer.
pub struct Exchange {
    pub(crate) inspector: Arc<Inspector>,
    pub(crate) rules: Arc<RuleSet>,
    /// What holds of every message of this exchange.
    pub(crate) base: Observation,
    pub(crate) base_progress: Progress,
    pub(crate) base_findings: Findings,
    enforcement: Enforcement,
    mirrored: Mirrored,
    wants: Wants,
    json_expected: bool,
    is_get: bool,
    pub(crate) body: RequestBody,
    /// An interfering verdict from before the message: the message is read only to answer well.
    forced: Option<Verdict>,
    /// Whether an interfering rule waits for the message.
    waits_for_message: bool,
    window_full: bool,
    request_over: bool,
    refused: Option<Verdict>,
    refusal_given: bool,
    targets: Vec<Target>,
    form: Form,
    pub(crate) calls: Vec<Call>,
    pub(crate) response: ResponseBody,
    pub(crate) reports: Vec<Sighting>,
    pub(crate) calls_reported: u32,
    scratch: Vec<Message>,
    /// Why no answer came or none was finished, with the detail.
    pub(crate) failure: Option<(SmolStr, SmolStr)>,
    /// Calls that were reported before their answers came.
    pub(crate) pending: Vec<Pending>,
}

/// Headers of 2026-07-28 that mirror the body.
#[derive(Clone, Debug, Default)]
struct Mirrored {
    method: Option<SmolStr>,
    name: Option<SmolStr>,
    version: Option<SmolStr>,
    repeated: bool,
    authority_differs: bool,
}

impl Exchange {
    /// Begins with the request's head. Ask [`Exchange::gate`] what to do with it.
    #[must_use]
    pub fn begin(connection: &Connection, head: &Head<'_>) -> Self {
        let inspector = connection.inspector.clone();
        let (rules, mut base, mut progress) = connection.standing();
        let named = Named::among(head.headers);
        let accept = text(named.accept);
        let (findings, endpoint) = head_findings(connection, &inspector, head, &named, &mut base);
        let mirrored = Mirrored {
            method: lossy(named.mcp_method),
            name: lossy(named.mcp_name),
            version: lossy(named.mcp_version),
            repeated: named.mcp_repeated,
            authority_differs: head.authority == Authority::Differs,
        };
        for name in &rules.wanted().request_headers {
            for value in head.headers.get_all(name.as_str()) {
                base.set_member(Family::RequestHeader, name.clone(), String::from_utf8_lossy(value.as_bytes()).into_owned());
            }
        }
        let answer = tempered(rules.judge(&base, Phase::Head, &mut progress), connection.enforcement());
        let json_expected = text(named.content_type).is_some_and(|t| t.to_ascii_lowercase().contains("json"));
        let (body, stop) = if may_carry_messages(head, json_expected, &findings) {
            RequestBody::new(head.headers, rules.wanted(), &inspector.bounds)
        } else {
            let (body, _) = RequestBody::new(head.headers, rules.wanted(), &inspector.bounds);
            (body, Some(Stop::Foreign))
        };
        let mut exchange = Self {
            wants: wants(accept),
            json_expected,
            is_get: head.method == Method::GET,
            forced: interfering(answer),
            waits_for_message: matches!(answer, Answer::Needs(Phase::Message | Phase::Hello | Phase::Head)),
            enforcement: connection.own_enforcement(),
            inspector,
            rules,
            base,
            base_progress: progress,
            base_findings: findings,
            mirrored,
            body,
            window_full: false,
            request_over: false,
            refused: None,
            refusal_given: false,
            targets: Vec::new(),
            form: Form::Foreign,
            calls: Vec::new(),
            response: ResponseBody::new(endpoint),
            reports: Vec::new(),
            calls_reported: 0,
            scratch: Vec::with_capacity(1),
            failure: None,
            pending: Vec::new(),
        };
        if let Some(stop) = stop {
            exchange.stop(stop);
        }
        exchange
    }

    /// What may be done with what was fed so far.
    pub fn gate(&mut self) -> Gate {
        if let Some(verdict) = self.refused {
            // A batch is answered whole, so the rest of it is read for its ids, within the window.
            let more = self.form == Form::Batch && self.body.state == State::Scanning;
            if more && !self.window_full {
                return Gate::Hold;
            }
            return Gate::Refuse(Box::new(self.refuse(verdict)));
        }
        let reading = self.body.state == State::Scanning;
        if reading && !self.window_full && (self.forced.is_some() || self.waits_for_message) { Gate::Hold } else { Gate::Stream }
    }

    /// Feeds bytes of the body as they came off the wire (transfer coding removed, content coding
    /// not). They may be forwarded only if the gate says so.
    pub fn request_bytes(&mut self, raw: &[u8]) -> Gate {
        let mut messages = std::mem::take(&mut self.scratch);
        let stop = self.body.feed(raw, &mut messages);
        self.take_messages(&mut messages, stop);
        self.gate()
    }

    /// The request's body is over (or there was none).
    pub fn request_end(&mut self) -> Gate {
        if !self.request_over {
            self.request_over = true;
            let mut messages = std::mem::take(&mut self.scratch);
            let stop = self.body.end(&mut messages);
            self.take_messages(&mut messages, stop);
            if self.nothing_judged() {
                self.judge_exchange();
            }
        }
        self.gate()
    }

    /// The caller holds as much as it may. From now on the gate holds nothing: what was fed may go
    /// unless it is refused, and later bytes are judged as they come.
    pub fn window_full(&mut self) -> Gate {
        self.window_full = true;
        if let Some(verdict) = self.forced
            && self.refused.is_none()
        {
            let partial = self.body.partial().cloned();
            if let Some(message) = partial.filter(|m| m.method.is_some()) {
                self.judge_message(&message);
            }
            self.refused.get_or_insert(verdict);
        }
        self.gate()
    }

    /// Whether the caller already got a refusal.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Reports that are due, in order.
    pub fn reports(&mut self) -> impl Iterator<Item = Sighting> + '_ {
        self.reports.drain(..)
    }

    /// The rules this exchange is judged by.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    /// Whether the request is MCP by its headers or its path's session: how its answer is given.
    #[must_use]
    pub fn is_get(&self) -> bool {
        self.is_get
    }

    /// Whether the request was a POST of the legacy HTTP+SSE transport, whose answers go to the
    /// paired event stream.
    #[must_use]
    pub fn posts_to_event_stream(&self) -> bool {
        self.base_findings.signatures.contains(Signature::P1) && !self.base_findings.signatures.contains(Signature::H2)
    }

    fn take_messages(&mut self, messages: &mut Vec<Message>, stop: Option<Stop>) {
        for message in messages.iter() {
            self.judge_message(message);
        }
        messages.clear();
        self.scratch = std::mem::take(messages);
        if let Some(stop) = stop {
            self.stop(stop);
        }
    }

    fn judge_message(&mut self, message: &Message) {
        // Any JSON object reads as a message; what has neither method nor result is some other API's.
        if message.kind == Kind::Other && message.jsonrpc == gnomon_wire::jsonrpc::Version::Absent {
            return;
        }
        let batch = self.body.is_batch();
        self.form = if batch { Form::Batch } else { Form::Single };
        let (mut seen, mut findings) = (self.base.clone(), self.base_findings);
        describe(&mut seen, &mut findings, message, batch);
        let m = &self.mirrored;
        let mismatch = mcp::header_mismatch(message, m.method.as_deref(), m.name.as_deref(), m.version.as_deref());
        for name in mismatch.headers() {
            note(&mut seen, Field::Mismatch, name);
        }
        set_signatures(&mut seen, &findings);
        self.judge_call(seen, findings, Subject::Message(message.kind), message.id.clone(), message.method.clone());
    }

    /// Judges by the rules, as far as verdicts are carried out at this moment.
    pub(crate) fn judge(&self, seen: &Observation, phase: Phase, progress: &mut Progress) -> Answer {
        tempered(self.rules.judge(seen, phase, progress), self.enforcement())
    }

    /// Whether verdicts are carried out at this moment.
    pub(crate) fn enforcement(&self) -> Enforcement {
        self.inspector.enforcement(self.enforcement)
    }

    /// Whether neither a message nor the exchange as such was judged yet.
    pub(crate) fn nothing_judged(&self) -> bool {
        self.calls.is_empty() && self.targets.is_empty() && self.calls_reported == 0
    }

    /// The body told nothing: the exchange as such is judged.
    pub(crate) fn judge_exchange(&mut self) {
        let mut findings = self.base_findings;
        findings.signatures = without_body(findings.signatures);
        let mut seen = self.base.clone();
        set_signatures(&mut seen, &findings);
        self.judge_call(seen, findings, Subject::Exchange, None, None);
    }

    fn judge_call(
        &mut self,
        mut seen: Observation,
        findings: Findings,
        subject: Subject,
        id: Option<gnomon_wire::jsonrpc::Id>,
        method: Option<SmolStr>,
    ) {
        if self.mirrored.repeated {
            note(&mut seen, Field::Mismatch, "duplicate-header");
        }
        if self.mirrored.authority_differs {
            note(&mut seen, Field::Mismatch, "authority");
        }
        if let Some(text) = self.body.text.as_ref().filter(|t| !t.is_empty()) {
            seen.set(Field::BodyText, String::from_utf8_lossy(text).into_owned());
        }
        let mut progress = self.base_progress.clone();
        let answer = self.judge(&seen, Phase::Message, &mut progress);
        let (mut waits, mut action, mut deciding) = (Waits::No, Action::Allow, None);
        match (self.forced, answer) {
            (Some(verdict), _) | (None, Answer::Undecidable(verdict)) => {
                self.refused.get_or_insert(verdict);
            }
            (None, Answer::Decided(verdict)) if verdict.action.interferes() => {
                self.refused.get_or_insert(verdict);
            }
            (None, Answer::Decided(verdict)) => (action, deciding) = (verdict.action, verdict.rule),
            (None, Answer::Needs(_)) => waits = Waits::ForAnswer,
        }
        let kind = match subject {
            Subject::Message(kind) => kind,
            Subject::Exchange | Subject::Malformed => Kind::Other,
        };
        // Kept only where a refusal can come of it, and as far as the window reaches: a batch may be long.
        if self.forced.is_some() || self.waits_for_message || self.refused.is_some() {
            self.targets.push(Target { id: id.clone(), method: method.clone(), kind });
        }
        self.calls.push(Call { seen, progress, findings, subject, id, method, waits, action, deciding });
        // An answer is awaited for so many calls and no more; the first are reported as they are.
        if self.calls.len() > self.inspector.bounds.max_open_calls && self.refused.is_none() {
            let call = self.calls.remove(0);
            self.report(call, None);
        }
        if self.window_full && self.refused.is_none() {
            self.targets.clear();
        }
    }

    fn stop(&mut self, stop: Stop) {
        let reason = match stop {
            Stop::Foreign => None,
            Stop::Malformed(malformed) => {
                let like = self.body.likeness() > Likeness::None || (malformed == Malformed::Utf16 && self.json_expected);
                (like || self.expects_message()).then_some(malformed.as_str())
            }
            Stop::Undecodable(reason) => {
                (self.body.likeness() > Likeness::None || self.json_expected || self.expects_message()).then_some(reason)
            }
        };
        if reason.is_none() && matches!(stop, Stop::Malformed(_)) && !self.request_over {
            // Broken JSON that resembles nothing so far: it may yet, however it is cut.
            return;
        }
        self.body.state = State::Done;
        match reason {
            Some(reason) => {
                let (mut seen, mut findings) = (self.base.clone(), self.base_findings);
                describe_malformed(&mut seen, &mut findings, reason);
                set_signatures(&mut seen, &findings);
                if self.form == Form::Foreign {
                    self.form = Form::Unreadable;
                }
                self.judge_call(seen, findings, Subject::Malformed, None, None);
            }
            None if self.nothing_judged() => self.judge_exchange(),
            None => {}
        }
    }

    /// Whether head and path say that a JSON-RPC message must be in the body.
    fn expects_message(&self) -> bool {
        !self.is_get
            && self.base_findings.signatures.iter().any(|s| matches!(s, Signature::H1 | Signature::H2 | Signature::H3 | Signature::P1))
    }

    /// Makes the refusal and reports everything that it concerns.
    pub(crate) fn refuse(&mut self, verdict: Verdict) -> Refusal {
        let targets = std::mem::take(&mut self.targets);
        let refusal = self.refusal(verdict, targets, self.form);
        if !self.refusal_given {
            self.refusal_given = true;
            for mut call in std::mem::take(&mut self.calls) {
                call.action = verdict.action;
                call.deciding = verdict.rule;
                self.report(call, Some(&refusal));
            }
        }
        self.targets.clone_from(&refusal.targets);
        refusal
    }

    pub(crate) fn refusal(&self, verdict: Verdict, targets: Vec<Target>, form: Form) -> Refusal {
        let rule = verdict.rule.and_then(|index| self.rules.rule(index));
        let response = rule.map(|r| &r.response);
        let to = response.and_then(|r| r.to.as_deref());
        let location = response.filter(|r| r.action == Action::Redirect && r.mode == Mode::Location).and(to).map(str::to_owned);
        let text = match (response.and_then(|r| r.message.as_deref()), verdict.action, to) {
            (Some(message), _, Some(to)) if verdict.action == Action::Redirect && !message.contains(to) => {
                format!("{message} Use {to} instead.")
            }
            (Some(message), ..) => message.to_owned(),
            (None, Action::Redirect, Some(to)) => {
                format!("This MCP server is not sanctioned by your organisation. Use {to} instead. ({})", rule_words(rule))
            }
            (None, ..) => format!("Blocked by gnomon on behalf of your organisation: {}", rule_words(rule)),
        };
        // One line: clients show it to a model and to a person.
        let text = text.split(['\r', '\n']).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ");
        Refusal {
            action: verdict.action,
            rule: verdict.rule,
            rule_id: rule.map(|r| r.id.clone()).unwrap_or_default(),
            text,
            location,
            targets,
            form,
            wants: self.wants,
        }
    }

    /// Turns a call into its reports and remembers endpoints that spoke MCP.
    pub(crate) fn report(&mut self, call: Call, refusal: Option<&Refusal>) {
        let Call { mut seen, progress, findings, action, deciding, .. } = call;
        seen.set(Field::RequestSize, self.body.bytes);
        if !findings.response_signatures.is_empty() {
            seen.set(Field::ResponseSignatures, names(findings.response_signatures));
        }
        if self.response.bytes > 0 {
            seen.set(Field::ResponseSize, self.response.bytes);
        }
        if let Some(refusal) = refusal {
            seen.set(Field::Message, refusal.text.as_str());
        }
        if findings.spoke_before == SpokeBefore::No && findings.confidence().0 == Some(Confidence::Confirmed) {
            self.inspector.remember((*self.response.endpoint).clone());
        }
        let would = if refusal.is_some() { None } else { would(&self.rules, &progress, self.enforcement()) };
        seen.set_some(Field::Would, would.map(|(action, _)| action.as_str()));
        let deciding = would.map(|(_, rule)| rule).or(deciding.filter(|_| action.interferes() || action == Action::Allow));
        let call = self.calls_reported;
        self.calls_reported = call.saturating_add(1);
        let reports = sightings(&self.rules, &progress, seen, findings, action, deciding);
        self.reports.extend(reports.into_iter().map(|report| Sighting { call, ..report }));
    }
}

fn set_signatures(seen: &mut Observation, findings: &Findings) {
    if !findings.signatures.is_empty() {
        seen.set(Field::Signatures, names(findings.signatures));
    }
}

/// Whether the body may carry messages. MCP posts them; with another method only a body that calls
/// itself JSON, or headers of MCP, make it worth reading: an upload of a transcript is no call.
fn may_carry_messages(head: &Head<'_>, json: bool, findings: &Findings) -> bool {
    let mcp_header = |s| matches!(s, Signature::H1 | Signature::H2 | Signature::H3);
    head.method == Method::POST || json || findings.signatures.iter().any(mcp_header)
}

fn rule_words(rule: Option<&gnomon_engine::Rule>) -> SmolStr {
    rule.map_or(SmolStr::new_static("no rule"), |r| format_smolstr!("{} [rule {}]", r.title, r.id))
}

/// What must not pass, if this answer says so.
pub(crate) fn interfering(answer: Answer) -> Option<Verdict> {
    match answer {
        Answer::Decided(verdict) if verdict.action.interferes() => Some(verdict),
        Answer::Undecidable(verdict) => Some(verdict),
        Answer::Decided(_) | Answer::Needs(_) => None,
    }
}

fn wants(accept: Option<&str>) -> Wants {
    match accept {
        Some(a) if a.contains("text/event-stream") && !a.contains("application/json") && !a.contains("*/*") => Wants::Events,
        _ => Wants::Json,
    }
}

/// Writes the head into the observation and finds what in it points to MCP.
fn head_findings(
    connection: &Connection,
    inspector: &Inspector,
    head: &Head<'_>,
    named: &Named<'_>,
    base: &mut Observation,
) -> (Findings, Arc<Endpoint>) {
    let mut findings = Findings::default();
    if connection.host_points_to_mcp {
        findings.evidence.insert(Evidence::Host);
    }
    base.set(Field::HttpMethod, head.method.as_str());
    let Place { path, full, endpoint } = connection.place(head.path);
    base.set(Field::UrlPath, path);
    base.set(Field::UrlFull, full);
    base.set(Field::HttpVersion, version_text(head.version));
    base.set_some(Field::Alpn, head.alpn);
    base.set_some(Field::UserAgent, text(named.user_agent));
    base.set_some(Field::McpSessionId, text(named.mcp_session));
    base.set_some(Field::McpProtocolVersion, text(named.mcp_version));
    let headers = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let path_and_query = head.query.map_or_else(|| SmolStr::new(head.path), |query| format_smolstr!("{}?{query}", head.path));
    findings.signatures =
        mcp::header_signatures(headers).union(mcp::path_signatures(head.method.as_str(), &path_and_query, text(named.accept)));
    if let Some(named) = text(named.mcp_session).and_then(|session| inspector.session(&endpoint.server, session)) {
        base.set_some(Field::McpClientName, named.name);
        base.set_some(Field::McpClientVersion, named.version);
    }
    if inspector.remembers(&endpoint) {
        findings.spoke_before = SpokeBefore::Yes;
    }
    (findings, endpoint)
}

fn version_text(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "0.9",
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => "1.1",
    }
}

/// The id as the client wrote it, for matching answers.
pub(crate) fn same_id(a: Option<&gnomon_wire::jsonrpc::Id>, b: Option<&gnomon_wire::jsonrpc::Id>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a == b || id_text(a) == id_text(b),
        _ => false,
    }
}
