//! Copies bytes between two sides unread, once the judge has let them pass.
//!
//! If only the beginning of a line had been sent when it was let pass, the line is watched until it is whole: bytes that complete a request
//! do not leave before the judge was asked about it.

use crate::{
    client_seats::ClientSeat,
    first_bytes::{Line, first_line, server_says_http},
    leaving::{Activity, Noting},
};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes},
    sync::watch,
};

/// Bytes per direction of a connection that is passed on.
const COPY: usize = 32 << 10;

/// Bytes that were read already and are not passed on yet.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub client: Bytes,
    pub server: Bytes,
}

/// The other causes of its end: the proxy stops, or others need the seat ([`Activity::is_over`]).
pub(crate) type Until<'a> = (&'a mut watch::Receiver<bool>, &'a ClientSeat);

/// How the splicing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// Both sides are done, or the proxy stops.
    Over,
    /// One side broke off: the other side sees a reset, and not an end.
    Broken,
    /// The client completed a line that must not leave.
    Refused,
}

/// Copies both ways, untouched.
pub(crate) async fn splice<C, S>(client: &mut C, server: &mut S, said: Said, (stop, seat): Until<'_>) -> Spliced
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let activity = Activity::default();
    let copied = async {
        say(client, &said.server).await?;
        say(server, &said.client).await?;
        let mut client = Noting { inner: client, activity: &activity };
        let mut server = Noting { inner: server, activity: &activity };
        copy_bidirectional_with_sizes(&mut client, &mut server, COPY, COPY).await.map(|_| ())
    };
    tokio::select! {
        copied = copied => if copied.is_ok() { Spliced::Over } else { Spliced::Broken },
        _ = stop.wait_for(|stopping| *stopping) => Spliced::Over,
        () = activity.is_over(seat) => Spliced::Broken,
    }
}

/// Copies both ways, and asks `may_pass` before the client's first line is whole at the server, if it is a request's, or TLS begins.
pub(crate) async fn splice_watching<C, S>(
    client: &mut C,
    server: &mut S,
    said: Said,
    (stop, seat): Until<'_>,
    may_pass: impl FnOnce(Line, &[u8]) -> bool,
) -> Spliced
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let watched = async {
        say(client, &said.server).await?;
        say(server, &said.client).await?;
        let mut line = BytesMut::from(&said.client[..]);
        let mut heard = BytesMut::with_capacity(4096);
        loop {
            let before = line.len();
            line.reserve(4096);
            tokio::select! {
                read = client.read_buf(&mut line) => match (read?, first_line(&line)) {
                    // The client sends no more.
                    (0, _) => return Ok(Some(Bytes::new())),
                    (_, Line::Maybe | Line::Strange) => say(server, &line[before..]).await?,
                    (_, Line::Foreign) => return Ok(Some(line.split_off(before).freeze())),
                    (_, said @ (Line::Http(_) | Line::Odd | Line::Long | Line::Hello)) => {
                        return Ok::<_, io::Error>(may_pass(said, &line).then(|| line.split_off(before).freeze()));
                    }
                },
                read = server.read_buf(&mut heard) => {
                    if read? == 0 {
                        return Ok(Some(Bytes::new()));
                    }
                    // A server that answers a line that is no request, and not in HTTP, does not expect one.
                    let answered = first_line(&line) == Line::Strange && !server_says_http(&heard);
                    say(client, &heard.split()).await?;
                    if answered {
                        return Ok(Some(Bytes::new()));
                    }
                    heard.reserve(4096);
                }
            }
        }
    };
    let rest = tokio::select! {
        rest = watched => rest,
        _ = stop.wait_for(|stopping| *stopping) => return Spliced::Over,
    };
    match rest {
        Ok(Some(client_said)) => splice(client, server, Said { client: client_said, server: Bytes::new() }, (stop, seat)).await,
        Ok(None) => Spliced::Refused,
        Err(_) => Spliced::Broken,
    }
}

async fn say(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    to.write_all(bytes).await?;
    to.flush().await
}
