//! Programs of somebody else that let no other in beside them, attached before ours.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use gnomon_link::{Fail, FeatureState, List, Mode, Ports, Quic, ScopeChange, ScopeSettings, ToProxy, ToSensor};

use crate::stage::{Stage, until};

/// `enum bpf_prog_type` and `enum bpf_attach_type` of a hook.
#[derive(Clone, Copy)]
struct Hook {
    kind: u32,
    attach_type: u32,
}

const SOCK_OPS: Hook = Hook { kind: 13, attach_type: 3 };
const CONNECT4: Hook = Hook { kind: 18, attach_type: 10 };

/// `union bpf_attr` as BPF_PROG_LOAD takes it, as far as it is used.
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

/// The same as BPF_PROG_ATTACH takes it.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

fn bpf(command: libc::c_long, attributes: *mut libc::c_void, size: usize) -> i32 {
    // SAFETY: the attributes are a prefix of `union bpf_attr` of the size given, and what they point to outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size) };
    assert!(answer >= 0, "{}", std::io::Error::last_os_error());
    i32::try_from(answer).unwrap()
}

/// Attaches a program that returns 1, alone. It stays as long as the cgroup does.
fn attach(cgroup: &Path, hook: Hook) {
    // r0 = 1; exit
    static PROGRAM: [u64; 2] = [0x0000_0001_0000_00b7, 0x0000_0000_0000_0095];
    let (instructions, license) = (PROGRAM.as_ptr() as u64, c"GPL".as_ptr() as u64);
    let attach_type = if hook.kind == SOCK_OPS.kind { 0 } else { hook.attach_type };
    let mut load = Load { kind: hook.kind, count: 2, instructions, license, attach_type, ..Load::default() };
    // SAFETY: the kernel has just made it.
    let program = unsafe { OwnedFd::from_raw_fd(bpf(5, (&raw mut load).cast(), size_of::<Load>())) };
    let cgroup = File::open(cgroup).unwrap();
    let number = |fd: i32| u32::try_from(fd).unwrap();
    let mut attach =
        Attach { target: number(cgroup.as_raw_fd()), program: number(program.as_raw_fd()), attach_type: hook.attach_type, flags: 0 };
    bpf(8, (&raw mut attach).cast(), size_of::<Attach>());
}

/// What a program in the cgroup reads from a server that says `direct`.
fn connects(cgroup: &Path, port: u16) -> String {
    let script = r#"echo $$ > "$0/cgroup.procs"; exec bash -c "exec 3<>/dev/tcp/127.0.0.2/$1 && head -c 6 <&3""#;
    let output = Command::new("sh").args(["-c", script]).arg(cgroup).arg(port.to_string()).stderr(Stdio::null()).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn where_no_owner_can_be_told_nothing_is_redirected_and_scopes_do_what_they_do_then() {
    let Some(stage) = Stage::after("alone on sock_ops", |cgroup| attach(cgroup, SOCK_OPS)) else { return };
    let broken = stage.welcome.features.iter().find(|feature| feature.name.as_str() == "gn_sockops").unwrap();
    assert_eq!(broken.state, FeatureState::Broken);
    let server = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in server.incoming() {
            std::io::Write::write_all(&mut stream.unwrap(), b"direct").unwrap();
        }
    });
    // A proxy in good order.
    let listeners = stage.ask(ToSensor::ListenIn { token: 6, netns_cookie: 0, pid: std::process::id() });
    assert!(matches!(listeners.message, ToProxy::Listeners { .. }), "{:?}", listeners.message);
    stage.beat();
    for (fail, hears) in [(Fail::Open, "direct"), (Fail::Closed, "")] {
        let scoped = stage.cgroup.join(format!("{fail:?}"));
        std::fs::create_dir(&scoped).unwrap();
        let cgroup = std::fs::metadata(&scoped).unwrap().ino();
        let settings = ScopeSettings { id: 5, mode: Mode::Redirect, ports: Ports::Listed(List::cut([port])), quic: Quic::Leave, fail };
        let set = stage.ask(ToSensor::Scope { token: 2, change: ScopeChange::Set { cgroup, settings } }).message;
        assert_eq!(set, ToProxy::Done { token: 2 });
        assert_eq!(connects(&scoped, port), hears, "{fail:?}");
        until("the program to end", || std::fs::remove_dir(&scoped).ok());
    }
    // Those that were handed over were open all the time.
    for listener in listeners.descriptors {
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "nobody came");
    }
}

#[test]
fn a_scope_that_cannot_hold_at_all_is_refused_with_the_reason() {
    let Some(stage) = Stage::after("alone on connect4", |cgroup| attach(cgroup, CONNECT4)) else { return };
    let cgroup = std::fs::metadata(&stage.cgroup).unwrap().ino();
    let ports = Ports::Listed(List::cut([443]));
    let settings = ScopeSettings { id: 5, mode: Mode::Redirect, ports, quic: Quic::Leave, fail: Fail::Closed };
    let set = stage.ask(ToSensor::Scope { token: 2, change: ScopeChange::Set { cgroup, settings } }).message;
    let ToProxy::Refused { token: 2, detail, .. } = set else { panic!("{set:?}") };
    assert!(detail.as_str().contains("gn_connect4 is not attached"), "{detail:?}");
}
