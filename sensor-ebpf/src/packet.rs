//! Where the payload of an outgoing TCP segment begins.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::SkBuffContext;

use crate::load;

/// A TCP segment with payload.
#[derive(Clone, Copy)]
pub struct Segment {
    /// Where the payload begins in the packet.
    pub payload: u32,
    /// How many bytes it has.
    pub length: u32,
    /// The sequence number of its first byte.
    pub seq: u32,
}

const IPPROTO_TCP: u8 = 6;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION: u8 = 60;
/// How many IPv6 extension headers are walked; more do not occur, RFC 8504 5.3 lets hosts refuse them.
const EXTENSIONS: u32 = 6;

/// Copies `N` bytes of the packet from `offset`.
#[inline(always)]
pub fn bytes<const N: usize>(ctx: &SkBuffContext, offset: u32) -> Option<[u8; N]> {
    let mut into = [0_u8; N];
    // SAFETY: the buffer has the N bytes that are asked for.
    let status = unsafe { bpf_skb_load_bytes(ctx.as_ptr(), offset, into.as_mut_ptr().cast(), N as u32) };
    (status == 0).then_some(into)
}

/// The segment in an outgoing packet, if it is TCP with payload. Later fragments are not.
#[inline(always)]
pub fn segment(ctx: &SkBuffContext) -> Option<Segment> {
    let length = load!((*ctx.skb.skb).len);
    // Enough to tell for either version; no header is shorter.
    let first = bytes::<12>(ctx, 0)?;
    let tcp = if first[0] >> 4 == 4 { after_ipv4(&first)? } else { after_ipv6(ctx, first[6])? };
    let tcp = load!(tcp);
    let head = bytes::<16>(ctx, tcp)?;
    let payload = tcp + u32::from(head[12] >> 4) * 4;
    if length <= payload {
        return None;
    }
    // A SYN takes a sequence number itself; with TCP Fast Open it carries payload.
    let syn = u32::from(head[13] >> 1 & 1);
    let seq = u32::from_be_bytes([head[4], head[5], head[6], head[7]]).wrapping_add(syn);
    // Opaque: the verifier need not tell apart the ways that led here.
    let segment = Segment { payload, length: length - payload, seq };
    Some(Segment { payload: load!(segment.payload), length: load!(segment.length), seq: load!(segment.seq) })
}

#[inline(always)]
fn after_ipv4(head: &[u8; 12]) -> Option<u32> {
    let later_fragment = head[6] & 0x1f != 0 || head[7] != 0;
    (head[9] == IPPROTO_TCP && !later_fragment).then_some(u32::from(head[0] & 0xf) * 4)
}

#[inline(always)]
fn after_ipv6(ctx: &SkBuffContext, mut next: u8) -> Option<u32> {
    let mut at = 40_u32;
    for _ in 0..EXTENSIONS {
        // Opaque, so that the verifier sees the same state in each round however it came there.
        (next, at) = (load!(next), load!(at));
        if next == IPPROTO_TCP {
            return Some(at);
        }
        let head = bytes::<4>(ctx, at)?;
        at += match next {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + u32::from(head[1]) * 8,
            AUTHENTICATION => 8 + u32::from(head[1]) * 4,
            // The first fragment has offset 0.
            FRAGMENT if head[2] == 0 && head[3] & 0xf8 == 0 => 8,
            _ => return None,
        };
        next = head[0];
    }
    None
}
