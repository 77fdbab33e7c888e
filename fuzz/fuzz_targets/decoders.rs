#![no_main]

use gnomon_fuzz::{choice, chunk_size};
use gnomon_wire::coding::{Coding, DecodeError, DecodeLimits, Decoder};
use libfuzzer_sys::fuzz_target;

const MAX_OUTPUT: u64 = 1 << 18;
const CODINGS: [&[Coding]; 6] = [
    &[Coding::Gzip],
    &[Coding::Deflate],
    &[Coding::Brotli],
    &[Coding::Zstd],
    &[Coding::Zstd, Coding::Gzip],
    &[Coding::Gzip, Coding::Deflate],
];

fn decode(codings: &[Coding], bytes: &[u8], size: usize) -> (Vec<u8>, Result<(), DecodeError>) {
    // The ratio is judged against the bytes fed so far, so it alone depends on the chunks.
    let mut decoder = Decoder::new(codings, DecodeLimits { max_ratio: u32::MAX, ratio_floor: 0, max_output: MAX_OUTPUT });
    let mut plain = Vec::new();
    for chunk in bytes.chunks(size) {
        if let Err(error) = decoder.feed(chunk, &mut |bytes| plain.extend_from_slice(bytes)) {
            return (plain, Err(error));
        }
    }
    let end = decoder.finish(&mut |bytes| plain.extend_from_slice(bytes));
    (plain, end)
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let codings = CODINGS[usize::from(choice >> 4) % CODINGS.len()];
    let (plain, end) = decode(codings, bytes, bytes.len().max(1));
    let (cut_plain, cut_end) = decode(codings, bytes, chunk_size(choice));
    assert!(plain.len() as u64 <= MAX_OUTPUT);
    let faults = |end: &Result<(), DecodeError>| matches!(end, Err(DecodeError::Corrupt | DecodeError::TrailingData));
    if codings.len() > 1 && faults(&end) && faults(&cut_end) {
        // Both codings of a stack are at fault: which is told first depends on where the chunks end.
    } else {
        assert_eq!(end, cut_end);
    }
    match end {
        // A whole body and a prefix of one give the same however they were cut: decoders are eager.
        Ok(()) | Err(DecodeError::Truncated | DecodeError::OutputExceeded) => {
            assert!(plain == cut_plain);
        }
        // A decoder that meets a fault may have dropped what came in the same chunk.
        Err(_) => assert!(cut_plain.starts_with(&plain) || plain.starts_with(&cut_plain)),
    }
});
