//! Addresses that are never redirected: the proxy does not dial them (`gnomon_http::ForbiddenAddresses`), as it may have access that the
//! program does not have, or as they mean nothing without the program's own interface.

use gnomon_sensor_abi::{AF_INET, Address};

use crate::listener::is_mapped;

/// Cloud metadata and host agents outside of 169.254.0.0/16: 100.100.100.200 (Alibaba), 168.63.129.16 (Azure).
const METADATA4: [u32; 2] = [0x6464_64c8, 0xa83f_8110];
/// The same over IPv6, by the first and the last 32 bits, with zeros between: fd20:ce::254 (Google), fd00:c1::a9fe:a9fe (Oracle), fd00:42::42
/// (Scaleway).
const METADATA6: [(u32, u32); 3] = [(0xfd20_00ce, 0x254), (0xfd00_00c1, 0xa9fe_a9fe), (0xfd00_0042, 0x42)];
/// fd00:ec2::/32, the services of AWS on an instance's link.
const AWS_LINK: u32 = 0xfd00_0ec2;

/// Whether it is link-local, cloud metadata, multicast or broadcast. The unspecified address is not: to the kernel it is
/// this host.
#[inline(always)]
pub fn is_exempt(address: &Address) -> bool {
    if address.family == AF_INET {
        return is_exempt4(u32::from_be(address.words[0]));
    }
    if is_mapped(address) {
        return is_exempt4(u32::from_be(address.words[3]));
    }
    let words = [
        u32::from_be(address.words[0]),
        u32::from_be(address.words[1]),
        u32::from_be(address.words[2]),
        u32::from_be(address.words[3]),
    ];
    // fe80::/10 (RFC 4291 2.5.6) and ff00::/8 (2.7).
    let mut differs = differ((words[0] >> 22) ^ (0xfe80 >> 6)) & differ((words[0] >> 24) ^ 0xff) & differ(words[0] ^ AWS_LINK);
    let between = words[1] | words[2];
    for (first, last) in METADATA6 {
        differs &= differ((words[0] ^ first) | (words[3] ^ last) | between);
    }
    differs == 0
}

/// 1 if any bit is set, else 0. Arithmetic rather than a comparison, which is a branch to the verifier: of several it walks all combinations.
#[inline(always)]
fn differ(bits: u32) -> u64 {
    (u64::from(bits) + 0xffff_ffff) >> 32
}

#[inline(always)]
fn is_exempt4(ip: u32) -> bool {
    // 169.254.0.0/16 (RFC 3927), 224.0.0.0/4 (RFC 5771), 255.255.255.255, and 0.0.0.0/8 but for 0.0.0.0.
    let within = (differ(ip >> 24) ^ 1) & differ(ip);
    let mut differs = differ((ip >> 16) ^ 0xa9fe) & differ((ip >> 28) ^ 0xe) & differ(!ip) & (within ^ 1);
    for known in METADATA4 {
        differs &= differ(ip ^ known);
    }
    differs == 0
}
