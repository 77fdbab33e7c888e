//! Errors between handing a request to [`Pools`](crate::Pools) and its response head.

use std::error::Error;

use h2::Reason;

use crate::asked::refuses_without_a_certificate;
use crate::{AbortBody, DialError, UpstreamTlsError};

/// An error of sending a request. The texts are fit for a client's eyes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No TCP connection was made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// No TLS connection was made; a failed verification comes with its reason.
    #[error(transparent)]
    Tls(#[from] UpstreamTlsError),
    /// The upstream no longer speaks the protocol that the destination names. The remembered choice
    /// has been forgotten: ask again with [`Pools::negotiate`](crate::Pools::negotiate), or answer
    /// 502 and let the client come back.
    #[error("upstream has changed its application protocol")]
    ProtocolChanged,
    /// The upstream closed or reset the connection before it answered. The request may have been acted on.
    #[error("upstream closed the connection before answering")]
    Closed,
    /// Our own [`AbortBody`] ended the request: the caller knows why and owes the client an answer.
    #[error("request stopped by gnomon")]
    Aborted,
    /// The request body failed for another reason, mostly because the client went away.
    #[error("request body ended early")]
    RequestBody,
    /// Any other error, in the HTTP library's words.
    #[error("upstream request failed: {0}")]
    Other(String),
}

impl SendError {
    /// Reads the library's error chain: hyper-util keeps our connector's errors and our body's in it.
    pub(crate) fn read(error: &(dyn Error + 'static)) -> Self {
        let mut text = String::new();
        let mut closed = false;
        let mut body = false;
        let mut next = Some(error);
        // Chains are a handful long; the bound keeps a cyclic one from hanging us.
        for _ in 0..16 {
            let Some(cause) = next else { break };
            if let Some(ours) = cause.downcast_ref::<Self>() {
                return ours.clone();
            }
            if cause.is::<AbortBody>() {
                return Self::Aborted;
            }
            if let Some(h2) = cause.downcast_ref::<h2::Error>() {
                match h2.reason() {
                    Some(Reason::CANCEL) if !h2.is_remote() => return Self::Aborted,
                    Some(Reason::HTTP_1_1_REQUIRED) if h2.is_remote() => return Self::ProtocolChanged,
                    _ => closed |= h2.is_remote() || h2.is_io() || h2.is_go_away(),
                }
                body |= h2.is_reset() && !h2.is_remote();
            }
            if let Some(hyper) = cause.downcast_ref::<hyper::Error>() {
                closed |= hyper.is_incomplete_message() || hyper.is_closed() || hyper.is_canceled() || hyper.is_timeout();
                body |= hyper.is_user();
            }
            if let Some(io) = cause.downcast_ref::<std::io::Error>() {
                if refuses_without_a_certificate(io) {
                    return Self::Tls(UpstreamTlsError::ClientCertificate);
                }
                closed = true;
            }
            text = cause.to_string();
            next = cause.source();
        }
        match (body, closed) {
            (true, _) => Self::RequestBody,
            (false, true) => Self::Closed,
            (false, false) => Self::Other(text),
        }
    }
}
