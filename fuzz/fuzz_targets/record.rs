#![no_main]

use gnomon_fuzz::choice;
use gnomon_sensor::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    match Record::parse(bytes) {
        Ok(record) => {
            let said = usize::from(u16::from_ne_bytes([bytes[2], bytes[3]]));
            assert_eq!(Record::parse(&bytes[..said]), Ok(record.clone()), "nothing beyond the length that it says is read");
            // The kernel reserves hellos in a few sizes; what lies behind one is whatever was there before.
            let followed = [bytes, &[choice; 64]].concat();
            assert_eq!(Record::parse(&followed), Ok(record.clone()));
            if let Record::Hello(hello) = &record {
                assert!(hello.bytes.len() < said);
            }
            assert!(!format!("{record:?}").is_empty());
        }
        Err(malformed) => assert!(!malformed.to_string().is_empty()),
    }
});
