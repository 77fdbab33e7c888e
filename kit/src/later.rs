//! Something that may have to be opened later than at the start.

use std::{future::Future, pin::Pin};

/// How something is opened, each time that it is tried.
pub type Opens<T, E> = Box<dyn FnMut() -> Pin<Box<dyn Future<Output = Result<T, E>> + Send>> + Send>;

/// Something that is open, or is opened by the first use for which that succeeds: a database whose disk is full at the start need not keep
/// a program from running. Whoever uses it meanwhile has the error, so that nothing waits.
pub struct Later<T, E> {
    opened: Option<T>,
    open: Opens<T, E>,
}

impl<T, E> std::fmt::Debug for Later<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Later").field("is_open", &self.opened.is_some()).finish_non_exhaustive()
    }
}

impl<T: Send + 'static, E: Send + 'static> Later<T, E> {
    /// It is open.
    #[must_use]
    pub fn opened(value: T) -> Self {
        // Never asked for.
        Self { opened: Some(value), open: Box::new(|| Box::pin(std::future::pending())) }
    }

    /// It is not open yet.
    #[must_use]
    pub fn waiting(open: Opens<T, E>) -> Self {
        Self { opened: None, open }
    }

    /// What is open; without a try.
    #[must_use]
    pub fn as_ref(&self) -> Option<&T> {
        self.opened.as_ref()
    }

    /// What is open, or is opened now.
    ///
    /// # Errors
    /// Why it cannot be opened yet. The next use tries again.
    pub async fn get(&mut self) -> Result<&mut T, E> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => (self.open)().await?,
        };
        Ok(self.opened.insert(opened))
    }

    /// What is open.
    #[must_use]
    pub fn into_inner(self) -> Option<T> {
        self.opened
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        pin::pin,
        sync::atomic::{AtomicU32, Ordering},
        task::{Context, Poll, Waker},
    };

    /// The result of a future that does not wait.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it waits"),
        }
    }

    #[test]
    fn each_use_tries_to_open_it_until_one_can_and_then_none_does() {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        let open: Opens<u32, &str> = Box::new(|| {
            let tried = TRIED.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(if tried < 2 { Err("no room") } else { Ok(tried) }))
        });
        let mut later = Later::waiting(open);
        assert!(now(later.get()) == Err("no room") && later.as_ref().is_none());
        assert_eq!(now(later.get()), Err("no room"));
        *now(later.get()).unwrap() += 5;
        assert_eq!(now(later.get()).copied(), Ok(7));
        assert_eq!((TRIED.load(Ordering::Relaxed), later.into_inner()), (3, Some(7)));
        assert_eq!(now(Later::<_, ()>::opened(1).get()).copied(), Ok(1));
    }
}
