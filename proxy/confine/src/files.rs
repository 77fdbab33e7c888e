//! The files that the program may read and change: a list of paths, and everything else is closed (Landlock).

use crate::plan::{Network, Plan};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use std::path::{Path, PathBuf};

/// The newest rights that are known here; kernels that know fewer are asked for those.
const NEWEST: ABI = ABI::V9;
/// Programs and libraries of the system.
const SYSTEM: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];
/// Paths that the loader, the C library, TLS libraries and interpreters look up. Not all of `/etc`: it holds secrets.
const SETTINGS: [&str; 32] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/gai.conf",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/locale.alias",
    "/etc/mime.types",
    "/etc/os-release",
    "/etc/lsb-release",
    "/etc/debian_version",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/ca-certificates",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/python3",
    "/etc/python3.11",
    "/etc/java",
    "/sys/devices/system/cpu",
    "/sys/fs/cgroup",
];
/// Other processes' secrets are closed by the kernel to a confined process; what is left is what `ps` shows.
const PROCESSES: &str = "/proc";
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// The access granted below a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// Reading and executing.
    Read,
    /// Reading and changing, and no executing.
    Change,
    /// All but devices.
    Own,
}

/// A path that is open to the program, with everything below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    path: PathBuf,
    right: Right,
}

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

/// A path that was asked for and cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum Overlap {
    /// The path holds what must stay hidden, or is part of it.
    #[error("{asked} cannot be opened to a server: {hidden} would be open with it", asked = asked.display(), hidden = hidden.display())]
    Hidden {
        /// The path that was asked for.
        asked: PathBuf,
        /// The path that must stay hidden.
        hidden: PathBuf,
    },
    /// The path does not exist.
    #[error("{path} cannot be opened to a server: {cause}", path = path.display())]
    Absent {
        /// The path that was asked for.
        path: PathBuf,
        /// The cause.
        cause: std::io::Error,
    },
}

impl Grants {
    /// The grants of a plan: its own, those for its command, and those that every program needs.
    ///
    /// # Errors
    /// A path of the plan cannot be opened. One that is added here and cannot be opened is left out instead.
    pub fn of(plan: &Plan) -> Result<Self, Overlap> {
        let hidden: Vec<PathBuf> = plan.hidden.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
        let covers = |path: &Path| hidden.iter().find(|hidden| hidden.starts_with(path) || path.starts_with(hidden));
        let mut grants = Vec::new();
        for (path, right) in by_itself(plan) {
            if let Ok(path) = path.canonicalize()
                && covers(&path).is_none()
            {
                grants.push(Grant { path, right });
            }
        }
        let read = plan.read.iter().chain(&plan.cwd).map(|path| (path, Right::Read));
        for (asked, right) in read.chain(plan.write.iter().map(|path| (path, Right::Change))) {
            let path = asked.canonicalize().map_err(|cause| Overlap::Absent { path: asked.clone(), cause })?;
            if let Some(hidden) = covers(&path) {
                return Err(Overlap::Hidden { asked: asked.clone(), hidden: hidden.clone() });
            }
            grants.push(Grant { path, right });
        }
        // Its home may lie in a hidden folder, as nothing else there may.
        grants.push(Grant { path: plan.home.clone(), right: Right::Own });
        Ok(Self(grants))
    }
}

/// The grants that are added without being asked for.
fn by_itself(plan: &Plan) -> Vec<(PathBuf, Right)> {
    let mut paths: Vec<(PathBuf, Right)> = DEVICES.iter().map(|path| (PathBuf::from(path), Right::Change)).collect();
    paths.extend(SYSTEM.iter().chain(&SETTINGS).chain([&PROCESSES]).map(|path| (PathBuf::from(path), Right::Read)));
    let mut named: Vec<PathBuf> = plan.command.iter().map(PathBuf::from).filter(|path| path.is_absolute()).collect();
    // By its own name and by what that stands for: an environment's Python is a link to another's.
    if let Some(program) = plan.command.first().map(Path::new) {
        for name in [Some(program.to_owned()), program.canonicalize().ok()].into_iter().flatten() {
            named.extend(beside(&name));
            named.push(name);
        }
    }
    paths.extend(named.into_iter().map(|path| (path, Right::Read)));
    paths
}

/// The folder of a program, and the libraries of an installation that has its programs in `bin`.
fn beside(program: &Path) -> Vec<PathBuf> {
    let Some(folder) = program.parent() else { return Vec::new() };
    let mut paths = vec![folder.to_owned()];
    if folder.file_name().is_some_and(|name| name == "bin")
        && let Some(prefix) = folder.parent()
    {
        paths.extend(["lib", "lib64", "libexec", "pyvenv.cfg"].map(|name| prefix.join(name)));
    }
    paths
}

impl Right {
    fn access(self) -> BitFlags<AccessFs> {
        let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev | AccessFs::ResolveUnix;
        let all = AccessFs::from_all(NEWEST) & !devices;
        match self {
            Self::Read => AccessFs::from_read(NEWEST),
            Self::Change => all & !BitFlags::from(AccessFs::Execute),
            Self::Own => all,
        }
    }
}

/// Prepares the restriction while the paths can still be opened: [`restrict`] enforces it.
pub(crate) fn prepare(grants: &Grants, network: Network) -> Result<RulesetCreated, String> {
    let made = || -> Result<RulesetCreated, RulesetError> {
        let abi = if network == Network::Host { ABI::V8 } else { NEWEST };
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(abi))?;
        ruleset = match network {
            Network::None => ruleset.handle_access(AccessNet::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?,
            Network::Internet => ruleset.scope(Scope::from_all(NEWEST))?,
            Network::Host => ruleset.scope(Scope::Signal)?,
        };
        let mut ruleset = ruleset.create()?;
        for grant in &grants.0 {
            // A path that was removed meanwhile cannot be opened.
            let Ok(opened) = PathFd::new(&grant.path) else { continue };
            let mut access = grant.right.access();
            if !grant.path.is_dir() {
                access &= AccessFs::from_file(abi);
            }
            ruleset = ruleset.add_rule(PathBeneath::new(opened, access))?;
        }
        Ok(ruleset)
    };
    made().map_err(|error| error.to_string())
}

/// The restriction in force.
pub(crate) struct Enforced {
    /// Paths.
    pub(crate) files: Result<(), String>,
    /// Signals and abstract sockets.
    pub(crate) scope: Result<(), String>,
}

/// Puts the list into force for this thread and all that comes of it.
pub(crate) fn restrict(prepared: Result<RulesetCreated, String>) -> Enforced {
    let status = match prepared.and_then(|ruleset| ruleset.restrict_self().map_err(|error| error.to_string())) {
        Ok(status) => status,
        Err(why) => return Enforced { files: Err(why.clone()), scope: Err(why) },
    };
    let absent = match status.landlock {
        LandlockStatus::Available { .. } if status.ruleset != RulesetStatus::NotEnforced => None,
        LandlockStatus::Available { .. } => Some("Landlock enforces nothing of it"),
        LandlockStatus::NotEnabled => Some("Landlock is not enabled; boot with lsm=landlock,… (Linux 5.13)"),
        LandlockStatus::NotImplemented => Some("this kernel has no Landlock (Linux 5.13)"),
    };
    let scoped = matches!(status.landlock, LandlockStatus::Available { effective_abi, .. } if effective_abi >= ABI::V6);
    Enforced {
        files: absent.map_or(Ok(()), |why| Err(why.to_owned())),
        scope: if scoped { Ok(()) } else { Err("this kernel's Landlock has no scopes (Linux 6.12)".to_owned()) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;
    use std::fs;

    fn opened(plan: &Plan, path: &Path) -> Option<Right> {
        Grants::of(plan).unwrap().0.iter().find(|grant| grant.path == path).map(|grant| grant.right)
    }

    #[test]
    fn what_the_command_names_is_open_and_its_neighbours_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["env/bin", "env/lib", "env/share", "data"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["env/bin/server", "app.py", "other.py"] {
            fs::write(root.join(name), "").unwrap();
        }
        let named = |name: &str| root.join(name).to_str().unwrap().to_owned();
        let plan = plan(&[&named("env/bin/server"), &named("app.py"), &named("data"), "--flag"]);
        for name in ["env/bin/server", "env/bin", "env/lib", "app.py", "data"] {
            assert_eq!(opened(&plan, &root.join(name)), Some(Right::Read), "{name}");
        }
        for name in ["env", "env/share", "other.py", ""] {
            assert_eq!(opened(&plan, &root.join(name)), None, "{name}");
        }
    }

    #[test]
    fn what_must_stay_hidden_is_never_opened_with_something_else() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("state/servers/x")).unwrap();
        fs::write(root.join("server"), "").unwrap();
        let mut plan = plan(&[root.join("server").to_str().unwrap(), root.to_str().unwrap()]);
        plan.hidden = vec![root.join("state"), root.join("not-there-yet")];
        plan.home = root.join("state/servers/x");
        assert_eq!(opened(&plan, &root.join("server")), Some(Right::Read));
        assert_eq!(opened(&plan, &root), None, "its folder holds the state, and so does its argument");
        assert_eq!(opened(&plan, &plan.home), Some(Right::Own));
        for asked in [root.clone(), "/".into(), root.join("state"), root.join("state/servers")] {
            plan.read = vec![asked.clone()];
            assert!(matches!(Grants::of(&plan), Err(Overlap::Hidden { .. })), "{}", asked.display());
        }
        plan.read = vec![root.join("nothing")];
        assert!(matches!(Grants::of(&plan), Err(Overlap::Absent { .. })));
    }
}
