//! Against the examples in technical_details/JA4.md of FoxIO-LLC/ja4. (Its reference programs still print `99` where
//! the text asks for the hexadecimal ends of an ALPN name; the text is followed.)

use super::*;
use crate::hello::tests::{complete, real};

const CIPHERS: [u16; 15] =
    [0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x009C, 0x009D, 0x002F, 0x0035];
const EXTENSIONS: [u16; 16] =
    [0x001B, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002D, 0x000D, 0x0005, 0x0023, 0x0012, 0x002B, 0xFF01, 0x000B, 0x000A, 0x0015];
const ALGORITHMS: [u16; 8] = [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601];

/// The hello of the specification's example.
fn example() -> ClientHello {
    ClientHello {
        legacy_version: 0x0303,
        versions: vec![0x0304, 0x0303],
        alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        cipher_suites: CIPHERS.to_vec(),
        extensions: EXTENSIONS.to_vec(),
        signature_algorithms: ALGORITHMS.to_vec(),
        ..ClientHello::default()
    }
}

fn ja4(hello: &ClientHello) -> String {
    hello.ja4(Transport::Tcp)
}

#[test]
fn the_example_of_the_specification_gives_its_fingerprint() {
    assert_eq!(ja4(&example()), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    assert_eq!(
        example().ja4_raw(Transport::Tcp),
        "t13d1516h2_002f,0035,009c,009d,1301,1302,1303,c013,c014,c02b,c02c,c02f,c030,cca8,cca9\
         _0005,000a,000b,000d,0012,0015,0017,001b,0023,002b,002d,0033,4469,ff01_0403,0804,0401,0503,0805,0501,0806,0601"
    );
    assert_eq!(example().ja4(Transport::Quic), "q13d1516h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn without_signature_algorithms_the_list_ends_without_an_underscore() {
    let hello = ClientHello { signature_algorithms: vec![], ..example() };
    assert_eq!(ja4(&hello), "t13d1516h2_8daaf6152771_6d807ffa2a79");
    assert!(hello.ja4_raw(Transport::Tcp).ends_with(",ff01"));
}

#[test]
fn grease_counts_nowhere() {
    let mut hello = example();
    hello.cipher_suites.insert(0, 0x1A1A);
    hello.extensions.insert(0, 0x2A2A);
    hello.extensions.push(0xFAFA);
    hello.versions.insert(0, 0xFAFA);
    hello.signature_algorithms.insert(3, 0x0A0A);
    assert_eq!(ja4(&hello), ja4(&example()));
}

#[test]
fn the_order_of_ciphers_and_extensions_is_nothing_and_that_of_algorithms_is() {
    let mut hello = example();
    hello.cipher_suites.reverse();
    hello.extensions.reverse();
    assert_eq!(ja4(&hello), ja4(&example()));
    hello.signature_algorithms.reverse();
    assert_ne!(ja4(&hello), ja4(&example()));
}

#[test]
fn a_hello_without_a_name_goes_to_an_address_and_keeps_its_hashes() {
    let mut hello = example();
    hello.extensions.retain(|kind| *kind != SERVER_NAME);
    assert_eq!(ja4(&hello), "t13i1515h2_8daaf6152771_e5627efa2ab1");
}

#[test]
fn the_version_is_the_highest_supported_or_the_legacy_one() {
    let code = |legacy_version, versions: &[u16]| {
        let hello = ClientHello { legacy_version, versions: versions.to_vec(), ..example() };
        ja4(&hello).get(1..3).unwrap().to_owned()
    };
    assert_eq!(code(0x0303, &[0x0303, 0x0304]), "13");
    assert_eq!(code(0x0304, &[0x0303, 0x0302]), "12");
    for (version, expected) in
        [(0x0304, "13"), (0x0303, "12"), (0x0302, "11"), (0x0301, "10"), (0x0300, "s3"), (0x0002, "s2"), (0xFEFD, "d2"), (0x7F1C, "00")]
    {
        assert_eq!(code(version, &[]), expected);
    }
    assert_eq!(code(0x0303, &[0x1A1A]), "00");
}

#[test]
fn counts_stop_at_99() {
    let plain = |first: u16, n: u16| (first..).filter(|v| !is_grease(*v)).take(usize::from(n)).collect::<Vec<_>>();
    for (n, expected) in [(9, "09"), (99, "99"), (100, "99"), (300, "99")] {
        let hello = ClientHello { cipher_suites: plain(0x1301, n), extensions: plain(0x0100, n), ..example() };
        assert_eq!(ja4(&hello).get(4..8), Some([expected, expected].concat().as_str()), "{n}");
    }
}

#[test]
fn the_ends_of_the_first_protocol_are_shown_or_those_of_its_hexadecimal_form() {
    let ends = |alpn: &[&[u8]]| {
        let hello = ClientHello { alpn: alpn.iter().map(|name| name.to_vec()).collect(), ..example() };
        ja4(&hello).get(8..10).unwrap().to_owned()
    };
    assert_eq!(ends(&[]), "00");
    assert_eq!(ends(&[b""]), "00");
    assert_eq!(ends(&[b"h2", b"http/1.1"]), "h2");
    assert_eq!(ends(&[b"http/1.1"]), "h1");
    assert_eq!(ends(&[b"x"]), "xx");
    for (name, expected) in [
        (b"\xAB".as_slice(), "ab"),
        (b"\x20", "20"),
        (b"\xAB\xCD", "ad"),
        (b"\x20\x61", "21"),
        (b"\x30\xAB", "3b"),
        (b"\x61\x20", "60"),
        (b"\x30\x31\xAB\xCD", "3d"),
        (b"\x30\xAB\xCD\x31", "01"),
    ] {
        assert_eq!(ends(&[name]), expected, "{name:x?}");
    }
}

#[test]
fn empty_lists_are_zeros() {
    let hello = ClientHello { legacy_version: 0x0301, ..ClientHello::default() };
    assert_eq!(ja4(&hello), "t10i000000_000000000000_000000000000");
    // Only what JA4_a tells of already, or GREASE.
    let hello = ClientHello { extensions: vec![SERVER_NAME, ALPN, 0x0A0A], cipher_suites: vec![0x0A0A], ..hello };
    assert_eq!(ja4(&hello), "t10d000200_000000000000_000000000000");
}

#[test]
fn hellos_of_real_clients_have_the_fingerprints_of_their_libraries() {
    for (client, expected) in [
        ("openssl-3.0", "t13d3111h2_e8f1e7e78f70_1f22a2ca17c4"),
        ("openssl-3.0-tls1.2-no-sni", "t12i280600_d943125447b4_e7e480e5a997"),
        ("python-3.11", "t13d1812h1_85036bcba153_d41ae481755e"),
        ("curl-7.88", "t13d3112h2_e8f1e7e78f70_b26ce05bbdd6"),
        ("node-20", "t13d5911h1_a33745022dd6_1f22a2ca17c4"),
    ] {
        assert_eq!(ja4(&complete(&real(client))), expected, "{client}");
    }
}
