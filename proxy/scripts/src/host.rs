//! The host functions of a script: tools called by the road of direct calls, saved snippets, and their descriptions.

mod nested;
mod saving;

use super::{
    Calls, CodeModeWorks,
    callable::{Callable, Detail, Offered},
    kept::MINUTES,
    output,
    shelf::{SERVER, Shelf},
    steps::Steps,
    surrogates,
    suspended::Asker,
};
use bytes::Bytes;
use gnomon_codemode::{Asked, CallEnd, CallFailure, FAILED_WITH_META, LOST_WITH_META, Limit, MAX_CATALOGUE, MAX_HITS, Raw};
use gnomon_relay::{
    call::{Call, Origin, Script},
    input::{MAX_ROUNDS, RequestedInput, wanted_input},
    judged::Rules,
    large,
    names::shortened,
};
use gnomon_upstream::{
    as_text,
    carried::{CARRIED_OUT, PERHAPS, YES},
    catalogue::Listed,
    members::Members,
    modern::with_meta,
    rpc::{Id, Outcome, Request, quoted},
};
use serde_json::{Value, json};
use smol_str::SmolStr;
use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

/// The error for arguments that a tool does not accept.
const MISFIT: &str = "do not fit the tool's input schema";

/// The default number of tools that a search returns.
const FOUND: usize = 10;

/// Names of generic call functions elsewhere.
const NO_TOOLS: [&str; 8] = ["call", "callTool", "call_tool", "execute", "executeTool", "invoke", "run", "useTool"];

/// The most time that an execution may be suspended in all: servers choose how often they ask.
const MOST_SUSPENDED: Duration = Duration::from_secs(30 * 60);

/// The host of one execution.
pub(super) struct Host<'a, C> {
    pub calls: &'a C,
    pub call: &'a Call,
    pub callable: &'a Callable,
    pub script: Script,
    /// How its client is asked, unless that is done while its request is open.
    pub asker: Option<Asker>,
    /// True if it only finds tools.
    pub finds: bool,
    /// The sandbox, its bounds, and earlier results.
    pub works: &'a CodeModeWorks,
    /// Saved snippets, where the portal has some.
    pub shelf: Option<&'a Shelf>,
    /// The recorder of refusals.
    pub rules: Option<&'a Rules>,
    /// The usage of the caller's script so far, with the snippets that it called.
    pub spent: &'a Spent,
    /// The nesting depth of snippets.
    pub depth: u8,
    /// The owner.
    pub owner: &'a SmolStr,
    /// The progress that its client asked for.
    pub steps: Option<&'a Steps>,
}

/// The usage of a script with the snippets that it called: they share the bounds of one script.
#[derive(Default)]
pub(super) struct Spent {
    calls: AtomicU32,
    /// Computing time of snippets that have ended, microseconds.
    computed: AtomicU64,
}

impl<C: Calls> gnomon_codemode::Host for Host<'_, C> {
    async fn call(&self, asked: Asked<'_>, arguments: &Raw) -> Result<Box<Raw>, CallFailure> {
        if self.spent.calls.fetch_add(1, Ordering::Relaxed) >= self.works.limits.calls {
            return Err(Limit::Calls.text(&self.works.limits).into());
        }
        let text = match asked {
            Asked::Tool(name) if self.callable.snippet(name).is_some() => {
                return self.snippet(name, arguments).await.map_err(|why| self.with_signature(name, arguments, why).into());
            }
            Asked::WithMeta(name) if self.callable.snippet(name).is_some() => match self.snippet(name, arguments).await {
                Ok(value) => format!("{{\"value\":{},\"meta\":{{}}}}", value.get()),
                Err(why) => format!("{FAILED_WITH_META}{},\"meta\":{{}}}}", quoted(&self.with_signature(name, arguments, why))),
            },
            Asked::Tool(name) => {
                let outcome = self.tool(name, arguments).await?;
                let value = self.look_at(name, outcome, |outcome, name| plain(outcome, name).map_err(|why| (why, end(outcome)))).await?;
                return value.map_err(|(why, end)| CallFailure { text: self.with_signature(name, arguments, why), end });
            }
            Asked::WithMeta(name) => {
                let outcome = self.tool(name, arguments).await?;
                self.look_at(name, outcome, with_result_meta).await?.unwrap_or_else(|failed| {
                    let FailedWithMeta { begins, why, meta } = failed;
                    format!("{begins}{},\"meta\":{meta}}}", quoted(&self.with_signature(name, arguments, why)))
                })
            }
            Asked::Result => self.result(arguments)?,
            Asked::Tools => self.all()?,
            Asked::Search => self.search(arguments)?,
            Asked::Describe => self.describe(arguments)?,
            Asked::Save => self.save(arguments).await?,
            Asked::Forget => self.forget(arguments).await?,
        };
        Raw::from_string(text).map_err(|error| error.to_string().into())
    }

    async fn unknown(&self, name: &str) -> Option<String> {
        if self.callable.offered(name).is_none()
            && let Some(why) = self.refused(name).await
        {
            return Some(why);
        }
        if NO_TOOLS.contains(&name) && !self.finds {
            return Some(format!(
                "codemode.{name} is not a function: a tool is called by its name, as codemode.<name>({{…}}), or as codemode[name]({{…}}) where \
                 the name is in a variable"
            ));
        }
        let here = "here there are codemode.search('words'), codemode.describe('name') and codemode.tools()";
        let shown = shortened(name);
        self.finds.then(|| match self.callable.offered(name) {
            Some(_) => {
                format!("codemode.{shown} calls a tool, which portal_codemode_search does not: call it in portal_codemode_execute; {here}")
            }
            None => format!("codemode.{shown} is not a function: {here}; tools are called in portal_codemode_execute"),
        })
    }

    fn suspended(&self) -> Duration {
        self.script.waiting.so_far().min(MOST_SUSPENDED)
    }
}

impl<C: Calls> Host<'_, C> {
    /// Reads the outcome of a call of the tool with this name, elsewhere if it is large.
    async fn look_at<T: Send + 'static>(
        &self,
        name: &str,
        outcome: Outcome,
        read: impl FnOnce(&Outcome, &str) -> T + Send + 'static,
    ) -> Result<T, String> {
        let (Outcome::Result(body) | Outcome::Error(body)) = &outcome;
        let (bytes, name) = (body.len(), SmolStr::new(name));
        large::read(self.owner, bytes, move || read(&outcome, &name)).await.map_err(|error| error.to_string())
    }

    /// The id of a tool's server.
    fn server<'a>(&'a self, offered: Offered<'a>) -> &'a str {
        match offered {
            Offered::Tool(exposed) => &exposed.server,
            Offered::Snippet(_) => SERVER,
        }
    }

    /// An error; with how the tool is called, where that was not done.
    fn with_signature(&self, name: &str, arguments: &Raw, why: String) -> String {
        let Some(offered) = self.callable.offered(name).filter(|_| why.contains(MISFIT)) else { return why };
        let entry: Value = serde_json::from_slice(offered.text()).unwrap_or_default();
        let signature = gnomon_codemode::signature(name, &entry["inputSchema"], None);
        let known = entry["inputSchema"]["properties"].as_object();
        let given: Value = serde_json::from_str(arguments.get()).unwrap_or_default();
        let is_unknown = |name: &&str| known.is_some_and(|known| !known.contains_key(*name));
        let unknown: Vec<&str> = given.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).filter(is_unknown).collect();
        let unknown = if unknown.is_empty() { String::new() } else { format!(" It has no {}.", shortened(&unknown.join(", "))) };
        let form = if given.is_object() { "" } else { " It takes one object with named arguments." };
        format!("{why}.{form}{unknown} It is called as codemode.{signature}; codemode.describe('{name}') tells more")
    }

    /// Refuses a call to an unknown name by the road of direct calls, so that probing for hidden tools is recorded. Returns a text beside
    /// the error that there is no such tool: that a server is down.
    async fn refused(&self, name: &str) -> Option<String> {
        let call = Call { script: Some(self.script.clone()), ..self.call.clone() };
        let params = format!("{{\"name\":{}}}", quoted(&self.callable.outside(name)));
        let request = Request::new(Id::number(1), "tools/call".into(), Some(Bytes::from(params)));
        let said = plain(&self.calls.refuse(&call, &request).await, name).err()?;
        (!said.starts_with("Unknown tool")).then_some(said)
    }

    /// Calls a tool as its caller could by itself.
    async fn tool(&self, name: &str, arguments: &Raw) -> Result<Outcome, String> {
        let exposed = self.callable.get(name).ok_or_else(|| format!("there is no tool `{name}`"))?;
        let call = Call { script: Some(self.script.clone()), ..self.call.clone() };
        let mut params = format!("{{\"name\":{},\"arguments\":{}}}", quoted(&exposed.name), arguments.get());
        if let Origin::Stateless(client) = &call.from {
            let members = Members::read(params.as_bytes()).map_err(|_| "the arguments cannot be read".to_owned())?;
            params = as_text(&with_meta(&members, client, &[])).to_owned();
        }
        let mut input = String::new();
        for _ in 0..MAX_ROUNDS {
            let asked = format!("{}{input}}}", params.strip_suffix('}').unwrap_or(&params));
            let request = Request::new(Id::number(1), "tools/call".into(), Some(Bytes::from(asked)));
            let outcome = self.calls.call(&call, &request).await;
            let wanted = match &self.asker {
                Some(_) => self.look_at(name, outcome.clone(), |outcome, _| wanted(outcome)).await?,
                None => None,
            };
            let (Some(asker), Some(wanted)) = (&self.asker, wanted) else {
                // Once a person was asked, the request that wanted to hear of it may be over.
                if let Some(steps) = self.steps.filter(|_| self.script.waiting.so_far().is_zero()) {
                    steps.one(name);
                }
                return Ok(outcome);
            };
            let answers = asker.ask(wanted.requests, &self.script.waiting).await?;
            let state = wanted.state.map(|state| format!(",\"requestState\":{state}")).unwrap_or_default();
            input = format!(",\"inputResponses\":{answers}{state}");
        }
        Err(format!("`{name}` asked for more input {MAX_ROUNDS} times"))
    }

    fn all(&self) -> Result<String, String> {
        let detail = self.callable.detail();
        let mut text = self.listed(detail);
        if text.len() > MAX_CATALOGUE {
            text = self.listed(Detail::Line);
        }
        if text.len() > MAX_CATALOGUE {
            return Err("there are too many tools to list: codemode.search('words', {limit: 50}) finds those that are needed".to_owned());
        }
        Ok(text)
    }

    fn listed(&self, detail: Detail) -> String {
        let mut text = Vec::with_capacity(64 << 10);
        text.push(b'[');
        for (index, (name, offered)) in self.callable.all().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&Callable::told(self.server(offered), name, offered, detail));
        }
        text.push(b']');
        String::from_utf8(text).unwrap_or_else(|_| "[]".to_owned())
    }

    fn search(&self, arguments: &Raw) -> Result<String, String> {
        let given: Vec<Value> = serde_json::from_str(arguments.get()).map_err(|error| error.to_string())?;
        let Some(query) = given.first().and_then(Value::as_str) else {
            return Err("say what to search for: codemode.search('text', {limit: 10})".to_owned());
        };
        let server = given.get(1).and_then(|options| options.get("server")).and_then(Value::as_str);
        if let Some(server) = server.filter(|server| !self.callable.all().any(|(_, offered)| self.server(offered) == *server)) {
            let mut servers: Vec<&str> = self.callable.all().map(|(_, offered)| self.server(offered)).collect();
            servers.sort_unstable();
            servers.dedup();
            let known = servers.into_iter().take(40).collect::<Vec<_>>().join(", ");
            return Err(format!("there is no server `{}` here; there are: {known}", shortened(server)));
        }
        let limit = given.get(1).and_then(|options| options.get("limit")).and_then(Value::as_u64);
        let limit = limit.map_or(FOUND, |limit| usize::try_from(limit).unwrap_or(MAX_HITS).clamp(1, MAX_HITS));
        let told: Vec<String> = self
            .callable
            .ranked(query, limit, |offered| server.is_none_or(|server| self.server(offered) == server))
            .map(|(name, offered)| {
                String::from_utf8(Callable::told(self.server(offered), name, offered, Detail::Found)).unwrap_or_else(|_| "null".to_owned())
            })
            .collect();
        Ok(format!("[{}]", told.join(",")))
    }

    /// The declarations of the tools that are named, by themselves or in a list.
    fn describe(&self, arguments: &Raw) -> Result<String, String> {
        let given: Vec<Value> = serde_json::from_str(arguments.get()).map_err(|error| error.to_string())?;
        let names: Vec<&str> = given
            .iter()
            .flat_map(|one| one.as_array().map_or(std::slice::from_ref(one), Vec::as_slice))
            .filter_map(Value::as_str)
            .collect();
        if names.is_empty() {
            return Err("say which tools: codemode.describe('name', …)".to_owned());
        }
        let declared: Result<Vec<String>, String> = names.iter().take(MAX_HITS).map(|name| self.declared(name)).collect();
        Ok(Value::String(gnomon_codemode::together(declared?.iter().map(String::as_str))).to_string())
    }

    fn declared(&self, name: &str) -> Result<String, String> {
        let unknown = || match self.callable.names().nearest(name) {
            Some(nearest) => format!("there is no tool `{}`; did you mean `{nearest}`?", shortened(name)),
            None => format!("there is no tool `{}`: codemode.search('words') finds what there is", shortened(name)),
        };
        let offered = self.callable.offered(name).ok_or_else(unknown)?;
        if let Offered::Tool(exposed) = offered
            && let Listed::Nowhere(why) = exposed.entry.listed()
        {
            return Err(why.to_string());
        }
        let entry: Value = serde_json::from_slice(offered.text()).unwrap_or_default();
        let description = entry["description"].as_str().unwrap_or_default();
        Ok(gnomon_codemode::declare(name, description, &entry["inputSchema"], entry.get("outputSchema")))
    }

    /// An earlier result that was too long to be read at once: the value, or its text from some character on.
    fn result(&self, arguments: &Raw) -> Result<String, String> {
        let given: Vec<Value> = serde_json::from_str(arguments.get()).map_err(|error| error.to_string())?;
        let id = given.first().and_then(Value::as_str).ok_or("say which result: codemode.result('id', from)")?;
        let json = self.works.kept.get(self.owner, id).ok_or_else(|| {
            format!("no result is kept by this name: a long one is kept for {MINUTES} minutes, and the oldest make room for others")
        })?;
        let Some(from) = given.get(1) else { return Ok(json.to_string()) };
        let from = from.as_u64().ok_or("`from` is the number of the character to begin at: codemode.result('id', 24000)")?;
        let text = output::plain(&json).unwrap_or_else(|| json.to_string());
        let from = usize::try_from(from).ok().and_then(|from| text.char_indices().nth(from)).map_or(text.len(), |(at, _)| at);
        Ok(quoted(&text[from..]))
    }
}

fn wanted(outcome: &Outcome) -> Option<RequestedInput> {
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
            let error: Value = serde_json::from_str(&surrogates::replaced(&String::from_utf8_lossy(error))).unwrap_or_default();
            return Err(error["message"].as_str().unwrap_or("the server answered with an error").to_owned());
        }
    };
    let broken = |_| "the server's answer cannot be read".to_owned();
    let members = Members::read(result).map_err(broken)?;
    if members.text("resultType").as_deref() == Some("input_required") {
        return Err(format!("`{name}` asks for input, which a script cannot give: call it without Code Mode"));
    }
    let content = members.get("content").and_then(|json| serde_json::from_str(&surrogates::replaced(json)).ok());
    let content: Vec<Value> = content.unwrap_or_default();
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
        // Text of digits is an identifier as often as a number, and longer than numbers are exact.
        let is_structured = text.trim_start().starts_with(['{', '[']);
        return match serde_json::from_str::<&Raw>(&text) {
            Ok(json) if is_structured => Ok(json.to_owned()),
            _ => raw(json!(text).to_string()),
        };
    }
    raw(String::from_utf8_lossy(result).into_owned())
}

/// What came of a call that has no value.
fn end(outcome: &Outcome) -> CallEnd {
    let Outcome::Error(error) = outcome else { return CallEnd::Failed };
    let error: Value = serde_json::from_str(&surrogates::replaced(&String::from_utf8_lossy(error))).unwrap_or_default();
    match error["data"][CARRIED_OUT].as_str() {
        Some(PERHAPS | YES) => CallEnd::Lost,
        _ => CallEnd::Failed,
    }
}

/// A result with what came beside it (`_meta`: a link to the next page, when to try again), as `codemode.withMeta` gives it. An
/// error keeps that too.
fn with_result_meta(outcome: &Outcome, name: &str) -> Result<String, FailedWithMeta> {
    let members = match outcome {
        Outcome::Result(result) => Members::read(result).ok(),
        Outcome::Error(_) => None,
    };
    let meta = members.as_ref().and_then(|members| members.get("_meta")).unwrap_or("{}");
    match plain(outcome, name) {
        Ok(value) => Ok(format!("{{\"value\":{},\"meta\":{meta}}}", value.get())),
        Err(why) => {
            let begins = if end(outcome) == CallEnd::Lost { LOST_WITH_META } else { FAILED_WITH_META };
            Err(FailedWithMeta { begins, why, meta: meta.to_owned() })
        }
    }
}

/// What came beside an error.
#[derive(Debug)]
struct FailedWithMeta {
    /// How the answer begins.
    begins: &'static str,
    why: String,
    /// JSON.
    meta: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(result: Value) -> Result<String, String> {
        plain(&Outcome::Result(Bytes::from(result.to_string())), "x").map(|raw| raw.get().to_owned())
    }

    #[test]
    fn half_a_surrogate_pair_takes_no_text_away() {
        let of = |json: &'static str| plain(&Outcome::Result(Bytes::from_static(json.as_bytes())), "x").map(|raw| raw.get().to_owned());
        assert_eq!(of(r#"{"content":[{"type":"text","text":"\ud800 x"}]}"#), Ok("\"\u{fffd} x\"".to_owned()));
        assert_eq!(of(r#"{"content":[{"type":"text","text":"no \udfff"}],"isError":true}"#), Err("no \u{fffd}".to_owned()));
        let error = Outcome::Error(Bytes::from_static(br#"{"code":1,"message":"lost \ud800"}"#));
        assert_eq!(plain(&error, "x").unwrap_err(), "lost \u{fffd}");
    }

    #[test]
    fn results_become_plain_values_and_errors_errors() {
        let text = |text: &str| json!({"type": "text", "text": text});
        for (result, value) in [
            (json!({"content": [text("a")], "structuredContent": {"b": 1}}), Ok(r#"{"b":1}"#)),
            (json!({"content": [text("{\"b\": [1, 2]}")]}), Ok(r#"{"b": [1, 2]}"#)),
            (json!({"content": [text("not json")]}), Ok(r#""not json""#)),
            (json!({"content": [text("12345678901234567890")]}), Ok(r#""12345678901234567890""#)),
            (json!({"content": [text("true")]}), Ok(r#""true""#)),
            (json!({"content": [text("two"), text("lines")]}), Ok(r#""two\nlines""#)),
            (json!({"content": []}), Ok(r#""""#)),
            (json!({"content": [text("no such ticket")], "isError": true}), Err("no such ticket")),
            (json!({"content": [], "isError": true}), Err("`x` failed and does not say why")),
        ] {
            assert_eq!(of(result.clone()), value.map(str::to_owned).map_err(str::to_owned), "{result}");
        }
        let meta = |result: Value| with_result_meta(&Outcome::Result(Bytes::from(result.to_string())), "x");
        let value = meta(json!({"content": [text("a")], "_meta": {"next": 2}}));
        assert_eq!(value.unwrap(), r#"{"value":"a","meta":{"next":2}}"#);
        let failed = meta(json!({"content": [text("no")], "isError": true, "_meta": {"after": 3}})).unwrap_err();
        assert_eq!((failed.begins, &*failed.why, &*failed.meta), (FAILED_WITH_META, "no", r#"{"after":3}"#));
        let picture = json!({"content": [{"type": "image", "data": "aGk=", "mimeType": "image/png"}]});
        assert_eq!(of(picture.clone()), Ok(picture.to_string()));
        assert!(of(json!({"resultType": "input_required"})).is_err());
        assert_eq!(plain(&Outcome::Error(Bytes::from_static(br#"{"code":-32602,"message":"no"}"#)), "x").unwrap_err(), "no");
    }
}
