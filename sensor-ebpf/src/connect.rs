//! `connect()`: tags the flow, and sends it to our listener where the scope says so and it is safe to.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns, bpf_ktime_get_ns, bpf_set_retval,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use gnomon_sensor_abi::{
    AF_INET, AF_INET6, Address, Config, Connect, FailedKey, MAPPED, Outcome, Owner, Program, Reason, STALE_NS, Scope, decision, fail,
    flag, kind, mode, quic,
};

use crate::exempt::is_exempt;
use crate::flow::{Room, track};
use crate::listener::{LOOPBACK4, LOOPBACK6, Listener, is_mapped, listener, loopback};
use crate::maps::{CONFIG, EXECS, FAILED, Flow, HEARTBEAT, SETTLED, SETTLED_PLACES, retval_known};
use crate::report::{count, deliver, header};
use crate::{load, scope, store};

/// `SOCK_STREAM` and `SOCK_DGRAM`.
const STREAM: u32 = 1;
const DATAGRAM: u32 = 2;
const IPPROTO_TCP: u32 = 6;
/// A multipath socket; where it takes this road, it can be redirected like any other.
const IPPROTO_MPTCP: u32 = 262;

/// The port of HTTP/3, RFC 9114 3.1.2.
pub const QUIC_PORT: u16 = 443;

const LET_GO: i32 = 1;
/// The caller gets `EPERM`, or what was set.
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

#[cgroup_sock_addr(connect4)]
fn gn_connect4(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    let to = Address { words: [load!((*sock).user_ip4), 0, 0, 0], port: port(sock), family: AF_INET, reserved: 0 };
    connect(&ctx, Program::Connect4, to)
}

#[cgroup_sock_addr(connect6)]
fn gn_connect6(ctx: SockAddrContext) -> i32 {
    connect(&ctx, Program::Connect6, destination6(&ctx))
}

#[inline(always)]
pub fn port(sock: *mut bpf_sock_addr) -> u16 {
    u16::from_be(load!((*sock).user_port) as u16)
}

#[inline(always)]
pub fn destination6(ctx: &SockAddrContext) -> Address {
    let sock = ctx.sock_addr;
    let words = [load!((*sock).user_ip6[0]), load!((*sock).user_ip6[1]), load!((*sock).user_ip6[2]), load!((*sock).user_ip6[3])];
    Address { words, port: port(sock), family: AF_INET6, reserved: 0 }
}

#[inline(always)]
fn connect(ctx: &SockAddrContext, program: Program, to: Address) -> i32 {
    count(program, Outcome::Attempted);
    let sock = ctx.sock_addr;
    let (class, protocol) = (load!((*sock).type_), load!((*sock).protocol));
    let stream = class == STREAM && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP);
    if !stream && !(class == DATAGRAM && to.port == QUIC_PORT) {
        count(program, Outcome::Filtered);
        return LET_GO;
    }
    let Some(config) = CONFIG.get(0) else { return LET_GO };
    let scope = scope::current(config);
    if scope.mode == mode::OFF {
        count(program, Outcome::Filtered);
        return LET_GO;
    }
    if !stream {
        return datagram(ctx, program, config, scope, to);
    }
    let mut wanted = scope.mode == mode::REDIRECT && scope::covers(scope, to.port);
    // Opaque, so that the verifier forgets how that came about.
    wanted = load!(wanted);
    let mut nobody = false;
    if wanted && let Some(here) = loopback(&to) {
        let there = listener(ctx, &here, to.port, config.mark);
        // A connection to our listener is there already.
        wanted = there != Listener::Ours;
        // A program that is refused tries the next address; our listener would refuse nobody. Somebody may be there all
        // the same whom one cannot look up (bound to a device, or behind address translation): only the proxy knows, and
        // in scopes that let nothing past it is asked.
        nobody = there == Listener::None && scope.fail == fail::OPEN;
    }
    let exempt = wanted && is_exempt(&to);
    let wanted = load!(wanted);
    let exempt = load!(exempt);
    let nobody = load!(nobody);

    let redirected = if wanted && !exempt && !nobody { redirect(ctx, config, &to) } else { Redirect::No(None) };
    if redirected == Redirect::Failed {
        return refuse_failed(ctx, program, config, scope, to);
    }
    let owner = owner(ctx, scope, to);
    let mut flow = Flow { owner, stage: 0, next_seq: 0, captured: 0, remaining: 0, holder: 0, own: 0, head: [0; 32] };
    flow.holder = scope::holder(&flow.owner);
    flow.own = scope::own(flow.holder, &flow.owner);
    let mut reason = match redirected {
        Redirect::To(_) => {
            flow.owner.flags = flag::REDIRECTED;
            None
        }
        Redirect::No(reason) => reason,
        Redirect::Failed => None,
    };
    let mut refused = reason.is_some() && scope.fail == fail::CLOSED;
    let mut kept = false;
    if !refused {
        let room = track(&mut flow, config.flows_each);
        kept = room == Room::Some;
        // A socket that was disconnected keeps its cookie, and begins anew.
        if let Some(settled) = SETTLED.get_ptr_mut(flow.owner.cookie as u32 & (SETTLED_PLACES - 1)) {
            store!(*settled, 0);
        }
        if !kept && wanted && !exempt && !nobody && reason.is_none() {
            reason = Some(Reason::TableFull);
            flow.owner.flags = 0;
            // A user who fills their own share of the table does not get past the proxy by that.
            refused = scope.fail == fail::CLOSED || room == Room::ShareTaken;
        }
    }
    let decided = match (reason, redirected) {
        (Some(reason), _) if refused => {
            count(program, Outcome::FailClosed(reason));
            decision::FAIL_CLOSED
        }
        (Some(reason), _) => {
            count(program, Outcome::FailOpen(reason));
            decision::FAIL_OPEN
        }
        (None, Redirect::To(way)) => {
            rewrite(ctx, way, config.port);
            count(program, Outcome::Redirected);
            decision::REDIRECTED
        }
        (None, _) if exempt => {
            count(program, Outcome::Exempt);
            decision::EXEMPT
        }
        (None, _) if wanted && nobody => {
            count(program, Outcome::Nobody);
            decision::NOBODY
        }
        (None, _) => decision::OBSERVED,
    };
    if kept || refused {
        report(program, config, decided, reason, &flow.owner);
    } else {
        count(program, Outcome::TableFull);
    }
    if refused { REFUSE } else { LET_GO }
}

/// Refuses an address that the proxy could not connect to a moment ago, for this user: it would be refused without us, too, and the program
/// can try another one.
#[inline(always)]
fn refuse_failed(ctx: &SockAddrContext, program: Program, config: &Config, scope: &Scope, to: Address) -> i32 {
    count(program, Outcome::FailedLately);
    let owner = owner(ctx, scope, to);
    report(program, config, decision::FAILED_LATELY, None, &owner);
    if retval_known() {
        // SAFETY: a helper without pointers. Where it is not known, the loader has set the constant so that the verifier
        // never comes here.
        unsafe { bpf_set_retval(-ECONNREFUSED) };
    }
    REFUSE
}

/// UDP to the port of HTTP/3: refused where connections are redirected, so that the client falls back to TCP.
#[inline(always)]
pub fn datagram(ctx: &SockAddrContext, program: Program, config: &Config, scope: &Scope, to: Address) -> i32 {
    if scope.mode != mode::REDIRECT || scope.quic != quic::REFUSE {
        count(program, Outcome::Filtered);
        return LET_GO;
    }
    count(program, Outcome::QuicRefused);
    let owner = owner(ctx, scope, to);
    report(program, config, decision::QUIC_REFUSED, None, &owner);
    REFUSE
}

#[inline(always)]
fn report(program: Program, config: &Config, decision: u16, reason: Option<Reason>, owner: &Owner) {
    let reason = match reason {
        Some(reason) => reason as u16 + 1,
        None => 0,
    };
    let record = Connect { header: header::<Connect>(kind::CONNECT, 0), decision, reason, reserved: 0, owner: *owner };
    deliver(program, config, &record);
}

#[inline(always)]
fn owner(ctx: &SockAddrContext, scope: &Scope, original: Address) -> Owner {
    let task = bpf_get_current_pid_tgid();
    let user = bpf_get_current_uid_gid();
    let tgid = (task >> 32) as u32;
    // SAFETY: helpers without pointers, or with the context that they take in this kind of program;
    // the map's value is one word, read once.
    unsafe {
        Owner {
            cookie: bpf_get_socket_cookie(ctx.as_ptr()),
            netns: bpf_get_netns_cookie(ctx.as_ptr()),
            cgroup: bpf_get_current_cgroup_id(),
            connected_ns: bpf_ktime_get_boot_ns(),
            generation_ns: EXECS.get(&tgid).copied().unwrap_or(0),
            tgid,
            tid: task as u32,
            uid: user as u32,
            gid: (user >> 32) as u32,
            original,
            scope: scope.id,
            flags: 0,
            comm: bpf_get_current_comm().unwrap_or([0; 16]),
        }
    }
}

/// Which of our listeners a connection goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// 127.0.0.1, from an IPv4 socket.
    V4,
    /// 127.0.0.1, from an IPv6 socket that asked for a mapped address.
    Mapped,
    /// ::1
    V6,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Redirect {
    To(Way),
    /// Not at all; with a reason when it should have been.
    No(Option<Reason>),
    /// It could be, but the proxy could not connect to that address a moment ago.
    Failed,
}

/// Whether a connection can be redirected at this moment.
#[inline(always)]
fn redirect(ctx: &SockAddrContext, config: &Config, to: &Address) -> Redirect {
    let sk = load!((*ctx.sock_addr).__bindgen_anon_1.sk);
    if !sk.is_null() && load!((*sk).bound_dev_if) != 0 {
        return Redirect::No(Some(Reason::BoundDevice));
    }
    let beat = match HEARTBEAT.get_ptr(0) {
        Some(beat) => load!(*beat),
        None => 0,
    };
    // Read after the beat, so that a beat in the meantime does not look as if it came from the future.
    // SAFETY: a helper without pointers.
    let now = unsafe { bpf_ktime_get_ns() };
    if beat == 0 || now.wrapping_sub(beat) >= STALE_NS {
        return Redirect::No(Some(Reason::StaleHeartbeat));
    }
    let way = match (to.family, is_mapped(to)) {
        (AF_INET, _) => Way::V4,
        (_, true) => Way::Mapped,
        (_, false) => Way::V6,
    };
    let ours = match way {
        Way::V6 => Address { words: [0, 0, 0, LOOPBACK6], port: config.port, family: AF_INET6, reserved: 0 },
        Way::V4 | Way::Mapped => Address { words: [LOOPBACK4, 0, 0, 0], port: config.port, family: AF_INET, reserved: 0 },
    };
    match listener(ctx, &ours, config.port, config.mark) {
        Listener::Ours if failed_lately(ctx, to, now) => Redirect::Failed,
        Listener::Ours => Redirect::To(way),
        Listener::Foreign => Redirect::No(Some(Reason::ForeignListener)),
        Listener::None => Redirect::No(Some(Reason::NoListener)),
    }
}

/// Whether the proxy said that it cannot connect there for this user, and not too long ago.
#[inline(always)]
fn failed_lately(ctx: &SockAddrContext, to: &Address, now: u64) -> bool {
    // SAFETY: the context is what this helper takes in this kind of program.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    let uid = bpf_get_current_uid_gid() as u32;
    let mut key = FailedKey { netns, words: to.words, port: to.port, family: to.family, uid };
    if is_mapped(to) {
        (key.words, key.family) = ([to.words[3], 0, 0, 0], AF_INET);
    }
    // SAFETY: one word, read once.
    unsafe { FAILED.get(&key) }.is_some_and(|until| now < *until)
}

#[inline(always)]
fn rewrite(ctx: &SockAddrContext, way: Way, port: u16) {
    let sock = ctx.sock_addr;
    store!((*sock).user_port, u32::from(port.to_be()));
    match way {
        Way::V4 => store!((*sock).user_ip4, LOOPBACK4),
        Way::V6 | Way::Mapped => {
            let (third, last) = if way == Way::V6 { (0, LOOPBACK6) } else { (MAPPED, LOOPBACK4) };
            store!((*sock).user_ip6[0], 0);
            store!((*sock).user_ip6[1], 0);
            store!((*sock).user_ip6[2], third);
            store!((*sock).user_ip6[3], last);
        }
    }
}
