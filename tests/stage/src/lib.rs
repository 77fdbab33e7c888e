//! What the tests stand on: an upstream that acts as soon as it can, gnomon in this process, and
//! clients whose every byte a test chooses.

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

/// How long anything may take before a test gives up on it.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The upstream's name in all tests. No label of it says `mcp`, so that its name proves nothing.
pub const HOST: &str = "tools.example";

/// Waits, but not for ever.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {DEADLINE:?} for {what}"),
    }
}
