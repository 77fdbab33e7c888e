//! Questions as people ask them, at a portal with more than 1,500 tools. Those of `questions-afterwards.txt` were written when the ranking and
//! its words stood, and nothing was changed for them.

use super::{Stage, run};
use crate::client::Client;
use serde_json::Value;
use std::{fs, path::Path};

/// A line of a file: a question, and the tools of which any will do, after a bar or two.
fn questions(file: &str) -> Vec<(String, Vec<String>)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../codemode/tests/questions").join(file);
    let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let line = |line: &str| {
        let (question, tools) = line.split_once('|').unwrap_or_else(|| panic!("{line}"));
        (question.to_owned(), tools.split([',', '|']).map(str::to_owned).collect())
    };
    text.lines().filter(|line| !line.is_empty()).map(line).collect()
}

#[tokio::test]
async fn a_question_finds_its_tool_among_more_than_1500() {
    let stage = Stage::start().await;
    let mut client = Client::modern(stage.portal.address);
    let files = ["questions.txt", "questions-companies.txt", "questions-afterwards.txt"].map(|file| (file, questions(file)));
    let meant: Vec<&String> = files.iter().flat_map(|(_, asked)| asked.iter().flat_map(|(_, right)| right)).collect();
    let known = format!(
        "async () => {{ const known = (await codemode.tools()).map(t => t.name); return {{count: known.length, unknown: {}.filter(name => !known.includes(name))}} }}",
        serde_json::to_string(&meant).unwrap()
    );
    let (known, _) = run(&mut client, "search", &known).await;
    let known: Value = serde_json::from_str(&known).unwrap_or_else(|_| panic!("{known}"));
    assert_eq!(known["unknown"], Value::Array(Vec::new()));
    let count = known["count"].as_u64().unwrap();
    assert!(count > 1500, "{count} tools");
    let (mut all, mut first, mut fifth, mut tenth) = (0, 0, 0, 0);
    for (file, asked) in &files {
        let (mut one, mut five, mut ten) = (0, 0, 0);
        for (question, right) in asked {
            let code = format!("async () => (await codemode.search({}, {{limit: 10}})).map(t => t.name)", Value::from(question.as_str()));
            let (found, _) = run(&mut client, "search", &code).await;
            let hits: Vec<String> = serde_json::from_str(found.split("\n\n").next().unwrap_or_default()).unwrap_or_default();
            let place = hits.iter().position(|hit| right.contains(hit)).unwrap_or(usize::MAX);
            one += usize::from(place < 1);
            five += usize::from(place < 5);
            ten += usize::from(place < 10);
            if place > 0 {
                println!("{} {question}: {right:?}, found {hits:?}", if place < 10 { (place + 1).to_string() } else { "–".to_owned() });
            }
        }
        let share = |of: usize| 100.0 * of as f64 / asked.len() as f64;
        println!(
            "{file}: {} questions at {} tools: first {:.1} %, of five {:.1} %, of ten {:.1} %",
            asked.len(),
            count,
            share(one),
            share(five),
            share(ten)
        );
        (all, first, fifth, tenth) = (all + asked.len(), first + one, fifth + five, tenth + ten);
    }
    let share = |of: usize| 100.0 * of as f64 / all as f64;
    let (first, fifth, tenth) = (share(first), share(fifth), share(tenth));
    println!("all: {all} questions at {} tools: first {first:.1} %, of five {fifth:.1} %, of ten {tenth:.1} %", count);
    // The goal of the last is 95 %: what is missed are words that nothing here has (docs/quality.md).
    assert!(all >= 120 && first >= 65.0 && fifth >= 85.0 && tenth >= 92.0, "{first:.1} %, {fifth:.1} %, {tenth:.1} %");
}
