//! What takes long because a server's message is large, on threads of its own: two, below the priority of those that serve, and a turn for
//! each caller. On a thread that serves, one such message would stop everybody's.
//!
//! Most messages are small and are read where they come, which takes less than to hand them over.

use crate::error::CallError;
use gnomon_shares::{Bounds, Turns};
use parking_lot::Mutex;
use smol_str::SmolStr;
use std::{
    sync::{
        Arc, LazyLock,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};
use tokio::sync::oneshot;

/// The length from which a message is large, bytes: with rules on texts, reading so much takes some milliseconds. As a step of the inline
/// proxy.
pub const LARGE: usize = 128 << 10;
/// The number of threads, each with one message: one that takes long does not hold up all.
const THREADS: usize = 2;
/// The niceness of the threads (nice(2)).
const NICE: i32 = 10;
/// What reads a message nests as the message does.
const STACK: usize = 8 << 20;
/// The most messages that wait. Their calls and bytes are bounded elsewhere.
const WAITING: usize = 16 << 10;
/// The longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(120);

static TURNS: LazyLock<Turns> = LazyLock::new(|| Turns::of(Bounds { all: THREADS, each: THREADS, times_free: 0 }, WAITING, PATIENCE));
static QUEUED: LazyLock<Option<SyncSender<Work>>> = LazyLock::new(|| {
    let (sender, receiver) = sync_channel(THREADS);
    let receiver = Arc::new(Mutex::new(receiver));
    let started = (0..THREADS).filter(|number| start(*number, receiver.clone()).is_ok()).count();
    (started > 0).then_some(sender)
});

type Work = Box<dyn FnOnce() + Send>;

fn start(number: usize, queue: Arc<Mutex<Receiver<Work>>>) -> std::io::Result<()> {
    let run = move || {
        // Without it they only compete on equal terms.
        let _ = rustix::process::nice(NICE);
        loop {
            let next = queue.lock().recv();
            match next {
                // What one message breaks is that message's.
                Ok(work) => drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))),
                Err(_) => return,
            }
        }
    };
    thread::Builder::new().name(format!("large-{number}")).stack_size(STACK).spawn(run).map(drop)
}

/// Does what reads a message of so many bytes for this owner: at once, or elsewhere where it is large. It is not begun where the caller has
/// gone meanwhile.
///
/// # Errors
/// [`CallError::Unread`] where there was no turn for it in time.
pub async fn read<T: Send + 'static>(owner: &SmolStr, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> Result<T, CallError> {
    if bytes < LARGE {
        return Ok(work());
    }
    let turn = TURNS.take(&owner.as_str().into()).await.map_err(|_| CallError::Unread)?;
    // No thread could be started.
    let Some(queue) = QUEUED.as_ref() else { return Ok(work()) };
    let (done, result) = oneshot::channel();
    let work: Work = Box::new(move || {
        let result = (!done.is_closed()).then(work);
        // Whoever waits for the result may ask for the next turn at once.
        drop(turn);
        if let Some(result) = result {
            // What nobody takes is freed here.
            drop(done.send(result));
        }
    });
    queue.try_send(work).map_err(|_| CallError::Unread)?;
    result.await.map_err(|_| CallError::Unread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Instant,
    };
    use tokio::task::JoinSet;

    /// The tests share the threads.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    fn busy(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn what_is_large_is_read_elsewhere_two_at_a_time_and_who_serves_goes_on() {
        let _alone = ONE_AT_A_TIME.lock().await;
        static AT_ONCE: AtomicUsize = AtomicUsize::new(0);
        static MOST: AtomicUsize = AtomicUsize::new(0);
        let serves = thread::current().id();
        assert_eq!(read(&"a".into(), LARGE - 1, || thread::current().id()).await.unwrap(), serves);
        let mut all = JoinSet::new();
        for number in 0..8 {
            all.spawn(async move {
                let owner = SmolStr::from(format!("owner {}", number % 3));
                let work = || {
                    MOST.fetch_max(AT_ONCE.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    busy(Duration::from_millis(40));
                    AT_ONCE.fetch_sub(1, Ordering::SeqCst);
                    thread::current().id()
                };
                read(&owner, LARGE, work).await.unwrap()
            });
        }
        // This runtime has one thread, which none of them takes.
        let mut longest = Duration::ZERO;
        while !all.is_empty() {
            let begun = Instant::now();
            tokio::time::sleep(Duration::from_millis(1)).await;
            longest = longest.max(begun.elapsed());
            while let Some(done) = all.try_join_next() {
                assert_ne!(done.unwrap(), serves);
            }
        }
        assert!(MOST.load(Ordering::SeqCst) <= THREADS);
        assert!(longest < Duration::from_millis(300), "{longest:?}: eight times forty were done where it serves");
    }

    #[tokio::test]
    async fn who_has_many_large_messages_makes_way_for_who_has_one_and_what_breaks_is_its_own() {
        let _alone = ONE_AT_A_TIME.lock().await;
        let mut greedy = JoinSet::new();
        for _ in 0..40 {
            greedy.spawn(async { read(&"greedy".into(), LARGE, || busy(Duration::from_millis(20))).await });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        read(&"other".into(), LARGE, || ()).await.unwrap();
        let done = std::iter::from_fn(|| greedy.try_join_next()).count();
        assert!(done < 20, "{done} were read before it");
        assert!(matches!(read::<()>(&"odd".into(), LARGE, || panic!("broken")).await, Err(CallError::Unread)));
        while let Some(one) = greedy.join_next().await {
            one.unwrap().unwrap();
        }
        // Who has gone meanwhile is not read for.
        drop(greedy);
        static RAN: AtomicUsize = AtomicUsize::new(0);
        let gone = tokio::time::timeout(Duration::from_millis(5), async {
            let two = [(); 2].map(|()| tokio::spawn(async { read(&"x".into(), LARGE, || busy(Duration::from_millis(50))).await }));
            tokio::task::yield_now().await;
            let _ = read(&"y".into(), LARGE, || RAN.fetch_add(1, Ordering::SeqCst)).await;
            drop(two);
        });
        assert!(gone.await.is_err());
        read(&"z".into(), LARGE, || ()).await.unwrap();
        assert_eq!(RAN.load(Ordering::SeqCst), 0);
    }
}
