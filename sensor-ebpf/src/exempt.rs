//! Addresses that are never redirected: the proxy does not dial them (`gnomon_http::ForbiddenAddresses`), as it may have access that the
//! program does not have, or as they mean nothing without the program's own interface.

use gnomon_sensor_abi::{AF_INET, Address};

use crate::listener::is_mapped;

/// Cloud metadata and host agents outside of 169.254.0.0/16: 100.100.100.200 (Alibaba), 168.63.129.16 (Azure).
const METADATA4: [u32; 2] = [0x6464_64c8, 0xa83f_8110];
/// The same over IPv6: fd20:ce::254 (Google), fd00:c1::a9fe:a9fe (Oracle), fd00:42::42 (Scaleway).
const METADATA6: [[u32; 4]; 3] = [[0xfd20_00ce, 0, 0, 0x254], [0xfd00_00c1, 0, 0, 0xa9fe_a9fe], [0xfd00_0042, 0, 0, 0x42]];
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
    // fe80::/10 (RFC 4291 2.5.6) and ff00::/8 (2.7). Bits rather than branches, of which the verifier walks all.
    let mut hit = (words[0] >> 22 == 0xfe80 >> 6) | (words[0] >> 24 == 0xff) | (words[0] == AWS_LINK);
    for known in METADATA6 {
        hit |= ((words[0] ^ known[0]) | (words[1] ^ known[1]) | (words[2] ^ known[2]) | (words[3] ^ known[3])) == 0;
    }
    hit
}

#[inline(always)]
fn is_exempt4(ip: u32) -> bool {
    // 169.254.0.0/16 (RFC 3927), 224.0.0.0/4 (RFC 5771), 255.255.255.255, and 0.0.0.0/8 but for 0.0.0.0.
    let mut hit = (ip >> 16 == 0xa9fe) | (ip >> 28 == 0xe) | (ip == u32::MAX) | ((ip >> 24 == 0) & (ip != 0));
    for known in METADATA4 {
        hit |= ip == known;
    }
    hit
}
