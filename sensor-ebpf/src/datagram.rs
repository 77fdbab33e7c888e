//! Datagrams sent without `connect()`: QUIC is refused where connections are redirected.

use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use gnomon_sensor_abi::{AF_INET, Address, Outcome, Program};

use crate::connect::{QUIC_PORT, datagram, destination6, port};
use crate::maps::CONFIG;
use crate::report::count;
use crate::{load, scope};

#[cgroup_sock_addr(sendmsg4)]
fn gn_sendmsg4(ctx: SockAddrContext) -> i32 {
    let sock = ctx.sock_addr;
    send(&ctx, Program::Sendmsg4, Address { words: [load!((*sock).user_ip4), 0, 0, 0], port: port(sock), family: AF_INET, reserved: 0 })
}

#[cgroup_sock_addr(sendmsg6)]
fn gn_sendmsg6(ctx: SockAddrContext) -> i32 {
    send(&ctx, Program::Sendmsg6, destination6(&ctx))
}

#[inline(always)]
fn send(ctx: &SockAddrContext, program: Program, to: Address) -> i32 {
    count(program, Outcome::Attempted);
    // DNS and all else leaves here, before anything is looked up.
    if to.port == QUIC_PORT
        && let Some(config) = CONFIG.get(0)
    {
        return datagram(ctx, program, config, scope::current(config), to);
    }
    count(program, Outcome::Filtered);
    1
}
