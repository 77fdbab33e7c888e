//! The first two phases: what is known of a connection before any request.

use crate::{
    Enforcement, Inspector, Reviews, Sighting,
    in_force::InForce,
    inspector::Endpoint,
    normal_host,
    shadow::{tempered, would},
    sighting::{Findings, SpokeBefore},
};
use gnomon_engine::{Answer, Mode, Progress, RuleSet, Verdict};
use gnomon_observe::{Action, Channel, Class, Confidence, Evidence, Field, Lookup, Observation, Phase, Value};
use parking_lot::Mutex;
use smol_str::{SmolStr, format_smolstr};
use std::sync::Arc;

/// The judged parts of a ClientHello.
#[derive(Clone, Debug, Default)]
pub struct Hello<'a> {
    /// The server name it asked for.
    pub sni: Option<&'a str>,
    /// Its random, 32 bytes.
    pub random: Option<&'a [u8; 32]>,
}

/// A client connection, judged at `Connect` and `Hello`, and the ground on which its exchanges are
/// judged.
#[derive(Clone)]
pub struct Connection {
    pub(crate) inspector: Arc<Inspector>,
    seen: Observation,
    rules: Arc<InForce>,
    progress: Progress,
    enforcement: Enforcement,
    reviews: Arc<Reviews>,
    host_points_to_mcp: bool,
    /// The upstream of a connection whose requests may be for any server; not judged by rules, only reported.
    leads_to: Option<SmolStr>,
    /// The last path asked for: requests of a connection mostly share theirs.
    place: Arc<Mutex<Option<RequestPath>>>,
}

/// A path on the connection's server, and what follows from the two.
#[derive(Clone)]
pub(crate) struct RequestPath {
    pub path: SmolStr,
    /// The value of `url.full`.
    pub full: SmolStr,
    pub endpoint: Arc<Endpoint>,
}

impl RequestPath {
    /// Writes what rules of web logs read of a URL beyond its path: it may carry secrets, so it is judged only.
    pub(crate) fn tell_all(&self, query: Option<&str>, seen: &mut Observation) {
        let with_query = |url: &SmolStr| query.map_or_else(|| url.clone(), |query| format_smolstr!("{url}?{query}"));
        seen.set(Field::UrlOriginal, vec![with_query(&self.full), with_query(&self.path)]);
        seen.set_some(Field::UrlQuery, query);
        let last = self.path.rsplit('/').next().unwrap_or_default();
        seen.set_some(Field::UrlExtension, last.rsplit_once('.').map(|(_, extension)| extension).filter(|extension| !extension.is_empty()));
    }
}

impl Connection {
    /// Judges the evidence of a new connection: addresses, port, process, user.
    #[must_use]
    pub fn open(inspector: &Arc<Inspector>, seen: Observation) -> (Self, Answer) {
        Self::open_under(inspector, seen, Enforcement::Enforce)
    }

    /// [`Connection::open`] under this enforcement.
    #[must_use]
    pub fn open_under(inspector: &Arc<Inspector>, seen: Observation, enforcement: Enforcement) -> (Self, Answer) {
        let rules = inspector.in_force();
        let reviews = inspector.reviews();
        let mut progress = rules.start();
        let answer = rules.judge(&seen, Phase::Connect, &mut progress);
        let connection = Self {
            inspector: inspector.clone(),
            seen,
            rules,
            progress,
            enforcement,
            reviews,
            host_points_to_mcp: false,
            leads_to: None,
            place: Arc::default(),
        };
        let answer = tempered(answer, connection.enforcement());
        (connection, answer)
    }

    /// True if it was opened under the rules and decisions in force now. One that was not is judged correctly all the same, and anew for
    /// each of its requests.
    #[must_use]
    pub fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.inspector.in_force(), &self.rules) && Arc::ptr_eq(&self.inspector.reviews(), &self.reviews)
    }

    /// The enforcement at this moment.
    pub(crate) fn enforcement(&self) -> Enforcement {
        self.inspector.enforcement(self.enforcement)
    }

    /// The enforcement that the connection was opened under.
    pub(crate) fn own_enforcement(&self) -> Enforcement {
        self.enforcement
    }

    /// Judges the server's name. `target` is what the client asked the proxy for; an SNI stands
    /// above it, as that is what the server will go by.
    pub fn hello(&mut self, target: &str, port: u16, hello: &Hello<'_>) -> Answer {
        self.place = Arc::default();
        let server = normal_host(hello.sni.unwrap_or(target));
        let surroundings = self.inspector.surroundings();
        let entry = surroundings.catalogue.lookup(&server);
        self.seen.set_some(Field::Catalogue, entry.map(|e| e.kind.as_str()));
        self.inspector.describe_standing(&mut self.seen, &self.reviews, &server, port);
        // The portal says for itself which server it calls.
        if self.seen.text(Field::ServerId).is_none() {
            self.seen.set_some(Field::ServerId, surroundings.registered.at(&server, port).cloned());
        }
        self.seen.set_some(Field::Sni, hello.sni);
        self.seen.set_some(Field::ClientRandom, hello.random.map(hex::encode));
        self.host_points_to_mcp = self.inspector.host_points_to_mcp(&server);
        self.seen.set(Field::ServerAddress, server);
        self.seen.set(Field::ServerPort, port);
        let answer = self.rules.judge(&self.seen, Phase::Hello, &mut self.progress);
        tempered(answer, self.enforcement())
    }

    /// The rules in force now, what is known of the connection, and how far the rules are decided by that. A
    /// connection can outlive its rules and what was decided about its server: then its two phases are
    /// judged anew.
    pub(crate) fn standing(&self) -> (Arc<InForce>, Observation, Progress) {
        let (rules, reviews) = (self.inspector.in_force(), self.inspector.reviews());
        let mut seen = self.seen.clone();
        if Arc::ptr_eq(&rules, &self.rules) && Arc::ptr_eq(&reviews, &self.reviews) {
            return (rules, seen, self.progress.clone());
        }
        if let (Some(server), Lookup::Value(Value::Int(port))) = (self.seen.text(Field::ServerAddress), self.seen.get(Field::ServerPort)) {
            self.inspector.describe_standing(&mut seen, &reviews, server, u16::try_from(*port).unwrap_or_default());
        }
        let mut progress = rules.start();
        let _ = rules.judge(&seen, Phase::Connect, &mut progress);
        let _ = rules.judge(&seen, Phase::Hello, &mut progress);
        (rules, seen, progress)
    }

    pub(crate) fn place(&self, path: &str) -> RequestPath {
        let mut last = self.place.lock();
        match &*last {
            Some(place) if place.path == path => place.clone(),
            _ => last.insert(self.make_place(path)).clone(),
        }
    }

    /// Initial findings about a request to this endpoint, before it is read.
    pub(crate) fn findings(&self, endpoint: &Endpoint) -> Findings {
        let mut findings = Findings::default();
        if self.host_points_to_mcp {
            findings.evidence.insert(Evidence::Host);
        }
        if self.inspector.remembers(endpoint) {
            findings.spoke_before = SpokeBefore::Yes;
        }
        findings
    }

    fn make_place(&self, path: &str) -> RequestPath {
        let endpoint = Endpoint::of(&self.seen, path);
        let Endpoint { server, port, .. } = &endpoint;
        let (scheme, usual) = if self.seen.text(Field::Channel) == Some(Channel::Http.as_str()) { ("http", 80) } else { ("https", 443) };
        let authority = if server.contains(':') { format_smolstr!("[{server}]") } else { server.clone() };
        let full = if *port == usual { format!("{scheme}://{authority}{path}") } else { format!("{scheme}://{authority}:{port}{path}") };
        RequestPath { path: path.into(), full: full.into(), endpoint: Arc::new(endpoint) }
    }

    /// True if a decided rule says that the connection is passed on unread. Rules that would need to read it do not stand in the way;
    /// that is what a bypass is for.
    #[must_use]
    pub fn is_bypassed(&self) -> bool {
        self.progress
            .matched()
            .filter_map(|index| self.rules.rule(index))
            .any(|rule| rule.acts() == Action::Allow && rule.response.mode == Mode::Bypass)
    }

    /// True if a rule refuses the connection by the evidence so far, whatever the client sends next.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        let (rules, seen, mut progress) = self.standing();
        let answer = tempered(rules.judge(&seen, Phase::Hello, &mut progress), self.enforcement());
        matches!(answer, Answer::Decided(verdict) if verdict.action.interferes())
    }

    /// The same connection, should it lead to a server of this name as well: of the two, the one by whose name more rules may
    /// interfere. Where each name has rules of its own, the server's name is not known, and what names one is undecidable.
    #[must_use]
    pub fn also_at(self, name: &str, port: u16) -> Self {
        if self.seen.text(Field::ServerAddress) == Some(&*normal_host(name)) {
            return self;
        }
        let mut seen = self.seen.clone();
        for field in [Field::Catalogue, Field::ServerId, Field::ServerReview, Field::Sanctioned, Field::ServerAddress] {
            seen.clear(field);
        }
        let mut other = Self { progress: self.rules.start(), seen, place: Arc::default(), ..self.clone() };
        let _ = self.rules.judge(&other.seen, Phase::Connect, &mut other.progress);
        let _ = other.hello(name, port, &Hello::default());
        match (other.rules.fears_no_more(&other.progress, &self.progress), self.rules.fears_no_more(&self.progress, &other.progress)) {
            (true, _) => self,
            (false, true) => other,
            (false, false) => self.led_anywhere(),
        }
    }

    /// The same connection if its server is not known: rules that name a server are undecidable.
    #[must_use]
    pub(crate) fn led_anywhere(mut self) -> Self {
        self.leads_to = self.seen.text(Field::ServerAddress).map(SmolStr::new).or(self.leads_to);
        for field in [Field::Catalogue, Field::ServerId, Field::ServerReview, Field::Sanctioned, Field::ServerAddress] {
            self.seen.clear(field);
            self.seen.set_unreadable(field);
        }
        self.progress = self.rules.start();
        let _ = self.rules.judge(&self.seen, Phase::Connect, &mut self.progress);
        let _ = self.rules.judge(&self.seen, Phase::Hello, &mut self.progress);
        self
    }

    /// The servers that are denied by name, in order of the alphabet: a program may ask for them by address.
    #[must_use]
    pub fn denied_servers(&self) -> &[SmolStr] {
        self.reviews.denied()
    }

    /// The rules this connection was judged by.
    #[must_use]
    pub fn rules(&self) -> &Arc<RuleSet> {
        self.rules.set()
    }

    /// The evidence so far.
    #[must_use]
    pub fn seen(&self) -> &Observation {
        &self.seen
    }

    /// The report of a connection that is not read as HTTP: bypassed, passed through, refused, or
    /// broken. Empty where no rule matched, nothing points to MCP, and `telling` does not insist.
    #[must_use]
    pub fn report(&self, action: Action, outcome: &'static str, telling: Telling) -> Vec<Sighting> {
        self.reported(&self.rules, &self.progress, self.seen.clone(), Verdict { action, rule: None }, outcome, telling)
    }

    /// The report of a connection that ended before anything of it was read: nothing went on, so a rule that refuses it by then has
    /// its way.
    #[must_use]
    pub fn broken_off(&self, outcome: &'static str, telling: Telling) -> Vec<Sighting> {
        let (rules, seen, mut progress) = self.standing();
        let decided = tempered(rules.judge(&seen, Phase::Hello, &mut progress), self.enforcement());
        let verdict = match decided {
            Answer::Decided(verdict) if verdict.action.interferes() => verdict,
            _ => Verdict { action: Action::Allow, rule: None },
        };
        self.reported(&rules, &progress, seen, verdict, outcome, telling)
    }

    /// The same of what is known by now, and where it is a verdict, by the rule that decided.
    pub(crate) fn reported(
        &self,
        rules: &RuleSet,
        progress: &Progress,
        mut seen: Observation,
        verdict: Verdict,
        outcome: &'static str,
        telling: Telling,
    ) -> Vec<Sighting> {
        // The verdict of the rules that match: logged, or allowed by name.
        let Verdict { action, rule } = match verdict.action {
            Action::Allow => rules.passing(progress),
            _ => verdict,
        };
        seen.set(Field::FlowOutcome, outcome);
        if let (None, Some(server)) = (seen.text(Field::ServerAddress), &self.leads_to) {
            seen.clear(Field::ServerAddress);
            seen.set(Field::ServerAddress, server.clone());
        }
        let mut findings = Findings::default();
        if self.host_points_to_mcp {
            findings.evidence.insert(Evidence::Host);
        }
        let would = if action.interferes() { None } else { would(rules, progress, self.enforcement()) };
        seen.set_some(Field::Would, would.map(|(action, _)| action.as_str()));
        let deciding = would.map(|(_, rule)| rule).or(rule.filter(|_| action.interferes() || action == Action::Allow));
        let reports = crate::sighting::sightings(rules, progress, seen.clone(), findings, action, deciding);
        let suspected = self.host_points_to_mcp && !matches!(seen.get(Field::Sanctioned), Lookup::Value(Value::Bool(true)));
        let class = match telling {
            _ if !reports.is_empty() => return reports,
            Telling::Always => Class::Health,
            Telling::IfSuspected if suspected => Class::Mcp,
            Telling::IfSuspected | Telling::IfMatched => return reports,
        };
        if class == Class::Mcp {
            seen.set(Field::Confidence, Confidence::Suspected.as_str());
            seen.set(Field::Evidence, vec![SmolStr::new_static(Evidence::Host.as_str())]);
        }
        seen.set(Field::Action, action.as_str());
        seen.set(Field::DetectionClass, class.as_str());
        vec![Sighting { seen, rule: None, action, class, call: 0 }]
    }
}

/// The reporting of a connection that shows nothing suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Only if a rule matched.
    IfMatched,
    /// If a rule matched, or the server's name alone points to MCP and the server is not sanctioned.
    IfSuspected,
    /// In any case: an operator must know.
    Always,
}
