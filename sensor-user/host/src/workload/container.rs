//! Names of containers' cgroups, by runtime.

use super::{Container, MAX_NESTING, NameOrigin, Runtime, is_id};

/// The containers in a path, outermost first. `owner` says whose a cgroup is, by its path: whoever owns one names those below it.
pub(super) fn in_path(path: &str, owner: impl Fn(&str) -> Option<u32>) -> Vec<Container> {
    let mut found: Vec<Container> = Vec::new();
    let mut standing = NameOrigin::System;
    let mut parent = "";
    let mut above = String::new();
    for component in path.split('/').filter(|component| !component.is_empty()) {
        if found.is_empty() && standing == NameOrigin::System && !above.is_empty() && named(component, parent).is_some() {
            standing = owners(&above, &owner).find(|user| *user != 0).map_or(standing, NameOrigin::Claimed);
        }
        above.extend(["/", component]);
        // Cgroups below a user's slice are named by that user (user@.service delegates it).
        if let Some(user) = slice_owner(component).filter(|_| found.is_empty()) {
            standing = NameOrigin::Claimed(user);
        }
        if let Some((id, runtime)) = named(component, parent)
            && found.last().is_none_or(|last| last.id != id)
        {
            found.push(Container { id, runtime, standing });
            if found.len() == MAX_NESTING {
                break;
            }
        }
        parent = component;
    }
    found
}

/// The owners of a cgroup and of those above it, from the top on.
pub(super) fn owners(path: &str, owner: impl Fn(&str) -> Option<u32>) -> impl Iterator<Item = u32> {
    let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
    ends.filter_map(move |end| owner(path.get(..end)?))
}

/// `user-1000.slice` or `user@1000.service`.
fn slice_owner(component: &str) -> Option<u32> {
    let id = component
        .strip_prefix("user-")
        .and_then(|rest| rest.strip_suffix(".slice"))
        .or_else(|| component.strip_prefix("user@").and_then(|rest| rest.strip_suffix(".service")))?;
    id.parse().ok()
}

fn named(component: &str, parent: &str) -> Option<(String, Runtime)> {
    oci(component, parent).or_else(|| machine(component, parent)).or_else(|| lxc(component, parent))
}

/// The three ways of runc's drivers: `ID` (cgroupfs), `prefix-ID.scope` (systemd), and
/// `slice:prefix:ID` (a systemd-style path given to the cgroupfs driver).
fn oci(component: &str, parent: &str) -> Option<(String, Runtime)> {
    if is_id(component) {
        return Some((component.to_owned(), runtime_of_parent(parent)));
    }
    if let Some((before, id)) = component.rsplit_once(':')
        && is_id(id)
    {
        let prefix = before.rsplit_once(':').map_or(before, |(_, prefix)| prefix);
        return Some((id.to_owned(), runtime_of_prefix(prefix)?));
    }
    let (prefix, id) = component.strip_suffix(".scope").unwrap_or(component).rsplit_once('-')?;
    if !is_id(id) {
        return None;
    }
    Some((id.to_owned(), runtime_of_prefix(prefix)?))
}

/// `None` for a monitor: it watches a container from outside, it does not run in it.
fn runtime_of_prefix(prefix: &str) -> Option<Runtime> {
    Some(match prefix {
        "docker" => Runtime::Docker,
        "cri-containerd" => Runtime::Containerd,
        "crio" => Runtime::CriO,
        "libpod" | "libpod-payload" => Runtime::Podman,
        _ if prefix.ends_with("conmon") => return None,
        _ => Runtime::Unknown,
    })
}

fn runtime_of_parent(parent: &str) -> Runtime {
    match parent {
        "docker" => Runtime::Docker,
        "libpod_parent" => Runtime::Podman,
        // Kubelet's cgroupfs layout does not tell which CRI runtime made it.
        _ => Runtime::Unknown,
    }
}

/// systemd-machined: `machine-NAME.scope` and `systemd-nspawn@NAME.service`.
fn machine(component: &str, parent: &str) -> Option<(String, Runtime)> {
    if let Some(name) = component.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service")) {
        return name_of(name, Runtime::Nspawn);
    }
    let name = component.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope"))?;
    if parent != "machine.slice" {
        return None;
    }
    match unescape(name) {
        // A virtual machine has its own kernel: its processes are not ours to see.
        name if name.starts_with("qemu-") => None,
        name if name.starts_with("lxc-") => name_of(&name, Runtime::Lxc),
        name => name_of(&name, Runtime::Nspawn),
    }
}

/// `lxc.payload.NAME` (LXC 4 and later), `lxc.payload/NAME`, and `lxc/NAME` before that.
fn lxc(component: &str, parent: &str) -> Option<(String, Runtime)> {
    if let Some(name) = component.strip_prefix("lxc.payload.") {
        return name_of(name, Runtime::Lxc);
    }
    matches!(parent, "lxc" | "lxc.payload").then(|| name_of(component, Runtime::Lxc)).flatten()
}

fn name_of(name: &str, runtime: Runtime) -> Option<(String, Runtime)> {
    let name = unescape(name);
    (!name.is_empty()).then_some((name, runtime))
}

/// systemd's `\xHH` in unit names (systemd-escape(1)). What is not an escape stays as it is.
fn unescape(name: &str) -> String {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if let [b'\\', b'x', high, low, tail @ ..] = rest
            && let (Some(high), Some(low)) = ((*high as char).to_digit(16), (*low as char).to_digit(16))
        {
            out.push((high * 16 + low) as u8);
            rest = tail;
        } else {
            out.push(first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
