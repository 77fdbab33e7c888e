//! Syslog over TCP, with TLS or without (RFC 5424 messages, octet counting; RFC 6587, RFC 5425).
//!
//! **The trade-off**: syslog acknowledges nothing. So each batch has a connection of its own: gnomon ends its side and waits
//! for the receiver to end its own, which those that read to the end do. A receiver that does not within
//! [`CLOSE_TIMEOUT`] is believed all the same. UDP is not supported: it loses messages silently.

mod format;

use crate::{Delivery, SetupError, SyslogEndpoint, trust};
use gnomon_ledger::StoredEvent;
use rustls_pki_types::ServerName;
use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Timeout of the TCP connection and the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of writing a batch.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Timeout of the receiver ending its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes that are read of a receiver, which has nothing to say.
const MAX_READ: u64 = 64 << 10;

/// Options of a syslog server.
pub struct SyslogOptions {
    /// Its address.
    pub endpoint: SyslogEndpoint,
    /// PEM files with authorities to trust besides the system's.
    pub ca: Vec<PathBuf>,
    /// Makes an event's one-line message of its JSON.
    pub describe: fn(&str) -> String,
}

/// Sends events to a syslog server.
pub struct SyslogSink {
    endpoint: SyslogEndpoint,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    host: String,
    describe: fn(&str) -> String,
}

impl fmt::Debug for SyslogSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SyslogSink").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl SyslogSink {
    /// A sink that has not connected yet.
    ///
    /// # Errors
    /// When authorities cannot be read, or TLS cannot verify such a name.
    pub fn new(options: SyslogOptions) -> Result<Self, SetupError> {
        let tls = if options.endpoint.is_tls() {
            let name = options.endpoint.host().to_owned();
            let name = ServerName::try_from(name).map_err(|_| SetupError::Name(options.endpoint.host().to_owned()))?;
            Some((TlsConnector::from(Arc::new(trust::client(&options.ca)?)), name))
        } else {
            None
        };
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host = if format::is_word(&host) { host } else { "-".to_owned() };
        Ok(Self { endpoint: options.endpoint, tls, host, describe: options.describe })
    }

    pub(crate) fn target(&self) -> String {
        self.endpoint.to_string()
    }

    pub(crate) async fn deliver(&self, events: &[StoredEvent]) -> Delivery {
        let mut frames = Vec::new();
        for event in events {
            format::frame(&format::message(event, &self.host, self.describe), &mut frames);
        }
        match self.send(&frames).await {
            Ok(()) => Delivery::Accepted { rejected: 0 },
            Err(error) => Delivery::Failed { why: error.to_string(), after: None },
        }
    }

    async fn send(&self, frames: &[u8]) -> io::Result<()> {
        let connect = async {
            let tcp = TcpStream::connect((self.endpoint.host(), self.endpoint.port())).await?;
            Ok::<_, io::Error>(match &self.tls {
                None => Connection::Plain(tcp),
                Some((tls, name)) => Connection::Tls(Box::new(tls.connect(name.clone(), tcp).await?)),
            })
        };
        match within(CONNECT_TIMEOUT, "connecting", connect).await? {
            Connection::Plain(stream) => hand_over(stream, frames).await,
            Connection::Tls(stream) => hand_over(*stream, frames).await,
        }
    }
}

enum Connection {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Writes everything, ends this side, and sees the other side end.
async fn hand_over(mut stream: impl AsyncRead + AsyncWrite + Unpin, frames: &[u8]) -> io::Result<()> {
    let write = async {
        stream.write_all(frames).await?;
        stream.shutdown().await
    };
    within(WRITE_TIMEOUT, "writing", write).await?;
    let mut rest = stream.take(MAX_READ);
    match timeout(CLOSE_TIMEOUT, tokio::io::copy(&mut rest, &mut tokio::io::sink())).await {
        // Many receivers end TLS without saying so.
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
        Ok(Err(error)) => Err(error),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

async fn within<T>(time: Duration, what: &str, done: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(time, done).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{what} took longer than {} s", time.as_secs()))),
    }
}
