//! Configured servers that are programs: from what the configuration says to what is run.

use anyhow::Result;
use gnomon_cli::Complaint;
use gnomon_config::{
    Config, Jsonl, Shown,
    programs::{Pinning, Program as Configured, Variable},
};
use gnomon_confine::{Account, Ecosystem, Limits, Network, Pins, Plan};
use gnomon_host::cgroup::Hierarchy;
use gnomon_kit::whole_millis;
use gnomon_supervise as supervise;
use gnomon_upstream::{ProgramLimits, ProgramOptions, ServerLayers};
use nix::unistd::{Uid, User};
use prometheus::Registry;
use sha2::{Digest as _, Sha256};
use std::{
    env,
    ffi::OsString,
    fs,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

/// User ids that no account has (systemd's range for `DynamicUser=`).
const OWN_USERS: std::ops::Range<u32> = 61184..65520;
/// The folder for root's servers whose users cannot pass through the state folder.
const PASSABLE: &str = "/run/gnomon-servers";
/// The search path of a program, after its own folder.
const SEARCHED: &str = "/usr/local/bin:/usr/bin:/bin";
/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// The parts that programs have in common.
#[derive(Clone, Debug)]
pub struct Host {
    /// The state folder.
    pub state_dir: PathBuf,
    /// The cgroup below which each instance gets one of its own, where there is one.
    pub group: Option<PathBuf>,
    /// The metrics of what confines them.
    pub layers: ServerLayers,
}

impl Host {
    /// Takes up gnomon's own cgroup, if that is its to divide. Before any program runs.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn settle(state_dir: &Path, registry: &Registry) -> Result<Self> {
        let group = match own_cgroup().and_then(|own| Ok(gnomon_confine::settle(&own)?)) {
            Ok(group) => {
                tracing::info!(cgroup = %group.display(), "limits of servers hold for all processes of an instance together");
                Some(group)
            }
            Err(why) => {
                tracing::info!("limits of servers hold for each of their processes, as there are no cgroups for instances: {why:#}");
                None
            }
        };
        Ok(Self { state_dir: std::path::absolute(state_dir)?, group, layers: ServerLayers::register(registry)? })
    }
}

/// The folder of the cgroup that this process is in. By descriptor, as the name may mean something else in another mount or
/// namespace of cgroups.
fn own_cgroup() -> Result<PathBuf> {
    let own = Hierarchy::find()?.current()?;
    Ok(fs::read_link(format!("/proc/self/fd/{}", own.directory().as_raw_fd()))?)
}

/// How a server's program is run.
pub struct Described {
    /// The options of its runner.
    pub options: ProgramOptions,
    /// All of it in a text, secrets included. Of what is hidden from it, only what it could see otherwise.
    pub said: String,
}

/// How a server's program is run.
///
/// # Errors
/// If the program does not exist, a secret cannot be read, or its user cannot be used.
pub fn described(config: &Config, id: &str, program: &Configured, host: &Host) -> Result<Described> {
    let wrong = |cause: String| Complaint::input(format!("server `{id}`: {cause}"));
    let mut command = program.command.clone();
    let first = command.first().cloned().unwrap_or_default();
    let found = found(&first).ok_or_else(|| wrong(format!("`{first}` does not exist")).next("name the program by its whole path"))?;
    let in_utf8 = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| wrong(format!("{} is not UTF-8", path.display())));
    if let Some(first) = command.first_mut() {
        *first = in_utf8(&found)?;
    }
    let state_dir = &host.state_dir;
    let account = account(id, program)?;
    let home = homes(state_dir, account).join(id);
    let pins = match &program.pin {
        Pinning::To(pins) => pins.clone(),
        Pinning::None | Pinning::Unpinned => Pins::default(),
    };
    let (mut cwd, mut read) = (program.cwd.clone(), program.read.clone());
    let folder = found.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
    let mut environment: Vec<(OsString, OsString)> = vec![
        ("PATH".into(), format!("{folder}:{SEARCHED}").into()),
        ("HOME".into(), home.clone().into()),
        ("TMPDIR".into(), home.join("tmp").into()),
        ("LANG".into(), "C.UTF-8".into()),
    ];
    if let Some(package) = &pins.package {
        let locked = package.lockfile.parent().unwrap_or(Path::new("/")).to_owned();
        read.push(locked.clone());
        cwd.get_or_insert(locked);
        let offline = Ecosystem::of(&package.lockfile).map(Ecosystem::offline).unwrap_or_default();
        environment.extend(offline.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    }
    let mut secrets = Vec::new();
    for (name, value) in &program.env {
        let value = match value {
            Variable::Text(text) => text.clone(),
            Variable::Secret(secret) => {
                let secret = secret.fetch().map_err(|error| wrong(error.cause))?;
                secrets.push(secret.clone());
                secret
            }
        };
        environment.retain(|(known, _)| known.to_str() != Some(name));
        environment.push((name.into(), value.into()));
    }
    let limits = ProgramLimits { instances: program.limits.instances, ..ProgramLimits::default() };
    let plan = Plan {
        command,
        pins,
        home,
        cwd,
        read,
        write: program.write.clone(),
        hidden: hidden(config, state_dir),
        network: program.network,
        account,
        limits: Limits { memory: program.limits.memory_mib * MIB, tasks: program.limits.tasks },
        group: host.group.clone(),
        demand: program.confine,
        grace_ms: whole_millis(limits.grace),
    };
    let text = |plan: &Plan| serde_json::to_string(plan).map_err(|error| wrong(error.to_string()));
    let whole = text(&plan)?;
    // A secret of another server is no reason to start this one anew.
    let shown: Vec<PathBuf> =
        plan.read.iter().chain(&plan.write).chain(&plan.cwd).cloned().chain(plan.command.iter().map(PathBuf::from)).collect();
    let is_seen = |path: &PathBuf| shown.iter().any(|shown| path.starts_with(shown) || shown.starts_with(path));
    let hidden = plan.hidden.iter().filter(|path| is_seen(path)).cloned().collect();
    let said = format!("{}\n{environment:?}\n{}", text(&Plan { hidden, ..plan })?, limits.instances);
    // The very file that runs, even if another has taken its place since.
    let command = vec!["/proc/self/exe".into(), "confine".into(), whole.into()];
    let options = ProgramOptions { id: id.into(), command, environment, secrets, limits, layers: Some(host.layers.clone()) };
    Ok(Described { options, said })
}

/// Warns of notable properties of a program's pins.
pub fn warn(id: &str, program: &Configured) {
    match (&program.pin, program.launcher()) {
        (Pinning::Unpinned, Some(launcher)) => {
            tracing::warn!(server = %id, "`{launcher}` runs whatever is published at the time: nothing pins it");
        }
        (Pinning::None, None) => tracing::warn!(server = %id, "nothing pins its program; name its `sha256` under `pin`"),
        _ => {}
    }
    if program.launcher().is_some() && program.network == Network::None && matches!(program.pin, Pinning::Unpinned) {
        tracing::warn!(server = %id, "it can fetch nothing, as its `network` is `none`");
    }
}

/// A program by its path, or by its name in `PATH`.
pub fn found(program: &str) -> Option<PathBuf> {
    let is_there = |path: &PathBuf| path.is_file();
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(is_there);
    }
    let path = env::var_os("PATH").unwrap_or_else(|| SEARCHED.into());
    env::split_paths(&path).filter(|folder| folder.is_absolute()).map(|folder| folder.join(program)).find(is_there)
}

/// Paths that no server may read: what gnomon knows and writes, and its secrets.
fn hidden(config: &Config, state_dir: &Path) -> Vec<PathBuf> {
    let mut hidden = vec![state_dir.to_owned()];
    hidden.extend(config.file.clone());
    hidden.extend(config.secret_files.iter().cloned());
    if let Jsonl::File(path) = &config.events.jsonl {
        hidden.push(path.clone());
    }
    for portal in &config.portals {
        if let Some(Shown::Files { key, .. }) = portal.tls.as_ref().map(|tls| &tls.shown) {
            hidden.push(key.clone());
        }
    }
    hidden.extend(env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from));
    // A path that cannot be made whole names nothing that could be opened either.
    hidden.into_iter().filter_map(|path| std::path::absolute(path).ok()).collect()
}

/// The folder of programs' folders: in the state folder, unless they are users who cannot pass through that.
fn homes(state_dir: &Path, account: Option<Account>) -> PathBuf {
    let open_to_others = |folder: &Path| folder.metadata().map_or(true, |found| found.mode() & 0o001 != 0);
    if account.is_none_or(|account| account.uid == 0) || state_dir.ancestors().all(open_to_others) {
        return state_dir.join("servers");
    }
    let digest = Sha256::digest(state_dir.as_os_str().as_bytes());
    Path::new(PASSABLE).join(hex::encode(&digest[..8]))
}

/// The user that a server's program runs as; none if it keeps gnomon's own.
///
/// # Errors
/// This host does not know the user, or gnomon may not become it.
pub fn account(id: &str, program: &Configured) -> Result<Option<Account>, Complaint> {
    let wrong = |cause: String, next: &str| Complaint::input(format!("server `{id}`: {cause}")).next(next);
    let named = match &program.user {
        None => None,
        Some(name) => {
            let user = match name.parse() {
                Ok(uid) => User::from_uid(Uid::from_raw(uid)),
                Err(_) => User::from_name(name),
            };
            let user = user.ok().flatten().ok_or_else(|| wrong(format!("this host knows no user `{name}`"), "name one that exists"))?;
            Some(Account { uid: user.uid.as_raw(), gid: user.gid.as_raw() })
        }
    };
    if !Uid::effective().is_root() {
        return match named {
            Some(account) if account.uid != Uid::effective().as_raw() => {
                Err(wrong("it is to be another user, which only root's gnomon can make it".to_owned(), "remove `user`"))
            }
            _ => Ok(None),
        };
    }
    let account = named.unwrap_or_else(|| own_user(id));
    if account.uid == 0 {
        tracing::warn!(server = %id, "runs as root, as its `user` says");
    } else if !supervise::can_drop() {
        return Err(wrong("root cannot become another user here".to_owned(), "`user: root` runs it as root all the same"));
    }
    Ok(Some(account))
}

/// A number that no user has, always the same for the same server.
fn own_user(id: &str) -> Account {
    let span = OWN_USERS.end - OWN_USERS.start;
    // FNV-1a: all that matters is that ids are spread.
    let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let numbers = (0..span).map(|step| OWN_USERS.start + (hash % span + step) % span);
    let free = numbers.into_iter().find(|uid| matches!(User::from_uid(Uid::from_raw(*uid)), Ok(None)));
    let number = free.unwrap_or(OWN_USERS.start);
    Account { uid: number, gid: number }
}
