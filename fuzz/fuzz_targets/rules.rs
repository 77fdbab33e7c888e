#![no_main]

use gnomon_engine::{Answer, Origin, RuleSet, Source};
use gnomon_fuzz::choice;
use gnomon_observe::{Family, Field, Observation, Phase};
use libfuzzer_sys::fuzz_target;

const HEAD: &str = "title: T\nid: 5f0c1b9e-3c5d-4f2a-9b1e-2d7c8a6f4e10\nlogsource: {product: mcp, category: mcp_traffic}\n";

fn observation() -> Observation {
    let mut seen = Observation::new();
    seen.set(Field::ServerAddress, "mcp.example.com");
    seen.set(Field::ServerPort, 443u16);
    seen.set(Field::UrlPath, "/a*b/\u{e9}\u{130}\n");
    seen.set(Field::McpMethod, "tools/call");
    seen.set(Field::Sanctioned, false);
    seen.set(Field::ToolArguments, vec!["/etc/passwd".into(), "".into()]);
    seen.set_unreadable(Field::ToolName);
    seen.set_member(Family::RequestHeader, "accept", "a");
    seen
}

// An even choice takes the input for a whole file, an odd one for what follows a good head.
fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = choice(input) else {
        return;
    };
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let text = if choice % 2 == 0 { text.to_owned() } else { format!("{HEAD}{text}") };
    // To YAML a carriage return alone ends a line, too.
    let lines = text.bytes().filter(|b| matches!(b, b'\n' | b'\r')).count() as u32 + 1;
    let origin = if choice & 2 == 0 { Origin::Admin } else { Origin::Vendor };
    let set = match RuleSet::compile(&[Source { name: "r.yml".into(), text, origin }]) {
        Ok(set) => set,
        Err(errors) => {
            assert!(!errors.all().is_empty());
            assert!(errors.all().iter().all(|error| (1..=lines + 1).contains(&error.line) && error.column >= 1));
            return;
        }
    };
    let seen = observation();
    let _ = set.run_tests();
    let slow = set.one_shot(&seen);
    let mut progress = set.start();
    for phase in Phase::ALL {
        match set.judge(&seen, *phase, &mut progress) {
            Answer::Needs(next) => assert!(next > *phase),
            Answer::Decided(verdict) if verdict.action.interferes() => {
                assert!(matches!(slow.answer, Answer::Decided(truth) if truth.action == verdict.action));
                return;
            }
            Answer::Undecidable(verdict) => {
                assert!(matches!(slow.answer, Answer::Undecidable(truth) if truth.action == verdict.action));
                return;
            }
            Answer::Decided(_) => {}
        }
    }
    assert!(progress.matched().eq(slow.matched.iter().copied()));
});
