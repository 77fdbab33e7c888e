//! Addresses that gnomon never dials, whatever name led to them.
//!
//! The proxy often may reach what its clients may not (cloud metadata, its own listeners), so it
//! would lend them that reach. The check is on the resolved address, and exactly that address is
//! dialled: a name that resolves differently a moment later (DNS rebinding) gains nothing.
//! Loopback and private networks are allowed: MCP servers live there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The addresses that are refused. Link-local, cloud metadata, unspecified, multicast and broadcast
/// addresses always are; the listeners are what the process knows about itself.
#[derive(Debug, Clone, Default)]
pub struct ForbiddenAddresses {
    /// The addresses of this process's listeners, as bound. A wildcard means every local address.
    pub own_listeners: Vec<SocketAddr>,
}

/// The reason that an address is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForbiddenReason {
    /// One of our own listeners: the request would go round in circles.
    OwnListener,
    /// 169.254.0.0/16 (RFC 3927, most clouds' metadata) or fe80::/10 (RFC 4291).
    LinkLocal,
    /// A cloud metadata address outside the link-local ranges.
    Metadata,
    /// 0.0.0.0/8 or `::`, which Linux takes for "this host".
    Unspecified,
    /// 224.0.0.0/4 or ff00::/8.
    Multicast,
    /// 255.255.255.255.
    Broadcast,
}

impl fmt::Display for ForbiddenReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnListener => "gnomon's own listener",
            Self::LinkLocal => "a link-local address",
            Self::Metadata => "a cloud metadata address",
            Self::Unspecified => "an unspecified address",
            Self::Multicast => "a multicast address",
            Self::Broadcast => "a broadcast address",
        })
    }
}

/// Metadata and host-agent services outside 169.254.0.0/16: Alibaba Cloud, Azure WireServer, and
/// AWS IMDS over IPv6.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    // Google Cloud, IPv6-only instances.
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
];

impl ForbiddenAddresses {
    /// The reason that `address` must not be dialled, or `None` if it may be.
    #[must_use]
    pub fn check(&self, address: SocketAddr) -> Option<ForbiddenReason> {
        let ip = address.ip().to_canonical();
        let class = match ip {
            IpAddr::V4(v4) => class_v4(v4),
            IpAddr::V6(v6) => class_v6(v6),
        };
        class.or_else(|| {
            self.own_listeners
                .iter()
                .any(|own| own.port() == address.port() && reaches(own.ip().to_canonical(), ip))
                .then_some(ForbiddenReason::OwnListener)
        })
    }
}

fn class_v4(ip: Ipv4Addr) -> Option<ForbiddenReason> {
    if ip.octets()[0] == 0 {
        Some(ForbiddenReason::Unspecified)
    } else if ip.is_link_local() {
        Some(ForbiddenReason::LinkLocal)
    } else if METADATA_V4.contains(&ip) {
        Some(ForbiddenReason::Metadata)
    } else if ip.is_multicast() {
        Some(ForbiddenReason::Multicast)
    } else if ip.is_broadcast() {
        Some(ForbiddenReason::Broadcast)
    } else {
        None
    }
}

fn class_v6(ip: Ipv6Addr) -> Option<ForbiddenReason> {
    if ip.is_unspecified() {
        Some(ForbiddenReason::Unspecified)
    } else if ip.is_unicast_link_local() {
        Some(ForbiddenReason::LinkLocal)
    } else if METADATA_V6.contains(&ip) {
        Some(ForbiddenReason::Metadata)
    } else if ip.is_multicast() {
        Some(ForbiddenReason::Multicast)
    } else if ip.is_loopback() {
        None
    } else {
        embedded_v4(ip).and_then(class_v4)
    }
}

/// The IPv4 address that a translator on the path would dial: NAT64 (RFC 6052 well-known prefix),
/// 6to4 (RFC 3056) and the old IPv4-compatible form (RFC 4291 section 2.5.5.1).
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let s = ip.segments();
    let join = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match s {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some(join(high, low)),
        [0x2002, high, low, ..] => Some(join(high, low)),
        _ => None,
    }
}

/// Whether a connection to `ip` arrives at a listener bound to `bound` (ports already equal).
fn reaches(bound: IpAddr, ip: IpAddr) -> bool {
    bound == ip || (bound.is_unspecified() && is_local(ip))
}

/// Whether `ip` belongs to this host. The kernel lets a socket bind exactly to its own addresses,
/// which needs neither privilege nor a list of interfaces that could be out of date. (With
/// `ip_nonlocal_bind` every address counts as local: then only the listener's port is refused.)
fn is_local(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(address: &str) -> Option<ForbiddenReason> {
        ForbiddenAddresses::default().check(address.parse().expect(address))
    }

    #[test]
    fn metadata_and_non_unicast_addresses_are_refused_in_every_spelling() {
        use ForbiddenReason::{Broadcast, LinkLocal, Metadata, Multicast, Unspecified};
        for (address, reason) in [
            ("169.254.169.254:80", LinkLocal),
            ("[::ffff:169.254.169.254]:80", LinkLocal),
            ("[64:ff9b::169.254.169.254]:80", LinkLocal),
            ("[2002:a9fe:a9fe::1]:80", LinkLocal),
            ("[::169.254.169.254]:80", LinkLocal),
            ("[fe80::1]:80", LinkLocal),
            ("[fd00:ec2::254]:80", Metadata),
            ("100.100.100.200:80", Metadata),
            ("168.63.129.16:80", Metadata),
            ("0.0.0.0:80", Unspecified),
            ("[::]:80", Unspecified),
            ("[::ffff:0.0.0.0]:80", Unspecified),
            ("224.0.0.1:80", Multicast),
            ("[ff02::1]:80", Multicast),
            ("255.255.255.255:80", Broadcast),
        ] {
            assert_eq!(why(address), Some(reason), "{address}");
        }
    }

    #[test]
    fn loopback_private_and_public_addresses_are_allowed() {
        for address in ["127.0.0.1:80", "[::1]:80", "10.0.0.1:443", "192.0.2.1:443", "[2001:db8::1]:443"] {
            assert_eq!(why(address), None, "{address}");
        }
    }

    #[test]
    fn an_own_listener_is_refused_through_any_address_that_reaches_it() {
        let check = |bound: &str, dialled: &str| {
            let forbidden = ForbiddenAddresses { own_listeners: vec![bound.parse().expect(bound)] };
            forbidden.check(dialled.parse().expect(dialled))
        };
        let own = Some(ForbiddenReason::OwnListener);
        assert_eq!(check("127.0.0.1:8443", "127.0.0.1:8443"), own);
        assert_eq!(check("127.0.0.1:8443", "[::ffff:127.0.0.1]:8443"), own);
        assert_eq!(check("0.0.0.0:8443", "127.0.0.9:8443"), own);
        assert_eq!(check("[::]:8443", "127.0.0.1:8443"), own);
        assert_eq!(check("127.0.0.1:8443", "127.0.0.1:8444"), None);
        assert_eq!(check("127.0.0.1:8443", "127.0.0.2:8443"), None);
        assert_eq!(check("0.0.0.0:8443", "192.0.2.1:8443"), None);
    }
}
