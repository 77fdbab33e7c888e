//! What servers are told beside the road: ends of sessions, cancellations, answers and notifications of clients.
//!
//! One that hangs holds up neither whoever has it told nor the other servers: they are told at once, and waited for at most a second.
//! Who is slower is told all the same, within ten.

use std::{pin::Pin, time::Duration};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle};

/// How long whoever has servers told something waits for that.
const WAITED: Duration = Duration::from_secs(1);
/// How long a server may take to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// The most messages under way, in this process.
const MOST: usize = 4096;

static PLACES: Semaphore = Semaphore::const_new(MOST);

/// A server is told something.
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

/// Sends a message that nobody waits for. None where too many are under way, or everything ends.
pub fn beside(telling: Telling) -> Option<JoinHandle<()>> {
    let Ok(place) = PLACES.try_acquire() else {
        tracing::debug!("a server is not told something: too many take their time");
        return None;
    };
    let runtime = Handle::try_current().ok()?;
    Some(runtime.spawn(async move {
        let _place = place;
        let _ = tokio::time::timeout(TOLD_WITHIN, telling).await;
    }))
}
