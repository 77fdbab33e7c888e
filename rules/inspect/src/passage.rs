//! The table of all reasons to pass traffic on unread.
//!
//! Bytes that are not read as HTTP and JSON-RPC are not just passed: code that is about to pass them on names the [`Passage`] and asks the
//! judge, a connection by [`Connection::pass`], an exchange by its own gate. Each entry says why (its reason is a label of
//! `gnomon_passed_total` and the value of `gnomon.passage` in events) and what an honest server could still make of the bytes
//! ([`Legibility`]), which decides how rules are judged. The trade-off: what a server could read and gnomon could not is refused where a
//! rule could match, and an event reports the refusal; what no server could take for HTTP passes as it would without gnomon, since a proxy
//! that breaks what it does not know gets switched off.

use crate::{
    Connection, Sighting, Telling,
    refusal_text::refusal_text,
    said::is_of_a_message,
    shadow::{interfering, tempered},
};
use gnomon_engine::{Answer, Enforcement, Progress, RuleSet, Verdict};
use gnomon_observe::{Action, Family, Field, FieldRef, Observation, Phase, Role};
use gnomon_wire::mcp::{self, Part, Signature, SignatureSet};

/// The protocol that a well-behaved server could read in a passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Legibility {
    /// HTTP, and so a message: all that a request says is *unknown*, and a rule that could match refuses.
    Unknown,
    /// Something of its own inside of HTTP that may carry messages as well as anything else. Message fields are unknown for rules
    /// that name the server or the path, and for all rules where MCP's headers, subprotocol or paths are seen; else absent.
    Opaque,
    /// No HTTP: what a request would say is *absent*, and rules on host, port and program hold.
    Absent,
    /// The operator has it passed on unread: rules that are decided by the server's name hold, those that would have to read do
    /// not stand in the way.
    Waived,
}

/// The part that is passed on unread, which decides the fields that are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// A connection, before a ClientHello was understood: its server name is not known either.
    Handshake,
    /// A connection, of which no request is read.
    Connection,
    /// A message, the head of whose request is read.
    Message,
}

macro_rules! passages {
    ($($id:ident $reason:literal $extent:ident $legibility:ident $telling:ident $doc:literal;)+) => {
        /// The reason that something is passed on unread.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Passage { $(#[doc = $doc] $id),+ }

        impl Passage {
            /// All variants.
            pub const ALL: &[Passage] = &[$(Self::$id),+];

            /// Its name: a label value, and the value of `gnomon.passage`.
            #[must_use]
            pub const fn reason(self) -> &'static str {
                match self { $(Self::$id => $reason),+ }
            }

            /// The part that is passed on unread.
            #[must_use]
            pub const fn extent(self) -> Extent {
                match self { $(Self::$id => Extent::$extent),+ }
            }

            /// The protocol that a server could read in it.
            #[must_use]
            pub const fn legibility(self) -> Legibility {
                match self { $(Self::$id => Legibility::$legibility),+ }
            }

            /// A description in one sentence.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$id => $doc),+ }
            }

            /// The reporting of it where no rule matches.
            const fn telling(self) -> Telling {
                match self { $(Self::$id => Telling::$telling),+ }
            }
        }
    };
}

passages! {
    Bypass "bypass" Connection Waived IfMatched "The configuration or a rule says that this server's connections are not read.";
    Disarmed "disarmed" Connection Waived IfMatched "The kill switch keeps gnomon from interfering.";
    BeyondShare "beyond_share" Connection Waived Always "A connection above its user's share, from a scope that enforces nothing.";
    HelloUnreadable "hello_unreadable" Handshake Unknown Always "TLS that gnomon does not open and some servers do: a ClientHello that is malformed, split in a way that no client does, in a record of another version or in the format of SSL 2.0, or within TLS.";
    HelloTooLong "hello_too_long" Handshake Unknown Always "A ClientHello of more than 64 KiB, or spread over more than 80 KiB.";
    ServerNameInvalid "server_name_invalid" Handshake Unknown Always "A ClientHello whose server name is not a host name.";
    ForeignAlpn "foreign_alpn" Connection Absent IfSuspected "The client asked for no application protocol (ALPN) that is HTTP by any of its names, and the server chose one of those, or HTTP is not what was said.";
    ForeignInTls "foreign_in_tls" Connection Absent IfSuspected "The client's bytes within TLS are not HTTP, and it asked for no protocol (ALPN).";
    Foreign "foreign" Connection Absent IfMatched "The client's first bytes are neither TLS nor HTTP.";
    RequestLineOdd "request_line_odd" Connection Unknown Always "A first line that names HTTP, or asks for a path, or a request's head, in a way that gnomon does not read and some servers do.";
    RequestLineLong "request_line_long" Connection Unknown Always "A first line of more than 16 KiB that may be a request's.";
    LineUnfinished "line_unfinished" Connection Absent IfMatched "The beginning of a line, after which the client waits; what follows is looked at before it leaves.";
    NothingSaid "nothing_said" Connection Absent IfMatched "The client closed its side before a first line or ClientHello was whole.";
    ServerFirst "server_first" Connection Absent IfMatched "The server spoke first, and not as HTTP does.";
    ServerFirstHttp "server_first_http" Connection Unknown Always "The server spoke first, in HTTP: what the client asks for is not known.";
    OtherProxy "other_proxy" Connection Unknown IfMatched "A request to another proxy that is not for a tunnel, or whose answer could not be followed.";
    OtherProxyOdd "other_proxy_odd" Connection Unknown Always "A first line that gnomon does not read, or not in time, and that may ask another proxy for any server.";
    ConnectWithin "connect_within" Connection Waived IfMatched "A request to another proxy for a tunnel: what is inside is read.";
    Upgraded "upgraded" Connection Unknown Always "What an HTTP/1.1 connection turns into behind an `Upgrade`, which is neither WebSocket nor HTTP by its name: its server may take anything there for a request.";
    WebSocket "websocket" Message Opaque IfSuspected "WebSocket messages.";
    Grpc "grpc" Message Opaque IfMatched "gRPC messages.";
    RequestWithin "request_within" Message Unknown Always "A body that begins as a request does: a server that answers without reading it takes it for the next request of the connection.";
    NoRoom "no_room" Message Unknown Always "A body that was not whole when there was no more room for such bodies: their bytes are bounded, in all and for each principal.";
    Rows "rows" Message Opaque IfSuspected "What follows the first value of a body whose path ends in `/_bulk` or `/_msearch`, where search engines take documents line by line.";
    EventsUnreadable "events_unreadable" Message Unknown Always "An event stream in a content coding or a character set that cannot be undone: what its server asks the client there is not known.";
    ForeignBody "foreign_body" Message Opaque IfMatched "A body in a content coding that cannot be undone, or that is not text, whose own bytes are not JSON-RPC.";
}

/// The judge's answer to passing a connection on.
#[derive(Clone, Debug)]
#[must_use]
pub enum Passed {
    /// Pass it on, and record these reports.
    Go(Vec<Sighting>),
    /// Do not, say this where the client's protocol has words, and record these.
    Refuse(Verdict, String, Vec<Sighting>),
}

/// MCP announced in the head of a request, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signs {
    None,
    OfMcp,
}

impl Signs {
    /// Headers, subprotocol and paths of MCP. `path` is the request's.
    pub fn among(signatures: SignatureSet, path: &str) -> Self {
        let of_mcp = |signature: Signature| matches!(signature.part(), Part::Header | Part::Path);
        if signatures.iter().any(of_mcp) || mcp::path_says_mcp(path) { Self::OfMcp } else { Self::None }
    }
}

impl Passage {
    /// Says of all that could not be read that it could not. To be called before the connection is judged where the extent is
    /// [`Extent::Handshake`], as what the ClientHello would say is final by then.
    pub fn veil(self, seen: &mut Observation) {
        if matches!(self.legibility(), Legibility::Absent | Legibility::Waived) {
            return;
        }
        if self.extent() == Extent::Handshake {
            [Field::Sni, Field::Ja4, Field::ClientRandom].into_iter().for_each(|field| seen.set_unreadable(field));
        }
        self.veil_request(seen);
    }

    /// Marks every field of a request or message as unreadable.
    fn veil_request(self, seen: &mut Observation) {
        let of_request = |field: Field| field.info().phase >= Phase::Head;
        let unread = |field: Field| match self.extent() {
            Extent::Handshake | Extent::Connection => of_request(field),
            Extent::Message => is_of_a_message(field),
        };
        for field in Field::all().filter(|field| field.info().role == Role::Evidence && *field != Field::Passage && unread(*field)) {
            seen.set_unreadable(field);
        }
        for family in Family::ALL {
            if self.extent() != Extent::Message || family == Family::Argument {
                seen.set_family_unreadable(family);
            }
        }
    }

    /// Judges traffic that is passed on unread. `phase` is the phase that ends with it, `progress` how far the rules are decided before.
    pub(crate) fn judge(self, asked: Asked<'_>, seen: &mut Observation, progress: &mut Progress) -> Answer {
        let Asked { rules, signs, enforcement, phase } = asked;
        seen.set(Field::Passage, self.reason());
        let judge = |seen: &Observation, phase, progress: &mut Progress| tempered(rules.judge(seen, phase, progress), enforcement);
        match self.legibility() {
            Legibility::Waived => {
                // A rule may ask why it passes, and what is known of the connection; whatever else it asks is not going to be known.
                let mut veiled = seen.clone();
                self.veil_request(&mut veiled);
                let _ = rules.judge(&veiled, Phase::Response, progress);
                tempered(Answer::Decided(rules.as_far_as_known(progress)), enforcement)
            }
            Legibility::Absent => judge(seen, phase, progress),
            Legibility::Unknown => {
                self.veil(seen);
                judge(seen, phase, progress)
            }
            Legibility::Opaque => {
                let (mut veiled, mut feared) = (seen.clone(), progress.clone());
                let answer = judge(seen, phase, progress);
                if interfering(answer).is_some() {
                    return answer;
                }
                self.veil(&mut veiled);
                if signs == Signs::None {
                    rules.leave_aimed(&mut feared);
                }
                let feared = judge(&veiled, Phase::Response, &mut feared);
                if interfering(feared).is_some() { feared } else { answer }
            }
        }
    }
}

/// The input to judging a passage.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub rules: &'a RuleSet,
    pub signs: Signs,
    pub enforcement: Enforcement,
    pub phase: Phase,
}

impl Connection {
    /// Asks whether this connection may be passed on unread. `outcome` is how its end is counted if it may. Its server must be
    /// known ([`Connection::hello`]).
    ///
    /// Where a server could read what gnomon cannot, the server's name is in what is not read as well (a server name in a ClientHello, a
    /// `Host`): one address serves many names, and nothing vouches for the one that the client asked gnomon for. So a rule that
    /// could match another name refuses too.
    pub fn pass(&self, passage: Passage, outcome: &'static str) -> Passed {
        match self.pass_under_its_name(passage, outcome) {
            Passed::Go(reports) if passage.legibility() == Legibility::Unknown => {
                match self.clone().led_anywhere().pass_under_its_name(passage, outcome) {
                    Passed::Go(_) => Passed::Go(reports),
                    refused @ Passed::Refuse(..) => refused,
                }
            }
            passed => passed,
        }
    }

    fn pass_under_its_name(&self, passage: Passage, outcome: &'static str) -> Passed {
        let (rules, mut seen, mut progress) = self.standing();
        let asked = Asked { rules: &rules, signs: Signs::None, enforcement: self.enforcement(), phase: Phase::Response };
        let answer = passage.judge(asked, &mut seen, &mut progress);
        match interfering(answer) {
            Some(verdict) => {
                let text = refusal_text(verdict.rule.and_then(|index| rules.rule(index)), verdict.action);
                seen.set(Field::Message, text.as_str());
                let reports = self.reported(&rules, &progress, seen, verdict, "refused", Telling::Always);
                Passed::Refuse(verdict, text, reports)
            }
            None => {
                let verdict = Verdict { action: Action::Allow, rule: None };
                Passed::Go(self.reported(&rules, &progress, seen, verdict, outcome, passage.telling()))
            }
        }
    }
}

impl Connection {
    /// The reports on a connection that gnomon must end without a rule, as it cannot pass on what comes next; `text` is the reason.
    #[must_use]
    pub fn cannot_pass(&self, passage: Passage, text: &str, outcome: &'static str) -> Vec<Sighting> {
        match self.pass(passage, outcome) {
            Passed::Refuse(_, _, reports) => reports,
            Passed::Go(_) => {
                let (rules, mut seen, mut progress) = self.standing();
                let asked = Asked { rules: &rules, signs: Signs::None, enforcement: self.enforcement(), phase: Phase::Response };
                let _ = passage.judge(asked, &mut seen, &mut progress);
                seen.set(Field::Message, text);
                self.reported(&rules, &progress, seen, Verdict { action: Action::Block, rule: None }, outcome, Telling::Always)
            }
        }
    }
}

/// Every field that a passage may leave unknown, for the documentation.
#[must_use]
pub fn unknown_fields(passage: Passage) -> Vec<FieldRef> {
    let mut seen = Observation::new();
    passage.veil(&mut seen);
    Field::all().map(FieldRef::Field).filter(|field| seen.look_up(field) == gnomon_observe::Lookup::Unreadable).collect()
}
