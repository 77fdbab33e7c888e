//! The IP addresses that URLs in a text lead to without a look-up, however they are written.

use crate::{
    effort::Effort,
    urls::{self, Mark},
};
use gnomon_kit::address;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Zones of DNS whose names mean the address within them (`10-0-0-1.x.sslip.io`).
const MEANT_BY_NAME: [&str; 5] = ["nip.io", "sslip.io", "xip.io", "traefik.me", "local-ip.sh"];
/// Zones of DNS all of whose names mean the host itself.
const LOOPBACK: [&str; 6] = ["localhost", "localtest.me", "lvh.me", "lacolhost.com", "vcap.me", "localhost.localdomain"];
/// The longest host, in bytes (RFC 1035, section 2.3.4, and a last full stop).
const LONGEST_HOST: usize = 254;

/// The address of each URL's host in the text, where it is one in any notation, or a name that means one. IPv4 within IPv6 is IPv4.
pub(super) fn of_urls(text: &str, effort: &mut Effort) -> Vec<IpAddr> {
    let mut found = standing(text, effort);
    if let Some(whole) = urls::without_breaks(text) {
        found.extend(standing(&whole, effort));
    }
    found
}

fn standing(text: &str, effort: &mut Effort) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (mark, rest) in urls::begins(text) {
        let is_port = |ip: &IpAddr| mark == Mark::Colon && matches!(ip, IpAddr::V4(v4) if (1..=0xffff).contains(&v4.to_bits()));
        let hosts = urls::hosts(mark, rest, effort);
        found.extend(hosts.into_iter().flatten().filter_map(|host| meant(&host)).filter(|ip| !is_port(ip)));
    }
    found
}

fn meant(host: &str) -> Option<IpAddr> {
    if host.is_empty() || host.len() > LONGEST_HOST {
        return None;
    }
    if let Some(ip) = address(host) {
        return Some(translated(ip));
    }
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let within = |zone: &str| host.strip_suffix(zone).and_then(|name| if name.is_empty() { Some("") } else { name.strip_suffix('.') });
    if LOOPBACK.into_iter().any(|zone| within(zone).is_some()) {
        return Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    MEANT_BY_NAME.into_iter().find_map(within).and_then(within_name).map(IpAddr::V4)
}

/// An IPv4 address that is reached by NAT64 (RFC 6052, 64:ff9b::/96) is that address.
fn translated(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => match v6.segments() {
            [0x64, 0xff9b, 0, 0, 0, 0, high, low] => IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low))),
            _ => IpAddr::V6(Ipv6Addr::from(v6.octets())),
        },
        IpAddr::V4(v4) => IpAddr::V4(v4),
    }
}

/// The last four numbers of a name, between dots or dashes; or eight hexadecimal digits as its last label.
fn within_name(name: &str) -> Option<Ipv4Addr> {
    let label = name.rsplit('.').next().unwrap_or_default();
    let digits = label.rsplit('-').next().unwrap_or_default();
    if digits.len() == 8
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && let Ok(bits) = u32::from_str_radix(digits, 16)
    {
        return Some(Ipv4Addr::from(bits));
    }
    let mut numbers = name.rsplit(['.', '-']).map(|number| number.parse::<u8>().ok());
    let mut next = || numbers.next().flatten();
    let (d, c, b, a) = (next()?, next()?, next()?, next()?);
    Some(Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<String> {
        of_urls(text, &mut Effort::for_length(text.len())).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_notation_of_an_address_is_that_address() {
        for url in [
            "http://169.254.169.254/latest",
            "http://2852039166/",
            "HTTP://0xa9fea9fe:80/",
            "http://0251.0376.0251.0376",
            "http://169.16689662/",
            "http://[::ffff:169.254.169.254]/",
            "http://[::ffff:a9fe:a9fe]:80/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://169.254.169.254./",
            "http://user:pass@169.254.169.254/",
            "http://a.example@169.254.169.254/",
            "http://169.254.169.254.nip.io/",
            "http://app-169-254-169-254.sslip.io/",
            "http://x.a9fea9fe.nip.io/",
            // Spellings that parsers of the URL standard take for it.
            "http:/169.254.169.254/latest",
            "http:169.254.169.254",
            r"https:\\169.254.169.254\latest",
            r"http:\169.254.169.254",
            r"http:/\169.254.169.254",
            "http:////169.254.169.254",
            "WSS:169.254.169.254",
            "ht\ttp:/\n/169.254\r\n.169.254/x",
            "http:user:pass@169.254.169.254",
            "http:0251.0376.0251.0376",
            "http:0xa9.0xfe.0xa9.0xfe",
            "http:2852039166",
            "http:[::ffff:a9fe:a9fe]",
            "http:/169.254.169.254.",
            "http:%31%36%39.254.169.254",
            "http:\u{ff11}69.254.169.254",
            "http://\u{1d7cf}\u{1d7d4}\u{1d7d7}\u{ff0e}254\u{3002}169.254",
            "http://\u{2460}\u{2465}\u{2468}.254.169.254",
            // And others, which do not end a host at a backslash.
            r"http://a.example\@169.254.169.254/",
            "curl 'http://169.254.169.254'",
            "<img src=http://169.254.169.254>",
        ] {
            assert_eq!(of(url), ["169.254.169.254"], "{url}");
        }
        assert_eq!(of("http://[fd00:ec2::254]/latest"), ["fd00:ec2::254"]);
        assert_eq!(of("http://localhost:8080 and http://app.localtest.me/ and http://0/"), ["127.0.0.1", "127.0.0.1", "0.0.0.0"]);
    }

    #[test]
    fn names_and_numbers_outside_of_urls_are_no_addresses() {
        assert_eq!(of("http:localhost and http:/\u{24db}ocalhost/"), ["127.0.0.1", "127.0.0.1"]);
        for text in [
            "2852039166",
            "ports: http:80,https:8443",
            "http: 169.254.169.254",
            "git+http:/169.254.169.254",
            r"C:\\169.254.169.254",
            "see http:\n10.0.0.1 is mine",
            "169.254.169.254",
            "https://a.example/169.254.169.254",
            "https://nip.io/",
            "https://a.nip.io",
            "://",
            "http://",
            "https://mylocalhost/",
        ] {
            assert_eq!(of(text), Vec::<String>::new(), "{text}");
        }
    }
}
