//! The programs attached to a cgroup that ours are attached to: those of others (Cilium, Tetragon, systemd) run there too, and those of
//! child cgroups see an address before ours do.

use crate::attach::{Hook, hook};
use gnomon_sensor_abi::Program;
use std::{
    collections::HashMap,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
};

/// A program that is attached to a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The hook: `connect4`, `egress` and so on.
    pub hook: &'static str,
    /// Its name in the kernel, at most 15 bytes; ours begin with `gn_`.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// Sharing of the hook.
    pub beside: Beside,
}

/// Sharing of a hook: other programs may be attached to the same hook of the same cgroup, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beside {
    /// Others may be attached (`BPF_F_ALLOW_MULTI`, as all that is attached by a link).
    Allowed,
    /// Others are refused (`EPERM`), there and, without `BPF_F_ALLOW_OVERRIDE`, in cgroups below.
    Refused,
}

/// `BPF_F_ALLOW_MULTI`.
const ALLOW_MULTI: u32 = 2;

/// `BPF_PROG_QUERY` of `bpf(2)`.
const PROG_QUERY: libc::c_long = 16;

/// The most programs per hook that are listed; the kernel allows 64 (`BPF_CGROUP_MAX_PROGS`).
const MOST: usize = 64;

/// The hooks we use, and their neighbours, as `enum bpf_attach_type` numbers them.
const HOOKS: [(&str, u32); 13] = [
    ("ingress", 0),
    ("egress", 1),
    ("sock_create", 2),
    ("sock_ops", 3),
    ("connect4", 10),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("getsockopt", 21),
    ("setsockopt", 22),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("sock_release", 34),
];

/// The part of `union bpf_attr` that belongs to `BPF_PROG_QUERY`.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

/// The programs attached to this very cgroup, hook by hook, in the order in which it runs. Hooks that the kernel
/// does not know have none.
///
/// # Errors
/// When the cgroup cannot be opened, or this process may not ask (`CAP_NET_ADMIN`, `CAP_SYS_ADMIN`).
pub fn attached(cgroup: &Path) -> io::Result<Vec<Attached>> {
    let folder = std::fs::File::open(cgroup)?;
    let mut found = Vec::new();
    for (hook, number) in HOOKS {
        let (ids, beside) = query(&folder, number)?;
        found.extend(ids.into_iter().map(|id| Attached { hook, name: String::new(), id, beside }));
    }
    // A program whose name cannot be read is shown by its number.
    let names: HashMap<u32, String> = aya::programs::loaded_programs()
        .filter_map(Result::ok)
        .map(|program| (program.id(), program.name_as_str().unwrap_or_default().to_owned()))
        .collect();
    for program in &mut found {
        program.name = names.get(&program.id).cloned().unwrap_or_default();
    }
    Ok(found)
}

/// A program that the kernel would no longer run for a cgroup once that has programs of its own on the same hook: one of a cgroup above
/// that was attached with `BPF_F_ALLOW_OVERRIDE`, or alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// The folder of its cgroup.
    pub at: PathBuf,
    /// Its number.
    pub id: u32,
}

/// The program of a cgroup above this folder that would not run any more for it and those below, if one of ours were attached here by its
/// attach type. None if others' programs prevent it already.
///
/// # Errors
/// When the cgroup cannot be opened, or this process may not ask.
pub(crate) fn overridden(cgroup: &Path, attach_type: u32) -> io::Result<Option<Overridden>> {
    let cgroup = std::fs::canonicalize(cgroup)?;
    for (level, at) in cgroup.ancestors().enumerate() {
        let asked = std::fs::File::open(at).and_then(|folder| query(&folder, attach_type));
        match asked {
            // There are no cgroups above the mount.
            Err(_) if level > 0 => return Ok(None),
            Err(error) => return Err(error),
            Ok((ids, beside)) => match ids.first() {
                None => {}
                Some(id) if level > 0 && beside == Beside::Refused => return Ok(Some(Overridden { at: at.to_owned(), id: *id })),
                // With these programs here, those above do not run anyway, or run beside ours.
                Some(_) => return Ok(None),
            },
        }
    }
    Ok(None)
}

/// The programs of cgroups above this folder that would be [`Overridden`] by ours, hook by hook.
///
/// # Errors
/// When the cgroup cannot be opened, or this process may not ask.
pub fn overridden_by_ours(cgroup: &Path) -> io::Result<Vec<(&'static str, Overridden)>> {
    let ours = Program::ALL.into_iter().filter_map(|program| match hook(program) {
        Hook::Seen(attach_type) => HOOKS.into_iter().find(|(_, number)| *number == attach_type),
        Hook::Proxy(_) | Hook::Tracepoint(_) => None,
    });
    let found = ours.filter_map(|(hook, number)| Some(overridden(cgroup, number).transpose()?.map(|program| (hook, program))));
    found.collect()
}

fn query(cgroup: &std::fs::File, attach_type: u32) -> io::Result<(Vec<u32>, Beside)> {
    let mut ids = [0u32; MOST];
    let mut query = Query {
        // A descriptor is never negative here.
        target_fd: u32::try_from(cgroup.as_raw_fd()).unwrap_or(u32::MAX),
        attach_type,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: MOST as u32,
        ..Query::default()
    };
    // SAFETY: `query` is the prefix of `union bpf_attr` that this command reads and writes, its size is
    // given, and `prog_ids` points to room for `prog_cnt` numbers that outlives the call.
    let asked = unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
    if asked < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EINVAL) => Ok((Vec::new(), Beside::Allowed)),
            // More programs than fit: the first are returned.
            Some(libc::ENOSPC) => Ok((ids.to_vec(), Beside::Allowed)),
            _ => Err(error),
        };
    }
    let beside = if query.attach_flags & ALLOW_MULTI == 0 { Beside::Refused } else { Beside::Allowed };
    Ok((ids.into_iter().take(query.prog_cnt as usize).collect(), beside))
}
