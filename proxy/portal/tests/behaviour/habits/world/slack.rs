//! A workspace of five channels and seven people, behind the Slack server. Answers are JSON as text, failures too.

use super::{Done, change, text};
use serde_json::{Value, json};

#[derive(Default)]
pub struct Slack {
    posts: u64,
}

const CHANNELS: [(&str, &str, u64); 5] =
    [("C01", "general", 42), ("C02", "random", 40), ("C03", "incidents", 12), ("C04", "dev", 17), ("C05", "sales", 9)];
const PEOPLE: [(&str, &str, &str); 7] = [
    ("U01", "ana", "Ana Lima"),
    ("U02", "ben", "Ben Okafor"),
    ("U03", "chidi", "Chidi Eze"),
    ("U04", "dora", "Dora Novak"),
    ("U05", "emil", "Emil Berg"),
    ("U06", "fay", "Fay Wong"),
    ("U07", "deploybot", "Deploy Bot"),
];

impl Slack {
    pub fn call(&mut self, tool: &str, arguments: &Value, done: &mut Done) -> Result<Value, String> {
        let given = |key: &str| arguments[key].as_str().unwrap_or_default();
        let channel = || CHANNELS.iter().any(|(id, ..)| *id == given("channel_id"));
        let said = match tool {
            "slack_list_channels" => {
                let all: Vec<Value> = CHANNELS
                    .iter()
                    .map(|(id, name, members)| json!({"id": id, "name": name, "is_archived": false, "num_members": members}))
                    .collect();
                page("channels", &all, arguments)
            }
            "slack_get_users" => {
                let all: Vec<Value> = PEOPLE.iter().map(|(id, name, real)| person(id, name, real)).collect();
                page("members", &all, arguments)
            }
            "slack_get_user_profile" => match PEOPLE.iter().find(|(id, ..)| *id == given("user_id")) {
                Some((id, name, real)) => json!({"ok": true, "profile": person(id, name, real)["profile"]}),
                None => json!({"ok": false, "error": "user_not_found"}),
            },
            "slack_post_message" | "slack_reply_to_thread" | "slack_add_reaction" if !channel() => {
                json!({"ok": false, "error": "channel_not_found"})
            }
            "slack_post_message" | "slack_reply_to_thread" => {
                change(done, arguments);
                self.posts += 1;
                json!({"ok": true, "channel": given("channel_id"), "ts": format!("1790000000.{:06}", self.posts), "message": {"text": given("text")}})
            }
            "slack_add_reaction" => {
                change(done, arguments);
                json!({"ok": true})
            }
            "slack_get_channel_history" if channel() => {
                let most = arguments["limit"].as_f64().map_or(10, |limit| limit as usize);
                let of = given("channel_id");
                let message = |n: usize| {
                    let said = ["deploy finished", "the site is down again", "rolled back", "who is on call?", "looks fine now"][n % 5];
                    json!({"type": "message", "user": PEOPLE[n % 7].0, "text": format!("{said} #{n}"), "ts": format!("17890{:05}.000100", 99_999 - n * 61),
                        "reply_count": if n % 5 == 1 { 2 } else { 0 }})
                };
                let count = if of == "C05" { 0 } else { 25 };
                json!({"ok": true, "messages": (0..count.min(most)).map(message).collect::<Vec<_>>(), "has_more": most < count})
            }
            "slack_get_thread_replies" if channel() => {
                json!({"ok": true, "messages": (1..3).map(|n| json!({"user": PEOPLE[n].0, "text": format!("reply {n}"), "ts": format!("{}{n}", given("thread_ts")), "thread_ts": given("thread_ts")})).collect::<Vec<_>>()})
            }
            _ => json!({"ok": false, "error": "channel_not_found"}),
        };
        Ok(text(said.to_string()))
    }
}

fn person(id: &str, name: &str, real: &str) -> Value {
    json!({"id": id, "name": name, "real_name": real, "is_bot": name.ends_with("bot"), "tz": "Europe/Lisbon",
        "profile": {"real_name": real, "email": format!("{name}@acme.example"), "title": "Engineer"}})
}

/// A page of a list, with where the next one begins.
fn page(name: &str, all: &[Value], arguments: &Value) -> Value {
    let size = arguments["limit"].as_f64().map_or(100, |limit| limit as usize).clamp(1, 200);
    let from = arguments["cursor"].as_str().and_then(|cursor| cursor.strip_prefix("from")?.parse().ok()).unwrap_or(0).min(all.len());
    let to = (from + size).min(all.len());
    let next = if to < all.len() { format!("from{to}") } else { String::new() };
    json!({"ok": true, name: all[from..to], "response_metadata": {"next_cursor": next}})
}
