//! A small knowledge graph, behind the memory server. Answers are structured.

use super::{Done, change};
use serde_json::{Value, json};

pub struct Memory {
    entities: Vec<Value>,
    relations: Vec<Value>,
}

impl Memory {
    pub fn new() -> Self {
        let entity = |name: &str, kind: &str, facts: &[&str]| json!({"name": name, "entityType": kind, "observations": facts});
        let relation = |from: &str, to: &str, kind: &str| json!({"from": from, "to": to, "relationType": kind});
        Self {
            entities: vec![
                entity("Ana Lima", "person", &["leads billing", "prefers mornings"]),
                entity("Ben Okafor", "person", &["on call this week"]),
                entity("Chidi Eze", "person", &[]),
                entity("Atlas", "project", &["billing service", "TypeScript"]),
                entity("Borealis", "project", &["search", "Go", "frozen until January"]),
            ],
            relations: vec![
                relation("Ana Lima", "Atlas", "works_on"),
                relation("Ben Okafor", "Atlas", "works_on"),
                relation("Ben Okafor", "Borealis", "works_on"),
            ],
        }
    }

    pub fn call(&mut self, tool: &str, arguments: &Value, done: &mut Done) -> Result<Value, String> {
        let list = |key: &str| arguments[key].as_array().cloned().unwrap_or_default();
        let names = |key: &str| -> Vec<String> { list(key).iter().filter_map(Value::as_str).map(str::to_owned).collect() };
        let value = match tool {
            "read_graph" => json!({"entities": self.entities, "relations": self.relations}),
            "search_nodes" => {
                let query = arguments["query"].as_str().unwrap_or_default().to_lowercase();
                self.part(|entity| entity.to_string().to_lowercase().contains(&query))
            }
            "open_nodes" => {
                let names = names("names");
                self.part(|entity| names.iter().any(|name| entity["name"] == *name))
            }
            "create_entities" => {
                change(done, arguments);
                let new: Vec<Value> =
                    list("entities").into_iter().filter(|new| !self.entities.iter().any(|known| known["name"] == new["name"])).collect();
                self.entities.extend(new.clone());
                json!({"entities": new})
            }
            "create_relations" => {
                change(done, arguments);
                self.relations.extend(list("relations"));
                json!({"relations": list("relations")})
            }
            "add_observations" => {
                let mut results = Vec::new();
                for one in list("observations") {
                    let name = one["entityName"].as_str().unwrap_or_default();
                    let known = self.entities.iter_mut().find(|entity| entity["name"] == name);
                    let known = known.ok_or_else(|| format!("Entity with name {name} not found"))?;
                    let facts = one["contents"].as_array().cloned().unwrap_or_default();
                    known["observations"].as_array_mut().unwrap().extend(facts.clone());
                    results.push(json!({"entityName": name, "addedObservations": facts}));
                }
                change(done, arguments);
                json!({"results": results})
            }
            "delete_entities" | "delete_observations" | "delete_relations" => {
                change(done, arguments);
                let names = names("entityNames");
                self.entities.retain(|entity| !names.iter().any(|name| entity["name"] == *name));
                json!({"success": true, "message": "Deleted successfully"})
            }
            other => return Err(format!("Unknown tool: {other}")),
        };
        let said = serde_json::to_string_pretty(&value).unwrap();
        Ok(json!({"content": [{"type": "text", "text": said}], "structuredContent": value}))
    }

    fn part(&self, is_meant: impl Fn(&Value) -> bool) -> Value {
        let entities: Vec<&Value> = self.entities.iter().filter(|entity| is_meant(entity)).collect();
        let has = |name: &Value| entities.iter().any(|entity| entity["name"] == *name);
        let relations: Vec<&Value> = self.relations.iter().filter(|relation| has(&relation["from"]) || has(&relation["to"])).collect();
        json!({"entities": entities, "relations": relations})
    }
}
