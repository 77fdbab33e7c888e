//! Connections to upstreams for what is not HTTP: what a server would speak, and a connection to speak it on.

use crate::connector::connect;
use crate::destination::LaneKey;
use crate::{Destination, Pools, RequestBody, SendError, UpstreamStream, UpstreamTcp, UpstreamTls, UpstreamTlsError};
use gnomon_kit::unbracketed;
use rustls::{
    DigitallySignedStruct, DistinguishedName, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::WebPkiSupportedAlgorithms,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use tokio_rustls::TlsConnector;

/// Longest list of protocols that is offered on, names.
const PROTOCOLS: usize = 32;

impl<B: RequestBody> Pools<B> {
    /// The protocol that the server chooses of these (ALPN names), if it chooses one. The connection is closed once that is known and
    /// nothing is said on it, so its certificate is not verified: servers with a certificate that only their clients know speak
    /// protocols of their own. Over `tcp` if it is open already. The caller bounds the time.
    pub async fn choice(&self, dest: &Destination, offered: &[Vec<u8>], tcp: Option<UpstreamTcp>) -> Option<Vec<u8>> {
        let tcp = match tcp {
            Some(tcp) => tcp,
            None => self.reach().dial(dest).await.ok()?,
        };
        self.reach().tls.choice(tcp, dest.host(), offered).await.ok()
    }

    /// A connection to the destination for its caller alone, verified if it has TLS, which offers the destination's protocol. One that was
    /// [offered](Self::offer) is taken first.
    ///
    /// # Errors
    /// [`SendError::Dial`] and [`SendError::Tls`].
    pub async fn open(&self, dest: &Destination) -> Result<UpstreamStream, SendError> {
        let to = LaneKey { key: dest.key().clone(), scheme: dest.scheme(), authority: dest.uri_authority().clone() };
        connect(self.reach(), self.hand_over(), &to).await
    }
}

impl UpstreamTls {
    /// The protocol that the server at the other end of `tcp` chooses.
    async fn choice(&self, tcp: UpstreamTcp, name: &str, offered: &[Vec<u8>]) -> Result<Vec<u8>, UpstreamTlsError> {
        let failed = |error: &dyn std::fmt::Display| UpstreamTlsError::Handshake(error.to_string());
        let name = unbracketed(name);
        let server = ServerName::try_from(name.to_owned()).map_err(|error| failed(&error))?;
        let verifier = Arc::new(Unverified(rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms));
        let builder = self.builder().dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = offered.iter().take(PROTOCOLS).cloned().collect();
        // A server may choose what it was not offered; that is its answer all the same.
        config.resumption = rustls::client::Resumption::disabled();
        let stream = TlsConnector::from(Arc::new(config)).connect(server, tcp).await.map_err(|error| failed(&error))?;
        let chosen = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
        chosen.ok_or(UpstreamTlsError::Protocol)
    }
}

/// Accepts any certificate, for a handshake after which no data is sent.
#[derive(Debug)]
struct Unverified(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}
