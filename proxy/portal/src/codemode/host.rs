//! What a script can ask for, answered: tools by the road of direct calls, and what is known of them.

use super::{
    Calls,
    callable::{Callable, Detail},
    suspended::Asker,
};
use crate::{
    call::{Call, From, Script},
    results::{MAX_ROUNDS, Wanted, wanted_input},
    view::Exposed,
};
use bytes::Bytes;
use gnomon_codemode::{Asked, MAX_HITS, Raw};
use gnomon_upstream::{
    catalogue::Listed,
    legacy::text as as_text,
    members::Members,
    modern::with_meta,
    rpc::{Id, Outcome, Request, quoted},
};
use serde_json::{Value, json};
use std::time::Duration;

/// How many tools a search gives where nothing is said.
const FOUND: usize = 10;

/// How long an execution may be suspended in all: servers choose how often they ask.
const MOST_SUSPENDED: Duration = Duration::from_secs(30 * 60);

/// One execution's host.
pub(super) struct Host<'a, C> {
    pub calls: &'a C,
    pub call: &'a Call,
    pub callable: &'a Callable,
    pub script: Script,
    /// How its client is asked, unless that is done while its request is open.
    pub asker: Option<Asker>,
}

impl<C: Calls> gnomon_codemode::Host for Host<'_, C> {
    async fn call(&self, asked: Asked<'_>, arguments: &Raw) -> Result<Box<Raw>, String> {
        let text = match asked {
            Asked::Tool(name) => return self.tool(name, arguments).await,
            Asked::Tools => self.all(),
            Asked::Search => self.search(arguments)?,
            Asked::Describe => self.describe(arguments)?,
        };
        Raw::from_string(text).map_err(|error| error.to_string())
    }

    fn suspended(&self) -> Duration {
        self.script.waiting.so_far().min(MOST_SUSPENDED)
    }
}

impl<C: Calls> Host<'_, C> {
    /// The id of a tool's server.
    fn server(&self, exposed: &Exposed) -> &str {
        self.calls.lists().servers().get(exposed.server).map_or("", |server| &server.id)
    }

    /// Calls a tool as its caller could by itself, and gives its plain value.
    async fn tool(&self, name: &str, arguments: &Raw) -> Result<Box<Raw>, String> {
        let exposed = self.callable.get(name).ok_or_else(|| format!("there is no tool `{name}`"))?;
        let call = Call { script: Some(self.script.clone()), ..self.call.clone() };
        let mut params = format!("{{\"name\":{},\"arguments\":{}}}", quoted(&exposed.name), arguments.get());
        if let From::Stateless(client) = &call.from {
            let members = Members::read(params.as_bytes()).map_err(|_| "the arguments cannot be read".to_owned())?;
            params = as_text(&with_meta(&members, client, &[])).to_owned();
        }
        let mut input = String::new();
        for _ in 0..MAX_ROUNDS {
            let asked = format!("{}{input}}}", params.strip_suffix('}').unwrap_or(&params));
            let request = Request::new(Id::number(1), "tools/call".into(), Some(Bytes::from(asked)));
            let outcome = self.calls.call(&call, &request).await;
            let (Some(asker), Some(wanted)) = (&self.asker, wanted(&outcome)) else { return plain(&outcome, name) };
            let answers = asker.ask(wanted.requests, &self.script.waiting).await?;
            let state = wanted.state.map(|state| format!(",\"requestState\":{state}")).unwrap_or_default();
            input = format!(",\"inputResponses\":{answers}{state}");
        }
        Err(format!("`{name}` asked for more input {MAX_ROUNDS} times"))
    }

    fn all(&self) -> String {
        let mut text = Vec::with_capacity(64 << 10);
        text.push(b'[');
        let detail = self.callable.detail();
        for (index, (name, exposed)) in self.callable.tools().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&Callable::told(self.server(exposed), name, exposed, detail));
        }
        text.push(b']');
        String::from_utf8(text).unwrap_or_else(|_| "[]".to_owned())
    }

    fn search(&self, arguments: &Raw) -> Result<String, String> {
        let given: Vec<Value> = serde_json::from_str(arguments.get()).map_err(|error| error.to_string())?;
        let Some(query) = given.first().and_then(Value::as_str) else {
            return Err("say what to search for: codemode.search('text', {limit: 10})".to_owned());
        };
        let limit = given.get(1).and_then(|options| options.get("limit")).and_then(Value::as_u64);
        let limit = limit.map_or(FOUND, |limit| usize::try_from(limit).unwrap_or(MAX_HITS).clamp(1, MAX_HITS));
        let told: Vec<String> = self
            .callable
            .ranked(query, limit)
            .map(|(name, exposed)| {
                String::from_utf8(Callable::told(self.server(exposed), name, exposed, Detail::Whole)).unwrap_or_else(|_| "null".to_owned())
            })
            .collect();
        Ok(format!("[{}]", told.join(",")))
    }

    fn describe(&self, arguments: &Raw) -> Result<String, String> {
        let given: Vec<Value> = serde_json::from_str(arguments.get()).map_err(|error| error.to_string())?;
        let Some(name) = given.first().and_then(Value::as_str) else {
            return Err("say which tool: codemode.describe('name')".to_owned());
        };
        let exposed = self.callable.get(name).ok_or_else(|| format!("there is no tool `{name}`: codemode.search finds what there is"))?;
        if let Listed::Nowhere(why) = exposed.entry.listed() {
            return Err(why.to_string());
        }
        let entry: Value = serde_json::from_slice(&exposed.text).unwrap_or_default();
        let description = entry["description"].as_str().unwrap_or_default();
        let declared = gnomon_codemode::declare(name, description, &entry["inputSchema"], entry.get("outputSchema"));
        Ok(Value::String(declared).to_string())
    }
}

fn wanted(outcome: &Outcome) -> Option<Wanted> {
    match outcome {
        Outcome::Result(result) => wanted_input(result),
        Outcome::Error(_) => None,
    }
}

/// A result as the plain value that a script works with; an error as an error.
fn plain(outcome: &Outcome, name: &str) -> Result<Box<Raw>, String> {
    let result = match outcome {
        Outcome::Result(result) => result,
        Outcome::Error(error) => {
            let error: Value = serde_json::from_slice(error).unwrap_or_default();
            return Err(error["message"].as_str().unwrap_or("the server answered with an error").to_owned());
        }
    };
    let broken = |_| "the server's answer cannot be read".to_owned();
    let members = Members::read(result).map_err(broken)?;
    if members.text("resultType").as_deref() == Some("input_required") {
        return Err(format!("`{name}` asks for input, which a script cannot give: call it without Code Mode"));
    }
    let content: Vec<Value> = members.get("content").and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
    let texts: Vec<&str> = content.iter().filter(|part| part["type"] == "text").filter_map(|part| part["text"].as_str()).collect();
    if members.flag("isError") == Some(true) {
        let said = texts.join("\n");
        return Err(if said.is_empty() { format!("`{name}` failed and does not say why") } else { said });
    }
    let raw = |text: String| Raw::from_string(text).map_err(broken);
    if let Some(structured) = members.get("structuredContent").filter(|json| *json != "null") {
        return raw(structured.to_owned());
    }
    if texts.len() == content.len() {
        let text = texts.join("\n");
        return match serde_json::from_str::<&Raw>(&text) {
            Ok(json) => Ok(json.to_owned()),
            Err(_) => raw(json!(text).to_string()),
        };
    }
    raw(String::from_utf8_lossy(result).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: Value) -> Result<String, String> {
        plain(&Outcome::Result(Bytes::from(result.to_string())), "x").map(|raw| raw.get().to_owned())
    }

    #[test]
    fn results_become_plain_values_and_errors_errors() {
        let text = |text: &str| json!({"type": "text", "text": text});
        for (result, value) in [
            (json!({"content": [text("a")], "structuredContent": {"b": 1}}), Ok(r#"{"b":1}"#)),
            (json!({"content": [text("{\"b\": [1, 2]}")]}), Ok(r#"{"b": [1, 2]}"#)),
            (json!({"content": [text("not json")]}), Ok(r#""not json""#)),
            (json!({"content": [text("two"), text("lines")]}), Ok(r#""two\nlines""#)),
            (json!({"content": []}), Ok(r#""""#)),
            (json!({"content": [text("no such ticket")], "isError": true}), Err("no such ticket")),
            (json!({"content": [], "isError": true}), Err("`x` failed and does not say why")),
        ] {
            assert_eq!(of(result.clone()), value.map(str::to_owned).map_err(str::to_owned), "{result}");
        }
        let picture = json!({"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}]});
        assert_eq!(of(picture.clone()), Ok(picture.to_string()));
        assert!(of(json!({"resultType": "input_required"})).is_err());
        assert_eq!(plain(&Outcome::Error(Bytes::from_static(br#"{"code":-32602,"message":"no"}"#)), "x").unwrap_err(), "no");
    }
}
