//! Work that blocks, on a thread of its own. Where there can be none, as the host or the service has no more, that is an error and not the end
//! of who asked: the runtime's own way panics then, and what looks again and again would look no more.

use std::{io, thread};
use tokio::sync::oneshot;

/// Does this on a thread, and gives what came of it.
///
/// # Errors
/// There can be no thread, or the work panicked.
pub async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let body = move || {
        // Whoever asked may have gone.
        let _ = done.send(work());
    };
    thread::Builder::new().name("gnomon-apart".to_owned()).spawn(body)?;
    result.await.map_err(|_| io::Error::other("it broke off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_breaks_off_is_an_error_of_whoever_asked() {
        assert_eq!(apart(|| 7).await.unwrap(), 7);
        assert!(apart::<()>(|| panic!("broken")).await.is_err());
    }
}
