//! How loud the pack `detections` is on a working day and how much it finds of attacks: the calls, answers and descriptions of
//! `harmless_calls.jsonl` and `hostile_calls.jsonl`, each through `gnomon replay`, to a server that is sanctioned. How they were written,
//! and what rules found of each set when they met it first, is in docs/quality.md.

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

/// The sanctioned server of all calls.
const SERVER: &str = "mcp.corp.example";
/// Levels at which an analyst is disturbed.
const LOUD: [&str; 3] = ["medium", "high", "critical"];
/// At most one harmless call in this many may be told above `low`.
const ONE_LOUD_IN: usize = 100;
/// At least this many hostile calls of a hundred are to be found.
const FOUND: usize = 85;
/// At least this many of a hundred of any one technique.
const FOUND_OF_A_TECHNIQUE: usize = 70;
/// Of the hostile calls that are held out, how many were found when they were measured first: fewer are a step back.
const HELD_OUT_FOUND: usize = 154;
/// Of the harmless calls that are held out, how many may be told.
const HELD_OUT_LOUD: usize = 7;

/// The part of the corpora that a case belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Of the first set, written before the rules; they were tuned with its misses in sight.
    First,
    /// Written after the rules as they were then, which were tuned with it once that was measured; docs/quality.md has the numbers.
    Second,
    /// The same once more.
    Third,
    /// Harmless ones only, the same once more.
    Fourth,
    /// Written by somebody who had not seen the rules, with techniques that they had none for; they were tuned with it once that was measured.
    Fifth,
    /// By the same hand as the fifth, and held out: nobody looks at how a single case of it comes out, and no rule is tuned with it.
    HeldOut,
}

impl Part {
    const ALL: [Self; 6] = [Self::First, Self::Second, Self::Third, Self::Fourth, Self::Fifth, Self::HeldOut];

    fn of(case: &Value) -> Self {
        match case["set"].as_str() {
            Some("second") => Self::Second,
            Some("third") => Self::Third,
            Some("fourth") => Self::Fourth,
            Some("fifth") => Self::Fifth,
            Some("sixth") => Self::HeldOut,
            Some(other) => panic!("set {other}"),
            None => Self::First,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::First => "first set",
            Self::HeldOut => "sixth set, held out",
            Self::Second => "second set",
            Self::Third => "third set",
            Self::Fourth => "fourth set",
            Self::Fifth => "fifth set",
        }
    }
}

struct Case {
    name: String,
    /// The technique of a hostile call; `None` of a harmless one.
    technique: Option<String>,
    part: Part,
    /// Names of the rules above `low` that matched.
    told: BTreeSet<String>,
}

impl Case {
    fn is_told(&self) -> bool {
        !self.told.is_empty()
    }
}

fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("no {key}: {case}"))
}

fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(file);
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A call or a list of tools, as a client and a server exchange them.
fn entry(case: &Value) -> Value {
    let value = &case["value"];
    let call = |arguments: &Value| json!({"name": case["tool"], "arguments": arguments});
    let answer = |said: &Value| json!({"content": [{"type": "text", "text": said}]});
    let (method, params, result) = match text(case, "direction") {
        "arguments" => ("tools/call", call(value), answer(&json!("ok"))),
        "result" => ("tools/call", call(&json!({})), answer(value)),
        "description" => {
            ("tools/list", json!({}), json!({"tools": [{"name": case["tool"], "description": value, "inputSchema": {"type": "object"}}]}))
        }
        other => panic!("direction {other}"),
    };
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let answer = json!({"jsonrpc": "2.0", "id": 1, "result": result}).to_string();
    let headers =
        |pairs: &[(&str, &str)]| -> Vec<Value> { pairs.iter().map(|(name, value)| json!({"name": name, "value": value})).collect() };
    let request = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("user-agent", "claude-code/2.1.197"),
        ("mcp-protocol-version", "2025-11-25"),
        ("authorization", "Bearer made-up"),
    ];
    json!({
        "startedDateTime": "2026-11-24T09:00:00.000Z", "time": 1,
        "request": {
            "method": "POST", "url": format!("https://{SERVER}/mcp"), "httpVersion": "HTTP/1.1", "headers": headers(&request),
            "bodySize": body.len(), "postData": {"text": body},
        },
        "response": {
            "status": 200, "headers": headers(&[("content-type", "application/json")]), "content": {"size": answer.len(), "text": answer},
        },
    })
}

/// Name and level of each rule of the pack, by its id.
fn rules() -> BTreeMap<String, (String, String)> {
    let pack = gnomon_packs::packs().iter().find(|pack| pack.name == "detections").unwrap();
    let field = |text: &str, key: &str| text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    pack.files().map(|(_, text)| (field(text, "id:"), (field(text, "name:"), field(text, "level:")))).collect()
}

/// Replays all, and says which rules above `low` matched each.
fn judged() -> Vec<Case> {
    let lines: Vec<Value> = ["harmless_calls.jsonl", "hostile_calls.jsonl"].into_iter().flat_map(lines).collect();
    let dir = tempfile::tempdir().unwrap();
    let (har, config) = (dir.path().join("calls.har"), dir.path().join("gnomon.yml"));
    let entries: Vec<Value> = lines.iter().map(entry).collect();
    fs::write(&har, json!({"log": {"version": "1.2", "entries": entries}}).to_string()).unwrap();
    fs::write(&config, format!("sanctioned: [{SERVER}]\n")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gnomon"));
    command.args(["replay", "--json", "--packs", "detections", "--config"]).arg(&config).arg(&har);
    let output = command.env("GNOMON_STATE_DIR", dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let rules = rules();
    let mut cases: Vec<Case> = lines
        .iter()
        .map(|case| Case {
            name: text(case, "name").to_owned(),
            technique: (text(case, "kind") == "hostile").then(|| text(case, "technique").to_owned()),
            part: Part::of(case),
            told: BTreeSet::new(),
        })
        .collect();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let index = usize::try_from(event["gnomon.replay.index"].as_u64().unwrap()).unwrap();
        let matched = event["gnomon.rules.matched"].as_array().unwrap().iter().filter_map(|id| rules.get(id.as_str()?));
        cases[index].told.extend(matched.filter(|(_, level)| LOUD.contains(&level.as_str())).map(|(name, _)| name.clone()));
    }
    cases
}

fn share(told: usize, of: usize) -> String {
    if of == 0 { "–".to_owned() } else { format!("{told:>4} of {of:<4} {:>5.1} %", 100.0 * told as f64 / of as f64) }
}

fn told(cases: &[&Case]) -> usize {
    cases.iter().filter(|case| case.is_told()).count()
}

fn print(cases: &[Case]) {
    println!("\ncalls judged by `detections`   harmless above low      hostile found");
    let of = |part: Option<Part>, hostile: bool| -> Vec<&Case> {
        cases.iter().filter(|case| part.is_none_or(|part| case.part == part) && case.technique.is_some() == hostile).collect()
    };
    for part in Part::ALL.map(Some).into_iter().chain([None]) {
        let (harmless, hostile) = (of(part, false), of(part, true));
        let name = part.map_or("all", Part::name);
        println!("{name:<28} {:>22} {:>22}", share(told(&harmless), harmless.len()), share(told(&hostile), hostile.len()));
    }
    println!("\nhostile calls found, by technique             held out                    all");
    let techniques: BTreeSet<&str> = cases.iter().filter_map(|case| case.technique.as_deref()).collect();
    for technique in techniques {
        let of = |part: Option<Part>| -> Vec<&Case> {
            let mine = cases.iter().filter(|case| case.technique.as_deref() == Some(technique));
            mine.filter(|case| part.is_none_or(|part| case.part == part)).collect()
        };
        let (held_out, all) = (of(Some(Part::HeldOut)), of(None));
        println!("{technique:<32} {:>22} {:>22}", share(told(&held_out), held_out.len()), share(told(&all), all.len()));
    }
    println!("\nrule                                            level     hostile  harmless");
    for (name, level) in rules().into_values() {
        let count = |hostile: bool| cases.iter().filter(|case| case.technique.is_some() == hostile && case.told.contains(&name)).count();
        let (hostile, harmless) = (count(true), count(false));
        if hostile + harmless > 0 {
            println!("{name:<47} {level:<9} {hostile:>7} {harmless:>9}");
        }
    }
    // Of what is held out nothing is said but numbers, so that nobody tunes by it unawares.
    let seen = || cases.iter().filter(|case| case.part != Part::HeldOut);
    println!("\nharmless and told, but for what is held out:");
    seen().filter(|case| case.technique.is_none() && case.is_told()).for_each(|case| println!("  {}: {:?}", case.name, case.told));
    println!("hostile and missed:");
    seen().filter(|case| case.technique.is_some() && !case.is_told()).for_each(|case| println!("  {}", case.name));
}

#[test]
fn detections_are_quiet_on_a_working_day_and_find_attacks() {
    let cases = judged();
    print(&cases);
    let seen = cases.iter().filter(|case| case.part != Part::HeldOut);
    let (hostile, harmless): (Vec<&Case>, Vec<&Case>) = seen.partition(|case| case.technique.is_some());
    assert!(harmless.len() >= 300 && hostile.len() >= 300);
    let loud: Vec<&str> = harmless.iter().filter(|case| case.is_told()).map(|case| case.name.as_str()).collect();
    assert!(loud.len() * ONE_LOUD_IN <= harmless.len(), "{} of {} harmless calls are told: {loud:?}", loud.len(), harmless.len());
    assert!(told(&hostile) * 100 >= FOUND * hostile.len(), "{} of {} hostile calls are found", told(&hostile), hostile.len());
    let mut techniques = BTreeMap::<&str, Vec<&Case>>::new();
    hostile.iter().for_each(|case| techniques.entry(case.technique.as_deref().unwrap_or_default()).or_default().push(case));
    for (technique, of) in techniques {
        assert!(told(&of) * 100 >= FOUND_OF_A_TECHNIQUE * of.len(), "{technique}: {} of {} are found", told(&of), of.len());
    }
}

/// What nobody tuned for is the number to trust: it may rise, and a change that lets it fall is told by the numbers alone.
#[test]
fn what_is_held_out_is_found_no_worse_than_when_it_was_first_measured() {
    let cases = judged();
    let (hostile, harmless): (Vec<&Case>, Vec<&Case>) =
        cases.iter().filter(|case| case.part == Part::HeldOut).partition(|case| case.technique.is_some());
    assert!(told(&hostile) >= HELD_OUT_FOUND, "{} of {} hostile calls are found", told(&hostile), hostile.len());
    assert!(told(&harmless) <= HELD_OUT_LOUD, "{} of {} harmless calls are told", told(&harmless), harmless.len());
}

#[test]
fn every_call_of_the_corpora_has_a_name_of_its_own() {
    let mut names = BTreeSet::new();
    for case in ["harmless_calls.jsonl", "hostile_calls.jsonl"].into_iter().flat_map(lines) {
        assert!(names.insert((text(&case, "kind").to_owned(), text(&case, "name").to_owned())), "{}", case["name"]);
    }
}
