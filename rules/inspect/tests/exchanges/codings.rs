//! Bodies whose headers name more codings than they have: whichever of them a receiver undoes, what it then reads was judged.

use gnomon_engine::{Origin, RuleSet, Source};
use gnomon_inspect::{Authority, Bounds, Connection, Exchange, Gate, Head, Hello, Inspector, ResponsePlan, Sighting, Surroundings};
use gnomon_observe::{Field, Observation};
use http::{HeaderMap, HeaderValue, Method, Version, header};
use std::sync::Arc;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"boom"}}"#;

fn under(rule: &str, action: &str) -> Arc<Inspector> {
    let text = format!(
        "title: T\nid: 0d9c2a51-2f57-4f0e-8d0b-5d0f8c1c7e22\nlogsource: {{ product: mcp, category: mcp_traffic }}\n\
         detection:\n    seen: {{ {rule} }}\n    condition: seen\ngnomon: {{ response: {{ action: {action} }} }}\n"
    );
    let rules = RuleSet::compile(&[Source { name: "r.yml".into(), text, origin: Origin::Admin }]).unwrap();
    Arc::new(Inspector::new(Arc::new(rules), Surroundings::default(), Bounds::default()))
}

fn coded_in(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    for line in lines {
        headers.append(header::CONTENT_ENCODING, line.parse().unwrap());
    }
    headers
}

/// A POST to a path that says nothing of MCP.
fn post(inspector: &Arc<Inspector>, lines: &[&str]) -> Exchange {
    let (mut connection, _) = Connection::open(inspector, Observation::new());
    let _ = connection.hello("tools.example", 443, &Hello::default());
    let (headers, method) = (coded_in(lines), &Method::POST);
    let head =
        Head { method, path: "/api", query: None, version: Version::HTTP_11, headers: &headers, alpn: None, authority: Authority::Agrees };
    Exchange::begin(&connection, &head)
}

fn refuses(exchange: &mut Exchange, body: &[u8], piece: usize) -> bool {
    let refused = body.chunks(piece).any(|chunk| matches!(exchange.request_bytes(chunk), Gate::Refuse(_)));
    matches!(exchange.request_end(), Gate::Refuse(_)) || refused
}

fn brotli(plain: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    brotli::BrotliCompress(&mut &*plain, &mut coded, &brotli::enc::BrotliEncoderParams::default()).unwrap();
    coded
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::encode_all(plain, 3).unwrap()
}

/// Raw DEFLATE (RFC 1951) of ASCII: one block of literals in the fixed code.
fn deflate(plain: &[u8]) -> Vec<u8> {
    let literal = |&byte: &u8| (0..8).rev().map(move |bit| (0x30 + byte) >> bit & 1);
    let bits: Vec<u8> = [1, 1, 0].into_iter().chain(plain.iter().flat_map(literal)).chain([0; 7]).collect();
    bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)).collect()
}

/// DEFLATE of any bytes: one stored block.
fn stored(plain: &[u8]) -> Vec<u8> {
    let length = u16::try_from(plain.len()).unwrap();
    [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), plain].concat()
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    gzip_of(plain, &stored(plain))
}

fn gzip_of(plain: &[u8], blocks: &[u8]) -> Vec<u8> {
    let crc = plain.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 })
    });
    let length = u32::try_from(plain.len()).unwrap();
    [&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3][..], blocks, &(!crc).to_le_bytes(), &length.to_le_bytes()].concat()
}

/// zlib with a window of 2^`bits`.
fn zlib(bits: u8, plain: &[u8]) -> Vec<u8> {
    zlib_of(bits, plain, &stored(plain))
}

fn zlib_of(bits: u8, plain: &[u8], blocks: &[u8]) -> Vec<u8> {
    let first = (bits - 8) << 4 | 8;
    let check = 31 - u16::from_be_bytes([first, 0]) % 31;
    let (a, b) = plain.iter().fold((1, 0), |(a, b), byte| ((a + u32::from(*byte)) % 65521, (b + a + u32::from(*byte)) % 65521));
    [&[first, u8::try_from(check).unwrap()][..], blocks, &(b << 16 | a).to_be_bytes()].concat()
}

type Encode<'e> = &'e dyn Fn(&[u8]) -> Vec<u8>;

/// The lines of a request's codings, of which none says what its body is.
const WRONG: [&[&str]; 7] = [&[], &["identity"], &["br"], &["foo"], &["gzip"], &["deflate"], &["zstd"]];

#[test]
fn a_call_in_gzip_or_in_zlib_of_any_window_is_that_call_under_whatever_name() {
    let inspector = under("gen_ai.tool.name: boom", "block");
    let bodies = (8..=15).map(|bits| zlib(bits, CALL.as_bytes())).chain([gzip(CALL.as_bytes())]);
    for body in bodies {
        for lines in WRONG {
            for piece in [usize::MAX, 1] {
                assert!(refuses(&mut post(&inspector, lines), &body, piece), "{:x?} under {lines:?}", &body[..2]);
            }
        }
    }
}

#[test]
fn a_call_in_two_layers_of_gzip_or_zlib_is_that_call_under_whatever_name() {
    let inspector = under("gen_ai.tool.name: boom", "block");
    let small = |plain: &[u8]| zlib(9, plain);
    let codings: [(&str, Encode<'_>); 3] = [("gzip", &gzip), ("deflate", &small), ("zstd", &zstd)];
    // Without the words of a message in the coded bytes, which are those of one that is broken.
    let dense = |name: &str, plain: &[u8]| {
        if name == "gzip" { gzip_of(plain, &deflate(plain)) } else { zlib_of(9, plain, &deflate(plain)) }
    };
    let mut plain = post(&inspector, &[]);
    assert!(refuses(&mut plain, CALL.as_bytes(), usize::MAX));
    plain.flush();
    let once = plain.reports().count();
    let padded = CALL.replacen('{', &format!("{{{}", " ".repeat(40_000)), 1);
    for call in [CALL, padded.as_str()] {
        for (outer_name, outer) in codings {
            for (inner_name, inner) in &codings[..2] {
                let body = outer(&inner(call.as_bytes()));
                let both = format!("{inner_name}, {outer_name}");
                let turned = format!("{outer_name}, {inner_name}");
                for lines in [&[outer_name][..], &[*inner_name], &[], &["br"], &["foo"], &[&both], &[&turned], &[outer_name, outer_name]] {
                    // Zstandard is not guessed.
                    if outer_name == "zstd" && !lines.join(",").contains("zstd") {
                        continue;
                    }
                    for piece in [usize::MAX, 1000, if call == CALL { 1 } else { 4096 }] {
                        let mut exchange = post(&inspector, lines);
                        assert!(refuses(&mut exchange, &body, piece), "{inner_name} in {outer_name} under {lines:?}, {piece}");
                        exchange.flush();
                        let told = exchange.reports().count();
                        // What is compressed may keep words of the message, and is a broken one besides.
                        assert!((once..=once + 1).contains(&told), "{told}: {inner_name} in {outer_name} under {lines:?}");
                    }
                    let harmless = outer(&dense(inner_name, call.replace("boom", "fine").as_bytes()));
                    assert!(!refuses(&mut post(&inspector, lines), &harmless, usize::MAX), "{inner_name} in {outer_name} under {lines:?}");
                }
            }
        }
    }
}

#[test]
fn an_answer_in_layers_that_its_headers_do_not_tell_is_judged_by_what_it_says() {
    let answer = br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"forbidden"}]}}"#;
    for (lines, body) in [
        (&["gzip"][..], gzip(&gzip(answer))),
        (&[], zlib(10, answer)),
        (&["br"], zlib(12, &gzip(answer))),
        (&["gzip"], gzip(&zlib(9, answer))),
    ] {
        let mut exchange = post(&under("gen_ai.tool.call.result|contains: forbidden", "block"), &[]);
        assert!(!refuses(&mut exchange, CALL.as_bytes(), usize::MAX));
        let plan = exchange.response_head(200, &coded_in(lines));
        assert!(matches!(plan, ResponsePlan::HoldBody), "{lines:?} {plan:?}");
        assert!(matches!(exchange.response_bytes(&body), Gate::Refuse(_)), "{lines:?}");
    }
}

#[test]
fn a_bomb_within_a_bomb_takes_few_steps_at_a_time_and_little_memory() {
    // A blank, and 100,000 times 258 more, in the fixed code: of 160 KB, which are equal themselves.
    let blank = [1, 1, 0].into_iter().chain([0, 1, 0, 1, 0, 0, 0, 0]);
    let more = std::iter::repeat_n([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0], 100_000).flatten();
    let bits: Vec<u8> = blank.chain(more).collect();
    let flat: Vec<u8> = bits.chunks(8).map(|bits| bits.iter().rev().fold(0, |byte, bit| byte << 1 | bit)).collect();
    let body = zstd(&[&[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3][..], &flat].concat());
    assert!(body.len() < 1000, "{}", body.len());
    let mut exchange = post(&under("gen_ai.tool.name: boom", "block"), &["zstd"]);
    let (mut gate, mut steps) = (exchange.request_some(&body), 1);
    while gate.is_none() {
        assert!(exchange.request_decoders() < 2 << 20, "{}", exchange.request_decoders());
        (gate, steps) = (exchange.request_some(&[]), steps + 1);
    }
    assert!(steps > 100, "{steps}");
    assert!(exchange.request_decoded() > 25_000_000, "{}", exchange.request_decoded());
}

#[test]
fn a_call_in_any_one_of_the_codings_that_several_lines_name_is_that_call() {
    let inspector = under("gen_ai.tool.name: boom", "block");
    let bodies = [("deflate", deflate(CALL.as_bytes())), ("br", brotli(CALL.as_bytes())), ("zstd", zstd(CALL.as_bytes()))];
    for (name, body) in &bodies {
        for other in ["br", "deflate", "gzip", "x-gzip", "zstd", "foo", "identity", "deflate, gzip", "foo;q=1, br, br, gzip"] {
            let joined = [format!("{other}, {name}"), format!("{name},{other}")];
            for lines in [&[other, name][..], &[name, other], &[&joined[0]], &[&joined[1]]] {
                for piece in [usize::MAX, 1] {
                    let mut exchange = post(&inspector, lines);
                    assert!(refuses(&mut exchange, body, piece), "{name} under {lines:?}");
                    exchange.flush();
                    let reports: Vec<_> = exchange.reports().collect();
                    let told = |report: &Sighting| report.action.interferes() && report.seen.text(Field::ToolName) == Some("boom");
                    assert!(matches!(&reports[..], [report] if told(report)), "{name} under {lines:?}: {reports:?}");
                }
            }
        }
    }
}

#[test]
fn a_call_in_two_of_three_codings_is_that_call_and_other_bodies_of_several_pass() {
    let inspector = under("gen_ai.tool.name: boom", "block");
    for lines in [&["br, zstd"][..], &["br", "zstd"], &["zstd", "br"], &["gzip", "br, zstd"], &["br, zstd", "foo"], &["br, foo", "zstd"]] {
        let coded = zstd(&brotli(CALL.as_bytes()));
        for piece in [usize::MAX, 1] {
            assert!(refuses(&mut post(&inspector, lines), &coded, piece), "{lines:?}");
        }
        let harmless = CALL.replace("boom", "fine");
        assert!(!refuses(&mut post(&inspector, lines), &zstd(&brotli(harmless.as_bytes())), usize::MAX), "{lines:?}");
        let notes = zstd(&brotli(&b"{\"time\":1,\"text\":\"notes of a meeting\"}".repeat(100)));
        assert!(!refuses(&mut post(&inspector, lines), &notes, 9), "{lines:?}");
    }
}

#[test]
fn a_bomb_in_several_readings_ends_at_the_bounds_of_one_and_takes_few_steps_at_a_time() {
    let inspector = under("gen_ai.tool.name: boom", "block");
    let bomb = zstd(&vec![b' '; 12 << 20]);
    let mut exchange = post(&inspector, &["zstd", "zstd", "br, gzip", "zstd"]);
    let (mut gate, mut steps) = (exchange.request_some(&bomb), 1);
    while gate.is_none() {
        assert!(exchange.request_decoders() < 64 << 20, "{}", exchange.request_decoders());
        (gate, steps) = (exchange.request_some(&[]), steps + 1);
    }
    assert!(steps >= 12, "{steps}");
}

#[test]
fn an_answer_is_judged_in_whichever_of_its_codings_a_client_reads_it() {
    let answer = |text: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#);
    for (lines, coded) in [
        (["br", "br"], brotli as fn(&[u8]) -> Vec<u8>),
        (["zstd", "br"], brotli),
        (["br", "zstd"], brotli),
        (["deflate", "deflate"], deflate),
        (["gzip", "deflate"], deflate),
    ] {
        for (action, kind) in [("block", "json"), ("log", "json"), ("log", "events")] {
            let inspector = under("gen_ai.tool.call.result|contains: forbidden", action);
            let mut exchange = post(&inspector, &[]);
            assert!(!refuses(&mut exchange, CALL.as_bytes(), usize::MAX));
            let (mut headers, mut body) = (coded_in(&lines), answer("forbidden"));
            if kind == "events" {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
                body = format!("data: {body}\n\n");
            }
            let plan = exchange.response_head(200, &headers);
            let gate = exchange.response_bytes(&coded(body.as_bytes()));
            assert_eq!(matches!(gate, Gate::Refuse(_)), action == "block", "{lines:?} {kind}");
            assert!(action == "block" || matches!(plan, ResponsePlan::Stream));
            let _ = exchange.response_end(&mut Vec::new());
            let reports: Vec<_> = exchange.reports().collect();
            let [report] = &reports[..] else { panic!("{lines:?} {action}: {reports:?}") };
            assert!(report.rule.is_some(), "{lines:?} {action} {kind}");
            assert_eq!(report.seen.text(Field::ToolName), Some("boom"));
        }
    }
}
