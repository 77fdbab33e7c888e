//! Servers with whom no TLS comes about: a certificate that does not prove their name, or one that they want of their client.
//!
//! A program that knows of no proxy is to see what it would see without us: its own handshake fails with an alert, or, where the server is
//! asked later than that, its connection ends without an answer. A page of ours within good TLS would be taken for the server's content by
//! whatever does not look at the status. Why, says an event. A client that asked for the proxy gets a 502 that says so (`reply.rs`): people sit
//! at browsers, and who asks a proxy expects its errors.

use crate::{client_seats::ClientSeat, shared::Shared};
use gnomon_http::UpstreamTlsError;
use gnomon_inspect::{Connection, Sighting, Telling};
use gnomon_observe::{Action, Field};
use gnomon_record::FlowOutcome;
use rustls::AlertDescription;

/// The alert that says nearest what is wrong with the server.
pub(crate) fn alert(error: &UpstreamTlsError) -> AlertDescription {
    match error {
        UpstreamTlsError::Certificate { .. } | UpstreamTlsError::InvalidName(_) => AlertDescription::CertificateUnknown,
        UpstreamTlsError::ClientCertificate => AlertDescription::CertificateRequired,
        UpstreamTlsError::Protocol => AlertDescription::NoApplicationProtocol,
        UpstreamTlsError::Timeout | UpstreamTlsError::Handshake(_) => AlertDescription::HandshakeFailure,
    }
}

/// The events on a connection whose server is such a one: that breaks whatever uses it until the operator does something. None: one of this
/// client's stands for it.
pub(crate) fn reports(shared: &Shared, seat: &ClientSeat, connection: &Connection, cause: &str) -> Vec<Sighting> {
    let Some(count) = shared.lately.counts(&seat.client()) else { return Vec::new() };
    let mut reports = connection.report(Action::Allow, FlowOutcome::UpstreamUnverified.as_str(), Telling::Always);
    for report in &mut reports {
        report.seen.set(Field::Message, cause);
        if count > 1 {
            report.seen.set(Field::Calls, count);
        }
    }
    reports
}
