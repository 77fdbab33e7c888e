//! Code Mode: two tools in place of all, whose argument is JavaScript over the others.
//!
//! A script may call what its caller may call, and each call takes the very road of a direct one: policy, schemas,
//! rules, audit. The script runs in the sandbox of `gnomon-codemode`, which knows none of that.
//! It knows the portal only through [`Calls`], and its callers by their public properties.
//!
//! An attacker controls every byte of a script, as prompt injection can write it. How many run, how long, and how
//! many wait for a person is bounded and shared by callers.
#![deny(missing_docs)]

mod callable;
mod host;
mod kept;
mod output;
mod shelf;
mod steps;
mod surrogates;
mod suspended;
mod turns;
use callable::{Callables, Offered};
use gnomon_access::{Asked as PolicyAsked, Policy};
use gnomon_audit::Status;
use gnomon_codemode::{
    ExecuteError, Execution, LayerState, Limits, Names, Program, Sandbox, SandboxConfig, ScriptOutcome as Ended, StartError,
};
use gnomon_inspect::Sighting;
use gnomon_lists::lists::PortalLists;
use gnomon_observe::{Action, Field, Observation, SANDBOX_VIOLATION};
use gnomon_relay::{
    act::Act,
    acts::Ending,
    call::{Call, Origin, Script},
    gate::Gate,
    judged::Rules,
    names::shortened,
    shares::owner,
};
use gnomon_shares::{Refused, Turns};
use gnomon_upstream::{
    catalogue,
    rpc::{INVALID_PARAMS, Id, Outcome, Request, RpcError},
};
use host::{Host, Spent};
use kept::Kept;
use output::{Failure, text_of};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use serde_json::json;
use shelf::{Approved, Shelved};
pub use shelf::{SAVE, SERVER, Shelf};
use smol_str::{SmolStr, ToSmolStr, format_smolstr};
use std::sync::Arc;
use steps::Steps;
use suspended::{Asker, Question, Running, Step, Suspended};
use tokio::sync::OnceCell;
use turns::searches_beside;
use uuid::Uuid;

/// Finds tools.
pub(crate) const SEARCH: &str = "portal_codemode_search";
/// Calls them.
pub(crate) const EXECUTE: &str = "portal_codemode_execute";

/// The two tools as they are listed. Every word of it is in the context of every model that uses the portal.
pub const TOOLS: &str = concat!(
    r#"{"name":"portal_codemode_search","description":"Find tools with JavaScript: `code` is an async arrow function. "#,
    r#"`codemode.search(text, {limit})` ranks tools: {name, signature, summary}, with server, description, inputSchema, outputSchema for code that reads them. "#,
    r#"`codemode.describe(name, …)` gives TypeScript declarations, `codemode.tools()` all tools. Return only what you need:\n"#,
    r#"async () => codemode.search('update ticket', {limit: 5})","#,
    r#""inputSchema":{"type":"object","properties":{"code":{"type":"string"}},"required":["code"]},"annotations":{"readOnlyHint":true}},"#,
    r#"{"name":"portal_codemode_execute","description":"Call tools with JavaScript: `code` is an async arrow function; its result is the answer. "#,
    r#"`await codemode.<name>(args)`, by names that portal_codemode_search gives, resolves to the tool's plain value and throws if it fails. "#,
    r#"Chain calls, run independent ones with Promise.all, and return only what is needed: long results are cut and kept. "#,
    r#"console.log is shown. There is no network or file; sleep(ms) waits.\n"#,
    r#"async () => { const [t] = await codemode.jira_search({query: 'crash'}); return codemode.jira_get({key: t.key}); }","#,
    r#""inputSchema":{"type":"object","properties":{"code":{"type":"string"}},"required":["code"]}}"#
);

/// The works of Code Mode. One for all portals of a gnomon.
pub struct CodeModeWorks {
    config: SandboxConfig,
    limits: Limits,
    sandbox: OnceCell<Sandbox>,
    /// Places for scripts that call tools, and for those that look for some.
    calling: Turns,
    searching: Turns,
    executions: IntCounterVec,
    calls: IntCounter,
    layers: IntGaugeVec,
    saved: IntCounter,
    kept: Kept,
}

impl CodeModeWorks {
    /// Prepares the works; nothing runs before it is used. `program` with `arguments` becomes the sandbox's process.
    ///
    /// # Errors
    /// When a metric's name is taken.
    pub fn new(mut config: SandboxConfig, limits: Limits, registry: &Registry) -> Result<Self, prometheus::Error> {
        let executions = config.workers.max(1);
        let searches = searches_beside(executions);
        config.workers = executions + searches;
        let calling = turns::places(executions, config.queue, config.patience);
        let searching = turns::places(searches, config.queue, config.patience);
        let executions = IntCounterVec::new(
            Opts::new("gnomon_codemode_executions_total", "Scripts that were run in Code Mode, by how they ended."),
            &["tool", "outcome"],
        )?;
        let calls = IntCounter::new("gnomon_codemode_calls_total", "Calls that scripts asked for.")?;
        let layers = IntGaugeVec::new(
            Opts::new("gnomon_sandbox_layer", "1 for the state that each layer of the sandbox is in: enforced, partial or absent."),
            &["layer", "state"],
        )?;
        let saved = IntCounter::new(
            "gnomon_codemode_tokens_saved_total",
            "Tokens by which lists were shorter than those of all tools: an estimate, a quarter of the difference in bytes.",
        )?;
        registry.register(Box::new(executions.clone()))?;
        registry.register(Box::new(calls.clone()))?;
        registry.register(Box::new(layers.clone()))?;
        registry.register(Box::new(saved.clone()))?;
        for tool in [SEARCH, EXECUTE] {
            for outcome in ["value", "thrown", "limit", "unreadable", "violation", "lost", "busy", "restarting", "failed"] {
                executions.with_label_values(&[tool, outcome]);
            }
        }
        let (sandbox, kept) = (OnceCell::new(), Kept::default());
        Ok(Self { config, limits, sandbox, calling, searching, executions, calls, layers, saved, kept })
    }

    /// Shows the metric of its layers before it was started, for the reference.
    pub fn show(&self) {
        self.layers.with_label_values(&["seccomp", "enforced"]).set(0);
    }

    /// The sandbox, started if it was not.
    ///
    /// # Errors
    /// This host allows none.
    pub async fn sandbox(&self) -> Result<&Sandbox, StartError> {
        let start = || async {
            let sandbox = Sandbox::start(self.config.clone()).await?;
            for (layer, state) in sandbox.layers().await.iter().flat_map(gnomon_codemode::Layers::each) {
                for (word, its) in [("enforced", LayerState::Enforced), ("partial", LayerState::Partial), ("absent", LayerState::Absent)] {
                    self.layers.with_label_values(&[layer, word]).set((state == its).into());
                }
                if state != LayerState::Enforced {
                    tracing::warn!(layer, ?state, "a layer of Code Mode's sandbox does not hold on this host");
                }
            }
            Ok(sandbox)
        };
        self.sandbox.get_or_try_init(start).await
    }

    /// A list of the two tools was given in place of one so long.
    pub fn list_was(&self, bytes: usize) {
        self.saved.inc_by((bytes.saturating_sub(TOOLS.len()) / 4) as u64);
    }
}

/// The portal as scripts use it.
pub trait Calls: Send + Sync + 'static {
    /// The portal's lists.
    fn lists(&self) -> &PortalLists;

    /// A caller asks for something, which the audit is to tell of.
    fn begin(&self, call: &Call, method: &str) -> Act;

    /// Makes a call as its caller could make it by itself.
    fn call(&self, call: &Call, request: &Request) -> impl Future<Output = Outcome> + Send;

    /// Refuses a call, as one that its caller makes directly to an unknown tool: it is recorded and reported, and never made, even if there
    /// is such a tool by now.
    fn refuse(&self, call: &Call, request: &Request) -> impl Future<Output = Outcome> + Send;
}

/// The scripts of one portal.
pub struct Scripts<C> {
    calls: Arc<C>,
    works: Option<Arc<CodeModeWorks>>,
    rules: Option<Rules>,
    shelf: Option<Arc<Shelf>>,
    /// The empty shelf.
    nothing: Approved,
    suspended: Suspended,
    callables: Callables,
}

impl<C: Calls> Scripts<C> {
    /// Scripts that make these calls; none are run without the works, and no snippets are saved and called without a shelf.
    pub fn new(calls: Arc<C>, works: Option<Arc<CodeModeWorks>>, rules: Option<Rules>, shelf: Option<Arc<Shelf>>) -> Arc<Self> {
        Arc::new(Self {
            calls,
            works,
            rules,
            shelf,
            nothing: Approved::default(),
            suspended: Suspended::default(),
            callables: Callables::default(),
        })
    }

    /// Whether a caller may know of a tool or snippet, by a policy that was in force a moment ago.
    fn may_know(&self, policy: &Policy, call: &Call, offered: Offered<'_>) -> bool {
        let lists = self.calls.lists();
        match offered {
            // A script is a model's.
            Offered::Tool(exposed) => {
                exposed.audience.model && Gate::lists_by(policy, &call.caller, &lists.asked(catalogue::Kind::Tool, exposed))
            }
            Offered::Snippet(Shelved { snippet, saved, .. }) => {
                *lists.portal() == snippet.portal
                    && Gate::lists_by(policy, &call.caller, &PolicyAsked::tool(lists.portal(), SERVER, &saved.name))
            }
        }
    }

    fn alert_violation(&self, call: &Call, execution: &SmolStr, violation: &str) {
        let Some(rules) = &self.rules else { return };
        let mut seen = Observation::new();
        seen.set(Field::Vantage, "portal");
        seen.set(Field::PortalId, self.calls.lists().portal().clone());
        seen.set(Field::ExecutionId, execution.clone());
        seen.set(Field::SourceAddress, call.caller.address.to_smolstr());
        seen.set_some(Field::UserName, call.caller.email.clone().or_else(|| call.caller.user.clone()));
        seen.set(Field::Message, violation);
        SANDBOX_VIOLATION.stamp(&mut seen);
        let class = SANDBOX_VIOLATION.class;
        rules.recorder.report(vec![Sighting { seen, rule: None, action: Action::Log, class, call: 0 }]);
    }

    /// Runs one of the two tools.
    pub async fn run(self: &Arc<Self>, call: &Call, request: &Request) -> Outcome {
        let mut act = self.calls.begin(call, &request.method);
        let wrong = |text: String| RpcError::new(INVALID_PARAMS, text).into();
        let params = match request.members() {
            Ok(params) => params,
            Err(error) => return act.end(refused("malformed"), error.into()).await,
        };
        let name = params.text("name").unwrap_or_default();
        act.names(|| shortened(&name).into());
        let tool = match &*name {
            SEARCH => SEARCH,
            EXECUTE => EXECUTE,
            other => {
                let other = shortened(other);
                let text =
                    format!("Unknown tool: {other}. This URL offers {SEARCH} and {EXECUTE}; other tools are called within the latter");
                return act.end(refused("unknown_tool"), wrong(text)).await;
            }
        };
        let stateless = matches!(call.from, Origin::Stateless(_));
        if let Some(state) = params.text("requestState").filter(|_| stateless) {
            let answers = params.get("inputResponses").filter(|json| json.starts_with('{')).unwrap_or("{}");
            let Some((running, tool)) = self.suspended.take(&state, &call.caller.subject, tool, answers) else {
                return act.end(refused("unknown_state"), wrong("`requestState` is unknown or has expired".to_owned())).await;
            };
            // The record is that of the execution, which is still open.
            act.is_another();
            return self.attend(running, call, tool).await;
        }
        let code = params.object("arguments").and_then(|arguments| arguments.text("code").map(String::from));
        let Some(code) = code else {
            let text = "`code` is missing: JavaScript, an async arrow function that returns the result";
            return act.end(refused("invalid_arguments"), Outcome::failed_tool(text)).await;
        };
        let script = Script { execution: Uuid::now_v7().to_smolstr(), waiting: Arc::default(), snippet: None };
        act.executes(&script.execution, &code);
        let token = params.object("_meta").and_then(|meta| Id::of_json(meta.get("progressToken")?.as_bytes()));
        if !stateless {
            return self.execute(call, act, (tool, &code), script, token, None).await;
        }
        let (scripts, call_of) = (self.clone(), call.clone());
        let running = Running::start(move |emit, asker| async move {
            let call = Call { emit, ..call_of };
            scripts.execute(&call, act, (tool, &code), script, token, Some(asker)).await
        });
        self.attend(running, call, tool).await
    }

    /// Waits for an execution to end, or to ask its client something.
    async fn attend(&self, mut running: Running, call: &Call, tool: &'static str) -> Outcome {
        loop {
            let Question { requests, answer } = match running.next(&call.emit).await {
                Step::Over(outcome) => return outcome,
                Step::Asks(question) => question,
            };
            running = match self.suspended.keep(&call.caller.subject, tool, running, answer) {
                Ok(state) => {
                    return Outcome::of(&json!({"resultType": "input_required", "inputRequests": requests, "requestState": state}));
                }
                Err((running, answer)) => {
                    let _ = answer.send(Err("the tool asks for input, and too many executions wait for some already".to_owned()));
                    running
                }
            };
        }
    }

    async fn execute(
        &self,
        call: &Call,
        act: Act,
        (tool, code): (&'static str, &str),
        script: Script,
        token: Option<Id>,
        asker: Option<Asker>,
    ) -> Outcome {
        let Some(works) = &self.works else {
            return act.end(refused("off"), Outcome::failed_tool("Code Mode is not available on this portal")).await;
        };
        let sandbox = match works.sandbox().await {
            Ok(sandbox) => sandbox,
            Err(error) => {
                tracing::error!(cause = %error, "Code Mode cannot be offered");
                let text = format!("Code Mode is not available on this host: {error}. Contact the operator of this portal");
                return act.end(Ending::because(Status::Unavailable, "no_sandbox"), Outcome::failed_tool(&text)).await;
            }
        };
        let turns = if tool == EXECUTE { &works.calling } else { &works.searching };
        let _turn = match turns.take(&owner(&call.caller).as_str().into()).await {
            Ok(turn) => turn,
            Err(refused) => {
                works.executions.with_label_values(&[tool, "busy"]).inc();
                return act.end(Ending::because(Status::Refused, "codemode_share"), Outcome::failed_tool(no_turn(refused))).await;
            }
        };
        let lists = self.calls.lists();
        lists.settled().await;
        let may_know = |policy: &Policy, offered: Offered<'_>| {
            let is_theirs = match offered {
                Offered::Tool(_) => true,
                Offered::Snippet(shelved) => shelved.is_for(&call.caller),
            };
            is_theirs && self.may_know(policy, call, offered)
        };
        let approved = self.shelf.as_ref().map_or_else(|| self.nothing.clone(), |shelf| shelf.approved());
        let callable = self.callables.of((lists.view(), approved, lists.gate().policy().clone()), &call.caller, may_know);
        // Finding tools calls none.
        let none = Names::default();
        let names = if tool == EXECUTE { callable.names() } else { &none };
        let execution = script.execution.clone();
        // Of one portal: at another the same name may be another principal.
        let mine = format_smolstr!("{} {}", lists.portal(), owner(&call.caller));
        let (finds, steps, spent) = (tool == SEARCH, Steps::of(token, &call.emit), Spent::default());
        let host = Host {
            calls: &*self.calls,
            call,
            callable: &callable,
            script,
            asker,
            finds,
            works,
            shelf: self.shelf.as_deref(),
            rules: self.rules.as_ref(),
            spent: &spent,
            depth: 0,
            owner: &mine,
            steps: steps.as_ref(),
        };
        let ended = sandbox.execute(Program { code, names }, &works.limits, &host).await;
        let (outcome, ending) = match &ended {
            Ok(ended) => {
                works.calls.inc_by(ended.host_calls.into());
                act.called(ended.host_calls);
                self.told(works, ended, call, &execution, &mine)
            }
            Err(error) => {
                (Outcome::failed_tool(&format!("{error}.")), Ending::because(Status::Unavailable, format!("sandbox_{}", not_run(error))))
            }
        };
        works.executions.with_label_values(&[tool, word(&ended)]).inc();
        match (act.end(ending, outcome).await, ended) {
            (Outcome::Error(_), Ok(ended)) if !ended.called.is_empty() => unrecorded(ended),
            (outcome, _) => outcome,
        }
    }

    fn told(&self, works: &CodeModeWorks, ended: &Execution, call: &Call, execution: &SmolStr, owner: &SmolStr) -> (Outcome, Ending) {
        let failure = match &ended.outcome {
            Ended::Value(value) => {
                let text = text_of(Ok(value), ended, |json| works.kept.keep(owner, json));
                let outcome = Outcome::of(&json!({"content": [{"type": "text", "text": text}], "resultType": "complete"}));
                return (outcome, Ending::of(Status::Ok));
            }
            Ended::Thrown { message } => Failure { word: "thrown".into(), text: message.clone() },
            Ended::Limit(limit) => Failure { word: limit.name().into(), text: limit.text(&works.limits) },
            Ended::Unreadable => Failure {
                word: "unreadable".into(),
                text: "SyntaxError: the code cannot be read, and nothing of it was run. Send plain JavaScript, one async arrow function, without \
                       namespaces, enums and decorators."
                    .into(),
            },
            Ended::Lost => Failure {
                word: "lost".into(),
                text: "The script's process was lost: the sandbox was restarted, or the host is short of memory. Try again with less at a time.".into(),
            },
            Ended::Violation(violation) => {
                tracing::error!(%execution, ?violation, "a worker of Code Mode did what no script can make it do");
                self.alert_violation(call, execution, &format!("{violation:?}"));
                Failure { word: "violation".into(), text: "The sandbox ended the script, and the operator of this portal was informed.".into() }
            }
        };
        let text = text_of(Err(&failure), ended, |_| None);
        (Outcome::failed_tool(&text), Ending::because(Status::Error, failure.word))
    }
}

/// What is said where the audit cannot take the record of a script that made calls: which they are, and nothing of what they gave.
fn unrecorded(mut ended: Execution) -> Outcome {
    ended.logs.clear();
    let text = "The audit could not write the record of this execution, so its result is withheld. Contact the operator of this portal.";
    let failure = Failure { word: "audit".into(), text: text.into() };
    Outcome::failed_tool(&text_of(Err(&failure), &ended, |_| None))
}

/// The text for a caller who finds no place: whose bound it is.
const fn no_turn(refused: Refused) -> &'static str {
    match refused {
        Refused::OverShare => "This caller has reached its share of executions: wait for some of them to end, or do more in one.",
        Refused::Full => "Too many executions are running: try again in a moment, or do more in one execution.",
    }
}

fn refused(word: &'static str) -> Ending {
    Ending::because(Status::Refused, SmolStr::new_static(word))
}

fn word(ended: &Result<Execution, ExecuteError>) -> &'static str {
    match ended.as_ref().map(|ended| &ended.outcome) {
        Ok(Ended::Value(_)) => "value",
        Ok(Ended::Thrown { .. }) => "thrown",
        Ok(Ended::Limit(_)) => "limit",
        Ok(Ended::Unreadable) => "unreadable",
        Ok(Ended::Violation(_)) => "violation",
        Ok(Ended::Lost) => "lost",
        Err(error) => not_run(error),
    }
}

/// The reason that nothing of a script was run.
const fn not_run(error: &ExecuteError) -> &'static str {
    match error {
        ExecuteError::Busy => "busy",
        ExecuteError::Restarting(_) => "restarting",
        ExecuteError::Start(_) | ExecuteError::Fork(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_that_was_not_run_is_counted_by_why() {
        let told = [
            ExecuteError::Busy,
            ExecuteError::Restarting(std::time::Duration::from_secs(2)),
            ExecuteError::Fork(std::io::Error::other("no process")),
        ];
        assert_eq!(told.map(|error| word(&Err(error))), ["busy", "restarting", "failed"]);
    }
}
