//! The kernel: what it is, and whether it lets programs in.

use std::io;
use std::path::Path;

use super::{Check, CheckStatus, Options, value};

pub(super) fn examine(options: &Options) -> Vec<Check> {
    vec![
        release(),
        btf(Path::new("/sys/kernel/btf/vmlinux")),
        jit(value("/proc/sys/net/core/bpf_jit_enable")),
        call(options),
        unprivileged(value("/proc/sys/kernel/unprivileged_bpf_disabled")),
        lockdown(value("/sys/kernel/security/lockdown")),
    ]
}

fn release() -> Check {
    let name = rustix::system::uname();
    Check::ok("kernel.release", "kernel", format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy()))
}

fn btf(path: &Path) -> Check {
    let check = ("kernel.btf", "type information of the kernel (BTF)");
    if path.exists() {
        return Check::ok(check.0, check.1, path.display().to_string());
    }
    // Cgroup programs and tracepoints were loaded without it; only fentry needs it.
    Check::new(check.0, check.1, CheckStatus::Warn, format!("{} is missing", path.display()))
        .next("nothing that gnomon needs depends on it; a kernel built with CONFIG_DEBUG_INFO_BTF has it")
}

fn jit(read: io::Result<String>) -> Check {
    let (id, title) = ("kernel.jit", "BPF programs are compiled (JIT)");
    match read.as_deref() {
        Ok("0") => {
            Check::new(id, title, CheckStatus::Warn, "net.core.bpf_jit_enable is 0: programs are interpreted, each connection costs more")
                .next("sudo sysctl -w net.core.bpf_jit_enable=1")
        }
        Ok(value) => Check::ok(id, title, format!("net.core.bpf_jit_enable is {value}")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Check::not_applicable(id, title, "only root can read net.core.bpf_jit_enable").next("sudo gnomon doctor")
        }
        Err(error) => Check::not_applicable(id, title, format!("net.core.bpf_jit_enable: {error}")),
    }
}

fn call(options: &Options) -> Check {
    let (id, title) = ("kernel.bpf", "bpf(2) answers");
    match &options.bpf {
        None => Check::not_applicable(id, title, "not tried, as there is to be no kernel half (--sensor off), or no cgroup v2"),
        Some(Ok(())) => Check::ok(id, title, "it does"),
        Some(Err(error)) => Check::new(id, title, CheckStatus::Fail, error.clone()).next(
            "if capabilities below are in order: a seccomp filter (containers), a security module, or a kernel without CONFIG_BPF_SYSCALL is in the way",
        ),
    }
}

fn unprivileged(read: io::Result<String>) -> Check {
    let (id, title) = ("kernel.unprivileged_bpf", "BPF is for the privileged");
    match read.as_deref() {
        Ok("0") => Check::new(id, title, CheckStatus::Warn, "kernel.unprivileged_bpf_disabled is 0: every user may load BPF programs")
            .next("gnomon does not need that; to close it: sudo sysctl -w kernel.unprivileged_bpf_disabled=2"),
        Ok(value) => Check::ok(id, title, format!("kernel.unprivileged_bpf_disabled is {value}")),
        Err(error) => Check::not_applicable(id, title, format!("kernel.unprivileged_bpf_disabled: {error}")),
    }
}

/// kernel_lockdown(7).
fn lockdown(read: io::Result<String>) -> Check {
    let (id, title) = ("kernel.lockdown", "kernel lockdown");
    match read {
        Ok(modes) if modes.contains("[confidentiality]") => {
            Check::new(id, title, CheckStatus::Warn, "confidentiality: BPF programs may not read kernel memory")
                .next("cgroup programs, which do the work, are not affected; features that are missing for it are named above")
        }
        Ok(modes) => Check::ok(id, title, modes),
        Err(_) => Check::ok(id, title, "none"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied() -> io::Result<String> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn each_setting_is_judged_and_what_is_not_well_has_a_next_step() {
        let ok = |text: &str| Ok(text.to_owned());
        for (check, state) in [
            (btf(Path::new("/")), CheckStatus::Ok),
            (btf(Path::new("/nowhere")), CheckStatus::Warn),
            (jit(ok("1")), CheckStatus::Ok),
            (jit(ok("0")), CheckStatus::Warn),
            (jit(denied()), CheckStatus::NotApplicable),
            (unprivileged(ok("2")), CheckStatus::Ok),
            (unprivileged(ok("0")), CheckStatus::Warn),
            (lockdown(ok("[none] integrity confidentiality")), CheckStatus::Ok),
            (lockdown(ok("none integrity [confidentiality]")), CheckStatus::Warn),
            (lockdown(denied()), CheckStatus::Ok),
            (call(&Options { bpf: Some(Ok(())), ..Options::default() }), CheckStatus::Ok),
            (call(&Options { bpf: Some(Err("EPERM".into())), ..Options::default() }), CheckStatus::Fail),
            (call(&Options::default()), CheckStatus::NotApplicable),
        ] {
            assert_eq!(check.state, state, "{check:?}");
            assert!(check.next.is_some() || check.state < CheckStatus::Warn, "{check:?}");
        }
    }
}
