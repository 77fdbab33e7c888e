//! Messages to servers beside their calls: ends of sessions, cancellations, answers and notifications of clients.
//!
//! A server that hangs holds up neither the sender nor the other servers: messages are sent at once, and waited for at most a second. A
//! slower server still gets them within ten.

use parking_lot::RwLock;
use prometheus::{IntCounterVec, Opts};
use std::{pin::Pin, sync::LazyLock, time::Duration};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};

/// How long a sender waits for its messages.
const WAITED: Duration = Duration::from_secs(1);
/// The timeout of one message.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// The most messages in progress, in this process.
const MOST: usize = 4096;

static PLACES: Semaphore = Semaphore::const_new(MOST);

/// Why a server was not told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Untold {
    /// Too many other messages were in progress.
    Busy,
    /// The server did not take it in time.
    Slow,
}

impl Untold {
    const ALL: [Self; 2] = [Self::Busy, Self::Slow];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Slow => "slow",
        }
    }

    fn count(self) {
        let counted = COUNTED.read();
        if let Some(counter) = &*counted {
            counter.with_label_values(&[self.as_str()]).inc();
        }
    }
}

/// The counter: one for this process, as the places are.
static COUNTED: LazyLock<RwLock<Option<IntCounterVec>>> = LazyLock::new(RwLock::default);

/// Makes the counter of messages that were not sent.
///
/// # Errors
/// When the name is refused, which is a mistake in this file.
pub(crate) fn counter() -> Result<IntCounterVec, prometheus::Error> {
    let help = "Messages to servers that were dropped (ends of sessions, cancellations, answers, notifications of clients), by reason: `busy`, as 4,096 \
                were being told something, or `slow`, as they did not take it within ten seconds.";
    let counter = IntCounterVec::new(Opts::new("gnomon_portal_untold_total", help), &["reason"])?;
    Untold::ALL.iter().for_each(|why| drop(counter.with_label_values(&[why.as_str()])));
    *COUNTED.write() = Some(counter.clone());
    Ok(counter)
}

/// The sending of a message to a server.
pub type Telling = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Sends a message to all these servers at once.
pub async fn at_once(told: Vec<Telling>) {
    let telling: Vec<JoinHandle<()>> = told.into_iter().filter_map(beside).collect();
    let all = async {
        for one in telling {
            let _ = one.await;
        }
    };
    let _ = tokio::time::timeout(WAITED, all).await;
}

/// Sends a message without waiting. None if too many are in progress, or at shutdown.
///
/// No stop joins its task: it outlives the call, the session and the portal that it is of, as a server is still to hear that they ended. Its
/// timeout of ten seconds ends it, or the end of its runtime; nothing that is owed to the record hangs on it.
pub fn beside(telling: Telling) -> Option<JoinHandle<()>> {
    let Ok(place) = PLACES.try_acquire() else {
        Untold::Busy.count();
        tracing::debug!("a message to a server is dropped: too many servers are slow to take theirs");
        return None;
    };
    let runtime = Handle::try_current().ok()?;
    Some(runtime.spawn(async move {
        let _place = place;
        if tokio::time::timeout(TOLD_WITHIN, telling).await.is_err() {
            Untold::Slow.count();
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_servers_are_not_told_is_counted_by_why() {
        let counter = counter().unwrap();
        let count = |why: Untold| counter.with_label_values(&[why.as_str()]).get();
        let hangs = || Box::pin(std::future::pending()) as Telling;
        let mut told: Vec<_> = (0..MOST).map_while(|_| beside(hangs())).collect();
        assert!(beside(hangs()).is_none() && count(Untold::Busy) >= 1);
        told.truncate(2);
        for one in told {
            one.await.unwrap();
        }
        assert!(count(Untold::Slow) >= 2, "{}", count(Untold::Slow));
    }
}
