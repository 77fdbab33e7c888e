//! One captured packet to a TCP segment.

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::Linktype;
use std::net::{IpAddr, SocketAddr};

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) sequence: u32,
    pub(crate) syn: bool,
    pub(crate) ack: bool,
    pub(crate) ends: bool,
    pub(crate) payload: &'a [u8],
}

/// The type of a packet.
#[derive(Debug)]
pub(crate) enum Packet<'a> {
    Tcp(Segment<'a>),
    /// UDP to or from port 443: QUIC, which is TLS.
    Quic,
    /// A piece of an IP packet.
    Fragment,
    /// Something else, or nothing that can be read.
    Other,
    /// A kind of link that is not read.
    Link,
}

/// BSD loopback: the address family in four bytes.
const NULL_HEADER: usize = 4;
/// Linux cooked captures, version 1 and 2 (tcpdump.org/linktypes).
const SLL_HEADER: usize = 16;
const SLL2_HEADER: usize = 20;

pub(crate) fn read(link: Linktype, data: &[u8]) -> Packet<'_> {
    let ip = |data| LaxSlicedPacket::from_ip(data).ok();
    let sliced = match link {
        Linktype::ETHERNET => LaxSlicedPacket::from_ethernet(data).ok(),
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => ip(data),
        Linktype::NULL | Linktype::LOOP => data.get(NULL_HEADER..).and_then(ip),
        Linktype::LINUX_SLL => data.get(SLL_HEADER..).and_then(ip),
        Linktype::LINUX_SLL2 => data.get(SLL2_HEADER..).and_then(ip),
        _ => return Packet::Link,
    };
    let Some(sliced) = sliced else { return Packet::Other };
    let (source, destination, payload): (IpAddr, IpAddr, _) = match &sliced.net {
        Some(LaxNetSlice::Ipv4(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload()),
        Some(LaxNetSlice::Ipv6(ip)) => (ip.header().source_addr().into(), ip.header().destination_addr().into(), ip.payload()),
        _ => return Packet::Other,
    };
    if payload.fragmented {
        return Packet::Fragment;
    }
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => Packet::Tcp(Segment {
            source: (source, tcp.source_port()).into(),
            destination: (destination, tcp.destination_port()).into(),
            sequence: tcp.sequence_number(),
            syn: tcp.syn(),
            ack: tcp.ack(),
            ends: tcp.fin() || tcp.rst(),
            payload: tcp.payload(),
        }),
        Some(TransportSlice::Udp(udp)) if udp.destination_port() == 443 || udp.source_port() == 443 => Packet::Quic,
        _ => Packet::Other,
    }
}
