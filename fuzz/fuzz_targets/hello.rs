#![no_main]

use gnomon_fuzz::{choice, chunk_size};
use gnomon_wire::hello::{HelloError, HelloParser, HelloStatus};
use libfuzzer_sys::fuzz_target;

fn push(bytes: &[u8], size: usize) -> Result<HelloStatus, HelloError> {
    let mut parser = HelloParser::new();
    let mut status = Ok(HelloStatus::Incomplete);
    for chunk in bytes.chunks(size) {
        let next = parser.push(chunk);
        if status != Ok(HelloStatus::Incomplete) {
            assert_eq!(status, next);
        }
        status = next;
    }
    status
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let whole = push(bytes, bytes.len().max(1));
    assert_eq!(whole, push(bytes, chunk_size(choice)));
    if let Ok(HelloStatus::Complete(hello)) = whole
        && let Some(sni) = hello.sni
    {
        assert!(!sni.is_empty() && sni.len() <= 253);
        assert!(!sni.bytes().any(|b| b.is_ascii_uppercase() || b <= b' '));
    }
});
