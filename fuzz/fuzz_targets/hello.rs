#![no_main]

use gnomon_fuzz::{choice, chunk_size};
use gnomon_wire::hello::{Assembler, Assembly, HelloError, HelloParser, HelloStatus, MAX_CAPTURE, Transport};
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

/// Cuts where the bytes themselves say, so that the fuzzer chooses.
fn assemble(bytes: &[u8], choice: u8) -> Assembly {
    let mut assembler = Assembler::new();
    let mut last = assembler.push(&[]);
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let (chunk, after) = rest.split_at(rest.len().min(usize::from(first ^ choice) + 1));
        rest = after;
        let next = assembler.push(chunk);
        assert!(last == Assembly::Need || last == next);
        last = next;
    }
    last
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let whole = push(bytes, bytes.len().max(1));
    assert_eq!(whole, push(bytes, chunk_size(choice)));
    let assembled = Assembler::new().push(bytes);
    assert_eq!(assembled, assemble(bytes, choice));
    if let Assembly::Done(hello) = &assembled {
        assert_eq!(whole, Ok(HelloStatus::Complete(hello.clone())));
    }
    let Ok(HelloStatus::Complete(hello)) = whole else {
        return;
    };
    assert!(bytes.len() > MAX_CAPTURE || assembled == Assembly::Done(hello.clone()));
    let ja4 = hello.ja4(Transport::Tcp);
    assert!(ja4.len() == 36 && ja4.is_ascii() && hello.ja4_raw(Transport::Tcp).starts_with(&ja4[..10]));
    if let Some(sni) = hello.sni {
        assert!(!sni.is_empty() && sni.len() <= 253);
        assert!(!sni.bytes().any(|b| b.is_ascii_uppercase() || b <= b' '));
    }
});
