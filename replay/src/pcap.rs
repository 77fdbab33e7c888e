//! Packet captures: plaintext HTTP is judged in full, of TLS the ClientHello, and the summary says what was hidden.

use super::{
    Recorded, Replay, drive,
    entry::{Answer, Exchange, Missing},
    metered::Budget,
};
use anyhow::Result;
use gnomon_capture::{Bounds, CaptureError, Captured, Endpoints, Message, Totals};
use gnomon_cli::Complaint;
use gnomon_inspect::normal_host;
use gnomon_observe::Channel;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use std::{
    borrow::Cow,
    io::{self, Read},
    time::{Duration, SystemTime},
};

/// Whether a file that begins so is a capture: pcap in both byte orders and resolutions, or pcapng.
pub fn is_capture(start: &[u8]) -> bool {
    let magics =
        [[0xd4, 0xc3, 0xb2, 0xa1], [0xa1, 0xb2, 0xc3, 0xd4], [0x4d, 0x3c, 0xb2, 0xa1], [0xa1, 0xb2, 0x3c, 0x4d], [0x0a, 0x0d, 0x0d, 0x0a]];
    magics.iter().any(|magic| start.starts_with(magic))
}

/// Judges what a capture holds.
pub fn replay(replay: &mut Replay<'_>, file: &str, reader: impl Read, budget: &Budget) -> Result<()> {
    let mut index = 0;
    // An error that is not the recording's must come back as itself.
    let mut failed = None;
    let mut each = |found: Captured| {
        if failed.is_none() {
            failed = judge(replay, file, index, found).err();
            index += 1;
        }
    };
    // The reader's own bounds hold here.
    let (totals, read) = gnomon_capture::read(Renewing { reader, budget }, Bounds::default(), &mut each);
    if let Some(error) = failed {
        return Err(error);
    }
    remark(replay, file, &totals);
    read.map_err(|error| {
        let next = match error {
            CaptureError::NotACapture | CaptureError::Io(_) => "save the recording again as pcap or pcapng",
            CaptureError::Damaged(_) | CaptureError::TooLarge(_) => {
                "what came before was judged; let the capture end by itself, or repair the file"
            }
        };
        Complaint::input(format!("{file}: {error}")).next(next).into()
    })
}

fn remark(replay: &mut Replay<'_>, file: &str, totals: &Totals) {
    let Totals { packets, connections, tls, hidden, quic, fragments, links } = *totals;
    replay.summary.remark(format!("{file}: {packets} packets, {connections} TCP connections"));
    if tls > 0 {
        replay.summary.remark(format!(
            "{file}: TLS hid what {tls} connections carried ({hidden} bytes): of those only the ClientHello was judged, no path, no message"
        ));
    }
    for (count, what) in [
        (quic, "packets of QUIC, which hides even the server's name"),
        (fragments, "fragments of IP packets, which are not put together"),
        (links, "packets of a kind of link that is not read"),
    ] {
        if count > 0 {
            replay.summary.remark(format!("{file}: not judged: {count} {what}"));
        }
    }
}

fn judge(replay: &mut Replay<'_>, file: &str, index: u64, found: Captured) -> Result<()> {
    replay.summary.entries += 1;
    let (Captured::Exchange { when, .. } | Captured::Hello { when, .. } | Captured::Unread { when, .. }) = &found;
    let when = SystemTime::UNIX_EPOCH.checked_add(*when).unwrap_or(SystemTime::UNIX_EPOCH);
    let recorded = Recorded { file, index, when, duration: None::<Duration> };
    let sightings = match found {
        Captured::Unread { reason, .. } => {
            replay.summary.skip(recorded, reason.as_str());
            return Ok(());
        }
        Captured::Hello { endpoints, hello, .. } => drive::judge_hello(replay.inspector, &endpoints, &hello),
        Captured::Exchange { endpoints, request, response, .. } => match exchange(&endpoints, &request, response.as_ref()) {
            Err(reason) => {
                replay.summary.skip(recorded, reason);
                return Ok(());
            }
            Ok(exchange) => {
                for note in exchange.notes() {
                    replay.summary.note(recorded, note);
                }
                drive::judge(replay.inspector, &replay.bypass, &exchange)
            }
        },
    };
    replay.report(recorded, sightings)
}

fn exchange<'a>(endpoints: &Endpoints, request: &'a Message, response: Option<&'a Message>) -> Result<Exchange<'a>, &'static str> {
    let uri: Uri = request.target.parse().map_err(|_| "its URL cannot be read")?;
    let method = request.method.parse().map_err(|_| "its method cannot be read")?;
    let named =
        request.header("host").and_then(|host| std::str::from_utf8(host).ok()).and_then(|host| host.parse::<http::uri::Authority>().ok());
    let named_host = named.as_ref().map(|named| normal_host(named.host()));
    let host =
        uri.host().map(normal_host).or_else(|| named_host.clone()).unwrap_or_else(|| endpoints.server.ip().to_canonical().to_string());
    let answer = response.map(|response| Answer {
        status: response.status,
        headers: headers(response),
        body: Some(Cow::Borrowed(response.body.as_slice())),
    });
    Ok(Exchange {
        channel: Channel::Http,
        host,
        port: endpoints.server.port(),
        method,
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        version: Version::HTTP_11,
        headers: headers(request),
        named_host,
        body: (!request.body.is_empty()).then_some(Cow::Borrowed(request.body.as_slice())),
        missing: if answer.is_none() { vec![Missing::Answer] } else { Vec::new() },
        answer,
        server_ip: Some(endpoints.server.ip().to_canonical()),
        source: Some(endpoints.client),
    })
}

/// Headers without what was true of the transfer only: bodies stand as they were coded.
fn headers(message: &Message) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in &message.headers {
        let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_bytes(value)) else { continue };
        if name != header::TRANSFER_ENCODING && map.try_append(name, value).is_err() {
            break;
        }
    }
    map
}

struct Renewing<'a, R> {
    reader: R,
    budget: &'a Budget,
}

impl<R: Read> Read for Renewing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.budget.renew();
        self.reader.read(buffer)
    }
}
