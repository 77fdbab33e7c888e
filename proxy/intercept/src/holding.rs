//! Bodies that are held back until they may go: requests before they are sent, answers before their client gets anything of them.

use crate::{
    arriving::Arriving,
    download::Download,
    reply::{self, broken_off},
    room::{Account, NO_ROOM},
    route::Route,
    steps::{Pace, Turn},
    upload::{Last, judge_chunk},
    watched::Watched,
};
use bytes::Bytes;
use gnomon_http::UpstreamBody;
use gnomon_inspect::{Exchange, Gate, Refusal};
use gnomon_record::FlowOutcome;
use http::{Response, StatusCode};
use http_body::{Body, Frame};
use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

/// The result of holding a request back.
pub(crate) enum Held {
    Open {
        ready: Ready,
        rest: Option<Arriving>,
        account: Option<Account>,
    },
    /// There is no room to hold it, and a rule that refuses could match.
    NoRoom {
        rest: Option<Arriving>,
    },
    /// Its framing is not HTTP's.
    Odd,
    Refused {
        refusal: Box<Refusal>,
        rest: Option<Arriving>,
    },
    Stalled,
    Broken,
}

/// The timeout of a held body's next piece: a client that stalls must not keep its seat.
const BODY_STALL: Duration = Duration::from_secs(60);

pub(crate) async fn next_frame<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
    std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
}

/// How far a body is read before the request goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Until the gate opens.
    Decided,
    /// To its end, as it will not be forwarded.
    Over,
}

/// Chunks that were judged, and the pace at which more is.
pub(crate) type Ready = (VecDeque<Bytes>, Pace);

/// Reads the body as long as the gate says hold, up to the window. `head` is the size of the request's head.
pub(crate) async fn hold(route: &Route, watched: &Watched, mut body: Arriving, until: Until, head: impl Fn() -> usize) -> Held {
    let window = route.shared.inspector.bounds().window;
    // Made where the body is not whole with its first piece.
    let mut account: Option<Account> = None;
    let (mut ready, mut pace) = (VecDeque::new(), Pace::default());
    let mut size = 0;
    let mut over = body.is_end_stream();
    let mut gate = if body.is_end_stream() { watched.with(Exchange::request_end) } else { watched.with(Exchange::gate) };
    loop {
        match gate {
            Gate::Refuse(refusal) => return Held::Refused { refusal, rest: (!over).then_some(body) },
            Gate::Stream if until == Until::Decided || over || size >= window => {
                return Held::Open { ready: (ready, pace), rest: (!over).then_some(body), account };
            }
            Gate::Hold if size >= window => {
                gate = watched.with(Exchange::window_full);
                // Past the window nothing is held any more; a gate that still says hold means stream.
                if let Gate::Hold = gate {
                    gate = Gate::Stream;
                }
            }
            Gate::Hold | Gate::Stream => match piece(route, watched, &mut body, (&mut account, size), &head).await {
                Err(Stopped::NoRoom) => {
                    let Some(account) = account else { return Held::Stalled };
                    return left_unread(watched, &account, ready, Some(body));
                }
                Err(Stopped::Stalled) => return Held::Stalled,
                Ok(Some(Err(error))) => return Held::broken(&error),
                Ok(frame) => {
                    let (data, last) = match frame.and_then(Result::ok).map(Frame::into_data) {
                        None => (Bytes::new(), Last::Yes),
                        Some(Ok(data)) => (data, Last::of(&body)),
                        Some(Err(_)) => continue,
                    };
                    size += data.len();
                    over = last == Last::Yes;
                    pace.comes(watched.with(|e| e.request_weighs(&data)));
                    let mut fresh = data.clone();
                    if !data.is_empty() {
                        ready.push_back(data);
                    }
                    gate = loop {
                        let turn = match pace.is_due() {
                            true => {
                                let account = account.get_or_insert_with(|| route.shared.room.account(route.destination.principal()));
                                match decoding_turn(account, &mut body).await {
                                    Ok(turn) => Some(turn),
                                    Err(error) => return Held::broken(&error),
                                }
                            }
                            false => None,
                        };
                        if turn.is_some() {
                            pace.has_turn();
                        }
                        let judged = watched.with(|e| {
                            let judged = judge_chunk(e, &fresh, last);
                            pace.steps(e.request_decoded(), judged.is_none());
                            judged
                        });
                        drop(turn);
                        if let Some(gate) = judged {
                            break gate;
                        }
                        fresh = Bytes::new();
                        // What a few bytes decode to may take mebibytes of its decoder.
                        let account = account.get_or_insert_with(|| route.shared.room.account(route.destination.principal()));
                        if account.keeps(watched.with(|e| e.request_decoders())).is_err() {
                            return left_unread(watched, account, ready, (!over).then_some(body));
                        }
                    };
                }
            },
        }
    }
}

/// The principal's turn to decode more of a held body, unless the body breaks off meanwhile: then nobody waits for that.
async fn decoding_turn(account: &mut Account, body: &mut Arriving) -> Result<Turn, hyper::Error> {
    let mut turn = pin!(account.turn());
    std::future::poll_fn(|cx| {
        if let Poll::Ready(error) = body.poll_broken(cx, |arrived| account.catches_up_now(arrived).is_ok()) {
            return Poll::Ready(Err(error));
        }
        turn.as_mut().poll(cx).map(Ok)
    })
    .await
}

/// What there is no room for passes unread, or is refused where a rule that refuses could match it.
fn left_unread(watched: &Watched, account: &Account, ready: VecDeque<Bytes>, rest: Option<Arriving>) -> Held {
    let unread = watched.with(|e| match (account.leaves_unread(e), &rest) {
        (_, None) => e.request_end(),
        (gate, Some(_)) => gate,
    });
    match unread {
        Gate::Refuse(_) => Held::NoRoom { rest },
        Gate::Hold | Gate::Stream => Held::Open { ready: (ready, Pace::default()), rest, account: None },
    }
}

/// The reason that no further piece of a body is read.
enum Stopped {
    Stalled,
    NoRoom,
}

/// The next piece of a body that is not whole. What came is charged before more is read, and so is the head where nothing of the body came
/// with it.
async fn piece(
    route: &Route,
    watched: &Watched,
    body: &mut Arriving,
    (account, size): (&mut Option<Account>, usize),
    head: impl Fn() -> usize,
) -> Result<Option<Result<Frame<Bytes>, hyper::Error>>, Stopped> {
    if size == 0
        && account.is_none()
        && let Poll::Ready(frame) = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *body).poll_frame(cx))).await
    {
        return Ok(frame);
    }
    let account = match account {
        None => {
            let account = account.insert(route.shared.room.account(route.destination.principal()));
            account.begins(head(), size).await.map_err(|_| Stopped::NoRoom)?;
            account
        }
        Some(account) => {
            account.catches_up(size).await.map_err(|_| Stopped::NoRoom)?;
            account
        }
    };
    account.keeps(watched.with(|e| e.request_decoders())).map_err(|_| Stopped::NoRoom)?;
    tokio::time::timeout(BODY_STALL, next_frame(body)).await.map_err(|_| Stopped::Stalled)
}

impl Held {
    /// The body broke off.
    fn broken(error: &hyper::Error) -> Self {
        if is_odd(error) { Self::Odd } else { Self::Broken }
    }
}

/// True if a body ended because its framing is not HTTP's, and not because its client left.
fn is_odd(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|error| matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::InvalidData))
}

/// Reads the answer's body as long as the gate says hold, up to the window.
#[allow(clippy::result_large_err, reason = "the error is the answer, and is moved once")]
pub(crate) async fn hold_answer(
    route: &Route,
    watched: &Watched,
    mut body: UpstreamBody,
    window: usize,
) -> Result<(Ready, UpstreamBody, Option<Account>), Response<Download>> {
    let (mut ready, mut pace) = (VecDeque::new(), Pace::default());
    let mut size = 0;
    let mut account: Option<Account> = None;
    let no_room = || {
        watched.with(|e| e.failed("no_room", NO_ROOM));
        route.shared.recorder.flow(FlowOutcome::OverShare, Vec::new());
        reply::failure(StatusCode::SERVICE_UNAVAILABLE, NO_ROOM)
    };
    while size < window && !body.is_end_stream() {
        if size > 0 {
            let account = account.get_or_insert_with(|| route.shared.room.account(route.destination.principal()));
            if account.catches_up(size).await.is_err() || account.keeps(watched.with(|e| e.answer_keeps())).is_err() {
                return Err(no_room());
            }
        }
        match next_frame(&mut body).await {
            None => break,
            Some(Err(_)) => {
                watched.with(|e| e.failed("upstream_aborted", "the server broke off its answer"));
                return Err(broken_off(route, StatusCode::BAD_GATEWAY, "the server broke off its answer"));
            }
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                size += data.len();
                let mut fresh = &data[..];
                let gate = loop {
                    let turn = match pace.is_due() {
                        true => {
                            let account = account.get_or_insert_with(|| route.shared.room.account(route.destination.principal()));
                            if account.keeps(watched.with(|e| e.answer_keeps())).is_err() {
                                return Err(no_room());
                            }
                            Some(account.turn().await)
                        }
                        false => None,
                    };
                    if turn.is_some() {
                        pace.has_turn();
                    }
                    let judged = watched.with(|e| {
                        let judged = e.response_some(fresh);
                        pace.steps(e.answer_decoded(), judged.is_none());
                        judged
                    });
                    match judged {
                        Some(gate) => break gate,
                        None => fresh = &[],
                    }
                };
                match gate {
                    Gate::Refuse(refusal) => return Err(reply::refusal(&refusal)),
                    Gate::Hold => ready.push_back(data),
                    Gate::Stream => {
                        ready.push_back(data);
                        return Ok(((ready, pace), body, account));
                    }
                }
            }
        }
    }
    if body.is_end_stream()
        && let Gate::Refuse(refusal) = watched.with(|e| e.response_end(&mut Vec::new()))
    {
        return Err(reply::refusal(&refusal));
    }
    Ok(((ready, pace), body, account))
}
