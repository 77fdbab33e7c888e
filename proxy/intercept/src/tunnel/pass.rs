//! Passing on what is not read, after the judge was asked.

use super::Tunnel;
use crate::{
    first_bytes::Line,
    passages::{line_goes_on, passage_of},
    reply,
    route::flow_outcome,
    splice::{Said, splice, splice_watching},
};
use gnomon_http::{DialError, UpstreamTcp};
use gnomon_inspect::{Connection, Extent, Hello, Passage, Passed, Sighting};
use gnomon_observe::Channel;
use gnomon_record::FlowOutcome;
use rustls::AlertDescription;
use std::net::SocketAddr;
use tokio::io::AsyncWriteExt;

/// A fatal alert (RFC 8446 section 6) in a record of TLS 1.2's version.
fn fatal(alert: AlertDescription) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert.into()]
}

/// The protocol in which a refusal is sent to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    Http,
    TlsAlert,
    /// None: it could not parse any answer of ours.
    None,
}

impl Words {
    const fn of(passage: Passage) -> Self {
        match (passage, passage.extent()) {
            (Passage::ForeignAlpn, _) | (_, Extent::Handshake) => Self::TlsAlert,
            (Passage::RequestLineOdd | Passage::RequestLineLong, _) => Self::Http,
            (Passage::OtherProxy | Passage::OtherProxyOdd | Passage::ConnectWithin, _) => Self::Http,
            _ => Self::None,
        }
    }
}

impl Tunnel {
    /// Passes the connection on if the judge lets it.
    pub(crate) async fn pass(self, passage: Passage) {
        let connection = self.judged(passage).await;
        self.pass_judged(&connection, passage).await;
    }

    /// The connection as it is known where no request and no server name is read.
    async fn judged(&self, passage: Passage) -> Connection {
        let channel = if Words::of(passage) == Words::Http { Channel::Http } else { Channel::Https };
        let mut seen = self.observe(channel);
        passage.veil(&mut seen);
        let (mut connection, _) = self.asking.open(&self.shared.inspector, seen);
        let _ = connection.hello(&self.host, self.port, &Hello::default());
        self.under_all_names(connection, &[]).await
    }

    /// Tells, where a rule asks for it, of a tunnel that was closed before anything was said: nothing is to be connected for that.
    pub(super) async fn says_nothing(self) {
        let outcome = FlowOutcome::ClientFailed;
        let (Passed::Go(reports) | Passed::Refuse(_, _, reports)) =
            self.judged(Passage::NothingSaid).await.pass(Passage::NothingSaid, outcome.as_str());
        self.shared.recorder.flow(outcome, reports);
    }

    /// Passes on a connection whose server is known by more than its address, if the judge lets it.
    pub(super) async fn pass_judged(self, connection: &Connection, passage: Passage) {
        // Its bytes are not read any more, so it is unknown whether it is idle.
        let _passes = self.asking.seat.begin();
        let outcome = FlowOutcome::of(passage);
        match connection.pass(passage, outcome.as_str()) {
            Passed::Go(reports) => {
                self.shared.recorder.metrics().passed(passage);
                self.go(connection, passage, reports).await;
            }
            Passed::Refuse(_, text, reports) => {
                self.shared.recorder.flow(FlowOutcome::Refused, reports);
                self.refuse(Words::of(passage), &text).await;
            }
        }
    }

    /// Checks whether a request for a tunnel may go to the other proxy that this connection leads to. If not, the client gets an error.
    pub(crate) async fn may_ask(self) -> Option<Self> {
        let connection = self.judged(Passage::ConnectWithin).await;
        match connection.pass(Passage::ConnectWithin, FlowOutcome::OtherProxy.as_str()) {
            Passed::Go(reports) => {
                self.shared.recorder.metrics().passed(Passage::ConnectWithin);
                self.shared.recorder.report(reports);
                self.opened().await
            }
            Passed::Refuse(_, text, reports) => {
                self.shared.recorder.flow(FlowOutcome::Refused, reports);
                self.refuse(Words::Http, &text).await;
                None
            }
        }
    }

    /// Opens the connection to where the client wanted to go, if it is not open yet, and stays with that address.
    async fn opened(mut self) -> Option<Self> {
        if self.server.is_none() {
            match self.reach().await {
                Ok(server) => self.server = Some(server),
                Err(error) => {
                    self.shared.recorder.flow(flow_outcome(&error.into()), Vec::new());
                    self.break_off();
                    return None;
                }
            }
        }
        self.original = self.original.or_else(|| self.server.as_ref().and_then(|server| server.peer_addr().ok()));
        Some(self)
    }

    /// Tells the client that it is refused, as far as it can be told, and closes.
    pub(super) async fn refuse(mut self, words: Words, text: &str) {
        let said = match words {
            Words::None => return self.break_off(),
            Words::TlsAlert => return self.alert(AlertDescription::AccessDenied).await,
            Words::Http => self.client.write_all(reply::raw_refusal(text).as_bytes()).await,
        };
        if said.is_err() {
            return self.break_off();
        }
        let _ = self.client.shutdown().await;
    }

    /// Ends the client's handshake with this alert, and closes.
    pub(super) async fn alert(mut self, alert: AlertDescription) {
        if self.client.write_all(&fatal(alert)).await.is_err() {
            return self.break_off();
        }
        let _ = self.client.shutdown().await;
    }

    /// A program that knows of no proxy sees a reset where its server cannot be had, as an end would be taken for an answer.
    pub(super) fn break_off(self) {
        if self.original.is_some() {
            let _ = self.client.set_zero_linger();
        }
    }

    /// A connection to where the client wanted to go, or through that proxy.
    async fn reach(&self) -> Result<UpstreamTcp, DialError> {
        match self.original {
            Some(original) => self.dial(original).await,
            None => self.dialer().tcp(&self.host, self.port).await,
        }
    }

    pub(super) async fn dial(&self, original: SocketAddr) -> Result<UpstreamTcp, DialError> {
        let dialer = self.dialer();
        let tcp = dialer.address(original).await?;
        match &self.through {
            Some(head) => dialer.through(tcp, original, head).await,
            None => Ok(tcp),
        }
    }

    /// Copies bytes both ways, untouched.
    async fn go(mut self, connection: &Connection, passage: Passage, reports: Vec<Sighting>) {
        let server = match self.server.take() {
            Some(server) => Ok(server),
            None => self.reach().await,
        };
        let mut server = match server {
            Ok(server) => server,
            Err(error) => {
                self.shared.recorder.flow(flow_outcome(&error.into()), reports);
                return self.break_off();
            }
        };
        self.shared.recorder.flow(FlowOutcome::of(passage), reports);
        let seat = self.asking.seat.clone();
        let said = Said { client: std::mem::take(&mut self.seen), server: std::mem::take(&mut self.heard).freeze() };
        if line_goes_on(passage, &said.client) {
            let recorder = &self.shared.recorder;
            let may_pass = |line: Line, said: &[u8]| {
                let unread = if matches!(line, Line::Http(_)) { Line::Odd } else { line };
                let passage = passage_of(unread, said, Passage::Foreign).unwrap_or(Passage::RequestLineOdd);
                match connection.pass(passage, FlowOutcome::of(passage).as_str()) {
                    Passed::Go(reports) => {
                        recorder.metrics().passed(passage);
                        recorder.report(reports);
                        true
                    }
                    Passed::Refuse(_, _, reports) => {
                        recorder.flow(FlowOutcome::Refused, reports);
                        false
                    }
                }
            };
            splice_watching(&mut self.client, &mut server, said, &seat, may_pass).await;
        } else {
            splice(&mut self.client, &mut server, said, &seat).await;
        }
    }
}
