//! The threads that check what may take long: few, with a queue that is bounded, below the priority of those that serve.

use parking_lot::Mutex;
use std::{
    sync::{
        Arc, LazyLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};
use tokio::sync::oneshot;

/// The number of threads: one slow check does not hold up all.
const WORKERS: usize = 2;
/// Most checks that wait.
const QUEUE: usize = 64;
/// Schemas and values nest, and so does checking.
const STACK: usize = 32 << 20;
/// The niceness of the threads (nice(2)).
const NICE: i32 = 10;

/// All threads are at work, and enough checks wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy;

type Work = Box<dyn FnOnce() + Send>;

static QUEUED: LazyLock<Option<SyncSender<Work>>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Arc::new(Mutex::new(receiver));
    let started = (0..WORKERS).filter(|n| start(*n, receiver.clone()).is_ok()).count();
    (started > 0).then_some(sender)
});

fn start(number: usize, work: Arc<Mutex<Receiver<Work>>>) -> std::io::Result<()> {
    let run = move || {
        // Without it they only compete on equal terms.
        let _ = rustix::process::nice(NICE);
        loop {
            let next = work.lock().recv();
            match next {
                Ok(work) => work(),
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name(format!("schema-{number}")).stack_size(STACK).spawn(run).map(drop)
}

/// Runs `work` on one of the threads. Cancelled if the caller has gone before it begins.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
    let (done, result) = oneshot::channel();
    let work: Work = Box::new(move || {
        if !done.is_closed() {
            let _ = done.send(work());
        }
    });
    QUEUED.as_ref().ok_or(Busy)?.try_send(work).map_err(|_| Busy)?;
    result.await.map_err(|_| Busy)
}
