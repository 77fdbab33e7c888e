//! Questions as people and models ask them, over the 57 tools of four servers of the MCP project (filesystem, GitHub, Slack, memory).
//!
//! A line of `questions.txt` is a question and the tools that answer it, any of which will do. The second half was written when the
//! ranking stood.
#![allow(clippy::unwrap_used, reason = "what the tests read, they wrote")]

use gnomon_codemode::{Entry, Index, signature};
use serde_json::Value;

const TOOLS: &str = include_str!("tools.json");
const QUESTIONS: &str = include_str!("questions.txt");

#[test]
fn a_natural_question_finds_its_tool_first_in_most_cases_and_among_the_first_five_nearly_always() {
    let tools: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    let name = |tool: &Value| tool["name"].as_str().unwrap().to_owned();
    let names: Vec<String> = tools.iter().map(name).collect();
    let index = Index::new(tools.iter().zip(&names).map(|(tool, name)| Entry {
        name,
        description: tool["description"].as_str().unwrap_or_default(),
        input: tool.get("inputSchema"),
    }));
    let questions: Vec<(&str, Vec<&str>)> = QUESTIONS
        .lines()
        .map(|line| line.split_once('|').unwrap())
        .map(|(question, tools)| (question, tools.split(',').collect()))
        .collect();
    assert!(tools.len() == 57 && questions.len() >= 40);
    let (mut first, mut fifth) = (0, 0);
    for (question, right) in &questions {
        assert!(right.iter().all(|right| names.iter().any(|name| name == right)), "{question}");
        let hits: Vec<&str> = index.search(question, 10, |_| true).iter().map(|hit| names[hit.entry].as_str()).collect();
        let place = hits.iter().position(|hit| right.contains(hit)).unwrap_or(usize::MAX);
        first += usize::from(place < 1);
        fifth += usize::from(place < 5);
        if place > 0 {
            println!("{question}: {right:?}, found {hits:?}");
        }
    }
    let share = |of: usize| 100.0 * of as f64 / questions.len() as f64;
    println!("first {:.1} %, among five {:.1} %, of {}", share(first), share(fifth), questions.len());
    assert!(share(first) >= 70.0 && share(fifth) >= 90.0, "{:.1} %, {:.1} %", share(first), share(fifth));
}

#[test]
fn a_hit_in_brief_is_one_line_that_says_how_to_call_it() {
    let tools: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    for tool in &tools {
        let line = signature(tool["name"].as_str().unwrap(), &tool["inputSchema"]);
        assert!(!line.contains('\n') && line.len() < 400, "{line}");
        for required in tool["inputSchema"]["required"].as_array().into_iter().flatten() {
            assert!(line.contains(required.as_str().unwrap()), "{line}");
        }
    }
    let tool = tools.iter().find(|tool| tool["name"] == "github_list_commits").unwrap();
    assert_eq!(
        signature("github_list_commits", &tool["inputSchema"]),
        "github_list_commits({owner: string, repo: string, sha?: string, page?: number, perPage?: number})"
    );
}
