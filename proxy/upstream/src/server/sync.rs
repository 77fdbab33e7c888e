//! Keeps one server's lists and presence true.

use super::own::Own;
use crate::{
    api::Api,
    era::Era,
    error::UpstreamError,
    legacy::ServerFace,
    modern::ModernPeer,
    oversight::{Asked, News, Objection, Oversight},
    owner::Owner,
    server::{Presence, Upstream},
};
use bytes::Bytes;
use gnomon_catalogue::{
    catalogue::{Kind, MAX_ENTRIES, MAX_PAGES, Page},
    left_out::{self, LeftOut, Reason, named},
    members::Members,
    rpc::{self, Message, Outcome},
};
use gnomon_kit::Backoff;
use serde_json::json;
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use std::{
    collections::BTreeSet,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// How soon what is offered is judged by rules that were not in force before.
const JUDGED_ANEW_WITHIN: Duration = Duration::from_secs(1);
/// The timeout of a check whether it answers.
pub(super) const LOOK_PATIENCE: Duration = Duration::from_secs(5);
/// The timeout of fetching one page.
const PAGE_PATIENCE: Duration = Duration::from_secs(20);
/// The timeout of fetching all pages of a list after the first.
const PAGES_PATIENCE: Duration = Duration::from_secs(20);
/// The time within which a silent server is known to be down.
const KNOWN_WITHIN: Duration = Duration::from_secs(15);
/// The timeout of a server's `initialize` or discovery.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// The delay before a server that is gone is tried again, at first and at most.
const RETRY: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));

/// A change of a server's offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The list of this kind changed.
    List(Kind),
    /// The contents of resources that are watched; their server's own URIs.
    Resources(Arc<[SmolStr]>),
    /// The server came or went.
    Presence,
}

/// The result of fetching a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fetched {
    /// Unchanged.
    Same,
    /// Changed, which was reported.
    Changed,
}

impl<H: Oversight> Upstream<H> {
    /// Keeps the server's presence and lists true until it [leaves](Self::leave); gnomon's own connection to it ends with that.
    pub async fn keep(self: Arc<Self>) {
        if let Some(api) = self.reach.api() {
            self.offer(api).await;
            loop {
                tokio::select! {
                    () = self.judged_by_others() => self.offer(api).await,
                    () = self.leaving() => return,
                }
            }
        }
        let mut retry = RETRY;
        while !self.is_leaving() {
            let connected = tokio::select! {
                connected = self.connect_or_tell() => connected,
                () = self.leaving() => return,
            };
            match connected {
                Ok(own) => {
                    retry.reset();
                    let why = tokio::select! {
                        why = self.stay(&own) => why,
                        () = self.leaving() => return self.leaves(own).await,
                    };
                    self.modern.store(None);
                    // It may only have been restarted: then it is back before a client notices.
                    let restarted = matches!(why, UpstreamError::SessionGone | UpstreamError::Aborted);
                    if !restarted {
                        // Known before the session is ended, which the server may not accept.
                        self.gone(why);
                    }
                    if let Own::Legacy(session) = &own {
                        session.close().await;
                    }
                    if restarted {
                        continue;
                    }
                }
                Err(why) => self.gone(why),
            }
            tokio::select! {
                _ = tokio::time::timeout(retry.failed(), self.look.notified()) => {}
                () = self.leaving() => {}
            }
        }
    }

    /// Waits until other rules judge than those by which its lists were judged.
    pub(super) async fn judged_by_others(&self) {
        let mut look = tokio::time::interval(JUDGED_ANEW_WITHIN);
        while self.held.edition() == self.judged_by.load(Ordering::Acquire) {
            look.tick().await;
        }
    }

    pub(super) fn tell(&self, change: Change) {
        // There may be no receiver.
        let _ = self.changes.send((self.id.clone(), change));
    }

    /// Connects. Of a server that takes its time over it, it is known meanwhile that it is not there.
    async fn connect_or_tell(&self) -> Result<Own, UpstreamError> {
        let mut connecting = pin!(self.connect());
        match tokio::time::timeout(KNOWN_WITHIN, &mut connecting).await {
            Ok(connected) => connected,
            Err(_) => {
                self.gone(UpstreamError::Frozen(KNOWN_WITHIN));
                connecting.await
            }
        }
    }

    async fn connect(&self) -> Result<Own, UpstreamError> {
        let greeted = tokio::time::timeout(CONNECT_PATIENCE, self.greet()).await;
        let own = greeted.map_err(|_| UpstreamError::Frozen(CONNECT_PATIENCE))??;
        self.fetch_all(&own).await?;
        match &own {
            Own::Modern(peer, _) => self.modern.store(Some(peer.clone())),
            // It may have been of the other era only.
            Own::Legacy(_) => self.no_legacy.store(false, Ordering::Release),
        }
        self.here(self.present(&own).await);
        Ok(own)
    }

    async fn greet(&self) -> Result<Own, UpstreamError> {
        let client = &self.own;
        Ok(match self.reach.modern(client).await {
            Ok(peer) => Own::Modern(Arc::new(peer), client.clone()),
            Err(
                error @ (UpstreamError::Unreachable { .. }
                | UpstreamError::Unauthorized(_)
                | UpstreamError::Unauthenticated(_)
                | UpstreamError::Moved { .. }
                | UpstreamError::NotStarted(_)),
            ) => return Err(error),
            // Any other error for a method that it does not know: it is of the other era.
            Err(_) => Own::Legacy(self.reach.legacy(client, Owner::OWN).await?),
        })
    }

    /// Lists the operations of a document once: it does not change while gnomon runs.
    async fn offer(&self, api: &Arc<Api>) {
        self.judged_by.store(self.held.edition(), Ordering::Release);
        let entries = api.judged(&self.id, &self.held).await;
        self.lists.store(Arc::new(self.lists.load().with(Kind::Tool, entries.into())));
        let own = Own::Modern(Arc::new(ModernPeer::of_api(api.clone())), self.own.clone());
        if let Own::Modern(peer, _) = &own {
            self.modern.store(Some(peer.clone()));
        }
        self.here(own.presence());
        self.tell(Change::List(Kind::Tool));
    }

    /// The server's description of itself, judged like its lists: instructions that rules refuse are not passed on.
    pub(super) async fn present(&self, own: &Own) -> Presence {
        let presence = own.presence();
        let Presence::Up { era, face } = &presence else { return presence };
        let Some(instructions) = face.instructions.as_ref().filter(|_| self.held.judges()) else {
            self.held.withheld("instructions", &[]);
            return presence;
        };
        let method = if *era == Era::Modern { "server/discover" } else { "initialize" };
        let said = json!({
            "instructions": instructions,
            "capabilities": serde_json::from_slice::<serde_json::Value>(&face.capabilities).unwrap_or_default(),
            "serverInfo": face.info.as_ref().and_then(|info| serde_json::from_slice::<serde_json::Value>(info).ok()),
        });
        let known = self.presence.borrow().face().and_then(|face| face.instructions.clone());
        let news = if known.as_ref() == Some(instructions) { News::None } else { News::Findings };
        let judged = self.held.judge(&Asked { method, cursor: None }, &Outcome::of(&said), news).await;
        self.held.withheld("instructions", judged.as_ref().err().and_then(Objection::by).map_or(&[][..], std::slice::from_ref));
        match judged {
            Ok(()) => presence,
            Err(why) => {
                tracing::warn!(server = %self.id, "its instructions are not passed on: {why}");
                Presence::Up { era: *era, face: Arc::new(ServerFace { instructions: None, ..(**face).clone() }) }
            }
        }
    }

    /// Fetches lists that the server says have changed.
    pub(super) async fn fetch_changed(&self, own: &Own, changed: Vec<Kind>) -> Result<(), UpstreamError> {
        for kind in changed {
            // Clients are notified even if nothing changed: the server announced a change, maybe of what lists do not show.
            if self.fetch(own, kind).await? == Fetched::Same {
                self.tell(Change::List(kind));
            }
        }
        Ok(())
    }

    /// Tells of the watched resources that have changed: in one message, so that one server's news drive out no other's.
    pub(super) fn tell_updates(&self) {
        let updated = self.watched.take_updates();
        if !updated.is_empty() {
            self.tell(Change::Resources(updated));
        }
    }

    /// Handles the server's own messages; lists that it announces as changed are added to `due`, and resources to those to tell of.
    pub(super) async fn heard(
        &self,
        own: &Own,
        message: &Message,
        watched: &BTreeSet<SmolStr>,
        due: &mut Vec<Kind>,
    ) -> Result<(), UpstreamError> {
        match message {
            Message::Notification(notification) => {
                match notification.method.as_str() {
                    "notifications/resources/updated" => {
                        let members = Members::of(notification.params.as_ref()).unwrap_or_default();
                        if let Some(uri) = members.text("uri") {
                            self.watched.is_updated(&uri);
                        }
                    }
                    "notifications/subscriptions/acknowledged" => self.acknowledged(watched, notification.params.as_ref()),
                    method => Kind::changed_by(method).iter().for_each(|kind| add(due, *kind)),
                }
                Ok(())
            }
            // We do nothing for a server but say that it is there.
            Message::Request(request) => {
                let outcome = match request.method.as_str() {
                    "ping" => Outcome::Result(Bytes::from_static(b"{}")),
                    _ => rpc::RpcError::new(rpc::METHOD_NOT_FOUND, "no client is connected that could answer this").into(),
                };
                let told = own.respond(&request.id, &outcome);
                tokio::time::timeout(LOOK_PATIENCE, told).await.map_err(|_| UpstreamError::Timeout(LOOK_PATIENCE))?
            }
            Message::Response(_) => Ok(()),
        }
    }

    pub(super) async fn fetch_all(&self, own: &Own) -> Result<(), UpstreamError> {
        self.judged_by.store(self.held.edition(), Ordering::Release);
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
        let known = Arc::new(old.by_name(kind));
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
            let at = cursor.take();
            let page = match &outcome {
                Outcome::Result(result) => {
                    bytes += result.len();
                    let (result, known) = (result.clone(), known.clone());
                    let page = self.held.read(result.len(), move || Page::read(kind, &result, &known)).await;
                    page.unwrap_or_else(|| Err("it could not be read in time: other large messages came before it".to_owned()))
                }
                Outcome::Error(_) if kind == Kind::Template => Ok(Page { entries: Vec::new(), left_out: Vec::new(), next: None }),
                Outcome::Error(_) => Err("it answers with an error".to_owned()),
            };
            match page {
                Ok(page) => {
                    cursor = page.next.clone();
                    entries += page.entries.len() + page.left_out.len();
                    pages.push(page);
                    outcomes.push((at, outcome));
                }
                Err(why) => {
                    tracing::warn!(server = %self.id, "{} is not usable: {why}", kind.method());
                    return Ok(Fetched::Same);
                }
            }
            // Other members of pages count as well: they are held until they are judged.
            if cursor.is_none() || pages.len() >= MAX_PAGES || entries >= MAX_ENTRIES || bytes >= kind.most_bytes() {
                break;
            }
        }
        let mut listing = Page::joined(kind, pages);
        if cursor.is_some() {
            let end = match broke_off {
                true => format!("not complete within {PAGES_PATIENCE:?}"),
                false => format!("longer than {MAX_ENTRIES} entries, {MAX_PAGES} pages or {} bytes", kind.most_bytes()),
            };
            if broke_off && old.of(kind).len() > listing.entries.len() {
                tracing::warn!(server = %self.id, "{} is {end}: the list from before stays", kind.method());
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
        let mut judged = Ok(());
        for (cursor, outcome) in &outcomes {
            let asked = Asked { method: kind.method(), cursor: cursor.as_deref() };
            judged = self.held.judge(&asked, outcome, news).await;
            if judged.is_err() {
                break;
            }
        }
        let mut same = same;
        self.held.withheld(kind.key(), judged.as_ref().err().and_then(Objection::by).map_or(&[][..], std::slice::from_ref));
        if let Err(why) = judged {
            // What was offered before may say the same, and the server answers to what it says now.
            tracing::warn!(server = %self.id, "{} is not offered: {why}", kind.method());
            listing.entries.clear();
            same = old.of(kind).is_empty();
            listing.left_out = vec![LeftOut { name: None, reason: Reason::Rule, why: why.to_smolstr() }];
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

/// The kinds of entries that a server with these capabilities has.
pub(super) fn offered(capabilities: &Bytes) -> impl Iterator<Item = Kind> + use<> {
    let members = Members::read(capabilities).unwrap_or_default();
    Kind::ALL.map(|kind| members.get(kind.capability()).map(|_| kind)).into_iter().flatten()
}

pub(super) fn add(due: &mut Vec<Kind>, kind: Kind) {
    if !due.contains(&kind) {
        due.push(kind);
    }
}
