//! A `sock_ops` program of another owner, like those that tune TCP: when a connection is established it asks to be told of retransmissions,
//! and thereby cancels what others had asked for.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

/// `struct bpf_insn`.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

const fn instruction(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, value }
}

/// `BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB`, `BPF_SOCK_OPS_RETRANS_CB_FLAG`, `bpf_sock_ops_cb_flags_set`.
const ESTABLISHED: i32 = 4;
const RETRANSMISSIONS: i32 = 2;
const SET_FLAGS: i32 = 59;

static PROGRAM: [Instruction; 6] = [
    // r2 = ctx->op
    instruction(0x61, 2, 1, 0, 0),
    // if r2 != ESTABLISHED, on to the end
    instruction(0x55, 2, 0, 2, ESTABLISHED),
    // set_flags(ctx, RETRANSMISSIONS)
    instruction(0xb7, 2, 0, 0, RETRANSMISSIONS),
    instruction(0x85, 0, 0, 0, SET_FLAGS),
    // return 1
    instruction(0xb7, 0, 0, 0, 1),
    instruction(0x95, 0, 0, 0, 0),
];

/// The parts of `union bpf_attr` that two commands of bpf(2) take.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches it to a cgroup until what is returned is dropped.
pub fn attach(cgroup: &Path) -> (OwnedFd, OwnedFd) {
    let mut load = Load { kind: 13, count: PROGRAM.len() as u32, instructions: PROGRAM.as_ptr() as u64, license: c"GPL".as_ptr() as u64 };
    let program = bpf(5, (&raw mut load).cast(), size_of::<Load>());
    let cgroup = File::open(cgroup).unwrap();
    let mut link = Link { program: program.as_raw_fd() as u32, target: cgroup.as_raw_fd() as u32, attach_type: 3, flags: 0 };
    let link = bpf(28, (&raw mut link).cast(), size_of::<Link>());
    (program, link)
}

fn bpf(command: libc::c_long, attributes: *mut libc::c_void, size: usize) -> OwnedFd {
    // SAFETY: the attributes are a prefix of `union bpf_attr` of the size given, and what they point to lives for ever.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    assert!(answer >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel has just made it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(answer).unwrap()) }
}
