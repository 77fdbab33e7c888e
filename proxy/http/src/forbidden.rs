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

/// Metadata and host-agent services outside 169.254.0.0/16: Alibaba Cloud, Azure WireServer.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
/// The same over IPv6: Google Cloud (instances without IPv4), Oracle Cloud, Scaleway.
const METADATA_V6: [Ipv6Addr; 3] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];
/// fd00:ec2::/32: all that AWS serves on an instance's link, as IMDS (`::254`) and the credentials of EKS pods (`::23`).
const AWS_LINK: (u16, u16) = (0xfd00, 0xec2);

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
    } else if METADATA_V6.contains(&ip) || (ip.segments()[0], ip.segments()[1]) == AWS_LINK {
        Some(ForbiddenReason::Metadata)
    } else if ip.is_multicast() {
        Some(ForbiddenReason::Multicast)
    } else if ip.is_loopback() {
        None
    } else {
        translated(ip)
    }
}

/// The reason by an IPv4 address that a translator on the path would dial: NAT64 (RFC 6052 2.2), 6to4 (RFC 3056) and the old IPv4-compatible
/// form (RFC 4291 2.5.5.1).
fn translated(ip: Ipv6Addr) -> Option<ForbiddenReason> {
    let b = ip.octets();
    let at = |[i, j, k, l]: [usize; 4]| class_v4(Ipv4Addr::new(b[i], b[j], b[k], b[l]));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0, 0, ..] => at([12, 13, 14, 15]),
        [0x2002, ..] => at([2, 3, 4, 5]),
        // RFC 8215: how long the prefix is knows the translator alone. 96, 64, 56 or 48 bits, of which each puts the address elsewhere, without
        // the byte behind the 64th bit; where it is not, there may be anything.
        [0x64, 0xff9b, 1, ..] => [[12, 13, 14, 15], [9, 10, 11, 12], [7, 9, 10, 11], [6, 7, 9, 10]]
            .into_iter()
            .filter_map(at)
            .find(|reason| matches!(reason, ForbiddenReason::LinkLocal | ForbiddenReason::Metadata)),
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
            ("[64:ff9b:1::169.254.169.254]:80", LinkLocal),
            ("[64:ff9b:1:7:a9:fea9:fe00:0]:80", LinkLocal),
            ("[64:ff9b:1:a9:fe:a9fe::]:80", LinkLocal),
            ("[64:ff9b:1:a9fe:a9:fe00::]:80", LinkLocal),
            ("[fd00:ec2::254]:80", Metadata),
            ("[fd00:ec2::23]:80", Metadata),
            ("[fd20:ce::254]:80", Metadata),
            ("[fd00:c1::a9fe:a9fe]:80", Metadata),
            ("[fd00:42::42]:80", Metadata),
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
        for address in [
            "127.0.0.1:80",
            "[::1]:80",
            "10.0.0.1:443",
            "192.0.2.1:443",
            "[2001:db8::1]:443",
            "[64:ff9b::c000:201]:443",
            "[64:ff9b:1::c000:201]:443",
            "[fd00:ec3::1]:443",
        ] {
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
