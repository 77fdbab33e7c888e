//! `Expect: 100-continue` (RFC 9110 section 10.1.1): a client that sends its body once its server asks for it.
//!
//! The library asks the client as soon as its body is read. So the expectation goes on to the server, and the body is left alone until the
//! server asks for it or has said nothing for a second, as many servers know nothing of this. A server that answers at once is heard before
//! anything of the body is sent. Where a rule has to see the body first, reading it asks the client, and what was read waits for the
//! server's word in the same way. The trade-off: the library neither hears nor says 100 over HTTP/2, so there the expectation goes on and
//! the client waits for as long as it does where a server says nothing.

use http::{Request, StatusCode, Version, header};
use http_body::Body;
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::{
    sync::watch::{self, Receiver, Sender},
    time::timeout,
};

/// The time in which a server is to ask for the body, or refuse it: what curl gives it as well.
const PATIENCE: Duration = Duration::from_secs(1);

/// Whether the client may be asked for its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    /// The server has said nothing yet.
    NotYet,
    /// It has answered without asking: the body is read behind the head of that answer, which then no 100 precedes.
    AfterAnswer,
    Now,
}

/// The wait of one request's body for its server's word.
#[derive(Clone, Debug)]
pub(crate) struct ContinueWait(Arc<Sender<Go>>);

/// A body's turn to be read.
pub(crate) type BodyTurn = Pin<Box<dyn Future<Output = ()> + Send>>;

impl ContinueWait {
    /// None where the client does not wait to be asked, or the library could not ask it.
    pub fn of<B: Body>(request: &Request<B>) -> Option<Self> {
        let expects = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        // The library goes by the last value.
        let waits = request.version() == Version::HTTP_11
            && request.headers().get_all(header::EXPECT).iter().next_back().is_some_and(expects)
            && !request.body().is_end_stream();
        waits.then(|| Self(Arc::new(watch::channel(Go::NotYet).0)))
    }

    /// Hears the server of this request ask for the body.
    pub fn listens<B>(&self, request: &mut Request<B>) {
        let wait = self.clone();
        hyper::ext::on_informational(request, move |said| {
            if said.status() == StatusCode::CONTINUE {
                wait.is_over();
            }
        });
    }

    /// The server has answered. True if it has not asked for the body before.
    pub fn is_answered(&self) -> bool {
        self.0.send_if_modified(|go| {
            let unasked = *go == Go::NotYet;
            if unasked {
                *go = Go::AfterAnswer;
            }
            unasked
        })
    }

    fn is_over(&self) {
        self.0.send_replace(Go::Now);
    }

    /// Over once the body may be read. The server's time begins with the first poll.
    pub fn turn(&self) -> BodyTurn {
        let go = self.0.subscribe();
        Box::pin(async move {
            if timeout(PATIENCE, until(go.clone(), |go| go != Go::NotYet)).await.is_ok() {
                until(go, |go| go == Go::Now).await;
            }
        })
    }

    /// Over once the head of the answer was written, whichever it was, or the body was asked for.
    pub fn answer_begins(&self) -> BodyTurn {
        Box::pin(until(self.0.subscribe(), |go| go == Go::Now))
    }

    /// To be dropped as soon as an answer's head was written.
    pub fn of_the_answer(self) -> AnswerBegins {
        AnswerBegins(self)
    }
}

async fn until(mut go: Receiver<Go>, wanted: impl Fn(Go) -> bool) {
    // A sender that is gone has no more to say.
    let _ = go.wait_for(|go| wanted(*go)).await;
}

/// The head of an answer, until it was written.
#[derive(Debug)]
pub(crate) struct AnswerBegins(ContinueWait);

impl Drop for AnswerBegins {
    fn drop(&mut self) {
        self.0.is_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::download::Download;
    use bytes::Bytes;
    use tokio::time::Instant;

    fn waiting() -> ContinueWait {
        ContinueWait(Arc::new(watch::channel(Go::NotYet).0))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_is_read_once_it_is_asked_for_or_after_a_second_and_behind_an_answer_that_came_before() {
        let wait = waiting();
        let began = Instant::now();
        wait.turn().await;
        assert_eq!(began.elapsed(), PATIENCE);

        let wait = waiting();
        let mut turn = wait.turn();
        assert!(timeout(PATIENCE / 2, turn.as_mut()).await.is_err());
        assert!(wait.is_answered());
        assert!(timeout(PATIENCE * 100, turn.as_mut()).await.is_err(), "no 100 before an answer that is held back");
        drop(wait.clone().of_the_answer());
        turn.await;
        assert!(!wait.is_answered());
    }

    #[tokio::test]
    async fn who_expects_nothing_or_sends_nothing_does_not_wait() {
        let request = |version: Version, expect: &str, body: &'static str| {
            let body = Download::full(Bytes::from_static(body.as_bytes()));
            ContinueWait::of(&Request::put("/").version(version).header(header::EXPECT, expect).body(body).unwrap()).is_some()
        };
        assert!(request(Version::HTTP_11, "100-Continue", "body"));
        assert!(!request(Version::HTTP_11, "100-continue", "") && !request(Version::HTTP_11, "something", "body"));
        assert!(!request(Version::HTTP_10, "100-continue", "body") && !request(Version::HTTP_2, "100-continue", "body"));
    }
}
