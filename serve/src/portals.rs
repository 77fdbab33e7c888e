//! The configured portals: set up before anything is announced, served until gnomon stops.

use crate::{
    apis,
    changes::{Change, of_configuration},
    descriptors::Descriptors,
    programs,
    stopping::{Phase, reaches},
};
use anyhow::{Context, Result, bail};
use gnomon_access::{Authenticator, Countries};
use gnomon_audit::Audit;
use gnomon_cli::line;
use gnomon_codemode::SandboxConfig;
use gnomon_config::{self as config, At, Config};
use gnomon_http::{AlpnCache, DialOptions, Dialer, ForbiddenAddresses, PoolOptions, Pools, UpstreamBudget, UpstreamTls};
use gnomon_portal::{
    Acts, CodeMode, CodeModeWorks, Crew, Fetcher, Listening, Portal, PortalMetrics, PortalOptions, Rules, Shelf, Snippets,
};
use gnomon_record::Owners;
use gnomon_tls::{CertificateAuthority, ClientCertificates, LeafName, Shown, authorities, served};
use gnomon_upstream::{
    Api, Program, Reach,
    endpoint::{Endpoint, Limits, ServerPools},
};
use prometheus::Registry;
use serde_json::Value;
use std::{collections::HashMap, fmt::Write as _, path::Path, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use tokio_rustls::rustls::ServerConfig;

/// How long connections may finish after a stop was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// Portals that listen but do not serve yet.
pub struct Portals {
    listening: Vec<Listening>,
    regulated: Regulated,
    /// The programs that run on this host for all of them.
    programs: HashMap<String, Arc<Program>>,
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
        if config.portals.is_empty() {
            return Ok(Self {
                listening: Vec::new(),
                regulated: Regulated::default(),
                programs: HashMap::new(),
                crew: None,
                announcement: String::new(),
            });
        }
        let works = code_mode(config, rules)?;
        let bounds = (descriptors.upstreams.clone(), descriptors.lookups);
        let run = Reaching::of(config, state_dir, rules.recorder.metrics().registry(), bounds)?;
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
            }
            listeners.push(listening);
        }
        let regulated = Regulated { portals, pools: Some(run.pools) };
        let crew = Crew::start().context("starting the threads that serve portals")?;
        Ok(Self { listening: listeners, regulated, programs: run.programs, crew: Some(Arc::new(crew)), announcement })
    }

    /// The text that tells a person how to use them.
    pub fn announcement(&self) -> &str {
        &self.announcement
    }

    /// The portals, so that they can be regulated while they serve.
    pub fn regulated(&self) -> Regulated {
        self.regulated.clone()
    }

    /// Serves until a stop is asked for. When this returns nothing of the portals runs any more.
    pub async fn run(self, stopping: watch::Receiver<Phase>) {
        let Some(crew) = self.crew else { return };
        let mut serving = JoinSet::new();
        for listening in self.listening {
            let asked = |phase| reaches(stopping.clone(), phase);
            serving.spawn(listening.run_until(crew.clone(), asked(Phase::Draining), (DRAIN, asked(Phase::CutOff))));
        }
        while serving.join_next().await.is_some() {}
        let mut ending = JoinSet::new();
        for program in self.programs.into_values() {
            ending.spawn(async move { program.stop().await });
        }
        while ending.join_next().await.is_some() {}
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

/// How the servers that any portal offers are reached: shared by all portals.
pub struct Reaching {
    pools: Arc<ServerPools>,
    programs: HashMap<String, Arc<Program>>,
    apis: HashMap<String, Arc<Api>>,
}

impl Reaching {
    /// The reach of servers that portals of this configuration offer, within a budget of connections and of lookups at a time.
    ///
    /// # Errors
    /// A secret or a document cannot be read, or a program is not there.
    pub fn of(config: &Config, state_dir: &Path, registry: &Registry, (budget, lookups): (Arc<UpstreamBudget>, usize)) -> Result<Self> {
        let offered: Vec<_> = config.offered().collect();
        warn_of_idle_apis(config, &offered);
        Self::to(config, &offered, (state_dir, registry), pools(config, budget, lookups)?)
    }

    /// For these servers.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn to(
        config: &Config,
        servers: &[&config::Server],
        (state_dir, registry): (&Path, &Registry),
        pools: Arc<ServerPools>,
    ) -> Result<Self> {
        let programs = programs_of(config, servers, state_dir, registry)?;
        Ok(Self { apis: apis_of(servers, &pools)?, programs, pools })
    }

    /// How one of them is reached; none where it is not among them.
    ///
    /// # Errors
    /// Its URL or its credentials cannot be used.
    pub fn reach(&self, server: &config::Server) -> Result<Option<Reach>> {
        Ok(match &server.at {
            At::Url(url) => {
                let endpoint = Endpoint::new(self.pools.clone(), &server.id, url, server.credentials()?, Limits::default());
                Some(Reach::http(endpoint.with_context(|| format!("server `{}`", server.id))?, server.transport))
            }
            At::Program(_) => self.programs.get(&server.id).cloned().map(Reach::Program),
            At::Api(_) => self.apis.get(&server.id).cloned().map(Reach::Api),
        })
    }

    /// Ends the programs.
    pub async fn stop(self) {
        for program in self.programs.into_values() {
            program.stop().await;
        }
    }
}

/// The APIs among servers: each document is read once.
fn apis_of(servers: &[&config::Server], pools: &Arc<ServerPools>) -> Result<HashMap<String, Arc<Api>>> {
    let mut apis = HashMap::new();
    for server in servers {
        if let At::Api(api) = &server.at {
            apis.insert(server.id.clone(), apis::api(server, api, pools)?);
        }
    }
    Ok(apis)
}

fn warn_of_idle_apis(config: &Config, servers: &[&config::Server]) {
    for server in servers {
        if let At::Api(api) = &server.at {
            let uncalled = |portal: &&config::Portal| portal.code_mode == CodeMode::Off && portal.servers.contains(&server.id);
            if let Some(portal) = config.portals.iter().find(uncalled).filter(|_| api.allow.is_empty()) {
                tracing::warn!(server = %server.id, portal = %portal.id, "offers nothing there: it has no `openapi.allow`, and the portal no Code Mode");
            }
        }
    }
}

/// The programs among servers: each is run for all portals together.
fn programs_of(
    config: &Config,
    servers: &[&config::Server],
    state_dir: &Path,
    registry: &Registry,
) -> Result<HashMap<String, Arc<Program>>> {
    let mut offered = Vec::new();
    for server in servers {
        if let At::Program(program) = &server.at {
            offered.push((&server.id, program));
        }
    }
    if offered.is_empty() {
        return Ok(HashMap::new());
    }
    let host = programs::Host::settle(state_dir, registry)?;
    offered.into_iter().map(|(id, program)| Ok((id.clone(), programs::program(config, id, program, &host)?))).collect()
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

/// The authenticator of a portal.
fn authenticator(config: &Config, portal: &config::Portal, pools: &Arc<ServerPools>) -> Result<Arc<Authenticator>> {
    let authenticator = Authenticator::new((*portal.auth).clone(), Arc::new(Fetcher::new(pools.clone())));
    Ok(Arc::new(match &config.countries {
        None => authenticator,
        Some(file) => authenticator.with_countries(Arc::new(Countries::open(file)?)),
    }))
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
        labels: portal.labels.clone(),
        sessions: portal.sessions,
        max_request: portal.max_request_bytes,
        hosts: portal.hosts.clone(),
        origins: portal.origins.clone(),
        path: portal.path.clone(),
        policy: portal.policy.clone(),
        authenticator: authenticator(config, portal, &run.pools)?,
        owners: owners.cloned(),
        rules: Some(rules.clone()),
        code_mode: portal.code_mode,
        codemode: works.cloned(),
        snippets: (portal.snippets == Snippets::Review).then(|| shelf.clone()),
        metrics: Some(metrics.clone()),
        acts: audit.map(|audit| acts(config, portal, audit, rules)).transpose()?,
    }))
}

/// The recorder of acts.
fn acts(config: &Config, portal: &config::Portal, audit: &Audit, rules: &Rules) -> Result<Arc<Acts>> {
    let acts = Acts::new(audit.clone(), config.audit.writes, portal.id.as_str().into())?;
    Ok(Arc::new(acts.with(portal.record).among(rules.recorder.duties().clone())))
}

/// Portals that serve, and what can be changed of them meanwhile.
#[derive(Clone, Default)]
pub struct Regulated {
    portals: Vec<Arc<Portal>>,
    pools: Option<Arc<ServerPools>>,
}

impl Regulated {
    /// Puts the policies, labels and log-ins of the configuration as it stands now into force. Answers with that configuration, and
    /// what to tell whoever asked, and what changed. `begun` is what gnomon was started with, `before` what is in force.
    ///
    /// # Errors
    /// What is wrong with the configuration, also that it no longer has a portal that is served; everything stays as it was.
    pub async fn by(&self, begun: &Config, before: &Config, now: Config) -> Result<(Config, String, Vec<Change>)> {
        let is_gone = |portal: &&Arc<Portal>| !now.portals.iter().any(|one| portal.id() == one.id.as_str());
        let gone: Vec<String> = self.portals.iter().filter(is_gone).map(|portal| format!("`{}`", portal.id())).collect();
        if !gone.is_empty() {
            let (file, gone) = (now.file.as_deref().unwrap_or(Path::new("it")).display(), gone.join(", "));
            bail!("{file} has no portal {gone} any more, which is served; to end that, restart gnomon, else put it back");
        }
        // All that can fail comes before anything changes.
        let mut changes = Vec::with_capacity(self.portals.len());
        for portal in &self.portals {
            let find = |config: &Config| config.portals.iter().find(|one| portal.id() == one.id.as_str()).cloned();
            if let (Some(old), Some(new), Some(pools)) = (find(before), find(&now), &self.pools) {
                let changed = old.auth != new.auth || before.countries != now.countries;
                let authenticator = changed.then(|| authenticator(&now, &new, pools)).transpose()?;
                changes.push((portal, new, authenticator));
            }
        }
        let count = u64::try_from(changes.len()).unwrap_or(u64::MAX);
        for (portal, new, authenticator) in changes {
            portal.regulate(new.policy.clone(), new.labels.clone());
            if let Some(authenticator) = authenticator {
                portal.reauthenticate(authenticator).await;
            }
        }
        let changed = of_configuration(before, &now);
        let is_same = unregulated(begun) == unregulated(&now);
        if self.portals.is_empty() {
            let told = if is_same { "nothing of it changed" } else { "what changed in it needs a restart" };
            return Ok((now, format!("the configuration is good; {told}"), changed));
        }
        let other = if is_same { "" } else { "; what else changed in the configuration needs a restart" };
        Ok((now, format!("policies and log-ins of {} reloaded{other}", line::counted(count, "portal")), changed))
    }
}

/// The configuration that a reload leaves unchanged.
fn unregulated(config: &Config) -> Value {
    let mut shown = config.to_json();
    shown["countries"] = Value::Null;
    for portal in shown["portals"].as_array_mut().into_iter().flatten() {
        portal["overrides"] = Value::Null;
    }
    for server in shown["servers"].as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        ["tools", "prompts"].into_iter().for_each(|key| drop(server.remove(key)));
    }
    shown
}
