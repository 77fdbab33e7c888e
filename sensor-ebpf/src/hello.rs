//! The first bytes of a connection, where they are a TLS ClientHello.
//!
//! Egress sees segments before they are cut for the wire, mostly a whole hello at once. A program may
//! cut it itself, down to a first write of one byte; each flow remembers what it still waits for. What is sent
//! again has another sequence number than the one that is waited for, and is passed over. `current` says nothing
//! here (this may be a soft interrupt): the socket's cookie does.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_get_socket_cookie, bpf_skb_load_bytes};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;
use gnomon_sensor_abi::{Config, Hello, Outcome, Program, kind};

use crate::load;
use crate::maps::{CONFIG, EVENTS, FLOWS, Flow};
use crate::packet::{Segment, bytes, segment};
use crate::report::{Urgency, count, header, wake};

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
    let flow = FLOWS.get_ptr_mut(&cookie)?;
    // SAFETY: the value lives as long as the map; segments of one socket leave under its lock.
    let flow = unsafe { &mut *flow };
    if flow.stage == DONE {
        return None;
    }
    let segment = segment(ctx)?;
    let config = CONFIG.get(0)?;
    if flow.stage == WAITING {
        let first = bytes::<1>(ctx, segment.payload)?;
        if first[0] != HANDSHAKE {
            return pass(flow);
        }
        flow.next_seq = segment.seq;
        flow.stage = CAPTURING;
    }
    if segment.seq != flow.next_seq {
        count(Program::Hello, Outcome::Attempted);
        count(Program::Hello, Outcome::Filtered);
        return None;
    }
    if flow.remaining == 0 && !measure(ctx, flow, &segment)? {
        return pass(flow);
    }
    capture(ctx, config, cookie, flow, &segment)
}

/// None of our business, for good.
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
    let head: [u8; NEEDED as usize] = if flow.captured == 0 && segment.length >= NEEDED {
        bytes::<{ NEEDED as usize }>(ctx, segment.payload)?
    } else {
        let mut head = [0_u8; NEEDED as usize];
        let mut have = 0;
        for place in 0..NEEDED {
            let index = place as usize;
            if place < flow.captured {
                // The last of the nine is only needed once all are there.
                if index < 8 {
                    head[index] = flow.head[index];
                }
                have = place + 1;
            } else if place - flow.captured < segment.length {
                head[index] = bytes::<1>(ctx, segment.payload + (place - flow.captured))?[0];
                if index < 8 {
                    flow.head[index] = head[index];
                }
                have = place + 1;
            }
        }
        if have < NEEDED {
            return Some(true);
        }
        head
    };
    let record = u32::from(u16::from_be_bytes([head[3], head[4]]));
    if head[1] != 3 || head[5] != CLIENT_HELLO || record == 0 || record > RECORD_MAX {
        return Some(false);
    }
    let message = 4 + u32::from_be_bytes([0, head[6], head[7], head[8]]);
    // A hello in several records has further headers in between; the reader sees where it ends.
    let total = if message > record { RECORD_HEADER + message + RECORDS_SLACK } else { RECORD_HEADER + record };
    flow.remaining = total.saturating_sub(flow.captured);
    Some(true)
}

/// Reports what this segment has of the hello, in as few parts as possible.
#[inline(always)]
fn capture(ctx: &SkBuffContext, config: &Config, cookie: u64, flow: &mut Flow, segment: &Segment) -> Option<()> {
    let mut at = segment.payload;
    let mut left = segment.length;
    for _ in 0..PARTS {
        let wanted = if flow.remaining == 0 { left } else { flow.remaining };
        let room = MOST.saturating_sub(flow.captured);
        let mut length = if left < wanted { left } else { wanted };
        if length > room {
            length = room;
        }
        if length == 0 {
            break;
        }
        count(Program::Hello, Outcome::Attempted);
        let sent = if length <= SMALL as u32 {
            part::<SMALL>(ctx, config, cookie, flow, at, length)
        } else if length <= MEDIUM as u32 {
            part::<MEDIUM>(ctx, config, cookie, flow, at, length)
        } else {
            length = if length > LARGE as u32 { LARGE as u32 } else { length };
            part::<LARGE>(ctx, config, cookie, flow, at, length)
        };
        if !sent {
            // With a hole in it the hello is worth nothing.
            flow.stage = DONE;
            return None;
        }
        flow.captured += length;
        flow.remaining = flow.remaining.saturating_sub(length);
        at += length;
        left -= length;
        flow.next_seq = flow.next_seq.wrapping_add(length);
        if flow.captured >= NEEDED && (flow.remaining == 0 || flow.captured >= MOST) {
            flow.stage = DONE;
            break;
        }
    }
    None
}

/// A record with room for `N` bytes.
#[repr(C)]
struct Part<const N: usize> {
    head: Hello,
    bytes: [u8; N],
}

/// Puts one part into the ring. False when it could not.
#[inline(always)]
fn part<const N: usize>(ctx: &SkBuffContext, config: &Config, cookie: u64, flow: &Flow, at: u32, length: u32) -> bool {
    let Some(mut entry) = EVENTS.reserve::<Part<N>>(0) else {
        count(Program::Hello, Outcome::RingFull);
        return false;
    };
    let part: *mut Part<N> = entry.as_mut_ptr();
    let truncated = flow.remaining > length && flow.captured + length >= MOST;
    // Until the header is complete, at least the rest of the header is to come.
    let expected = if flow.remaining == 0 { NEEDED.saturating_sub(flow.captured) } else { flow.remaining };
    let still = expected.saturating_sub(length);
    // Linux before 6.8 does not learn from `length != 0` that it is at least 1. So the bound is checked on
    // length - 1, which LLVM is kept from relating to length, and the 1 is added in the call.
    let less = length.wrapping_sub(1);
    let less = load!(less);
    if less >= N as u32 {
        entry.discard(u64::from(aya_ebpf::bindings::BPF_RB_NO_WAKEUP));
        count(Program::Hello, Outcome::Filtered);
        return false;
    }
    // SAFETY: the record has been reserved with N bytes after the head, and `less + 1` is at most N.
    let status = unsafe {
        (*part).head = Hello {
            header: header::<Hello>(kind::HELLO, length),
            cookie,
            offset: flow.captured,
            remaining: still,
            length,
            truncated: u32::from(truncated),
        };
        bpf_skb_load_bytes(ctx.as_ptr(), at, (&raw mut (*part).bytes).cast(), less + 1)
    };
    if status != 0 {
        entry.discard(u64::from(aya_ebpf::bindings::BPF_RB_NO_WAKEUP));
        count(Program::Hello, Outcome::Filtered);
        return false;
    }
    let urgency = if flow.captured == 0 { Urgency::Urgent } else { Urgency::Batched };
    entry.submit(wake(config, urgency));
    count(Program::Hello, Outcome::Delivered);
    if truncated {
        count(Program::Hello, Outcome::Truncated);
    }
    true
}
