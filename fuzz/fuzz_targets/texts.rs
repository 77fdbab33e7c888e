#![no_main]

use gnomon_engine::{Origin, RuleSet, Source, TextMatcher};
use gnomon_fuzz::{choice, chunk_size};
use gnomon_observe::Field;
use gnomon_wire::jsonrpc::{Heard, Limits, MAX_PATH, Mark, Part, Scanner, TextPlace, TextSink};
use libfuzzer_sys::fuzz_target;
use std::{ops::Range, sync::LazyLock};

static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    let text = r"
title: T
id: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10
logsource: {product: mcp, category: mcp_traffic}
detection:
    a: {gen_ai.tool.call.result|contains: [ab, 'b\*', É]}
    b: {gen_ai.tool.call.result|startswith|cased: aB}
    c: {gen_ai.tool.call.result|endswith: ba}
    d: {gen_ai.tool.call.result: 'a*b?'}
    e: {gen_ai.tool.call.result|re: '^a|b+a\b'}
    condition: 1 of them
";
    RuleSet::compile(&[Source { name: "r.yml".into(), text: text.into(), origin: Origin::Admin }]).expect("it is a rule")
});

/// Matches as the proxy does, and holds spans and paths to what is promised of them.
#[derive(Clone, Debug)]
struct Sink {
    matcher: TextMatcher,
    heard: Heard,
    place: Option<(Part, String)>,
    next: u64,
}

impl Sink {
    fn note(&mut self) {
        let Some((part, path)) = &self.place else { return };
        self.heard.marks.extend(self.matcher.fresh().map(|number| Mark { number, part: *part, path: path.as_str().into() }));
    }
}

impl TextSink for Sink {
    fn begin(&mut self, place: &TextPlace<'_>) {
        assert!(self.place.is_none() && place.path.len() <= MAX_PATH && place.at >= self.next);
        (self.place, self.next) = (Some((place.part, place.path.to_owned())), place.at);
        self.heard.parts.insert(place.part);
        self.matcher.begin(Field::ToolResult);
        self.note();
    }

    fn text(&mut self, decoded: &[u8], span: Range<u64>) {
        assert!(span.start == self.next && span.end > span.start && !decoded.is_empty());
        let raw = span.end - span.start;
        assert!(raw == decoded.len() as u64 || matches!(raw, 2 | 6 | 12));
        self.next = span.end;
        self.matcher.feed(decoded);
        self.note();
    }

    fn end(&mut self, at: u64) {
        assert_eq!(at, self.next);
        self.matcher.end();
        self.note();
        self.place = None;
    }

    fn over(&mut self) -> Heard {
        assert!(self.place.is_none());
        self.matcher.reset();
        std::mem::take(&mut self.heard)
    }

    fn fork(&self) -> Box<dyn TextSink> {
        Box::new(self.clone())
    }
}

/// What is found in each message; none where the body is not one JSON value.
fn find(bytes: &[u8], size: usize) -> Option<Vec<Heard>> {
    let matcher = RULES.texts().expect("it asks of texts").matcher();
    let sink = Sink { matcher, heard: Heard::default(), place: None, next: 0 };
    let mut scanner =
        Scanner::new(Limits { max_depth: 64, ..Limits::default() }).listening(Part::ALL.into_iter().collect(), Box::new(sink));
    let mut found = Vec::new();
    for chunk in bytes.chunks(size) {
        scanner.feed(chunk, &mut |message| found.push(message.heard.clone())).ok()?;
    }
    scanner.finish(&mut |message| found.push(message.heard.clone())).ok()?;
    // How much is fed at once decides which of several is found first.
    for heard in &mut found {
        heard.marks.sort_by(|one, other| (one.number, &one.path).cmp(&(other.number, &other.path)));
    }
    Some(found)
}

// A choice with the bit 16 takes the input for the text of a result, another for a body.
fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let body = if choice & 16 == 0 {
        bytes.to_vec()
    } else {
        [br#"{"jsonrpc":"2.0","id":1,"result":{"content":[{"text":""#, bytes, br#""}]}}"#].concat()
    };
    assert_eq!(find(&body, body.len().max(1)), find(&body, chunk_size(choice)));
});
