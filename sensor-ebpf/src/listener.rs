//! Addresses on loopback, and who listens there.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release};
use aya_ebpf::programs::SockAddrContext;
use gnomon_sensor_abi::{AF_INET, AF_INET6, Address, MAPPED};

use crate::load;

pub const LOOPBACK4: u32 = 0x7f00_0001_u32.to_be();
/// The last word of ::1.
pub const LOOPBACK6: u32 = 1_u32.to_be();

/// "The namespace of the socket", and what a listener's state is called (`BPF_TCP_LISTEN`).
const CURRENT_NETNS: u64 = u64::MAX;
const LISTEN: u32 = 10;

#[inline(always)]
pub fn is_mapped(address: &Address) -> bool {
    address.family == AF_INET6 && address.words[0] == 0 && address.words[1] == 0 && address.words[2] == MAPPED
}

/// The loopback address that a connection to this one goes to, if it goes to one: itself, or 127.0.0.1 and ::1 for the
/// unspecified addresses, as the kernel has it (ip(7)).
#[inline(always)]
pub fn loopback(address: &Address) -> Option<Address> {
    let mut to = *address;
    if address.family == AF_INET {
        to.words[0] = loopback4(address.words[0])?;
    } else if is_mapped(address) {
        to.words[3] = loopback4(address.words[3])?;
    } else {
        let last = address.words[3];
        let prefix = address.words[0] | address.words[1] | address.words[2];
        if prefix != 0 || (last != 0 && last != LOOPBACK6) {
            return None;
        }
        to.words[3] = LOOPBACK6;
    }
    Some(to)
}

#[inline(always)]
fn loopback4(word: u32) -> Option<u32> {
    match word {
        0 => Some(LOOPBACK4),
        word if u32::from_be(word) >> 24 == 127 => Some(word),
        _ => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    Ours,
    Foreign,
    None,
}

/// What `bpf_sk_lookup_tcp` takes: addresses and ports in network order.
#[repr(C)]
struct Tuple4 {
    from: u32,
    to: u32,
    from_port: u16,
    to_port: u16,
}

#[repr(C)]
struct Tuple6 {
    from: [u32; 4],
    to: [u32; 4],
    from_port: u16,
    to_port: u16,
}

/// Who would get a connection to this address, in the network namespace of the socket. A listener is
/// ours by its mark, which only a process with `CAP_NET_ADMIN` over that namespace can set.
#[inline(always)]
pub fn listener(ctx: &SockAddrContext, at: &Address, port: u16, mark: u32) -> Listener {
    let sk = if at.family == AF_INET || is_mapped(at) {
        let to = if at.family == AF_INET { at.words[0] } else { at.words[3] };
        let mut tuple = Tuple4 { from: LOOPBACK4, to, from_port: 0, to_port: port.to_be() };
        let size = size_of::<Tuple4>() as u32;
        // SAFETY: the tuple is whole and of the size given; the context is what this helper takes here.
        unsafe { bpf_sk_lookup_tcp(ctx.as_ptr(), (&raw mut tuple).cast(), size, CURRENT_NETNS, 0) }
    } else {
        let from = [0, 0, 0, LOOPBACK6];
        let mut tuple = Tuple6 { from, to: at.words, from_port: 0, to_port: port.to_be() };
        let size = size_of::<Tuple6>() as u32;
        // SAFETY: as above.
        unsafe { bpf_sk_lookup_tcp(ctx.as_ptr(), (&raw mut tuple).cast(), size, CURRENT_NETNS, 0) }
    };
    if sk.is_null() {
        return Listener::None;
    }
    let (state, marked) = (load!((*sk).state), load!((*sk).mark));
    // SAFETY: the socket is not null, and released once; the verifier insists on both.
    unsafe { bpf_sk_release(sk.cast()) };
    if state != LISTEN {
        Listener::None
    } else if marked == mark && mark != 0 {
        Listener::Ours
    } else {
        Listener::Foreign
    }
}
