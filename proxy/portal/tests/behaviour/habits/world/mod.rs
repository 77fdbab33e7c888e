//! What scripts act on: stand-ins for the filesystem, GitHub, Slack and memory servers of the MCP project, which list the 57 tools as the
//! real ones do and answer in their forms, and three APIs. All is as it was in the beginning for each case.

pub mod apis;
mod files;
mod github;
mod memory;
mod slack;

use crate::server::{Server, Speaks};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use std::{collections::HashMap, sync::LazyLock};

/// The list of the four servers' tools, by the names that a portal gives them.
pub const TOOLS: &str = include_str!("../../../../../codemode/tests/questions/tools.json");

/// The servers, by the ids that they have at the portal.
pub const SERVERS: [&str; 4] = ["filesystem", "github", "slack", "memory"];

/// Everything that can change.
pub struct World {
    files: files::Files,
    github: github::GitHub,
    slack: slack::Slack,
    memory: memory::Memory,
    /// What was changed: the tool, and what it was given.
    pub done: Vec<(String, Value)>,
    /// Tools that fail for some more calls, and what they say then.
    pub faults: HashMap<String, (u32, String)>,
}

impl World {
    fn new() -> Self {
        Self {
            files: files::Files::new(),
            github: github::GitHub::new(),
            slack: slack::Slack::default(),
            memory: memory::Memory::new(),
            done: Vec::new(),
            faults: HashMap::new(),
        }
    }

    /// What a tool that is to fail says, once more.
    pub fn fault(&mut self, tool: &str) -> Option<String> {
        let (left, says) = self.faults.get_mut(tool).filter(|(left, _)| *left > 0)?;
        *left -= 1;
        Some(says.clone())
    }

    fn call(&mut self, server: &str, tool: &str, arguments: &Value) -> Value {
        let name = format!("{server}_{tool}");
        if let Some(says) = self.fault(&name) {
            return failed(&says);
        }
        let done = self.done.len();
        let answer = match server {
            "filesystem" => self.files.call(tool, arguments, &mut self.done),
            "github" => self.github.call(tool, arguments, &mut self.done),
            "slack" => self.slack.call(tool, arguments, &mut self.done),
            _ => self.memory.call(tool, arguments, &mut self.done),
        };
        self.done[done..].iter_mut().for_each(|(known, _)| *known = name.clone());
        answer.unwrap_or_else(|says| failed(&says))
    }
}

static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| Mutex::new(World::new()));

/// The world as it is now.
pub fn now() -> MutexGuard<'static, World> {
    WORLD.lock()
}

/// The world as it was in the beginning.
pub fn anew() {
    *now() = World::new();
}

/// The tools of a server, by its own names.
fn tools(server: &str) -> Vec<Value> {
    let all: Vec<Value> = serde_json::from_str(TOOLS).unwrap();
    let own = |mut tool: Value| {
        let name = tool["name"].as_str()?.strip_prefix(server)?.strip_prefix('_')?.to_owned();
        tool["name"] = name.into();
        Some(tool)
    };
    all.into_iter().filter_map(own).collect()
}

/// The four servers, running.
pub async fn servers() -> Vec<(&'static str, Server)> {
    let mut all = Vec::new();
    for id in SERVERS {
        let tools = json!({"tools": tools(id)});
        let answers = move |method: &str, params: &Value| match method {
            "tools/list" => Some(tools.clone()),
            "tools/call" => Some(now().call(id, params["name"].as_str().unwrap(), &params["arguments"])),
            _ => None,
        };
        all.push((id, Server::scripted(id, Speaks::Legacy, answers).await));
    }
    all
}

/// What a tool that changed something comes to, and the note of it.
type Done = Vec<(String, Value)>;

fn change(done: &mut Done, arguments: &Value) {
    done.push((String::new(), arguments.clone()));
}

fn text(said: impl Into<String>) -> Value {
    json!({"content": [{"type": "text", "text": said.into()}]})
}

/// As the older servers write JSON: a text of several lines.
fn pretty(value: &Value) -> Value {
    text(serde_json::to_string_pretty(value).unwrap())
}

fn failed(said: &str) -> Value {
    json!({"content": [{"type": "text", "text": said}], "isError": true})
}

/// One page of a list.
fn paged<'a>(all: &'a [Value], arguments: &Value, size: &str) -> &'a [Value] {
    let size = arguments[size].as_f64().map_or(30, |size| size as usize).clamp(1, 100);
    let page = arguments["page"].as_f64().map_or(1, |page| page as usize).max(1);
    let from = ((page - 1) * size).min(all.len());
    &all[from..(from + size).min(all.len())]
}
