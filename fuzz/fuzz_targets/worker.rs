#![no_main]

use gnomon_codemode::{Malformed, decode};
use gnomon_fuzz::choice;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let longest = usize::from(choice) * 16;
    match decode(bytes, longest) {
        Ok(Some((frame, length))) => {
            assert!(length <= bytes.len() && length <= longest + 4);
            // What follows changes nothing, and without the last byte it is not there yet.
            assert_eq!(decode(&bytes[..length], longest), Ok(Some((frame, length))));
            assert_eq!(decode(&bytes[..length - 1], longest), Ok(None));
        }
        Ok(None) => assert!(bytes.len() < longest + 4),
        Err(Malformed::TooLong) => assert!(bytes.len() >= 4),
        Err(Malformed::NoMessage) => assert_eq!(decode(&bytes[..3], longest), Ok(None)),
    }
});
