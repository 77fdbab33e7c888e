//! `getpeername()`: a redirected program gets the address that it connected to.

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use gnomon_sensor_abi::{AF_INET, AF_INET6, Address, Outcome, Program, flag};

use crate::maps::FLOWS;
use crate::report::count;
use crate::store;

#[cgroup_sock_addr(getpeername4)]
fn gn_getpeer4(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    if let Some(original) = original(&ctx, Program::Peer4, AF_INET) {
        store!((*sock).user_ip4, original.words[0]);
        store!((*sock).user_port, u32::from(original.port.to_be()));
    }
    1
}

#[cgroup_sock_addr(getpeername6)]
fn gn_getpeer6(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    if let Some(original) = original(&ctx, Program::Peer6, AF_INET6) {
        store!((*sock).user_ip6[0], original.words[0]);
        store!((*sock).user_ip6[1], original.words[1]);
        store!((*sock).user_ip6[2], original.words[2]);
        store!((*sock).user_ip6[3], original.words[3]);
        store!((*sock).user_port, u32::from(original.port.to_be()));
    }
    1
}

#[inline(always)]
fn original(ctx: &SockAddrContext, program: Program, family: u16) -> Option<&'static Address> {
    count(program, Outcome::Attempted);
    // SAFETY: the context is what this helper takes in this kind of program.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    // SAFETY: the value lives as long as the map; the owner in it is never changed for this socket
    // except by its own next `connect()`.
    if let Some(flow) = unsafe { FLOWS.get(&cookie) }
        && flow.owner.flags & flag::REDIRECTED != 0
        && flow.owner.original.family == family
    {
        count(program, Outcome::Delivered);
        return Some(&flow.owner.original);
    }
    count(program, Outcome::Filtered);
    None
}
