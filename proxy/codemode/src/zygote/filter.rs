//! The system calls that a worker may make. All others kill it.
//!
//! The list is what an engine needs that computes and talks on one socket; each line says who needs it. It is the one layer that
//! the sandbox does not do without.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

/// `prctl(PR_SET_VMA)`: names a mapping. The product's allocator does it after each `mmap`.
const PR_SET_VMA: u64 = 0x5356_4d41;

/// Makes the filter, once in the zygote; a worker only applies it.
///
/// # Errors
/// The processor is none that we know a list for.
pub fn filter() -> Result<BpfProgram, seccompiler::Error> {
    let rules: BTreeMap<i64, Vec<SeccompRule>> = [
        // The socket, as std reads and writes it, to nowhere but its other end.
        (libc::SYS_recvfrom, vec![]),
        (libc::SYS_sendto, vec![rule([argument(4, SeccompCmpOp::Eq, 0)])?]),
        // The allocators. Memory is anonymous, and never executable.
        (libc::SYS_brk, vec![]),
        (libc::SYS_mmap, vec![rule([without(2, libc::PROT_EXEC), with(3, libc::MAP_ANONYMOUS)])?]),
        (libc::SYS_mprotect, vec![rule([without(2, libc::PROT_EXEC)])?]),
        (libc::SYS_mremap, vec![]),
        (libc::SYS_munmap, vec![]),
        (libc::SYS_madvise, advice()?),
        (libc::SYS_prctl, vec![rule([argument(0, SeccompCmpOp::Eq, PR_SET_VMA)])?]),
        // Locks that are never contended, as there is one thread, but the C library and Rust may ask the kernel to make sure.
        (libc::SYS_futex, vec![]),
        // Time and randomness: `Date`, the clocks of the limits, the seed of Math.random, hash maps.
        (libc::SYS_clock_gettime, vec![]),
        (libc::SYS_getrandom, vec![]),
        // A signal's way back, and calls that the kernel continues after one.
        (libc::SYS_rt_sigreturn, vec![]),
        (libc::SYS_rt_sigprocmask, vec![]),
        (libc::SYS_restart_syscall, vec![]),
        // The end.
        (libc::SYS_exit, vec![]),
        (libc::SYS_exit_group, vec![]),
    ]
    .into_iter()
    .collect();
    let architecture = std::env::consts::ARCH.try_into().map_err(seccompiler::Error::Backend)?;
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, architecture)
        .and_then(TryInto::try_into)
        .map_err(seccompiler::Error::Backend)
}

/// Giving memory back, and huge pages or not; none of the advice that changes what memory holds.
fn advice() -> Result<Vec<SeccompRule>, seccompiler::Error> {
    [libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_HUGEPAGE, libc::MADV_NOHUGEPAGE]
        .map(|advice| rule([argument(2, SeccompCmpOp::Eq, bits(advice))]))
        .into_iter()
        .collect()
}

fn rule<const N: usize>(conditions: [Result<SeccompCondition, seccompiler::Error>; N]) -> Result<SeccompRule, seccompiler::Error> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?).map_err(seccompiler::Error::Backend)
}

/// The kernel takes these arguments as 32 bits or as addresses; an address of 64 bits is compared whole.
fn argument(number: u8, compared: SeccompCmpOp, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    let length = if number == 4 { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
    SeccompCondition::new(number, length, compared, value).map_err(seccompiler::Error::Backend)
}

fn without(number: u8, flag: i32) -> Result<SeccompCondition, seccompiler::Error> {
    argument(number, SeccompCmpOp::MaskedEq(bits(flag)), 0)
}

fn with(number: u8, flag: i32) -> Result<SeccompCondition, seccompiler::Error> {
    argument(number, SeccompCmpOp::MaskedEq(bits(flag)), bits(flag))
}

/// The kernel's flags are small positive numbers.
fn bits(flag: i32) -> u64 {
    u64::from(flag.unsigned_abs())
}
