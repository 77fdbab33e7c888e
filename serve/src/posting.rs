//! How events get to a collector: by gnomon's own HTTP client.

use bytes::Bytes;
use gnomon_export::{Answer, NoAnswer, Post, Posted};
use gnomon_http::{
    DialOptions, Dialer, UpstreamTls,
    client::{Bounds, Client, ClientError},
};
use http::Request;
use http_body_util::Full;
use std::time::Duration;

/// Posts to one receiver, whose address the operator alone names.
pub struct Posting(Client);

impl Posting {
    /// Verifies the receiver so.
    pub fn verifying(tls: UpstreamTls) -> Self {
        let dialer = Dialer::new(DialOptions { forbidden: None, ..DialOptions::default() });
        Self(Client::alone(dialer, tls, "events"))
    }
}

impl Post for Posting {
    fn post(&self, request: Request<Bytes>, answer: usize, patience: Duration) -> Posted<'_> {
        Box::pin(async move {
            let answer = self.0.send(request.map(Full::new), Bounds { answer, patience }).await.map_err(no_answer)?;
            let (status, after) = (answer.status(), answer.retry_after());
            Ok(Answer { status, body: answer.whole().await.map_err(no_answer)?, after })
        })
    }
}

fn no_answer(error: ClientError) -> NoAnswer {
    match error {
        ClientError::Late(_) => NoAnswer::Late,
        ClientError::BrokeOff(_) | ClientError::TooLarge(_) => NoAnswer::BrokeOff(error.to_string()),
        ClientError::Scheme | ClientError::Destination(_) | ClientError::Send(_) | ClientError::Setup(_) => {
            NoAnswer::Unreachable(error.to_string())
        }
    }
}
