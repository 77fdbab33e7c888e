use super::*;

mod properties;
mod texts;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"delete_repo","arguments":{"repo":"acme/x"}}}"#;

/// Everything a scan gives: messages, end, likeness.
type Outcome = (Vec<Message>, Result<Finish, Malformed>, Likeness);

fn scan_with(limits: Limits, chunks: &mut dyn Iterator<Item = &[u8]>) -> Outcome {
    let mut scanner = Scanner::new(limits);
    let mut messages = Vec::new();
    for chunk in chunks {
        // The error stays, and comes again from finish.
        let _ = scanner.feed(chunk, &mut |message| messages.push(message.clone()));
    }
    let end = scanner.finish(&mut |message| messages.push(message.clone()));
    (messages, end, scanner.likeness())
}

fn capturing() -> Limits {
    Limits { arguments: ArgumentCapture::On { max_bytes: 4096, max_leaves: 64 }, ..Limits::default() }
}

fn scan(body: impl AsRef<[u8]>) -> Outcome {
    let body = body.as_ref();
    let whole = scan_with(capturing(), &mut std::iter::once(body));
    for size in [1, 2, 7] {
        assert_eq!(whole, scan_with(capturing(), &mut body.chunks(size)), "in chunks of {size}: {}", String::from_utf8_lossy(body));
    }
    whole
}

fn one(body: impl AsRef<[u8]>) -> Message {
    let (mut messages, end, _) = scan(body.as_ref());
    let shape = Shape::Single;
    assert_eq!(end, Ok(Finish::Complete { shape }));
    assert_eq!(messages.len(), 1);
    messages.pop().unwrap()
}

/// A body that is JSON and holds no message.
fn none(body: impl AsRef<[u8]>) {
    let (messages, end, likeness) = scan(body.as_ref());
    assert!(end.is_ok() && messages.is_empty() && likeness == Likeness::None, "{messages:?}");
}

fn malformed(body: impl AsRef<[u8]>) -> (Malformed, Likeness) {
    let (_, end, likeness) = scan(body);
    (end.unwrap_err(), likeness)
}

#[test]
fn a_tool_call_gives_its_facts_and_its_end() {
    let message = one(format!("  {CALL}\n"));
    assert_eq!(message.kind, MessageKind::Request);
    assert_eq!(message.jsonrpc, Version::V2);
    assert_eq!(message.method.as_deref(), Some("tools/call"));
    assert_eq!(message.id, Some(Id::Num("1".into())));
    assert_eq!(message.name.as_deref(), Some("delete_repo"));
    assert_eq!(message.params, ParamsShape::Object);
    assert_eq!(message.end, 2 + CALL.len() as u64);
}

#[test]
fn escapes_in_keys_and_values_are_decoded() {
    let message = one(r#"{"m\u0065thod":"tools\/call","params":{"n\u0061me":"\u0064el\u00e9\uD83D\uDE00\n"}}"#);
    assert_eq!(message.method.as_deref(), Some("tools/call"));
    assert_eq!(message.name.as_deref(), Some("delé😀\n"));
}

#[test]
fn double_escaped_text_stays_text() {
    let message = one(r#"{"method":"tools\\/call"}"#);
    assert_eq!(message.method.as_deref(), Some(r"tools\/call"));
}

#[test]
fn lone_surrogates_read_as_the_replacement_character() {
    for (raw, decoded) in [
        (r"\ud800", "\u{FFFD}"),
        (r"\udc00x", "\u{FFFD}x"),
        (r"\ud800\ud800\udc00", "\u{FFFD}\u{10000}"),
        (r"\ud800\n", "\u{FFFD}\n"),
        (r"\ud800é", "\u{FFFD}é"),
    ] {
        let message = one(format!(r#"{{"method":"m","params":{{"name":"{raw}"}}}}"#));
        assert_eq!(message.name.as_deref(), Some(decoded), "{raw}");
    }
}

#[test]
fn nul_and_homoglyphs_and_case_stay_in_names() {
    let message = one(r#"{"method":"tools/call","params":{"name":"delete_repo\u0000"}}"#);
    assert_eq!(message.name.as_deref(), Some("delete_repo\0"));
    let message = one(r#"{"method":"tools/call","params":{"name":"Delet\u0435_Repo"}}"#);
    assert_eq!(message.name.as_deref(), Some("Delet\u{435}_Repo"));
}

#[test]
fn nested_decoys_are_not_the_message() {
    let message = one(
        r#"{"params":{"arguments":{"method":"ping","name":"safe","params":{"name":"z"}},"name":"real"},"method":"tools/call","x":{"method":"y"}}"#,
    );
    assert_eq!(message.method.as_deref(), Some("tools/call"));
    assert_eq!(message.name.as_deref(), Some("real"));
    none(r#"{"data":{"jsonrpc":"2.0","method":"tools/list","id":1}}"#);
}

#[test]
fn ids_keep_their_form() {
    for (raw, id, json) in [
        ("1e400", Id::Num("1e400".into()), "1e400"),
        ("-0.50", Id::Num("-0.50".into()), "-0.50"),
        (r#""a\"\u0001""#, Id::Str("a\"\u{1}".into()), r#""a\"\u0001""#),
        ("null", Id::Null, "null"),
        ("true", Id::Other, "null"),
        ("[1]", Id::Other, "null"),
    ] {
        let message = one(format!(r#"{{"method":"ping","id":{raw}}}"#));
        assert_eq!(message.kind, MessageKind::Request, "{raw}");
        let found = message.id.unwrap();
        assert_eq!(found.to_json(), json);
        assert_eq!(found, id);
    }
}

#[test]
fn kinds_follow_the_members() {
    for (body, kind) in [
        (r#"{"method":"a","id":1}"#, MessageKind::Request),
        (r#"{"method":"a"}"#, MessageKind::Notification),
        (r#"{"method":"a","id":1,"result":{}}"#, MessageKind::Request),
        (r#"{"result":{},"id":1}"#, MessageKind::Response),
        (r#"{"error":{},"id":1}"#, MessageKind::Error),
        (r#"{"jsonrpc":"2.0","method":7,"id":1}"#, MessageKind::Other),
    ] {
        assert_eq!(one(body).kind, kind, "{body}");
    }
    for body in ["{}", "[{},{},1]", r#"{"method":7,"id":1}"#, r#"{"id":1,"name":"x"}"#] {
        none(body);
    }
}

#[test]
fn a_method_that_a_server_makes_of_an_array_is_that_method() {
    for method in [r#"["tools/call"]"#, r#"[["tools/call"]]"#, r#"[ [ ["tools\/call" ] ] ]"#] {
        for head in [r#""jsonrpc":"2.0","#, ""] {
            for id in [r#""id":1,"#, ""] {
                let body = format!(r#"{{{head}{id}"method":{method},"params":{{"name":"x"}}}}"#);
                let message = one(&body);
                assert_eq!(message.method.as_deref(), Some("tools/call"), "{body}");
                assert_eq!(message.kind, if id.is_empty() { MessageKind::Notification } else { MessageKind::Request }, "{body}");
                let (messages, end, likeness) = scan(format!("[{body},{body}]"));
                assert_eq!((messages.len(), end.is_ok(), likeness), (2, true, Likeness::Mcp), "{body}");
            }
        }
    }
    // A fault behind it does not hide it.
    assert_eq!(malformed(r#"{"method":["tools/call"],'x':1}"#), (Malformed::Syntax, Likeness::Mcp));
}

#[test]
fn several_values_for_a_method_are_ambiguous_in_json_rpc_and_nothing_elsewhere() {
    for method in [r#"["tools/call","x"]"#, r#"[["tools/call",[]]]"#, r#"["x",["tools/call"]]"#, r#"[["tools/call"],null]"#] {
        assert_eq!(
            malformed(format!(r#"{{"method":{method},"jsonrpc":"2.0"}}"#)),
            (Malformed::SeveralMethods, Likeness::JsonRpc),
            "{method}"
        );
        none(format!(r#"{{"method":{method}}}"#));
    }
    none(r#"{"method":["GET","POST"],"path":"/"}"#);
    for method in ["[]", "[[]]", "[1]", r#"{"toString":"tools/call"}"#] {
        assert_eq!(one(format!(r#"{{"jsonrpc":"2.0","method":{method}}}"#)).kind, MessageKind::Other, "{method}");
    }
}

#[test]
fn a_name_of_another_type_is_told_from_none() {
    for (name, odd) in [(r#"["echo"]"#, true), ("{}", true), ("7", true), ("true", true), ("null", false), (r#""echo""#, false)] {
        let message = one(format!(r#"{{"method":"tools/call","params":{{"name":{name},"uri":{name}}}}}"#));
        assert_eq!((message.name_is_odd.is_present(), message.uri_is_odd.is_present()), (odd, odd), "{name}");
    }
}

#[test]
fn initialize_gives_version_and_client() {
    let message = one(
        r#"{"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"inspector","version":"2","x":{"name":"no"}}},"jsonrpc":"2.0","id":0}"#,
    );
    assert_eq!(message.protocol_version, Some(Scalar::Str("2025-11-25".into())));
    assert_eq!(message.client_name.as_deref(), Some("inspector"));
    assert_eq!(message.client_version.as_deref(), Some("2"));
    assert!(message.capabilities.is_present());
    let acp = one(r#"{"method":"initialize","params":{"protocolVersion":1,"clientCapabilities":{}}}"#);
    assert_eq!(acp.protocol_version, Some(Scalar::Num("1".into())));
    assert!(acp.client_capabilities.is_present());
}

#[test]
fn modern_metadata_is_read() {
    let message = one(
        r#"{"method":"tools/list","params":{"_meta":{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}}}"#,
    );
    assert!(message.meta.mcp.is_present());
    assert_eq!(message.meta.protocol_version.as_deref(), Some("2026-07-28"));
    assert_eq!(message.meta.client_name.as_deref(), Some("c"));
    assert_eq!(message.meta.keys.len(), 3);
}

#[test]
fn results_give_server_tools_and_errors() {
    let message = one(
        r#"{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18","serverInfo":{"name":"s","version":"3"},"capabilities":{},"supportedVersions":["x","2026-07-28"],"tools":[{"name":"a","inputSchema":{"properties":{"name":{"type":"string"}}}},{"name":"b"}],"isError":false,"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"t"}}}}"#,
    );
    let result = message.result;
    assert_eq!(result.protocol_version.as_deref(), Some("2025-06-18"));
    assert_eq!(result.server_name.as_deref(), Some("t"));
    assert_eq!(result.tools, ["a", "b"]);
    assert_eq!(result.is_error, Some(false));
    assert_eq!(result.result_type.as_deref(), Some("complete"));
    for presence in
        [result.server_info, result.capabilities, result.supported_versions, result.meta_mcp, result.meta_server_info, result.input_schema]
    {
        assert!(presence.is_present());
    }
    let error = one(r#"{"id":1,"error":{"code":-32020,"message":"HeaderMismatch","data":{"code":1}}}"#);
    assert_eq!(error.result.error_code, Some(-32020));
    assert_eq!(error.result.error_message.as_deref(), Some("HeaderMismatch"));
}

#[test]
fn tool_names_beyond_the_bound_are_counted_as_overflow() {
    let tools = vec![r#"{"name":"t"}"#; MAX_TOOLS + 1].join(",");
    let result = one(format!(r#"{{"result":{{"tools":[{tools}]}}}}"#)).result;
    assert_eq!(result.tools.len(), MAX_TOOLS);
    assert!(result.tools_overflow.is_cut());
}

#[test]
fn argument_leaves_carry_their_path() {
    let message = one(
        r#"{"method":"tools/call","params":{"arguments":{"options":{"file":"\u002fetc"},"list":[1,[true],{"k":null}],"empty":{},"repo":"a","repo":"b"}}}"#,
    );
    let leaves: Vec<_> = message.arguments.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
    assert_eq!(
        leaves,
        [("options.file", "/etc"), ("list", "1"), ("list", "true"), ("list.k", "null"), ("empty", ""), ("repo", "a"), ("repo", "b"),]
    );
    assert!(!message.arguments_truncated.is_cut());
    let scalar = one(r#"{"method":"tools/call","params":{"arguments":"text"}}"#);
    assert_eq!(scalar.arguments, [("".into(), "text".into())]);
}

#[test]
fn a_whole_number_is_the_same_however_it_is_written() {
    let message =
        one(r#"{"method":"tools/call","params":{"arguments":[1000000,1e6,1000000.0,10.0E5,-0.0,1.5,1e300,12345678901234567890.0]}}"#);
    let values: Vec<&str> = message.arguments.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["1000000", "1000000", "1000000", "1000000", "0", "1.5", "1e300", "12345678901234567890.0"]);
}

#[test]
fn argument_capture_stops_at_its_bounds() {
    let limits = Limits { arguments: ArgumentCapture::On { max_bytes: 10, max_leaves: 2 }, ..Limits::default() };
    let scan = |body: &str| {
        let (mut messages, _, _) = scan_with(limits, &mut std::iter::once(body.as_bytes()));
        messages.pop().unwrap()
    };
    let long = scan(r#"{"method":"m","params":{"arguments":{"k":"éééééééé","l":"x"}}}"#);
    assert_eq!(long.arguments, [("k".into(), "éééé".into())]);
    assert!(long.arguments_truncated.is_cut());
    let many = scan(r#"{"method":"m","params":{"arguments":[1,2,3]}}"#);
    assert_eq!(many.arguments.len(), 2);
    assert!(many.arguments_truncated.is_cut());
}

#[test]
fn long_captures_are_cut_at_a_character_and_flagged() {
    let message = one(format!(r#"{{"method":"m","id":"{}"}}"#, "é".repeat(600)));
    assert!(message.truncated);
    assert_eq!(message.id, Some(Id::Str("é".repeat(512).into())));
}

#[test]
fn replacement_characters_do_not_grow_a_capture_past_its_bound() {
    // Found by fuzzing: one invalid byte reads as a character of three.
    let mut scanner = Scanner::new(Limits::default());
    let body = [br#"{"jsonrpc":"2.0","method":""#, [0xFF; 1000].as_slice(), b"\""].concat();
    scanner.feed(&body, &mut |_| ()).unwrap();
    let partial = scanner.partial().unwrap();
    assert_eq!(partial.method.as_ref().unwrap().len(), 1023);
    assert!(partial.truncated);
}

#[test]
fn every_message_of_a_long_batch_is_given() {
    let mut items = vec![r#"{"jsonrpc":"2.0","method":"notifications/progress"}"#; 999];
    items.push(CALL);
    let (messages, end, _) = scan(format!("[{}]", items.join(",")));
    let shape = Shape::Batch;
    assert_eq!(end, Ok(Finish::Complete { shape }));
    assert_eq!(messages.len(), 1000);
    assert_eq!(messages[999].index, 999);
    assert_eq!(messages[999].name.as_deref(), Some("delete_repo"));
}

#[test]
fn batch_elements_that_are_no_objects_only_count() {
    let (messages, end, _) = scan(format!("[1,\"x\",{CALL}]"));
    assert!(end.is_ok());
    assert_eq!(messages[0].index, 2);
}

#[test]
fn a_batch_in_a_batch_is_malformed_and_still_recognised() {
    assert_eq!(malformed(format!("[[{{}},{CALL}]]")), (Malformed::NestedBatch, Likeness::Mcp));
    assert_eq!(malformed("[[1],[2]]"), (Malformed::NestedBatch, Likeness::None));
}

#[test]
fn a_second_document_is_trailing_data_after_the_first_message() {
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for between in ["", "\n", " \r\n\t"] {
        let (messages, end, _) = scan(format!("{ping}{between}{CALL}"));
        assert_eq!(end, Err(Malformed::TrailingData));
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0].end, ping.len() as u64);
    }
}

#[test]
fn json_rpc_behind_a_first_document_of_another_kind_is_suspicious_however_it_is_cut() {
    for first in ["{}", "[]", "[1,2]\n", "{\"a\":\"\u{1}\"}", "{\"a\":01}", "[[1],[2]]"] {
        let body = format!("{first}{CALL}");
        assert_eq!(malformed(&body).1, Likeness::JsonRpc, "{body}");
        let mut scanner = Scanner::new(Limits::default());
        for byte in body.as_bytes() {
            let _ = scanner.feed(std::slice::from_ref(byte), &mut |_| ());
        }
        assert_eq!(scanner.likeness(), Likeness::JsonRpc, "{body}");
    }
    let escaped = r#"{"log":1}{"text":"{\"jsonrpc\":\"2.0\"}"}"#;
    assert_eq!(malformed(escaped).1, Likeness::None, "a log line that quotes JSON-RPC is not JSON-RPC");
}

#[test]
fn repeated_deciding_keys_are_malformed_even_when_escaped() {
    for body in [
        r#"{"method":"ping","method":"tools/call"}"#,
        r#"{"method":"ping","m\u0065thod":"tools/call"}"#,
        r#"{"id":1,"id":1,"jsonrpc":"2.0","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","params":{},"params":{}}"#,
        r#"{"jsonrpc":"2.0","params":{"name":"a","name":"b"}}"#,
        r#"{"jsonrpc":"2.0","params":{"uri":"a","uri":"b"}}"#,
        r#"{"jsonrpc":"2.0","params":{"arguments":1,"arguments":2}}"#,
        r#"{"jsonrpc":"2.0","params":{"clientInfo":{"name":"a","name":"b"}}}"#,
    ] {
        let (fault, likeness) = malformed(body);
        assert_eq!(fault, Malformed::DuplicateKey, "{body}");
        assert_ne!(likeness, Likeness::None, "{body}");
    }
}

#[test]
fn what_repeats_inside_arguments_is_not_our_business() {
    one(r#"{"method":"tools/call","params":{"name":"n","arguments":{"name":1,"name":2,"method":3,"method":4}}}"#);
}

#[test]
fn the_same_keys_in_two_batch_elements_do_not_repeat() {
    let (messages, end, _) = scan(format!("[{CALL},{CALL}]"));
    assert!(end.is_ok());
    assert_eq!(messages.len(), 2);
}

#[test]
fn deciding_keys_in_another_case_are_ambiguous() {
    for body in [
        r#"{"jsonrpc":"2.0","Method":"tools/call","id":1}"#,
        r#"{"Method":"tools/call","id":1}"#,
        r#"{"jsonrpc":"2.0","method":"ping","METHOD":"tools/call"}"#,
        "{\"j\u{17F}onrpc\":\"2.0\"}",
        "{\"method\":\"tools/call\",\"param\u{17F}\":{}}",
        r#"{"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
        r#"{"method":"tools/call","params":{"name":"a","_Meta":{}}}"#,
    ] {
        assert_eq!(malformed(body).0, Malformed::AmbiguousKey, "{body}");
    }
    // Other protocols spell as they like.
    none(r#"{"Method":"GET","Id":1}"#);
    one(r#"{"jsonrpc":"2.0","method":"user.get","params":{"Name":"x"}}"#);
}

#[test]
fn a_fault_before_the_telling_keys_does_not_hide_the_message() {
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (pad, fault) in [
        (b"\"\xFF\"".to_vec(), Malformed::Utf8),
        (b"\"\t\"".to_vec(), Malformed::Syntax),
        (deep.into_bytes(), Malformed::DepthExceeded),
        (b"'x'".to_vec(), Malformed::Syntax),
        (b"/* */1".to_vec(), Malformed::Syntax),
        (b"+1".to_vec(), Malformed::NumberInvalid),
        (b"[NaN,{\"a\":-Infinity},Infinity]".to_vec(), Malformed::Syntax),
        (b"-Inf".to_vec(), Malformed::Syntax),
    ] {
        let mut body = br#"{"pad":"#.to_vec();
        body.extend_from_slice(&pad);
        body.extend_from_slice(br#","jsonrpc":"2.0","method":"tools/call"}"#);
        let (found, likeness) = malformed(&body);
        assert_eq!(found, fault);
        assert_ne!(likeness, Likeness::None, "{}", String::from_utf8_lossy(&body));
    }
}

#[test]
fn the_message_in_progress_can_be_seen() {
    let mut scanner = Scanner::new(Limits::default());
    assert_eq!(scanner.partial(), None);
    scanner.feed(&CALL.as_bytes()[..80], &mut |_| ()).unwrap();
    let partial = scanner.partial().unwrap();
    assert_eq!(partial.method.as_deref(), Some("tools/call"));
    assert_eq!(scanner.finish(&mut |_| ()), Err(Malformed::Truncated));
    assert_eq!(scanner.likeness(), Likeness::Mcp);
    assert_eq!(scanner.feed(b"}", &mut |_| ()), Err(Malformed::Truncated));
}

#[test]
fn byte_order_marks_are_told_apart() {
    one(format!("\u{FEFF}{CALL}"));
    assert_eq!(malformed(format!("\u{FEFF}\u{FEFF}{CALL}")), (Malformed::LeadingText, Likeness::Mcp));
    assert_eq!(malformed(b"\xEF{}"), (Malformed::LeadingText, Likeness::None));
    assert_eq!(malformed(b"\xEF").0, Malformed::NotJson);
    assert_eq!(malformed(b"\xFF\xD8\xFF").0, Malformed::NotJson);
}

#[test]
fn utf16_and_utf32_are_recognised_with_and_without_mark() {
    type Encode = fn(u32) -> Vec<u8>;
    let encodings: [Encode; 4] = [
        |c| (c as u16).to_le_bytes().to_vec(),
        |c| (c as u16).to_be_bytes().to_vec(),
        |c| c.to_le_bytes().to_vec(),
        |c| c.to_be_bytes().to_vec(),
    ];
    for encode in encodings {
        for prefix in ["", "\u{FEFF}", " "] {
            let body: Vec<u8> = format!("{prefix}{CALL}").chars().flat_map(|c| encode(c as u32)).collect();
            assert_eq!(malformed(body), (Malformed::Utf16, Likeness::Mcp));
        }
    }
}

#[test]
fn bodies_that_are_not_json_are_named_so() {
    for body in ["x", "--b\r\n{}", "<xml/>", "\"text\"", "12", "null"] {
        assert_eq!(malformed(body), (Malformed::NotJson, Likeness::None), "{body}");
    }
    assert_eq!(scan("").1, Ok(Finish::Empty));
    assert_eq!(scan(" \n").1, Ok(Finish::Empty));
}

#[test]
fn a_faulty_body_that_is_no_json_rpc_looks_like_nothing() {
    for body in [r#"{"id":1,"id":2}"#, "{\"a\":\"\u{1}\"}", r#"{"a":01}"#] {
        assert_eq!(malformed(body).1, Likeness::None, "{body}");
    }
}

#[test]
fn what_some_server_skips_before_a_message_does_not_hide_it() {
    for before in [
        "// comment\n",
        "/* a * b **/",
        "# comment\r\n",
        ")]}'\n",
        ")]}',\n",
        "\u{A0}",
        "\u{B}",
        "\u{C}",
        "\u{1E}",
        "\u{2028} ",
        "\u{FEFF}\u{FEFF}",
        "null",
        "null\n",
        "1 ",
        "-1.5e3,",
        "\"x\"",
        "\"a\\\"b\" ; ",
        "true // and\n#so\n/**/ \u{FEFF}false\n",
        "\0",
        "\0\0",
        "\0\0\0",
        "\0\0\0\0",
        "\0\0\0\0\0",
        "\0\n",
        "\n\0",
        " \0",
        " \0\0",
        " \0\0\0",
        " \0 \0",
        "\0 \0 ",
        "\0 \0",
        "\0\0\0 \0\0\0 ",
        " \0\0\0 \0\0\0",
        " \0\0\0\n\0\0",
        "\u{FEFF}\0",
        "\0\u{FEFF}",
        "\0// comment\n\0",
        "null\0",
    ] {
        assert_eq!(malformed(format!("{before}{CALL}")), (Malformed::LeadingText, Likeness::Mcp), "{before:?}");
        assert_eq!(malformed(format!("{before}[1,{CALL}]")), (Malformed::LeadingText, Likeness::Mcp), "{before:?}");
        assert_eq!(malformed(format!("{before}{{\"a\":1}}")), (Malformed::LeadingText, Likeness::None), "{before:?}");
    }
    for mark in [&b"\xff\xfe"[..], b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff"] {
        assert_eq!(malformed([mark, CALL.as_bytes()].concat()), (Malformed::LeadingText, Likeness::Mcp), "{mark:?}");
    }
    for foreign in ["\0\0\0\0\0", "\0", "\0\u{1}", "# Title\n\ntext {}", "nul", "/x", ")]x", "--b", "\u{E9}t\u{E9}"] {
        assert_eq!(malformed(foreign).0, Malformed::NotJson, "{foreign:?}");
    }
}

#[test]
fn a_body_that_is_not_json_is_still_recognised_as_json_rpc() {
    for body in [format!("call: {CALL}"), "x=1&y={'jsonrpc':'2.0'}".to_owned(), format!("Content-Length: 9\r\n\r\n{CALL}")] {
        assert_eq!(malformed(&body), (Malformed::NotJson, Likeness::JsonRpc), "{body}");
    }
    let without = r#"{ /* c */ "method":"tools\/call","params":{"name":"x"}}"#;
    assert_eq!(malformed(without), (Malformed::Syntax, Likeness::JsonRpc));
    let quoted = r#"text: "{\"method\":\"tools/call\"}""#;
    assert_eq!(malformed(quoted), (Malformed::NotJson, Likeness::None));
}

#[test]
fn utf16_that_hides_its_keys_in_escapes_is_read_and_other_json_in_utf16_is_nothing() {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let hidden = r#"{"\u006aso\u006erpc":"2.0","m\u0065thod":"tools\/call","params":{"name":"\ud83d\ude00"}}"#;
    assert_eq!(malformed(wide(hidden)), (Malformed::Utf16, Likeness::Mcp));
    assert_eq!(malformed(wide("{\"text\":\"\u{1F600} jsonrpc\",\"n\":[1,2]}")), (Malformed::Utf16, Likeness::None));
    assert_eq!(malformed(wide("{}")), (Malformed::Utf16, Likeness::None));
}

#[test]
fn a_million_objects_that_are_not_messages_are_passed_to_no_callback() {
    let body = format!("[{}1]", "{},".repeat(1_000_000));
    let mut scanner = Scanner::new(Limits::default());
    let mut lent = 0;
    scanner.feed(body.as_bytes(), &mut |_| lent += 1).unwrap();
    assert_eq!((scanner.finish(&mut |_| ()), lent), (Ok(Finish::Complete { shape: Shape::Batch }), 0));
}
