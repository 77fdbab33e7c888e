//! Connections that come in, and the seats they get.

use gnomon_shares::Refused;
use std::{io, net::SocketAddr, pin::pin, time::Duration};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};

/// The listen backlog; the kernel bounds it further (`net.core.somaxconn`). A client that finds it full retries after a second or more.
const BACKLOG: u32 = 1024;

/// The pause after an error of accept: exhaustion (descriptors, memory) would fail again at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Opens a listener.
///
/// # Errors
/// Why the address cannot be listened on.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Connections of the program before us may still be on their way out.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The policy of admitting connections.
pub trait Admission: Send + Sync {
    /// The seat that a connection holds while it lasts.
    type Seat: Send;

    /// A seat for a connection that was accepted. May wait until there is one: further ones wait in the kernel.
    fn admit(&self, stream: &TcpStream, peer: SocketAddr) -> impl Future<Output = Result<Self::Seat, Refused>> + Send;

    /// Closes a connection that gets no seat.
    fn turn_away(&self, stream: TcpStream, peer: SocketAddr, why: Refused);

    /// Called when no connection can be accepted: frees what can be spared.
    fn make_room(&self, error: &io::Error);
}

/// The result of accepting one connection.
#[derive(Debug)]
pub enum Accepting<S> {
    /// The connection has a seat.
    Seated(TcpStream, SocketAddr, S),
    /// The connection was turned away, or none could be accepted and room was made.
    Nobody,
    /// The listener was shut down by its owner (shutdown(2)).
    Over,
}

impl<S> Accepting<S> {
    /// The next one.
    pub async fn next<A: Admission<Seat = S>>(listener: &TcpListener, admission: &A) -> Self {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let _ = stream.set_nodelay(true);
                match admission.admit(&stream, peer).await {
                    Ok(seat) => Self::Seated(stream, peer, seat),
                    Err(why) => {
                        admission.turn_away(stream, peer, why);
                        Self::Nobody
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Self::Over,
            Err(error) => {
                admission.make_room(&error);
                sleep(PAUSE).await;
                Self::Nobody
            }
        }
    }
}

/// Accepts connections and hands those that have a seat on, until `shutdown` or the listener's end. The listener is closed then.
pub async fn accept_until<A: Admission>(
    listener: TcpListener,
    admission: &A,
    shutdown: impl Future<Output = ()>,
    mut take_on: impl FnMut(TcpStream, SocketAddr, A::Seat),
) {
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => return,
            accepted = Accepting::next(&listener, admission) => accepted,
        };
        match accepted {
            Accepting::Seated(stream, peer, seat) => take_on(stream, peer, seat),
            Accepting::Nobody => {}
            Accepting::Over => return,
        }
    }
}
