//! Captures as they come from the wire: in any order, in any pieces, and broken.
#![allow(clippy::unwrap_used)]

mod packets;

use gnomon_capture::{Bounds, CaptureError, Captured, Reassembly, Totals, Unread, exchanges, read};
use packets::{ACK, CLIENT, SERVER, START, SYN, connection, packet, pcap, pcapng};
use proptest::prelude::*;

const REQUEST: &[u8] = b"POST /mcp HTTP/1.1\r\nHost: mcp.example\r\nContent-Length: 5\r\n\r\nhello";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";

fn found(file: &[u8]) -> (Vec<Captured>, Totals, Result<(), CaptureError>) {
    let mut all = Vec::new();
    let (totals, result) = read(file, Bounds::default(), &mut |found| all.push(found));
    (all, totals, result)
}

fn bodies(file: &[u8]) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let each = found(file).0.into_iter().filter_map(|found| match found {
        Captured::Exchange { request, response, .. } => Some((request.body, response.map(|response| response.body))),
        _ => None,
    });
    each.collect()
}

#[test]
fn an_exchange_is_read_from_pcap_and_pcapng() {
    let packets = connection(REQUEST, ANSWER);
    for file in [pcap(&packets), pcapng(&packets)] {
        let (all, totals, result) = found(&file);
        result.unwrap();
        assert_eq!((totals.connections, totals.packets, totals.tls), (1, packets.len() as u64, 0));
        let [Captured::Exchange { endpoints, when, request, response: Some(response) }] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(
            (endpoints.server.to_string().as_str(), when.as_secs(), when.subsec_millis()),
            ("203.0.113.7:80", u64::from(START), 250)
        );
        assert_eq!((request.method.as_str(), request.target.as_str(), request.body.as_slice()), ("POST", "/mcp", b"hello".as_slice()));
        assert_eq!((response.status, response.body.as_slice()), (200, b"abcde".as_slice()));
    }
}

#[test]
fn several_requests_of_a_connection_get_their_own_answers() {
    let requests = [b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n".as_slice(), b"HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n", REQUEST].concat();
    let answers = [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na".as_slice(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        b"HTTP/1.1 404 No\r\n\r\nuntil the end",
    ];
    let parsed = exchanges(&requests, &answers.concat());
    let told: Vec<_> = parsed.exchanges.iter().map(|(q, a)| (q.target.as_str(), a.as_ref().map(|a| (a.status, a.body.len())))).collect();
    assert_eq!(told, [("/a", Some((200, 1))), ("/b", Some((200, 0))), ("/mcp", Some((404, 13)))]);
    assert!(parsed.rest.is_none());
}

#[test]
fn what_two_readers_could_take_differently_is_not_guessed_at() {
    for head in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: +5",
        "Transfer-Encoding: gzip",
    ] {
        let parsed = exchanges(format!("POST / HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\nhello").as_bytes(), b"");
        assert!(parsed.exchanges.is_empty() && parsed.rest == Some(Unread::Other), "{head}");
    }
}

#[test]
fn what_cannot_be_judged_is_told_with_its_reason() {
    let reason = |packets: &[Vec<u8>]| match found(&pcap(packets)).0.pop() {
        Some(Captured::Unread { reason, .. }) => Some(reason),
        _ => None,
    };
    let mut lossy = connection(REQUEST, ANSWER);
    lossy.remove(4);
    assert_eq!(reason(&lossy), Some(Unread::Missing));
    assert_eq!(reason(&connection(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"")), Some(Unread::Http2));
    assert_eq!(reason(&connection(b"SSH-2.0-x\r\n", b"SSH-2.0-y\r\n")), Some(Unread::Other));
    assert_eq!(reason(&connection(REQUEST, ANSWER)[4..]), Some(Unread::Begun));
}

#[test]
fn files_that_are_none_or_break_off_are_errors_and_what_came_before_counts() {
    assert!(matches!(found(b"").2, Err(CaptureError::NotACapture)));
    assert!(matches!(found(b"{\"log\": {}}").2, Err(CaptureError::NotACapture)));
    let whole = [connection(REQUEST, ANSWER), connection(REQUEST, ANSWER)].concat();
    for file in [pcap(&whole), pcapng(&whole)] {
        let (all, _, result) = found(&file[..file.len() - 30]);
        assert!(matches!(result, Err(CaptureError::Damaged(_))), "{result:?}");
        assert!(matches!(all.first(), Some(Captured::Exchange { .. })), "{all:?}");
    }
}

#[test]
fn memory_is_bounded_and_the_oldest_connection_is_read_first() {
    let mut packets = Vec::new();
    for port in 0..100 {
        packets.push(packet((CLIENT.0, 1_000 + port), SERVER, 1, SYN, b""));
        packets.push(packet((CLIENT.0, 1_000 + port), SERVER, 2, ACK, REQUEST));
    }
    let bounds = Bounds { connections: 10, direction: 1 << 20, total: 1 << 20 };
    let mut count = 0;
    let (totals, _) =
        read(pcap(&packets).as_slice(), bounds, &mut |found| count += usize::from(matches!(found, Captured::Exchange { .. })));
    assert_eq!((totals.connections, count), (100, 100));
}

/// A stream, and segments that cover it: each again and again, too long, in any order.
fn segments() -> impl Strategy<Value = (Vec<u8>, u32, Vec<(usize, usize)>)> {
    (prop::collection::vec(any::<u8>(), 1..400), any::<u32>()).prop_flat_map(|(stream, start)| {
        let length = stream.len();
        let extra = prop::collection::vec((0..length, 1..60usize), 0..40);
        let cuts = prop::collection::vec(1..40usize, 1..80);
        (Just(stream), Just(start), cuts, extra).prop_flat_map(move |(stream, start, cuts, extra)| {
            let mut pieces = Vec::new();
            let mut at = 0;
            for cut in cuts.iter().cycle() {
                if at >= length {
                    break;
                }
                pieces.push((at, *cut));
                at += cut;
            }
            pieces.extend(extra);
            (Just(stream), Just(start), Just(pieces).prop_shuffle())
        })
    })
}

proptest! {
    #[test]
    fn segments_in_any_order_with_overlaps_and_repeats_give_the_stream((stream, start, pieces) in segments()) {
        let mut order = Reassembly::new(1 << 20);
        order.syn(start);
        let mut out = Vec::new();
        for (at, length) in pieces {
            let end = (at + length).min(stream.len());
            let sequence = start.wrapping_add(1).wrapping_add(u32::try_from(at).unwrap());
            order.segment(sequence, &stream[at..end], &mut out);
            prop_assert!(stream.starts_with(&out));
        }
        prop_assert_eq!(&out, &stream);
        prop_assert!(!order.is_broken() && order.waiting() == 0);
    }

    #[test]
    fn both_directions_in_any_mixture_give_the_same_exchange(seed in prop::collection::vec(any::<u16>(), 64)) {
        let mut packets = connection(REQUEST, ANSWER);
        // The two SYNs first and the two FINs last; what is between in any order, with one of three twice.
        let count = packets.len();
        let repeats: Vec<_> = packets[2..count - 2].iter().step_by(3).cloned().collect();
        let ends = packets.split_off(count - 2);
        let mut middle = packets.split_off(2);
        middle.extend(repeats);
        for n in (1..middle.len()).rev() {
            middle.swap(n, usize::from(seed[n % seed.len()]) % (n + 1));
        }
        packets.extend(middle);
        packets.extend(ends);
        prop_assert_eq!(bodies(&pcap(&packets)), [(b"hello".to_vec(), Some(b"abcde".to_vec()))]);
    }

    #[test]
    fn the_first_copy_of_a_byte_counts_and_a_bound_holds(pieces in prop::collection::vec((1..300u32, 1..50usize, any::<u8>()), 1..60)) {
        let mut order = Reassembly::new(256);
        order.syn(0);
        let mut out = Vec::new();
        let mut first: std::collections::BTreeMap<u32, u8> = std::collections::BTreeMap::new();
        for (at, length, byte) in pieces {
            for place in at..at + u32::try_from(length).unwrap() {
                first.entry(place).or_insert(byte);
            }
            order.segment(at, &vec![byte; length], &mut out);
            prop_assert!(order.waiting() <= 256);
        }
        for (place, byte) in (1u32..).zip(&out) {
            prop_assert_eq!(first.get(&place), Some(byte));
        }
    }
}
