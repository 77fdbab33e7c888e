//! Shared by the tests: an upstream that acts as early as possible, gnomon in the test's process, and clients that send exactly the bytes
//! that a test gives them.

pub mod authority;
pub mod cgroup;
pub mod client;
pub mod coding;
pub mod eager;
pub mod gnomon;
pub mod har;
pub mod lenient;
pub mod neighbours;
pub mod request;
pub mod rules;
pub mod upstream;

use std::time::Duration;

/// The time after which a test gives up waiting.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The upstream's name in all tests. It has no label `mcp`, so the name is no evidence.
pub const HOST: &str = "tools.example";

/// Waits for a future, but no longer than [`DEADLINE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}
