//! The clients of a closed loop from one block of requests to the next: what is compared in turns of milliseconds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::closed::{Client, ClosedLoop};
use super::connection::Route;

/// Clients that keep their connections, where the load says so, as long as this lives.
pub struct Crew {
    clients: Vec<Client>,
}

impl Crew {
    /// Clients without connections: those are made with their first requests.
    #[must_use]
    pub fn new(route: &Route, load: ClosedLoop) -> Self {
        Self { clients: (0..load.clients.0).map(|index| Client::new(route, load, index)).collect() }
    }

    /// Has so many requests answered, each by the client that is free next; the answer is how long that took.
    ///
    /// # Errors
    /// A request broke, or was answered with anything but 200.
    pub async fn block(&mut self, requests: usize) -> Result<Duration> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut working = JoinSet::new();
        let started = Instant::now();
        for mut client in self.clients.drain(..) {
            let next = Arc::clone(&next);
            working.spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= requests {
                        return anyhow::Ok(client);
                    }
                    client.ask(n).await?;
                }
            });
        }
        let clients = working.join_all().await;
        let took = started.elapsed();
        self.clients = clients.into_iter().collect::<Result<_>>()?;
        Ok(took)
    }
}
