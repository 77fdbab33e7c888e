//! A project's folder, behind the filesystem server. Each answer is a text, and the same under `content`.

use super::{Done, change};
use serde_json::{Value, json};
use std::collections::BTreeMap;

pub struct Files(BTreeMap<String, String>);

/// The only folder that it may use.
const ROOT: &str = "/projects/atlas";

impl Files {
    pub fn new() -> Self {
        let mut files = BTreeMap::new();
        let mut add = |path: &str, text: String| files.insert(format!("{ROOT}/{path}"), text);
        add("README.md", "# Atlas\n\nThe billing service.\n\n## Install\n\nnpm install\n".into());
        add("package.json", "{\n  \"name\": \"atlas\",\n  \"version\": \"2.4.1\",\n  \"dependencies\": {\"express\": \"^4.19.2\", \"zod\": \"^3.23.8\"}\n}\n".into());
        add("todo.txt", "[x] move to the new tax rates\n[ ] rotate the signing key\n[ ] drop the old webhook\n[x] write the runbook\n[ ] page two of the export\n".into());
        add("src/index.ts", "import { bill } from './billing';\n// TODO: read the port from the environment\nbill();\n".into());
        add("src/billing.ts", "// TODO: round half to even\nexport function bill() { /* TODO: charge */ }\n".into());
        for (region, amounts) in
            [("north", [1200.5, 980.0, 1430.25]), ("south", [400.0, 610.75, 555.0]), ("east", [2210.0, 1999.99, 2105.5])]
        {
            let rows: Vec<String> = (1..).zip(amounts).map(|(month, amount): (u32, f64)| format!("2026-{month:02},{amount}")).collect();
            add(&format!("reports/{region}.csv"), format!("month,amount\n{}\n", rows.join("\n")));
        }
        let line = |n: usize| {
            let (level, what) = match n % 23 {
                7 => ("ERROR", "timeout after 3000 ms calling tax-service"),
                15 => ("ERROR", "card declined"),
                3 => ("WARN", "retrying webhook delivery"),
                _ => ("INFO", "request served"),
            };
            format!("2026-11-20T{:02}:{:02}:00Z {level} {what} id={n}", n / 60 % 24, n % 60)
        };
        add("logs/app.log", (0..600).map(line).collect::<Vec<_>>().join("\n") + "\n");
        Self(files)
    }

    pub fn call(&mut self, tool: &str, arguments: &Value, done: &mut Done) -> Result<Value, String> {
        let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
        let path = text("path").trim_end_matches('/').to_owned();
        if !path.is_empty() {
            within(&path)?;
        }
        let said = match tool {
            "read_text_file" | "read_file" => {
                let whole = self.read(&path)?;
                let lines: Vec<&str> = whole.lines().collect();
                match (arguments["head"].as_u64(), arguments["tail"].as_u64()) {
                    (Some(head), _) => lines[..lines.len().min(head as usize)].join("\n"),
                    (_, Some(tail)) => lines[lines.len().saturating_sub(tail as usize)..].join("\n"),
                    _ => whole.clone(),
                }
            }
            "read_multiple_files" => {
                let paths = arguments["paths"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let one = |path: &str| match self.read(path) {
                    Ok(text) => format!("{path}:\n{text}\n"),
                    Err(why) => format!("{path}: Error - {why}"),
                };
                paths.map(one).collect::<Vec<_>>().join("\n---\n")
            }
            "list_directory" => self.entries(&path)?.iter().map(|(name, kind)| format!("[{kind}] {name}")).collect::<Vec<_>>().join("\n"),
            "list_directory_with_sizes" => {
                let size = |name: &str| self.0.get(&format!("{path}/{name}")).map(|text| format!("{} B", text.len())).unwrap_or_default();
                self.entries(&path)?
                    .iter()
                    .map(|(name, kind)| format!("[{kind}] {name:<30} {:>9}", size(name)))
                    .collect::<Vec<_>>()
                    .join("\n")
            }
            "directory_tree" => serde_json::to_string_pretty(&self.tree(&path)).unwrap(),
            "search_files" => {
                let pattern = text("pattern");
                let ending = pattern.trim_start_matches("**/").trim_start_matches('*').to_owned();
                let deep = pattern.starts_with("**/");
                let is_match = |found: &&String| {
                    let rest = found.strip_prefix(&format!("{path}/"));
                    rest.is_some_and(|rest| rest.ends_with(&ending) && (deep || !rest.contains('/')))
                };
                let found: Vec<&str> = self.0.keys().filter(is_match).map(String::as_str).collect();
                if found.is_empty() { "No matches found".to_owned() } else { found.join("\n") }
            }
            "get_file_info" => {
                let size = self.read(&path)?.len();
                format!(
                    "size: {size}\nmodified: Fri Nov 20 2026 09:00:00 GMT+0000 (Coordinated Universal Time)\nisDirectory: false\nisFile: true\npermissions: 644"
                )
            }
            "list_allowed_directories" => format!("Allowed directories:\n{ROOT}"),
            "create_directory" => {
                change(done, arguments);
                format!("Successfully created directory {path}")
            }
            "write_file" => {
                change(done, arguments);
                self.0.insert(path.clone(), text("content"));
                format!("Successfully wrote to {path}")
            }
            "edit_file" => {
                let mut new = self.read(&path)?.clone();
                for edit in arguments["edits"].as_array().into_iter().flatten() {
                    let old = edit["oldText"].as_str().unwrap_or_default();
                    if !new.contains(old) {
                        return Err(format!("Could not find exact match for edit:\n{old}"));
                    }
                    new = new.replacen(old, edit["newText"].as_str().unwrap_or_default(), 1);
                }
                change(done, arguments);
                self.0.insert(path.clone(), new);
                format!("```diff\nIndex: {path}\n```\n\n")
            }
            "move_file" => {
                let (from, to) = (text("source"), text("destination"));
                let moved = self.read(&from)?.clone();
                change(done, arguments);
                self.0.remove(&from);
                self.0.insert(to.clone(), moved);
                format!("Successfully moved {from} to {to}")
            }
            other => return Err(format!("Unknown tool: {other}")),
        };
        Ok(json!({"content": [{"type": "text", "text": said}], "structuredContent": {"content": said}}))
    }

    fn read(&self, path: &str) -> Result<&String, String> {
        within(path)?;
        self.0.get(path).ok_or_else(|| format!("ENOENT: no such file or directory, open '{path}'"))
    }

    /// What stands in a folder, with its kind, in order.
    fn entries(&self, path: &str) -> Result<Vec<(String, &'static str)>, String> {
        let below = self.0.keys().filter_map(|known| known.strip_prefix(path)?.strip_prefix('/'));
        let mut found: Vec<(String, &str)> =
            below.map(|rest| rest.split_once('/').map_or((rest.to_owned(), "FILE"), |(folder, _)| (folder.to_owned(), "DIR"))).collect();
        found.dedup();
        if found.is_empty() { Err(format!("ENOENT: no such file or directory, scandir '{path}'")) } else { Ok(found) }
    }

    fn tree(&self, path: &str) -> Value {
        let entries = self.entries(path).unwrap_or_default().into_iter();
        entries
            .map(|(name, kind)| match kind {
                "DIR" => json!({"name": name, "type": "directory", "children": self.tree(&format!("{path}/{name}"))}),
                _ => json!({"name": name, "type": "file"}),
            })
            .collect()
    }
}

fn within(path: &str) -> Result<(), String> {
    if path == ROOT || path.starts_with(&format!("{ROOT}/")) {
        return Ok(());
    }
    Err(format!("Access denied - path outside allowed directories: {path} not in {ROOT}"))
}
