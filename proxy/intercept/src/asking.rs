//! The owner of a connection, as far as it is known, and what follows from it.

use crate::client_seats::ClientSeat;
use gnomon_engine::Answer;
pub(crate) use gnomon_http::server::UNREAD;
use gnomon_http::{HostUser, NearEnd, NetNs};
use gnomon_inspect::{Connection, Enforcement, Inspector};
use gnomon_observe::{Channel, Correlation, Field, Observation};
use gnomon_record::{Missing, Owned};
use smol_str::SmolStr;
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// The timeout of a connection for a request's head, idle time before it included, while no other needs its seat.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);

/// A client's connection with the user, the owner and the seat that it has.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub client: SocketAddr,
    /// The user, where the proxy knows one.
    pub user: Option<SmolStr>,
    /// The owner of the connection, where the kernel half tells.
    pub owned: Option<Arc<Owned>>,
    /// The reason that there is no owner.
    pub missing: Missing,
    /// The connection's seat, which it keeps to its end.
    pub seat: Arc<ClientSeat>,
}

impl Asking {
    /// The principal that owns the upstream connections.
    pub fn principal(&self) -> Arc<str> {
        match &self.user {
            Some(user) => Arc::from(user.as_str()),
            // All that is redirected comes from loopback; users are apart, and so are the containers of one.
            None => match &self.owned {
                Some(owned) => Arc::from(format!("{} {} {}", self.client.ip(), owned.uid, owned.cgroup)),
                None => Arc::from(self.client.ip().to_string()),
            },
        }
    }

    /// The network namespace and user that its connections are made from: the host's filters on a user must not be bypassed by way of us.
    pub fn near(&self, netns: Option<NetNs>) -> NearEnd {
        NearEnd { netns, user: self.owned.as_ref().map(|owned| HostUser { uid: owned.uid, gid: owned.gid }) }
    }

    /// Opens the judged connection with the evidence so far.
    pub fn open(&self, inspector: &Arc<Inspector>, seen: Observation) -> (Connection, Answer) {
        let enforcement = self.owned.as_ref().map_or(Enforcement::Enforce, |owned| owned.enforcement);
        Connection::open_under(inspector, seen, enforcement)
    }

    /// The observation of the connection before its client sends anything.
    pub fn observe(&self, channel: Channel) -> Observation {
        let (mut seen, correlation) = match &self.owned {
            Some(owned) => (owned.seen.clone(), Correlation::Owner),
            None => (Observation::new(), Correlation::None),
        };
        if self.owned.is_none() && self.missing != Missing::Outside {
            gnomon_record::lost(&mut seen);
        }
        seen.set(Field::Channel, channel.as_str());
        seen.set(Field::Vantage, "proxy");
        seen.set(Field::HostName, gnomon_record::this_host());
        seen.set(Field::Correlation, correlation.as_str());
        seen.set(Field::Transport, "tcp");
        seen.set(Field::SourceAddress, self.client.ip().to_canonical().to_string());
        seen.set(Field::SourcePort, self.client.port());
        // The process's user cannot be forged; the authenticated name comes second.
        if seen.text(Field::UserName).is_none() {
            seen.set_some(Field::UserName, self.user.clone());
        }
        if let Some(owned) = self.owned.as_ref().filter(|owned| owned.redirected) {
            seen.set(Field::DestinationAddress, owned.original.ip().to_canonical().to_string());
            seen.set(Field::DestinationPort, owned.original.port());
        }
        seen
    }
}

/// The user whose seats a connection takes: those of scopes that only observe are apart from those of scopes that enforce.
pub(crate) fn user(owned: &Owned) -> String {
    match owned.enforcement {
        Enforcement::Enforce => owned.uid.to_string(),
        Enforcement::Shadow => format!("{} observed", owned.uid),
    }
}

/// The client, as far as it is known before it sends anything.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub client: SocketAddr,
    pub owned: Option<Arc<Owned>>,
    pub missing: Missing,
    pub seat: Arc<ClientSeat>,
}

impl Caller {
    /// The same, with the name that it authenticated as, if it did.
    pub fn asking(self, user: Option<SmolStr>) -> Asking {
        let Self { client, owned, missing, seat } = self;
        Asking { client, user, owned, missing, seat }
    }
}
