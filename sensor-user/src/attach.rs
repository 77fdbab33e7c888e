//! Attaches programs by links of our own: a plain descriptor keeps a program attached, closing the last one detaches it, and another
//! process image can take it over.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use gnomon_sensor_abi::Program;

/// Commands of bpf(2).
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const LINK_CREATE: libc::c_long = 28;

/// The hook of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A hook of the cgroup below which connections are seen, as `enum bpf_attach_type` numbers it.
    Seen(u32),
    /// A hook of the proxy's cgroup.
    Proxy(u32),
    /// A raw tracepoint.
    Tracepoint(&'static CStr),
}

/// The hook of this program.
pub const fn hook(program: Program) -> Hook {
    match program {
        Program::Connect4 => Hook::Seen(10),
        Program::Connect6 => Hook::Seen(11),
        Program::Sendmsg4 => Hook::Seen(14),
        Program::Sendmsg6 => Hook::Seen(15),
        Program::SockOps => Hook::Seen(3),
        Program::Release => Hook::Seen(34),
        Program::Hello => Hook::Seen(1),
        Program::Peer4 => Hook::Seen(29),
        Program::Peer6 => Hook::Seen(30),
        Program::Sockopt => Hook::Proxy(21),
        Program::Exec => Hook::Tracepoint(c"sched_process_exec"),
    }
}

/// The part of `union bpf_attr` that belongs to `BPF_LINK_CREATE`.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that belongs to `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
struct TracepointOpen {
    name: u64,
    program: u32,
    reserved: u32,
}

/// Attaches a program to a hook of a cgroup (Linux 5.7), beside those that are attached there already.
pub fn to_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    let mut create = LinkCreate { program: number(program), target: number(cgroup), attach_type, flags: 0 };
    // SAFETY: `create` is the prefix of `union bpf_attr` that this command reads, and its size is given.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, LINK_CREATE, &raw mut create, size_of::<LinkCreate>()) })
}

/// Attaches a program to a raw tracepoint.
pub fn to_tracepoint(program: BorrowedFd<'_>, name: &'static CStr) -> io::Result<OwnedFd> {
    let mut open = TracepointOpen { name: name.as_ptr() as u64, program: number(program), reserved: 0 };
    // SAFETY: `open` is the prefix of `union bpf_attr` that this command reads, its size is given, and the name ends with a
    // zero and lives for ever.
    descriptor(unsafe { libc::syscall(libc::SYS_bpf, RAW_TRACEPOINT_OPEN, &raw mut open, size_of::<TracepointOpen>()) })
}

fn number(descriptor: BorrowedFd<'_>) -> u32 {
    // An open descriptor is never negative.
    u32::try_from(descriptor.as_raw_fd()).unwrap_or(u32::MAX)
}

/// The descriptor that bpf(2) returned; closed on exec.
fn descriptor(answer: libc::c_long) -> io::Result<OwnedFd> {
    let number = i32::try_from(answer).ok().filter(|number| *number >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us, and no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
