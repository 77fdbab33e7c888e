//! Keeps one server's lists and presence true.

use crate::{
    api::Api,
    catalogue::{Kind, MAX_ENTRIES, MAX_PAGES, Page},
    conversation::{Answer, Conversation, Said},
    era::Era,
    error::UpstreamError,
    left_out::{self, LeftOut, Reason, named},
    legacy::{Client, LegacySession, Listening, ServerFace},
    members::Members,
    modern::{ModernPeer, with_meta},
    oversight::{News, Oversight},
    pipe::Pipe,
    rpc::{self, Message, Outcome},
    server::{Presence, Upstream},
};
use bytes::Bytes;
use gnomon_kit::Backoff;
use http::HeaderMap;
use serde_json::json;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How often a server is looked at while nothing is amiss.
const LOOK: Duration = Duration::from_secs(15);
/// How long it may take to answer that.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// How often the lists of a server are fetched that does not say when they change.
const REFRESH: Duration = Duration::from_secs(120);
/// How long fetching one page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(20);
/// How long after fetching lists that have changed they are fetched again, however often the server says so in between.
const BETWEEN_CHANGES: Duration = Duration::from_secs(1);
/// How long it may take to fetch the pages of a list after the first.
const PAGES_PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take until a server has said what it is.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before a server that is gone is tried again, at first and at most.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

/// Something about a server's offer changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its list of this kind.
    List(Kind),
    /// The content of a resource; its own URI.
    Resource(SmolStr),
    /// It came or went.
    Presence,
}

/// What fetching a list showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetched {
    /// It is as it was.
    Same,
    /// It changed, which was told.
    Changed,
}

/// Our own connection to a server.
enum Own {
    /// Each request says who asks.
    Modern(Arc<ModernPeer>, Client),
    Legacy(Arc<LegacySession>),
}

/// Where a server says what changes.
enum Watching {
    Session(Listening),
    Subscription(Conversation),
    /// A subscription on a shared line, where what is told stands among the rest.
    Line(Conversation, mpsc::Receiver<Message>),
    /// It does not.
    Not,
}

impl<H: Oversight> Upstream<H> {
    /// Keeps the server's presence and lists true, for ever.
    pub async fn keep(self: Arc<Self>) {
        if let Some(api) = self.reach.api() {
            self.offer(api).await;
            std::future::pending::<()>().await;
        }
        let mut retry = RETRY;
        loop {
            match self.connect().await {
                Ok(own) => {
                    retry.reset();
                    let why = self.stay(&own).await;
                    if let Own::Legacy(session) = &own {
                        session.close().await;
                    }
                    self.modern.store(None);
                    // It may only have been restarted: then it is back before anybody notices.
                    if matches!(why, UpstreamError::SessionGone | UpstreamError::Aborted) {
                        continue;
                    }
                    self.gone(why);
                }
                Err(why) => self.gone(why),
            }
            let _ = tokio::time::timeout(retry.failed(), self.look.notified()).await;
        }
    }

    /// It is down. Told once, however often it is found.
    pub(super) fn gone(&self, why: UpstreamError) {
        tracing::warn!(server = %self.id, "is down: {why}");
        let changed = self.presence.send_if_modified(|presence| match presence {
            Presence::Down { why: old, .. } => {
                *old = why;
                false
            }
            _ => {
                let face = presence.face().cloned();
                *presence = Presence::Down { since: Instant::now(), why, face };
                true
            }
        });
        if changed {
            self.tell(Change::Presence);
        }
    }

    fn tell(&self, change: Change) {
        // Nobody needs to listen.
        let _ = self.changes.send((self.id.clone(), change));
    }

    async fn connect(&self) -> Result<Own, UpstreamError> {
        let greeted = tokio::time::timeout(CONNECT_PATIENCE, self.greet()).await;
        let own = greeted.map_err(|_| UpstreamError::Timeout(CONNECT_PATIENCE))??;
        self.fetch_all(&own).await?;
        if let Own::Modern(peer, _) = &own {
            self.modern.store(Some(peer.clone()));
        }
        tracing::info!(server = %self.id, "is there");
        self.presence.send_replace(self.present(&own));
        self.tell(Change::Presence);
        Ok(own)
    }

    async fn greet(&self) -> Result<Own, UpstreamError> {
        let client = &self.own;
        Ok(match self.reach.modern(client).await {
            Ok(peer) => Own::Modern(Arc::new(peer), client.clone()),
            Err(error @ (UpstreamError::Unreachable { .. } | UpstreamError::Unauthorized(_) | UpstreamError::NotStarted(_))) => {
                return Err(error);
            }
            // Whatever else a server says to a method that it does not know: it is of the other era.
            Err(_) => Own::Legacy(self.reach.legacy(client).await?),
        })
    }

    /// What a document describes is listed once: it does not change while gnomon runs.
    async fn offer(&self, api: &Arc<Api>) {
        let entries = api.judged(&self.id, &self.held).await;
        self.lists.store(Arc::new(self.lists.load().with(Kind::Tool, entries.into())));
        let own = Own::Modern(Arc::new(ModernPeer::of_api(api.clone())), self.own.clone());
        if let Own::Modern(peer, _) = &own {
            self.modern.store(Some(peer.clone()));
        }
        self.presence.send_replace(own.presence());
        self.tell(Change::Presence);
        self.tell(Change::List(Kind::Tool));
    }

    /// What it says of itself, before the rules as its lists are: instructions that they refuse are not passed on.
    fn present(&self, own: &Own) -> Presence {
        let presence = own.presence();
        let Presence::Up { era, face } = &presence else { return presence };
        let Some(instructions) = face.instructions.as_ref().filter(|_| self.held.judges()) else { return presence };
        let method = if *era == Era::Modern { "server/discover" } else { "initialize" };
        let said = json!({
            "instructions": instructions,
            "capabilities": serde_json::from_slice::<serde_json::Value>(&face.capabilities).unwrap_or_default(),
            "serverInfo": face.info.as_ref().and_then(|info| serde_json::from_slice::<serde_json::Value>(info).ok()),
        });
        match self.held.judge(method, &Outcome::of(&said), News::None) {
            Ok(()) => presence,
            Err(why) => {
                tracing::warn!(server = %self.id, "its instructions are not passed on: {why}");
                Presence::Up { era: *era, face: Arc::new(ServerFace { instructions: None, ..(**face).clone() }) }
            }
        }
    }

    /// It answers: whoever took it for gone was wrong.
    fn is_there(&self, own: &Own) {
        if self.presence.borrow().is_up() {
            return;
        }
        let present = self.present(own);
        let back = self.presence.send_if_modified(|presence| {
            let was_down = !presence.is_up();
            if was_down {
                *presence = present.clone();
            }
            was_down
        });
        if back {
            self.tell(Change::Presence);
        }
    }

    /// Stays connected until that ends; says why.
    async fn stay(&self, own: &Own) -> UpstreamError {
        let mut watched = self.watched();
        let mut watching = watch(own, &watched).await;
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        look.reset();
        let mut refreshed = Instant::now();
        let (mut due, mut at) = (Vec::new(), Instant::now());
        loop {
            tokio::select! {
                said = watching.next() => match said {
                    Some(message) => {
                        if let Err(why) = self.heard(own, &message, &mut due).await {
                            return why;
                        }
                    }
                    // Streams end, with their server or without; it is listened again after the next look.
                    None => {
                        watching = Watching::Not;
                        if let Err(why) = probe(own).await {
                            return why;
                        }
                    }
                },
                _ = look.tick() => {
                    if let Err(why) = probe(own).await {
                        return why;
                    }
                    self.is_there(own);
                    if let Watching::Not = watching {
                        watching = watch(own, &watched).await;
                    }
                    if refreshed.elapsed() >= REFRESH {
                        refreshed = Instant::now();
                        if let Err(why) = self.fetch_all(own).await {
                            return why;
                        }
                    }
                }
                () = own.closed() => return UpstreamError::Aborted,
                () = self.look.notified() => {
                    if let Err(why) = probe(own).await {
                        return why;
                    }
                    self.is_there(own);
                }
                () = self.rewatch.notified() => {
                    let now = self.watched();
                    if now != watched {
                        match own {
                            Own::Legacy(session) => resubscribe(session, &watched, &now).await,
                            Own::Modern(..) => watching = watch(own, &now).await,
                        }
                        watched = now;
                    }
                }
                () = self.refresh.notified() => offered(own.capabilities()).for_each(|kind| add(&mut due, kind)),
                () = tokio::time::sleep_until(at.into()), if !due.is_empty() => {
                    if let Err(why) = self.fetch_changed(own, std::mem::take(&mut due)).await {
                        return why;
                    }
                    at = Instant::now() + BETWEEN_CHANGES;
                }
            }
        }
    }

    /// Fetches lists that the server says have changed.
    async fn fetch_changed(&self, own: &Own, changed: Vec<Kind>) -> Result<(), UpstreamError> {
        for kind in changed {
            // Clients are told even where nothing changed: the server says so, and may mean what lists do not show.
            if self.fetch(own, kind).await? == Fetched::Same {
                self.tell(Change::List(kind));
            }
        }
        Ok(())
    }

    /// Takes what the server says by itself; lists that it says have changed are added to `due`.
    async fn heard(&self, own: &Own, message: &Message, due: &mut Vec<Kind>) -> Result<(), UpstreamError> {
        match message {
            Message::Notification(notification) => {
                let kinds: &[Kind] = match notification.method.as_str() {
                    "notifications/tools/list_changed" => &[Kind::Tool],
                    "notifications/prompts/list_changed" => &[Kind::Prompt],
                    "notifications/resources/list_changed" => &[Kind::Resource, Kind::Template],
                    "notifications/resources/updated" => {
                        let uri = Members::of(notification.params.as_ref()).ok().and_then(|members| members.text("uri").map(SmolStr::new));
                        if let Some(uri) = uri {
                            self.tell(Change::Resource(uri));
                        }
                        &[]
                    }
                    _ => &[],
                };
                kinds.iter().for_each(|kind| add(due, *kind));
            }
            // We do nothing for a server but say that it is there.
            Message::Request(request) => {
                if let Own::Legacy(session) = own {
                    let outcome = match request.method.as_str() {
                        "ping" => Outcome::Result(Bytes::from_static(b"{}")),
                        _ => rpc::RpcError::new(rpc::METHOD_NOT_FOUND, "nobody is here to answer that").into(),
                    };
                    session.respond(&request.id, &outcome).await?;
                }
            }
            Message::Response(_) => {}
        }
        Ok(())
    }

    async fn fetch_all(&self, own: &Own) -> Result<(), UpstreamError> {
        for kind in offered(own.capabilities()) {
            self.fetch(own, kind).await?;
        }
        Ok(())
    }

    /// Fetches a list, and tells of it if it changed. A list that the server cannot give leaves the old one. Of one that is
    /// longer than its bound, or takes longer to be told, the beginning is kept, unless more was kept before.
    async fn fetch(&self, own: &Own, kind: Kind) -> Result<Fetched, UpstreamError> {
        let (mut pages, mut outcomes, mut bytes, mut entries) = (Vec::new(), Vec::new(), 0, 0);
        let mut cursor: Option<String> = None;
        let mut first_came = None;
        let mut broke_off = false;
        let old = self.lists.load_full();
        let known = old.by_name(kind);
        loop {
            let params = cursor.as_deref().map(|cursor| Members::default().with(&[("cursor", Some(&rpc::quoted(cursor)))]));
            let left = first_came.map(|at: Instant| PAGES_PATIENCE.saturating_sub(at.elapsed()));
            let outcome = match own.ask(kind.method(), params, left.map_or(PAGE_PATIENCE, |left| left.min(PAGE_PATIENCE))).await {
                Ok(outcome) => outcome,
                Err(UpstreamError::Timeout(_)) if left.is_some() => {
                    broke_off = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            first_came.get_or_insert_with(Instant::now);
            let page = match &outcome {
                Outcome::Result(result) => {
                    bytes += result.len();
                    Page::read(kind, result, &known)
                }
                Outcome::Error(_) if kind == Kind::Template => Ok(Page { entries: Vec::new(), left_out: Vec::new(), next: None }),
                Outcome::Error(_) => Err("it answers with an error".to_owned()),
            };
            match page {
                Ok(page) => {
                    cursor = page.next.clone();
                    entries += page.entries.len() + page.left_out.len();
                    pages.push(page);
                    outcomes.push(outcome);
                }
                Err(why) => {
                    tracing::warn!(server = %self.id, "{} is not usable: {why}", kind.method());
                    return Ok(Fetched::Same);
                }
            }
            // What else stands in pages counts as well: it is held until they are judged.
            if cursor.is_none() || pages.len() >= MAX_PAGES || entries >= MAX_ENTRIES || bytes >= kind.most_bytes() {
                break;
            }
        }
        let mut listing = Page::joined(kind, pages);
        if cursor.is_some() {
            let end = match broke_off {
                true => format!("not told to its end within {PAGES_PATIENCE:?}"),
                false => format!("longer than {MAX_ENTRIES} entries, {MAX_PAGES} pages or {} bytes", kind.most_bytes()),
            };
            if broke_off && old.of(kind).len() > listing.entries.len() {
                tracing::warn!(server = %self.id, "{} is {end}: what it was before stays", kind.method());
                return Ok(Fetched::Same);
            }
            let why = format_smolstr!("its list is {end}");
            listing.left_out.push(LeftOut { name: None, reason: Reason::Size, why });
        }
        if kind == Kind::Tool && matches!(own, Own::Modern(..)) {
            let (entries, left_out) = (&mut listing.entries, &mut listing.left_out);
            entries.retain(|entry| match entry.unusable() {
                None => true,
                Some(why) => {
                    left_out.push(LeftOut { name: Some(named(&entry.name)), reason: Reason::Headers, why: why.to_smolstr() });
                    false
                }
            });
        }
        let entries = &listing.entries;
        let same = old.of(kind).len() == entries.len() && old.of(kind).iter().zip(entries).all(|(old, new)| old.text == new.text);
        let news = if same { News::None } else { News::Some };
        if let Err(why) = outcomes.iter().try_for_each(|outcome| self.held.judge(kind.method(), outcome, news)) {
            tracing::warn!(server = %self.id, "{} is not offered, what was offered before stays: {why}", kind.method());
            return Ok(Fetched::Same);
        }
        let left_out_same = old.left_out(kind) == listing.left_out;
        if same && left_out_same {
            return Ok(Fetched::Same);
        }
        left_out::log(&self.id, kind, old.left_out(kind), &listing.left_out);
        self.held.left_out(&self.id, kind, &listing.left_out);
        self.lists.store(Arc::new(old.with(kind, listing)));
        self.tell(Change::List(kind));
        Ok(Fetched::Changed)
    }
}

impl Own {
    fn presence(&self) -> Presence {
        let (era, face) = match self {
            Self::Modern(peer, _) => (Era::Modern, &peer.face),
            Self::Legacy(session) => (Era::Legacy, &session.face),
        };
        Presence::Up { era, face: Arc::new(face.clone()) }
    }

    /// The line that everything shares, if it does.
    fn shared_line(&self) -> Option<&Arc<Pipe>> {
        match self {
            Self::Modern(peer, _) => peer.shared_line(),
            Self::Legacy(session) => session.shared_line(),
        }
    }

    /// Until that is down; where there is none, for ever.
    async fn closed(&self) {
        match self.shared_line() {
            Some(line) => line.closed().await,
            None => std::future::pending().await,
        }
    }

    fn capabilities(&self) -> &Bytes {
        match self {
            Self::Modern(peer, _) => &peer.face.capabilities,
            Self::Legacy(session) => &session.face.capabilities,
        }
    }

    async fn ask(&self, method: &str, params: Option<Bytes>, patience: Duration) -> Result<Outcome, UpstreamError> {
        let answered = async {
            match self {
                Self::Legacy(session) => session.request(&session.id(), method, params.as_ref()).await?.outcome().await,
                Self::Modern(peer, client) => {
                    let params = described(params.as_ref(), client)?;
                    peer.request(&peer.id(), method, Some(&params), HeaderMap::new()).await?.outcome().await
                }
            }
        };
        tokio::time::timeout(patience, answered).await.map_err(|_| UpstreamError::Timeout(patience))?
    }
}

fn described(params: Option<&Bytes>, client: &Client) -> Result<Bytes, UpstreamError> {
    let members = Members::of(params).map_err(|error| UpstreamError::Protocol(error.to_string()))?;
    Ok(with_meta(&members, client, &[]))
}

/// The kinds of entries that a server with these capabilities has.
fn offered(capabilities: &Bytes) -> impl Iterator<Item = Kind> + use<> {
    let members = Members::read(capabilities).unwrap_or_default();
    Kind::ALL.map(|kind| members.get(kind.capability()).map(|_| kind)).into_iter().flatten()
}

/// Whether it is still there, and still knows us.
async fn probe(own: &Own) -> Result<(), UpstreamError> {
    let method = match own {
        Own::Legacy(session) if session.is_closed() => return Err(UpstreamError::Aborted),
        Own::Modern(peer, _) if peer.is_closed() => return Err(UpstreamError::Aborted),
        Own::Legacy(_) => "ping",
        Own::Modern(..) => "server/discover",
    };
    match own.ask(method, None, LOOK_PATIENCE).await {
        // Any answer at all shows that it is there.
        Ok(_) | Err(UpstreamError::Rpc(_)) => Ok(()),
        // Who does one thing at a time answers when that is done; who hangs is found by its silence.
        Err(UpstreamError::Timeout(_)) if own.shared_line().is_some_and(|line| line.is_busy()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Begins to listen, with these resources watched.
async fn watch(own: &Own, resources: &BTreeSet<SmolStr>) -> Watching {
    match own {
        Own::Legacy(session) => {
            let listening = session.listen().await.map_or(Watching::Not, Watching::Session);
            resubscribe(session, &BTreeSet::new(), resources).await;
            listening
        }
        Own::Modern(peer, client) => {
            let mut wanted = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true});
            if !resources.is_empty() {
                wanted["resourceSubscriptions"] = json!(resources);
            }
            let params = Members::default().with(&[("notifications", Some(&wanted.to_string()))]);
            let Ok(params) = described(Some(&params), client) else { return Watching::Not };
            match peer.request(&peer.id(), "subscriptions/listen", Some(&params), HeaderMap::new()).await {
                Ok(Answer::Going(conversation)) => match peer.shared_line() {
                    Some(line) => Watching::Line(conversation, line.listen_instead()),
                    None => Watching::Subscription(conversation),
                },
                Ok(Answer::Done(_)) | Err(_) => Watching::Not,
            }
        }
    }
}

async fn resubscribe(session: &Arc<LegacySession>, old: &BTreeSet<SmolStr>, new: &BTreeSet<SmolStr>) {
    let gone = old.difference(new).map(|uri| ("resources/unsubscribe", uri));
    let come = new.difference(old).map(|uri| ("resources/subscribe", uri));
    for (method, uri) in gone.chain(come) {
        let params = Members::default().with(&[("uri", Some(&rpc::quoted(uri)))]);
        if let Ok(answer) = session.request(&session.id(), method, Some(&params)).await {
            let _ = answer.outcome().await;
        }
    }
}

impl Watching {
    async fn next(&mut self) -> Option<Message> {
        match self {
            Self::Not => std::future::pending().await,
            Self::Session(listening) => listening.next().await,
            Self::Line(conversation, heard) => tokio::select! {
                message = heard.recv() => message,
                // It ends when the server takes no subscriptions, or no longer.
                _ = conversation.next() => None,
            },
            Self::Subscription(conversation) => loop {
                match conversation.next().await {
                    Ok(Said::Message(message)) => return Some(message),
                    Ok(Said::Primed { .. }) => {}
                    Ok(Said::Answer(_) | Said::Interrupted { .. }) | Err(_) => return None,
                }
            },
        }
    }
}

fn add(due: &mut Vec<Kind>, kind: Kind) {
    if !due.contains(&kind) {
        due.push(kind);
    }
}
