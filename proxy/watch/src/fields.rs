//! Fills the fields of an observation from the kernel's record of an owner and the sensor's identity of the process.
//!
//! Fields from the kernel's record (pid, user id) are always set. A look-up that failed makes its field *unreadable*, never absent: a rule
//! that interferes must not take "unknown" for "none". Names of containers stand only where root made them.

use std::time::{SystemTime, UNIX_EPOCH};

use gnomon_link::{CommandLine, Executable, GenerationEvidence, Identity, Image, NameOrigin};
use gnomon_observe::{Field, Observation};
use gnomon_record::LOOKED_UP;
use gnomon_sensor::Owner;
use rustix::time::{ClockId, clock_gettime};
use smol_str::SmolStr;
use uuid::{Builder, Uuid};

use crate::identities::Who;

/// The evidence on a connection's origin: [`program`], and the connection's own name.
/// `started_as` is the name of the file of its last exec, where that is known.
pub(crate) fn observe(owner: &Owner, who: &Who, names: &FlowNames, started_as: Option<&str>) -> Observation {
    let mut seen = program(owner, who);
    if let Who::Unknown(_) = who {
        seen.set_some(Field::ProcessName, started_as);
    }
    seen.set(Field::FlowId, names.of(owner));
    seen
}

/// The evidence on a process: itself, its user, its container.
pub(crate) fn program(owner: &Owner, who: &Who) -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::Pid, i64::from(owner.pid));
    seen.set(Field::UserId, SmolStr::from(owner.uid.to_string()));
    match who {
        Who::Known(identity) => known(&mut seen, owner, identity),
        Who::Unknown(why) => {
            seen.set(Field::ProcessIdentity, why.as_str());
            for field in LOOKED_UP {
                seen.set_unreadable(field);
            }
        }
    }
    seen
}

fn known(seen: &mut Observation, owner: &Owner, identity: &Identity) {
    let evidence = match identity.generation {
        GenerationEvidence::Confirmed => "confirmed",
        GenerationEvidence::Unverified => "unverified",
    };
    seen.set(Field::ProcessIdentity, evidence);
    executable(seen, &identity.executable);
    match &identity.command_line {
        CommandLine::Whole(line) | CommandLine::Cut(line) => seen.set(Field::CommandLine, line.as_str()),
        CommandLine::Unreadable => seen.set_unreadable(Field::CommandLine),
    }
    if let Some(parent) = identity.ancestors.first() {
        match &parent.executable {
            Some(path) => seen.set(Field::ParentExecutable, path.as_str()),
            None => seen.set_unreadable(Field::ParentExecutable),
        }
        let paths = identity.ancestors.iter().filter_map(|ancestor| ancestor.executable.as_ref());
        seen.set(Field::Ancestors, paths.map(|path| SmolStr::new(path.as_str())).collect::<Vec<_>>());
    }
    match &identity.credentials {
        // The user at the time of the connection; a process that changed it since has another name now.
        Some(credentials) if credentials.uid == owner.uid => {
            seen.set_some(Field::UserName, credentials.user.as_ref().map(|name| name.as_str()));
            let groups = credentials.group_names.iter().map(|name| SmolStr::new(name.as_str()));
            seen.set(Field::UserGroups, groups.collect::<Vec<_>>());
        }
        _ => {
            seen.set_unreadable(Field::UserName);
            seen.set_unreadable(Field::UserGroups);
        }
    }
    // The outermost: root within a container may name cgroups there as it likes.
    let container = identity.containers.iter().find(|container| container.standing == NameOrigin::System);
    seen.set_some(Field::ContainerId, container.map(|container| container.id.as_str()));
    seen.set_some(Field::ContainerRuntime, container.map(|container| container.runtime.as_str()));
    seen.set_some(Field::PodUid, identity.pod.as_ref().map(|pod| pod.as_str()));
    seen.set_some(Field::Cgroup, Some(identity.cgroup.as_str()).filter(|path| !path.is_empty()));
}

fn executable(seen: &mut Observation, executable: &Executable) {
    match executable {
        Executable::File { path, image, sha256 } => {
            seen.set(Field::Executable, path.as_str());
            let image = match image {
                Image::OnDisk => "on_disk",
                Image::Deleted => "deleted",
                Image::Memory => "memory",
            };
            seen.set(Field::Image, image);
            match sha256 {
                Some(digest) => seen.set(Field::ExecutableHash, hex::encode(digest)),
                None => seen.set_unreadable(Field::ExecutableHash),
            }
        }
        // A kernel thread has no executable.
        Executable::Kernel => {}
        Executable::Hidden => [Field::Executable, Field::ExecutableHash, Field::Image].into_iter().for_each(|f| seen.set_unreadable(f)),
    }
}

/// Names flows: UUIDs of version 7 that follow from the cookie and the time of the call alone, so that the proxy's
/// events and the watch's name a connection alike without telling each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowNames {
    /// The boot time of the machine, in milliseconds since 1970.
    boot_ms: u64,
}

impl FlowNames {
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let boot = clock_gettime(ClockId::Boottime);
        let since_boot = u64::try_from(boot.tv_sec).unwrap_or(0) * 1000 + u64::try_from(boot.tv_nsec).unwrap_or(0) / 1_000_000;
        Self { boot_ms: u64::try_from(now.as_millis()).unwrap_or(0).saturating_sub(since_boot) }
    }

    pub fn of(self, owner: &Owner) -> SmolStr {
        let millis = self.boot_ms.saturating_add(u64::try_from(owner.connected.as_millis()).unwrap_or(0));
        // Version and variant overwrite six bits of the first and two of the third byte: none of the cookie's.
        let mut rest = [0; 10];
        rest[1] = owner.connected.subsec_nanos().to_ne_bytes()[0];
        rest[3..].copy_from_slice(&owner.cookie.to_be_bytes()[1..]);
        let mut buffer = Uuid::encode_buffer();
        SmolStr::new(Builder::from_unix_timestamp_millis(millis, &rest).into_uuid().as_hyphenated().encode_lower(&mut buffer))
    }
}
