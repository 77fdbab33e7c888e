//! Connections that are refused before a word of them is read: whose user has as many as one may, or is not known.

use crate::{
    asking::{Asking, user},
    client_seats::ClientSeat,
    shared::Shared,
};
use gnomon_inspect::{Connection, Hello, Telling};
use gnomon_observe::{Action, Channel};
use gnomon_record::{FlowOutcome, Missing};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpStream;

/// Refuses a connection of a user who has as many as one may, and tells of that user once in a while.
pub(crate) fn over_share(shared: &Shared, asking: &Asking, client: TcpStream) {
    let reports = match asking.seat.is_to_be_told(FlowOutcome::OverShare) {
        false => Vec::new(),
        true => judged(shared, asking).report(Action::Block, FlowOutcome::OverShare.as_str(), Telling::Always),
    };
    shared.recorder.flow(FlowOutcome::OverShare, reports);
    reset(client);
}

/// Refuses a connection that could not even wait for its turn, and reports its user.
pub(crate) async fn refuse(shared: &Shared, client: TcpStream, from: SocketAddr, seat: Arc<ClientSeat>) {
    let owned = match shared.owners() {
        Some(owners) => owners.owner(&client).await.filter(|owned| owned.redirected),
        None => None,
    };
    let asking = Asking { client: from, user: None, missing: Missing::Lost, owned: owned.map(Arc::new), seat };
    if asking.owned.is_none() {
        return unowned(shared, &asking, Channel::Https, client);
    }
    let outcome = FlowOutcome::OverShare;
    shared.recorder.flow(outcome, judged(shared, &asking).report(Action::Block, outcome.as_str(), Telling::Always));
    reset(client);
}

/// Refuses a connection of a program of this host whose owner is unknown, or that the kernel did not redirect to the listener of those:
/// neither where it is to go, nor as whom, nor the rules' verdict is known. Reported once in a while, and counted each time.
pub(crate) fn unowned(shared: &Shared, asking: &Asking, channel: Channel, client: TcpStream) {
    let outcome = FlowOutcome::Unowned;
    if let Some(owned) = &asking.owned {
        // Told of apart from those whose owner is not known: only the name counts here, not the share.
        let _ = asking.seat.is_of(&user(owned));
    }
    let reports = match asking.seat.is_to_be_told(outcome) {
        false => Vec::new(),
        true => asking.open(&shared.inspector, asking.observe(channel)).0.report(Action::Block, outcome.as_str(), Telling::Always),
    };
    shared.recorder.flow(outcome, reports);
    reset(client);
}

/// The connection, with the server that it is for as far as that is known before it says anything.
pub(crate) fn judged(shared: &Shared, asking: &Asking) -> Connection {
    let (mut connection, _) = asking.open(&shared.inspector, asking.observe(Channel::Https));
    if let Some(owned) = asking.owned.as_ref().filter(|owned| owned.redirected) {
        let original = meant(owned.original);
        let _ = connection.hello(&original.ip().to_string(), original.port(), &Hello::default());
    }
    connection
}

/// The address that the kernel would have connected to (ip(7): the unspecified address is this host).
pub(crate) fn meant(original: SocketAddr) -> SocketAddr {
    let ip = match original.ip().to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, original.port())
}

/// Closes with a reset and no end: as close to a refused connection as one that was accepted can come.
pub(crate) fn reset(client: TcpStream) {
    let _ = client.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unspecified_address_and_mapped_ones_mean_what_they_mean_to_the_kernel() {
        for (original, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::ffff:192.0.2.1]:80", "192.0.2.1:80"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
        ] {
            assert_eq!(meant(original.parse().unwrap()), expected.parse().unwrap());
        }
    }
}
