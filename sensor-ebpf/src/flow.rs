//! A flow's life: its addresses before the SYN leaves, its end, and sockets that never got that far.

use core::arch::asm;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{BPF_EXIST, BPF_NOEXIST};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{cgroup_sock, sock_ops};
use aya_ebpf::programs::{SockContext, SockOpsContext};
use gnomon_sensor_abi::{AF_INET, AF_INET6, Address, Close, MAPPED, Outcome, PeerKey, Program, end, flag, kind};

use crate::load;
use crate::maps::{CLOSING, CONFIG, FLOWS, Filed, Flow, HELD, HELD_BITS, OWNERS, held_seed, netns_known};
use crate::report::{count, deliver, header};

/// `BPF_SOCK_OPS_TCP_CONNECT_CB`: both addresses and ports are chosen, the SYN has not left.
const CONNECTING: u32 = 3;
/// `BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB`: the server answered, and was not answered yet.
const ESTABLISHED: u32 = 4;
/// `BPF_SOCK_OPS_STATE_CB`, and the flag that asks for it.
const STATE: u32 = 10;
const STATE_FLAG: u32 = 4;
/// States, as in `BPF_TCP_*`.
const SYN_SENT: u32 = 2;
const CLOSED: u32 = 7;

/// Whether there was room for a connection in the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Some,
    /// Its holder has as many connections as allowed.
    ShareTaken,
    None,
}

/// Puts a flow into the table, within its holder's share of it, and its own cgroup's half of that.
#[inline(always)]
pub fn track(flow: &mut Flow, share: u32) -> Room {
    let held = holding(flow.holder);
    let within_own = if flow.own == 0 { None } else { holding(flow.own) };
    let within = is_below(held, share) && is_below(within_own, share.div_ceil(2));
    if within && FLOWS.insert(&flow.owner.cookie, &*flow, u64::from(BPF_NOEXIST)).is_ok() {
        if let Some(held) = held {
            add(held, 1);
        }
        if let Some(held) = within_own {
            add(held, 1);
        }
        return Room::Some;
    }
    // A socket that was disconnected keeps its cookie, and begins anew in the place that it has.
    // SAFETY: the value lives as long as the map, and two words of it are read.
    if let Some((holder, own)) = unsafe { FLOWS.get(&flow.owner.cookie) }.map(|before| (before.holder, before.own)) {
        (flow.holder, flow.own) = (holder, own);
        if FLOWS.insert(&flow.owner.cookie, &*flow, u64::from(BPF_EXIST)).is_ok() {
            return Room::Some;
        }
    }
    if within { Room::None } else { Room::ShareTaken }
}

#[inline(always)]
fn is_below(held: Option<*mut i64>, share: u32) -> bool {
    match held {
        // SAFETY: the value lives as long as the map, and is one word.
        Some(held) => i64::from(share) > unsafe { core::ptr::read_volatile(held) },
        None => true,
    }
}

/// Takes a flow out of the table, and out of the shares that it counts for.
#[inline(always)]
fn forget(cookie: u64, holder: u64, own: u64) {
    if FLOWS.remove(&cookie).is_err() {
        return;
    }
    if let Some(held) = holding(holder) {
        add(held, -1);
    }
    if own != 0
        && let Some(held) = holding(own)
    {
        add(held, -1);
    }
}

/// The count of a holder's flows.
#[inline(always)]
fn holding(holder: u64) -> Option<*mut i64> {
    HELD.get_ptr_mut((holder.wrapping_mul(held_seed()) >> (u64::BITS - HELD_BITS)) as u32)
}

/// Adds atomically, by the one instruction for it that every kernel has.
#[inline(always)]
fn add(held: *mut i64, count: i64) {
    // SAFETY: the callers' pointer is to a value of a map, which lives as long as that.
    unsafe { asm!("lock *(u64 *)({held} + 0) += {count}", held = in(reg) held, count = in(reg) count) };
}

/// What a socket is connected to.
struct Ends {
    local: Address,
    to: [u32; 4],
    to_port: u16,
}

#[sock_ops]
fn gn_sockops(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    let op = load!((*ops).op);
    // Most calls are about timers and windows.
    if op != CONNECTING && op != ESTABLISHED && op != STATE {
        return 1;
    }
    // Every field is loaded here and only here: the verifier refuses loads that LLVM has merged from several branches.
    let (before, after) = (load!((*ops).__bindgen_anon_1.args[0]), load!((*ops).__bindgen_anon_1.args[1]));
    // And most of the rest are states on the way to the last one.
    if op == STATE && after != CLOSED {
        return 1;
    }
    let (received, sent) = (load!((*ops).bytes_received), load!((*ops).bytes_acked));
    let acknowledged = load!((*ops).snd_una);
    let flags = load!((*ops).bpf_sock_ops_cb_flags);
    let ends = ends(&ctx);
    if op == CONNECTING {
        connecting(&ctx, flags);
    } else if op == ESTABLISHED {
        // The SYN is among the bytes acknowledged, and so is what was sent with it.
        let first_seq = acknowledged.wrapping_sub(sent as u32).wrapping_add(1);
        established(&ctx, &ends, first_seq, flags);
    } else {
        closed(&ctx, ends.local, if before == SYN_SENT { end::REFUSED } else { end::CLOSED }, received, sent);
    }
    1
}

/// Both ends; an IPv4 address on an IPv6 socket is the IPv4 address that the proxy sees.
#[inline(always)]
fn ends(ctx: &SockOpsContext) -> Ends {
    let ops = ctx.ops;
    let (family, port) = (load!((*ops).family), load!((*ops).local_port));
    // In the upper half, and in network order there.
    let to_port = u32::from_be(load!((*ops).remote_port)) as u16;
    let (v4, to4) = (load!((*ops).local_ip4), load!((*ops).remote_ip4));
    let v6 = [load!((*ops).local_ip6[0]), load!((*ops).local_ip6[1]), load!((*ops).local_ip6[2]), load!((*ops).local_ip6[3])];
    let to6 = [load!((*ops).remote_ip6[0]), load!((*ops).remote_ip6[1]), load!((*ops).remote_ip6[2]), load!((*ops).remote_ip6[3])];
    let mut local = Address { words: [v4, 0, 0, 0], port: port as u16, family: AF_INET, reserved: 0 };
    let mut to = [to4, 0, 0, 0];
    if family == u32::from(AF_INET6) && !(v6[0] == 0 && v6[1] == 0 && v6[2] == MAPPED) {
        local.words = v6;
        local.family = AF_INET6;
        to = to6;
    }
    Ends { local, to, to_port }
}

/// Requests the callback at the end of the connection.
#[inline(always)]
fn connecting(ctx: &SockOpsContext, flags: u32) {
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let Some(flow) = FLOWS.get_ptr_mut(&cookie) else { return };
    // SAFETY: the value lives as long as the map, and only this socket's programs, which the socket's
    // lock keeps apart, write to it.
    unsafe { (*flow).owner.flags |= flag::SYN_SENT };
    let _ = ctx.set_cb_flags((flags | STATE_FLAG) as i32);
}

/// Files the owner for the proxy to ask for, where it may. It cannot have accepted yet, as the server's answer, whose
/// arrival this is, has not been answered. Asks once more to be told of the end: programs on the same hook share what is
/// asked for, and one that does not keep what others asked for calls it off.
#[inline(always)]
fn established(ctx: &SockOpsContext, ends: &Ends, first_seq: u32, flags: u32) {
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the value lives as long as the map, and is only read.
    let Some(flow) = (unsafe { FLOWS.get(&cookie) }) else { return };
    if flags & STATE_FLAG == 0 {
        let _ = ctx.set_cb_flags((flags | STATE_FLAG) as i32);
    }
    if is_asked_for(ends.to_port) {
        let filed = Filed { owner: flow.owner, to_port: u32::from(ends.to_port), reserved: 0 };
        let _ = OWNERS.insert(&key(ctx, ends, first_seq), &filed, 0);
    }
}

/// Whether the proxy may ask whose a connection to this port is.
#[inline(always)]
fn is_asked_for(port: u16) -> bool {
    CONFIG.get(0).is_some_and(|config| config.explicit_port == 0 || port == config.explicit_port || port == config.port)
}

#[inline(always)]
fn key(ctx: &SockOpsContext, ends: &Ends, first_seq: u32) -> PeerKey {
    let local = &ends.local;
    let mut key = PeerKey { netns: 0, from: local.words, to: ends.to, from_port: local.port, family: local.family, first_seq };
    if netns_known() {
        // SAFETY: the context is what this helper takes in this kind of program. Where it does not take it,
        // the loader has set the constant so that the verifier never comes here.
        key.netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    }
    key
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, local: Address, end: u32, received: u64, sent: u64) {
    count(Program::SockOps, Outcome::Attempted);
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the value lives as long as the map, and three words of it are read.
    let open = unsafe { FLOWS.get(&cookie) }.map(|flow| (flow.owner.connected_ns, flow.holder, flow.own));
    // SAFETY: as above.
    let Some(connected_ns) = open.map(|(at, ..)| at).or_else(|| unsafe { CLOSING.get(&cookie) }.copied()) else {
        count(Program::SockOps, Outcome::Filtered);
        return;
    };
    match open {
        Some((_, holder, own)) => forget(cookie, holder, own),
        None => drop(CLOSING.remove(&cookie)),
    }
    finish(Program::SockOps, cookie, connected_ns, local, end, received, sent);
}

/// A socket is closed by its program. Where there is a connection, the kernel goes on and [`gn_sockops`] reports the end;
/// where `connect()` failed before the SYN left, or the connection has ended and was not reported, there is no other
/// end. In either case the flow leaves the table, which thus holds no more than there are sockets in programs.
#[cgroup_sock(sock_release)]
fn gn_release(ctx: SockContext) -> i32 {
    let state = load!((*ctx.sock).state);
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the value lives as long as the map, and two words of it are read.
    if let Some(flow) = unsafe { FLOWS.get(&cookie) } {
        count(Program::Release, Outcome::Attempted);
        let nowhere = Address { words: [0; 4], port: 0, family: 0, reserved: 0 };
        let (flags, connected_ns) = (flow.owner.flags, flow.owner.connected_ns);
        let (holder, own) = (flow.holder, flow.own);
        forget(cookie, holder, own);
        if flags & flag::SYN_SENT == 0 {
            finish(Program::Release, cookie, connected_ns, nowhere, end::UNSENT, 0, 0);
        } else if state == CLOSED {
            finish(Program::Release, cookie, connected_ns, nowhere, end::CLOSED, 0, 0);
        } else {
            count(Program::Release, Outcome::Filtered);
            let _ = CLOSING.insert(&cookie, &connected_ns, 0);
        }
    }
    1
}

/// Reports the end of a flow that was tracked.
#[inline(always)]
fn finish(program: Program, cookie: u64, connected_ns: u64, local: Address, end: u32, received: u64, sent: u64) {
    let Some(config) = CONFIG.get(0) else {
        count(program, Outcome::Filtered);
        return;
    };
    // SAFETY: a helper without pointers.
    let duration_ns = unsafe { bpf_ktime_get_boot_ns() }.wrapping_sub(connected_ns);
    let record = Close { header: header::<Close>(kind::CLOSE, 0), cookie, received, sent, duration_ns, local, end, reserved: 0 };
    deliver(program, config, &record);
}
