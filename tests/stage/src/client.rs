//! Clients of the proxy that send exactly the bytes that a test gives them.

use super::{HOST, authority::trusting, gnomon::Gnomon, soon, upstream::h1::find};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::{io, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// An answer, as far as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }
}

/// Opens a tunnel through the proxy.
pub async fn tunnel(proxy: SocketAddr, target: &str) -> TcpStream {
    let mut client = H1 { stream: TcpStream::connect(proxy).await.unwrap(), buffer: Vec::new() };
    client.stream.set_nodelay(true).unwrap();
    client.write(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n").as_bytes()).await;
    let answer = client.head().await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(client.buffer.is_empty());
    client.stream
}

/// A TLS handshake with gnomon's certificate, in a tunnel.
pub async fn tls(gnomon: &Gnomon, sni: &str, alpn: &[&str]) -> TlsStream<TcpStream> {
    let tunnel = tunnel(gnomon.address, &format!("{sni}:443")).await;
    handshake(tunnel, &gnomon.root, sni, alpn).await.unwrap()
}

/// A TLS handshake over `stream`, trusting one root.
pub async fn handshake<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    root: &rustls::pki_types::CertificateDer<'static>,
    sni: &str,
    alpn: &[&str],
) -> io::Result<TlsStream<S>> {
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    soon("the handshake", TlsConnector::from(trusting(root, alpn)).connect(name, stream)).await
}

/// HTTP/1.1 by hand.
pub struct H1<S> {
    pub stream: S,
    pub buffer: Vec<u8>,
}

impl H1<TlsStream<TcpStream>> {
    /// To [`HOST`], through the proxy.
    pub async fn connect(gnomon: &Gnomon) -> Self {
        Self::over(tls(gnomon, HOST, &["http/1.1"]).await)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> H1<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// Writes these bytes as one piece.
    pub async fn write(&mut self, bytes: &[u8]) {
        self.try_write(bytes).await.unwrap();
    }

    /// The same, for a connection that the other side may have closed.
    pub async fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        soon("room to write", async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
    }

    /// Writes each piece with a write of its own, then reads the answer.
    pub async fn send(&mut self, pieces: &[Vec<u8>]) -> Answer {
        for piece in pieces {
            self.write(piece).await;
        }
        self.answer().await
    }

    /// The head of the next answer.
    pub async fn head(&mut self) -> io::Result<Answer> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(':').unwrap();
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
        }
        Ok(Answer { status, headers, body: Vec::new() })
    }

    /// The next whole answer.
    pub async fn answer(&mut self) -> Answer {
        self.try_answer().await.unwrap()
    }

    /// The next whole answer, or why there is none.
    pub async fn try_answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.head().await?;
        if answer.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await? {
                answer.body.extend_from_slice(&chunk);
            }
        } else {
            let length = answer.header("content-length").map_or(0, |l| l.parse().unwrap());
            while self.buffer.len() < length {
                self.more().await?;
            }
            answer.body = self.buffer.drain(..length).collect();
        }
        Ok(answer)
    }

    /// The next chunk of a chunked body; none after the last.
    pub async fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                break String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
            }
            self.more().await?;
        };
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        while self.buffer.len() < size + 2 {
            self.more().await?;
        }
        let chunk: Vec<u8> = self.buffer.drain(..size).collect();
        self.buffer.drain(..2);
        Ok((size > 0).then_some(chunk))
    }

    async fn more(&mut self) -> io::Result<()> {
        match soon("bytes from the proxy", self.stream.read_buf(&mut self.buffer)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// Sends a FIN and waits for that of the other side.
    pub async fn close(mut self) {
        let _ = self.stream.shutdown().await;
        let mut rest = Vec::new();
        let _ = soon("the proxy to close", self.stream.read_to_end(&mut rest)).await;
    }
}

/// HTTP/2 with DATA frames chosen by the test.
pub struct H2 {
    send: h2::client::SendRequest<Bytes>,
    connection: tokio::task::JoinHandle<()>,
}

impl H2 {
    pub async fn connect(gnomon: &Gnomon) -> Self {
        Self::over(tls(gnomon, HOST, &["h2"]).await).await
    }

    pub async fn over(stream: TlsStream<TcpStream>) -> Self {
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { send, connection }
    }

    /// Begins a request; `end` says whether a body follows.
    pub async fn begin(&mut self, request: Request<()>, end: Ends) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut ready = soon("a stream", self.send.clone().ready()).await.unwrap();
        let begun = ready.send_request(request, end == Ends::WithHead).unwrap();
        self.send = ready;
        begun
    }

    /// Sends a request whose body is these frames.
    pub async fn send(&mut self, request: Request<()>, frames: &[Vec<u8>]) -> Result<Answer, h2::Error> {
        let (response, mut body) = self.begin(request, if frames.is_empty() { Ends::WithHead } else { Ends::WithBody }).await;
        for (index, frame) in frames.iter().enumerate() {
            if body.send_data(frame.clone().into(), index + 1 == frames.len()).is_err() {
                // The server may answer and reset before all was sent: the answer still counts (RFC 9113 section 8.1).
                break;
            }
            // Lets the connection write each frame on its own.
            tokio::task::yield_now().await;
        }
        h2_answer(response).await
    }

    pub async fn close(self) {
        drop(self.send);
        let _ = soon("the connection to end", self.connection).await;
    }
}

/// Which frame ends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    WithHead,
    WithBody,
}

/// Reads the whole answer of a stream.
pub async fn h2_answer(response: h2::client::ResponseFuture) -> Result<Answer, h2::Error> {
    let (parts, mut stream) = soon("an answer", response).await?.into_parts();
    let mut body = Vec::new();
    while let Some(data) = soon("the answer's body", stream.data()).await {
        let data = data?;
        let _ = stream.flow_control().release_capacity(data.len());
        body.extend_from_slice(&data);
    }
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
}
