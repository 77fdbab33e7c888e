//! eBPF programs of another owner on a cgroup's hooks, attached with bpf(2) and without a link, so that they stay as long as the cgroup
//! does.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    path::Path,
};

/// The `enum bpf_prog_type` and `enum bpf_attach_type` of a hook.
#[derive(Clone, Copy, Debug)]
pub struct Hook {
    kind: u32,
    attach_type: u32,
}

/// State changes of TCP connections.
pub const SOCK_OPS: Hook = Hook { kind: 13, attach_type: 3 };
/// `connect()` to IPv4 addresses.
pub const CONNECT4: Hook = Hook { kind: 18, attach_type: 10 };

/// Which other programs may be attached beside it: flags of `BPF_PROG_ATTACH`.
#[derive(Clone, Copy, Debug)]
pub enum Beside {
    /// Nothing, here and in cgroups below.
    Nothing = 0,
    /// Those of cgroups below run in its place (`BPF_F_ALLOW_OVERRIDE`).
    Override = 1,
}

/// What the program returns.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// `EPERM`.
    Refuse = 0,
    /// Go on.
    Allow = 1,
}

/// `union bpf_attr` for BPF_PROG_LOAD, as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 4],
    kernel: u32,
    flags: u32,
    name: [u8; 16],
    device: u32,
    attach_type: u32,
}

/// `union bpf_attr` for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

/// An attached program.
#[derive(Debug)]
pub struct Foreign {
    cgroup: File,
    program: OwnedFd,
    hook: Hook,
}

impl Foreign {
    /// Attaches a program.
    ///
    /// # Panics
    /// The kernel refuses.
    #[must_use]
    pub fn attach(cgroup: &Path, hook: Hook, beside: Beside, answer: Answer) -> Self {
        // r0 = answer; exit
        let instructions: [u64; 2] = [(answer as u64) << 32 | 0xb7, 0x95];
        let attach_type = if hook.kind == SOCK_OPS.kind { 0 } else { hook.attach_type };
        let (text, license) = (instructions.as_ptr() as u64, c"GPL".as_ptr() as u64);
        let mut load = Load { kind: hook.kind, count: 2, instructions: text, license, attach_type, ..Load::default() };
        // SAFETY: the kernel has just made it.
        let program = unsafe { OwnedFd::from_raw_fd(bpf(5, (&raw mut load).cast(), size_of::<Load>())) };
        let foreign = Self { cgroup: File::open(cgroup).unwrap(), program, hook };
        foreign.command(8, beside as u32);
        foreign
    }

    /// Detaches it.
    ///
    /// # Panics
    /// The kernel refuses.
    pub fn detach(self) {
        self.command(9, 0);
    }

    fn command(&self, command: i64, flags: u32) {
        let number = |fd: i32| u32::try_from(fd).unwrap();
        let (target, program) = (number(self.cgroup.as_raw_fd()), number(self.program.as_raw_fd()));
        let mut attach = Attach { target, program, attach_type: self.hook.attach_type, flags };
        bpf(command, (&raw mut attach).cast(), size_of::<Attach>());
    }
}

fn bpf(command: libc::c_long, attributes: *mut libc::c_void, size: usize) -> i32 {
    // SAFETY: the attributes are a prefix of `union bpf_attr` of the size given, and what they point to outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    assert!(answer >= 0, "{}", io::Error::last_os_error());
    i32::try_from(answer).unwrap()
}
