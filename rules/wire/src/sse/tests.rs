use proptest::prelude::*;

use super::*;

/// An item that owns its bytes; neighbouring data is one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Data(String),
    Dispatch(String, Option<String>, HasData, usize),
}

fn read_chunks<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut parser = SseParser::new();
    let mut seen = Vec::new();
    let mut base = 0;
    let mut data = Vec::new();
    for chunk in chunks {
        parser.feed(chunk, &mut |item, after| {
            assert!(after <= chunk.len());
            match item {
                Item::Data(bytes) => data.extend_from_slice(bytes),
                Item::MarkedLine => {}
                Item::Dispatch { event, id, has_data, .. } => {
                    if !data.is_empty() {
                        let text = String::from_utf8_lossy(&data).into_owned();
                        seen.push(Seen::Data(text));
                        data.clear();
                    }
                    let id = id.map(str::to_owned);
                    seen.push(Seen::Dispatch(event.to_owned(), id, has_data, base + after));
                }
            }
        });
        base += chunk.len();
    }
    if !data.is_empty() {
        seen.push(Seen::Data(String::from_utf8_lossy(&data).into_owned()));
    }
    seen
}

fn read(stream: &str) -> Vec<Seen> {
    let whole = read_chunks(std::iter::once(stream.as_bytes()));
    assert_eq!(whole, read_chunks(stream.as_bytes().chunks(1)), "{stream:?}");
    whole
}

fn data(text: &str) -> Seen {
    Seen::Data(text.to_owned())
}

fn message(after: usize) -> Seen {
    Seen::Dispatch(String::new(), None, HasData::Yes, after)
}

#[test]
fn data_lines_are_joined_whatever_ends_a_line() {
    assert_eq!(read("data: a\ndata:b\n\n"), [data("a\nb"), message(16)]);
    assert_eq!(read("data: a\rdata:b\r\r"), [data("a\nb"), message(16)]);
    assert_eq!(read("data: a\r\ndata:b\r\n\r\n"), [data("a\nb"), message(18)]);
}

#[test]
fn a_line_feed_after_a_carriage_return_is_no_second_line() {
    assert_eq!(read("data: a\r\n\r\ndata: b\r\n\r\n"), [data("a"), message(10), data("b"), message(21)]);
}

#[test]
fn names_and_ids_belong_to_their_event() {
    assert_eq!(
        read("event: endpoint\nid: 7\ndata: /m\n\ndata: x\n\n"),
        [data("/m"), Seen::Dispatch("endpoint".into(), Some("7".into()), HasData::Yes, 32), data("x"), message(41),]
    );
    assert_eq!(read("event: a\nevent: b\nid: 1\0\ndata\n\n"), [Seen::Dispatch("b".into(), None, HasData::Yes, 31)]);
}

#[test]
fn empty_data_is_data_and_its_absence_is_told() {
    assert_eq!(read("id: p\ndata: \n\n"), [Seen::Dispatch(String::new(), Some("p".into()), HasData::Yes, 14)]);
    assert_eq!(read("event: x\n\n"), [Seen::Dispatch("x".into(), None, HasData::No, 10)]);
    assert_eq!(read("data\ndata\n\n"), [data("\n"), message(11)]);
}

#[test]
fn comments_retry_and_unknown_fields_are_skipped() {
    assert_eq!(read(": keep-alive\nretry: 10\ndataset: no\n data: no\ndata : no\nData: no\ndata:  two\n\n"), [data(" two"), message(76)]);
}

#[test]
fn one_byte_order_mark_is_dropped() {
    assert_eq!(read("\u{FEFF}data: a\n\n"), [data("a"), message(12)]);
    let twice = read("\u{FEFF}\u{FEFF}data: a\n\n");
    assert_eq!(twice, [Seen::Dispatch(String::new(), None, HasData::No, 15)]);
    assert_eq!(read_chunks([b"\xEF\n\n".as_slice()].into_iter()), [Seen::Dispatch(String::new(), None, HasData::No, 3)]);
}

#[test]
fn a_mark_that_only_some_clients_strip_is_stripped_and_where_the_line_behind_it_ends_is_told() {
    let latin = "\u{ef}\u{bb}\u{bf}";
    for mark in ["\u{FEFF}", latin, &format!("\u{FEFF}{latin}")] {
        let stream = format!("{mark}data: a\r\ndata: b\n\ndata: c\n\n");
        let end = mark.len();
        assert_eq!(read(&stream), [data("a\nb"), message(end + 18), data("c"), message(end + 27)], "{mark}");
        for size in 1..=stream.len() {
            let (mut parser, mut base, mut told) = (SseParser::new(), 0, Vec::new());
            for chunk in stream.as_bytes().chunks(size) {
                parser.feed(chunk, &mut |item, after| told.extend((item == Item::MarkedLine).then_some(base + after)));
                base += chunk.len();
            }
            assert_eq!(told, [end + 8], "{mark} {size}");
        }
    }
    // Twice, or in front of another field, there is nothing to tell.
    for other in [
        format!("{latin}{latin}data: a\n\n"),
        format!("{latin}\u{FEFF}data: a\n\n"),
        format!("{latin}event: x\ndata: a\n\n"),
        "data: a\n\n".into(),
    ] {
        SseParser::new().feed(other.as_bytes(), &mut |item, _| assert_ne!(item, Item::MarkedLine, "{other}"));
    }
}

#[test]
fn an_event_cut_off_by_the_end_is_not_dispatched() {
    assert_eq!(read("data: a\n"), [data("a")]);
}

#[test]
fn long_names_are_cut() {
    let long = "x".repeat(MAX_FIELD + 9);
    let seen = read(&format!("event: {long}\nid: {long}\n\n"));
    let Some(Seen::Dispatch(event, id, ..)) = seen.first() else {
        panic!("no event");
    };
    assert_eq!((event.len(), id.as_deref().unwrap().len()), (MAX_FIELD, MAX_FIELD));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_chunking_gives_the_same(
        lines in proptest::collection::vec(
            prop_oneof![
                Just("data: {\"a\":1}"), Just("data:"), Just("data"), Just("event: endpoint"),
                Just("id: 1"), Just(": c"), Just("retry: 1"), Just(""), Just("\u{FEFF}data: x"),
                Just("\u{FEFF}"), Just("eventual: x"),
            ],
            0..20,
        ),
        ends in proptest::collection::vec(prop_oneof![Just("\n"), Just("\r"), Just("\r\n")], 20),
        size in 1..9usize,
    ) {
        let stream: String = lines.iter().zip(&ends).flat_map(|(a, b)| [*a, *b]).collect();
        let whole = read_chunks(std::iter::once(stream.as_bytes()));
        prop_assert_eq!(whole, read_chunks(stream.as_bytes().chunks(size)));
    }
}

#[test]
fn a_reconnection_time_is_told_if_it_is_digits_only() {
    let told = |stream: &str| {
        let mut times = Vec::new();
        SseParser::new().feed(stream.as_bytes(), &mut |item, _| {
            if let Item::Dispatch { retry, .. } = item {
                times.push(retry);
            }
        });
        times
    };
    assert_eq!(told("retry: 1500\n\ndata: x\n\n"), [Some(1500), None]);
    assert_eq!(told("retry: 15s\n\nretry: -1\n\nretry:\n\n"), [None; 3]);
    assert_eq!(told("retry: 99999999999\n\n"), [Some(u32::MAX)]);
    assert_eq!(told("retry: 5\nretry: 7\n\n"), [Some(7)]);
}
