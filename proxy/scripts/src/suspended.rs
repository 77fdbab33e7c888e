//! Executions whose script waits for a person.
//!
//! A tool may want to know something before it answers (elicitation and the like). A client of the older era is asked while its
//! request is open. One of the stateless era gets the question as the result of its call (`input_required`, 2026-07-28) and calls
//! again with the answer; in between the execution is kept here, its worker suspended in the host call, under a name that only
//! its caller can use.

use gnomon_relay::{emission::Emission, parked::unguessable, waiting::Waiting};
use gnomon_upstream::rpc::{INTERNAL_ERROR, Outcome, RpcError};
use parking_lot::Mutex;
use serde_json::{Map, Value};
use smol_str::SmolStr;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};

/// Most executions of a portal that wait. Each holds a worker.
const MOST: usize = 64;
/// Most of one caller.
const MOST_OF_ONE: usize = 8;
/// The timeout of a client's answer.
const PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Messages on their way to the client.
const SAID: usize = 16;

/// The answers as JSON, or the error for the script.
type Answer = Result<String, String>;

/// A server's question, by keys that it chose.
pub(super) struct Question {
    pub requests: Map<String, Value>,
    pub answer: oneshot::Sender<Answer>,
}

/// The way of an execution's calls to ask the client.
#[derive(Clone)]
pub(super) struct Asker(mpsc::Sender<Question>);

impl Asker {
    /// Asks, and waits for the answer.
    pub async fn ask(&self, requests: Vec<(String, Value)>, waiting: &Arc<Waiting>) -> Answer {
        let _waits = waiting.begin();
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.0.send(Question { requests: requests.into_iter().collect(), answer }).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => answer,
            Ok(None) => Err("the tool asks for input, and there is no client to ask".to_owned()),
            Err(_) => Err(format!("the tool asked for input, and nobody gave it within {} minutes", PATIENCE.as_secs() / 60)),
        }
    }
}

/// An execution in a task of its own, so that it can outlast the request that began it. Ends when it is dropped.
pub(super) struct Running {
    task: JoinSet<Outcome>,
    said: mpsc::Receiver<Emission>,
    questions: mpsc::Receiver<Question>,
}

/// The progress of an execution: its end, or a question.
pub(super) enum Step {
    Over(Outcome),
    Asks(Question),
}

impl Running {
    /// Begins what is made of a way to the client.
    pub fn start<F: Future<Output = Outcome> + Send + 'static>(execute: impl FnOnce(mpsc::Sender<Emission>, Asker) -> F) -> Self {
        let (emit, said) = mpsc::channel(SAID);
        let (ask, questions) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(execute(emit, Asker(ask)));
        Self { task, said, questions }
    }

    /// Lets it go on until it ends or asks; what it says before goes to `emit`.
    pub async fn next(&mut self, emit: &mpsc::Sender<Emission>) -> Step {
        loop {
            tokio::select! {
                biased;
                Some(emission) = self.said.recv() => {
                    // If the receiver is gone, this task is dropped soon.
                    let _ = emit.send(emission).await;
                }
                Some(question) = self.questions.recv() => return Step::Asks(question),
                Some(ended) = self.task.join_next() => {
                    let failed = || RpcError::new(INTERNAL_ERROR, "the execution broke off").into();
                    return Step::Over(ended.unwrap_or_else(|_| failed()));
                }
                else => return Step::Over(RpcError::new(INTERNAL_ERROR, "the execution is over").into()),
            }
        }
    }
}

struct Kept {
    caller: SmolStr,
    tool: &'static str,
    running: Running,
    answer: oneshot::Sender<Answer>,
    since: Instant,
}

/// The waiting executions.
#[derive(Default)]
pub(super) struct Suspended(Mutex<HashMap<SmolStr, Kept>>);

impl Suspended {
    /// Keeps one; gives the name to take it up by (`requestState`), or it back where there is no room.
    pub(super) fn keep(
        &self,
        caller: &SmolStr,
        tool: &'static str,
        running: Running,
        answer: oneshot::Sender<Answer>,
    ) -> Result<SmolStr, (Running, oneshot::Sender<Answer>)> {
        let mut table = self.0.lock();
        // An execution that was given up has closed its end by itself.
        table.retain(|_, kept| !kept.answer.is_closed() && kept.since.elapsed() < PATIENCE);
        let theirs = table.values().filter(|kept| kept.caller == *caller).count();
        match unguessable() {
            Some(name) if table.len() < MOST && theirs < MOST_OF_ONE => {
                table.insert(name.clone(), Kept { caller: caller.clone(), tool, running, answer, since: Instant::now() });
                Ok(name)
            }
            _ => Err((running, answer)),
        }
    }

    /// Takes one up again with the answers: the same caller, calling the same tool.
    pub(super) fn take(&self, state: &str, caller: &str, tool: &str, answers: &str) -> Option<(Running, &'static str)> {
        let mut table = self.0.lock();
        table.get(state).filter(|kept| kept.caller == caller && kept.tool == tool && !kept.answer.is_closed())?;
        let Kept { tool, running, answer, .. } = table.remove(state)?;
        drop(table);
        answer.send(Ok(answers.to_owned())).ok()?;
        Some((running, tool))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An execution that asks, and its answer.
    async fn asking() -> (Running, oneshot::Sender<Answer>) {
        let mut running =
            Running::start(
                |_, asker| async move { Outcome::Result(asker.ask(Vec::new(), &Arc::default()).await.unwrap_or_default().into()) },
            );
        let (emit, _said) = mpsc::channel(1);
        let Step::Asks(question) = running.next(&emit).await else { unreachable!("it asks first") };
        (running, question.answer)
    }

    async fn end(mut running: Running) -> String {
        let (emit, _said) = mpsc::channel(1);
        match running.next(&emit).await {
            Step::Over(Outcome::Result(result)) => String::from_utf8(result.to_vec()).unwrap(),
            Step::Over(Outcome::Error(_)) | Step::Asks(_) => unreachable!("it asks once"),
        }
    }

    #[tokio::test]
    async fn only_its_caller_takes_an_execution_up_again_with_the_tool_that_began_it_and_once() {
        let suspended = Suspended::default();
        let (running, answer) = asking().await;
        let state = suspended.keep(&"ann".into(), "execute", running, answer).ok().unwrap();
        assert!(suspended.take(&state, "bob", "execute", "{}").is_none());
        assert!(suspended.take(&state, "ann", "search", "{}").is_none());
        assert!(suspended.take("gnomon.other", "ann", "execute", "{}").is_none());
        let (running, _) = suspended.take(&state, "ann", "execute", r#"{"a":1}"#).unwrap();
        assert_eq!(end(running).await, r#"{"a":1}"#);
        assert!(suspended.take(&state, "ann", "execute", "{}").is_none());
    }

    #[tokio::test]
    async fn one_caller_cannot_hold_all_places() {
        let suspended = Suspended::default();
        for _ in 0..MOST_OF_ONE {
            let (running, answer) = asking().await;
            assert!(suspended.keep(&"ann".into(), "execute", running, answer).is_ok());
        }
        let (running, answer) = asking().await;
        let (_, answer) = suspended.keep(&"ann".into(), "execute", running, answer).err().unwrap();
        assert!(!answer.is_closed(), "it can still be told");
        let (running, answer) = asking().await;
        assert!(suspended.keep(&"bob".into(), "execute", running, answer).is_ok());
    }

    #[tokio::test]
    async fn an_execution_that_is_no_longer_waited_for_ends_and_frees_its_place() {
        let suspended = Suspended::default();
        for _ in 0..2 * MOST_OF_ONE {
            let (running, answer) = asking().await;
            let state = suspended.keep(&"ann".into(), "execute", running, answer).ok().unwrap();
            let (running, _) = suspended.take(&state, "ann", "execute", "{}").unwrap();
            drop(running);
        }
    }
}
