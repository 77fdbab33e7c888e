//! All stages in a row.

use super::{
    accept::{Admission, accept_until},
    http1,
    seated::{Answered, Heard, Seated},
    stalled::Stalled,
    tasks::{Tasks, drain},
};
use bytes::Bytes;
use gnomon_shares::{Refused, Seat, Seats};
use http::{Request, Response};
use http_body::Body;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// A listener that answers any client, over HTTP/1 without TLS: for operators' endpoints, not for agents.
#[derive(Clone, Debug)]
pub struct Plain {
    /// The name of the endpoint, for the log.
    pub name: &'static str,
    /// Most connections at a time; one address other than the host's own leaves a quarter of them to others.
    pub connections: usize,
    /// The timeout of a request's head, idle time before it included.
    pub head: Duration,
    /// The timeout of a client that does not read its answer.
    pub unread: Duration,
    /// The time that answers in progress get to finish at shutdown.
    pub drain: Duration,
    /// Counts connections that are closed unserved, as their address has its share.
    pub turned_away: Option<IntCounter>,
}

impl Plain {
    /// Serves until `shutdown`. When this returns nothing of it runs any more.
    pub async fn serve<B>(
        self,
        listener: TcpListener,
        answer: impl Fn(&Request<Incoming>) -> Response<B> + Clone + Send + Sync + 'static,
        shutdown: impl Future<Output = ()>,
    ) where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (stop, stopping) = watch::channel(false);
        let tasks = Tasks::default();
        let Self { name, connections, head, unread, drain: rest, turned_away } = self;
        let door = Door { name, seats: Seats::new(connections), turned_away };
        accept_until(listener, &door, shutdown, |stream, _, seat| {
            tasks.spawn(connection((head, unread), stream, Seated::on(seat, Duration::ZERO), answer.clone(), stopping.clone()));
        })
        .await;
        let _ = stop.send(true);
        drain(rest, tasks.rest(), std::future::pending()).await;
        tasks.cut_off().await;
    }
}

/// Serves one connection, with these timeouts of a head and of an answer that is not read.
async fn connection<B>(
    (head, unread): (Duration, Duration),
    stream: TcpStream,
    seated: Arc<Seated>,
    answer: impl Fn(&Request<Incoming>) -> Response<B> + Send + Sync + 'static,
    mut stop: watch::Receiver<bool>,
) where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let of_requests = seated.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let under_way = of_requests.begin();
        let answered = answer(&request).map(|body| Answered::new(body, Some(under_way)));
        async move { Ok::<_, Infallible>(answered) }
    });
    let io = TokioIo::new(Heard::on(seated.clone(), Stalled::after(unread, stream)));
    let connection = http1(head).serve_connection(io, service);
    seated.driven(connection, unread, &mut stop, |connection| connection.graceful_shutdown()).await;
}

struct Door {
    name: &'static str,
    seats: Arc<Seats>,
    turned_away: Option<IntCounter>,
}

impl Admission for Door {
    type Seat = Seat;

    async fn admit(&self, _: &TcpStream, peer: SocketAddr) -> Result<Seat, Refused> {
        self.seats.admit(peer.ip()).await
    }

    fn turn_away(&self, _: TcpStream, peer: SocketAddr, why: Refused) {
        tracing::debug!(%peer, "a connection to {} is closed: {why}", self.name);
        if let Some(counter) = &self.turned_away {
            counter.inc();
        }
    }

    fn make_room(&self, error: &io::Error) {
        let silent = self.seats.silence_gives_up();
        tracing::warn!(%error, silent, "cannot accept a connection to {}", self.name);
    }
}
