//! The parent's half: who may run when, and what is believed of a worker.

mod execution;
mod session;
mod sockets;
mod worker;
mod zygote;

use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use gnomon_kit::Backoff;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::host::{Host, Program, Task};
use crate::layers::Layers;
use crate::limits::{Limit, Limits};
use crate::outcome::{Execution, ScriptOutcome};
use crate::zygote::MAX_WORKERS;
use worker::{NoWorker, Worker};
use zygote::Zygote;

/// Pause before a zygote that died is started again, doubled each time up to [`LONGEST_PAUSE`] until one has lived that long.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a sandbox is started, and how much of it there may be.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The program that calls [`zygote::run`](crate::zygote::run) first thing. It is started with an empty environment.
    pub program: OsString,
    /// The arguments.
    pub arguments: Vec<OsString>,
    /// The environment: for its allocator, say. Nothing of this process's own is added.
    pub environment: Vec<(OsString, OsString)>,
    /// Executions at the same time, at most 288. Each may take its [`Limits::heap`] of memory and 192 MiB beside it at worst, and
    /// 0.3 MiB usually.
    pub workers: usize,
    /// Executions that wait for a worker; more are refused.
    pub queue: usize,
    /// The most time that a queued execution waits.
    pub patience: Duration,
}

impl SandboxConfig {
    /// 128 workers, 64 waiting for at most 10 s. The environment says one thing, to the allocator mimalloc if it is there: to take
    /// memory from the kernel as it is used. Otherwise it takes a gigabyte at once, and a bound on it means little.
    pub fn new<A: Into<OsString>>(program: impl Into<OsString>, arguments: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: vec![("MIMALLOC_ARENA_EAGER_COMMIT".into(), "0".into())],
            workers: 128,
            queue: 64,
            patience: Duration::from_secs(10),
        }
    }
}

/// The reason that there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The program cannot be started, or its socket not be made.
    #[error("cannot start the sandbox's process")]
    Spawn(#[source] io::Error),
    /// The zygote started and says why it cannot be one. Without seccomp there is no sandbox.
    #[error("the sandbox's process cannot confine itself: {0}")]
    Refused(String),
    /// The process ended, or is not a zygote.
    #[error("the sandbox's process ended before it was ready")]
    Ended,
    /// The process said nothing for ten seconds.
    #[error("the sandbox's process did not become ready in time")]
    Silent,
}

/// The reason that code was not run. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// All workers are taken, and so is the queue, or waiting took too long.
    #[error("too many executions are running: try again in a moment, or do more in one execution")]
    Busy,
    /// The sandbox died and may not be started again yet.
    #[error("the sandbox is being restarted: try again in {} s", .0.as_secs().max(1))]
    Restarting(Duration),
    /// The zygote died and cannot be started again; the next execution after a pause tries anew.
    #[error("the sandbox cannot be started again")]
    Start(#[from] StartError),
    /// The zygote has no process for it.
    #[error("the sandbox cannot start a process")]
    Fork(#[source] io::Error),
}

/// Runs programs, each in a process of its own. Dropping it ends the zygote and with it every worker.
#[derive(Debug)]
pub struct Sandbox {
    config: SandboxConfig,
    workers: Semaphore,
    waiting: AtomicUsize,
    restarts: AtomicU64,
    zygote: Mutex<Slot>,
}

/// The zygote, or when there may be one again.
#[derive(Debug)]
struct Slot {
    current: Option<Arc<Zygote>>,
    started: Instant,
    pause: Backoff,
    /// True if the last one lives and is used no more, so that the next need not wait.
    spent: bool,
}

impl Sandbox {
    /// Starts the zygote, so that a host that allows no sandbox is known at once.
    ///
    /// # Errors
    /// If there is no sandbox, above all where seccomp filters cannot be applied.
    pub async fn start(config: SandboxConfig) -> Result<Self, StartError> {
        let zygote = Zygote::start(&config).await?;
        Ok(Self {
            workers: Semaphore::new(config.workers.clamp(1, MAX_WORKERS)),
            waiting: AtomicUsize::new(0),
            restarts: AtomicU64::new(0),
            zygote: Mutex::new(Slot {
                current: Some(Arc::new(zygote)),
                started: Instant::now(),
                pause: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
                spent: false,
            }),
            config,
        })
    }

    /// The layers that hold; `None` while the zygote is dead.
    pub async fn layers(&self) -> Option<Layers> {
        self.zygote.lock().await.current.as_ref().map(|zygote| zygote.layers())
    }

    /// The number of the zygote's process; `None` while it is dead. With a process namespace it is that of the process that holds
    /// the zygote.
    pub async fn process(&self) -> Option<u32> {
        self.zygote.lock().await.current.as_ref().and_then(|zygote| zygote.process())
    }

    /// How often the zygote was started again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Runs a program to its end. Dropping the future kills the worker and drops the calls that `host` is answering.
    ///
    /// # Errors
    /// If nothing was run: too much is running, or the sandbox is dead. Later failures are a [`ScriptOutcome`].
    pub async fn execute<H: Host>(&self, program: Program<'_>, limits: &Limits, host: &H) -> Result<Execution, ExecuteError> {
        self.perform((program, Task::Run), limits, host).await
    }

    /// As [`execute`](Self::execute), for another task than to run it.
    ///
    /// # Errors
    /// See [`execute`](Self::execute).
    pub async fn perform<H: Host>(
        &self,
        (program, task): (Program<'_>, Task<'_>),
        limits: &Limits,
        host: &H,
    ) -> Result<Execution, ExecuteError> {
        let limits = limits.held();
        if program.code.len() > limits.code {
            return Ok(execution::refused(ScriptOutcome::Limit(Limit::Code)));
        }
        let _permit = self.turn().await?;
        let (worker, zygote) = self.worker(&limits).await?;
        let execution = execution::run(worker, (program, task), &limits, host).await;
        if let ScriptOutcome::Violation(_) = execution.outcome {
            self.spend(&zygote).await;
        }
        Ok(execution)
    }

    /// A place among the workers.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, ExecuteError> {
        if let Ok(permit) = self.workers.try_acquire() {
            return Ok(permit);
        }
        let _place = QueuePlace::take(&self.waiting, self.config.queue).ok_or(ExecuteError::Busy)?;
        match tokio::time::timeout(self.config.patience, self.workers.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(ExecuteError::Busy),
        }
    }

    /// A process, from the zygote or, if that has died, from the next one.
    async fn worker(&self, limits: &Limits) -> Result<(Worker, Arc<Zygote>), ExecuteError> {
        let zygote = self.living().await?;
        match zygote.fork(limits).await {
            Ok(worker) => return Ok((worker, zygote)),
            Err(NoWorker::Fork(error)) => return Err(ExecuteError::Fork(error)),
            Err(NoWorker::Dead) => self.bury(&zygote).await,
        }
        let zygote = self.living().await?;
        match zygote.fork(limits).await {
            Ok(worker) => Ok((worker, zygote)),
            Err(NoWorker::Fork(error)) => Err(ExecuteError::Fork(error)),
            Err(NoWorker::Dead) => Err(ExecuteError::Restarting(FIRST_PAUSE)),
        }
    }

    async fn living(&self) -> Result<Arc<Zygote>, ExecuteError> {
        let mut slot = self.zygote.lock().await;
        if let Some(zygote) = &slot.current {
            return Ok(Arc::clone(zygote));
        }
        // A zygote that lived long was no failure to start; the next follows at once.
        let due = slot.started + slot.pause.wait();
        let now = Instant::now();
        if due > now && !slot.spent {
            return Err(ExecuteError::Restarting(due - now));
        }
        slot.started = now;
        let spent = std::mem::take(&mut slot.spent);
        if !spent {
            slot.pause.failed();
        }
        let zygote = Arc::new(Zygote::start(&self.config).await?);
        if spent {
            tracing::info!("the sandbox was started anew, as a worker of it broke out of its bounds");
        } else {
            self.restarts.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(restarts = self.restarts(), "the sandbox died and was restarted");
        }
        slot.current = Some(Arc::clone(&zygote));
        Ok(zygote)
    }

    /// Takes no more workers from a zygote of which one broke out of its bounds: all of them have one layout of memory, and what was learned
    /// of it must be worth nothing to the next. It lives until its other workers have ended.
    async fn spend(&self, zygote: &Arc<Zygote>) {
        let mut slot = self.zygote.lock().await;
        if slot.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, zygote)) {
            slot.current = None;
            slot.spent = true;
        }
    }

    /// Forgets a zygote that is dead, unless another did so already.
    async fn bury(&self, dead: &Arc<Zygote>) {
        let mut slot = self.zygote.lock().await;
        if slot.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, dead)) {
            slot.current = None;
            if slot.started.elapsed() > LONGEST_PAUSE {
                slot.pause.reset();
            }
        }
    }
}

/// A place in the queue.
struct QueuePlace<'a>(&'a AtomicUsize);

impl<'a> QueuePlace<'a> {
    fn take(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| (now < most).then_some(now + 1)).ok().map(|_| Self(waiting))
    }
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
