//! The body of a request, read to its end: within its bound, within the room that there is for its caller, and in time.

use crate::{
    portal::Portal,
    responses::{busy, plain, refused},
};
use bytes::Bytes;
use gnomon_access::Caller;
use gnomon_http::Whole;
use gnomon_relay::{
    metrics::Lacking,
    outflow::Outflow,
    room::{self, room},
    shares::owner,
};
use gnomon_upstream::rpc::{INVALID_REQUEST, RpcError};
use http::{Response, StatusCode};
use http_body::Body;
use parking_lot::Mutex;
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    time::{Duration, Instant},
};

/// The timeout of a request's body.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// The bounds, in time and bytes, within which an unwanted body is read all the same.
const LINGER: Duration = Duration::from_secs(2);
const MOST_UNWANTED: usize = 16 << 20;
/// The interval at which a lack of room is logged.
const TOLD_AGAIN: Duration = Duration::from_secs(10);

/// Whether a client sends its body only when it is asked to (RFC 9110 section 10.1.1).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    Yes,
    No,
}

/// Reads an unwanted body for a while: a client that is still sending when the connection closes never reads the error.
async fn linger<B: Body<Data = Bytes>>(mut body: Pin<&mut B>) {
    let drained = async {
        let mut left = MOST_UNWANTED;
        while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    let _ = tokio::time::timeout(LINGER, drained).await;
}

/// Reads a body to its end, within the room that there is for its caller.
#[allow(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
pub(crate) async fn read<B: Body<Data = Bytes>>(
    portal: &Portal,
    body: B,
    caller: &Caller,
    waits: Waits,
) -> Result<Bytes, Response<Outflow>> {
    let most = portal.options.max_request;
    let declared = body.size_hint().lower();
    let mut body = pin!(body);
    let too_large = |text: String| refused(StatusCode::PAYLOAD_TOO_LARGE, None, RpcError::new(INVALID_REQUEST, text));
    let longer = || too_large(format!("a request may have at most {most} bytes"));
    if declared > most as u64 {
        if waits == Waits::No {
            linger(body).await;
        }
        return Err(longer());
    }
    let whole = async {
        let mut read = Whole::new(&body.size_hint(), most);
        let mut taken = match room().take(caller, usize::try_from(declared).unwrap_or(most)).await {
            Ok(taken) => taken,
            Err(_) => {
                if waits == Waits::No {
                    linger(body).await;
                }
                return Err(no_room(portal, caller));
            }
        };
        while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            let frame = frame.map_err(|_| plain(StatusCode::BAD_REQUEST, "the request body ended early"))?;
            let Ok(data) = frame.into_data() else { continue };
            if read.push(data).is_err() {
                linger(body).await;
                return Err(longer());
            }
            if room().extend(&mut taken, read.len(), 0).await.is_err() {
                linger(body).await;
                return Err(no_room(portal, caller));
            }
        }
        let read = read.into_bytes();
        let values = room::values(&read);
        if values > room::MOST_OF_VALUES {
            return Err(too_large("a request may have at most some 45,000 objects or 200,000 other values".to_owned()));
        }
        room().extend(&mut taken, read.len(), values).await.map_err(|_| no_room(portal, caller))?;
        Ok(taken.holds(read))
    };
    let late = |_| plain(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time");
    tokio::time::timeout(BODY_PATIENCE, whole).await.map_err(late)?
}

/// The answer to a caller that has too many requests in progress.
fn no_room(portal: &Portal, caller: &Caller) -> Response<Outflow> {
    /// The time of the last log line, so that a flood of requests does not flood the log.
    static TOLD: Mutex<Option<Instant>> = Mutex::new(None);
    let mut told = TOLD.lock();
    if told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
        *told = Some(Instant::now());
        tracing::warn!(caller = %owner(caller), "a request is refused: its caller's requests in progress use all the memory that they may take");
    }
    drop(told);
    portal.refused(Lacking::Room);
    busy("the requests in progress use all the memory that they may take; try again later")
}
