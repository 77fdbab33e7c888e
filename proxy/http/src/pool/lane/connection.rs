//! One connection to an upstream: how it comes about, who drives it, and one request's hold on it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::runtime::Handle;

use super::super::Inner;
use super::super::body::{Lease, Outgoing, RequestBody, UpstreamBody};
use super::Lane;
use crate::bound::asks_for_a_bound_login;
use crate::connector::connect;
use crate::ending::{Ending, Serves};
use crate::{Alpn, SendError};

/// The silence after which an HTTP/2 connection with open streams gets a PING.
const H2_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// The timeout of the answer to that.
const H2_KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How large an upstream's response head may be over HTTP/2. The library's 16 KiB is less than what
/// it accepts over HTTP/1.1, and some sites' cookies need more.
const H2_MAX_HEADER_LIST: u32 = 64 << 10;
/// The most header fields of an HTTP/1 head, of requests and of answers: the library's 100 are less than some sites send.
pub const MAX_FIELDS: usize = 512;
/// Most bytes of an HTTP/1 connection that are read ahead, or wait to be written, each: of an answer that is not read, and of a head,
/// which on HTTP/2 has the same bound. The library's 400 KiB are a MiB for both sides of each client that does not read.
pub const HTTP1_BUFFER: usize = 64 << 10;
/// The library's value of the server's bound on streams before the server has sent one: no server's.
const UNSETTLED: usize = (1 << 30) + 7;
/// How long that is waited for before more than one request is sent.
const SETTLES: Duration = Duration::from_millis(500);

/// Whether a connection carried a request before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Used {
    Before,
    Never,
}

/// A connection that carries one request at a time.
pub(crate) struct Alone<B> {
    pub(crate) send: http1::SendRequest<Outgoing<B>>,
    pub(crate) serves: Serves,
}

/// A request's hold on a connection, given back.
pub(crate) enum Returned<B> {
    /// A connection that it had for itself.
    Exclusive(Alone<B>),
    /// A stream of the connection with this number.
    Stream(u64),
}

/// A request's hold on a connection, which is given back when this is dropped.
pub(crate) struct Carrier<B: RequestBody> {
    way: Option<Way<B>>,
    used: Used,
    lane: Arc<Lane<B>>,
    inner: Weak<Inner<B>>,
    /// True once the server asked for a log-in that holds for the connection: it carries nothing of others after that.
    spent: bool,
}

enum Way<B> {
    Exclusive(Alone<B>),
    Multiplexed(http2::SendRequest<Outgoing<B>>, u64),
}

/// The error, and the request where it was not begun on a connection that may have been closed.
pub(crate) type Unsent<B> = (SendError, Option<Request<Outgoing<B>>>);

impl<B: RequestBody> Carrier<B> {
    pub(crate) fn exclusive(alone: Alone<B>, lane: &Arc<Lane<B>>, inner: &Arc<Inner<B>>, used: Used) -> Self {
        Self { way: Some(Way::Exclusive(alone)), used, lane: lane.clone(), inner: Arc::downgrade(inner), spent: false }
    }

    pub(crate) fn multiplexed(
        send: http2::SendRequest<Outgoing<B>>,
        number: u64,
        lane: &Arc<Lane<B>>,
        inner: &Arc<Inner<B>>,
        used: Used,
    ) -> Self {
        Self { way: Some(Way::Multiplexed(send, number)), used, lane: lane.clone(), inner: Arc::downgrade(inner), spent: false }
    }

    /// Gives it back by this, and not by itself.
    pub(crate) fn give_back_to(mut self, to: impl FnOnce(Returned<B>)) {
        match self.way.take() {
            Some(Way::Exclusive(alone)) => to(Returned::Exclusive(alone)),
            Some(Way::Multiplexed(_, number)) => to(Returned::Stream(number)),
            None => {}
        }
    }

    /// Sends a request over it.
    pub(crate) async fn send(mut self, mut req: Request<Outgoing<B>>) -> Result<Response<UpstreamBody>, Unsent<B>> {
        let used = self.used;
        // Of a bound lane the connection is the client's already.
        let challenges = !self.lane.is_bound();
        let (sent, lease): (_, Arc<dyn Lease>) = match &mut self.way {
            Some(Way::Exclusive(alone)) => {
                let client = req.extensions_mut().remove();
                req.body_mut().tell(alone.serves.begins(client));
                let sent = alone.send.try_send_request(req).await;
                self.spent = challenges && sent.as_ref().is_ok_and(|answer| asks_for_a_bound_login(answer.status(), answer.headers()));
                (sent, Arc::new(self))
            }
            Some(Way::Multiplexed(send, number)) => {
                let (mut send, number, lane) = (send.clone(), *number, self.lane.clone());
                let lease: Arc<dyn Lease> = Arc::new(self);
                // Its stream is taken as long as either body is on its way.
                req.body_mut().hold(Some(lease.clone()));
                let sent = send.try_send_request(req).await;
                if challenges && sent.as_ref().is_ok_and(|answer| asks_for_a_bound_login(answer.status(), answer.headers())) {
                    lane.retires(number);
                }
                (sent, lease)
            }
            None => return Err((SendError::Closed, None)),
        };
        sent.map(|response| response.map(|body| UpstreamBody::new(body, lease))).map_err(|mut failed| {
            let unsent = failed.take_message().map(|mut unsent| {
                unsent.body_mut().hold(None);
                unsent
            });
            (SendError::read(&failed.into_error()), unsent.filter(|_| used == Used::Before))
        })
    }
}

impl<B: RequestBody> Lease for Carrier<B> {}

impl<B: RequestBody> Drop for Carrier<B> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.upgrade() else { return };
        match self.way.take() {
            Some(Way::Multiplexed(_, number)) => self.lane.returned(&inner, Returned::Stream(number)),
            // Its use ended with its client's side.
            Some(Way::Exclusive(alone)) if self.spent || !alone.serves.is_over() => {}
            Some(Way::Exclusive(alone)) if alone.send.is_ready() => self.lane.returned(&inner, Returned::Exclusive(alone)),
            Some(Way::Exclusive(mut alone)) if !alone.send.is_closed() => {
                // It is ready once the rest of the answer is read, or closed if that is too long.
                let Ok(runtime) = Handle::try_current() else { return };
                let (lane, inner) = (self.lane.clone(), self.inner.clone());
                lane.comes_back();
                runtime.spawn(async move {
                    let ready = poll_fn(|cx| alone.send.poll_ready(cx)).await.is_ok();
                    if let Some(inner) = inner.upgrade() {
                        lane.came_back(&inner, ready.then_some(alone));
                    }
                });
            }
            Some(Way::Exclusive(_)) | None => {}
        }
    }
}

/// Makes a connection for a lane and drives it to its end.
pub(crate) async fn run<B: RequestBody>(lane: Arc<Lane<B>>, inner: Arc<Inner<B>>) {
    inner.sweep_from_now_on();
    let mut io = match connect(&inner.reach, &inner.hand_over, &lane.to).await {
        Ok(stream) => stream,
        Err(error) => return lane.failed(&error),
    };
    io.remember_in(lane.held_up.clone());
    // The connection's task keeps neither the pools nor the lane alive.
    let weak = (Arc::downgrade(&lane), Arc::downgrade(&inner));
    let number = if lane.to.key.alpn == Alpn::H2 {
        let windows = inner.budget().windows(lane.principal());
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .initial_stream_window_size(windows.stream)
            .initial_connection_window_size(windows.connection())
            .initial_max_send_streams(UNSETTLED)
            .max_header_list_size(H2_MAX_HEADER_LIST)
            .keep_alive_interval(H2_KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(H2_KEEP_ALIVE_TIMEOUT);
        let (send, connection) = match builder.handshake(TokioIo::new(io)).await {
            Ok(made) => made,
            Err(error) => return lane.failed(&SendError::read(&error)),
        };
        let number = lane.multiplexed(&inner, send);
        drop((lane, inner));
        let (mut connection, mut patience) = (pin!(connection), pin!(tokio::time::sleep(SETTLES)));
        let (most, mut known) = (usize::try_from(windows.streams).unwrap_or(1), UNSETTLED);
        poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            let mut says = connection.current_max_send_streams();
            if says == UNSETTLED && known == UNSETTLED && patience.as_mut().poll(cx).is_ready() {
                says = UNSETTLED + 1;
            }
            // Later SETTINGS count as well.
            if says != known && says != UNSETTLED {
                known = says;
                if let (Some(lane), Some(inner)) = (weak.0.upgrade(), weak.1.upgrade()) {
                    lane.settled(&inner, number, most.min(says));
                }
            }
            polled.map(|_| ())
        })
        .await;
        Some(number)
    } else {
        let (io, serves) = Ending::new(io);
        let (send, connection) =
            match http1::Builder::new().max_headers(MAX_FIELDS).max_buf_size(HTTP1_BUFFER).handshake(TokioIo::new(io)).await {
                Ok(made) => made,
                Err(error) => return lane.failed(&SendError::read(&error)),
            };
        lane.exclusive(&inner, Alone { send, serves });
        drop((lane, inner));
        let _ = connection.with_upgrades().await;
        None
    };
    if let (Some(lane), Some(inner)) = (weak.0.upgrade(), weak.1.upgrade()) {
        lane.ended(&inner, number);
    }
}
