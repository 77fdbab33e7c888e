//! The upstream's HTTP/1.1, parsed by hand: every byte is looked at when it arrives, not when a library finds the message complete.

use super::{Answer, Answered, End, Log, Responder};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::{io, sync::Arc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Serves one connection.
pub async fn serve<S>(stream: S, connection: usize, log: Arc<Log>, responder: Responder)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut connection = Connection { stream, number: connection, log, responder, buffer: Vec::new() };
    while let Ok(Next::Request) = connection.request().await {}
}

struct Connection<S> {
    stream: S,
    number: usize,
    log: Arc<Log>,
    responder: Responder,
    buffer: Vec<u8>,
}

#[derive(PartialEq, Eq)]
enum Next {
    Request,
    Nothing,
}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Connection<S> {
    async fn request(&mut self) -> io::Result<Next> {
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break self.buffer.drain(..end + 4).collect::<Vec<u8>>();
            }
            if !self.more().await? {
                return Ok(Next::Nothing);
            }
        };
        let (method, path, headers) = parse(&head);
        let mut body = Body::of(&headers);
        let expected = headers.get("expect").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let request = self.log.begin(self.number, method, path, headers);
        let mut next = self.respond(request).await?;
        if expected && !body.over() && self.log.look(|all| all[request].answered == Answered::NotYet) {
            self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            self.stream.flush().await?;
        }
        while !body.over() {
            let data = match body.take(&mut self.buffer) {
                Some(data) => data,
                None if self.more().await.unwrap_or(false) => continue,
                None => {
                    self.log.end(request, End::Broken);
                    return Ok(Next::Nothing);
                }
            };
            self.log.data(request, &data);
            next = self.respond(request).await?.min_of(next);
        }
        self.log.end(request, End::Clean);
        Ok(self.respond(request).await?.min_of(next))
    }

    async fn more(&mut self) -> io::Result<bool> {
        let read = self.stream.read_buf(&mut self.buffer).await?;
        self.log.count_bytes(read);
        Ok(read > 0)
    }

    async fn respond(&mut self, request: usize) -> io::Result<Next> {
        match self.log.answer(request, &self.responder) {
            None | Some(Answer::Nothing) => {}
            Some(Answer::Full { status, headers, body }) => {
                let mut head = head_of(status, &headers);
                if !matches!(status, 204 | 304) {
                    head.push_str(&format!("content-length: {}\r\n", body.len()));
                }
                let mut bytes = format!("{head}\r\n").into_bytes();
                bytes.extend_from_slice(&body);
                self.stream.write_all(&bytes).await?;
                self.stream.flush().await?;
            }
            Some(Answer::Stream { headers, mut pieces }) => {
                let head = format!("{}transfer-encoding: chunked\r\n\r\n", head_of(200, &headers));
                self.stream.write_all(head.as_bytes()).await?;
                self.stream.flush().await?;
                while let Some(piece) = pieces.recv().await {
                    let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                    chunk.extend_from_slice(&piece);
                    chunk.extend_from_slice(b"\r\n");
                    self.stream.write_all(&chunk).await?;
                    self.stream.flush().await?;
                }
                self.stream.write_all(b"0\r\n\r\n").await?;
                self.stream.flush().await?;
            }
            Some(Answer::Switch(headers)) => {
                let head = format!("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n{headers}\r\n");
                self.stream.write_all(head.as_bytes()).await?;
                self.stream.flush().await?;
                while self.more().await? {
                    let echo = std::mem::take(&mut self.buffer);
                    self.stream.write_all(&echo).await?;
                    self.stream.flush().await?;
                }
                return Ok(Next::Nothing);
            }
        }
        Ok(Next::Request)
    }
}

impl Next {
    fn min_of(self, other: Self) -> Self {
        if self == Self::Nothing || other == Self::Nothing { Self::Nothing } else { Self::Request }
    }
}

fn head_of(status: u16, headers: &[(&'static str, String)]) -> String {
    let mut head = format!("HTTP/1.1 {status} Said\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head
}

/// Where a body ends, by its framing.
enum Body {
    Left(usize),
    /// Bytes left of the current chunk, its line end included; none before a size line.
    Chunked(Option<usize>),
    Over,
}

impl Body {
    fn of(headers: &HeaderMap) -> Self {
        if headers.get("transfer-encoding").is_some_and(|v| v == "chunked") {
            return Self::Chunked(None);
        }
        match headers.get("content-length").map(|v| v.to_str().unwrap().parse().unwrap()) {
            Some(0) | None => Self::Over,
            Some(length) => Self::Left(length),
        }
    }

    fn over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Takes the bytes of the body out of `buffer`; `None` if more are needed.
    fn take(&mut self, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Over => None,
            Self::Left(left) => {
                let data: Vec<u8> = buffer.drain(..buffer.len().min(*left)).collect();
                *left -= data.len();
                if *left == 0 {
                    *self = Self::Over;
                }
                (!data.is_empty()).then_some(data)
            }
            Self::Chunked(None) => {
                let end = find(buffer, b"\r\n")?;
                let line = String::from_utf8(buffer.drain(..end + 2).collect()).unwrap();
                let size = usize::from_str_radix(line.trim_end().split(';').next().unwrap(), 16).unwrap();
                *self = Self::Chunked(Some(size + 2));
                if size == 0 {
                    *self = Self::Chunked(Some(0));
                }
                Some(Vec::new())
            }
            // The last chunk: no trailers are expected, only the empty line.
            Self::Chunked(Some(0)) => {
                let end = find(buffer, b"\r\n")?;
                buffer.drain(..end + 2);
                *self = Self::Over;
                Some(Vec::new())
            }
            Self::Chunked(Some(left)) => {
                if buffer.is_empty() {
                    return None;
                }
                let taken = buffer.len().min(*left);
                let data: Vec<u8> = buffer.drain(..taken).collect();
                // The last two bytes of a chunk are its CRLF.
                let content = left.saturating_sub(2).min(taken);
                *left -= taken;
                if *left == 0 {
                    *self = Self::Chunked(None);
                }
                Some(data[..content].to_vec())
            }
        }
    }
}

fn parse(head: &[u8]) -> (Method, String, HeaderMap) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.trim_end().split("\r\n");
    let mut line = lines.next().unwrap().split(' ');
    let method = line.next().unwrap().parse().unwrap();
    let path = line.next().unwrap().to_owned();
    let headers = lines
        .map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap())
        })
        .collect();
    (method, path, headers)
}

/// The position of `needle`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}
