//! WebSocket and other protocols that an HTTP/1.1 connection turns into: passed on unread.
//!
//! Anything but WebSocket is asked for on only where the judge lets it pass unread. h2c is not: without it the server stays with HTTP/1.1, which is
//! read.

use crate::{
    departure::Departure,
    download::Download,
    reply,
    resets::Resets,
    route::Route,
    shared::Shared,
    splice::{Said, splice},
};
use bytes::Bytes;
use gnomon_http::{UpstreamBody, switched};
use gnomon_inspect::{Connection, Passage, Passed, Sighting};
use gnomon_observe::Field;
use gnomon_record::FlowOutcome;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, ReadBuf};

/// A request to turn its connection into one of these protocols.
pub(crate) struct Asked {
    pub client: OnUpgrade,
    /// Their names, as they are asked for on.
    pub protocols: HeaderValue,
    /// What is told once the server does so, if that is to be told here.
    pub passes: Option<(Passage, Vec<Sighting>)>,
}

/// Asks the judge whether a connection may turn into these protocols, which are not read. The text of a refusal, which is recorded.
pub(crate) fn may_turn(shared: &Shared, connection: &Connection, protocols: &HeaderValue) -> Result<(Passage, Vec<Sighting>), String> {
    let passage = if shared.inspector.is_armed() { Passage::Upgraded } else { Passage::Disarmed };
    let named = String::from_utf8_lossy(protocols.as_bytes());
    match connection.pass(passage, FlowOutcome::of(passage).as_str()) {
        Passed::Go(mut reports) => {
            let text = format!("the connection turned into another protocol than HTTP (Upgrade: {named}), which is not read");
            reports.iter_mut().for_each(|report| report.seen.set(Field::Message, text.as_str()));
            Ok((passage, reports))
        }
        Passed::Refuse(_, text, reports) => {
            shared.recorder.report(reports);
            Err(format!("{text} The request asks for a protocol that gnomon does not read (Upgrade: {named})."))
        }
    }
}

/// The client's side after its 101.
struct Switched<T> {
    io: T,
    departure: Option<Arc<Departure>>,
}

impl<T> Resets for Switched<T> {
    fn resets(&self) {
        if let Some(departure) = &self.departure {
            departure.is_cut_off();
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Switched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

writes_through!(Switched, io);

/// Answers 101 to the client and joins both sides once each has left HTTP.
pub(crate) fn join(route: &Route, client: OnUpgrade, response: &mut Response<UpstreamBody>) -> Response<Download> {
    let server = hyper::upgrade::on(&mut *response);
    let departure = route.departure.clone();
    let (seat, under_way) = (route.seat.clone(), route.seat.begin());
    route.shared.spawn(async move {
        // Its seat is taken until it ends.
        let _under_way = under_way;
        let Ok((client, server)) = tokio::try_join!(client, server) else { return };
        let mut client: Switched<TokioIo<Upgraded>> = Switched { io: TokioIo::new(client), departure };
        let Some((mut server, heard)) = switched(server) else { return };
        let said = Said { client: Bytes::new(), server: heard };
        splice(&mut client, &mut server, said, &seat).await;
    });
    let mut answer = reply::text(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers: HeaderMap = std::mem::take(response.headers_mut());
    *answer.headers_mut() = headers;
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer
}
