//! A flow's life: its local address before the SYN leaves, its end, and sockets that never got that far.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns};
use aya_ebpf::macros::{cgroup_sock, sock_ops};
use aya_ebpf::programs::{SockContext, SockOpsContext};
use gnomon_sensor_abi::{AF_INET, AF_INET6, Address, Close, MAPPED, Outcome, Owner, PeerKey, Program, end, flag, kind};

use crate::load;
use crate::maps::{CONFIG, FLOWS, Filed, Flow, OWNERS, netns_known};
use crate::report::{count, deliver, header};

/// `BPF_SOCK_OPS_TCP_CONNECT_CB`: the source port is chosen, the SYN has not left.
const CONNECTING: u32 = 3;
/// `BPF_SOCK_OPS_STATE_CB`, and the flag that asks for it.
const STATE: u32 = 10;
const STATE_FLAG: u32 = 4;
/// States, as in `BPF_TCP_*`.
const SYN_SENT: u32 = 2;
const CLOSED: u32 = 7;

#[sock_ops]
fn gn_sockops(ctx: SockOpsContext) -> u32 {
    let ops = ctx.ops;
    let op = load!((*ops).op);
    // Most calls are about timers and windows.
    if op != CONNECTING && op != STATE {
        return 1;
    }
    // Every field is loaded here and only here: the verifier refuses loads that LLVM has merged from several branches.
    let (before, after) = (load!((*ops).__bindgen_anon_1.args[0]), load!((*ops).__bindgen_anon_1.args[1]));
    // And most of the rest are states on the way to the last one.
    if op == STATE && after != CLOSED {
        return 1;
    }
    let (received, sent) = (load!((*ops).bytes_received), load!((*ops).bytes_acked));
    let flags = load!((*ops).bpf_sock_ops_cb_flags);
    // In the upper half, and in network order there.
    let to = u32::from_be(load!((*ops).remote_port)) as u16;
    let local = local(&ctx);
    if op == CONNECTING {
        connecting(&ctx, &local, to, flags);
    } else {
        closed(&ctx, local, if before == SYN_SENT { end::REFUSED } else { end::CLOSED }, received, sent);
    }
    1
}

/// The local address; an IPv4 address on an IPv6 socket is the IPv4 address that the proxy sees.
#[inline(always)]
fn local(ctx: &SockOpsContext) -> Address {
    let ops = ctx.ops;
    let (family, port, v4) = (load!((*ops).family), load!((*ops).local_port), load!((*ops).local_ip4));
    let v6 = [load!((*ops).local_ip6[0]), load!((*ops).local_ip6[1]), load!((*ops).local_ip6[2]), load!((*ops).local_ip6[3])];
    let mut local = Address { words: [v4, 0, 0, 0], port: port as u16, family: AF_INET, reserved: 0 };
    if family == u32::from(AF_INET6) && !(v6[0] == 0 && v6[1] == 0 && v6[2] == MAPPED) {
        local.words = v6;
        local.family = AF_INET6;
    }
    local
}

/// Asks to be told of the end, and files the owner under the address that the proxy will see, where it may ask.
#[inline(always)]
fn connecting(ctx: &SockOpsContext, local: &Address, to: u16, flags: u32) {
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let asked_for = is_asked_for(to);
    let Some(flow) = FLOWS.get_ptr_mut(&cookie) else {
        if asked_for {
            // Not tracked: whoever had this address before must not be taken for the owner.
            let _ = OWNERS.remove(&key(ctx, local));
        }
        return;
    };
    // SAFETY: the value lives as long as the map, and only this socket's programs, which the socket's
    // lock keeps apart, write to it.
    let flow = unsafe { &mut *flow };
    flow.owner.flags |= flag::SYN_SENT;
    let _ = ctx.set_cb_flags((flags | STATE_FLAG) as i32);
    if asked_for {
        file(&key(ctx, local), flow);
    }
}

/// Whether the proxy may ask whose a connection to this port is. Whoever had the same local address before and is still
/// filed was connected to such a port, so a connection to another one takes nothing from them.
#[inline(always)]
fn is_asked_for(port: u16) -> bool {
    CONFIG.get(0).is_some_and(|config| config.explicit_port == 0 || port == config.explicit_port || port == config.port)
}

#[inline(always)]
fn file(key: &PeerKey, flow: &mut Flow) {
    if key.netns == 0 && is_ambiguous(key, &flow.owner) {
        let _ = OWNERS.remove(key);
        return;
    }
    flow.owner.flags |= flag::FILED;
    let _ = OWNERS.insert(key, &Filed { owner: flow.owner, ended_ns: 0 }, 0);
}

#[inline(always)]
fn key(ctx: &SockOpsContext, local: &Address) -> PeerKey {
    let mut key = PeerKey { netns: 0, words: local.words, port: u32::from(local.port), family: u32::from(local.family) };
    if netns_known() {
        // SAFETY: the context is what this helper takes in this kind of program. Where it does not take it,
        // the loader has set the constant so that the verifier never comes here.
        key.netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    }
    key
}

/// Without the namespace in the key, two live flows of different namespaces may share it. Then nobody
/// is the owner: no answer is better than a wrong one.
#[inline(always)]
fn is_ambiguous(key: &PeerKey, owner: &Owner) -> bool {
    // SAFETY: values live as long as their maps; both are read only.
    let other = unsafe { OWNERS.get(key) };
    // SAFETY: as above.
    other.is_some_and(|other| other.owner.netns != owner.netns && unsafe { FLOWS.get(&other.owner.cookie) }.is_some())
}

#[inline(always)]
fn closed(ctx: &SockOpsContext, local: Address, end: u32, received: u64, sent: u64) {
    count(Program::SockOps, Outcome::Attempted);
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the value lives as long as the map, and two words of it are read.
    let Some(flow) = (unsafe { FLOWS.get(&cookie) }) else {
        count(Program::SockOps, Outcome::Filtered);
        return;
    };
    if flow.owner.flags & flag::FILED != 0
        && let Some(filed) = OWNERS.get_ptr_mut(&key(ctx, &local))
    {
        // SAFETY: the value lives as long as the map; one word is written, by the flow that it belongs to.
        unsafe {
            if (*filed).owner.cookie == cookie {
                (*filed).ended_ns = bpf_ktime_get_boot_ns();
            }
        }
    }
    finish(Program::SockOps, flow, cookie, local, end, received, sent);
}

/// A socket is closed by its program. Where the SYN left, the kernel goes on and [`gn_sockops`] reports the end;
/// where `connect()` failed before that, there is no other end.
#[cgroup_sock(sock_release)]
fn gn_release(ctx: SockContext) -> i32 {
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the value lives as long as the map, and two words of it are read.
    if let Some(flow) = unsafe { FLOWS.get(&cookie) } {
        count(Program::Release, Outcome::Attempted);
        if flow.owner.flags & flag::SYN_SENT == 0 {
            let local = Address { words: [0; 4], port: 0, family: 0, reserved: 0 };
            finish(Program::Release, flow, cookie, local, end::UNSENT, 0, 0);
        } else {
            count(Program::Release, Outcome::Filtered);
        }
    }
    1
}

/// Reports the end of a tracked flow, and forgets it.
#[inline(always)]
fn finish(program: Program, flow: &Flow, cookie: u64, local: Address, end: u32, received: u64, sent: u64) {
    let Some(config) = CONFIG.get(0) else {
        count(program, Outcome::Filtered);
        return;
    };
    // SAFETY: a helper without pointers.
    let duration_ns = unsafe { bpf_ktime_get_boot_ns() }.wrapping_sub(flow.owner.connected_ns);
    let record = Close { header: header::<Close>(kind::CLOSE, 0), cookie, received, sent, duration_ns, local, end, reserved: 0 };
    deliver(program, config, &record);
    let _ = FLOWS.remove(&cookie);
}
