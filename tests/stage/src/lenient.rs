//! A server that accepts anything as a request: it executes every JSON value that it can find in what it receives, whatever the lines
//! around it, and answers. What this server does not execute, no real server would have executed.

use super::{authority::Authority, eager::Eager};
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// A running server.
pub struct Lenient {
    pub address: SocketAddr,
    ran: Arc<Ran>,
}

/// What it received and executed.
#[derive(Default)]
struct Ran {
    /// All bytes that it received, connection after connection.
    got: Mutex<Vec<u8>>,
    calls: AtomicU64,
    connections: AtomicU64,
}

impl Lenient {
    /// Without TLS.
    pub async fn start() -> Self {
        Self::greeting(b"").await
    }

    /// Without TLS; it sends this greeting before any request.
    pub async fn greeting(greeting: &'static [u8]) -> Self {
        Self::serving(None, greeting).await
    }

    /// With TLS for this name. It selects the first of these protocols that the client offers, and none if it is given none.
    pub async fn with_tls(authority: &Authority, name: &str, alpn: &[&str], greeting: &'static [u8]) -> Self {
        Self::serving(Some(TlsAcceptor::from(authority.server(name, alpn))), greeting).await
    }

    async fn serving(tls: Option<TlsAcceptor>, greeting: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, ran) = (listener.local_addr().unwrap(), Arc::new(Ran::default()));
        let counted = ran.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (ran, tls) = (counted.clone(), tls.clone());
                ran.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    match tls {
                        None => read::<TcpStream>(stream, greeting, &ran).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                read(stream, greeting, &ran).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, ran }
    }

    /// The number of tool calls that it executed.
    pub fn calls(&self) -> u64 {
        self.ran.calls.load(Ordering::SeqCst)
    }

    /// The number of connections that it accepted.
    pub fn connections(&self) -> u64 {
        self.ran.connections.load(Ordering::SeqCst)
    }

    /// All bytes that it received.
    pub fn got(&self) -> Vec<u8> {
        self.ran.got.lock().unwrap().clone()
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, greeting: &[u8], ran: &Ran) {
    if stream.write_all(greeting).await.is_err() || stream.flush().await.is_err() {
        return;
    }
    let (mut eager, mut buffer) = (Eager::default(), vec![0; 16 << 10]);
    loop {
        let Ok(length @ 1..) = stream.read(&mut buffer).await else { return };
        let mut executed = Vec::new();
        eager.feed(&buffer[..length], &mut executed);
        ran.got.lock().unwrap().extend_from_slice(&buffer[..length]);
        let calls = executed.iter().filter(|value| value.windows(10).any(|ten| ten == b"tools/call")).count();
        ran.calls.fetch_add(calls as u64, Ordering::SeqCst);
        if !executed.is_empty() {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\nran";
            if stream.write_all(answer).await.is_err() || stream.flush().await.is_err() {
                return;
            }
        }
    }
}
