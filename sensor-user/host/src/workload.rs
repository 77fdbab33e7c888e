//! Container and pod, read from the cgroup path that a runtime chose for its process.
//!
//! There is no kernel object called container: the path is what every runtime leaves behind, so it
//! is what can be read without asking a daemon. It is as trustworthy as the user who may create cgroups
//! there: below `system.slice` or `kubepods` that is root, unless a cgroup above was given to somebody; below a user's slice it is that user,
//! and [`NameOrigin::Claimed`] says so. Names and images need the runtime's API and are not read.

mod container;
mod pod;

use serde::Serialize;

/// Longest cgroup path that is read, in bytes; PATH_MAX, which the kernel cannot exceed in
/// `/proc/PID/cgroup` either.
pub const MAX_CGROUP_PATH: usize = 4096;
/// The deepest nesting of containers that is resolved.
pub const MAX_NESTING: usize = 4;

/// The workload of a process: its cgroup, containers and pod.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Workload {
    /// The path in the cgroup v2 hierarchy; empty where there is none. It is relative to the
    /// reader's cgroup namespace: `/../x` lies outside of that.
    pub cgroup: String,
    /// The containers around it, outermost first. The outermost is the one to go by: what lies
    /// within a container may be named by the container.
    pub containers: Vec<Container>,
    /// The Kubernetes pod.
    pub pod: Option<Pod>,
}

/// A container as its cgroup names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Container {
    /// 64 hexadecimal digits for OCI runtimes; the machine's or container's name for
    /// systemd-nspawn and LXC.
    pub id: String,
    /// The runtime that names its cgroups like this.
    pub runtime: Runtime,
    /// The origin of its name.
    pub standing: NameOrigin,
}

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Runtime {
    /// Docker (dockerd).
    Docker,
    /// containerd under Kubernetes.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman (libpod).
    Podman,
    /// systemd-nspawn, and other machines of systemd-machined.
    Nspawn,
    /// LXC, LXD, Incus.
    Lxc,
    /// A 64-digit id in a path that belongs to none of the above.
    Unknown,
}

/// The origin of a cgroup's name: who could have made a cgroup of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NameOrigin {
    /// Root.
    System,
    /// The user with this id, in whose slice it lies or who owns a cgroup above it: true of rootless runtimes, and of any other cgroup with such a name.
    Claimed(u32),
}

/// A Kubernetes pod as kubelet names its cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pod {
    /// `metadata.uid` with dashes; for static pods the 32 digits of the manifest's hash.
    pub uid: String,
    /// Its class of service.
    pub qos: Qos,
}

/// Kubernetes' quality of service classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Qos {
    /// Every container has equal requests and limits.
    Guaranteed,
    /// Some limits or requests are set.
    Burstable,
    /// No limits or requests are set.
    BestEffort,
}

impl Workload {
    /// Reads the text of `/proc/PID/cgroup` (cgroups(7)): one `hierarchy:controllers:path` a line.
    ///
    /// The v2 line (`0::`) is asked first. On a hybrid host a runtime may have placed its processes
    /// in the v1 hierarchies only, so these are asked next, systemd's before the others.
    pub fn parse(text: &str) -> Self {
        Self::parse_with(text, |_| None)
    }

    /// The same, where it is known who owns a cgroup of the v2 hierarchy: what lies below one that is not root's is named by its owner, wherever
    /// it is (a service with `User=` and `Delegate=`, a folder that was given to somebody).
    pub fn parse_with(text: &str, owner: impl Fn(&str) -> Option<u32>) -> Self {
        let rows = || text.lines().filter_map(row);
        let unified = rows().find(|row| row.hierarchy == "0" && row.controllers.is_empty()).map(|row| row.path);
        let systemd = rows().find(|row| row.controllers == "name=systemd").map(|row| row.path);
        let others = rows().filter(|row| row.hierarchy != "0" && row.controllers != "name=systemd").map(|row| row.path);

        let mut place = Self { cgroup: unified.unwrap_or_default().to_owned(), ..Self::default() };
        for path in unified.into_iter().chain(systemd).chain(others) {
            if place.containers.is_empty() {
                place.containers = container::in_path(path, |above| if Some(path) == unified { owner(above) } else { None });
            }
            if place.pod.is_none() {
                place.pod = pod::in_path(path).filter(|_| {
                    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
                    let given = Some(path) == unified && container::owners(above, &owner).any(|user| user != 0);
                    // Kubelet's are root's down to the container's own.
                    !given && place.containers.first().is_none_or(|outermost| outermost.standing == NameOrigin::System)
                });
            }
        }
        place
    }

    /// The outermost container, whose name no process within could have chosen.
    pub fn container(&self) -> Option<&Container> {
        self.containers.first()
    }
}

struct Row<'a> {
    hierarchy: &'a str,
    controllers: &'a str,
    path: &'a str,
}

fn row(line: &str) -> Option<Row<'_>> {
    let mut parts = line.splitn(3, ':');
    let (hierarchy, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    // A cgroup that was removed while the process is still dying in it.
    let path = path.strip_suffix(" (deleted)").unwrap_or(path);
    (path.starts_with('/') && path.len() <= MAX_CGROUP_PATH).then_some(Row { hierarchy, controllers, path })
}

/// True for the 64 lower-case hexadecimal digits of an OCI container id.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests;
