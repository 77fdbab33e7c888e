#![no_main]

use gnomon_fuzz::{choice, chunk_size};
use gnomon_wire::jsonrpc::{ArgumentCapture, Finish, Id, Likeness, Limits, MAX_META_KEYS, MAX_TOOLS, Malformed, Message, Scanner};
use libfuzzer_sys::fuzz_target;

const MAX_CAPTURE: usize = 32;
const MAX_BYTES: usize = 256;
const MAX_LEAVES: usize = 8;

type Outcome = (Vec<Message>, Result<Finish, Malformed>, Likeness);

fn scan(bytes: &[u8], size: usize) -> Outcome {
    let mut scanner = Scanner::new(Limits {
        max_depth: 16,
        max_capture: MAX_CAPTURE,
        arguments: ArgumentCapture::On { max_bytes: MAX_BYTES, max_leaves: MAX_LEAVES },
    });
    let mut messages = Vec::new();
    for chunk in bytes.chunks(size) {
        let _ = scanner.feed(chunk, &mut |message| messages.push(message.clone()));
    }
    let end = scanner.finish(&mut |message| messages.push(message.clone()));
    if let Some(partial) = scanner.partial() {
        is_bounded(partial);
    }
    (messages, end, scanner.likeness())
}

fn is_bounded(message: &Message) {
    let result = &message.result;
    for text in [
        &message.method,
        &message.name,
        &message.uri,
        &message.client_name,
        &message.meta.protocol_version,
        &result.server_name,
        &result.error_message,
    ]
    .into_iter()
    .flatten()
    .chain(&result.tools)
    {
        assert!(text.len() <= MAX_CAPTURE);
    }
    if let Some(Id::Str(id) | Id::Num(id)) = &message.id {
        assert!(id.len() <= MAX_CAPTURE);
    }
    let bytes: usize = message.arguments.iter().map(|(p, v)| p.len() + v.len()).sum();
    assert!(bytes <= MAX_BYTES && message.arguments.len() <= MAX_LEAVES);
    assert!(result.tools.len() <= MAX_TOOLS && message.meta.keys.len() <= MAX_META_KEYS);
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let whole = scan(bytes, bytes.len().max(1));
    assert_eq!(whole, scan(bytes, chunk_size(choice)));
    let mut end = 0;
    for message in &whole.0 {
        is_bounded(message);
        assert!(message.end > end && message.end <= bytes.len() as u64);
        end = message.end;
    }
    if whole.1.is_ok() {
        // What we call JSON is UTF-8 in every string, hence throughout.
        assert!(std::str::from_utf8(bytes).is_ok());
    }
});
