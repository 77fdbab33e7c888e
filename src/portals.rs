//! The configured portals: set up before anything is announced, served until gnomon stops.

use crate::config::{self, Config};
use anyhow::{Context, Result};
use gnomon_access::Authenticator;
use gnomon_audit::Audit;
use gnomon_http::{AlpnCache, DialOptions, Dialer, ForbiddenAddresses, PoolOptions, Pools, UpstreamTls};
use gnomon_portal::{
    Acts, Fetcher, Listening, Portal, PortalOptions, Rules,
    upstream::{
        Reach,
        http::{Endpoint, Limits, ServerPools},
    },
};
use std::{fmt::Write as _, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};

/// How long connections may finish after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// Portals that listen but do not serve yet.
pub struct Portals(Vec<Listening>, String);

impl Portals {
    /// Opens every portal's listener.
    ///
    /// # Errors
    /// When a secret cannot be read, an authority is not usable, or an address is taken.
    pub async fn open(config: &Config, rules: &Rules, audit: Option<&Audit>) -> Result<Self> {
        if config.portals.is_empty() {
            return Ok(Self(Vec::new(), String::new()));
        }
        let pools = pools(config)?;
        let (mut portals, mut announcement) = (Vec::new(), String::new());
        for portal in &config.portals {
            let listening =
                Listening::bind(portal_of(config, portal, &pools, rules, audit)?, portal.listen, portal.max_connections).await?;
            let (address, path, servers) = (listening.local_addr(), &portal.path, portal.servers.join(", "));
            // Writing to a String cannot fail.
            let _ = writeln!(announcement, "  portal    {}: http://{address}{path} offers {servers}", portal.id);
            portals.push(listening);
        }
        Ok(Self(portals, announcement))
    }

    /// What a person needs to know to use them.
    pub fn announcement(&self) -> &str {
        &self.1
    }

    /// Serves until the sender says stop or is gone.
    pub async fn run(self, stopping: watch::Receiver<bool>) {
        let mut serving = JoinSet::new();
        for listening in self.0 {
            let mut stopping = stopping.clone();
            serving.spawn(listening.run(
                async move {
                    let _ = stopping.wait_for(|stop| *stop).await;
                },
                DRAIN,
            ));
        }
        while serving.join_next().await.is_some() {}
    }
}

fn pools(config: &Config) -> Result<Arc<ServerPools>> {
    let dialer = Dialer::new(DialOptions {
        resolve: config.proxy.resolve.iter().map(|resolve| resolve.value.clone()).collect(),
        forbidden: ForbiddenAddresses { own_listeners: config.portals.iter().map(|portal| portal.listen).collect() },
        ..DialOptions::default()
    });
    let tls = UpstreamTls::new(&config.proxy.upstream_ca)?;
    Ok(Arc::new(Pools::new(dialer, tls, Arc::new(AlpnCache::default()), PoolOptions::default())))
}

fn portal_of(
    config: &Config,
    portal: &config::Portal,
    pools: &Arc<ServerPools>,
    rules: &Rules,
    audit: Option<&Audit>,
) -> Result<Arc<Portal>> {
    let mut servers = Vec::with_capacity(portal.servers.len());
    for server in portal.servers.iter().filter_map(|id| config.servers.iter().find(|server| server.id == *id)) {
        let endpoint = Endpoint::new(pools.clone(), &server.id, &server.url, server.credentials()?, Limits::default())
            .with_context(|| format!("server `{}`", server.id))?;
        servers.push((server.id.as_str().into(), Reach::http(endpoint, server.transport)));
    }
    Ok(Portal::new(PortalOptions {
        id: portal.id.as_str().into(),
        servers,
        prefix: portal.prefix,
        sessions: portal.sessions,
        max_request: portal.max_request_bytes,
        hosts: portal.hosts.clone(),
        origins: portal.origins.clone(),
        path: portal.path.clone(),
        policy: portal.policy.clone(),
        authenticator: Authenticator::new((*portal.auth).clone(), Arc::new(Fetcher::new(pools.clone()))),
        rules: Some(rules.clone()),
        acts: audit.map(|audit| Arc::new(Acts::new(audit.clone(), config.audit.durability, portal.id.as_str().into()))),
    }))
}
