//! Properties over generated bodies: chunking, agreement with serde_json.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

fn well_formed(body: &[u8]) -> bool {
    std::str::from_utf8(body).is_ok() && serde_json::from_slice::<&RawValue>(body).is_ok()
}

/// Text that is JSON or nearly so, with the keys we read among others.
fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(":"),
        Just(","),
        Just(" "),
        Just("\n"),
        Just("\"method\""),
        Just("\"tools/call\""),
        Just("\"params\""),
        Just("\"name\""),
        Just("\"jsonrpc\""),
        Just("\"2.0\""),
        Just("\"id\""),
        Just("\"_meta\""),
        Just("\"M\\u0065thod\""),
        Just("\"arguments\""),
        Just("\"é😀\""),
        Just("\"\\ud83d\\ude00\""),
        Just("\"\\ud800\""),
        Just("true"),
        Just("null"),
        Just("-0.5e+3"),
        Just("12"),
        Just("01"),
        Just("\""),
        Just("\\"),
        Just("result"),
        Just("\"result\""),
        Just("\"tools\""),
        Just("\"a long string without end"),
    ];
    proptest::collection::vec(fragment, 0..40).prop_map(|parts| parts.concat().into_bytes())
}

/// Valid messages, a few bytes of them overwritten.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let base = prop_oneof![
        Just(CALL.to_owned()),
        Just(format!("[{CALL},{{\"id\":\"é\",\"result\":{{\"tools\":[{{\"name\":\"a\"}}]}}}}]")),
        Just(r#"{"method":"initialize","params":{"protocolVersion":"2025-11-25","clientInfo":{"name":"\u00e9\ud83d\ude00"},"arguments":{"a":[1,{"b":"c"}]}}}"#.to_owned()),
    ];
    let edit = (any::<prop::sample::Index>(), prop_oneof![any::<u8>(), 32..127u8]);
    (base, proptest::collection::vec(edit, 0..4)).prop_map(|(base, edits)| {
        let mut bytes = base.into_bytes();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

fn split<'a>(mut body: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut chunks = Vec::new();
    for &size in sizes {
        let (chunk, rest) = body.split_at(size.min(body.len()));
        chunks.push(chunk);
        body = rest;
    }
    chunks.push(body);
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_chunking_gives_the_same(
        body in prop_oneof![nearly_json(), mutated(), proptest::collection::vec(any::<u8>(), 0..64)],
        sizes in proptest::collection::vec(0..9usize, 0..60),
    ) {
        let whole = scan_with(capturing(), &mut std::iter::once(body.as_slice()));
        let cut = scan_with(capturing(), &mut split(&body, &sizes).into_iter());
        prop_assert_eq!(whole, cut);
    }

    /// Objects and arrays only; our stricter rules are named, everything else must agree.
    #[test]
    fn well_formedness_agrees_with_serde_json(body in prop_oneof![nearly_json(), mutated()]) {
        let first = body.iter().find(|b| !b" \t\r\n".contains(b));
        if !matches!(first, Some(b'{' | b'[')) {
            return Ok(());
        }
        match scan_with(Limits::default(), &mut std::iter::once(body.as_slice())).1 {
            Ok(_) => prop_assert!(well_formed(&body)),
            Err(Malformed::DuplicateKey | Malformed::AmbiguousKey | Malformed::NestedBatch) => {}
            Err(fault) => prop_assert!(!well_formed(&body), "{}", fault),
        }
    }

    #[test]
    fn ids_go_back_as_the_json_they_came_from(text in ".{0,40}") {
        let json = serde_json::to_string(&text).unwrap();
        let message = one(format!(r#"{{"method":"m","id":{json}}}"#));
        let back: String = serde_json::from_str(&message.id.unwrap().to_json()).unwrap();
        prop_assert_eq!(back, text);
    }
}
