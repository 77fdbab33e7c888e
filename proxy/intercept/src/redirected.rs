//! Connections that the kernel sent here instead of to where a program wanted to go.
//!
//! The program believes that it is connected already, so the server is dialled before a byte is read,
//! at the address that the program chose: a server that refuses is a reset, and one that speaks first
//! is heard at once. From then on it is a tunnel like another. Where that address is dead, [`crate::elsewhere`] says
//! where else to go; if nowhere, the user's next connections to it are refused for a while, so that programs try
//! their next address, as they would without us.
//!
//! A program is connected from its own network namespace, and as its own user, with sockets that the sensor opens: its
//! loopback, routes and filters are not ours. Where there is no such socket, the connection is refused with an event,
//! as the alternative would be to connect the program to a stranger.

use crate::{
    asking::{Asking, Caller, user},
    client_seats::ClientSeat,
    elsewhere::{self, Dialled},
    front,
    refused::{judged, meant, over_share, reset, unowned},
    resets::UntilWhole,
    route::flow_outcome,
    shared::Shared,
    tunnel,
    tunnel::Original,
};
use gnomon_engine::Answer;
use gnomon_http::{NetNs, server::UnderWay};
use gnomon_inspect::{Enforcement, Hello, Passage, Passed, Telling};
use gnomon_observe::{Action, Channel};
use gnomon_record::{FlowOutcome, Missing, Owned, Owners};
use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{
    io::{Interest, copy_bidirectional_with_sizes},
    net::TcpStream,
    time::sleep,
};

/// Bytes per direction of a connection above its user's share that is passed on.
const COPY_BEYOND: usize = 8 << 10;

/// How long a server may leave a SYN unanswered before its address counts as one that failed, should the program give up then.
const UNANSWERED: Duration = Duration::from_secs(1);
/// The interval at which the program's abort is checked for.
const GIVES_UP: Duration = Duration::from_millis(100);
/// The time for which a server is dialled for a client that has ended its side.
const ENDED: Duration = Duration::from_secs(10);

/// The network namespace of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// The one the proxy dials from: the program's addresses are the proxy's.
    Own,
    /// Another one: connections from there are dialled from there.
    Other(NetNs),
}

/// Serves one connection that arrived at a listener of redirected ones. While `dials` is held it is not evicted.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    client: TcpStream,
    from: SocketAddr,
    namespace: Namespace,
    (seat, dials): (Arc<ClientSeat>, UnderWay),
) {
    let owners = shared.owners();
    let owned = match owners {
        Some(owners) => owners.owner(&client).await,
        None => None,
    };
    // A client that connects to this listener directly would use it as an open relay.
    let (owners, owned) = match (owners, owned) {
        (Some(owners), Some(owned)) if owned.redirected => (owners, owned),
        (_, owned) => {
            // Nobody outside this host reaches it: an owner that is not there was lost.
            let missing = Missing::Lost;
            let asking = Asking { client: from, user: None, owned: owned.map(Arc::new), missing, seat };
            return unowned(&shared, &asking, Channel::Https, client);
        }
    };
    owners.served(owned.cookie);
    let original = meant(owned.original);
    let netns = match namespace {
        Namespace::Own => None,
        Namespace::Other(netns) => Some(netns),
    };
    let mut asking = Asking { client: from, user: None, owned: Some(Arc::new(owned.clone())), missing: Missing::Outside, seat };
    let near = asking.near(netns);
    let user = user(&owned);
    if asking.seat.is_of(&user).is_err() {
        // Verdicts are not carried out in a scope that only observes, so it may as well pass.
        if owned.enforcement == Enforcement::Shadow {
            return pass_beyond(&shared, &asking, Original { address: original, near }, client).await;
        }
        if asking.seat.is_of_in_time(&user).await.is_err() {
            return over_share(&shared, &asking, client);
        }
    }
    if namespace == Namespace::Own && shared.is_own_proxy(original) {
        // A program in a redirected scope whose environment names the proxy as well.
        let owned = Owned { redirected: false, ..owned };
        drop(dials);
        front::serve_owned(
            shared,
            client,
            Caller { client: from, owned: Some(Arc::new(owned)), missing: Missing::Outside, seat: asking.seat },
        )
        .await;
        return;
    }
    let (mut connection, answer) = asking.open(&shared.inspector, asking.observe(Channel::Https));
    let mut refused = |outcome: FlowOutcome, telling| {
        let _ = connection.hello(&original.ip().to_string(), original.port(), &Hello::default());
        shared.recorder.flow(outcome, connection.report(Action::Allow, outcome.as_str(), telling));
    };
    if matches!(answer, Answer::Decided(verdict) if verdict.action.interferes()) {
        // Not even dialled; what the program says is read, so that it is answered in its own terms.
        tunnel::serve_original(shared, asking, Original { address: original, near }, client, None).await;
        return;
    }
    let dialled = match dial(&shared, owners, (&asking, &owned), Original { address: original, near }, &client).await {
        Dialling::Over(dialled) => dialled,
        Dialling::GivenUp => return,
        Dialling::Left => return shared.recorder.flow(FlowOutcome::ClientFailed, Vec::new()),
        Dialling::Stopped => return reset(client),
    };
    match (dialled.connected, dialled.failure) {
        (Some((server, address)), _) => {
            shared.reached.keep(owned.netns, address);
            if address != original {
                // Judged and told by where it really goes.
                asking.owned = Some(Arc::new(Owned { original: address, ..owned }));
            }
            tunnel::serve_original(shared, asking, Original { address, near }, client, Some(server)).await;
        }
        (None, error) => {
            let outcome = error.map_or(FlowOutcome::Unreachable, |error| flow_outcome(&error.into()));
            let telling = if outcome == FlowOutcome::OutOfReach { Telling::Always } else { Telling::IfMatched };
            refused(outcome, telling);
            reset(client);
        }
    }
}

/// What came of dialling.
enum Dialling {
    Over(Dialled),
    /// The program gave up first: it knows by itself.
    GivenUp,
    /// The program is gone.
    Left,
    /// gnomon ends.
    Stopped,
}

/// Dials a program's server. Where its address does not answer, its owner's next connections to it are refused for a while.
async fn dial(
    shared: &Shared,
    owners: &Arc<dyn Owners>,
    (asking, owned): (&Asking, &Owned),
    Original { address, near }: Original,
    client: &TcpStream,
) -> Dialling {
    let mut stop = shared.stopping();
    // Since when the server has been silent, and not the sensor that opens the socket.
    let asked = Arc::new(OnceLock::new());
    let dialer = shared.dialer.from(near).on_behalf_of(asking.principal()).noting(asked.clone());
    // A program that gave up, as its own timeout was shorter than the kernel's, would find the address silent again and again and never
    // try its next one. Without us it would do so as `connect()` failed.
    let gives_up = async {
        has_left(client).await;
        if asked.get().is_some_and(|since: &Instant| since.elapsed() >= UNANSWERED) {
            owners.unreachable(owned, shared.reached.refused_for(owned.netns, address)).await;
        }
        std::future::pending::<()>().await;
    };
    let dialled = tokio::select! {
        dialled = elsewhere::dial(&dialer, address, client) => dialled,
        () = gives_up => return Dialling::GivenUp,
        () = leaves(client) => return Dialling::Left,
        _ = stop.wait_for(|stopping| *stopping) => return Dialling::Stopped,
    };
    if let Some(error) = &dialled.failure
        && error.is_of_the_address()
    {
        owners.unreachable(owned, shared.reached.refused_for(owned.netns, address)).await;
    }
    Dialling::Over(dialled)
}

/// Ends once the client has ended its side, or is gone.
async fn has_left(client: &TcpStream) {
    while !client.ready(Interest::READABLE).await.is_ok_and(|ready| ready.is_read_closed()) {
        // Unread bytes keep it readable, so waiting for readiness alone would spin.
        sleep(GIVES_UP).await;
    }
}

/// Ends once the client has ended its side and time enough has passed for a server to be reached.
async fn leaves(client: &TcpStream) {
    loop {
        sleep(ENDED).await;
        if client.ready(Interest::READABLE).await.is_ok_and(|ready| ready.is_read_closed()) {
            return;
        }
    }
}

/// Passes on a connection above its user's share, unread: of a scope that enforces nothing. Refuses it where there is no
/// room for that either.
async fn pass_beyond(shared: &Shared, asking: &Asking, original: Original, mut client: TcpStream) {
    let Some(_beyond) = asking.seat.beyond() else { return over_share(shared, asking, client) };
    let mut reports = match judged(shared, asking).pass(Passage::BeyondShare, FlowOutcome::BeyondShare.as_str()) {
        // Reports without a match are limited; each is counted.
        Passed::Go(mut reports) => {
            let told = asking.seat.is_to_be_told(FlowOutcome::BeyondShare);
            reports.retain(|report| told || report.rule.is_some());
            reports
        }
        Passed::Refuse(_, _, reports) => {
            shared.recorder.flow(FlowOutcome::OverShare, reports);
            return reset(client);
        }
    };
    shared.recorder.metrics().passed(Passage::BeyondShare);
    let dialer = shared.dialer.from(original.near).on_behalf_of(asking.principal());
    let mut server = match dialer.address(original.address).await {
        Ok(server) => server,
        Err(error) => {
            let outcome = flow_outcome(&error.into());
            if outcome == FlowOutcome::OutOfReach && asking.seat.is_to_be_told(outcome) {
                reports.extend(judged(shared, asking).report(Action::Allow, outcome.as_str(), Telling::Always));
            }
            shared.recorder.flow(outcome, reports);
            return reset(client);
        }
    };
    shared.recorder.flow(FlowOutcome::BeyondShare, reports);
    // One side broke off, or the proxy has stopped: the other is to see that, and not an end.
    let (mut client, mut server) = (UntilWhole::new(&mut client), UntilWhole::new(&mut server));
    if copy_bidirectional_with_sizes(client.side, server.side, COPY_BEYOND, COPY_BEYOND).await.is_ok() {
        client.is_whole();
        server.is_whole();
    }
}
