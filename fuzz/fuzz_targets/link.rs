#![no_main]

use gnomon_fuzz::choice;
use gnomon_link::{DecodeError, MAX_DESCRIPTORS, MAX_MESSAGE, Message, ToExec, ToGnomon, ToProxy, ToSensor, VERSION, decode, encode};
use libfuzzer_sys::fuzz_target;

fn read<M: Message + PartialEq>(bytes: &[u8]) {
    match decode::<M>(bytes) {
        Ok(message) => {
            // Numbers may be written longer than they need be, so what is written can be shorter than what was read.
            let written = encode(&message).expect("what fits one message fits it again");
            assert!(written.len() <= bytes.len() && written.len() <= MAX_MESSAGE);
            assert!(decode::<M>(&written).as_ref() == Ok(&message));
            assert!(message.descriptors().len() <= MAX_DESCRIPTORS);
        }
        Err(DecodeError::Version { theirs, .. }) => assert_ne!(theirs.major, VERSION.major),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    match choice % 4 {
        0 => read::<ToSensor>(bytes),
        1 => read::<ToProxy>(bytes),
        2 => read::<ToGnomon>(bytes),
        _ => read::<ToExec>(bytes),
    }
});
