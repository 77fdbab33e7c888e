//! One recorded exchange through the judge, by the same steps as the proxy takes: connection,
//! hello, head, body in chunks up to the window, answer; and no further than the proxy would go.

use super::entry;
use gnomon_capture::Endpoints;
use gnomon_engine::Answer;
use gnomon_inspect::{Authority, Connection, Exchange, Gate, Head, Hello, HostPatterns, Inspector, ResponsePlan, Sighting, Telling};
use gnomon_observe::{Action, Channel, Correlation, Field, Observation};
use gnomon_record::FlowOutcome;
use gnomon_wire::hello::{ClientHello, Transport};
use http::Version;
use std::{net::IpAddr, sync::Arc};

/// How bodies are cut, bytes; verdicts do not depend on it.
const CHUNK: usize = 16 << 10;

/// The reports that the proxy would have made.
pub fn judge(inspector: &Arc<Inspector>, bypass: &HostPatterns, recorded: &entry::Exchange<'_>) -> Vec<Sighting> {
    let mut seen = Observation::new();
    seen.set(Field::Channel, recorded.channel.as_str());
    seen.set(Field::Vantage, "replay");
    seen.set(Field::Correlation, Correlation::None.as_str());
    seen.set(Field::Transport, "tcp");
    seen.set_some(Field::DestinationAddress, recorded.server_ip.map(|ip| ip.to_string()));
    seen.set_some(Field::DestinationPort, recorded.server_ip.map(|_| recorded.port));
    seen.set_some(Field::SourceAddress, recorded.source.map(|source| source.ip().to_canonical().to_string()));
    seen.set_some(Field::SourcePort, recorded.source.map(|source| source.port()));
    let (mut connection, _) = Connection::open(inspector, seen);
    // A recording has no ClientHello, but a client that asks for a name by HTTPS names it there too.
    let is_name = recorded.host.parse::<IpAddr>().is_err();
    let sni = (recorded.channel == Channel::Https && is_name).then_some(recorded.host.as_str());
    let answer = connection.hello(&recorded.host, recorded.port, &Hello { sni, random: None });
    let interferes = match answer {
        Answer::Decided(verdict) => verdict.action.interferes(),
        Answer::Undecidable(_) => true,
        Answer::Needs(_) => false,
    };
    let is_bypassed = bypass.matches(&recorded.host, recorded.port) || (connection.is_bypassed() && !interferes);
    if recorded.channel == Channel::Https && is_bypassed {
        return connection.report(Action::Allow, FlowOutcome::Bypassed.as_str(), Telling::IfMatched);
    }
    let authority = match &recorded.named_host {
        Some(named) if *named != recorded.host => Authority::Differs,
        _ => Authority::Agrees,
    };
    let alpn = (recorded.channel == Channel::Https && recorded.version == Version::HTTP_2).then_some("h2");
    let head = Head {
        method: &recorded.method,
        path: &recorded.path,
        query: recorded.query.as_deref(),
        version: recorded.version,
        headers: &recorded.headers,
        alpn,
        authority,
    };
    let mut exchange = Exchange::begin(&connection, &head);
    if let Passed::Upstream = request(&mut exchange, recorded.body.as_deref().unwrap_or_default(), inspector.bounds().window)
        && let Some(answer) = &recorded.answer
    {
        response(&mut exchange, answer);
    }
    exchange.flush();
    exchange.reports().collect()
}

/// The reports that the sensor would have made of a TLS connection of which only the beginning can be read.
pub fn judge_hello(inspector: &Arc<Inspector>, endpoints: &Endpoints, hello: &ClientHello) -> Vec<Sighting> {
    let address = endpoints.server.ip().to_canonical().to_string();
    let mut seen = Observation::new();
    seen.set(Field::Channel, Channel::Https.as_str());
    seen.set(Field::Vantage, "replay");
    seen.set(Field::Correlation, Correlation::None.as_str());
    seen.set(Field::Transport, "tcp");
    seen.set(Field::DestinationAddress, address.as_str());
    seen.set(Field::DestinationPort, endpoints.server.port());
    seen.set(Field::SourceAddress, endpoints.client.ip().to_canonical().to_string());
    seen.set(Field::SourcePort, endpoints.client.port());
    seen.set(Field::Ja4, hello.ja4(Transport::Tcp));
    let (mut connection, _) = Connection::open(inspector, seen);
    let facts = Hello { sni: hello.sni.as_deref(), random: Some(&hello.random) };
    let action = match connection.hello(&address, endpoints.server.port(), &facts) {
        Answer::Decided(verdict) => verdict.action,
        Answer::Undecidable(verdict) => verdict.action,
        Answer::Needs(_) => Action::Log,
    };
    connection.report(action, "observed", Telling::IfSuspected)
}

/// Whether the upstream would have seen the request.
enum Passed {
    Upstream,
    Refused,
}

fn request(exchange: &mut Exchange, body: &[u8], window: usize) -> Passed {
    let mut gate = exchange.gate();
    let mut fed = 0;
    for chunk in body.chunks(CHUNK) {
        if let Gate::Refuse(_) = gate {
            return Passed::Refused;
        }
        if matches!(gate, Gate::Hold) && fed >= window {
            gate = exchange.window_full();
            if let Gate::Refuse(_) = gate {
                return Passed::Refused;
            }
        }
        gate = exchange.request_bytes(chunk);
        fed += chunk.len();
    }
    match gate {
        Gate::Refuse(_) => Passed::Refused,
        Gate::Hold | Gate::Stream => match exchange.request_end() {
            Gate::Refuse(_) => Passed::Refused,
            Gate::Hold | Gate::Stream => Passed::Upstream,
        },
    }
}

fn response(exchange: &mut Exchange, answer: &entry::Answer<'_>) {
    let body = answer.body.as_deref().unwrap_or_default();
    let mut out = Vec::new();
    match exchange.response_head(answer.status, &answer.headers) {
        ResponsePlan::Refuse(_) => return,
        ResponsePlan::Stream | ResponsePlan::HoldBody => {
            for chunk in body.chunks(CHUNK) {
                if let Gate::Refuse(_) = exchange.response_bytes(chunk) {
                    return;
                }
            }
        }
        ResponsePlan::FilterEvents => {
            for chunk in body.chunks(CHUNK) {
                out.clear();
                if exchange.filter_events(chunk, &mut out) == gnomon_inspect::EventFlow::Abort {
                    return;
                }
            }
        }
    }
    out.clear();
    let _ = exchange.response_end(&mut out);
}
