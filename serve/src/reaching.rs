//! How the servers that portals offer are reached: what all portals of a gnomon share of that, and what of it stays when the
//! configuration is read again.
//!
//! A server stays as it is, with its processes and connections, as long as what it is reached by is the same: its entry without the
//! labels, the secrets that the entry refers to, and the document that it is made of. Else it is another server under the same name.

use crate::{apis, programs};
use anyhow::{Context as _, Result};
use gnomon_config::{self as config, At, Config};
use gnomon_http::server::Tasks;
use gnomon_portal::CodeMode;
use gnomon_upstream::{
    Api, Program, Reach,
    endpoint::{Endpoint, Limits, ServerPools},
};
use parking_lot::{Mutex, MutexGuard};
use prometheus::Registry;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

/// A digest of a server's endpoint, command or document; secrets are part of it.
type MadeOf = [u8; 32];

/// One server.
#[derive(Clone)]
struct Reached {
    made_of: MadeOf,
    by: By,
}

/// The part of a server that all portals share.
#[derive(Clone)]
enum By {
    /// Nothing: each portal has its own endpoint, over the connections of all.
    Url,
    Program(Arc<Program>),
    Api(Arc<Api>),
}

/// How servers are reached: shared by all portals.
pub struct Reaching {
    pools: Arc<ServerPools>,
    host: Arc<Host>,
    servers: HashMap<String, Reached>,
}

/// The host that programs run on, settled when there is the first of them.
struct Host {
    state_dir: PathBuf,
    registry: Registry,
    settled: Mutex<Option<programs::Host>>,
}

impl Host {
    fn settled(&self) -> Result<programs::Host> {
        let mut settled = self.settled.lock();
        match &*settled {
            Some(host) => Ok(host.clone()),
            None => Ok(settled.insert(programs::Host::settle(&self.state_dir, &self.registry)?).clone()),
        }
    }
}

impl Reaching {
    /// The reach of the servers that portals of this configuration offer.
    ///
    /// # Errors
    /// A secret or a document cannot be read, or a program is not there.
    pub fn of(config: &Config, at: (&Path, &Registry), pools: Arc<ServerPools>) -> Result<Self> {
        Self::to(config, &config.offered().collect::<Vec<_>>(), at, pools)
    }

    /// The endpoints of these servers.
    ///
    /// # Errors
    /// See [`Self::of`].
    pub fn to(
        config: &Config,
        servers: &[&config::Server],
        (state_dir, registry): (&Path, &Registry),
        pools: Arc<ServerPools>,
    ) -> Result<Self> {
        let (state_dir, registry, settled) = (state_dir.to_owned(), registry.clone(), Mutex::default());
        let host = Arc::new(Host { state_dir, registry, settled });
        Self { pools, host, servers: HashMap::new() }.with(config, servers)
    }

    /// The same for the servers that portals of this configuration offer: those that are as they were stay. Nothing is begun.
    ///
    /// # Errors
    /// See [`Self::of`].
    pub fn next(&self, config: &Config) -> Result<Self> {
        self.with(config, &config.offered().collect::<Vec<_>>())
    }

    fn with(&self, config: &Config, servers: &[&config::Server]) -> Result<Self> {
        let reached = servers.iter().map(|server| Ok((server.id.clone(), self.reached(config, server)?)));
        Ok(Self { pools: self.pools.clone(), host: self.host.clone(), servers: reached.collect::<Result<_>>()? })
    }

    fn reached(&self, config: &Config, server: &config::Server) -> Result<Reached> {
        let mut said = Sha256::new();
        say(&mut said, server.entry().to_string().as_bytes());
        for (name, value) in &server.credentials().with_context(|| format!("server `{}`", server.id))? {
            say(&mut said, name.as_str().as_bytes());
            say(&mut said, value.as_bytes());
        }
        let before = self.servers.get(&server.id);
        let same = |made_of: &MadeOf| before.filter(|before| before.made_of == *made_of).cloned();
        match &server.at {
            At::Url(_) => Ok(Reached { made_of: said.finalize().into(), by: By::Url }),
            At::Program(program) => {
                let described = programs::described(config, &server.id, program, &self.host.settled()?)?;
                say(&mut said, described.said.as_bytes());
                let made_of = said.finalize().into();
                Ok(same(&made_of).unwrap_or_else(|| {
                    programs::warn(&server.id, program);
                    Reached { made_of, by: By::Program(Program::new(described.options)) }
                }))
            }
            At::Api(api) => {
                for (name, secret) in &api.credentials {
                    say(&mut said, name.as_bytes());
                    say(&mut said, secret.fetch()?.as_bytes());
                }
                say(&mut said, apis::digest(&apis::read(&api.file)?)?.to_string().as_bytes());
                let made_of = said.finalize().into();
                if let Some(same) = same(&made_of) {
                    return Ok(same);
                }
                warn_of_idle(config, server, api);
                Ok(Reached { made_of, by: By::Api(apis::api(server, api, &self.pools)?) })
            }
        }
    }

    /// The connections to servers.
    pub fn pools(&self) -> &Arc<ServerPools> {
        &self.pools
    }

    /// The endpoint of a server; none if the server is not among them.
    ///
    /// # Errors
    /// Its URL or its credentials cannot be used.
    pub fn reach(&self, server: &config::Server) -> Result<Option<Reach>> {
        let Some(reached) = self.servers.get(&server.id) else { return Ok(None) };
        Ok(Some(match (&server.at, &reached.by) {
            (At::Url(url), _) => {
                let endpoint = Endpoint::new(self.pools.clone(), &server.id, url, server.credentials()?, Limits::default());
                Reach::http(endpoint.with_context(|| format!("server `{}`", server.id))?, server.remote.transport)
            }
            (_, By::Program(program)) => Reach::Program(program.clone()),
            (_, By::Api(api)) => Reach::Api(api.clone()),
            (At::Program(_) | At::Api(_), By::Url) => return Ok(None),
        }))
    }

    /// The ids of servers that are not as they were: gone, or others under the same name.
    pub fn gone_since(&self, before: &Self) -> BTreeSet<String> {
        let is_gone = |(id, was): &(&String, &Reached)| self.servers.get(*id).is_none_or(|now| now.made_of != was.made_of);
        before.servers.iter().filter(is_gone).map(|(id, _)| id.clone()).collect()
    }

    /// The programs.
    pub fn programs(&self) -> impl Iterator<Item = &Arc<Program>> {
        self.servers.values().filter_map(|reached| match &reached.by {
            By::Program(program) => Some(program),
            By::Url | By::Api(_) => None,
        })
    }

    /// Ends the programs.
    pub async fn stop(self) {
        for program in self.programs() {
            program.stop().await;
        }
    }
}

/// A part of a text of which no other is made by moving its bounds.
fn say(said: &mut Sha256, part: &[u8]) {
    said.update(part.len().to_le_bytes());
    said.update(part);
}

fn warn_of_idle(config: &Config, server: &config::Server, api: &config::OpenApi) {
    let uncalled = |portal: &&config::Portal| portal.code_mode == CodeMode::Off && portal.servers.contains(&server.id);
    if let Some(portal) = config.portals.iter().find(uncalled).filter(|_| api.allow.is_empty()) {
        tracing::warn!(server = %server.id, portal = %portal.id, "offers nothing there: it has no `openapi.allow`, and the portal no Code Mode");
    }
}

/// The programs that run, those included that are about to end: none of them is left when gnomon has ended.
#[derive(Default)]
pub struct Running {
    programs: Mutex<Programs>,
    ending: Tasks,
}

#[derive(Default)]
struct Programs {
    used: Vec<Arc<Program>>,
    /// Programs that may still have calls in progress.
    leaving: Vec<Arc<Program>>,
}

impl Running {
    fn programs(&self) -> MutexGuard<'_, Programs> {
        self.programs.lock()
    }

    /// Allows these programs to run from now on.
    pub fn begin<'a>(&self, programs: impl Iterator<Item = &'a Arc<Program>>) {
        let mut running = self.programs();
        for program in programs {
            if !running.used.iter().any(|known| Arc::ptr_eq(known, program)) {
                running.used.push(program.clone());
            }
        }
    }

    /// Ends the programs that are not among these once `unused` completes: no call is open with them then.
    pub fn keep_only<'a>(
        self: &Arc<Self>,
        these: impl Iterator<Item = &'a Arc<Program>>,
        unused: impl Future<Output = ()> + Send + 'static,
    ) {
        let these: Vec<_> = these.collect();
        let gone: Vec<Arc<Program>> = {
            let mut programs = self.programs();
            let is_used = |program: &Arc<Program>| these.iter().any(|kept| Arc::ptr_eq(kept, program));
            let (used, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut programs.used).into_iter().partition(is_used);
            programs.used = used;
            programs.leaving.extend(gone.iter().cloned());
            gone
        };
        if gone.is_empty() {
            return;
        }
        let running = Arc::downgrade(self);
        self.ending.spawn(async move {
            unused.await;
            for program in gone {
                program.stop().await;
                if let Some(running) = running.upgrade() {
                    running.programs().leaving.retain(|known| !Arc::ptr_eq(known, &program));
                }
            }
        });
    }

    /// Ends all of them.
    pub async fn stop(&self) {
        self.ending.cut_off().await;
        let Programs { used, leaving } = std::mem::take(&mut *self.programs());
        let mut ending = tokio::task::JoinSet::new();
        for program in used.into_iter().chain(leaving) {
            ending.spawn(async move { program.stop().await });
        }
        while ending.join_next().await.is_some() {}
    }
}
