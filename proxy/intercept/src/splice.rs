//! Copies bytes between two sides unread, once the judge has let them pass.
//!
//! If only the beginning of a line had been sent when it was let pass, the line is watched until it is whole: bytes that complete a request
//! do not leave before the judge was asked about it.

use crate::{
    client_seats::ClientSeat,
    first_bytes::{Line, first_line, server_says_http},
    leaving::{Activity, Noting},
    resets::{Resets, UntilWhole},
};
use bytes::{Bytes, BytesMut};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};

/// Bytes per direction of a connection that is passed on.
const COPY: usize = 32 << 10;

/// Bytes that were read already and are not passed on yet.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub client: Bytes,
    pub server: Bytes,
}

/// How the splicing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spliced {
    /// Both sides are done.
    Over,
    /// One side broke off: the other side sees a reset, and not an end.
    Broken,
    /// The client completed a line that must not leave.
    Refused,
}

/// Copies both ways, untouched, until both sides are done or others need the seat ([`Activity::is_over`]). A proxy that stops goes on until it
/// cuts the task off: sides that are not done by then are reset.
pub(crate) async fn splice<C, S>(client: &mut C, server: &mut S, said: Said, seat: &ClientSeat) -> Spliced
where
    C: AsyncRead + AsyncWrite + Resets + Unpin,
    S: AsyncRead + AsyncWrite + Resets + Unpin,
{
    let activity = Activity::default();
    let (mut client, mut server) = (UntilWhole::new(client), UntilWhole::new(server));
    let copied = async {
        say(client.side, &said.server).await?;
        say(server.side, &said.client).await?;
        let mut client = Noting { inner: &mut *client.side, activity: &activity };
        let mut server = Noting { inner: &mut *server.side, activity: &activity };
        copy_bidirectional_with_sizes(&mut client, &mut server, COPY, COPY).await.map(|_| ())
    };
    let copied: io::Result<()> = tokio::select! {
        copied = copied => copied,
        () = activity.is_over(seat) => return Spliced::Broken,
    };
    if copied.is_err() {
        return Spliced::Broken;
    }
    client.is_whole();
    server.is_whole();
    Spliced::Over
}

/// Copies both ways, and asks `may_pass` before the client's first line is whole at the server, if it is a request's, or TLS begins.
pub(crate) async fn splice_watching<C, S>(
    client: &mut C,
    server: &mut S,
    said: Said,
    seat: &ClientSeat,
    may_pass: impl FnOnce(Line, &[u8]) -> bool,
) -> Spliced
where
    C: AsyncRead + AsyncWrite + Resets + Unpin,
    S: AsyncRead + AsyncWrite + Resets + Unpin,
{
    let (mut client, mut server) = (UntilWhole::new(client), UntilWhole::new(server));
    let watched = async {
        let (client, server) = (&mut *client.side, &mut *server.side);
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
    match watched.await {
        Ok(Some(client_said)) => {
            client.is_whole();
            server.is_whole();
            splice(client.side, server.side, Said { client: client_said, server: Bytes::new() }, seat).await
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_seats::ClientSeats;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use tokio::net::{TcpListener, TcpStream};

    /// Both ends of a connection.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    #[tokio::test]
    async fn what_is_cut_off_in_the_middle_is_reset_and_what_is_whole_ends_in_order() {
        for whole in [true, false] {
            let ((mut program, mut client), (mut server, mut far)) = (pair().await, pair().await);
            let task = tokio::spawn(async move {
                let seats = ClientSeats::new(2, 2);
                let seat = seats.admit(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000)).await.unwrap();
                splice(&mut client, &mut server, Said::default(), &seat).await
            });
            far.write_all(b"half").await.unwrap();
            let mut heard = [0; 4];
            program.read_exact(&mut heard).await.unwrap();
            if whole {
                drop(far);
                assert_eq!(program.read(&mut heard).await.unwrap(), 0);
                drop(program);
                assert_eq!(task.await.unwrap(), Spliced::Over);
            } else {
                task.abort();
                let error = program.read(&mut heard).await.unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        }
    }
}
