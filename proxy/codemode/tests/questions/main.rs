//! Questions as people and models ask them, over the 57 tools of four servers of the MCP project (filesystem, GitHub, Slack, memory).
//!
//! A line of `questions.txt` is a question and the tools that answer it, any of which will do; behind a second bar those that will do as well
//! among the tools of `questions-companies.txt`, whose questions are asked at a portal (`proxy/portal/tests/behaviour/habits`).
#![allow(clippy::unwrap_used, reason = "what the tests read, they wrote")]

use gnomon_codemode::{Entry, Index, signature};
use serde_json::Value;

const TOOLS: &str = include_str!("tools.json");
const QUESTIONS: &str = include_str!("questions.txt");

/// With three more servers: git, fetch and time.
const MORE_TOOLS: &str = include_str!("tools-git-fetch-time.json");
const MORE_QUESTIONS: &str = include_str!("questions-git-fetch-time.txt");

/// The percentage of questions whose tool is found first, and among the first five.
fn found(tools: &[Value], questions: &str) -> (f64, f64) {
    let names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    let index = Index::new(tools.iter().zip(&names).map(|(tool, name)| Entry {
        name,
        description: tool["description"].as_str().unwrap_or_default(),
        input: tool.get("inputSchema"),
    }));
    let questions: Vec<(&str, Vec<&str>)> = questions
        .lines()
        .map(|line| line.split_once('|').unwrap())
        .map(|(question, tools)| (question, tools.split('|').next().unwrap_or_default().split(',').collect()))
        .collect();
    let (mut first, mut fifth) = (0, 0);
    for (question, right) in &questions {
        assert!(right.iter().all(|right| names.contains(right)), "{question}");
        let hits: Vec<&str> = index.search(question, 10, |_| true).iter().map(|hit| names[hit.entry]).collect();
        let place = hits.iter().position(|hit| right.contains(hit)).unwrap_or(usize::MAX);
        first += usize::from(place < 1);
        fifth += usize::from(place < 5);
        if place > 0 {
            println!("{question}: {right:?}, found {hits:?}");
        }
    }
    let share = |of: usize| 100.0 * of as f64 / questions.len() as f64;
    println!("first {:.1} %, among five {:.1} %, of {}", share(first), share(fifth), questions.len());
    (share(first), share(fifth))
}

#[test]
fn a_natural_question_finds_its_tool_first_in_most_cases_and_among_the_first_five_nearly_always() {
    let tools: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    assert!(tools.len() == 57 && QUESTIONS.lines().count() >= 120);
    let (first, fifth) = found(&tools, QUESTIONS);
    assert!(first >= 70.0 && fifth >= 90.0, "{first:.1} %, {fifth:.1} %");
}

#[test]
fn a_question_finds_its_tool_among_servers_that_have_words_in_common() {
    let mut tools: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    tools.extend(serde_json::from_str::<Vec<Value>>(MORE_TOOLS).unwrap());
    let (first, fifth) = found(&tools, MORE_QUESTIONS);
    assert!(first >= 80.0 && fifth >= 95.0, "{first:.1} %, {fifth:.1} %");
    let (first, fifth) = found(&tools, QUESTIONS);
    assert!(first >= 70.0 && fifth >= 90.0, "{first:.1} %, {fifth:.1} %");
}

#[test]
fn a_hit_in_brief_is_one_line_that_says_how_to_call_it() {
    let tools: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    for tool in &tools {
        let line = signature(tool["name"].as_str().unwrap(), &tool["inputSchema"], None);
        assert!(!line.contains('\n') && line.len() < 400, "{line}");
        for required in tool["inputSchema"]["required"].as_array().into_iter().flatten() {
            assert!(line.contains(required.as_str().unwrap()), "{line}");
        }
    }
    let output = serde_json::json!({"type": "object", "properties": {"content": {"type": "string"}}, "required": ["content"]});
    assert_eq!(signature("a", &Value::Null, Some(&output)), "a() → {content: string}");
    let tool = tools.iter().find(|tool| tool["name"] == "github_list_commits").unwrap();
    assert_eq!(
        signature("github_list_commits", &tool["inputSchema"], None),
        "github_list_commits({owner: string, repo: string, sha?: string, page?: number, perPage?: number})"
    );
}
