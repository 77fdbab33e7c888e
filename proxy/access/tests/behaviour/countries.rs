//! Countries from a MaxMind DB, which the test writes itself.

use crate::{
    people::{policy, tool},
    provider::{Web, config},
};
use gnomon_access::{Authenticator, Countries, Peer};
use http::HeaderMap;
use std::sync::Arc;

fn text(text: &str) -> Vec<u8> {
    let mut out = vec![0x40 | u8::try_from(text.len()).unwrap()];
    out.extend(text.as_bytes());
    out
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![0xe0 | u8::try_from(entries.len()).unwrap()];
    for (key, value) in entries {
        out.extend(text(key));
        out.extend(value);
    }
    out
}

fn number(kind: u8, value: u8) -> Vec<u8> {
    // uint16 is type 5, uint32 type 6; one byte each.
    vec![kind << 5 | 1, value]
}

/// A database in which 192.0.0.0/8 is German and nothing else is known.
fn database() -> Vec<u8> {
    let (nodes, prefix) = (8_u32, 192_u8);
    let mut out = Vec::new();
    for depth in 0..nodes {
        let found = if depth + 1 == nodes { nodes + 16 } else { depth + 1 };
        let bit = prefix >> (7 - depth) & 1;
        let record = |side: u8| if side == bit { found } else { nodes };
        for side in [0, 1] {
            out.extend(&record(side).to_be_bytes()[1..]);
        }
    }
    out.extend([0; 16]);
    out.extend(map(&[("country", map(&[("iso_code", text("DE"))]))]));
    out.extend(b"\xab\xcd\xefMaxMind.com");
    out.extend(map(&[
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        ("build_epoch", vec![0x01, 0x02, 1]),
        ("database_type", text("Test-Country")),
        ("description", map(&[])),
        ("ip_version", number(5, 4)),
        ("languages", vec![0x00, 0x04]),
        ("node_count", number(6, 8)),
        ("record_size", number(5, 24)),
    ]));
    out
}

#[tokio::test]
async fn policy_knows_the_country_of_an_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("countries.mmdb");
    std::fs::write(&path, database()).unwrap();
    let countries = Arc::new(Countries::open(&path).unwrap());
    let door = Authenticator::new(config("{ mode: none }"), Arc::new(Web::default())).with_countries(countries);
    let policy = policy("[ { allow: { servers: [docs], countries: [de] } } ]");
    for (address, country) in
        [("192.0.2.1:1", Some("DE")), ("[::ffff:192.0.2.1]:1", Some("DE")), ("10.0.0.1:1", None), ("[2001:db8::1]:1", None)]
    {
        let caller = door.authenticate(&HeaderMap::new(), &Peer::at(address.parse().unwrap())).await.unwrap();
        assert_eq!(caller.country.as_deref(), country, "{address}");
        assert_eq!(policy.decide(&caller, &tool("docs", "x")).is_allow(), country.is_some());
    }
}

#[test]
fn a_file_that_is_not_a_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mmdb");
    assert!(Countries::open(&path).unwrap_err().to_string().starts_with("cannot be read"));
    std::fs::write(&path, b"nothing of the kind").unwrap();
    assert!(Countries::open(&path).unwrap_err().to_string().starts_with("is not a MaxMind DB"));
}
