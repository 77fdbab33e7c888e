#![no_main]

use gnomon_capture::{Bounds, Captured, Reassembly, exchanges, read};
use gnomon_fuzz::choice;
use libfuzzer_sys::fuzz_target;

/// Segments as the bytes themselves say: two of place, one of length, then the payload.
fn segments(mut bytes: &[u8]) {
    const BOUND: usize = 4096;
    let mut order = Reassembly::new(BOUND);
    let mut out = Vec::new();
    let mut sent = 0;
    while let [high, low, length, rest @ ..] = bytes {
        let (payload, after) = rest.split_at(rest.len().min(usize::from(*length)));
        let before = out.len();
        order.segment(u32::from_be_bytes([0xff, 0xff, *high, *low]), payload, &mut out);
        sent += payload.len();
        assert!(order.waiting() <= BOUND && out.len() >= before && out.len() <= sent);
        bytes = after;
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    match choice % 3 {
        0 => segments(bytes),
        1 => {
            let (requests, responses) = bytes.split_at(bytes.len() / 2);
            let parsed = exchanges(requests, responses);
            let bodies: usize = parsed.exchanges.iter().map(|(request, _)| request.body.len()).sum();
            assert!(bodies <= requests.len());
        }
        _ => {
            let bounds = Bounds { connections: 8, direction: 4096, total: 16_384 };
            let (mut found, mut bytes_out) = (0_u64, 0);
            let (totals, _) = read(bytes, bounds, &mut |one| {
                found += 1;
                if let Captured::Exchange { request, .. } = one {
                    bytes_out += request.body.len();
                }
            });
            assert!(bytes_out <= bytes.len() && totals.tls <= totals.connections);
            assert!(found == 0 || totals.connections > 0);
        }
    }
});
