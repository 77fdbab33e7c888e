//! One request and its answer: the request side. See [`crate::response`] for the answer.

use crate::{
    Connection, Enforcement, Inspector, Sighting,
    connection::Place,
    dialogue::call::{Call, Early, Subject, Waits, id_text, names, note, without_body},
    dialogue::outcome::Pending,
    dialogue::refusal::{Form, Refusal, Target, Wants},
    dialogue::tally::{MAX_TOLD, Tally},
    http::answer_body::AnswerBody,
    http::charset::is_odd,
    http::named::{Named, lossy, text},
    http::reading::{Manner, Reading, Search, Values, codings, says_frames, says_grpc},
    http::request::{Frames, RequestBody},
    inspector::Endpoint,
    passage::{Asked, Passage, Signs},
    shadow::{tempered, would},
    sighting::{Findings, SpokeBefore, sightings},
};
use gnomon_engine::{Answer, Arguments, Mode, Origin, Progress, RuleSet, Verdict};
use gnomon_observe::{Action, Confidence, Evidence, Family, Field, Observation, Phase};
use gnomon_wire::{
    jsonrpc::{ArgumentCapture, Kind},
    mcp::{self, Part, Signature},
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

/// Most refused messages of one body that are answered each by its id, and most calls that are kept while nothing has left.
const MAX_TARGETS: usize = 512;

/// One request and its answer.
pub struct Exchange {
    pub(crate) inspector: Arc<Inspector>,
    pub(crate) rules: Arc<RuleSet>,
    /// What holds of every message of this exchange.
    pub(crate) base: Observation,
    pub(crate) base_progress: Progress,
    pub(crate) base_findings: Findings,
    enforcement: Enforcement,
    pub(crate) mirrored: Mirrored,
    wants: Wants,
    is_get: bool,
    says_mcp: bool,
    pub(crate) body: RequestBody,
    /// Why its messages are not read, if they are not.
    unread: Option<Passage>,
    /// An interfering verdict from before the message: the message is read only to answer well.
    pub(crate) forced: Option<Verdict>,
    /// Whether an interfering rule waits for the message.
    waits_for_message: bool,
    pub(crate) window_full: bool,
    pub(crate) request_over: bool,
    pub(crate) refused: Option<Verdict>,
    refusal_given: bool,
    targets: Vec<Target>,
    pub(crate) form: Form,
    pub(crate) calls: Vec<Call>,
    pub(crate) response: AnswerBody,
    /// Whether a rule could refuse an answer for what it says, whatever it answers.
    pub(crate) judges_strays: bool,
    /// Messages of the answer so far.
    pub(crate) answered: u32,
    pub(crate) reports: Vec<Sighting>,
    pub(crate) calls_reported: u32,
    /// Calls reported each by itself.
    told: u32,
    pub(crate) tally: Tally,
    /// Why no answer came or none was finished, with the detail.
    pub(crate) failure: Option<(SmolStr, SmolStr)>,
    /// Calls that were reported before their answers came.
    pub(crate) pending: Vec<Pending>,
}

/// Headers of 2026-07-28 that mirror the body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mirrored {
    pub method: Option<SmolStr>,
    pub name: Option<SmolStr>,
    pub version: Option<SmolStr>,
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
        let content_type = lossy(named.content_type);
        let json_expected = content_type.as_ref().is_some_and(|kind| kind.to_ascii_lowercase().contains("json"));
        let says_mcp = says_mcp(head.path, &findings);
        let framed = content_type.as_deref().is_some_and(says_frames);
        let search = match framed {
            _ if json_expected || says_mcp => Search::Whole,
            true => Search::Bytes,
            false => Search::Opening,
        };
        // Search engines take rows of documents here, and documents may be anything, messages of MCP included.
        let bulk = matches!(head.path.rsplit('/').next(), Some("_bulk" | "_msearch"));
        let values = if bulk && !says_mcp { Values::Rows } else { Values::One };
        let charset_is_odd = json_expected && content_type.as_deref().is_some_and(is_odd);
        let reading = (!charset_is_odd && may_carry_messages(head, json_expected, &findings))
            .then(|| Box::new(Reading::new(codings(head.headers), manner(&inspector, &rules, search, values))));
        let frames = if framed { Frames::Expected } else { Frames::No };
        let body = RequestBody::new(reading, frames, rules.wanted().body_text.then(Vec::new));
        let mut exchange = Self {
            wants: wants(accept),
            is_get: head.method == Method::GET,
            unread: unread_by_head(head, content_type.as_deref()),
            says_mcp,
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
            response: AnswerBody::new(endpoint),
            judges_strays: false,
            answered: 0,
            reports: Vec::new(),
            calls_reported: 0,
            told: 0,
            tally: Tally::default(),
            failure: None,
            pending: Vec::new(),
        };
        if charset_is_odd {
            exchange.judge_unreadable("charset");
        } else if !exchange.body.is_read() {
            exchange.judge_exchange();
        }
        exchange
    }

    /// What may be done with what was fed so far.
    pub fn gate(&mut self) -> Gate {
        if let Some(verdict) = self.refused {
            // A batch is answered whole, so the rest of it is read for its ids, within the window.
            let more = self.form == Form::Batch && self.body.is_read();
            if more && !self.window_full {
                return Gate::Hold;
            }
            return Gate::Refuse(Box::new(self.refuse(verdict)));
        }
        let reading = self.body.is_read() && !self.body.is_in_frames();
        if reading && !self.window_full && (self.forced.is_some() || self.waits_for_message) { Gate::Hold } else { Gate::Stream }
    }

    /// Why its messages pass unread, if they do and nothing refused them.
    #[must_use]
    pub fn passed(&self) -> Option<Passage> {
        self.unread.filter(|_| self.refused.is_none())
    }

    /// Says that its messages cannot be read, before it is judged as such.
    pub(crate) fn pass_on(&mut self, passage: Passage) {
        self.unread.get_or_insert(passage);
    }

    /// Whether the caller already got a refusal.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// The server leaves HTTP for WebSocket (101), and its head says for what: a client need not have asked for MCP by its name to get
    /// it. What must be answered instead, if it must not pass.
    pub fn switches(&mut self, headers: &HeaderMap) -> Option<Box<Refusal>> {
        let pairs = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let says_mcp = mcp::header_signatures(pairs).contains(Signature::H4);
        let known = self.base_findings.signatures.contains(Signature::H4);
        if self.unread != Some(Passage::WebSocket) || !says_mcp || known {
            return None;
        }
        self.base_findings.signatures.insert(Signature::H4);
        self.calls.retain(|call| call.subject != Subject::Exchange);
        self.judge_exchange();
        match self.gate() {
            Gate::Refuse(refusal) => Some(refusal),
            Gate::Hold | Gate::Stream => None,
        }
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

    pub(crate) fn judge_call(
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
        let answer = match (subject, self.unread) {
            (Subject::Exchange, Some(passage)) => {
                let signs = Signs::among(findings.signatures, seen.text(Field::UrlPath).unwrap_or_default());
                let asked = Asked { rules: &self.rules, signs, enforcement: self.enforcement(), phase: Phase::Message };
                passage.judge(asked, &mut seen, &mut progress)
            }
            _ => self.judge(&seen, Phase::Message, &mut progress),
        };
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
        let held = self.forced.is_some() || self.waits_for_message || self.refused.is_some();
        if held && self.targets.len() < MAX_TARGETS {
            self.targets.push(Target { id: id.clone(), method: method.clone(), kind });
        }
        self.calls.push(Call { seen, progress, findings, subject, id, method, waits, action, deciding, early: None });
        self.bound_calls();
        if self.window_full && self.refused.is_none() {
            self.targets.clear();
        }
    }

    /// An answer is awaited for so many calls and no more. The first that no rule waits with are reported as they are; where
    /// rules wait with all of them, the answers could not all be judged, and what cannot be judged is decided now.
    fn bound_calls(&mut self) {
        // While nothing has left, a call further on may still have all of them refused.
        let held = !self.window_full && (self.forced.is_some() || self.waits_for_message || self.refused.is_some());
        let most = if held { MAX_TARGETS } else { self.inspector.bounds.max_open_calls };
        if self.calls.len() <= most {
            return;
        }
        let index = self.calls.iter().position(|call| call.waits == Waits::No).unwrap_or_default();
        let mut call = self.calls.remove(index);
        if call.waits == Waits::ForAnswer {
            unread_answer(&mut call.seen);
            if let Some(verdict) = interfering(self.judge(&call.seen, Phase::Response, &mut call.progress)) {
                self.refused.get_or_insert(verdict);
            }
        }
        if let Some(verdict) = self.refused {
            (call.action, call.deciding) = (verdict.action, verdict.rule);
        }
        self.report(call, None);
    }

    /// Whether head and path say that a JSON-RPC message must be in the body.
    pub(crate) fn expects_message(&self) -> bool {
        !self.is_get && self.says_mcp
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
            self.flush_tally();
        }
        self.targets.clone_from(&refusal.targets);
        refusal
    }

    pub(crate) fn refusal(&self, verdict: Verdict, targets: Vec<Target>, form: Form) -> Refusal {
        let rule = verdict.rule.and_then(|index| self.rules.rule(index));
        let response = rule.map(|r| &r.response);
        let to = response.and_then(|r| r.to.as_deref());
        let location = response.filter(|r| r.action == Action::Redirect && r.mode == Mode::Location).and(to).map(str::to_owned);
        let text = refusal_text(rule, verdict.action);
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
        let Call { mut seen, progress, findings, action, deciding, early, .. } = call;
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
        let mut reports = sightings(&self.rules, &progress, seen, findings, action, deciding);
        let call = match early {
            // Told already, but for what its answer brought.
            Some(Early { number, rules }) => {
                reports.retain(|report| {
                    action.interferes()
                        || rules.is_none()
                        || report.rule.is_some_and(|rule| !rules.iter().flatten().any(|told| *told == rule))
                });
                if refusal.is_some() {
                    self.pending.retain(|pending| !pending.is_of(number));
                }
                number
            }
            None => {
                let number = self.calls_reported;
                self.calls_reported = number.saturating_add(1);
                number
            }
        };
        if self.told >= MAX_TOLD {
            self.tally.add(reports);
            return;
        }
        self.told += u32::from(!reports.is_empty());
        self.reports.extend(reports.into_iter().map(|report| Sighting { call, ..report }));
    }
}

pub(crate) fn set_signatures(seen: &mut Observation, findings: &Findings) {
    if !findings.signatures.is_empty() {
        seen.set(Field::Signatures, names(findings.signatures));
    }
}

/// Whether the body may carry messages. MCP posts them; with another method whose meaning is known only a
/// body that calls itself JSON, or headers of MCP, make it worth reading: an upload of a transcript is no call.
fn may_carry_messages(head: &Head<'_>, json: bool, findings: &Findings) -> bool {
    // Exact: a server that takes `put` for `PUT` may as well take it for `POST`.
    const OTHERS: [Method; 8] =
        [Method::GET, Method::HEAD, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS, Method::TRACE, Method::CONNECT];
    json || !OTHERS.contains(head.method) || findings.signatures.iter().any(is_header)
}

fn is_header(signature: Signature) -> bool {
    signature.part() == Part::Header
}

/// Whether a request's head says that it is MCP: by its headers or its path.
fn says_mcp(path: &str, findings: &Findings) -> bool {
    findings.signatures.iter().any(|s| is_header(s) || s == Signature::P1) || mcp::path_says_mcp(path)
}

/// How a request's body is read.
fn manner(inspector: &Inspector, rules: &RuleSet, search: Search, values: Values) -> Manner {
    let arguments = match rules.wanted().arguments {
        Arguments::Unwanted => ArgumentCapture::Off,
        _ => ArgumentCapture::On { max_bytes: inspector.bounds.max_arguments, max_leaves: 1024 },
    };
    Manner { values, ..Manner::of(&inspector.bounds, inspector.bounds.scanner(arguments), search) }
}

/// The strictest of the rules on what an answer says that match it, or could as far as the request is not known. An
/// administrator's `allow` sets vendors' rules aside here too.
pub(crate) fn undecided_by_answer(rules: &RuleSet, progress: &Progress) -> Option<Verdict> {
    let exempt = |rule: &gnomon_engine::Rule| rule.origin == Origin::Admin && rule.acts() == Action::Allow;
    let matched = || progress.matched().filter_map(|index| Some((index, rules.rule(index)?)));
    let exempted = matched().any(|(_, rule)| exempt(rule));
    let judged = |rule: &gnomon_engine::Rule| {
        rule.phase == Phase::Response
            && rule.acts().interferes()
            && SAID.iter().any(|field| rule.names(*field))
            && (rule.origin == Origin::Admin || !exempted)
    };
    let all = matched().chain(rules.open_rules(progress)).filter(|(_, rule)| judged(rule));
    let verdicts = all.map(|(index, rule)| Verdict { action: rule.acts(), rule: Some(index) });
    verdicts.reduce(|best, next| if next.action > best.action { next } else { best })
}

/// What the message of an answer says.
const SAID: [Field; 6] =
    [Field::McpServerName, Field::McpServerVersion, Field::Tools, Field::RpcStatus, Field::ResponseSignatures, Field::ErrorType];

/// What the answer says cannot be known: no rule may conclude anything from what it lacks.
pub(crate) fn unread_answer(seen: &mut Observation) {
    for field in SAID {
        seen.clear(field);
        seen.set_unreadable(field);
    }
}

/// What the head alone says of messages that are not JSON-RPC's over HTTP.
fn unread_by_head(head: &Head<'_>, content_type: Option<&str>) -> Option<Passage> {
    let websocket =
        |value: &http::HeaderValue| value.as_bytes().split(|b| *b == b',').any(|name| name.trim_ascii().eq_ignore_ascii_case(b"websocket"));
    if head.headers.get_all(http::header::UPGRADE).iter().any(websocket) {
        return Some(Passage::WebSocket);
    }
    content_type.is_some_and(says_grpc).then_some(Passage::Grpc)
}

/// What a client is told of a refusal: one line, which clients show to a model and to a person.
pub(crate) fn refusal_text(rule: Option<&gnomon_engine::Rule>, action: Action) -> String {
    let response = rule.map(|r| &r.response);
    let to = response.and_then(|r| r.to.as_deref());
    let text = match (response.and_then(|r| r.message.as_deref()), action, to) {
        (Some(message), _, Some(to)) if action == Action::Redirect && !message.contains(to) => format!("{message} Use {to} instead."),
        (Some(message), ..) => message.to_owned(),
        (None, Action::Redirect, Some(to)) => {
            format!("This MCP server is not sanctioned by your organisation. Use {to} instead. ({})", rule_words(rule))
        }
        (None, ..) => format!("Blocked by gnomon on behalf of your organisation: {}", rule_words(rule)),
    };
    text.split(['\r', '\n']).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" ")
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
