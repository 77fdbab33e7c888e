use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;

use super::*;

const CALL: &[u8] = br#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_repo","arguments":{"repo":"acme/x"}}}"#;

const UNLIMITED: DecodeLimits = DecodeLimits { max_ratio: u32::MAX, ratio_floor: 0, max_output: u64::MAX };

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zlib(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn raw_deflate(plain: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Lines of the fixture with this label, decoded from hexadecimal.
fn brotli(label: &str) -> Vec<Vec<u8>> {
    include_str!("fixtures/brotli.txt")
        .lines()
        .filter_map(|line| line.strip_prefix(label)?.strip_prefix(' '))
        .map(|hex| {
            let digit = |b: u8| char::from(b).to_digit(16).unwrap() as u8;
            hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
        })
        .collect()
}

fn decode(codings: &[Coding], chunks: &mut dyn Iterator<Item = &[u8]>, limits: DecodeLimits) -> (Vec<u8>, Result<(), DecodeError>) {
    let mut decoder = Decoder::new(codings, limits);
    let mut plain = Vec::new();
    for chunk in chunks {
        if let Err(error) = decoder.feed(chunk, &mut |bytes| plain.extend_from_slice(bytes)) {
            return (plain, Err(error));
        }
    }
    let end = decoder.finish(&mut |bytes| plain.extend_from_slice(bytes));
    (plain, end)
}

/// Feeds byte by byte; gives how much plaintext was out after each byte.
fn lag(coding: Coding, coded: &[u8]) -> Vec<usize> {
    let mut decoder = Decoder::new(&[coding], UNLIMITED);
    let mut plain = 0;
    coded
        .chunks(1)
        .map(|byte| {
            decoder.feed(byte, &mut |bytes| plain += bytes.len()).unwrap();
            plain
        })
        .collect()
}

fn all_coded(plain: &[u8]) -> Vec<(Coding, Vec<u8>)> {
    vec![(Coding::Gzip, gzip(plain)), (Coding::Deflate, zlib(plain)), (Coding::Deflate, raw_deflate(plain)), (Coding::Zstd, zstd(plain))]
}

fn coded_calls() -> Vec<(Coding, Vec<u8>)> {
    let mut coded = all_coded(CALL);
    coded.push((Coding::Brotli, brotli("whole").pop().unwrap()));
    coded
}

#[test]
fn every_coding_decodes_whole_and_byte_by_byte() {
    for (coding, coded) in coded_calls() {
        for size in [1, 3, coded.len()] {
            let (plain, end) = decode(&[coding], &mut coded.chunks(size), UNLIMITED);
            assert_eq!(end, Ok(()), "{coding:?}");
            assert_eq!(plain, CALL, "{coding:?}");
        }
    }
}

#[test]
fn all_plaintext_is_out_before_the_trailer() {
    for (coding, coded, trailer) in [
        // CRC and length; Adler; the end-of-block code alone fits into two bytes.
        (Coding::Gzip, gzip(CALL), 8),
        (Coding::Deflate, zlib(CALL), 4),
        (Coding::Deflate, raw_deflate(CALL), 0),
        (Coding::Zstd, zstd(CALL), 4),
        (Coding::Brotli, brotli("whole").pop().unwrap(), 0),
    ] {
        let lag = lag(coding, &coded);
        assert_eq!(lag[coded.len() - trailer - 1], CALL.len(), "{coding:?}");
    }
}

#[test]
fn a_flush_by_the_sender_brings_everything_before_it() {
    let pieces = brotli("piece");
    let mut decoder = Decoder::new(&[Coding::Brotli], UNLIMITED);
    for (id, piece) in pieces.iter().enumerate() {
        let mut plain = Vec::new();
        for byte in piece.chunks(1) {
            decoder.feed(byte, &mut |bytes| plain.extend_from_slice(bytes)).unwrap();
        }
        let sent = String::from_utf8(CALL.to_vec()).unwrap();
        let sent = sent.replace("\"id\":1", &format!("\"id\":{id}"));
        assert_eq!(String::from_utf8(plain).unwrap(), sent);
    }
    let tail = brotli("tail").pop().unwrap();
    decoder.feed(&tail, &mut |_| panic!("nothing is left")).unwrap();
    assert_eq!(decoder.finish(&mut |_| ()), Ok(()));

    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut decoder = Decoder::new(&[Coding::Gzip], UNLIMITED);
    for _ in 0..5 {
        encoder.write_all(CALL).unwrap();
        encoder.flush().unwrap();
        let mut plain = Vec::new();
        let coded = std::mem::take(encoder.get_mut());
        decoder.feed(&coded, &mut |bytes| plain.extend_from_slice(bytes)).unwrap();
        assert_eq!(plain, CALL);
    }
}

#[test]
fn incompressible_bytes_are_out_as_they_come() {
    // Stored blocks in deflate, raw blocks in zstd.
    let mut seed = 1_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    })
    .take(3000)
    .collect();
    for (coding, coded) in all_coded(&noise) {
        for (index, out) in lag(coding, &coded).into_iter().enumerate() {
            // What the formats put before the first plaintext byte is at most 20 bytes here.
            assert!(out + 20 > index.min(noise.len()), "{coding:?} after {index}: {out}");
        }
    }
}

#[test]
fn several_gzip_members_are_one_body() {
    let coded = [gzip(&CALL[..40]), gzip(b""), gzip(&CALL[40..])].concat();
    for size in [1, coded.len()] {
        let (plain, end) = decode(&[Coding::Gzip], &mut coded.chunks(size), UNLIMITED);
        assert_eq!((plain.as_slice(), end), (CALL, Ok(())));
    }
    let many = gzip(b"").repeat(MAX_MEMBERS as usize + 1);
    let end = decode(&[Coding::Gzip], &mut std::iter::once(many.as_slice()), UNLIMITED).1;
    assert_eq!(end, Err(DecodeError::MembersExceeded));
}

#[test]
fn data_after_the_end_is_an_error() {
    for (coding, mut coded) in coded_calls() {
        coded.push(b'x');
        for size in [1, coded.len()] {
            let (plain, end) = decode(&[coding], &mut coded.chunks(size), UNLIMITED);
            assert_eq!(end, Err(DecodeError::TrailingData), "{coding:?}");
            assert_eq!(plain, CALL);
        }
    }
}

#[test]
fn a_body_that_breaks_off_is_truncated_and_an_empty_one_is_complete() {
    for (coding, coded) in coded_calls() {
        for length in 1..coded.len() {
            let end = decode(&[coding], &mut std::iter::once(&coded[..length]), UNLIMITED).1;
            assert_eq!(end, Err(DecodeError::Truncated), "{coding:?} {length}");
        }
        assert_eq!(decode(&[coding], &mut std::iter::empty(), UNLIMITED).1, Ok(()));
    }
}

#[test]
fn corrupt_bytes_are_an_error() {
    for coding in [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd] {
        let end = decode(&[coding], &mut std::iter::once(&[0xFF; 64][..]), UNLIMITED).1;
        assert!(end.is_err(), "{coding:?}");
    }
    let mut wrong_checksum = gzip(CALL);
    let at = wrong_checksum.len() - 8;
    wrong_checksum[at] ^= 1;
    let (plain, end) = decode(&[Coding::Gzip], &mut wrong_checksum.chunks(1), UNLIMITED);
    assert_eq!((plain.as_slice(), end), (CALL, Err(DecodeError::Corrupt)));
}

#[test]
fn bombs_end_at_the_limits() {
    let zeros = vec![0; 1 << 20];
    let limits = DecodeLimits { max_ratio: 100, ratio_floor: 64 << 10, max_output: 10 << 20 };
    for (coding, coded) in all_coded(&zeros) {
        let (plain, end) = decode(&[coding], &mut std::iter::once(coded.as_slice()), limits);
        assert_eq!(end, Err(DecodeError::RatioExceeded), "{coding:?}");
        assert!(plain.len() < 256 << 10, "{coding:?} made {}", plain.len());
        let few = DecodeLimits { max_output: 1000, ..UNLIMITED };
        let (plain, end) = decode(&[coding], &mut coded.chunks(7), few);
        assert_eq!((plain.len(), end), (1000, Err(DecodeError::OutputExceeded)));
    }
    // Each coding alone is within the ratio, both together are not.
    let stacked = gzip(&gzip(&zeros));
    let codings = [Coding::Gzip, Coding::Gzip];
    let end = decode(&codings, &mut std::iter::once(stacked.as_slice()), limits).1;
    assert_eq!(end, Err(DecodeError::RatioExceeded));
}

#[test]
fn equal_rows_of_many_megabytes_decode_and_bombs_end() {
    let rows = br#"{"name":"requests","value":1,"host":"web"},"#.repeat(400_000);
    let zeros = vec![0; 80 << 20];
    let limits = DecodeLimits::default();
    for (coding, coded) in all_coded(&rows).into_iter().chain([(Coding::Gzip, gzip(&zeros)), (Coding::Deflate, zlib(&zeros))]) {
        let mut made = 0;
        let mut decoder = Decoder::new(&[coding], limits);
        decoder.feed(&coded, &mut |bytes| made += bytes.len()).unwrap();
        assert!(made == rows.len() || made == zeros.len(), "{coding:?}: {made}");
    }
    let (mut made, nothing) = (0, zstd(&zeros));
    let end = Decoder::new(&[Coding::Zstd], limits).feed(&nothing, &mut |bytes| made += bytes.len());
    assert_eq!(end, Err(DecodeError::RatioExceeded));
    assert!(made < 65 << 20, "{made}");
}

#[test]
fn what_a_few_bytes_make_comes_in_steps_that_are_bounded() {
    let zeros = vec![0; 40 << 20];
    for (codings, coded) in [
        (vec![Coding::Zstd], zstd(&zeros)),
        (vec![Coding::Gzip], gzip(&zeros)),
        (vec![Coding::Gzip, Coding::Gzip], gzip(&gzip(&zeros))),
        (vec![Coding::Zstd, Coding::Gzip], zstd(&gzip(&zeros))),
    ] {
        let mut decoder = Decoder::new(&codings, UNLIMITED);
        let (mut input, mut all, mut steps) = (&coded[..], 0, 0);
        loop {
            let mut made = 0;
            let pace = decoder.feed_some(&mut input, &mut |bytes| made += bytes.len()).unwrap();
            assert!(made <= Decoder::STEP + (16 << 10), "{codings:?}: {made}");
            (all, steps) = (all + made, steps + 1);
            if pace == Pace::Through {
                break;
            }
        }
        assert_eq!((all, input.len(), decoder.finish(&mut |_| ())), (zeros.len(), 0, Ok(())), "{codings:?}");
        assert!(steps >= 40, "{codings:?}: {steps}");
    }
}

#[test]
fn short_bodies_may_have_any_ratio() {
    let coded = zstd(&vec![b' '; 15 << 20]);
    let limits = DecodeLimits::default();
    let end = decode(&[Coding::Zstd], &mut std::iter::once(coded.as_slice()), limits).1;
    assert_eq!(end, Ok(()));
}

#[test]
fn stacked_codings_are_undone_in_reverse() {
    let coded = zstd(&gzip(CALL));
    let codings = parse_content_encoding(["gzip, zstd"].into_iter()).unwrap();
    assert_eq!(codings, [Coding::Zstd, Coding::Gzip]);
    for size in [1, coded.len()] {
        let (plain, end) = decode(&codings, &mut coded.chunks(size), UNLIMITED);
        assert_eq!((plain.as_slice(), end), (CALL, Ok(())));
    }
}

#[test]
fn content_encoding_is_read_as_a_list() {
    let parse = |values: &[&str]| parse_content_encoding(values.iter().copied());
    assert_eq!(parse(&[]), Ok(vec![]));
    assert_eq!(parse(&["identity", ""]), Ok(vec![]));
    assert_eq!(parse(&["X-GZip"]), Ok(vec![Coding::Gzip]));
    assert_eq!(parse(&["br", "deflate"]), Ok(vec![Coding::Deflate, Coding::Brotli]));
    assert_eq!(parse(&["snappy"]), Err(Unsupported::Coding("snappy".into())));
    assert_eq!(parse(&["gzip, gzip, gzip"]), Err(Unsupported::Stacked));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Also the eagerness: what is out after a prefix does not depend on how the prefix was cut.
    #[test]
    fn any_chunking_gives_the_same(
        plain in "[a-c]{0,300}|.{0,200}",
        size in 1..20usize,
        cut in any::<prop::sample::Index>(),
    ) {
        for (coding, coded) in all_coded(plain.as_bytes()) {
            let (decoded, end) = decode(&[coding], &mut coded.chunks(size), UNLIMITED);
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(&decoded, plain.as_bytes());
            let prefix = &coded[..cut.index(coded.len() + 1)];
            let whole = decode(&[coding], &mut std::iter::once(prefix), UNLIMITED).0;
            let bytes = decode(&[coding], &mut prefix.chunks(1), UNLIMITED).0;
            prop_assert_eq!(whole, bytes);
        }
    }
}

#[test]
fn a_zstd_frame_that_lies_about_its_size_is_the_same_whole_and_in_pieces() {
    // One empty last block in a frame that promises 107 bytes.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x6b, 0x01, 0x00, 0x00];
    let end = |size: usize| {
        let mut decoder = Decoder::new(&[Coding::Zstd], DecodeLimits::default());
        frame.chunks(size).try_for_each(|chunk| decoder.feed(chunk, &mut |_| {})).and_then(|()| decoder.finish(&mut |_| {}))
    };
    assert_eq!(end(frame.len()), end(1));
}

#[test]
fn a_large_window_is_told_of_before_it_is_allocated_and_counts_as_long_as_it_is() {
    let mut plain = vec![b'a'; 24 << 20];
    plain[..CALL.len()].copy_from_slice(CALL);
    let mut coded = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 5, lgwin: 24, ..Default::default() };
    brotli::BrotliCompress(&mut plain.as_slice(), &mut coded, &params).unwrap();
    let mut decoder = Decoder::new(&[Coding::Brotli], UNLIMITED);
    let (mut input, mut made) = (coded.as_slice(), 0);
    assert_eq!(decoder.feed_some(&mut input, &mut |bytes| made += bytes.len()), Ok(Pace::Behind));
    assert_eq!((made, input.len(), decoder.memory()), (0, coded.len() - 1, 16 << 20));
    assert_eq!(decoder.feed_some(&mut input, &mut |bytes| made += bytes.len()), Ok(Pace::Behind));
    assert!(made > 0 && decoder.memory() >= 16 << 20, "{made}, {}", decoder.memory());

    // A small body has a small part of the window that it announces.
    let mut coded = Vec::new();
    let params = brotli::enc::BrotliEncoderParams { quality: 5, lgwin: 22, ..Default::default() };
    brotli::BrotliCompress(&mut &*CALL, &mut coded, &params).unwrap();
    let mut decoder = Decoder::new(&[Coding::Brotli], UNLIMITED);
    let (mut input, mut out) = (coded.as_slice(), Vec::new());
    while decoder.feed_some(&mut input, &mut |bytes| out.extend_from_slice(bytes)).unwrap() == Pace::Behind {}
    assert!(out == CALL && decoder.memory() < 1 << 20, "{}", decoder.memory());
}
