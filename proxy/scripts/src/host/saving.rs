//! `codemode.save` and `codemode.forget`: what a script may keep for later, once a person has read it.

use super::Host;
use crate::{
    Calls, refused,
    shelf::{FORGET, SAVE, SERVER, callable_name, entry_of, proven},
};
use gnomon_access::{Asked, Capability, Decision, Hints};
use gnomon_audit::Status;
use gnomon_codemode::{Limits, Names, Program, Raw, ScriptOutcome as Ended, Task};
use gnomon_ledger::{KeptSnippet, MAX_SNIPPET_CODE, MAX_SNIPPET_NAME, ProposalError, Proposed, Snippet, SnippetAudience};
use gnomon_observe::Review;
use gnomon_relay::{
    act::Act,
    acts::Ending,
    call::{Call, SavedSnippet},
    shares::owner,
};
use gnomon_upstream::rpc::Outcome;
use serde_json::{Map, Value, json};
use smol_str::SmolStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The options beside the code.
const OPTIONS: [&str; 3] = ["description", "parameters", "for"];

/// Why nothing was saved, for the record and for the script.
type NotSaved = (Ending, String);

/// Answers nothing, as nothing is run.
struct Nobody;

impl gnomon_codemode::Host for Nobody {
    async fn call(&self, _: gnomon_codemode::Asked<'_>, _: &Raw) -> Result<Box<Raw>, gnomon_codemode::CallFailure> {
        Err("nothing is called while code is read".to_owned().into())
    }
}

fn invalid(why: impl Into<String>) -> NotSaved {
    (refused("invalid_arguments"), why.into())
}

impl<C: Calls> Host<'_, C> {
    /// `codemode.save(name, code, {description, parameters, for})`.
    pub(super) async fn save(&self, arguments: &Raw) -> Result<String, String> {
        self.recorded(SAVE, arguments, async |call, act, given| {
            let snippet = self.proposal(call, &given)?;
            self.may_save(call, act, &snippet)?;
            self.read(&snippet).await?;
            let (decided, _turn) = self.shelf.ok_or_else(off)?.journal(&call.caller).await.map_err(busy)?;
            let Proposed { kept, .. } = decided.propose(&snippet).await.map_err(not_kept)?;
            let KeptSnippet { digest, snippet: Snippet { name, version, .. }, .. } = &kept;
            act.is_of_snippet(&SavedSnippet { name: name.as_str().into(), version: *version, sha256: digest.as_str().into() });
            Ok(json!({"name": name, "version": version, "digest": digest, "state": state(&kept)}))
        })
        .await
    }

    /// `codemode.forget(name, {for})`: all versions that the caller saved.
    pub(super) async fn forget(&self, arguments: &Raw) -> Result<String, String> {
        self.recorded(FORGET, arguments, async |_, _, given| {
            let name = given.first().and_then(Value::as_str).unwrap_or_default();
            let audience = audience(given.get(1).and_then(Value::as_object))?;
            let owner = proven(&self.call.caller).ok_or_else(unknown_caller)?;
            let (decided, _turn) = self.shelf.ok_or_else(off)?.journal(&self.call.caller).await.map_err(busy)?;
            let portal = self.calls.lists().portal();
            let forgotten = decided.forget_snippet((portal, &owner), &audience, name).await;
            match forgotten.map_err(|error| not_kept(error.into()))? {
                0 => Err(invalid(format!("you have saved no snippet `{}` for \"{audience}\"", gnomon_relay::names::shortened(name)))),
                versions => Ok(json!({"name": name, "for": audience.to_string(), "forgotten": versions})),
            }
        })
        .await
    }

    /// Does it as a call of this tool in the record.
    async fn recorded(
        &self,
        tool: &'static str,
        arguments: &Raw,
        does: impl AsyncFnOnce(&Call, &Act, Vec<Value>) -> Result<Value, NotSaved>,
    ) -> Result<String, String> {
        if self.finds {
            return Err("snippets are saved in portal_codemode_execute".to_owned());
        }
        let call = Call { script: Some(self.script.clone()), ..self.call.clone() };
        let act = self.calls.begin(&call, "tools/call");
        act.names(|| SmolStr::new_static(tool));
        act.goes_to(&SmolStr::new_static(SERVER), None, arguments.get().len());
        let done = match (self.shelf, serde_json::from_str::<Vec<Value>>(arguments.get())) {
            (None, _) => Err(off()),
            (Some(_), _) if self.depth > 0 => Err((refused("depth"), "a snippet saves no snippets: its caller's script does".to_owned())),
            (Some(_), Err(error)) => Err(invalid(error.to_string())),
            (Some(_), Ok(given)) => does(&call, &act, given).await,
        };
        match done {
            Ok(value) => match act.end(Ending::of(Status::Ok), Outcome::of(&value)).await {
                Outcome::Result(_) => Ok(value.to_string()),
                Outcome::Error(_) => Err("it was done, but cannot be recorded: contact the operator of this portal".to_owned()),
            },
            Err((ending, why)) => {
                act.end(ending, Outcome::failed_tool(&why)).await;
                Err(why)
            }
        }
    }

    fn proposal(&self, call: &Call, given: &[Value]) -> Result<Snippet, NotSaved> {
        let [name, code, options, ..] = given else { return Err(invalid("say the name, the code, and what it is for")) };
        let (name, code, options) = (name.as_str().unwrap_or_default(), code.as_str().unwrap_or_default(), options.as_object());
        named(name)?;
        if let Some(key) = options.into_iter().flat_map(Map::keys).find(|key| !OPTIONS.contains(&key.as_str())) {
            let key = gnomon_relay::names::shortened(key);
            return Err(invalid(format!("codemode.save has no option `{key}`: it takes description, parameters and for")));
        }
        let description = options.and_then(|options| options.get("description")).and_then(Value::as_str).unwrap_or_default();
        if description.trim().is_empty() {
            return Err(invalid("say in `description` what the snippet does and what it gives: it is found by that"));
        }
        let parameters = options.and_then(|options| options.get("parameters")).cloned();
        let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}, "additionalProperties": false}));
        let audience = audience(options)?;
        if let SnippetAudience::Group(group) = &audience
            && !call.caller.groups.iter().any(|name| name == group)
        {
            return Err(invalid("a snippet is for a group that you are in yourself, as your log-in says"));
        }
        let owner = proven(&call.caller).ok_or_else(unknown_caller)?.to_string();
        let (portal, name) = (self.calls.lists().portal().to_string(), name.to_owned());
        let (description, code) = (description.to_owned(), code.to_owned());
        let snippet = Snippet { portal, audience, name, version: 0, owner, description, parameters, code };
        let unfit = |why: SmolStr| invalid(format!("it cannot be offered as a tool: {why}; `parameters` is a JSON Schema of an object"));
        entry_of(&snippet).map_err(unfit)?;
        Ok(snippet)
    }

    /// Checks policy, by the snippet's name and audience.
    fn may_save(&self, call: &Call, act: &Act, snippet: &Snippet) -> Result<(), NotSaved> {
        let said = json!({"name": snippet.name, "for": snippet.audience.to_string()});
        act.takes(Some(&said), 0);
        let gate = self.calls.lists().gate();
        let (capability, hints) = (Capability::Tool, Hints::default());
        let asked = Asked { portal: gate.portal(), server: SERVER, capability, name: SAVE, hints, arguments: Some(&said) };
        let decision = gate.decide(&call.caller, &asked);
        act.decided_by(decision.line());
        if let Decision::Allow(permit) = decision {
            return self.sees_to(call, &permit, SAVE).map(drop);
        }
        self.turned_down(call, SAVE, "policy does not allow it");
        let why = format!(
            "policy does not let you save this: whoever runs this portal can allow it, as {{allow: {{servers: [{SERVER}], tools: ['{SAVE}']}}}}"
        );
        Err((refused("policy"), why))
    }

    /// Reads the code in the sandbox, as scripts are read there, and runs nothing of it.
    async fn read(&self, snippet: &Snippet) -> Result<(), NotSaved> {
        let unavailable = |why: String| (Ending::because(Status::Unavailable, "no_sandbox"), why);
        let sandbox = self.works.sandbox().await.map_err(|error| unavailable(error.to_string()))?;
        let turn = self.works.searching.take(&owner(&self.call.caller).as_str().into()).await;
        let _turn = turn.map_err(|why| (refused("codemode_share"), crate::no_turn(why).to_owned()))?;
        let own = &self.works.limits;
        let limits = Limits { code: own.code.min(MAX_SNIPPET_CODE), calls: 0, ..own.clone() };
        let (code, names) = (snippet.code.as_str(), &Names::default());
        let ended = sandbox.perform((Program { code, names }, Task::Read), &limits, &Nobody).await;
        match ended.map_err(|error| unavailable(error.to_string()))?.outcome {
            Ended::Value(_) => Ok(()),
            Ended::Thrown { message } => Err(invalid(format!("the snippet's code: {message}"))),
            Ended::Limit(limit) => Err(invalid(limit.text(&limits))),
            Ended::Unreadable | Ended::Lost | Ended::Violation(_) => {
                Err(invalid("the snippet's code cannot be read: send plain JavaScript, one async arrow function"))
            }
        }
    }
}

/// Names as tools have them, and such that scripts can call them.
fn named(name: &str) -> Result<(), NotSaved> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > MAX_SNIPPET_NAME || !name.chars().all(fits) || name.starts_with("codemode.") {
        let why = format!("a snippet's name has letters, digits, `_`, `-` and `.` of ASCII, at most {MAX_SNIPPET_NAME}, as weekly-report");
        return Err(invalid(format!("{why}; it is called as codemode.{}(args) then", callable_name("weekly-report"))));
    }
    Ok(())
}

fn audience(options: Option<&Map<String, Value>>) -> Result<SnippetAudience, NotSaved> {
    match options.and_then(|options| options.get("for")) {
        None => Ok(SnippetAudience::Owner),
        Some(value) => value.as_str().unwrap_or_default().parse().map_err(|error: gnomon_ledger::NoAudience| invalid(error.to_string())),
    }
}

fn off() -> NotSaved {
    (
        refused("off"),
        "nothing is saved on this portal: whoever runs it can turn that on, with `snippets: review` in its configuration".to_owned(),
    )
}

fn busy(_: gnomon_shares::Refused) -> NotSaved {
    (refused("snippets_share"), "too many snippets are being saved: save one after the other, with await".to_owned())
}

fn unknown_caller() -> NotSaved {
    (refused("unknown_caller"), "snippets belong to who saved them, and this portal does not know who you are: it has no log-in".to_owned())
}

fn not_kept(error: ProposalError) -> NotSaved {
    match error {
        ProposalError::Journal(error) => {
            tracing::error!(%error, "a snippet cannot be kept");
            let why = "it cannot be kept at this moment: try again later, or contact the operator of this portal".to_owned();
            (Ending::because(Status::Unavailable, "journal"), why)
        }
        ProposalError::TooLong(..) | ProposalError::Taken(_) => invalid(error.to_string()),
        ProposalError::NoRoom(_) => (refused("snippets_share"), error.to_string()),
    }
}

/// Its state, for the script.
fn state(kept: &KeptSnippet) -> &'static str {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|now| i64::try_from(now.as_millis()).ok());
    match kept.state_at(now_ms.unwrap_or(i64::MAX)) {
        None | Some(Review::InReview) => "waiting for review",
        Some(Review::Approved) => "approved",
        Some(Review::Denied) => "denied",
        Some(Review::Expired) => "expired: waiting for review",
    }
}
