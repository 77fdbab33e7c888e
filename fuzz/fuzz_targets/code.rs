#![no_main]

use gnomon_codemode::{Unreadable, normalise};
use libfuzzer_sys::fuzz_target;
use oxc_allocator::Allocator;
use oxc_parser::Parser;
use oxc_span::SourceType;

/// The parser calls itself for each level of nesting, which is why it runs in a worker. Here it has room for all that an input of
/// libFuzzer's usual length can nest.
const STACK: usize = 1 << 30;

fuzz_target!(|bytes: &[u8]| {
    let Ok(code) = std::str::from_utf8(bytes) else {
        return;
    };
    std::thread::scope(|scope| {
        let look = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || look(code));
        look.expect("a thread").join().expect("no panic");
    });
});

fn look(code: &str) {
    match normalise(code) {
        Ok(program) => {
            let allocator = Allocator::default();
            let parsed = Parser::new(&allocator, &program, SourceType::script()).parse();
            assert!(parsed.program.body.len() == 1 || !parsed.diagnostics.is_empty(), "{program}");
        }
        Err(Unreadable::Syntax { message, line, .. }) => assert!(!message.is_empty() && line <= code.lines().count() + 1),
        Err(
            Unreadable::Module
            | Unreadable::Tagged
            | Unreadable::Enum
            | Unreadable::Python
            | Unreadable::Prose
            | Unreadable::Unclear
            | Unreadable::Unrun(_),
        ) => {}
    }
}
