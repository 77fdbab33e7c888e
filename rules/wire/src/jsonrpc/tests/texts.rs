//! What a sink hears of an answer: every text, decoded, with its path and the bytes that it stands in.

use parking_lot::Mutex;
use proptest::prelude::*;
use std::sync::Arc;

use super::*;

type Said = Vec<(Part, String, String)>;

/// Writes down what it hears, and holds each piece against the bytes that it is said to stand in.
#[derive(Clone, Debug)]
struct Recorder {
    body: Vec<u8>,
    said: Arc<Mutex<Said>>,
    current: Option<(Part, String, Vec<u8>, u64)>,
}

impl TextSink for Recorder {
    fn begin(&mut self, place: &TextPlace<'_>) {
        assert!(self.current.is_none());
        assert_eq!(self.body[usize::try_from(place.at).unwrap() - 1], b'"');
        self.current = Some((place.part, place.path.to_owned(), Vec::new(), place.at));
    }

    fn text(&mut self, decoded: &[u8], span: std::ops::Range<u64>) {
        let (.., text, next) = self.current.as_mut().unwrap();
        assert_eq!(span.start, *next, "pieces follow each other");
        *next = span.end;
        text.extend_from_slice(decoded);
        let raw = &self.body[usize::try_from(span.start).unwrap()..usize::try_from(span.end).unwrap()];
        if raw != decoded {
            let escape = format!("\"{}\"", std::str::from_utf8(raw).unwrap());
            let expected = serde_json::from_str::<String>(&escape).unwrap_or_else(|_| "\u{fffd}".to_owned());
            assert_eq!(expected.as_bytes(), decoded);
        }
    }

    fn end(&mut self, at: u64) {
        let (part, path, text, next) = self.current.take().unwrap();
        assert_eq!((next, self.body[usize::try_from(at).unwrap()]), (at, b'"'));
        self.said.lock().push((part, path, String::from_utf8(text).unwrap()));
    }

    fn over(&mut self) -> Heard {
        Heard::default()
    }

    fn fork(&self) -> Box<dyn TextSink> {
        Box::new(self.clone())
    }
}

fn hear_in(body: &[u8], size: usize) -> Said {
    let said = Arc::new(Mutex::new(Vec::new()));
    let sink = Recorder { body: body.to_vec(), said: said.clone(), current: None };
    let mut scanner = Scanner::new(Limits::default()).listening(Part::ALL.into_iter().collect(), Box::new(sink));
    for chunk in body.chunks(size) {
        scanner.feed(chunk, &mut |_| ()).unwrap();
    }
    scanner.finish(&mut |_| ()).unwrap();
    said.lock().clone()
}

/// What is heard, alike in all pieces; parts and paths as one text.
fn hear(body: &str) -> Vec<String> {
    let whole = hear_in(body.as_bytes(), body.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(whole, hear_in(body.as_bytes(), size), "in pieces of {size}: {body}");
    }
    whole.into_iter().map(|(part, path, text)| format!("{part:?} {path} {text}")).collect()
}

#[test]
fn each_text_of_an_answer_is_heard_with_its_part_and_path() {
    for (result, expected) in [
        (
            r#"{"content":[{"type":"text","text":"a\nb"},{"type":"image","data":"AA=="}],"isError":false}"#,
            &[
                "Result result.content[0].type text",
                "Result result.content[0].text a\nb",
                "Result result.content[1].type image",
                "Result result.content[1].data AA==",
            ][..],
        ),
        (
            r#"{"structuredContent":{"rows":[[1,"x"],["y"]],"k":null},"isError":false}"#,
            &[
                "Result result.structuredContent rows",
                "Result result.structuredContent.rows[0][1] x",
                "Result result.structuredContent.rows[1][0] y",
                "Result result.structuredContent k",
            ],
        ),
        (
            r#"{"tools":[{"name":"a","description":"d","inputSchema":{"type":"object","properties":{"p":{"description":"q"}}}},{"name":["b"]}],"nextCursor":"n"}"#,
            &[
                "ToolName result.tools[0].name a",
                "ToolDescription result.tools[0].description d",
                "ToolDescription result.tools[0].inputSchema.type object",
                "ToolDescription result.tools[0].inputSchema.properties p",
                "ToolDescription result.tools[0].inputSchema.properties.p.description q",
                "ToolDescription result.tools[1].name[0] b",
                "Result result.nextCursor n",
            ],
        ),
        (r#"{"instructions":"i","serverInfo":{"name":"s"}}"#, &["Instructions result.instructions i", "Result result.serverInfo.name s"]),
        (r#"{"prompts":[{"name":"p"}]}"#, &["Prompt result.prompts[0].name p"]),
        (
            r#"{"description":"d","messages":[{"content":{"text":"t"}}]}"#,
            &["Prompt result.description d", "Prompt result.messages[0].content.text t"],
        ),
        (r#"{"contents":[{"uri":"u","text":"t"}]}"#, &["Resource result.contents[0].uri u", "Resource result.contents[0].text t"]),
        (
            r#"{"status":"failed","error":{"message":"m"},"result":{"content":[{"text":"t"}]}}"#,
            &["Result result.status failed", "Error result.error.message m", "Result result.result.content[0].text t"],
        ),
        (
            r#"{"inputRequests":{"k":{"method":"m","params":{"message":"q","requestedSchema":{"properties":{"default":{"type":"t","default":{"d":"e"}}},"required":["r"]}}}}}"#,
            &[
                "Question result.inputRequests k",
                "Question result.inputRequests.k.method m",
                "Question result.inputRequests.k.params.message q",
                "Question result.inputRequests.k.params.requestedSchema.properties default",
                "Question result.inputRequests.k.params.requestedSchema.properties.default.type t",
                "Question result.inputRequests.k.params.requestedSchema.properties.default.default d",
                "Question result.inputRequests.k.params.requestedSchema.properties.default.default.d e",
                "Question result.inputRequests.k.params.requestedSchema.required[0] r",
            ],
        ),
        (r#""plain""#, &["Result result plain"]),
        (r#"["a",{"tools":["b"]}]"#, &["Result result[0] a", "Result result[1].tools[0] b"]),
    ] {
        assert_eq!(hear(&format!(r#"{{"jsonrpc":"2.0","result":{result},"id":"1"}}"#)), expected, "{result}");
    }
    let error = r#"[{"id":"x","method":"tools/list","params":{"a":["b"]}},{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"m","data":{"d":["e"]}}}]"#;
    assert_eq!(hear(error), ["Question params.a[0] b", "Error error.message m", "Error error.data.d[0] e"]);
}

#[test]
fn keys_that_some_readers_take_for_others_and_keys_that_stand_twice_are_heard() {
    assert_eq!(
        hear(r#"{"id":1,"result":{"Tools":[{"Name":"a","Description":"d"}]}}"#),
        ["ToolName result.Tools[0].Name a", "ToolDescription result.Tools[0].Description d"]
    );
    assert_eq!(
        hear(r#"{"id":1,"result":{"content":[{"text":"a","text":"b"}]}}"#),
        ["Result result.content[0].text a", "Result result.content[0].text b"]
    );
    assert_eq!(hear(r#"{"id":1,"result":{"\u0074ools":[{"n\u0061me":"a"}]}}"#), ["ToolName result.tools[0].name a"]);
}

#[test]
fn a_path_has_no_name_that_could_be_a_text() {
    let long = "k".repeat(65);
    let body = format!(r#"{{"id":1,"result":{{"structuredContent":{{"ada@example.com":{{"{long}":"v"}}}}}}}}"#);
    let heard = hear(&body);
    assert_eq!(heard.last().unwrap(), "Result result.structuredContent.*.* v");
    let deep = format!(r#"{{"id":1,"result":{}"v"{}}}"#, r#"{"abcdefghij":"#.repeat(100), "}".repeat(100));
    let heard = hear(&deep);
    assert!(heard[0].ends_with(" v") && heard[0].len() < MAX_PATH + 16, "{heard:?}");
}

#[test]
fn only_the_parts_that_are_asked_for_are_heard() {
    let body = br#"{"id":1,"result":{"instructions":"i","tools":[{"name":"a","description":"d"}],"content":[{"text":"t"}]}}"#;
    for part in Part::ALL {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Recorder { body: body.to_vec(), said: said.clone(), current: None };
        let mut scanner = Scanner::new(Limits::default()).listening([part].into_iter().collect(), Box::new(sink));
        scanner.feed(body, &mut |_| ()).unwrap();
        assert!(said.lock().iter().all(|(heard, ..)| *heard == part), "{part:?}");
    }
}

fn tools_hash(tools: &str) -> [u8; 32] {
    one(format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tools}]}}}}"#)).result.tools_hash.unwrap()
}

#[test]
fn the_hash_of_tools_changes_with_what_stands_in_them_and_not_with_their_order() {
    let [a, b] = [r#"{"name":"a","inputSchema":{"x":["{"]}}"#, r#"{"name":"b","description":"d"}"#];
    let both = tools_hash(&format!("{a},{b}"));
    assert_eq!(both, tools_hash(&format!("{b} , {a}")));
    for other in [a.to_owned(), format!("{a},{b},{b}"), format!("{a},{}", b.replace("\"d\"", "\"e\"")), String::new()] {
        assert_ne!(both, tools_hash(&other), "{other}");
    }
    assert_eq!(one(r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#).result.tools_hash, None);
}

/// A text as JSON may spell it, each character in one of its spellings.
fn spelled() -> impl Strategy<Value = (String, String)> {
    let character = (any::<char>(), 0..3_u8).prop_map(|(c, way)| {
        let mut units = [0; 2];
        let hex: String = c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect();
        let spelling = match (way, c) {
            (0, _) => hex,
            (1, _) => hex.to_uppercase().replace("\\U", "\\u"),
            (_, '"' | '\\') => format!("\\{c}"),
            (_, c) if c < ' ' => hex,
            (_, c) => c.to_string(),
        };
        (c, spelling)
    });
    proptest::collection::vec(character, 0..24)
        .prop_map(|all| (all.iter().map(|(c, _)| c).collect(), all.iter().map(|(_, s)| s.as_str()).collect()))
}

proptest! {
    #[test]
    fn every_spelling_in_every_chunking_is_heard_as_the_same_text((text, spelling) in spelled(), size in 1..9_usize) {
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"text":"{spelling}"}}]}}}}"#);
        prop_assert_eq!(hear_in(body.as_bytes(), size), vec![(Part::Result, "result.content[0].text".to_owned(), text)]);
    }

    #[test]
    fn listening_changes_nothing_of_what_is_read(text in ".{0,40}", size in 1..9_usize) {
        let body = format!(r#"[{{"id":1,"result":{{"tools":[{{"name":{0}}}],"x":{{{0}:[{0},{{}}]}}}}}},{CALL}]"#, serde_json::to_string(&text).unwrap());
        let plain = scan_with(capturing(), &mut body.as_bytes().chunks(size));
        let sink = Recorder { body: body.clone().into_bytes(), said: Arc::default(), current: None };
        let mut scanner = Scanner::new(capturing()).listening(Part::ALL.into_iter().collect(), Box::new(sink));
        let mut messages = Vec::new();
        for chunk in body.as_bytes().chunks(size) {
            let _ = scanner.feed(chunk, &mut |message| messages.push(message.clone()));
        }
        let end = scanner.finish(&mut |message| messages.push(message.clone()));
        prop_assert_eq!(plain, (messages, end, scanner.likeness()));
    }
}
