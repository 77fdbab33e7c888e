use proptest::prelude::*;

use super::*;

/// Bytes that real clients sent.
pub(super) fn real(client: &str) -> Vec<u8> {
    let line = include_str!("fixtures/hellos.txt").lines().find_map(|line| line.strip_prefix(client)?.strip_prefix(' ')).unwrap();
    let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
    line.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

fn push_all(bytes: &[u8], size: usize) -> Result<HelloStatus, HelloError> {
    let mut parser = HelloParser::new();
    let mut status = Ok(HelloStatus::Incomplete);
    for chunk in bytes.chunks(size) {
        status = parser.push(chunk);
    }
    status
}

pub(super) fn complete(bytes: &[u8]) -> ClientHello {
    match push_all(bytes, bytes.len()) {
        Ok(HelloStatus::Complete(hello)) => *hello,
        other => panic!("not complete: {other:?}"),
    }
}

/// A handshake message in records of `size` bytes.
pub(super) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message
        .chunks(size)
        .flat_map(|part| {
            let length = (part.len() as u16).to_be_bytes();
            [&[22, 3, 1], length.as_slice(), part].concat()
        })
        .collect()
}

fn vector16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes(), bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().to_vec(), vector16(data)].concat()
}

fn sni(name: &[u8]) -> Vec<u8> {
    extension(0, &vector16(&[&[0], vector16(name).as_slice()].concat()))
}

fn message(extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend(vector16(&[0x1A, 0x1A, 0x13, 0x01]));
    body.extend([1, 0]);
    body.extend(vector16(&extensions.concat()));
    let length = (body.len() as u32).to_be_bytes();
    [&[1], &length[1..], &body].concat()
}

fn built(extensions: &[Vec<u8>]) -> Vec<u8> {
    records(&message(extensions), 1 << 14)
}

#[test]
fn hellos_of_real_clients_are_read() {
    for (client, sni, alpn, tls13) in [
        ("openssl-3.0", Some("mcp.vendor.example"), vec!["h2", "http/1.1"], true),
        ("openssl-3.0-tls1.2-no-sni", None, vec![], false),
        ("python-3.11", Some("api.example.com"), vec!["http/1.1"], true),
        ("curl-7.88", Some("mcp.example.test"), vec!["h2", "http/1.1"], true),
        ("node-20", Some("node.example.test"), vec!["http/1.1"], true),
    ] {
        let hello = complete(&real(client));
        assert_eq!(hello.sni.as_deref(), sni, "{client}");
        let alpn: Vec<_> = alpn.into_iter().map(|name| name.as_bytes().to_vec()).collect();
        assert_eq!(hello.alpn, alpn, "{client}");
        assert_eq!(hello.versions.contains(&0x0304), tls13, "{client}");
        assert_eq!(hello.legacy_version, 0x0303);
        assert!(hello.cipher_suites.len() > 5 && hello.signature_algorithms.len() > 5);
        assert_eq!(hello.random, real(client)[11..43]);
        assert_eq!(hello.ech, Presence::Absent);
    }
}

#[test]
fn a_prefix_is_incomplete_and_what_follows_is_ignored() {
    let mut bytes = real("curl-7.88");
    for length in 0..bytes.len() {
        let mut parser = HelloParser::new();
        assert_eq!(parser.push(&bytes[..length]), Ok(HelloStatus::Incomplete), "{length}");
    }
    let whole = complete(&bytes);
    bytes.extend(b"\x17\x03\x03garbage");
    assert_eq!(complete(&bytes), whole);
}

#[test]
fn the_hello_may_be_split_over_records_and_reads() {
    let bytes = real("openssl-3.0");
    let whole = Ok(HelloStatus::Complete(Box::new(complete(&bytes))));
    for record in [1, 2, 3, 50, 1000] {
        let split = records(&bytes[5..], record);
        for size in [1, 4, split.len()] {
            assert_eq!(push_all(&split, size), whole);
        }
    }
}

#[test]
fn large_key_shares_and_grease_are_kept_in_place() {
    let key_share = extension(51, &vec![0; 20_000]);
    let bytes = built(&[extension(0x2A2A, &[]), sni(b"a.example"), key_share, extension(0xFE0D, &[0])]);
    let mut split = records(&message(&[extension(0x2A2A, &[])]), 1 << 14);
    assert!(matches!(push_all(&split, 7), Ok(HelloStatus::Complete(_))));
    split.clear();
    let hello = complete(&bytes);
    assert_eq!(hello.extensions, [0x2A2A, 0, 51, 0xFE0D]);
    assert_eq!(hello.cipher_suites, [0x1A1A, 0x1301]);
    assert!(is_grease(hello.extensions[0]) && is_grease(hello.cipher_suites[0]));
    assert!(!is_grease(0x1A2A) && !is_grease(0x1301));
    assert_eq!(hello.ech, Presence::Present);
}

#[test]
fn other_protocols_are_not_tls() {
    for bytes in [b"GET / HTTP/1.1\r\n".as_slice(), b"SSH-2.0-x", b"\x80\x2e\x02\x03\x01", b"\x16\x05\x01\x00\x10\x02"] {
        assert_eq!(push_all(bytes, 1), Ok(HelloStatus::NotTls));
    }
    assert_eq!(push_all(b"\x16", 1), Ok(HelloStatus::Incomplete));
}

#[test]
fn a_hello_is_read_whatever_minor_version_its_records_name() {
    for client in ["openssl-3.0", "curl-7.88", "node-20"] {
        let bytes = real(client);
        let whole = complete(&bytes);
        for size in [50, 1 << 14] {
            for minor in 0..=u8::MAX {
                let mut named = records(&bytes[5..], size);
                let mut at = 0;
                while at < named.len() {
                    named[at + 2] = minor;
                    at += 5 + usize::from(u16::from_be_bytes([named[at + 3], named[at + 4]]));
                }
                assert_eq!(complete(&named), whole, "{client}, {minor}");
            }
        }
    }
}

#[test]
fn a_hello_in_a_form_that_only_some_servers_take_is_tls_all_the_same() {
    for major in (0..=u8::MAX).filter(|major| *major != 3) {
        let mut bytes = real("openssl-3.0");
        bytes[1] = major;
        assert_eq!(push_all(&bytes, 1), Err(HelloError::Opening), "{major}");
    }
    assert_eq!(push_all(b"\x80\x2e\x01\x03\x01", 1), Err(HelloError::Opening));
}

#[test]
fn tls_that_cannot_become_a_hello_is_an_error() {
    assert_eq!(push_all(b"\x16\x03\x01\x00\x00", 1), Err(HelloError::Record));
    assert_eq!(push_all(b"\x16\x03\x01\x40\x01", 1), Err(HelloError::Record));
    assert_eq!(push_all(b"\x16\x03\x01\x00\x04\x02", 1), Err(HelloError::NotClientHello));
    assert_eq!(push_all(b"\x16\x03\x01\x00\x04\x01\x01\x00\x01", 1), Err(HelloError::TooLarge));
    let mut alert_inside = records(&message(&[])[..20], 20);
    alert_inside.extend(b"\x15\x03\x01\x00\x02\x02\x28");
    assert_eq!(push_all(&alert_inside, 3), Err(HelloError::Record));
}

#[test]
fn lengths_that_do_not_fit_are_malformed() {
    let mut short = message(&[sni(b"a.example")]);
    short[3] -= 1;
    assert_eq!(push_all(&records(&short, 999), 99), Err(HelloError::Malformed));
    for data in [extension(16, &[0, 1, 0]), extension(43, &[3, 3, 4, 3]), extension(13, &[0, 0]), extension(0, &[0, 3, 0, 0, 9])] {
        assert_eq!(push_all(&built(&[data]), 99), Err(HelloError::Malformed));
    }
}

#[test]
fn repeated_extensions_are_refused() {
    let twice = built(&[sni(b"a.example"), sni(b"b.example")]);
    assert_eq!(push_all(&twice, 99), Err(HelloError::DuplicateExtension));
}

#[test]
fn server_names_are_host_names() {
    let name = |name: &[u8]| {
        push_all(&built(&[sni(name)]), 99).map(|status| match status {
            HelloStatus::Complete(hello) => hello.sni,
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(name(b"MCP.Example.").unwrap().as_deref(), Some("mcp.example"));
    assert_eq!(name(b"_x-1.example").unwrap().as_deref(), Some("_x-1.example"));
    assert_eq!(name(b"192.0.2.1").unwrap(), None);
    assert_eq!(name(b"2001:db8::1").unwrap(), None);
    for bad in [b"".as_slice(), b"a..b", b"a\0b", b"a b", b"\xFFa", b".", &[b'a'; 64]] {
        assert_eq!(name(bad), Err(HelloError::ServerName), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same(
        client in prop_oneof![Just("openssl-3.0"), Just("node-20"), Just("python-3.11")],
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        record in 1..600usize,
        size in 1..40usize,
    ) {
        let mut bytes = records(&real(client)[5..], record);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(push_all(&bytes, bytes.len()), push_all(&bytes, size));
    }
}
