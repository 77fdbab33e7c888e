//! What whole tasks cost a model in tokens: with every tool listed and called one by one, and in Code Mode.
//!
//! Counted once each, in tokens of `o200k_base`: the definitions that are shown, everything that the model has to write (names,
//! arguments, code), and everything that it gets back. A model that reads its whole context at each turn pays for the
//! definitions and for earlier results again and again; that is not counted, and would only widen the gap.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::portal::Client;

const SEARCH: &str = "portal_codemode_search";
const EXECUTE: &str = "portal_codemode_execute";
const REPORTS: usize = 12;
const PEOPLE: usize = 8;

/// What one task took.
pub struct Cost {
    /// What is asked for.
    pub task: &'static str,
    /// Calls and tokens with every tool listed.
    pub classic: (usize, usize),
    /// The same in Code Mode.
    pub code: (usize, usize),
}

/// What the model writes and reads.
struct Talk<'a> {
    client: &'a mut Client,
    calls: usize,
    tokens: usize,
}

impl<'a> Talk<'a> {
    /// It begins with the definitions.
    fn begin(client: &'a mut Client) -> Result<Self> {
        let tokens = count(&client.tools()?.to_string());
        Ok(Self { client, calls: 0, tokens })
    }

    /// A call; the value is the text of its result.
    fn call(&mut self, tool: &str, arguments: &Value) -> Result<String> {
        let result = self.client.take(tool, arguments)?;
        let text: String = result["content"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
        ensure!(result["isError"] != true, "{tool}: {text}");
        self.calls += 1;
        self.tokens += count(&json!({"name": tool, "arguments": arguments}).to_string()) + count(&result["content"].to_string());
        Ok(text)
    }

    fn search(&mut self, words: &str, limit: usize) -> Result<()> {
        let code = format!(
            "async () => (await codemode.search('{words}', {{limit: {limit}}})).map(t => ({{ name: t.name, description: t.description, input: t.inputSchema }}))"
        );
        self.call(SEARCH, &json!({ "code": code })).map(drop)
    }

    fn execute(&mut self, code: &str) -> Result<String> {
        self.call(EXECUTE, &json!({ "code": code }))
    }

    fn cost(self) -> (usize, usize) {
        (self.calls, self.tokens)
    }
}

/// Runs the tasks by both roads, with the servers `filesystem` and `memory` behind each; files are made in `folder`, which the first
/// may read.
///
/// # Errors
/// When a call fails, or the two roads come to different answers.
pub fn run(classic: &mut Client, code: &mut Client, folder: &Path) -> Result<Vec<Cost>> {
    Ok(vec![reports(classic, code, folder)?, people(classic, code, folder)?, visits(classic, code)?])
}

/// Twelve reports, of which some mention an overrun.
fn reports(classic: &mut Client, code: &mut Client, folder: &Path) -> Result<Cost> {
    let place = folder.join("reports");
    fs::create_dir(&place)?;
    for n in 0..REPORTS {
        let mut text = format!("# Report of project {n}\n\n");
        for week in 1..=40 {
            text.push_str(&format!(
                "Week {week}: the team worked through {} of the planned items and nothing unusual came up.\n",
                week * 3 % 17
            ));
        }
        if n % 4 == 1 {
            text.push_str(&format!("Budget overrun: {} EUR\n", 1000 * n));
        }
        fs::write(place.join(format!("report-{n:02}.md")), text)?;
    }
    let shown = place.display().to_string();
    let mut talk = Talk::begin(classic)?;
    talk.call("filesystem_list_directory", &json!({ "path": shown }))?;
    let mut found = Vec::new();
    for n in 0..REPORTS {
        let path = place.join(format!("report-{n:02}.md")).display().to_string();
        let text = talk.call("filesystem_read_text_file", &json!({ "path": path }))?;
        found.extend(text.lines().find(|line| line.starts_with("Budget overrun")).map(str::to_owned));
    }
    let classic = talk.cost();
    let mut talk = Talk::begin(code)?;
    talk.search("list directory, read text file", 4)?;
    let script = format!(
        "async () => {{
  const dir = '{shown}';
  const listing = await codemode.filesystem_list_directory({{ path: dir }});
  const names = String(listing.content ?? listing).split('\\n').map(line => line.replace('[FILE] ', '').trim()).filter(Boolean);
  const texts = await Promise.all(names.map(name => codemode.filesystem_read_text_file({{ path: `${{dir}}/${{name}}` }})));
  return texts.map((text, at) => [names[at], String(text.content ?? text).match(/Budget overrun: .*/)?.[0]]).filter(([, line]) => line);
}}"
    );
    let said = talk.execute(&script)?;
    ensure!(found.len() == 3 && found.iter().all(|line| said.contains(line)), "{found:?} and {said}");
    Ok(Cost { task: "which of 12 reports mention an overrun", classic, code: talk.cost() })
}

/// People of a table become entities with a relation each.
fn people(classic: &mut Client, code: &mut Client, folder: &Path) -> Result<Cost> {
    let path = folder.join("people.csv");
    let rows: Vec<[String; 3]> =
        (0..PEOPLE).map(|n| [format!("person-{n}"), format!("team-{}", n % 3), format!("room {}", 100 + n)]).collect();
    fs::write(&path, rows.iter().map(|row| row.join(",") + "\n").collect::<String>())?;
    let shown = path.display().to_string();
    let entities = |rows: &[[String; 3]]| -> Vec<Value> {
        rows.iter()
            .map(|[name, _, room]| json!({"name": name, "entityType": "person", "observations": [format!("sits in {room}")]}))
            .collect()
    };
    let relations = |rows: &[[String; 3]]| -> Vec<Value> {
        rows.iter().map(|[name, team, _]| json!({"from": name, "to": team, "relationType": "is in"})).collect()
    };
    let mut talk = Talk::begin(classic)?;
    talk.call("filesystem_read_text_file", &json!({ "path": shown }))?;
    talk.call("memory_create_entities", &json!({"entities": entities(&rows)}))?;
    talk.call("memory_create_relations", &json!({"relations": relations(&rows)}))?;
    let classic = talk.cost();
    let mut talk = Talk::begin(code)?;
    talk.search("read text file, create entities, create relations", 4)?;
    let script = format!(
        "async () => {{
  const text = await codemode.filesystem_read_text_file({{ path: '{shown}' }});
  const rows = String(text.content ?? text).trim().split('\\n').map(line => line.split(','));
  await codemode.memory_create_entities({{ entities: rows.map(([name, , room]) => ({{ name, entityType: 'person', observations: [`sits in ${{room}}`] }})) }});
  await codemode.memory_create_relations({{ relations: rows.map(([from, to]) => ({{ from, to, relationType: 'is in' }})) }});
  return rows.length;
}}"
    );
    let said = talk.execute(&script)?;
    ensure!(said.trim_start().starts_with(&PEOPLE.to_string()), "{said}");
    Ok(Cost { task: "8 people of a table into the knowledge graph", classic, code: talk.cost() })
}

/// Each person is looked up, and something is added to what is known of them.
fn visits(classic: &mut Client, code: &mut Client) -> Result<Cost> {
    let added = |n: usize| json!({"observations": [{"entityName": format!("person-{n}"), "contents": ["was visited on Monday"]}]});
    let mut talk = Talk::begin(classic)?;
    for n in 0..PEOPLE {
        let found = talk.call("memory_search_nodes", &json!({"query": format!("person-{n}")}))?;
        ensure!(found.contains("sits in"), "{found}");
        talk.call("memory_add_observations", &added(n))?;
    }
    let classic = talk.cost();
    let mut talk = Talk::begin(code)?;
    talk.search("search nodes, add observations", 3)?;
    let script = format!(
        "async () => {{
  const names = Array.from({{ length: {PEOPLE} }}, (_, n) => `person-${{n}}`);
  const found = await Promise.all(names.map(query => codemode.memory_search_nodes({{ query }})));
  const known = names.filter((name, at) => JSON.stringify(found[at]).includes('sits in'));
  await codemode.memory_add_observations({{ observations: known.map(entityName => ({{ entityName, contents: ['was visited on Tuesday'] }})) }});
  return known;
}}"
    );
    let said = talk.execute(&script)?;
    ensure!((0..PEOPLE).all(|n| said.contains(&format!("person-{n}"))), "{said}");
    Ok(Cost { task: "8 people looked up, an observation added to each", classic, code: talk.cost() })
}

fn count(text: &str) -> usize {
    bpe_openai::o200k_base().count(text)
}

/// A table of what the tasks cost.
///
/// # Errors
/// Where Code Mode costs more.
pub fn show(costs: &[Cost]) -> Result<()> {
    println!("\n{:<50} {:>14} {:>14} {:>8}", "task, from definitions to result", "classic", "Code Mode", "saved");
    for Cost { task, classic, code } in costs {
        let saved = 100.0 * (1.0 - code.1 as f64 / classic.1 as f64);
        let side = |(calls, tokens): &(usize, usize)| format!("{tokens} in {calls}");
        println!("{task:<50} {:>14} {:>14} {saved:>7.1}%", side(classic), side(code));
        ensure!(code.1 < classic.1, "{task}: Code Mode costs more");
    }
    println!("(tokens in calls)");
    Ok(())
}
