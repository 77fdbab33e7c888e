//! Authentication of requests, and the lifetime of streams that only wait for news.
//!
//! A request is authenticated once, and a stream may stand for days. So its caller's credentials are kept, and checked against each
//! authentication put in force meanwhile: a caller that would be refused now, or be another, must reconnect.

use arc_swap::ArcSwap;
use gnomon_access::{Authenticator, Caller, Peer};
use gnomon_observe::Observation;
use http::{HeaderMap, header::AUTHORIZATION};
use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// How often the clock is looked at while a proof may expire.
const CLOCK: Duration = Duration::from_secs(10);

/// The origin of a connection.
pub(crate) struct Visitor {
    pub peer: Peer,
    /// The program of this host, as events tell of it.
    pub program: Option<Arc<Observation>>,
}

/// A caller's proof of who it is.
pub(crate) struct Proof {
    headers: HeaderMap,
    visitor: Arc<Visitor>,
    caller: Arc<Caller>,
}

impl Proof {
    pub fn of(headers: &HeaderMap, visitor: &Arc<Visitor>, caller: &Arc<Caller>) -> Self {
        let proofs = headers.get_all(AUTHORIZATION).iter().map(|value| (AUTHORIZATION, value.clone()));
        Self { headers: proofs.collect(), visitor: visitor.clone(), caller: caller.clone() }
    }
}

/// How callers prove who they are.
pub(crate) struct LogIn {
    authenticator: ArcSwap<Authenticator>,
    /// Notified when another authenticator is in force.
    changed: watch::Sender<()>,
}

impl LogIn {
    pub fn new(authenticator: Arc<Authenticator>) -> Self {
        Self { authenticator: ArcSwap::new(authenticator), changed: watch::Sender::new(()) }
    }

    /// The authenticator now in force.
    pub fn authenticator(&self) -> Arc<Authenticator> {
        self.authenticator.load_full()
    }

    /// Puts another in force, from the next request on; it has the providers' keys first, if it can.
    pub async fn replace(&self, authenticator: Arc<Authenticator>) {
        // Its users would be refused as long as the keys are on their way; where they do not come, what is withdrawn counts.
        warm(&authenticator).await;
        self.authenticator.store(authenticator);
        self.changed.send_replace(());
    }

    /// Fetches the providers' keys.
    pub async fn warm(&self) {
        warm(&self.authenticator()).await;
    }

    /// Waits until this caller would no longer be admitted: its proof has expired, or was revoked.
    pub async fn turned_out(&self, proof: &Proof) {
        let mut log_ins = self.changed.subscribe();
        // One may have been put in force since this caller was let in.
        log_ins.mark_changed();
        let mut expired = pin!(expired(&proof.caller));
        loop {
            tokio::select! {
                () = &mut expired => return,
                changed = log_ins.changed() => if changed.is_err() { return },
            }
            match self.authenticator().authenticate(&proof.headers, &proof.visitor.peer).await {
                Ok(caller) if *caller == *proof.caller => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

async fn warm(authenticator: &Authenticator) {
    if let Err(issuers) = authenticator.warm().await {
        tracing::warn!("no keys yet of {}: nobody can log in with its tokens", issuers.join(", "));
    }
}

/// Waits until the caller's proof expires: a stream may outlive it. Looked at often, as clocks are put right.
pub(crate) async fn expired(caller: &Caller) {
    let Some(expires) = caller.expires else { return std::future::pending().await };
    while !caller.has_expired(SystemTime::now()) {
        let left = expires.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(left.clamp(Duration::from_millis(10), CLOCK)).await;
    }
}
