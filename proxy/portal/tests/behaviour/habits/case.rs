//! Scripts as models write them, read from `tests/habits/FAMILY.cases`.
//!
//! A case begins with `## id what its author wants`, then the script, word for word; then sections, each after a line of dashes and a name:
//!
//! | section | what it holds |
//! |---|---|
//! | `--- gives` | the result that was meant: JSON, or a text |
//! | `--- shows` | texts that the console must show, one a line, where the author reads the result there |
//! | `--- done` | what is to be changed at the servers, one a line: the tool (or method and path of an API) and members of what it is given |
//! | `--- says` | phrases of the next step that the first answer must have where the script is not right at once, one a line |
//! | `--- then` | what a model that reads this sends next; `{kept}` is the id of a kept result |
//! | `--- fails TOOL TIMES what it says` | a tool that fails so many times first |
//! | `--- search` | the script goes to `portal_codemode_search` |

use serde_json::Value;
use std::{fs, path::Path};

/// The model families in whose habits the scripts are.
pub const FAMILIES: [&str; 5] = ["claude", "gpt", "gemini", "llama", "qwen"];

/// A tool that fails at first.
pub struct Fault {
    pub tool: String,
    pub times: u32,
    pub says: String,
}

/// One script with what was meant by it.
#[derive(Default)]
pub struct Case {
    pub id: String,
    pub family: &'static str,
    pub script: String,
    pub gives: Option<String>,
    pub shows: Vec<String>,
    pub done: Vec<(String, Value)>,
    pub says: Vec<String>,
    pub then: Option<String>,
    pub faults: Vec<Fault>,
    pub finds: bool,
}

/// All cases, in order of families.
pub fn cases() -> Vec<Case> {
    FAMILIES.into_iter().flat_map(of_family).collect()
}

fn of_family(family: &'static str) -> Vec<Case> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/habits/{family}.cases"));
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.split("\n## ").skip(1).map(|case| read(family, case)).collect()
}

fn read(family: &'static str, text: &str) -> Case {
    let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
    let id = format!("{family} {}", head.split(' ').next().unwrap_or_default());
    let mut sections = rest.split("\n--- ");
    let script = sections.next().unwrap_or_default().to_owned();
    let mut case = Case { id, family, script, ..Case::default() };
    for section in sections {
        let (name, body) = section.split_once('\n').unwrap_or((section, ""));
        let lines = || body.lines().filter(|line| !line.is_empty()).map(str::to_owned);
        match name.split_once(' ').unwrap_or((name, "")) {
            ("gives", _) => case.gives = Some(body.trim_end_matches('\n').to_owned()),
            ("shows", _) => case.shows = lines().collect(),
            ("says", _) => case.says = lines().collect(),
            ("then", _) => case.then = Some(body.to_owned()),
            ("search", _) => case.finds = true,
            ("done", _) => case.done = lines().map(|line| change(&line).unwrap_or_else(|| panic!("{}: {line}", case.id))).collect(),
            ("fails", what) => {
                let mut words = what.splitn(3, ' ');
                let mut next = || words.next().unwrap_or_default().to_owned();
                let (tool, times, says) = (next(), next().parse().unwrap(), next());
                case.faults.push(Fault { tool: tool.replacen('~', " ", 1), times, says });
            }
            (other, _) => panic!("{}: no section is called {other}", case.id),
        }
    }
    assert!(case.gives.is_some() || !case.shows.is_empty(), "{}: what was meant?", case.id);
    case
}

/// `tool {…}`.
fn change(line: &str) -> Option<(String, Value)> {
    let at = line.find('{')?;
    Some((line[..at].trim().to_owned(), serde_json::from_str(&line[at..]).ok()?))
}
