//! `getsockopt()` of the proxy: who the peer is, and its original destination.
//!
//! Attached to the proxy's cgroup only. `SO_ORIGINAL_DST` answers as netfilter would, so that any
//! proxy understands it; the private option answers with the whole [`Owner`].

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::{bpf_sock, bpf_sockopt};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_tcp_sock};
use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;
use gnomon_sensor_abi::{AF_INET, AF_INET6, MAPPED, OWNER_LEVEL, OWNER_OPTION, Outcome, Owner, PeerKey, Program};

use crate::load;
use crate::maps::{OWNERS, netns_known};
use crate::report::count;

/// `SOL_IP`, `SOL_IPV6`; `SO_ORIGINAL_DST` has the same number on both.
const SOL_IP: i32 = 0;
const SOL_IPV6: i32 = 41;
const SO_ORIGINAL_DST: i32 = 80;

#[cgroup_sockopt(getsockopt)]
fn gn_getsockopt(ctx: SockoptContext) -> i32 {
    let option = ctx.sockopt;
    let (level, name) = (load!((*option).level), load!((*option).optname));
    let ours = level == OWNER_LEVEL && name == OWNER_OPTION;
    if !ours && !(name == SO_ORIGINAL_DST && (level == SOL_IP || level == SOL_IPV6)) {
        return 1;
    }
    count(Program::Sockopt, Outcome::Attempted);
    let answered = match owner(&ctx) {
        Some(owner) if ours => whole(option, owner),
        Some(owner) if level == SOL_IP => ipv4(option, owner),
        Some(owner) => ipv6(option, owner),
        None => false,
    };
    count(Program::Sockopt, if answered { Outcome::Delivered } else { Outcome::Filtered });
    1
}

/// The owner of what this accepted socket is connected to: filed for the same connection, and for no other that had
/// the same addresses and ports before or has them by now.
#[inline(always)]
fn owner(ctx: &SockoptContext) -> Option<&'static Owner> {
    let sk = load!((*ctx.sockopt).__bindgen_anon_1.sk);
    if sk.is_null() {
        return None;
    }
    let (family, from_port, from4) = (load!((*sk).family), load!((*sk).dst_port), load!((*sk).dst_ip4));
    let from6 = [load!((*sk).dst_ip6[0]), load!((*sk).dst_ip6[1]), load!((*sk).dst_ip6[2]), load!((*sk).dst_ip6[3])];
    let (to_port, to4) = (load!((*sk).src_port), load!((*sk).src_ip4));
    let to6 = [load!((*sk).src_ip6[0]), load!((*sk).src_ip6[1]), load!((*sk).src_ip6[2]), load!((*sk).src_ip6[3])];
    let (from, to) = ([from4, 0, 0, 0], [to4, 0, 0, 0]);
    let from_port = u16::from_be(from_port);
    let first_seq = first_byte(sk)?;
    let mut key = PeerKey { netns: 0, from, to, from_port, family: AF_INET, first_seq };
    if family == u32::from(AF_INET6) {
        if from6[0] == 0 && from6[1] == 0 && from6[2] == MAPPED {
            (key.from[0], key.to[0]) = (from6[3], to6[3]);
        } else {
            (key.from, key.to, key.family) = (from6, to6, AF_INET6);
        }
    }
    if netns_known() {
        // SAFETY: the context is what this helper takes in this kind of program. Where it does not take it,
        // the loader has set the constant so that the verifier never comes here.
        key.netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    }
    // SAFETY: the value lives as long as the map. Were it evicted and reused while it is copied, the
    // answer would be mixed: that takes as many connects as the table has places, within nanoseconds.
    let filed = unsafe { OWNERS.get(&key) }?;
    // A connection that its program has reset has given up its port, and can be accepted all the same.
    (to_port == 0 || to_port == filed.to_port).then_some(&filed.owner)
}

/// The sequence number of the first byte that the peer sent, or would send. Its FIN counts among what was received, its
/// SYN does not.
#[inline(always)]
fn first_byte(sk: *mut bpf_sock) -> Option<u32> {
    // SAFETY: the context's own socket, which is not null.
    let tcp = unsafe { bpf_tcp_sock(sk) };
    if tcp.is_null() {
        return None;
    }
    let (next, received) = (load!((*tcp).rcv_nxt), load!((*tcp).bytes_received));
    Some(next.wrapping_sub(received as u32))
}

/// Says that `length` bytes are the answer, and that there is no error.
#[inline(always)]
fn answer(option: *mut bpf_sockopt, length: usize) -> bool {
    crate::store!((*option).optlen, length as i32);
    crate::store!((*option).retval, 0);
    true
}

/// Where the caller's buffer begins, if `N` bytes fit into it.
#[inline(always)]
fn buffer<const N: usize>(option: *mut bpf_sockopt) -> Option<*mut u8> {
    let begin = load!((*option).__bindgen_anon_2.optval).cast::<u8>();
    let past = load!((*option).__bindgen_anon_3.optval_end).cast::<u8>();
    // SAFETY: only compared; the verifier takes this comparison for the bounds check that it is.
    if unsafe { begin.add(N) } > past { None } else { Some(begin) }
}

#[inline(always)]
fn whole(option: *mut bpf_sockopt, owner: &Owner) -> bool {
    const WORDS: usize = size_of::<Owner>() / 8;
    let Some(into) = buffer::<{ size_of::<Owner>() }>(option) else { return false };
    let (into, from) = (into.cast::<u64>(), (&raw const *owner).cast::<u64>());
    for word in 0..WORDS {
        // SAFETY: the buffer has room for an owner, which consists of this many words.
        unsafe { into.add(word).write_volatile(from.add(word).read_volatile()) };
    }
    answer(option, size_of::<Owner>())
}

/// A `struct sockaddr_in`, ip(7).
#[inline(always)]
fn ipv4(option: *mut bpf_sockopt, owner: &Owner) -> bool {
    let original = &owner.original;
    let mapped = original.words[2] == MAPPED;
    if original.family != AF_INET && !mapped {
        return false;
    }
    let word = if original.family == AF_INET { original.words[0] } else { original.words[3] };
    let Some(into) = buffer::<16>(option) else { return false };
    // SAFETY: the buffer has 16 bytes.
    unsafe {
        into.cast::<u16>().write_volatile(AF_INET);
        into.add(2).cast::<u16>().write_volatile(original.port.to_be());
        into.add(4).cast::<u32>().write_volatile(word);
        into.add(8).cast::<u64>().write_volatile(0);
    }
    answer(option, 16)
}

/// A `struct sockaddr_in6`, ipv6(7).
#[inline(always)]
fn ipv6(option: *mut bpf_sockopt, owner: &Owner) -> bool {
    let original = &owner.original;
    if original.family != AF_INET6 {
        return false;
    }
    let Some(into) = buffer::<28>(option) else { return false };
    // SAFETY: the buffer has 28 bytes.
    unsafe {
        into.cast::<u16>().write_volatile(AF_INET6);
        into.add(2).cast::<u16>().write_volatile(original.port.to_be());
        into.add(4).cast::<u32>().write_volatile(0);
        into.add(8).cast::<u32>().write_volatile(original.words[0]);
        into.add(12).cast::<u32>().write_volatile(original.words[1]);
        into.add(16).cast::<u32>().write_volatile(original.words[2]);
        into.add(20).cast::<u32>().write_volatile(original.words[3]);
        into.add(24).cast::<u32>().write_volatile(0);
    }
    answer(option, 28)
}
