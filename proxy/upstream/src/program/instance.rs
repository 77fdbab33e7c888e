//! One process of a program, from its first message to its end.

use super::{
    ProgramOptions,
    lines::{Line, Lines},
};
use crate::{
    pipe::{Line as Down, Outgoing, Pipe},
    unfinished::Account,
};
use bytes::Bytes;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fmt,
    pin::Pin,
    process::ExitStatus,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, ChildStdout},
    sync::mpsc,
};

/// How often it is looked whether a process hangs or rests.
const LOOKS: u32 = 8;

/// The reason that a process is no longer used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// No longer needed.
    Unused,
    /// Unused for too long.
    Rested,
    /// Closed its standard output, or takes no more input.
    Left,
    /// Wrote a line that is too long.
    TooLong(usize),
    /// Fell silent when it was asked something.
    Hangs(Duration),
}

impl Why {
    /// True if ending it was our decision, and no fault of the program's.
    pub(super) fn is_ours(self) -> bool {
        matches!(self, Self::Unused | Self::Rested)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused => f.write_str("it is no longer needed"),
            Self::Rested => f.write_str("nobody used it for a while"),
            Self::Left => f.write_str("it left"),
            Self::TooLong(most) => write!(f, "it wrote a line of more than {most} bytes"),
            Self::Hangs(silence) => write!(f, "it was asked something and said nothing for {silence:?}"),
        }
    }
}

/// The moment when a process last got a message, and since when it owes an answer.
#[derive(Debug)]
pub(super) struct Activity(Mutex<(Instant, Option<Instant>)>);

impl Activity {
    fn new() -> Self {
        Self(Mutex::new((Instant::now(), None)))
    }

    fn spoke(&self, pipe: &Weak<Pipe>) {
        let owes = pipe.upgrade().is_some_and(|pipe| pipe.owes());
        let mut state = self.0.lock();
        state.0 = Instant::now();
        if owes && state.1.is_none() {
            state.1 = Some(state.0);
        }
    }

    fn heard(&self, pipe: &Weak<Pipe>) {
        let (now, owes) = (Instant::now(), pipe.upgrade().is_some_and(|pipe| pipe.owes()));
        *self.0.lock() = (now, owes.then_some(now));
    }

    /// Notes that it owes nothing.
    fn is_even(&self) {
        self.0.lock().1 = None;
    }

    /// The time without a message in either direction.
    pub(super) fn rested(&self) -> Duration {
        self.0.lock().0.elapsed()
    }

    /// For how long it has owed an answer without a word.
    pub(super) fn silent(&self) -> Duration {
        self.0.lock().1.map_or(Duration::ZERO, |since| since.elapsed())
    }
}

/// A process that runs.
pub(super) struct Instance {
    child: Child,
    stdin: ChildStdin,
    said: Lines<ChildStdout>,
    outgoing: mpsc::Receiver<Outgoing>,
    pipe: Weak<Pipe>,
    closed: Pin<Box<dyn Future<Output = Down> + Send>>,
    activity: Arc<Activity>,
    patience: Duration,
    idle: Duration,
    grace: Duration,
    longest: usize,
}

impl Instance {
    pub(super) fn new(
        child: Child,
        stdin: ChildStdin,
        stdout: ChildStdout,
        outgoing: mpsc::Receiver<Outgoing>,
        pipe: &Arc<Pipe>,
        options: &ProgramOptions,
    ) -> Self {
        let limits = options.limits;
        Self {
            child,
            stdin,
            said: Lines::new(stdout, limits.message, &Account::of(&options.id)),
            outgoing,
            // Only its users keep it open.
            pipe: Arc::downgrade(pipe),
            closed: Box::pin(pipe.ended()),
            activity: Arc::new(Activity::new()),
            patience: limits.patience,
            idle: limits.idle,
            grace: limits.grace,
            longest: limits.message,
        }
    }

    /// The process's number.
    pub(super) fn number(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    pub(super) fn activity(&self) -> Arc<Activity> {
        self.activity.clone()
    }

    /// Carries messages until there is a reason not to, then ends the process: its input is closed, it is asked to end
    /// (`SIGTERM`), it is ended (2025-11-25, stdio, Shutdown).
    pub(super) async fn run(mut self, stopped: impl Future<Output = ()>) -> (Why, Option<ExitStatus>) {
        let why = tokio::select! {
            why = hear(&mut self.said, &self.pipe, &self.activity, self.longest) => why,
            why = tell(&mut self.stdin, &mut self.outgoing, &self.pipe, &self.activity) => why,
            down = &mut self.closed => match down {
                Down::Hangs => Why::Hangs(self.patience),
                Down::Up | Down::Gone => Why::Unused,
            },
            () = stopped => Why::Unused,
            why = look(&self.pipe, &self.activity, self.patience, self.idle) => why,
        };
        if let Some(pipe) = self.pipe.upgrade() {
            pipe.close();
        }
        drop(self.stdin);
        let mut said = self.said;
        // A process that cannot write may not come to its end.
        let drained = async {
            said.drain().await;
            std::future::pending::<()>().await;
        };
        let status = tokio::select! {
            status = end(&mut self.child, self.grace) => status,
            () = drained => None,
        };
        (why, status)
    }
}

async fn hear(said: &mut Lines<ChildStdout>, pipe: &Weak<Pipe>, activity: &Activity, longest: usize) -> Why {
    while let Ok(Some(line)) = said.next().await {
        let line = match line {
            Line::Whole(line) => line,
            Line::Cut(_) => return Why::TooLong(longest),
        };
        let Some(held) = pipe.upgrade() else { return Why::Unused };
        if !line.trim_ascii().is_empty() {
            held.take(&line).await;
        }
        drop(held);
        // Any output counts: as long as it owes answers, its silence is measured from here on.
        activity.heard(pipe);
    }
    Why::Left
}

async fn tell(stdin: &mut ChildStdin, outgoing: &mut mpsc::Receiver<Outgoing>, pipe: &Weak<Pipe>, activity: &Activity) -> Why {
    while let Some((message, _room)) = outgoing.recv().await {
        activity.spoke(pipe);
        let line = one_line(&message);
        let written = async {
            stdin.write_all(&line).await?;
            stdin.write_all(b"\n").await?;
            stdin.flush().await
        };
        if written.await.is_err() {
            return Why::Left;
        }
    }
    Why::Unused
}

/// A message without line ends: in JSON they stand between values only, where a space means the same.
fn one_line(message: &Bytes) -> Bytes {
    if !message.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return message.clone();
    }
    message.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

async fn look(pipe: &Weak<Pipe>, activity: &Activity, patience: Duration, idle: Duration) -> Why {
    let mut looks = tokio::time::interval((patience.min(idle) / LOOKS).max(Duration::from_millis(10)));
    loop {
        looks.tick().await;
        // Cancelled requests need no answer, and a program that waits for an answer may be silent.
        if pipe.upgrade().is_none_or(|pipe| !pipe.owes()) {
            activity.is_even();
        }
        if activity.silent() >= patience {
            return Why::Hangs(patience);
        }
        if activity.rested() >= idle && pipe.upgrade().is_none_or(|pipe| !pipe.is_busy()) {
            return Why::Rested;
        }
    }
}

/// Ends a process whose input is closed already.
async fn end(child: &mut Child, grace: Duration) -> Option<ExitStatus> {
    if let Ok(status) = tokio::time::timeout(grace, child.wait()).await {
        return status.ok();
    }
    // Before it is reaped its pid is not reused.
    if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    // The keeper gives as long, and then ends everything; that takes a moment.
    if let Ok(status) = tokio::time::timeout(grace * 2 + Duration::from_secs(1), child.wait()).await {
        return status.ok();
    }
    let _ = child.start_kill();
    child.wait().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_was_written_over_several_lines_is_one_line() {
        assert_eq!(one_line(&Bytes::from_static(b"{\r\n  \"a\": 1\n}")), "{    \"a\": 1 }");
        let plain = Bytes::from_static(b"{}");
        assert_eq!(one_line(&plain).as_ptr(), plain.as_ptr(), "nothing is copied");
    }
}
