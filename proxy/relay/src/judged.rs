//! Messages between clients and servers, judged by the rules.
//!
//! A request and its answer are a dialogue, as in the inline proxy, judged by the same rules and written
//! into the same ledger. It is judged as its server gets it, with the server's own names, before anything
//! is sent; each message of the answer before the client gets it. Of HTTP it has what is true of how its server is asked: a server
//! with an address is posted to, one that is a process is not.

use crate::{error::CallError, large, shares};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_http::Scheme;
use gnomon_inspect::{Connection, Dialogue, Hello, Inspector, Post, Refusal};
use gnomon_observe::{Action, Channel, Field, Observation};
use gnomon_record::{JudgedExchange, Recorder};
use gnomon_upstream::{
    Asked, Client, News, Reach,
    carried::CarriedOut,
    members::Members,
    rpc::{Id, Message, Outcome, quoted},
};
use http::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use smol_str::SmolStr;
use std::{collections::VecDeque, net::IpAddr, sync::Arc, time::Instant};

/// The number of recent connections kept for each server.
const RECENT: usize = 8;

/// The rules, and where what they find is written.
#[derive(Clone)]
pub struct Rules {
    /// The judge.
    pub inspector: Arc<Inspector>,
    /// The recorder.
    pub recorder: Arc<Recorder>,
}

/// The rules for one server.
pub struct Judge {
    rules: Rules,
    channel: Channel,
    portal: SmolStr,
    server: SmolStr,
    /// The server's address; none if it is a process.
    place: Option<ServerPlace>,
    recent: Recent,
}

struct ServerPlace {
    host: SmolStr,
    port: u16,
    path: SmolStr,
}

/// The caller of a message.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    /// The caller in policy.
    pub caller: &'a Caller,
    /// The program that they use.
    pub client: &'a Client,
    /// The client's `User-Agent`.
    pub agent: Option<&'a HeaderValue>,
    /// The execution of Code Mode that asks.
    pub execution: Option<&'a SmolStr>,
    /// The program that the connection comes from.
    pub program: Option<&'a Observation>,
}

/// The properties that distinguish one caller's connection from another's, for callers whose properties do not change from call to call.
#[derive(PartialEq, Eq)]
struct Who {
    address: IpAddr,
    name: Option<SmolStr>,
    groups: Vec<SmolStr>,
    client: Bytes,
}

impl Who {
    fn of(Whose { caller, client, execution, program, .. }: Whose<'_>) -> Option<Self> {
        (execution.is_none() && program.is_none()).then(|| Self {
            address: caller.address,
            name: name(caller),
            groups: caller.groups.to_vec(),
            client: client.info.clone(),
        })
    }
}

/// The connections that were used last, as those of the inline proxy last for many requests.
#[derive(Default)]
struct Recent(Mutex<VecDeque<(Who, Arc<Connection>)>>);

impl Recent {
    fn list(&self) -> MutexGuard<'_, VecDeque<(Who, Arc<Connection>)>> {
        self.0.lock()
    }

    fn get(&self, who: &Who) -> Option<Arc<Connection>> {
        let found = self.list().iter().find(|(other, _)| other == who).map(|(_, connection)| connection.clone());
        found.filter(|connection| connection.is_current())
    }

    fn keep(&self, who: Who, connection: Connection) -> Arc<Connection> {
        let connection = Arc::new(connection);
        let mut list = self.list();
        list.retain(|(other, _)| *other != who);
        list.truncate(RECENT - 1);
        list.push_front((who, connection.clone()));
        connection
    }
}

/// A message as it is judged: pieces of its JSON.
struct Text<'a> {
    opening: String,
    body: &'a [u8],
}

impl Text<'_> {
    fn pieces(&self) -> [&[u8]; 3] {
        [self.opening.as_bytes(), self.body, b"}"]
    }
}

impl Judge {
    /// The judge of a server of a portal.
    pub fn new(rules: Rules, portal: &SmolStr, server: &SmolStr, reach: &Reach) -> Self {
        let place = reach.endpoint().map(|endpoint| ServerPlace {
            host: endpoint.host().into(),
            port: endpoint.port(),
            path: endpoint.path().path().into(),
        });
        let channel = match reach.endpoint().map(|endpoint| endpoint.scheme()) {
            Some(Scheme::Https) => Channel::Https,
            Some(Scheme::Http) => Channel::Http,
            None => Channel::Stdio,
        };
        Self { rules, channel, portal: portal.clone(), server: server.clone(), place, recent: Recent::default() }
    }

    /// The observation before any message.
    fn seen(&self, program: Option<&Observation>) -> Observation {
        let mut seen = program.cloned().unwrap_or_default();
        seen.set(Field::Channel, self.channel.as_str());
        seen.set(Field::Vantage, "portal");
        seen.set(Field::HostName, gnomon_record::this_host());
        seen.set(Field::PortalId, self.portal.clone());
        seen.set(Field::ServerId, self.server.clone());
        // For servers with an address, reviews are looked up; the others are sanctioned by being offered.
        seen.set(Field::Sanctioned, true);
        seen
    }

    /// The server went, or came back.
    pub fn server_is(&self, health: &'static str, message: &str) {
        self.rules.server_is((&self.portal, &self.server), health, message);
    }

    /// Judges a client's request. Returns its dialogue until its answer ends, and the strictest action of the rules for it, or their
    /// refusal.
    pub async fn request(
        &self,
        whose: Whose<'_>,
        id: &Id,
        method: &SmolStr,
        params: Option<&Bytes>,
    ) -> (Judged, Result<Result<Action, Box<Refusal>>, CallError>) {
        let dialogue = match Who::of(whose) {
            Some(who) => {
                let connection = self.recent.get(&who).unwrap_or_else(|| self.recent.keep(who, self.connection_of(whose)));
                self.dialogue_on(&connection, whose.agent)
            }
            None => self.dialogue_on(&self.connection_of(whose), whose.agent),
        };
        let judged = Arc::new(JudgedExchange::new(dialogue, &self.rules.recorder, Instant::now()));
        let owner = shares::owner(whose.caller);
        let (bytes, id, method, params, exchange) =
            (params.map_or(0, Bytes::len), id.clone(), method.clone(), params.cloned(), judged.clone());
        let judge = move || exchange.with(|dialogue| dialogue.request_message(&request(&id, &method, params.as_ref()).pieces()));
        let passes = large::read(&owner, bytes, judge).await;
        (Judged(Some(Open { exchange: judged, status: self.status(), owner })), passes)
    }

    /// Judges a request that leaves once more by the rules in force now: the strictest action that they have for it, or their refusal. Its
    /// dialogue goes on, and is the one that has the answer; what refuses it is reported here.
    ///
    /// # Errors
    /// [`CallError::Unread`].
    pub async fn once_more(
        &self,
        whose: Whose<'_>,
        id: &Id,
        method: &SmolStr,
        params: Option<&Bytes>,
    ) -> Result<Result<Action, Box<Refusal>>, CallError> {
        let mut seen = self.seen(whose.program);
        describe(&mut seen, whose);
        let mut dialogue = self.dialogue(seen, whose.agent);
        let (bytes, owner) = (params.map_or(0, Bytes::len), shares::owner(whose.caller));
        let (id, method, params, recorder) = (id.clone(), method.clone(), params.cloned(), self.rules.recorder.clone());
        let judge = move || {
            let passes = dialogue.request_message(&request(&id, &method, params.as_ref()).pieces());
            recorder.report(dialogue.reports().filter(|sighting| sighting.rule.is_some()).collect());
            passes
        };
        large::read(&owner, bytes, judge).await
    }

    /// Judges what a client says without a call: the strictest action that rules have for it, or how they refuse it.
    ///
    /// # Errors
    /// The refusal.
    pub fn said(&self, whose: Whose<'_>, message: &[u8]) -> Result<Action, Box<Refusal>> {
        let mut seen = self.seen(whose.program);
        describe(&mut seen, whose);
        let mut dialogue = self.dialogue(seen, whose.agent);
        let passes = dialogue.request_message(&[message]).and_then(|action| dialogue.answer_over().map(|()| action));
        self.rules.recorder.report(dialogue.reports().filter(|sighting| sighting.rule.is_some()).collect());
        passes
    }

    /// Judges what a server says to a client that asked nothing, for the owner of its session.
    ///
    /// # Errors
    /// [`CallError::Refused`], [`CallError::Unread`].
    pub async fn unasked(&self, owner: &SmolStr, client: &Client, message: &Message) -> Result<(), CallError> {
        if !matches!(message, Message::Request(_) | Message::Notification(_)) {
            return Ok(());
        }
        let mut seen = self.seen(None);
        describe_client(&mut seen, client);
        let mut dialogue = self.dialogue(seen, None);
        let (bytes, message, recorder) = (length(message), message.clone(), self.rules.recorder.clone());
        let judged = move || {
            let passes = hears(&mut dialogue, &message);
            recorder.report(dialogue.reports().filter(|sighting| sighting.rule.is_some()).collect());
            passes.map_err(CallError::Refused)
        };
        large::read(owner, bytes, judged).await?
    }

    /// Judges what the portal itself asked a server and was told.
    ///
    /// # Errors
    /// [`CallError::Refused`], [`CallError::Unread`].
    pub async fn own(&self, asked: &Asked<'_>, outcome: &Outcome, news: News) -> Result<(), CallError> {
        let mut dialogue = self.dialogue(self.seen(None), None);
        let id = Id::number(0);
        let params = asked.cursor.map(|cursor| Bytes::from(format!(r#"{{"cursor":{}}}"#, quoted(cursor))));
        let (method, outcome, status, recorder) = (SmolStr::new(asked.method), outcome.clone(), self.status(), self.rules.recorder.clone());
        let (Outcome::Result(body) | Outcome::Error(body)) = &outcome;
        let bytes = body.len();
        let judge = move || {
            let passes = dialogue.request_message(&request(&id, &method, params.as_ref()).pieces()).and_then(|_| {
                dialogue.answer_begins(status);
                dialogue.answer_message(&answer(&id, &outcome).pieces())?;
                dialogue.answer_over()
            });
            let tells = |found: bool| match news {
                News::Some => true,
                News::Findings => found,
                News::None => false,
            };
            recorder.report(dialogue.reports().filter(|sighting| passes.is_err() || tells(sighting.rule.is_some())).collect());
            passes.map_err(CallError::Refused)
        };
        large::read(&self.server, bytes, judge).await?
    }

    /// See [`Inspector::edition`](gnomon_inspect::Inspector::edition).
    pub fn edition(&self) -> u64 {
        self.rules.inspector.edition()
    }

    /// The status of an answer that has begun.
    fn status(&self) -> Option<u16> {
        self.place.is_some().then_some(200)
    }

    fn connection_of(&self, whose: Whose<'_>) -> Connection {
        let mut seen = self.seen(whose.program);
        describe(&mut seen, whose);
        self.connection(seen)
    }

    fn connection(&self, seen: Observation) -> Connection {
        let (mut connection, _) = Connection::open(&self.rules.inspector, seen);
        if let Some(ServerPlace { host, port, .. }) = &self.place {
            // The verdict of a connection is the first that its messages get.
            let _ = connection.hello(host, *port, &Hello::default());
        }
        connection
    }

    fn dialogue(&self, seen: Observation, agent: Option<&HeaderValue>) -> Dialogue {
        self.dialogue_on(&self.connection(seen), agent)
    }

    fn dialogue_on(&self, connection: &Connection, agent: Option<&HeaderValue>) -> Dialogue {
        match &self.place {
            Some(place) => Dialogue::post(
                connection,
                &Post {
                    path: &place.path,
                    accept: "application/json, text/event-stream",
                    content_type: "application/json",
                    user_agent: agent.map(HeaderValue::as_bytes),
                },
            ),
            None => Dialogue::begin(connection, |seen| seen.set_some(Field::UserAgent, agent.and_then(|agent| agent.to_str().ok()))),
        }
    }
}

/// A request that passed, until its answer ends.
#[derive(Clone)]
pub struct Judged(Option<Open>);

#[derive(Clone)]
struct Open {
    exchange: Arc<JudgedExchange<Dialogue>>,
    /// The status of its answer, where its channel has one.
    status: Option<u16>,
    /// Whose turn it takes to read what is large.
    owner: SmolStr,
}

impl Judged {
    /// A dialogue without rules.
    pub fn unjudged() -> Self {
        Self(None)
    }

    /// The answer.
    ///
    /// # Errors
    /// [`CallError::Withheld`], [`CallError::Unread`].
    pub async fn answered(&self, id: &Id, outcome: &Outcome) -> Result<(), CallError> {
        let (id, outcome) = (id.clone(), outcome.clone());
        let (Outcome::Result(body) | Outcome::Error(body)) = &outcome;
        self.passes(body.len(), move |dialogue, status| {
            dialogue.answer_begins(status);
            let passes = dialogue.answer_message(&answer(&id, &outcome).pieces()).and_then(|()| dialogue.answer_over());
            passes.map_err(|refusal| CallError::Withheld(refusal, says_of_the_call(&outcome)))
        })
        .await
    }

    /// Judges a message of the server before its answer. Of a question, the words are judged as what the server says in that answer.
    ///
    /// # Errors
    /// [`CallError::Refused`], [`CallError::Unread`].
    pub async fn hears(&self, message: &Message) -> Result<(), CallError> {
        let message = message.clone();
        self.passes(length(&message), move |dialogue, status| {
            if let Message::Request(_) = &message {
                // Its words are the answer's.
                dialogue.answer_begins(status);
            }
            hears(dialogue, &message).map_err(CallError::Refused)
        })
        .await
    }

    /// Notes that there was no answer.
    pub fn failed(&self, error: &CallError) {
        if let Some(Open { exchange, .. }) = &self.0 {
            exchange.with(|dialogue| dialogue.failed(error.kind(), &error.to_string()));
            exchange.finish();
        }
    }

    /// Ends it, however it went.
    pub fn finish(&self) {
        if let Some(Open { exchange, .. }) = &self.0 {
            exchange.finish();
        }
    }

    async fn passes(
        &self,
        bytes: usize,
        judge: impl FnOnce(&mut Dialogue, Option<u16>) -> Result<(), CallError> + Send + 'static,
    ) -> Result<(), CallError> {
        let Some(Open { exchange, status, owner }) = &self.0 else { return Ok(()) };
        let (exchange, status) = (exchange.clone(), *status);
        large::read(owner, bytes, move || exchange.with(|dialogue| judge(dialogue, status))).await?
    }
}

fn hears(dialogue: &mut Dialogue, message: &Message) -> Result<(), Box<Refusal>> {
    spoken(message).map_or(Ok(()), |text| dialogue.answer_message(&text.pieces()))
}

/// The length of a message's payload, bytes.
fn length(message: &Message) -> usize {
    match message {
        Message::Request(asked) => asked.params().map_or(0, Bytes::len),
        Message::Notification(told) => told.params.as_ref().map_or(0, Bytes::len),
        Message::Response(_) => 0,
    }
}

/// What an answer says of its call: an error may have come at any point of it, and what asks for input or began a task goes on. What
/// a tool says that failed is its answer all the same.
fn says_of_the_call(outcome: &Outcome) -> CarriedOut {
    let Outcome::Result(result) = outcome else { return CarriedOut::Perhaps };
    let is_over = Members::read(result).is_ok_and(|members| {
        let complete = members.get("resultType").is_none_or(|kind| kind == "\"complete\"");
        complete && members.get("task").is_none()
    });
    if is_over { CarriedOut::Yes } else { CarriedOut::Perhaps }
}

fn request<'a>(id: &Id, method: &str, params: Option<&'a Bytes>) -> Text<'a> {
    let (id, method) = (id.json(), quoted(method));
    let opening = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":"#);
    Text { opening, body: params.map_or(b"{}", |params| params) }
}

fn notification<'a>(method: &str, params: Option<&'a Bytes>) -> Text<'a> {
    let opening = format!(r#"{{"jsonrpc":"2.0","method":{},"params":"#, quoted(method));
    Text { opening, body: params.map_or(b"{}", |params| params) }
}

fn answer<'a>(id: &Id, outcome: &'a Outcome) -> Text<'a> {
    let (member, body) = match outcome {
        Outcome::Result(body) => ("result", body),
        Outcome::Error(body) => ("error", body),
    };
    Text { opening: format!(r#"{{"jsonrpc":"2.0","id":{},"{member}":"#, id.json()), body }
}

/// The text of a server's unsolicited message.
fn spoken(message: &Message) -> Option<Text<'_>> {
    match message {
        Message::Request(asked) => Some(request(&asked.id, &asked.method, asked.params())),
        Message::Notification(told) => Some(notification(&told.method, told.params.as_ref())),
        Message::Response(_) => None,
    }
}

fn name(caller: &Caller) -> Option<SmolStr> {
    caller.email.clone().or_else(|| caller.user.clone())
}

/// Describes the caller in events and rules.
pub fn describe(seen: &mut Observation, Whose { caller, client, execution, .. }: Whose<'_>) {
    seen.set_some(Field::ExecutionId, execution.cloned());
    seen.set(Field::SourceAddress, caller.address.to_string());
    // The authenticated user takes precedence over the user that the program runs as.
    if let Some(name) = name(caller) {
        seen.set(Field::UserName, name);
    }
    if !caller.groups.is_empty() {
        seen.set(Field::UserGroups, caller.groups.to_vec());
    }
    describe_client(seen, client);
}

fn describe_client(seen: &mut Observation, client: &Client) {
    let (name, version) = client.named();
    seen.set_some(Field::McpClientName, name);
    seen.set_some(Field::McpClientVersion, version);
}
