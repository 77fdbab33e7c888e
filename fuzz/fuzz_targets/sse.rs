#![no_main]

use gnomon_fuzz::{choice, chunk_size};
use gnomon_wire::sse::{HasData, Item, MAX_FIELD, SseParser};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Default, PartialEq)]
struct Event {
    data: Vec<u8>,
    name: String,
    id: Option<String>,
    data_seen: Option<HasData>,
    end: usize,
}

fn read(bytes: &[u8], size: usize) -> Vec<Event> {
    let mut parser = SseParser::new();
    let mut events = vec![Event::default()];
    let mut base = 0;
    for chunk in bytes.chunks(size) {
        let mut last = 0;
        parser.feed(chunk, &mut |item, after| {
            assert!(after >= last && after <= chunk.len());
            last = after;
            let Some(event) = events.last_mut() else {
                return;
            };
            match item {
                Item::Data(data) => event.data.extend_from_slice(data),
                Item::MarkedLine => assert!(event.data_seen.is_none()),
                Item::Dispatch { event: name, id, has_data, .. } => {
                    // Invalid UTF-8 reads as U+FFFD, which is longer than the byte it stands for.
                    assert!(name.len() <= 3 * MAX_FIELD);
                    event.name = name.to_owned();
                    event.id = id.map(str::to_owned);
                    event.data_seen = Some(has_data);
                    event.end = base + after;
                    events.push(Event::default());
                }
            }
        });
        base += chunk.len();
    }
    events
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let whole = read(bytes, bytes.len().max(1));
    assert_eq!(whole, read(bytes, chunk_size(choice)));
});
