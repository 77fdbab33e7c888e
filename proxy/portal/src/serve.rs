//! The portal's listener.

use crate::Portal;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// How long a request's head may take, and how long a connection may rest between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(120);

/// Why a portal does not start.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    /// Its address cannot be listened on.
    #[error("portal `{portal}` cannot listen on {address}: {cause}")]
    Listen {
        /// The portal.
        portal: String,
        /// The address.
        address: SocketAddr,
        /// Why not.
        cause: io::Error,
    },
}

/// A portal that listens but does not serve yet.
pub struct Listening {
    portal: Arc<Portal>,
    listener: TcpListener,
    address: SocketAddr,
    room: Arc<Semaphore>,
}

impl Listening {
    /// Opens the listener.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(portal: Arc<Portal>, address: SocketAddr, max_connections: usize) -> Result<Self, PortalError> {
        let failed = |cause| PortalError::Listen { portal: portal.options.id.to_string(), address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { portal, listener, address, room: Arc::new(Semaphore::new(max_connections)) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then gives connections `drain` to finish.
    pub async fn run(self, shutdown: impl Future<Output = ()>, drain: Duration) {
        let _tending = self.portal.tend();
        let (stop, stopping) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut shutdown = pin!(shutdown);
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&self.listener, &self.room) => accepted,
            };
            let Some((stream, peer, permit)) = accepted else { continue };
            let (portal, stopping) = (self.portal.clone(), stopping.clone());
            connections.spawn(async move {
                serve(portal, stream, peer, stopping).await;
                drop(permit);
            });
        }
        drop(self.listener);
        let _ = stop.send(true);
        let _ = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} }).await;
    }
}

async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

async fn serve(portal: Arc<Portal>, stream: TcpStream, peer: SocketAddr, mut stopping: watch::Receiver<bool>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let portal = portal.clone();
        async move { Ok::<_, Infallible>(portal.answer(request, peer).await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    builder.http2().timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
