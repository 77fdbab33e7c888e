//! The zygote of the tests. Its arguments name the system calls that its host refuses. Where the code begins with `rehearse:`, its workers
//! do what no script can, after they have been confined and with the worker's own socket.

use std::fs::File;
use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use seccompiler::{SeccompAction, SeccompFilter};

fn main() -> ExitCode {
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "no-namespaces" => refuse(&[libc::SYS_unshare]),
            "no-landlock" => refuse(&[libc::SYS_landlock_create_ruleset]),
            "no-seccomp" => refuse(&[libc::SYS_seccomp]),
            "no-limits" => refuse(&[libc::SYS_prlimit64]),
            // The system calls that the package's unit removes from `@system-service`.
            "in-the-service" => refuse(&[libc::SYS_unshare, libc::SYS_capset, libc::SYS_setresuid]),
            "as-nobody" => become_nobody(),
            other => panic!("{other}"),
        }
    }
    gnomon_codemode::zygote::rehearse(misbehave)
}

/// Refuses system calls, like a host whose kernel or administrator does not allow them.
fn refuse(calls: &[i64]) {
    let rules = calls.iter().map(|call| (*call, vec![])).collect();
    let architecture = std::env::consts::ARCH.try_into().expect("an architecture with a list");
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, refusal, architecture).and_then(TryInto::<seccompiler::BpfProgram>::try_into);
    seccompiler::apply_filter(&filter.expect("a filter")).expect("a filter that applies");
}

fn become_nobody() {
    if rustix::process::geteuid().is_root() {
        let (user, group) = (rustix::process::Uid::from_raw(65534), rustix::process::Gid::from_raw(65534));
        rustix::thread::set_thread_groups(&[]).expect("no groups");
        rustix::thread::set_thread_res_gid(group, group, group).expect("a group");
        rustix::thread::set_thread_res_uid(user, user, user).expect("a user");
    }
}

/// What an attacker does who has taken over the engine.
fn misbehave(code: &str, socket: &UnixStream) -> bool {
    let Some(deed) = code.strip_prefix("rehearse:") else { return false };
    match deed {
        "open" => drop(File::open("/etc/passwd")),
        "connect" => drop(TcpStream::connect(("127.0.0.1", 80))),
        "connect unix" => drop(UnixStream::connect("/run/systemd/private")),
        "exec" => drop(Command::new("/bin/true").exec()),
        "fork" => drop(Command::new("/bin/true").spawn()),
        "thread" => drop(std::thread::Builder::new().spawn(|| ())),
        "kill" => drop(rustix::process::kill_process(rustix::process::Pid::INIT, rustix::process::Signal::KILL)),
        "pidfd" => drop(rustix::process::pidfd_open(rustix::process::Pid::INIT, rustix::process::PidfdFlags::empty())),
        "ioctl" => drop(rustix::io::ioctl_fionread(socket)),
        "dup" => drop(rustix::io::dup(socket)),
        "unlimit" => {
            let limit = rustix::process::Rlimit { current: None, maximum: None };
            let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, limit);
        }
        "priority" => drop(rustix::process::nice(-1)),
        "sleep" => std::thread::sleep(std::time::Duration::from_secs(100)),
        "abort" => std::process::abort(),
        "panic" => panic!("told to"),
        "abort while reading" => {
            begin_to_read(socket);
            std::process::abort()
        }
        "panic while reading" => {
            begin_to_read(socket);
            panic!("told to")
        }
        "spin" => loop {
            std::hint::spin_loop();
        },
        "memory" => {
            // Far more than any heap, and touched.
            let mut blocks = Vec::new();
            loop {
                let mut block: Vec<u8> = Vec::new();
                if block.try_reserve_exact(16 << 20).is_err() {
                    break;
                }
                block.resize(16 << 20, 1);
                blocks.push(block);
            }
            assert!(blocks.len() < 100, "{}", blocks.len());
        }
        "leave" => {}
        frame => say(socket, frame),
    }
    true
}

/// Sends what a worker sends before it parses code that is not an expression.
fn begin_to_read(mut socket: &UnixStream) {
    socket.write_all(&[1, 0, 0, 0, 0]).expect("a parent");
}

/// Sends frames that the engine never sends, given in hexadecimal; a trailing `*` repeats the last byte up to the bound of a hundred
/// megabytes.
fn say(mut socket: &UnixStream, hexadecimal: &str) {
    let (digits, repeats) = hexadecimal.strip_suffix('*').map_or((hexadecimal, 0), |digits| (digits, 100 << 20));
    let mut bytes: Vec<u8> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("digits"), 16).expect("hexadecimal"))
        .collect();
    let last = bytes.last().copied().unwrap_or_default();
    let mut sent = socket.write_all(&bytes);
    bytes = vec![last; 1 << 16];
    for _ in 0..repeats >> 16 {
        sent = sent.and_then(|()| socket.write_all(&bytes));
    }
    // Whatever happened, the parent has to notice it by itself.
    let mut byte = [0];
    while let Ok(1..) = std::io::Read::read(&mut socket, &mut byte) {}
}
