//! The first bytes of a connection, and the side that sends them.

use super::Tunnel;
use crate::{
    first_bytes::{Line, Settings, Speaks, asks_a_proxy, asks_for_a_tunnel, asks_the_server, first_line, last_line, settings},
    passages::{passage_of, server_first},
};
use bytes::BytesMut;
use gnomon_http::SendError;
use gnomon_inspect::Passage;
use gnomon_wire::hello::{ClientHello, HelloError, HelloParser, HelloStatus, Opening, opening};
use std::{io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::{sleep, timeout},
};

/// How long a silent client is waited for before the server is checked for speaking first.
pub(super) const CLIENT_SPEAKS: Duration = Duration::from_millis(40);
/// Most bytes read to see what a client speaks.
pub(super) const PEEK: usize = 80 << 10;
/// How long the rest of a first line is waited for before its beginning is passed on, as the client may wait for an answer to it.
pub(super) const LINE_GOES_ON: Duration = Duration::from_secs(1);

/// The first bytes of a client, classified.
pub(super) enum First {
    Tls(Box<ClientHello>),
    Http(Speaks),
    /// Requests to another proxy, for what it is to fetch.
    ToProxy,
    /// A request for a tunnel, to another proxy.
    Connect,
    /// Something that is not read.
    Unread(Passage),
    /// No bytes, and the client has ended its side.
    Nothing,
    /// No bytes yet, and the server cannot be reached.
    Unreachable(SendError),
    Gone,
}

/// The side that sent something.
pub(super) enum Spoke {
    Client(usize),
    Server,
    Nobody(SendError),
}

const fn unreadable(error: HelloError) -> Passage {
    match error {
        HelloError::TooLarge => Passage::HelloTooLong,
        HelloError::ServerName => Passage::ServerNameInvalid,
        _ => Passage::HelloUnreadable,
    }
}

impl Tunnel {
    /// Reads until it is clear what the client speaks. A client that waits for the server is noticed
    /// by the server's first byte.
    pub(super) async fn peek(&mut self) -> io::Result<First> {
        let mut buffer = BytesMut::from(&self.seen[..]);
        let mut hello = HelloParser::new();
        let mut parsed = 0;
        let first = loop {
            let mut patience = None;
            if !buffer.is_empty() {
                let status = hello.push(&buffer[parsed..]);
                parsed = buffer.len();
                match status {
                    Ok(HelloStatus::Complete(hello)) => break First::Tls(hello),
                    // A few bytes that may be of a form of TLS that is not read are mostly another protocol's.
                    Ok(HelloStatus::Incomplete) if opening(&buffer) == Opening::Unclear && buffer.first() != Some(&22) => {
                        patience = Some(LINE_GOES_ON);
                    }
                    Ok(HelloStatus::Incomplete) if buffer.len() < PEEK => {}
                    Ok(HelloStatus::Incomplete) => break First::Unread(Passage::HelloTooLong),
                    Err(error) => break First::Unread(unreadable(error)),
                    Ok(HelloStatus::NotTls) => match first_line(&buffer) {
                        Line::Http(_) if asks_for_a_tunnel(&buffer) && self.through.is_none() => break First::Connect,
                        // Meant for another proxy: what it is to fetch is read.
                        Line::Http(Speaks::Http1) if asks_a_proxy(&buffer) => {
                            break First::ToProxy;
                        }
                        // Anything else that is meant for one, which would not understand it the way a server must.
                        Line::Http(Speaks::Http1) if self.original.is_some() && !asks_the_server(&buffer) => {
                            break First::Unread(Passage::OtherProxy);
                        }
                        Line::Http(speaks) => break First::Http(speaks),
                        Line::Maybe => patience = Some(LINE_GOES_ON),
                        line => break First::Unread(passage_of(line, &buffer, Passage::Foreign).unwrap_or(Passage::Foreign)),
                    },
                }
            }
            buffer.reserve(4096);
            let read = if buffer.is_empty() {
                match self.first_byte(&mut buffer).await? {
                    Spoke::Client(read) => read,
                    Spoke::Server => break First::Unread(server_first(&self.heard)),
                    Spoke::Nobody(error) => break First::Unreachable(error),
                }
            } else if let Some(patience) = patience {
                match timeout(patience, self.client.read_buf(&mut buffer)).await {
                    Ok(read) => read?,
                    Err(_) => break First::Unread(Passage::LineUnfinished),
                }
            } else {
                self.client.read_buf(&mut buffer).await?
            };
            if read == 0 {
                break match last_line(&buffer) {
                    _ if buffer.is_empty() => First::Nothing,
                    Line::Odd => First::Unread(Passage::RequestLineOdd),
                    _ => First::Unread(Passage::NothingSaid),
                };
            }
        };
        self.seen = buffer.freeze();
        Ok(first)
    }

    pub(super) async fn first_byte(&mut self, buffer: &mut BytesMut) -> io::Result<Spoke> {
        if self.server.is_none() {
            if self.original.is_some() {
                return self.client.read_buf(buffer).await.map(Spoke::Client);
            }
            tokio::select! {
                read = self.client.read_buf(buffer) => return read.map(Spoke::Client),
                () = sleep(CLIENT_SPEAKS) => {}
            }
            match self.dialer().tcp(&self.host, self.port).await {
                Ok(stream) => self.server = Some(stream),
                Err(error) => return Ok(Spoke::Nobody(error.into())),
            }
        }
        let Some(server) = &mut self.server else { return Ok(Spoke::Server) };
        if !self.settings {
            let spoke = either(&mut self.client, buffer, server, &mut self.heard).await?;
            if !matches!(spoke, Spoke::Server) || !are_settings(server, &mut self.heard).await {
                return Ok(spoke);
            }
            // No answer to anything: whoever serves HTTP/2 may send them at once (RFC 9113 section 3.4), and the client's preface decides.
            server.reads_again(self.heard.split().freeze());
            self.settings = true;
        }
        self.client.read_buf(buffer).await.map(Spoke::Client)
    }
}

/// Whether a server that spoke first has sent the settings of HTTP/2. What is not the whole head of a frame is waited for.
async fn are_settings<S: AsyncRead + Unpin>(server: &mut S, heard: &mut BytesMut) -> bool {
    let more = async {
        while settings(heard) == Settings::Maybe {
            if !matches!(server.read_buf(heard).await, Ok(read) if read > 0) {
                return;
            }
        }
    };
    let _ = timeout(LINE_GOES_ON, more).await;
    settings(heard) == Settings::Yes
}

/// The side that speaks first. An end counts as well, and an error of reading from the server.
pub(super) async fn either<C, S>(client: &mut C, buffer: &mut BytesMut, server: &mut S, heard: &mut BytesMut) -> io::Result<Spoke>
where
    C: AsyncRead + Unpin,
    S: AsyncRead + Unpin,
{
    heard.reserve(4096);
    tokio::select! {
        biased;
        read = client.read_buf(buffer) => read.map(Spoke::Client),
        _ = server.read_buf(heard) => Ok(Spoke::Server),
    }
}
