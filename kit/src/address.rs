//! Addresses as resolvers read them.

use std::net::{IpAddr, Ipv4Addr};

/// The address that a host is a spelling of, if it is one, without a look-up: brackets and a last dot may be there.
/// IPv4 may be written as `inet_aton(3)` and the URL standard (WHATWG URL, "IPv4 parser") read it: `127.1`, `0x7f000001`, `017700000001`,
/// `2130706433`. IPv4 within IPv6 (`::ffff:192.0.2.1`) is IPv4.
#[must_use]
pub fn address(host: &str) -> Option<IpAddr> {
    let host = unbracketed(host);
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_canonical()),
        Err(_) => loose(host).map(IpAddr::V4),
    }
}

/// `[::1]` without its brackets; any other text unchanged.
#[must_use]
pub fn unbracketed(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// One to four numbers, each decimal, octal (`0…`) or hexadecimal (`0x…`); the last fills what the others leave.
fn loose(host: &str) -> Option<Ipv4Addr> {
    let mut parts = Vec::with_capacity(4);
    for part in host.split('.') {
        if parts.len() == 4 {
            return None;
        }
        parts.push(number(part)?);
    }
    let (last, first) = parts.split_last()?;
    let mut bits = 0_u64;
    for part in first {
        bits = bits << 8 | u64::from(u8::try_from(*part).ok()?);
    }
    let left = 8 * (4 - first.len() as u32);
    (*last < 1 << left).then_some(())?;
    u32::try_from(bits << left | *last).ok().map(Ipv4Addr::from)
}

fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| char::from(byte).is_digit(radix));
    plain.then(|| u64::from_str_radix(digits, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_that_address() {
        for (ip, spellings) in [
            (
                "10.77.0.3",
                &[
                    "10.77.0.3",
                    "172818435",
                    "10.77.3",
                    "10.5046275",
                    "0x0a.77.0.3",
                    "012.77.0.3",
                    "0X0A4D0003",
                    "10.77.0.3.",
                    "::ffff:10.77.0.3",
                    "[::ffff:a4d:3]",
                    "012.0x4d.3",
                ][..],
            ),
            ("fd77::1", &["fd77::1", "[fd77:0:0:0:0:0:0:1]", "FD77:0000::0001", "[fd77:0::1]"]),
            ("0.0.0.0", &["0", "0x0", "00", "0.0"]),
            ("255.255.255.255", &["4294967295", "255.0xffffff", "037777777777"]),
        ] {
            for spelling in spellings {
                assert_eq!(address(spelling), Some(ip.parse::<IpAddr>().unwrap()), "{spelling}");
            }
        }
    }

    #[test]
    fn names_and_numbers_that_are_no_address_are_none() {
        for host in [
            "",
            ".",
            "a",
            "1.2.3.4.5",
            "4294967296",
            "256.1.1.1",
            "1.2.3.256",
            "1.16777216",
            "08",
            "0x",
            "0xg",
            "1..2",
            "-1",
            "+1",
            "1e3",
            "10.77.0.x",
            "fe80::1%eth0",
        ] {
            assert_eq!(address(host), None, "{host}");
        }
    }
}
