#![no_main]

use gnomon_wire::connect::{ConnectOutcome, MAX_HEAD, Request, answer, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = request(bytes);
    match &whole {
        Request::Whole { length, host, port } => {
            assert!(*length <= bytes.len().min(MAX_HEAD) && *port != 0);
            assert!(!host.is_empty() && host.len() < *length && !host.bytes().any(|byte| byte <= b' '));
            // What follows changes nothing, and without the last byte it is not there yet.
            assert_eq!(request(&bytes[..*length]), whole);
            assert_eq!(request(&bytes[..*length - 1]), Request::Partial);
        }
        Request::Partial => assert!(bytes.len() < MAX_HEAD),
        Request::Other => {
            // More bytes do not make a request of what is none.
            let more = [bytes, b"\r\n\r\n"].concat();
            assert_eq!(request(&more), Request::Other);
        }
    }
    if let ConnectOutcome::Refused(status, _) = answer(bytes) {
        assert!((300..600).contains(&status));
    }
});
