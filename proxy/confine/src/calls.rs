//! System calls that no tool server needs, and that lead out of what it was given (seccomp).
//!
//! A list of what is denied, not of what is allowed: programs of any language run here, and what they call changes with
//! their libraries. So this narrows the kernel's surface; what keeps files and networks closed does not rest on it alone,
//! except for sockets.

use crate::plan::Network;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen::Dword, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
    apply_filter,
};
use std::collections::BTreeMap;

/// Denied whatever their arguments are.
const DENIED: &[libc::c_long] = &[
    // Other processes' memory and descriptors.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Rings make calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Another view of the host.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_chroot,
    libc::SYS_pivot_root,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    // Files by something else than their path.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    // Keys of the user who runs gnomon.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The kernel itself: large, privileged, or a frequent source of holes.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_vhangup,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
];

/// New namespaces by `clone`.
const NAMESPACES: libc::c_int = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Puts the filters into force for this thread and all that comes of it.
pub(crate) fn restrict(network: Network) -> Result<(), String> {
    let filters = filters(network).map_err(|error| error.to_string())?;
    filters.iter().try_for_each(|filter| apply_filter(filter)).map_err(|error| error.to_string())
}

fn filters(network: Network) -> Result<Vec<BpfProgram>, seccompiler::BackendError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let program = |rules, errno: libc::c_int| -> Result<BpfProgram, seccompiler::BackendError> {
        let action = SeccompAction::Errno(errno.cast_unsigned());
        // Calls of another architecture end the process, as their numbers mean something else.
        SeccompFilter::new(rules, SeccompAction::Allow, action, architecture)?.try_into()
    };
    // `clone3` hides its flags in memory. Where it is not there, libraries fall back to `clone`.
    let mut filters =
        vec![program(rules(network)?, libc::EPERM)?, program(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?];
    if cfg!(target_arch = "x86_64") {
        filters.push(of_x32(libc::ENOSYS));
    }
    Ok(filters)
}

/// The bits of a socket's type that say its kind; others are flags (`SOCK_TYPE_MASK` of the kernel).
const SOCKET_KIND: u64 = 0xf;

fn rules(network: Network) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let number = |number: libc::c_int| u64::from(number.cast_unsigned());
    let each_bit = (0..u32::BITS).map(|bit| 1u64 << bit).filter(|bit| number(NAMESPACES) & bit != 0);
    let namespaces = each_bit.map(|bit| SeccompRule::new(vec![SeccompCondition::new(0, Dword, SeccompCmpOp::MaskedEq(bit), bit)?]));
    rules.insert(libc::SYS_clone, namespaces.collect::<Result<_, _>>()?);
    // Input put into a terminal, as if typed.
    let typed = [libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD].map(|request| {
        let request = u64::from(u32::try_from(request).unwrap_or_default());
        SeccompRule::new(vec![SeccompCondition::new(1, Dword, SeccompCmpOp::Eq, request)?])
    });
    rules.insert(libc::SYS_ioctl, typed.into_iter().collect::<Result<_, _>>()?);
    let families: &[libc::c_int] = match network {
        Network::None => &[],
        // Netlink is how programs learn of interfaces; it needs rights to change any.
        Network::Internet => &[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK],
        Network::Host => &[libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_UNIX],
    };
    let others = families.iter().map(|family| SeccompCondition::new(0, Dword, SeccompCmpOp::Ne, number(*family)));
    let others = others.collect::<Result<Vec<_>, _>>()?;
    // Node has no other pipes than pairs of sockets. One of a pair of datagrams, which a raw one is too (unix(7)), can be connected anew, to
    // the system's log for instance; one of streams or of packets in sequence is connected for good.
    if network != Network::Host {
        let kind = |kind: libc::c_int| SeccompCondition::new(1, Dword, SeccompCmpOp::MaskedEq(SOCKET_KIND), number(kind));
        let foreign = SeccompCondition::new(0, Dword, SeccompCmpOp::Ne, number(libc::AF_UNIX))?;
        let pairs = vec![
            SeccompRule::new(vec![foreign])?,
            SeccompRule::new(vec![kind(libc::SOCK_DGRAM)?])?,
            SeccompRule::new(vec![kind(libc::SOCK_RAW)?])?,
        ];
        rules.insert(libc::SYS_socketpair, pairs);
    }
    rules.insert(libc::SYS_socket, if others.is_empty() { Vec::new() } else { vec![SeccompRule::new(others)?] });
    Ok(rules)
}

/// Answers the second set of numbers that x86-64 knows (x32) with this error: the same architecture to a filter, and none of the numbers
/// above.
fn of_x32(errno: libc::c_int) -> BpfProgram {
    let instruction = |code: u32, jt, jf, k| seccompiler::sock_filter { code: u16::try_from(code).unwrap_or_default(), jt, jf, k };
    vec![
        // The number of the call stands first in what a filter is given.
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, 0x4000_0000),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_for_every_kind_of_network() {
        for network in [Network::None, Network::Internet, Network::Host] {
            let filters = filters(network).unwrap();
            assert!(filters.iter().all(|filter| !filter.is_empty() && filter.len() < 4096), "{network:?}");
        }
        assert!(rules(Network::None).unwrap()[&libc::SYS_socket].is_empty(), "no family at all");
        assert_eq!(rules(Network::Internet).unwrap()[&libc::SYS_socket].len(), 1);
    }

    /// The number of the error that a call of x32 (`getpid`) has in a program started by this thread; 0 for none.
    #[cfg(target_arch = "x86_64")]
    fn x32_in_a_program() -> String {
        let script = "import ctypes; library = ctypes.CDLL(None, use_errno=True); library.syscall(ctypes.c_long(39 | 0x40000000)); \
                      print(ctypes.get_errno(), end='')";
        let output = std::process::Command::new("python3").args(["-c", script]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn a_call_by_its_other_number_is_refused_before_the_kernel_looks_for_it() {
        if !gnomon_testkit::has("a_call_by_its_other_number_is_refused_before_the_kernel_looks_for_it", &["python3"]) {
            return;
        }
        // Filters hold for the thread and what it starts.
        let answers = std::thread::spawn(|| {
            // Many kernels know no x32 and have the same error for it. Of filters that refuse the last one's error counts (seccomp(2)).
            apply_filter(&of_x32(libc::EDOM)).unwrap();
            let before = x32_in_a_program();
            restrict(Network::Internet).unwrap();
            (before, x32_in_a_program())
        });
        assert_eq!(answers.join().unwrap(), (libc::EDOM.to_string(), libc::ENOSYS.to_string()));
    }
}
