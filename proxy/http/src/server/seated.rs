//! The seat of a connection, which it gives up to others while it says nothing: while no request of its is under way.

use super::drive::{Ended, until_stopped};
use gnomon_shares::{Seat, Silence};
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long a connection that says nothing may take to end once others need its seat.
const GIVES_UP: Duration = Duration::from_millis(100);

/// A connection that has a seat, silent until its first request.
#[derive(Debug)]
pub struct Seated {
    seat: Seat,
    requests: Mutex<Requests>,
}

#[derive(Debug)]
struct Requests {
    under_way: usize,
    silence: Option<Silence>,
}

impl Seated {
    /// With this one.
    #[must_use]
    pub fn on(seat: Seat) -> Arc<Self> {
        let silence = Some(seat.falls_silent());
        Arc::new(Self { seat, requests: Mutex::new(Requests { under_way: 0, silence }) })
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request of its begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> UnderWay {
        let mut requests = self.requests();
        requests.under_way += 1;
        requests.silence = None;
        UnderWay(self.clone())
    }

    fn is_silent(&self) -> bool {
        self.requests().under_way == 0
    }

    /// Completes when others need the seat.
    pub async fn is_needed(&self) {
        self.seat.is_needed().await;
    }

    /// Drives a connection until it is over, until `stop` says so, or until others need its seat: it finishes then, and what was asked
    /// is answered.
    pub async fn driven<C: Future>(&self, connection: C, stop: &mut watch::Receiver<bool>, finish: impl FnOnce(Pin<&mut C>)) {
        let mut connection = pin!(connection);
        let needed = tokio::select! {
            ended = until_stopped(connection.as_mut(), stop) => match ended {
                Ended::Connection => return,
                Ended::Stopping => false,
            },
            () = self.is_needed() => true,
        };
        finish(connection.as_mut());
        // A request may have come at that moment: it is answered.
        if needed && (timeout(GIVES_UP, connection.as_mut()).await.is_ok() || self.is_silent()) {
            return;
        }
        let _ = connection.await;
    }
}

/// A request until its answer has been sent.
#[derive(Debug)]
pub struct UnderWay(Arc<Seated>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut requests = self.0.requests();
        requests.under_way -= 1;
        if requests.under_way == 0 {
            requests.silence = Some(self.0.seat.falls_silent());
        }
    }
}

/// An answer's body, with which its request ends.
#[derive(Debug)]
pub struct Answered<B> {
    body: B,
    _request: UnderWay,
}

impl<B> Answered<B> {
    /// The last of this request.
    pub fn new(body: B, request: UnderWay) -> Self {
        Self { body, _request: request }
    }
}

impl<B: Body + Unpin> Body for Answered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
