//! The configured portals: set up before anything is announced, served until gnomon stops.

use crate::{
    descriptors::Descriptors,
    reaching::{Reaching, Running},
    regulated::{DRAIN, Regulated, authenticator},
    stopping::{Phase, reaches},
};
use anyhow::{Context, Result};
use gnomon_audit::Audit;
use gnomon_codemode::SandboxConfig;
use gnomon_config::{self as config, Config};
use gnomon_http::{AlpnCache, DialOptions, Dialer, ForbiddenAddresses, PoolOptions, Pools, UpstreamBudget, UpstreamTls};
use gnomon_portal::{Acts, CodeMode, CodeModeWorks, Crew, Listening, Portal, PortalMetrics, PortalOptions, Rules, Shelf, Snippets};
use gnomon_record::Owners;
use gnomon_tls::{CertificateAuthority, ClientCertificates, LeafName, Shown, authorities, served};
use gnomon_upstream::endpoint::ServerPools;
use std::{fmt::Write as _, path::Path, sync::Arc};
use tokio::{sync::watch, task::JoinSet};
use tokio_rustls::rustls::ServerConfig;

/// Portals that listen but do not serve yet.
pub struct Portals {
    listening: Vec<Listening>,
    regulated: Regulated,
    /// The programs that run on this host for all of them.
    running: Arc<Running>,
    /// The threads that serve; none where nothing is to be served.
    crew: Option<Arc<Crew>>,
    announcement: String,
}

impl Portals {
    /// Opens every portal's listener.
    ///
    /// # Errors
    /// When a secret cannot be read, an authority is not usable, or an address is taken.
    pub async fn open(
        config: &Config,
        state_dir: &Path,
        rules: &Rules,
        audit: Option<&Audit>,
        owners: Option<Arc<dyn Owners>>,
        shelf: &Arc<Shelf>,
        descriptors: &Descriptors,
    ) -> Result<Self> {
        let (registry, running) = (rules.recorder.metrics().registry(), Arc::<Running>::default());
        let run = Reaching::of(config, (state_dir, registry), pools(config, descriptors.upstreams.clone(), descriptors.lookups)?)?;
        if config.portals.is_empty() {
            let regulated = Regulated::new(Vec::new(), run, running.clone(), rules.inspector.clone());
            return Ok(Self { listening: Vec::new(), regulated, running, crew: None, announcement: String::new() });
        }
        let works = code_mode(config, rules)?;
        running.begin(run.programs());
        let metrics = PortalMetrics::register(rules.recorder.metrics().registry())?;
        let shared = Shared { rules, audit, works: works.as_ref(), owners: owners.as_ref(), shelf, metrics: &metrics };
        let (mut listeners, mut portals, mut announcement) = (Vec::new(), Vec::new(), String::new());
        for together in config.listeners() {
            let (mut open, mut scheme): (Option<Listening>, _) = (None, "http");
            let most = together.iter().map(|portal| portal.max_connections).max().unwrap_or(1).min(descriptors.clients);
            for portal in &together {
                let itself = portal_of(config, portal, &run, shared)?;
                portals.push(itself.clone());
                open = Some(match open {
                    None => Listening::bind(itself, portal.listen, most).await?,
                    Some(listening) => listening.and(itself),
                });
            }
            let Some(mut listening) = open else { continue };
            if let Some(tls) = together.iter().find_map(|portal| portal.tls.as_ref()) {
                scheme = "https";
                listening = listening.with_tls(secured(&together, tls, state_dir)?);
            }
            for portal in &together {
                let (address, path, servers) = (listening.local_addr(), &portal.path, portal.servers.join(", "));
                // Writing to a String cannot fail.
                let _ = writeln!(announcement, "  portal    {}: {scheme}://{address}{path} offers {servers}", portal.id);
                if portal.policy.is_empty() {
                    let _ = writeln!(
                        announcement,
                        "            nobody may use any of it yet: `policy` of portal `{}` allows nothing",
                        portal.id
                    );
                }
            }
            listeners.push(listening);
        }
        let regulated = Regulated::new(portals, run, running.clone(), rules.inspector.clone());
        let crew = Crew::start().context("starting the threads that serve portals")?;
        Ok(Self { listening: listeners, regulated, running, crew: Some(Arc::new(crew)), announcement })
    }

    /// The text that tells a person how to use them.
    pub fn announcement(&self) -> &str {
        &self.announcement
    }

    /// The portals, so that they can be regulated while they serve.
    pub fn regulated(&self) -> Regulated {
        self.regulated.clone()
    }

    /// Serves until a stop is requested. When this returns no task of the portals runs any more.
    pub async fn run(self, stopping: watch::Receiver<Phase>) {
        let Some(crew) = self.crew else { return };
        let mut serving = JoinSet::new();
        for listening in self.listening {
            let asked = |phase| reaches(stopping.clone(), phase);
            serving.spawn(listening.run_until(crew.clone(), asked(Phase::Draining), (DRAIN, asked(Phase::CutOff))));
        }
        while serving.join_next().await.is_some() {}
        self.running.stop().await;
        // Last: what was started from its threads ends with them.
        if let Some(crew) = Arc::into_inner(crew) {
            crew.stop().await;
        }
    }
}

/// The TLS of the portals behind one listener, which is the same for all of them.
fn secured(portals: &[&config::Portal], tls: &config::Tls, state_dir: &Path) -> Result<Arc<ServerConfig>> {
    let of_portal = || format!("portal `{}`", portals.iter().map(|portal| portal.id.as_str()).collect::<Vec<_>>().join("`, `"));
    let shown = match &tls.shown {
        config::Shown::Files { cert, key } => Shown::Files { certificate: cert.clone(), key: key.clone() },
        config::Shown::Own => {
            let (authority, _) = CertificateAuthority::load_or_create(state_dir)?;
            let ip = portals.first().map(|portal| portal.listen.ip());
            let local: &[&str] = if ip.is_some_and(|ip| ip.is_loopback()) { &["localhost", "127.0.0.1", "::1"] } else { &[] };
            let address = ip.filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string());
            let own = portals.iter().flat_map(|portal| portal.places().map(|(host, _)| host).chain(portal.hosts.iter().cloned()));
            let called = own.chain(address);
            let mut names: Vec<LeafName> = Vec::new();
            for name in called.chain(local.iter().map(|name| (*name).to_owned())).filter_map(|name| LeafName::parse(&name).ok()) {
                let is_nowhere = matches!(name, LeafName::Ip(ip) if ip.is_unspecified());
                if !names.contains(&name) && !is_nowhere {
                    names.push(name);
                }
            }
            Shown::Own { authority: Arc::new(authority), names }
        }
    };
    let clients = match tls.client_ca.as_slice() {
        [] => ClientCertificates::Unasked,
        files => {
            let roots = Arc::new(authorities(files).with_context(of_portal)?);
            if portals.iter().all(|portal| portal.auth.takes_only_certificates()) {
                ClientCertificates::Required(roots)
            } else {
                ClientCertificates::Welcome(roots)
            }
        }
    };
    served(shown, &clients).with_context(of_portal)
}

/// Checks that listeners could show the certificates that are configured, and ask for those of clients. Blocks while it reads files.
///
/// # Errors
/// A file cannot be read, or is not what it should be.
pub fn check_tls(config: &Config) -> Result<()> {
    for together in config.listeners() {
        let Some(tls) = together.iter().find_map(|portal| portal.tls.as_ref()) else { continue };
        match tls.shown {
            // The state folder is only for certificates of our own.
            config::Shown::Files { .. } => drop(secured(&together, tls, Path::new(""))?),
            config::Shown::Own => drop(authorities(&tls.client_ca)?),
        }
    }
    Ok(())
}

/// The works of Code Mode, where some portal offers it. Its process is started when it is first used.
fn code_mode(config: &Config, rules: &Rules) -> Result<Option<Arc<CodeModeWorks>>> {
    if config.portals.iter().all(|portal| portal.code_mode == CodeMode::Off) {
        return Ok(None);
    }
    let sandbox = SandboxConfig { workers: config.codemode.workers, ..SandboxConfig::new("/proc/self/exe", ["sandbox-zygote"]) };
    let works = CodeModeWorks::new(sandbox, config.codemode.limits(), rules.recorder.metrics().registry())?;
    Ok(Some(Arc::new(works)))
}

/// Connections to servers, as this configuration verifies and resolves them.
pub fn pools(config: &Config, budget: Arc<UpstreamBudget>, lookups: usize) -> Result<Arc<ServerPools>> {
    let dialer = Dialer::new(DialOptions {
        resolve: config.proxy.resolve.iter().map(|resolve| resolve.value.clone()).collect(),
        forbidden: Some(ForbiddenAddresses { own_listeners: config.portals.iter().map(|portal| portal.listen).collect() }),
        budget,
        lookups,
        ..DialOptions::default()
    });
    let tls = UpstreamTls::new(&config.proxy.upstream_ca)?;
    Ok(Arc::new(Pools::new(dialer, tls, Arc::new(AlpnCache::default()), PoolOptions::default())))
}

/// The parts that all portals have in common.
#[derive(Clone, Copy)]
struct Shared<'a> {
    rules: &'a Rules,
    audit: Option<&'a Audit>,
    works: Option<&'a Arc<CodeModeWorks>>,
    owners: Option<&'a Arc<dyn Owners>>,
    shelf: &'a Arc<Shelf>,
    metrics: &'a PortalMetrics,
}

fn portal_of(
    config: &Config,
    portal: &config::Portal,
    run: &Reaching,
    Shared { rules, audit, works, owners, shelf, metrics }: Shared<'_>,
) -> Result<Arc<Portal>> {
    let mut servers = Vec::with_capacity(portal.servers.len());
    for server in portal.servers.iter().filter_map(|id| config.servers.iter().find(|server| server.id == *id)) {
        // Every one that a portal offers is among these.
        let Some(reach) = run.reach(server)? else { continue };
        servers.push((server.id.as_str().into(), reach));
    }
    Ok(Portal::new(PortalOptions {
        id: portal.id.as_str().into(),
        servers,
        prefix: portal.prefix,
        labels: portal.overrides.clone(),
        sessions: portal.sessions.limits(),
        max_request: portal.max_request_bytes,
        hosts: portal.hosts.clone(),
        origins: portal.origins.clone(),
        path: portal.path.clone(),
        policy: portal.policy.clone(),
        authenticator: authenticator(config, portal, run.pools())?,
        owners: owners.cloned(),
        rules: Some(rules.clone()),
        code_mode: portal.code_mode,
        codemode: works.cloned(),
        snippets: (portal.snippets == Snippets::Review).then(|| shelf.clone()),
        metrics: Some(metrics.clone()),
        acts: audit.map(|audit| acts(config, portal, audit, rules)),
    }))
}

/// The recorder of acts.
fn acts(config: &Config, portal: &config::Portal, audit: &Audit, rules: &Rules) -> Arc<Acts> {
    let duties = rules.recorder.duties().clone();
    Arc::new(Acts::new(audit.clone(), config.audit.writes, portal.id.as_str().into(), duties).with(portal.record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_http::MAX_LOOKUPS;
    use prometheus::Registry;
    use std::fs;

    #[test]
    fn a_server_is_another_by_its_entry_its_secret_or_its_document_and_by_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (token, document) = (dir.path().join("token"), dir.path().join("api.json"));
        let api = |title: &str| {
            format!(
                r#"{{"openapi":"3.1.0","info":{{"title":"{title}","version":"1"}},"servers":[{{"url":"https://api.example"}}],"paths":{{"/a":{{"get":{{"operationId":"a","responses":{{}}}}}}}}}}"#
            )
        };
        fs::write(&token, "one").unwrap();
        fs::write(&document, api("a")).unwrap();
        let config = |url: &str, more: &str| {
            let text = format!(
                "servers:\n  - {{id: docs, url: '{url}', auth: {{bearer: 'file:{}'}}{more}}}\n  - {{id: api, openapi: {{file: '{}', allow: [a]}}}}\n  \
                 - {{id: idle, url: 'https://idle.example/mcp'}}\nportals: [{{id: main, listen: '127.0.0.1:0', servers: [docs, api]}}]\n",
                token.display(),
                document.display()
            );
            Config::parse(&text, &dir.path().join("gnomon.yml")).unwrap()
        };
        let first = config("https://docs.example/mcp", "");
        let registry = Registry::new();
        let reached =
            Reaching::of(&first, (dir.path(), &registry), pools(&first, UpstreamBudget::unbounded(), MAX_LOOKUPS).unwrap()).unwrap();
        let there: Vec<bool> = first.servers.iter().map(|server| reached.reach(server).unwrap().is_some()).collect();
        assert_eq!(there, [true, true, false], "what no portal offers is not reached");
        let gone = |now: &Config| reached.next(now).unwrap().gone_since(&reached).into_iter().collect::<Vec<_>>();
        assert!(gone(&first).is_empty());
        assert!(gone(&config("https://docs.example/mcp", ", tools: {a: {alias: b}}")).is_empty(), "labels");
        assert_eq!(gone(&config("https://docs.example/other", "")), ["docs"]);
        fs::write(&token, "two").unwrap();
        assert_eq!(gone(&first), ["docs"]);
        fs::write(&document, api("b")).unwrap();
        assert_eq!(gone(&first), ["api", "docs"]);
        fs::remove_file(&token).unwrap();
        assert!(reached.next(&first).is_err());
    }
}
