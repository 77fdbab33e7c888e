//! Checks whether one server answers, and takes its messages meanwhile.
//!
//! Looking and listening go on beside each other: a server that takes its time over a list, or over being listened to, is still
//! looked at, and one that falls silent is known as such within [`LOOK`] and [`LOOK_PATIENCE`].

use super::{
    granted::Granted,
    own::{Own, described},
    sync::{Change, LOOK_PATIENCE, add, offered},
};
use crate::{
    conversation::{Answer, Conversation, Said},
    error::UpstreamError,
    legacy::{LegacySession, Listening},
    oversight::Oversight,
    server::{Presence, Upstream},
};
use bytes::Bytes;
use gnomon_catalogue::{
    members::Members,
    rpc::{self, Message, Outcome},
};
use http::HeaderMap;
use serde_json::json;
use smol_str::SmolStr;
use std::{
    collections::BTreeSet,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::MissedTickBehavior};

/// How often a server is looked at while nothing is amiss.
const LOOK: Duration = Duration::from_secs(12);
/// How often the lists of a server are fetched that does not say when they change.
const REFRESH: Duration = Duration::from_secs(120);
/// The least interval between fetches of lists that have changed, and between news of resources, however often the server announces
/// changes.
const BETWEEN_CHANGES: Duration = Duration::from_secs(1);

/// The stream on which a server announces changes.
pub(super) enum Watching {
    Session(Listening),
    Subscription(Conversation),
    /// A subscription on a shared line, where announcements come among other messages.
    Line(Conversation, mpsc::Receiver<Message>),
    /// The server does not announce changes.
    Not,
}

impl<H: Oversight> Upstream<H> {
    /// Notes that it is down. Reported once, however often it is found, and once more where the reason changes.
    pub(super) fn gone(&self, why: UpstreamError) {
        let (mut news, told) = (true, why.clone());
        self.is_silent_no_longer();
        let changed = self.presence.send_if_modified(|presence| match presence {
            Presence::Down { why: old, .. } => {
                news = old.reason() != why.reason();
                *old = why;
                false
            }
            _ => {
                let face = presence.face().cloned();
                *presence = Presence::Down { since: Instant::now(), why, face };
                true
            }
        });
        let detail = told.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        if news {
            tracing::warn!(server = %self.id, reason = told.reason(), "is down: {told}{detail}");
            self.held.is_gone(&self.id, &told);
        } else {
            tracing::debug!(server = %self.id, reason = told.reason(), "is still down: {told}{detail}");
        }
        if changed {
            self.tell(Change::Presence);
        }
    }

    /// Notes that it is there.
    pub(super) fn here(&self, present: Presence) {
        let was_there = self.presence.borrow().is_up();
        if !was_there {
            self.comes_back();
        }
        self.presence.send_replace(present);
        if !was_there {
            tracing::info!(server = %self.id, "is there");
            self.held.is_here(&self.id);
        }
        self.tell(Change::Presence);
    }

    /// Stays connected until that ends; says why.
    pub(super) async fn stay(&self, own: &Own) -> UpstreamError {
        tokio::select! {
            why = self.look_after(own) => why,
            Err(why) = self.listen_to(own) => why,
            () = own.closed() => UpstreamError::Aborted,
        }
    }

    /// Looks whether it is there until it is not.
    async fn look_after(&self, own: &Own) -> UpstreamError {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        loop {
            tokio::select! {
                _ = look.tick() => {}
                () = self.look.notified() => {}
            }
            let asked = Instant::now();
            let (found, of_processes) = tokio::join!(probe(own), self.silence_of_processes());
            match (found, of_processes) {
                (Ok(()), None) => {
                    self.work.lives();
                    self.is_silent_no_longer();
                }
                (Ok(()), Some(silence)) => {
                    self.work.lives();
                    self.falls_silent(silence);
                }
                (Err(UpstreamError::Frozen(_)), _) => match self.at_work(asked) {
                    Ok(left) => {
                        self.falls_silent(self.work.silence(asked).unwrap_or_default());
                        look.reset_after(left.saturating_sub(LOOK_PATIENCE).min(LOOK));
                        continue;
                    }
                    Err(silence) => return UpstreamError::Frozen(whole_seconds(silence)),
                },
                (Err(why), _) => return why,
            }
            // It had been taken for gone by mistake.
            if !self.presence.borrow().is_up() {
                self.here(self.present(own).await);
            }
        }
    }

    /// Hears what it says and fetches its lists, until it does not answer.
    async fn listen_to(&self, own: &Own) -> Result<Infallible, UpstreamError> {
        let mut watched = self.watched.all();
        let mut watching = self.listen(own, &watched).await;
        let mut again = tokio::time::interval(LOOK);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        again.reset();
        let mut refreshed = Instant::now();
        let (mut due, mut at) = (Vec::new(), Instant::now());
        loop {
            let asked = Instant::now();
            tokio::select! {
                said = watching.next() => match said {
                    Some(message) => {
                        if let Err(why) = self.heard(own, &message, &watched, &mut due).await {
                            self.unless_at_work(own, asked, why)?;
                        }
                    }
                    // Streams end, with their server or without.
                    None => {
                        watching = Watching::Not;
                        self.look.notify_one();
                    }
                },
                _ = again.tick() => {
                    if let Watching::Not = watching {
                        watching = self.listen(own, &watched).await;
                    }
                    if refreshed.elapsed() >= REFRESH {
                        refreshed = Instant::now();
                        let asked = Instant::now();
                        if let Err(why) = self.fetch_all(own).await {
                            self.unless_at_work(own, asked, why)?;
                        }
                    }
                }
                () = self.judged_by_others() => {
                    refreshed = Instant::now();
                    let asked = Instant::now();
                    if let Err(why) = self.fetch_all(own).await {
                        self.unless_at_work(own, asked, why)?;
                    }
                    self.here(self.present(own).await);
                }
                () = self.watched.changed() => {
                    let now = self.watched.all();
                    if now != watched {
                        match own {
                            Own::Legacy(session) => self.resubscribe(session, &watched, &now).await,
                            Own::Modern(..) => watching = self.listen(own, &now).await,
                        }
                        watched = now;
                    }
                }
                () = self.refresh.notified() => {
                    let changed = self.take_changed();
                    offered(own.capabilities()).filter(|kind| changed.contains(kind)).for_each(|kind| add(&mut due, kind));
                }
                () = tokio::time::sleep_until(at.into()), if !due.is_empty() || self.watched.has_updates() => {
                    self.tell_updates();
                    let (asked, changed) = (Instant::now(), std::mem::take(&mut due));
                    if let Err(why) = self.fetch_changed(own, changed.clone()).await {
                        self.unless_at_work(own, asked, why)?;
                        changed.into_iter().for_each(|kind| add(&mut due, kind));
                    }
                    at = Instant::now() + BETWEEN_CHANGES;
                }
            }
        }
    }

    /// Passes over that it did not answer in time, where it may be at work.
    fn unless_at_work(&self, own: &Own, asked: Instant, why: UpstreamError) -> Result<(), UpstreamError> {
        let is_busy = || own.shared_line().is_some_and(|line| line.is_busy());
        match why {
            UpstreamError::Timeout(_) if is_busy() || self.at_work(asked).is_ok() => Ok(()),
            why => Err(why),
        }
    }

    /// Begins to listen, with these resources watched.
    async fn listen(&self, own: &Own, resources: &BTreeSet<SmolStr>) -> Watching {
        let refused = || resources.iter().for_each(|uri| self.watched.says(uri, Granted::No));
        match own {
            Own::Legacy(session) => {
                let listening = tokio::time::timeout(LOOK_PATIENCE, session.listen()).await;
                let listening = listening.ok().and_then(Result::ok).map_or(Watching::Not, Watching::Session);
                self.resubscribe(session, &BTreeSet::new(), resources).await;
                listening
            }
            Own::Modern(peer, client) => {
                let mut wanted = json!({"toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true});
                if !resources.is_empty() {
                    wanted["resourceSubscriptions"] = json!(resources);
                }
                let params = Members::default().with(&[("notifications", Some(&wanted.to_string()))]);
                let Ok(params) = described(Some(&params), client) else { return Watching::Not };
                let id = peer.id();
                let asked = peer.request(&id, "subscriptions/listen", Some(&params), HeaderMap::new());
                match tokio::time::timeout(LOOK_PATIENCE, asked).await {
                    Ok(Ok(Answer::Going(conversation))) => match peer.shared_line() {
                        Some(line) => Watching::Line(conversation, line.listen_instead()),
                        None => Watching::Subscription(conversation),
                    },
                    Ok(Ok(Answer::Done(_)) | Err(_)) => {
                        refused();
                        Watching::Not
                    }
                    Err(_) => Watching::Not,
                }
            }
        }
    }

    async fn resubscribe(&self, session: &Arc<LegacySession>, old: &BTreeSet<SmolStr>, new: &BTreeSet<SmolStr>) {
        let gone = old.difference(new).map(|uri| ("resources/unsubscribe", uri));
        let come = new.difference(old).map(|uri| ("resources/subscribe", uri));
        for (method, uri) in gone.chain(come) {
            let params = Members::default().with(&[("uri", Some(&rpc::quoted(uri)))]);
            let asked = async { session.request(&session.id(), method, Some(&params)).await?.outcome().await };
            match tokio::time::timeout(LOOK_PATIENCE, asked).await {
                Ok(Ok(Outcome::Result(_))) => self.watched.says(uri, Granted::Yes),
                Ok(Ok(Outcome::Error(_)) | Err(UpstreamError::Rpc(_) | UpstreamError::Status(_))) => self.watched.says(uri, Granted::No),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Records which of these resources a server of the stateless era agrees to watch.
    pub(super) fn acknowledged(&self, watched: &BTreeSet<SmolStr>, params: Option<&Bytes>) {
        let members = Members::of(params).unwrap_or_default();
        // One that does not say what it agrees to refuses nothing.
        let Some(agreed) = members.object("notifications") else {
            return watched.iter().for_each(|uri| self.watched.says(uri, Granted::Yes));
        };
        let uris: BTreeSet<SmolStr> =
            agreed.get("resourceSubscriptions").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        for uri in watched {
            self.watched.says(uri, if uris.contains(uri) { Granted::Yes } else { Granted::No });
        }
    }
}

/// A span of time as it is told.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs().max(1))
}

/// Fails if the server is gone, has forgotten us, or is of another era than before.
async fn probe(own: &Own) -> Result<(), UpstreamError> {
    let (method, is_modern) = match own {
        Own::Legacy(session) if session.is_closed() => return Err(UpstreamError::Aborted),
        Own::Modern(peer, _) if peer.is_closed() => return Err(UpstreamError::Aborted),
        Own::Legacy(_) => ("ping", false),
        Own::Modern(..) => ("server/discover", true),
    };
    match own.ask(method, None, LOOK_PATIENCE).await {
        // It supported discovery, and no longer does: another server took its place.
        Ok(Outcome::Error(_)) | Err(UpstreamError::Rpc(_) | UpstreamError::Status(400 | 404..=406)) if is_modern => {
            Err(UpstreamError::SessionGone)
        }
        // Any other answer at all shows that it is there.
        Ok(_) | Err(UpstreamError::Rpc(_)) => Ok(()),
        // A server that does one thing at a time answers after that; one that hangs is found by its silence.
        Err(UpstreamError::Timeout(_)) if own.shared_line().is_some_and(|line| line.is_busy()) => Ok(()),
        // The connection was accepted.
        Err(UpstreamError::Timeout(patience)) => Err(UpstreamError::Frozen(patience)),
        Err(error) => Err(error),
    }
}

impl Watching {
    pub async fn next(&mut self) -> Option<Message> {
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
