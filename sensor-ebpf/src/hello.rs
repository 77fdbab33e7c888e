//! The first bytes of a connection, where they are a TLS ClientHello.
//!
//! Egress sees segments before they are cut for the wire, mostly a whole hello at once. A program may
//! cut it itself, down to a first write of one byte; each flow remembers what it still waits for, and passes over what is
//! sent again. `current` says nothing here (this may be a soft interrupt): the socket's cookie does.

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use gnomon_sensor_abi::{Config, Hello, Outcome, Program, kind};

use crate::maps::{CONFIG, EVENTS, FLOWS, Flow, SETTLED, SETTLED_PLACES};
use crate::packet::{Segment, bytes, segment};
use crate::report::{Urgency, count, header, wake};
use crate::{load, store};

/// Values of [`Flow::stage`].
const WAITING: u32 = 0;
const CAPTURING: u32 = 1;
const DONE: u32 = 2;

/// A TLS record's header, RFC 8446 5.1, and the most that may follow it.
const RECORD_HEADER: u32 = 5;
const RECORD_MAX: u32 = 16384;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The most that is captured of one connection.
const MOST: u32 = RECORD_HEADER + RECORD_MAX;
/// What the further record headers of a hello in several records may need.
const RECORDS_SLACK: u32 = 64 * RECORD_HEADER;
/// How many bytes say how long the hello is: the record's header, the message's type and length.
const NEEDED: u32 = 9;

/// The sizes in which records are reserved. Most hellos are 300 to 600 bytes, post-quantum ones below 1800.
const SMALL: usize = 640;
const MEDIUM: usize = 2048;
const LARGE: usize = 4096;
/// Parts per segment: as many as the largest hello needs.
const PARTS: u32 = MOST.div_ceil(LARGE as u32);

#[cgroup_skb(egress)]
fn gn_hello(ctx: SkBuffContext) -> i32 {
    look(&ctx);
    // Nothing is ever dropped here.
    1
}

#[inline(always)]
fn look(ctx: &SkBuffContext) -> Option<()> {
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    let settled = SETTLED.get_ptr_mut((cookie as u32) & (SETTLED_PLACES - 1))?;
    if load!(*settled) == cookie {
        return None;
    }
    let Some(flow) = FLOWS.get_ptr_mut(&cookie) else {
        // Not tracked, until it connects.
        store!(*settled, cookie);
        return None;
    };
    // SAFETY: the value lives as long as the map; segments of one socket leave under its lock.
    let flow = unsafe { &mut *flow };
    if flow.stage != DONE {
        follow(ctx, cookie, flow);
    }
    // At once, so that the next packet need not ask.
    if load!(flow.stage) == DONE {
        store!(*settled, cookie);
    }
    None
}

/// Looks at a packet of a flow whose first bytes are not yet known.
#[inline(always)]
fn follow(ctx: &SkBuffContext, cookie: u64, flow: &mut Flow) -> Option<()> {
    let mut segment = segment(ctx)?;
    let config = CONFIG.get(0)?;
    if flow.stage == WAITING {
        let first = bytes::<1>(ctx, segment.payload)?;
        if first[0] != HANDSHAKE {
            return pass(flow);
        }
        flow.next_seq = segment.seq;
        flow.stage = CAPTURING;
    }
    // What is sent again may have new bytes at its end. From the future nothing comes, as segments leave in order.
    let seen = flow.next_seq.wrapping_sub(segment.seq);
    if seen >= segment.length {
        count(Program::Hello, Outcome::Attempted);
        count(Program::Hello, Outcome::Filtered);
        return None;
    }
    segment = Segment { payload: segment.payload + seen, length: segment.length - seen, seq: flow.next_seq };
    if flow.remaining == 0 && !measure(ctx, flow, &segment)? {
        return pass(flow);
    }
    capture(ctx, config, cookie, flow, &segment)
}

/// Nothing more is wanted of this connection.
#[inline(always)]
fn pass(flow: &mut Flow) -> Option<()> {
    flow.stage = DONE;
    count(Program::Hello, Outcome::Attempted);
    count(Program::Hello, Outcome::Filtered);
    None
}

/// Learns from the first nine bytes, which may come in pieces, how long the hello is. False when it is none.
#[inline(always)]
fn measure(ctx: &SkBuffContext, flow: &mut Flow, segment: &Segment) -> Option<bool> {
    let missing = NEEDED.saturating_sub(flow.captured);
    let more = if segment.length < missing { segment.length } else { missing };
    // The masks change nothing: at most 8 bytes are there, and 1 to 9 are loaded. They spare the verifier the question.
    let at = (load!(flow.captured) & 0xf) as usize;
    let less = more.wrapping_sub(1);
    let less = load!(less) & 0xf;
    // SAFETY: 15 bytes into 32, at most 16 are written.
    let status = unsafe {
        let into = (&raw mut flow.head).cast::<u8>().add(at);
        bpf_skb_load_bytes(ctx.as_ptr(), segment.payload, into.cast(), less + 1)
    };
    if status != 0 {
        return None;
    }
    if flow.captured + more < NEEDED {
        return Some(true);
    }
    let head = &flow.head;
    let record = u32::from(u16::from_be_bytes([load!(head[3]), load!(head[4])]));
    if load!(head[1]) != 3 || load!(head[5]) != CLIENT_HELLO || record == 0 || record > RECORD_MAX {
        return Some(false);
    }
    let message = 4 + u32::from_be_bytes([0, load!(head[6]), load!(head[7]), load!(head[8])]);
    // A hello in several records has further headers in between; the reader sees where it ends.
    let total = if message > record { RECORD_HEADER + message + RECORDS_SLACK } else { RECORD_HEADER + record };
    flow.remaining = total.saturating_sub(flow.captured);
    Some(true)
}

/// Reports what this segment has of the hello, in as few parts as possible.
#[inline(always)]
fn capture(ctx: &SkBuffContext, config: &Config, cookie: u64, flow: &mut Flow, segment: &Segment) -> Option<()> {
    let room = MOST.saturating_sub(flow.captured);
    let wanted = if flow.remaining == 0 { segment.length } else { flow.remaining };
    let mut left = if segment.length < wanted { segment.length } else { wanted };
    if left > room {
        left = room;
    }
    let mut at = segment.payload;
    for _ in 0..PARTS {
        // Opaque, so that the verifier sees the same state in each round.
        let length = load!(left);
        if length <= LARGE as u32 {
            break;
        }
        if !part::<LARGE>(ctx, config, cookie, flow, load!(at), LARGE as u32) {
            return None;
        }
        at += LARGE as u32;
        left = length - LARGE as u32;
    }
    let (at, length) = (load!(at), load!(left));
    if length == 0 {
        return None;
    }
    if length <= SMALL as u32 {
        part::<SMALL>(ctx, config, cookie, flow, at, length);
    } else if length <= MEDIUM as u32 {
        part::<MEDIUM>(ctx, config, cookie, flow, at, length);
    } else {
        part::<LARGE>(ctx, config, cookie, flow, at, length);
    }
    None
}

/// A record with room for `N` bytes.
#[repr(C)]
struct Part<const N: usize> {
    head: Hello,
    bytes: [u8; N],
}

/// Reports one part and records the progress. False if it could not be reported: a hello with a gap in it is worth nothing, so no further
/// part is reported.
#[inline(always)]
fn part<const N: usize>(ctx: &SkBuffContext, config: &Config, cookie: u64, flow: &mut Flow, at: u32, length: u32) -> bool {
    count(Program::Hello, Outcome::Attempted);
    let Some(mut entry) = EVENTS.reserve::<Part<N>>(0) else {
        count(Program::Hello, Outcome::RingFull);
        flow.stage = DONE;
        return false;
    };
    let part: *mut Part<N> = entry.as_mut_ptr();
    let (captured, remaining) = (load!(flow.captured), load!(flow.remaining));
    // Until the header is complete, at least the rest of the header is to come.
    let expected = if remaining == 0 { NEEDED.saturating_sub(captured) } else { remaining };
    let still = expected.saturating_sub(length);
    let full = captured + length >= MOST;
    // Linux before 6.8 does not learn from `length != 0` that it is at least 1. So the bound is checked on
    // length - 1, which LLVM is kept from relating to length, and the 1 is added in the call.
    let less = length.wrapping_sub(1);
    let less = load!(less);
    let mut status = -1;
    if less < N as u32 {
        let truncated = u32::from(full && still > 0);
        // SAFETY: the record has been reserved with N bytes after the head, and `less + 1` is at most N.
        status = unsafe {
            (*part).head =
                Hello { header: header::<Hello>(kind::HELLO, length), cookie, offset: captured, remaining: still, length, truncated };
            bpf_skb_load_bytes(ctx.as_ptr(), at, (&raw mut (*part).bytes).cast(), less + 1)
        };
    }
    if status != 0 {
        entry.discard(u64::from(BPF_RB_NO_WAKEUP));
        count(Program::Hello, Outcome::Filtered);
        flow.stage = DONE;
        return false;
    }
    entry.submit(wake(config, if captured == 0 { Urgency::Urgent(flow.owner.tgid) } else { Urgency::Batched }));
    count(Program::Hello, Outcome::Delivered);
    if full && still > 0 {
        count(Program::Hello, Outcome::Truncated);
    }
    flow.captured = captured + length;
    flow.next_seq = flow.next_seq.wrapping_add(length);
    if remaining != 0 {
        flow.remaining = still;
    }
    if still == 0 || full {
        flow.stage = DONE;
    }
    true
}
