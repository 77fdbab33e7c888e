//! A saved snippet that a script calls: judged as a tool of the portal's own, and run in a process of its own.

use super::{Host, Spent};
use crate::{
    Calls,
    output::{Failure, text_of},
    refused,
    shelf::{SERVER, Shelved},
};
use gnomon_access::{Asked, Capability, Decision, Hints, Permit};
use gnomon_audit::Status;
use gnomon_codemode::{Execution, Limit, Limits, Program, Raw, ScriptOutcome as Ended, Task};
use gnomon_observe::Action;
use gnomon_relay::{
    act::Act,
    acts::Ending,
    call::{Call, Script},
    noted::Refused,
    owed::{Cleared, owed},
    shares::owner,
};
use gnomon_upstream::rpc::{INVALID_PARAMS, Outcome};
use serde_json::Value;
use smol_str::SmolStr;
use std::{pin::Pin, sync::atomic::Ordering, time::Duration};

/// How deep snippets may call each other.
const MAX_DEPTH: u8 = 3;

/// A snippet's value, or the error for its caller.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<Box<Raw>, String>> + Send + 'a>>;

impl Spent {
    /// The computing time that is left of a script's.
    fn left(&self, limits: &Limits) -> Duration {
        limits.sandbox_time.saturating_sub(Duration::from_micros(self.computed.load(Ordering::Relaxed)))
    }

    fn takes(&self, time: Duration) {
        self.computed.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX >> 1), Ordering::Relaxed);
    }
}

impl<C: Calls> Host<'_, C> {
    /// Runs a snippet, as a call of its own in the record. Boxed: snippets call snippets.
    pub(super) fn snippet<'a>(&'a self, name: &'a str, arguments: &'a Raw) -> Answer<'a> {
        Box::pin(self.call_snippet(name, arguments))
    }

    async fn call_snippet(&self, name: &str, arguments: &Raw) -> Result<Box<Raw>, String> {
        let shelved = self.callable.snippet(name).ok_or_else(|| format!("there is no tool `{name}`"))?;
        let call = Call { script: Some(self.script.clone()), ..self.call.clone() };
        let act = self.calls.begin(&call, "tools/call");
        act.names(|| shelved.saved.name.clone());
        act.goes_to(&SmolStr::new_static(SERVER), None, arguments.get().len());
        act.is_of_snippet(&shelved.saved);
        match self.admitted(&call, &act, shelved, arguments).await {
            Ok(arguments) => self.run_snippet(act, shelved, &arguments).await,
            Err((ending, why)) => {
                act.end(ending, Outcome::failed_tool(&why)).await;
                Err(why)
            }
        }
    }

    /// The arguments, where policy lets this caller use the snippet with them and they fit it.
    async fn admitted(&self, call: &Call, act: &Act, shelved: &Shelved, arguments: &Raw) -> Result<Box<Raw>, (Ending, String)> {
        let unreadable = |why: String| (refused("invalid_arguments"), why);
        let value: Value = gnomon_access::arguments(arguments.get().as_bytes()).map_err(|error| unreadable(error.to_string()))?;
        act.takes(Some(&value), arguments.get().len());
        let name = &shelved.saved.name;
        let gate = self.calls.lists().gate();
        let (capability, hints) = (Capability::Tool, Hints::default());
        let asked = Asked { portal: gate.portal(), server: SERVER, capability, name, hints, arguments: Some(&value) };
        let decision = gate.decide(&call.caller, &asked);
        act.decided_by(decision.line());
        let Decision::Allow(permit) = decision else {
            self.turned_down(call, name, "policy does not allow it");
            return Err((refused("policy"), format!("policy does not allow you to call the snippet `{name}` with these arguments")));
        };
        self.sees_to(call, &permit, name)?;
        if let Err(error) = shelved.entry.check_arguments(SERVER, &value).await {
            self.turned_down(call, name, "its arguments do not fit the tool");
            return Err((refused("invalid_arguments"), error.message));
        }
        if self.depth >= MAX_DEPTH {
            let why = format!("snippets call each other at most {MAX_DEPTH} deep: call what `{name}` calls directly");
            return Err((refused("depth"), why));
        }
        // As they were written: what was read of them holds no integer beyond 64 bits.
        Ok(arguments.to_owned())
    }

    /// Sees to what policy obliges to before a call of the portal's own tools. Rules have no say in these: they judge what goes to servers.
    pub(super) fn sees_to(&self, call: &Call, permit: &Permit, name: &str) -> Result<Cleared, (Ending, String)> {
        owed(permit, Ok(Action::Allow)).map_err(|error| {
            self.turned_down(call, name, "what policy obliges to is not supported here");
            (refused(error.kind()), error.to_string())
        })
    }

    /// Notes among the events that a call of the portal's own tools was refused.
    pub(super) fn turned_down(&self, call: &Call, name: &str, why: &'static str) {
        if let Some(rules) = self.rules {
            let server = SmolStr::new_static(SERVER);
            let refused = Refused { server: Some(&server), method: "tools/call", name, code: INVALID_PARAMS, why, requests: 1 };
            rules.turned_down(self.calls.lists().portal(), call.whose(), &refused);
        }
    }

    async fn run_snippet(&self, act: Act, shelved: &Shelved, arguments: &Raw) -> Result<Box<Raw>, String> {
        let name = &shelved.saved.name;
        let (value, ending) = match self.performed(shelved, arguments).await {
            Ok(ended) => {
                act.called(ended.host_calls);
                match valued(ended, &self.works.limits) {
                    Ok(value) => (Ok(value), Ending::of(Status::Ok)),
                    Err(failed) => {
                        let (failure, ended) = *failed;
                        let text = text_of(Err(&failure), &ended, |_| None);
                        (Err(format!("the snippet `{name}` failed. {text}")), Ending::because(Status::Error, failure.word))
                    }
                }
            }
            Err((ending, why)) => (Err(why), ending),
        };
        let outcome = match &value {
            Ok(value) => Outcome::Result(bytes::Bytes::copy_from_slice(value.get().as_bytes())),
            Err(why) => Outcome::failed_tool(why),
        };
        match act.end(ending, outcome).await {
            Outcome::Result(_) => value,
            // An answer that waits for the audit fails if the audit cannot be written.
            Outcome::Error(_) => Err(format!("the result of the snippet `{name}` cannot be recorded, so it is withheld")),
        }
    }

    async fn performed(&self, shelved: &Shelved, arguments: &Raw) -> Result<Execution, (Ending, String)> {
        let limits = Limits { sandbox_time: self.spent.left(&self.works.limits), ..self.works.limits.clone() };
        if limits.sandbox_time.is_zero() {
            return Err((refused("sandbox_time"), Limit::SandboxTime.text(&self.works.limits)));
        }
        let unavailable = |why: String| (Ending::because(Status::Unavailable, "no_sandbox"), why);
        let sandbox = self.works.sandbox().await.map_err(|error| unavailable(error.to_string()))?;
        let turn = self.works.calling.take(&owner(&self.call.caller).as_str().into()).await;
        let _turn = turn.map_err(|why| (refused("codemode_share"), crate::no_turn(why).to_owned()))?;
        let script = Script { snippet: Some(shelved.saved.clone()), ..self.script.clone() };
        let host = Host { script, asker: self.asker.clone(), depth: self.depth + 1, ..*self };
        let program = Program { code: &shelved.snippet.code, names: self.callable.names() };
        let ended = sandbox.perform((program, Task::RunWith(arguments)), &limits, &host).await;
        let ended = ended.map_err(|error| unavailable(error.to_string()))?;
        self.spent.takes(ended.sandbox_time);
        Ok(ended)
    }
}

/// The value of a snippet that came to one.
fn valued(mut ended: Execution, limits: &Limits) -> Result<Box<Raw>, Box<(Failure, Execution)>> {
    let outcome = std::mem::replace(&mut ended.outcome, Ended::Lost);
    let (word, text) = match outcome {
        Ended::Value(value) => return Ok(value),
        Ended::Thrown { message } => ("thrown", message),
        Ended::Limit(limit) => (limit.name(), limit.text(limits)),
        Ended::Unreadable => ("unreadable", "its code cannot be read".to_owned()),
        Ended::Lost => ("lost", "its process was lost: try again with less at a time".to_owned()),
        Ended::Violation(_) => ("violation", "the sandbox ended it".to_owned()),
    };
    Err(Box::new((Failure { word: word.into(), text }, ended)))
}
