//! Servers that ask for a certificate of the client. gnomon has none, as the client's key stays with the client.
//!
//! TLS 1.2 servers refuse within the handshake, by an alert that says nothing of the reason, so it is noted whether they asked. Those
//! of TLS 1.3 refuse after it, when the request is on its way.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, SignatureScheme};

thread_local! {
    /// Set while a handshake is polled, which is where the resolver is called.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a server asked for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    ForCertificate,
    ForNothing,
}

/// Has no certificate, and notes that one was asked for. One for all connections, as sessions are resumed under the same resolver only.
#[derive(Debug)]
pub(crate) struct NoCertificate;

impl ResolvesClientCert for NoCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        ASKED.set(true);
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// Runs a handshake, and notes whether its server asked for a certificate.
pub(crate) async fn noting<H: Future>(handshake: H) -> (H::Output, Asked) {
    let mut handshake = pin!(handshake);
    let mut asked = Asked::ForNothing;
    let over = poll_fn(|cx| {
        ASKED.set(false);
        let polled = handshake.as_mut().poll(cx);
        if ASKED.take() {
            asked = Asked::ForCertificate;
        }
        polled
    })
    .await;
    (over, asked)
}

/// Whether a connection ended by an alert that, after the handshake, can only mean the certificate that was not there (RFC 8446 section
/// 4.4.2.4 and 6.2).
pub(crate) fn refuses_without_a_certificate(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(
        tls,
        Some(rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::HandshakeFailure
                | AlertDescription::AccessDenied
        ))
    )
}
