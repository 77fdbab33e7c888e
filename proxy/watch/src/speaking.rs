//! The conversation with the sensor.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gnomon_http::NetNs;
use gnomon_intercept::Namespace;
use gnomon_link::{AsyncChannel, LinkError, ToProxy, ToSensor, UNASKED};
use tokio::sync::mpsc;

use crate::WatchError;
use crate::homes::Home;
use crate::metrics::Shed;
use crate::session::Session;

pub(crate) type Link = AsyncChannel<ToSensor, ToProxy>;

/// The interval at which the kernel half's counters are read.
const COUNTERS: Duration = Duration::from_secs(5);
/// Messages in a row that cannot be read, after which there is no point in going on.
const BAD_IN_A_ROW: u32 = 64;

/// Sends queued messages until the link ends.
pub(crate) async fn speak(link: Arc<Link>, mut queue: mpsc::Receiver<ToSensor>, session: Arc<Session>) {
    while let Some(message) = queue.recv().await {
        if let Err(error) = link.send(&message, &[]).await {
            match error {
                LinkError::Encode(_) => tracing::error!(%error, "a message to the sensor was not sent"),
                _ => return session.end(),
            }
        }
    }
}

/// Asks for the counters periodically.
pub(crate) async fn poll(queue: mpsc::Sender<ToSensor>, session: Arc<Session>) {
    let mut every = tokio::time::interval(COUNTERS);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        session.give_up_late();
        if queue.send(ToSensor::Counters { token: session.identities.token() }).await.is_err() {
            return;
        }
    }
}

/// Receives the sensor's messages, until it is gone.
pub(crate) async fn hear(link: Arc<Link>, queue: mpsc::Sender<ToSensor>, session: Arc<Session>) {
    let mut bad = 0;
    loop {
        match link.recv().await {
            Ok(received) => {
                bad = 0;
                if let Some(answer) = take(&session, received.message, received.descriptors)
                    && queue.send(answer).await.is_err()
                {
                    break;
                }
            }
            Err(LinkError::Closed) => break,
            Err(error) => {
                session.metrics.shed(Shed::Message, 1);
                tracing::warn!(%error, "a message of the sensor was not understood");
                bad += 1;
                if bad == BAD_IN_A_ROW {
                    break;
                }
            }
        }
    }
    session.end();
}

/// Processes a message; returns the answer to be handed to a caller.
fn take(session: &Session, message: ToProxy, descriptors: Vec<OwnedFd>) -> Option<ToSensor> {
    match message {
        ToProxy::Process { token, found } => {
            if let Some(who) = session.identities.found(token, found) {
                session.metrics.identity(&who);
            }
        }
        ToProxy::Start { token, found } => session.started(token, found),
        ToProxy::ListensAt { token, found } => session.listens(token, found),
        ToProxy::Refused { token, .. } if session.start_refused(token) => {}
        ToProxy::Refused { token, detail, .. } if session.homes.end(token) => {
            tracing::debug!(%detail, "home directories are not read");
        }
        ToProxy::Home { token, uid, name, home } => {
            if let Some(said) = descriptors.into_iter().next() {
                let home = Home { uid, name: name.into(), home: String::from(home).into(), said };
                session.homes.take(token, home, &session.metrics);
            }
        }
        ToProxy::Done { token } if session.homes.end(token) => {}
        ToProxy::Refused { token, detail, .. } => match session.identities.refused(token) {
            Some(who) => session.metrics.identity(&who),
            None => session.questions.answer(token, Err(WatchError::Refused(detail.to_string()))),
        },
        ToProxy::Listeners { token, netns_cookie, .. } => {
            let added = add(session, token, netns_cookie, descriptors);
            if token != UNASKED {
                session.questions.answer(token, added.map(|()| Vec::new()));
                return None;
            }
            return match added {
                Ok(()) => Some(ToSensor::Accepting { netns_cookie }),
                Err(error) => {
                    tracing::error!(%error, "listeners of another network namespace are not used");
                    None
                }
            };
        }
        ToProxy::Socket { token, .. } => session.questions.answer(token, Ok(descriptors)),
        ToProxy::Counters { programs, .. } => {
            if session.metrics.counted(&programs) {
                session.losses.unfiled(Instant::now());
            }
        }
        ToProxy::Features { token, features } => {
            session.metrics.features(&features);
            if token == UNASKED {
                session.changed(&features);
            }
        }
        ToProxy::ExecScope { cgroup, adoption } => session.left(&cgroup, &adoption),
        // Said once, and heard before.
        ToProxy::Welcome { .. } | ToProxy::Maps { .. } => session.metrics.shed(Shed::Message, 1),
        ToProxy::Done { token } => session.questions.answer(token, Ok(Vec::new())),
    }
    None
}

fn add(session: &Session, token: u64, netns: u64, listeners: Vec<OwnedFd>) -> Result<(), WatchError> {
    let mut listening = session.listening.lock();
    if token != UNASKED {
        // Only our own namespace was asked for.
        listening.own = Some(netns);
    }
    let namespace = if listening.own == Some(netns) { Namespace::Own } else { Namespace::Other(NetNs(netns)) };
    let Some(to) = listening.to.clone() else { return Err(WatchError::Gone) };
    // Listeners of namespaces that are gone are removed.
    listening.keys.retain(|key| to.is_open(*key));
    for listener in listeners {
        let key = to.add(TcpListener::from(listener), namespace)?;
        listening.keys.push(key);
    }
    Ok(())
}
