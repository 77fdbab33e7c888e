//! The portal seen from outside: real sockets, clients and servers of both eras, and servers that misbehave.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "what the tests read, they wrote")]

mod admission;
mod client;
mod eras;
mod failures;
mod passage;
mod server;

use gnomon_access::{AuthSource, Authenticator, Policy};
use gnomon_http::{AlpnCache, DialOptions, Dialer, PoolOptions, Pools, UpstreamTls};
use gnomon_portal::{
    Fetcher, Listening, Portal, PortalOptions, Prefix, SessionLimits,
    upstream::{
        Reach, Transport,
        http::{Endpoint, Limits},
    },
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::oneshot;

/// A deadline against hanging for ever; nothing waits for it in a test that passes.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.unwrap_or_else(|_| panic!("waited too long for {what}"))
}

/// A portal on a port of its own, for as long as it is held.
struct Running {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

/// A portal for these servers.
struct Setup {
    servers: Vec<(&'static str, String)>,
    prefix: Prefix,
    policy: &'static str,
    auth: String,
    limits: Limits,
}

impl Setup {
    fn of(servers: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self {
            servers: servers.into_iter().collect(),
            prefix: Prefix::Always,
            policy: "[{allow: {servers: ['*']}}]",
            auth: "{mode: none}".to_owned(),
            limits: Limits { patience: Duration::from_secs(20), message: 1 << 20 },
        }
    }

    fn policy(mut self, policy: &'static str) -> Self {
        self.policy = policy;
        self
    }

    fn auth(mut self, auth: String) -> Self {
        self.auth = auth;
        self
    }

    fn prefix(mut self, prefix: Prefix) -> Self {
        self.prefix = prefix;
        self
    }

    async fn start(self) -> Running {
        let tls = UpstreamTls::with_roots(rustls::RootCertStore::empty()).unwrap();
        let pools = Pools::new(Dialer::new(DialOptions::default()), tls, Arc::new(AlpnCache::default()), PoolOptions::default());
        let pools = Arc::new(pools);
        let servers = self.servers.iter().map(|(id, url)| {
            let endpoint = Endpoint::new(pools.clone(), id, url, http::HeaderMap::new(), self.limits).unwrap();
            ((*id).into(), Reach::http(endpoint, Transport::Either))
        });
        let source = AuthSource::parse(&self.auth, "auth.yml").unwrap();
        let auth = source.build("auth.yml", "http://localhost/mcp", &|_| Err("no secrets here".to_owned())).unwrap();
        let portal = Portal::new(PortalOptions {
            id: "main".into(),
            servers: servers.collect(),
            prefix: self.prefix,
            sessions: SessionLimits::default(),
            max_request: 1 << 20,
            hosts: Vec::new(),
            origins: Vec::new(),
            path: "/mcp".to_owned(),
            policy: Arc::new(Policy::parse(self.policy, "policy.yml").unwrap()),
            authenticator: Authenticator::new(auth, Arc::new(Fetcher::new(pools))),
        });
        let listening = Listening::bind(portal, "127.0.0.1:0".parse().unwrap(), 256).await.unwrap();
        let address = listening.local_addr();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(listening.run(
            async move {
                let _ = stopped.await;
            },
            Duration::ZERO,
        ));
        Running { address, _stop: stop }
    }
}
