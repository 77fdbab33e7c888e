//! The async runtime of a command.

use tokio::runtime::{Builder, Runtime};

/// A runtime of this one thread: a command asks one thing after the other.
///
/// # Errors
/// The system has no descriptors left.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
