//! Scopes that an earlier sensor left with programs in them: a sensor ends with the serving process, by an upgrade or by a signal, and
//! programs under `gnomon exec` keep running. The next sensor takes these scopes over unchanged.
//!
//! Its state is on the cgroup ([`Scope::keep`]), where root alone writes. A scope without state, or of a gnomon with another socket, is not
//! guessed at: it is logged at once, as its programs go direct.

use std::path::Path;

use gnomon_host::cgroup::{Cgroup, CgroupError, Hierarchy, Scope};
use gnomon_link::{Adoption, Long, Name, ToProxy};
use serde::{Deserialize, Serialize};

use super::lineage;
use crate::kernel::{Kernel, KernelError};
use crate::namespaces::Namespace;
use crate::scopes::Asked;

/// Value of [`Kept::version`]. Fields are added without changing it; a sensor that does not know the version takes nothing over.
const VERSION: u32 = 1;
/// Most processes of one scope that are looked at for the network namespaces that they are in.
const MAX_PROCESSES: usize = 4096;
/// Most network namespaces of one scope that get listeners again.
const MAX_NAMESPACES: usize = 16;

/// The note on the cgroup of a scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    version: u32,
    /// The user who asked for it.
    pub uid: u32,
    pub asked: Asked,
    /// The socket that was joined: it tells apart several gnomons on one host, whose authorities differ.
    socket: String,
}

impl Kept {
    pub(super) fn new(uid: u32, asked: Asked, socket: &Path) -> Self {
        Self { version: VERSION, uid, asked, socket: shown(socket) }
    }
}

fn shown(socket: &Path) -> String {
    std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned()).display().to_string()
}

/// Why a scope is not taken over. Each text ends a sentence about its programs.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("it is not known who started them, as their scope is user {0}'s")]
    Owner(u32),
    #[error("user {0} has too many cgroups, or too many that are called like scopes, for all to be looked at")]
    Beyond(u32),
    #[error("nothing says what their scope was for: an older gnomon made it, or this kernel keeps no attributes of cgroups")]
    Unmarked,
    #[error("a newer gnomon made their scope")]
    Newer,
    #[error("they belong to the gnomon at {0}, which is gone")]
    Another(String),
    #[error("gnomon exec cannot be joined here")]
    NoSocket,
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// A scope that was taken over.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(super) scope: Scope,
    pub(super) kept: Kept,
}

impl Adopted {
    /// The network namespaces that its programs are in.
    pub(super) fn namespaces(&self) -> Vec<Namespace> {
        let mut found: Vec<Namespace> = Vec::new();
        for pid in self.scope.cgroup().processes(MAX_PROCESSES) {
            // A process that has ended needs no listeners.
            let Ok(namespace) = Namespace::of(pid) else { continue };
            if found.len() < MAX_NAMESPACES && !found.iter().any(|known| known.is(&namespace)) {
                found.push(namespace);
            }
        }
        found
    }
}

/// The result of taking over the scopes that were there.
#[derive(Debug, Default)]
pub(crate) struct Takeover {
    pub adopted: Vec<Adopted>,
    /// Messages for the proxy, which reports them.
    pub told: Vec<ToProxy>,
}

/// Takes over the scopes left below a cgroup, before any client is served. `socket` is the one that programs join; `None` if they cannot.
pub(crate) fn take_over(hierarchy: &Hierarchy, below: &str, kernel: &Kernel, socket: Option<&Path>) -> Takeover {
    let left = match hierarchy.left_behind(below) {
        Ok(left) => left,
        Err(error) => {
            tracing::warn!("cgroups of earlier runs were not looked for: {error}");
            return Takeover::default();
        }
    };
    if left.removed != 0 {
        tracing::info!("removed {} empty cgroups of earlier runs", left.removed);
    }
    let mut outcome = Takeover::default();
    let foreign = left.foreign.into_iter().map(|(path, owner)| (path, Lost::Owner(owner)));
    for (path, why) in foreign.chain(left.beyond.into_iter().map(|(user, path)| (path, Lost::Beyond(user)))) {
        outcome.told.push(lost(&path, &why));
    }
    for mut scope in left.populated {
        let path = scope.cgroup().path().to_owned();
        let told = match adopt(hierarchy, kernel, &mut scope, socket) {
            Ok(kept) => {
                tracing::info!(uid = kept.uid, "programs that an earlier run left in {path} are in its scope again");
                outcome.adopted.push(Adopted { scope, kept });
                ToProxy::ExecScope { cgroup: Long::cut(&path), adoption: Adoption::Adopted }
            }
            Err(why) => lost(&path, &why),
        };
        outcome.told.push(told);
    }
    outcome
}

/// Says that what runs in this scope goes direct.
fn lost(path: &str, why: &Lost) -> ToProxy {
    tracing::warn!("programs in {path} go around the proxy, and have to be started again: {why}");
    ToProxy::ExecScope { cgroup: Long::cut(path), adoption: Adoption::Lost(Name::cut(&why.to_string())) }
}

fn adopt(hierarchy: &Hierarchy, kernel: &Kernel, scope: &mut Scope, socket: Option<&Path>) -> Result<Kept, Lost> {
    let kept = scope.note::<serde_json::Value>()?.ok_or(Lost::Unmarked)?.kept;
    if kept.get("version").and_then(serde_json::Value::as_u64) != Some(VERSION.into()) {
        return Err(Lost::Newer);
    }
    let kept: Kept = serde_json::from_value(kept).map_err(|_| Lost::Newer)?;
    let socket = socket.map(shown).ok_or(Lost::NoSocket)?;
    if kept.socket != socket {
        return Err(Lost::Another(kept.socket));
    }
    // From now on the scope is this process's.
    scope.keep(&kept)?;
    kernel.take_in(kept.asked, of(hierarchy, scope.cgroup()))?;
    Ok(kept)
}

/// The ids of a cgroup and of those above it.
pub(super) fn of(hierarchy: &Hierarchy, cgroup: &Cgroup) -> Vec<u64> {
    lineage(hierarchy, cgroup).collect()
}
