//! Connections that the kernel sent here instead of to where a program wanted to go.
//!
//! The program believes that it is connected already, so the server is dialled before a byte is read,
//! at the address that the program chose: a server that refuses is a reset, and one that speaks first
//! is heard at once. From then on it is a tunnel like another.
//!
//! A program in another network namespace is connected from there, with sockets that the sensor opens: its
//! loopback, routes and filters are not ours. Where there is no such socket, the connection is refused with an event,
//! as the alternative would be to connect the program to a stranger.

use crate::{
    FlowOutcome, Namespace, Owned,
    forward::flow_outcome,
    front,
    front::{Asking, Caller},
    proxy::Shared,
    tunnel,
    tunnel::Original,
};
use gnomon_engine::Answer;
use gnomon_inspect::{Hello, Telling};
use gnomon_observe::{Action, Channel};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpStream;

/// Serves one connection that arrived at a listener of redirected ones.
pub(crate) async fn serve(shared: Arc<Shared>, client: TcpStream, from: SocketAddr, namespace: Namespace) {
    let owners = shared.owners();
    let owned = match owners {
        Some(owners) => owners.owner(&client).await,
        None => None,
    };
    // Whoever connects to this listener by themselves would use it as an open relay.
    let (Some(owners), Some(owned)) = (owners, owned.filter(|owned| owned.redirected)) else {
        shared.recorder.flow(FlowOutcome::Unowned, Vec::new());
        reset(client);
        return;
    };
    owners.served(owned.cookie);
    let Some(place) = shared.shares.take(owned.uid).map(Arc::new) else {
        shared.recorder.flow(FlowOutcome::OverShare, Vec::new());
        reset(client);
        return;
    };
    let original = meant(owned.original);
    let netns = match namespace {
        Namespace::Own => None,
        Namespace::Other(netns) => Some(netns),
    };
    if namespace == Namespace::Own && shared.is_own_proxy(original) {
        // A program in a redirected scope that was told of the proxy as well.
        let owned = Owned { redirected: false, ..owned };
        front::serve_owned(shared, client, Caller { client: from, owned: Some(Arc::new(owned)), place: Some(place) }).await;
        return;
    }
    let asking = Asking { client: from, user: None, owned: Some(Arc::new(owned)), _place: Some(place) };
    let (mut connection, answer) = asking.open(&shared.inspector, asking.observe(Channel::Https));
    let mut refused = |outcome: FlowOutcome, telling| {
        let _ = connection.hello(&original.ip().to_string(), original.port(), &Hello::default());
        shared.recorder.flow(outcome, connection.report(Action::Allow, outcome.as_str(), telling));
    };
    if matches!(answer, Answer::Decided(verdict) if verdict.action.interferes()) {
        // Not even dialled; what the program says is read, so that it is answered in its own terms.
        tunnel::serve_original(shared, asking, Original { address: original, netns }, client, None).await;
        return;
    }
    let mut stop = shared.stopping();
    let dialer = shared.dialer.within(netns);
    let dialled = tokio::select! {
        dialled = dialer.address(original) => dialled,
        _ = stop.wait_for(|stopping| *stopping) => return reset(client),
    };
    match dialled {
        Ok(server) => tunnel::serve_original(shared, asking, Original { address: original, netns }, client, Some(server)).await,
        Err(error) => {
            let outcome = flow_outcome(&error.into());
            let telling = if outcome == FlowOutcome::OutOfReach { Telling::Always } else { Telling::IfMatched };
            refused(outcome, telling);
            reset(client);
        }
    }
}

/// What the kernel would have connected to (ip(7): the unspecified address is this host).
fn meant(original: SocketAddr) -> SocketAddr {
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
