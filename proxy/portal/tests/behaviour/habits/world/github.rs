//! A repository with 45 issues, four pull requests and 35 commits, behind the GitHub server. Answers are JSON as text.

use super::{Done, change, paged, pretty};
use serde_json::{Value, json};

pub struct GitHub {
    issues: Vec<Value>,
    pulls: Vec<Value>,
    commits: Vec<Value>,
    comments: u64,
}

const PEOPLE: [&str; 4] = ["ana", "ben", "chidi", "dora"];
const CHANGES: [&str; 3] = ["Fix rounding", "Add a test", "Update the docs"];
const PULLS: [&str; 4] = ["Round half to even", "Retry webhooks", "Bump zod", "Drop Node 18"];
const REPOSITORIES: [(&str, u32, &str); 4] =
    [("atlas", 310, "TypeScript"), ("borealis", 42, "Go"), ("cirrus", 1205, "Rust"), ("delta", 7, "Go")];
const WHAT: [&str; 9] = [
    "Crash on empty invoice",
    "Dark mode for the dashboard",
    "Login times out after an hour",
    "Export as CSV",
    "Tax is rounded wrongly",
    "Document the webhook retries",
    "Crash when the card is declined",
    "Faster search",
    "Typo in the welcome mail",
];

impl GitHub {
    pub fn new() -> Self {
        let issue = |n: usize| {
            let mut labels = vec![json!({"name": if n % 2 == 1 { "bug" } else { "enhancement" }})];
            if n.is_multiple_of(10) {
                labels.push(json!({"name": "priority:high"}));
            }
            json!({
                "id": 2_600_000_000_u64 + n as u64, "number": n, "title": WHAT[n % WHAT.len()], "state": if n.is_multiple_of(3) { "closed" } else { "open" },
                "user": {"login": PEOPLE[n % 4], "id": n % 4}, "labels": labels, "comments": n * 7 % 11, "assignees": [], "milestone": null,
                "created_at": format!("2026-{:02}-{:02}T08:00:00Z", 1 + n / 5, 1 + n % 28), "body": format!("Seen in release 2.{}.", n % 5),
                "html_url": format!("https://github.com/acme/atlas/issues/{n}"),
            })
        };
        let pull = |n: usize| {
            json!({
                "number": 100 + n, "title": PULLS[n - 1], "state": "open", "draft": n == 4,
                "user": {"login": PEOPLE[n % 4]}, "head": {"ref": format!("change-{n}"), "sha": format!("f00d{n}")}, "base": {"ref": "main"},
                "created_at": format!("2026-11-{:02}T08:00:00Z", 4 * n), "mergeable": n != 2, "additions": n * 40, "deletions": n * 3,
            })
        };
        let commit = |n: usize| {
            json!({
                "sha": format!("c0ffee{n:02}"), "author": {"login": PEOPLE[n % 4]},
                "commit": {"message": format!("{} ({n})", CHANGES[n % 3]), "author": {"name": PEOPLE[n % 4], "date": format!("2026-11-{:02}T10:00:00Z", 1 + n % 20)}},
            })
        };
        // The newest first, as GitHub lists them.
        Self {
            issues: (1..=45).rev().map(issue).collect(),
            pulls: (1..=4).rev().map(pull).collect(),
            commits: (1..=35).map(commit).collect(),
            comments: 0,
        }
    }

    pub fn call(&mut self, tool: &str, arguments: &Value, done: &mut Done) -> Result<Value, String> {
        let text = |key: &str| arguments[key].as_str().unwrap_or_default();
        let not_found = || "Not Found: Resource not found: Not Found".to_owned();
        let is_here = text("repo").is_empty() || (text("owner"), text("repo")) == ("acme", "atlas");
        if !is_here && tool != "fork_repository" {
            return Err(not_found());
        }
        let number = |key: &str| arguments[key].as_u64().or_else(|| arguments[key].as_f64().map(|number| number as u64));
        let pull = || self.pulls.iter().find(|pull| pull["number"].as_u64() == number("pull_number")).ok_or_else(not_found);
        let searched = |all: Vec<Value>| {
            let items = paged(&all, arguments, if tool == "search_repositories" { "perPage" } else { "per_page" });
            pretty(&json!({"total_count": all.len(), "incomplete_results": false, "items": items}))
        };
        Ok(match tool {
            "list_issues" => {
                let state = arguments["state"].as_str().unwrap_or("open");
                let labels: Vec<&str> = arguments["labels"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let mut found: Vec<Value> = self.issues.iter().filter(|issue| state == "all" || issue["state"] == state).cloned().collect();
                found.retain(|issue| labels.iter().all(|label| has_label(issue, label)));
                if text("direction") == "asc" {
                    found.reverse();
                }
                pretty(&json!(paged(&found, arguments, "per_page")))
            }
            "search_issues" => searched(self.issues.iter().filter(|issue| fits(issue, text("q"))).cloned().collect()),
            "get_issue" => {
                pretty(self.issues.iter().find(|issue| issue["number"].as_u64() == number("issue_number")).ok_or_else(not_found)?)
            }
            "create_issue" => {
                change(done, arguments);
                let number = self.issues.len() + 1;
                let labels: Vec<Value> = arguments["labels"].as_array().into_iter().flatten().map(|label| json!({"name": label})).collect();
                let issue = json!({"number": number, "title": text("title"), "state": "open", "labels": labels, "user": {"login": "me"}, "comments": 0,
                    "body": text("body"), "created_at": "2026-11-23T08:00:00Z", "html_url": format!("https://github.com/acme/atlas/issues/{number}")});
                self.issues.insert(0, issue.clone());
                pretty(&issue)
            }
            "update_issue" => {
                let wanted = number("issue_number");
                let issue = self.issues.iter_mut().find(|issue| issue["number"].as_u64() == wanted).ok_or_else(not_found)?;
                change(done, arguments);
                if let Some(state) = arguments["state"].as_str() {
                    issue["state"] = state.into();
                }
                pretty(issue)
            }
            "add_issue_comment" => {
                if !self.issues.iter().any(|issue| issue["number"].as_u64() == number("issue_number")) {
                    return Err(not_found());
                }
                change(done, arguments);
                self.comments += 1;
                pretty(&json!({"id": self.comments, "body": text("body")}))
            }
            "list_pull_requests" => pretty(&json!(self.pulls)),
            "get_pull_request" => pretty(pull()?),
            "get_pull_request_files" => {
                let n = pull()?["number"].as_u64().unwrap_or_default() - 100;
                let files: Vec<Value> = (1..=n)
                    .map(|at| json!({"filename": format!("src/part{at}.ts"), "status": "modified", "additions": 10 * at, "deletions": at}))
                    .collect();
                pretty(&json!(files))
            }
            "get_pull_request_status" => {
                let state = if pull()?["number"] == 102 { "failure" } else { "success" };
                pretty(&json!({"state": state, "statuses": [{"context": "ci/build", "state": state}]}))
            }
            "get_pull_request_reviews" => {
                let approved = pull()?["number"] != 102;
                pretty(&json!([{"user": {"login": "dora"}, "state": if approved { "APPROVED" } else { "CHANGES_REQUESTED" }}]))
            }
            "get_pull_request_comments" => {
                pretty(&json!([{"user": {"login": "ana"}, "body": format!("Why here? ({})", pull()?["number"])}]))
            }
            "create_pull_request_review" | "update_pull_request_branch" | "merge_pull_request" => {
                let pull = pull()?;
                if tool == "merge_pull_request" && pull["mergeable"] == false {
                    return Err("Validation Error: Pull Request is not mergeable".to_owned());
                }
                let merged = json!({"merged": true, "sha": pull["head"]["sha"], "message": "Done"});
                change(done, arguments);
                pretty(&merged)
            }
            "list_commits" => pretty(&json!(paged(&self.commits, arguments, "perPage"))),
            "get_file_contents" => {
                let file = |path: &str, content: &str| json!({"name": path.rsplit('/').next(), "path": path, "type": "file", "size": content.len(), "content": content});
                match text("path").trim_matches('/') {
                    "" | "." => pretty(
                        &json!([{"name": "README.md", "path": "README.md", "type": "file"}, {"name": "src", "path": "src", "type": "dir"}]),
                    ),
                    "README.md" => pretty(&file("README.md", "# Atlas\n\nThe billing service.\n")),
                    "package.json" => pretty(&file("package.json", "{\"name\": \"atlas\", \"version\": \"2.4.1\", \"license\": \"MIT\"}")),
                    "src" => pretty(
                        &json!([{"name": "index.ts", "path": "src/index.ts", "type": "file"}, {"name": "billing.ts", "path": "src/billing.ts", "type": "file"}]),
                    ),
                    "src/index.ts" => pretty(&file("src/index.ts", "import { bill } from './billing';\n")),
                    "src/billing.ts" => pretty(&file("src/billing.ts", "export function bill() {}\n")),
                    _ => return Err(not_found()),
                }
            }
            "search_code" => {
                let found = ["src/index.ts", "src/billing.ts"]
                    .map(|path| json!({"name": path, "path": path, "repository": {"full_name": "acme/atlas"}}));
                searched(found.into())
            }
            "search_repositories" => {
                let repository = |(name, stars, language): (&str, u32, &str)| json!({"full_name": format!("acme/{name}"), "name": name, "owner": {"login": "acme"}, "stargazers_count": stars, "language": language});
                searched(REPOSITORIES.into_iter().map(repository).collect())
            }
            "search_users" => {
                searched(PEOPLE.iter().map(|login| json!({"login": login, "html_url": format!("https://github.com/{login}")})).collect())
            }
            "create_branch" | "create_or_update_file" | "push_files" | "create_repository" | "fork_repository" | "create_pull_request" => {
                change(done, arguments);
                pretty(
                    &json!({"number": 105, "ref": format!("refs/heads/{}", text("branch")), "full_name": format!("acme/{}", text("name")), "state": "open",
                    "title": text("title"), "html_url": "https://github.com/acme/atlas/pull/105", "commit": {"sha": "c0ffee99"}}),
                )
            }
            other => return Err(format!("Unknown tool: {other}")),
        })
    }
}

fn has_label(issue: &Value, name: &str) -> bool {
    issue["labels"].as_array().into_iter().flatten().any(|label| label["name"] == name)
}

/// Whether an issue fits a query: qualifiers that are known, and words of its title.
fn fits(issue: &Value, query: &str) -> bool {
    let title = issue["title"].as_str().unwrap_or_default().to_lowercase();
    query.split_whitespace().all(|word| match word.split_once(':') {
        Some(("label", label)) => has_label(issue, label.trim_matches('"')),
        Some(("state" | "is", state @ ("open" | "closed"))) => issue["state"] == state,
        Some(("author", login)) => issue["user"]["login"] == login,
        Some(_) => true,
        None => title.contains(&word.to_lowercase()),
    })
}
