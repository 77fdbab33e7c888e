//! The content of a story, before its layout: the result of the call, why the rules matched, what to do next.

use anyhow::{Context, Result};
use gnomon_cli::line::{Event, word};
use gnomon_engine::RuleSet;
use gnomon_inspect::Passage;
use gnomon_kit::unix_millis;
use gnomon_ledger::{HostPort, More, RecalledVerdicts, Story, Verdict};
use gnomon_observe::{Action, OWN_RULES};
use serde_json::{Value, json};

/// A story made ready for people and programs.
pub struct Telling<'a> {
    pub story: &'a Story,
    pub event: Event,
    pub aftermath: Aftermath,
    /// The description of the rule that decided, if it is still loaded.
    pub description: Option<String>,
    /// The other rules that matched, by title where they are still loaded.
    pub others: Vec<String>,
    /// The verdicts on the event, oldest first, with the time in milliseconds since the Unix epoch; or why they cannot be read.
    pub verdicts: Result<Vec<(i64, Verdict)>, String>,
    /// The verdicts that this host saved, if they cannot be read.
    pub recalled: Option<RecalledVerdicts>,
    /// Commands that go on from here, and what each is for.
    pub next: Vec<(String, &'static str)>,
}

/// The result of the call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// In one sentence.
    pub words: String,
    /// Whether the call succeeded; unknown where its answer was not seen.
    pub success: Option<bool>,
    pub status: Option<i64>,
    pub error: Option<String>,
    pub bytes_out: Option<u64>,
    pub bytes_in: Option<u64>,
    pub duration_ms: Option<u64>,
}

impl<'a> Telling<'a> {
    pub fn new(story: &'a Story, rules: Option<&RuleSet>, verdicts: Result<Vec<(i64, Verdict)>, String>) -> Result<Self> {
        let event: Event = serde_json::from_str(&story.event.json).context("the stored event is not a JSON object")?;
        let outcome: Option<Event> = story.outcome.as_ref().and_then(|outcome| serde_json::from_str(&outcome.json).ok());
        let rule = event.get("rule.id").and_then(Value::as_str);
        let description = rule.and_then(|id| described(id, rules)).map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "));
        let matched = event.get("gnomon.rules.matched").and_then(Value::as_array).into_iter().flatten();
        let others = matched.filter_map(Value::as_str).filter(|id| Some(*id) != rule);
        let others = others.map(|id| match rules.and_then(|rules| rules.find(id)) {
            Some(rule) => format!("{} [{id}]", rule.title),
            None => id.to_owned(),
        });
        let others = others.collect();
        let aftermath = Aftermath::of(&event, outcome.as_ref());
        let mut next = next(&event);
        if verdicts.is_err() {
            // It may have a verdict already, and none can be stored.
            next.retain(|(command, _)| !command.starts_with("gnomon triage "));
        }
        let id = event.get("event.id").and_then(Value::as_str);
        let of_this =
            |verdicts: Vec<(i64, Verdict)>| verdicts.into_iter().filter(|(_, verdict)| Some(verdict.event.as_str()) == id).collect();
        let verdicts = verdicts.map(of_this);
        Ok(Self { story, event, aftermath, description, others, verdicts, recalled: None, next })
    }

    /// Adds the saved verdicts, if the current ones cannot be read.
    #[must_use]
    pub fn recalling(self, recalled: Option<RecalledVerdicts>) -> Self {
        Self { recalled: recalled.filter(|_| self.verdicts.is_err()), ..self }
    }

    /// Makes the commands name this folder, if it is not their default.
    #[must_use]
    pub fn of_folder(mut self, named: Option<&std::path::Path>) -> Self {
        if let Some(folder) = named {
            let folder = word(&folder.display().to_string());
            self.next.iter_mut().for_each(|(command, _)| command.push_str(&format!(" --state-dir {folder}")));
        }
        self
    }

    /// The story as JSON.
    pub fn to_json(&self) -> Value {
        let line = |event: &gnomon_ledger::StoredEvent| serde_json::from_str::<Value>(&event.json).unwrap_or(Value::Null);
        let related = |related: &[gnomon_ledger::Related]| -> Vec<Value> {
            related.iter().map(|r| json!({"relation": r.relation.as_str(), "event": line(&r.event)})).collect()
        };
        let Aftermath { words, success, status, error, bytes_out, bytes_in, duration_ms } = &self.aftermath;
        json!({
            "event": self.event,
            "rule_description": self.description,
            "aftermath": {
                "summary": Some(words).filter(|words| !words.is_empty()), "success": success, "status": status, "error": error,
                "bytes_out": bytes_out, "bytes_in": bytes_in, "duration_ms": duration_ms,
            },
            "verdicts": self.verdicts.as_ref().ok().map(|verdicts| listed(verdicts)),
            "verdicts_recalled": self.recalled.as_ref().map(|known| {
                json!({"as_of_ms": unix_millis(known.as_of), "verdicts": listed(&known.verdicts)})
            }),
            "verdicts_unread": self.verdicts.as_ref().err(),
            "sightings": self.story.sightings.iter().map(line).collect::<Vec<_>>(),
            "outcome": self.story.outcome.as_ref().map(line),
            "before": related(&self.story.before),
            "after": related(&self.story.after),
            "more": self.story.more == More::Yes,
            "server": self.story.server,
            "next": self.next.iter().map(|(command, why)| json!({"command": command, "why": why})).collect::<Vec<_>>(),
        })
    }
}

fn listed(verdicts: &[(i64, Verdict)]) -> Vec<Value> {
    verdicts.iter().map(|(at_ms, verdict)| json!({"at_ms": at_ms, "verdict": verdict})).collect()
}

/// The description of a rule: one that is loaded, or a detection of gnomon's own.
fn described<'r>(id: &str, rules: Option<&'r RuleSet>) -> Option<&'r str> {
    let own = OWN_RULES.iter().find(|own| own.id == id).map(|own| own.doc);
    own.or_else(|| rules?.find(id)?.description.as_deref())
}

impl Aftermath {
    /// The aftermath by the event, and by the outcome that was written at the end of the call.
    fn of(event: &Event, outcome: Option<&Event>) -> Self {
        let get = |name: &str| outcome.and_then(|outcome| outcome.get(name)).or_else(|| event.get(name));
        let number = |name: &str| get(name).and_then(Value::as_u64);
        let text = |name: &str| get(name).and_then(Value::as_str);
        let status = get("http.response.status_code").and_then(Value::as_i64);
        let error = text("error.type").map(str::to_owned);
        let action = event.get("gnomon.action").and_then(Value::as_str).unwrap_or("log");
        let flow = event.get("gnomon.flow.outcome").and_then(Value::as_str);
        let stopped = action.parse::<Action>().is_ok_and(Action::refuses);
        let pending = outcome.is_none() && event.get("gnomon.pending").and_then(Value::as_bool) == Some(true);
        let (words, success) = match (stopped, flow, status, &error) {
            (true, Some(_), None, _) => {
                let why = unread(event).map(|why| format!("; what came could not be read: {why}")).unwrap_or_default();
                (format!("refused{why}"), Some(false))
            }
            (true, None, None, _) => ("refused; the call was not completed at the server".to_owned(), Some(false)),
            (true, _, Some(status), _) => {
                (format!("the server answered (HTTP {status}); its answer was withheld from the client"), Some(false))
            }
            (false, Some(outcome), ..) => {
                (format!("the connection was not read: {}", unread(event).unwrap_or_else(|| outcome.to_owned())), None)
            }
            (false, None, Some(status), _) if pending => (format!("the answer has begun (HTTP {status}) and not come"), None),
            (false, None, Some(status), Some(error)) => (format!("failed: {error} (HTTP {status})"), Some(false)),
            (false, None, None, Some(error)) => (format!("failed: {error}"), Some(false)),
            (false, None, Some(status), None) => (format!("succeeded (HTTP {status})"), Some(status < 400)),
            // What was found in a file, started or happened in gnomon itself has no answer.
            (false, None, None, None) if !is_asked(event) => (String::new(), None),
            (false, None, None, None) => ("no answer was seen, or not yet".to_owned(), None),
        };
        Self {
            words,
            success,
            status,
            error,
            bytes_out: number("http.request.body.size"),
            bytes_in: number("http.response.body.size"),
            duration_ms: number("gnomon.duration_ms"),
        }
    }
}

/// True if it is something that a client asked a server.
fn is_asked(event: &Event) -> bool {
    let channel = event.get("gnomon.channel").and_then(Value::as_str);
    matches!(channel, Some("https" | "http" | "stdio")) || event.contains_key("mcp.method.name")
}

/// Why something was not read: the reason's name, and its meaning.
fn unread(event: &Event) -> Option<String> {
    let reason = event.get("gnomon.passage")?.as_str()?;
    let described = Passage::ALL.iter().find(|passage| passage.reason() == reason);
    Some(described.map_or_else(|| reason.to_owned(), |passage| format!("{reason}. {}", passage.describe())))
}

fn next(event: &Event) -> Vec<(String, &'static str)> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let mut next = Vec::new();
    if let (Some(id), Some(rule)) = (text("event.id"), text("rule.id").filter(|id| OWN_RULES.iter().all(|own| own.id != *id))) {
        let (id, rule) = (word(id), word(rule));
        next.push((format!("gnomon rules explain {rule} {id}"), "which parts of the rule matched, and which did not"));
        next.push((format!("gnomon triage {id} benign --until DATE --reason TEXT"), "except it until then"));
        next.push((format!("gnomon triage {id} confirmed --reason TEXT"), "note that it is a finding"));
    }
    let number = |name: &str| event.get(name).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
    if let Some(server) = text("server.address") {
        let command = word(&format!("server.address={server}"));
        let port = HostPort::new(server, number("server.port")).port();
        let port = port.map(|port| format!(" --where server.port={port}")).unwrap_or_default();
        next.push((format!("gnomon events --incidents --since 7d --where {command}{port}"), "who else uses this server"));
    }
    if let Some(local) = text("gnomon.local.server") {
        let command = word(&format!("gnomon.local.server={local}"));
        next.push((format!("gnomon events --since 7d --where {command}"), "who else starts it, or has it in a configuration"));
        next.push((format!("gnomon inventory --server {}", word(local)), "what is known of it"));
    }
    if let Some(path) = text("gnomon.config.path") {
        let command = word(&format!("gnomon.config.path={path}"));
        next.push((format!("gnomon events --since 7d --where {command}"), "what else was seen of this file"));
    }
    let shadow = event.get("gnomon.sanctioned").and_then(Value::as_bool) == Some(false);
    if let Some(server) = text("server.address").filter(|_| shadow) {
        let port = event.get("server.port").and_then(Value::as_u64).map(|port| format!(":{port}")).unwrap_or_default();
        let host = if server.contains(':') { format!("[{server}]") } else { server.to_owned() };
        next.push((format!("gnomon review show {}", word(&format!("{host}{port}"))), "what is known of the server, and who decided what"));
    }
    if let Some(user) = text("user.name") {
        let command = word(&format!("user.name={user}"));
        next.push((format!("gnomon events --incidents --since 7d --where {command}"), "what else this user's programs did"));
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(event: Value, outcome: Value) -> Aftermath {
        Aftermath::of(event.as_object().unwrap(), outcome.as_object())
    }

    #[test]
    fn what_came_of_a_call_is_told_from_the_latest_word_on_it() {
        let blocked = of(json!({"gnomon.action": "block", "http.request.body.size": 118}), Value::Null);
        assert_eq!((blocked.success, blocked.bytes_out), (Some(false), Some(118)));
        let withheld = of(json!({"gnomon.action": "block", "http.response.status_code": 200}), Value::Null);
        assert!(withheld.words.contains("withheld"));
        let good = of(json!({"gnomon.action": "log", "http.response.status_code": 200}), Value::Null);
        assert_eq!((good.success, good.words.as_str()), (Some(true), "succeeded (HTTP 200)"));
        let tool = of(json!({"http.response.status_code": 200, "error.type": "tool_error"}), Value::Null);
        assert_eq!(tool.success, Some(false));
        let unread = of(json!({"gnomon.flow.outcome": "observed"}), Value::Null);
        assert_eq!(unread.success, None);
        let odd = json!({"gnomon.flow.outcome": "passthrough", "gnomon.passage": "request_line_odd"});
        assert!(
            of(odd, Value::Null).words.contains("request_line_odd. A first line that names HTTP"),
            "the reason is told, and what it means"
        );
        let refused = json!({"gnomon.action": "block", "gnomon.flow.outcome": "refused", "gnomon.passage": "request_line_odd"});
        assert!(of(refused, Value::Null).words.starts_with("refused; what came could not be read: request_line_odd. "));
        let later = of(
            json!({"gnomon.action": "log", "http.response.body.size": 1}),
            json!({"http.response.status_code": 200, "http.response.body.size": 9000, "error.type": "upstream_aborted"}),
        );
        assert_eq!((later.success, later.bytes_in, later.status), (Some(false), Some(9000), Some(200)));
        assert_eq!(of(json!({}), Value::Null).success, None);
        let pending = json!({"http.response.status_code": 200, "gnomon.pending": true});
        assert_eq!(of(pending.clone(), Value::Null).success, None);
        assert_eq!(of(pending, json!({"http.response.status_code": 200})).success, Some(true));
    }

    #[test]
    fn a_call_is_told_as_refused_whichever_action_refused_it() {
        for action in Action::ALL {
            let told = of(json!({"gnomon.action": action}), Value::Null);
            assert_eq!(told.success == Some(false), action.refuses(), "{action}: {}", told.words);
        }
    }

    #[test]
    fn verdicts_that_cannot_be_read_are_no_absence_of_verdicts() {
        let json = json!({"event.id": "019a9f3e-4b7c-7000-8000-000000000001", "rule.id": "one", "server.address": "a.example"}).to_string();
        let event = gnomon_ledger::StoredEvent { seq: 1, at_ms: 1, json };
        let (before, after, sightings) = (Vec::new(), Vec::new(), Vec::new());
        let story = Story { event, sightings, outcome: None, before, after, more: More::No, server: None };
        let told = |verdicts| {
            let telling = Telling::new(&story, None, verdicts).unwrap();
            let mut text = Vec::new();
            crate::events::story::write(&mut text, &telling).unwrap();
            (String::from_utf8(text).unwrap(), telling.to_json())
        };
        let (text, json) = told(Err("cannot connect to the database".to_owned()));
        assert!(text.contains("whether anybody judged it is not known: cannot connect to the database"), "{text}");
        assert!(!text.contains("gnomon triage") && text.contains("gnomon rules explain"), "{text}");
        assert_eq!((&json["verdicts"], &json["verdicts_unread"]), (&Value::Null, &"cannot connect to the database".into()));
        let verdict = Verdict {
            event: "019a9f3e-4b7c-7000-8000-000000000001".to_owned(),
            kind: gnomon_ledger::VerdictKind::Confirmed,
            owner: "soc".to_owned(),
            reason: "exfiltration".to_owned(),
            until: None,
            file: None,
        };
        let as_of = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_795_305_600);
        let recalled = RecalledVerdicts { verdicts: vec![(1, verdict)], as_of };
        let telling = Telling::new(&story, None, Err("cannot connect to the database".to_owned())).unwrap().recalling(Some(recalled));
        let mut text = Vec::new();
        crate::events::story::write(&mut text, &telling).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("as of ") && text.contains("found confirmed by soc") && text.contains("is not known"), "{text}");
        assert_eq!(telling.to_json()["verdicts_recalled"]["verdicts"][0]["verdict"]["kind"], "confirmed");
        let (text, json) = told(Ok(Vec::new()));
        assert!(!text.contains("judged") && text.contains("gnomon triage"), "{text}");
        let telling = telling.of_folder(Some(std::path::Path::new("/a folder")));
        assert!(!telling.next.is_empty() && telling.next.iter().all(|(command, _)| command.ends_with(" --state-dir '/a folder'")));
        assert_eq!((&json["verdicts"], &json["verdicts_unread"]), (&json!([]), &Value::Null));
    }

    fn story(json: Value) -> String {
        let event = gnomon_ledger::StoredEvent { seq: 1, at_ms: 1, json: json.to_string() };
        let story =
            Story { event, sightings: Vec::new(), outcome: None, before: Vec::new(), after: Vec::new(), more: More::No, server: None };
        let mut text = Vec::new();
        crate::events::story::write(&mut text, &Telling::new(&story, None, Ok(Vec::new())).unwrap()).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn the_story_of_what_is_no_call_says_what_it_is_and_nothing_of_calls() {
        let secret = story(json!({
            "event.id": "019a9f3e-4b7c-7000-8000-000000000001", "rule.id": "one", "rule.name": "Secret in the configuration of an MCP client",
            "gnomon.channel": "config", "user.name": "ada", "gnomon.config.client": "Cursor", "gnomon.config.path": "/home/ada/.cursor/mcp.json",
            "gnomon.config.entry": "gh", "gnomon.config.kind": "server", "gnomon.config.change": "first_seen",
            "gnomon.config.secrets": ["env.GITHUB_TOKEN github-token"], "gnomon.local.server": "pkg:npm/x", "package.ecosystem": "npm",
            "package.name": "x", "gnomon.package.pinned": false, "gnomon.package.runner": "npx", "gnomon.sanctioned": false,
        }));
        for said in [
            "client      Cursor",
            "file        /home/ada/.cursor/mcp.json",
            "entry       server gh",
            "change      it was not there before",
            "secret      in env.GITHUB_TOKEN, which looks like github-token",
            "server      pkg:npm/x not sanctioned",
            "package     npm x not pinned by npx",
        ] {
            assert!(secret.contains(said), "{said}: {secret}");
        }
        let hook = story(json!({
            "gnomon.channel": "config", "user.name": "ada", "gnomon.config.client": "Claude Code", "gnomon.config.kind": "hook",
            "gnomon.config.entry": "PreToolUse Bash", "gnomon.config.change": "changed", "gnomon.config.runs": "file:sh",
            "gnomon.config.hash": "9f86d081", "gnomon.config.path": "/home/ada/.claude/settings.json",
        }));
        for said in ["entry       hook PreToolUse Bash", "it is another than before", "runs        file:sh", "content     SHA-256 9f86d081"]
        {
            assert!(hook.contains(said), "{said}: {hook}");
        }
        let started = story(json!({
            "gnomon.channel": "process", "user.name": "ada", "process.executable.path": "/usr/bin/node", "gnomon.local.server": "pkg:npm/x",
            "process.executable.hash.sha256": "2cf24d", "gnomon.agent": "Codex", "gnomon.local.known_by": "name", "package.name": "x",
        }));
        for said in
            ["program     /usr/bin/node", "SHA-256 2cf24d", "server      pkg:npm/x", "known by    its name says mcp", "agent       Codex"]
        {
            assert!(started.contains(said), "{said}: {started}");
        }
        let health = story(json!({"gnomon.health": "changed", "message": "rules"}));
        for text in [&secret, &hook, &started, &health] {
            assert!(!text.contains("no answer was seen") && !text.contains("outcome"), "{text}");
            // No section stands there without a line.
            let lines: Vec<&str> = text.lines().collect();
            let empty = |pair: &[&str]| pair[0].is_empty() && pair[1].starts_with(char::is_alphabetic);
            for (at, _) in lines.windows(2).enumerate().filter(|(_, pair)| empty(pair)) {
                assert!(lines.get(at + 2).is_some_and(|line| line.starts_with("  ")), "{text}");
            }
        }
        assert!(!secret.contains("call ") && !started.contains("What came of it"), "{secret}{started}");
        assert!(story(json!({"gnomon.channel": "https", "mcp.method.name": "tools/call"})).contains("no answer was seen, or not yet"));
    }

    #[test]
    fn names_that_strangers_chose_stay_one_word_of_the_shell() {
        assert_eq!(word("mcp.example.com"), "mcp.example.com");
        assert_eq!(word("a; rm -rf /"), "'a; rm -rf /'");
        assert_eq!(word("it's $(x)"), "'it'\\''s $(x)'");
        assert_eq!(word("-rf"), "'-rf'");
        assert_eq!(word(""), "''");
        assert_eq!(word("a\nb\u{1b}[2J"), "'a?b?[2J'");
    }
}
