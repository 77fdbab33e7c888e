//! Verifies servers by roots, and a server whose own certificate is one of them.

use crate::Trust;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, WantsVerifier,
    client::{
        WantsClientCert, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, FromDer as _, X509Certificate};

/// Verifies servers by these authorities, and those whose own certificates are trusted by them.
///
/// What `openssl req -x509` makes is an authority's certificate (CA:TRUE), and servers use it as their own. Most clients accept it where it
/// is trusted itself, and so does this: whoever has its key could as well issue another one with it. Its name, dates and purpose are verified.
#[must_use]
pub fn verify_by(builder: ConfigBuilder<ClientConfig, WantsVerifier>, trust: Trust) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let Trust { roots, servers } = trust;
    let roots = Arc::new(roots);
    let provider = Arc::clone(builder.crypto_provider());
    match WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider).build() {
        Ok(by_roots) => builder.dangerous().with_custom_certificate_verifier(Arc::new(RootsOrItself { by_roots, roots, servers })),
        // Without a root nothing is verified as good.
        Err(_) => builder.with_root_certificates(roots),
    }
}

#[derive(Debug)]
struct RootsOrItself {
    by_roots: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    servers: Vec<CertificateDer<'static>>,
}

impl RootsOrItself {
    /// Whether the certificate is trusted itself: subject, key and constraints of a root.
    fn is_root(&self, certificate: &CertificateDer<'_>) -> bool {
        let mut itself = RootCertStore::empty();
        itself.add(certificate.clone().into_owned()).is_ok()
            && itself.roots.iter().all(|anchor| anchor.name_constraints.is_none() && self.roots.roots.contains(anchor))
    }
}

impl ServerCertVerifier for RootsOrItself {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let as_itself = || {
            is_of_a_server_now(end_entity, now)?;
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            Ok(ServerCertVerified::assertion())
        };
        if self.servers.iter().any(|server| server == end_entity) {
            return as_itself();
        }
        match self.by_roots.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(refused) if is_authority_s(&refused) && self.is_root(end_entity) => as_itself(),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_roots.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_roots.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_roots.supported_verify_schemes()
    }
}

/// True if a certificate was refused because it is an authority's. rustls has no word of its own for it.
fn is_authority_s(refused: &Error) -> bool {
    matches!(refused, Error::InvalidCertificate(CertificateError::Other(other)) if other.0.to_string() == "CaUsedAsEndEntity")
}

/// True if a certificate says that it is no authority's.
pub(crate) fn is_no_authority_s(certificate: &CertificateDer<'_>) -> bool {
    let is_authority_s = |certificate: &X509Certificate<'_>| match certificate.basic_constraints() {
        Ok(Some(constraints)) => constraints.value.ca,
        // Old authorities say nothing.
        Ok(None) | Err(_) => true,
    };
    X509Certificate::from_der(certificate).is_ok_and(|(_, certificate)| !is_authority_s(&certificate))
}

/// Verifies dates and purpose.
fn is_of_a_server_now(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let time = |at: ASN1Time| UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(at.timestamp()).unwrap_or_default()));
    let (not_before, not_after) = (time(certificate.validity().not_before), time(certificate.validity().not_after));
    if now < not_before {
        return Err(CertificateError::NotValidYetContext { time: now, not_before });
    }
    if now > not_after {
        return Err(CertificateError::ExpiredContext { time: now, not_after });
    }
    match certificate.extended_key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if usage.value.server_auth || usage.value.any => Ok(()),
        Ok(Some(_)) => Err(CertificateError::InvalidPurpose),
        Err(_) => Err(CertificateError::BadEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair};
    use std::time::Duration;
    use time::{OffsetDateTime, macros::datetime};

    const NAME: &str = "mcp.example";

    fn authority(change: impl FnOnce(&mut CertificateParams)) -> (CertificateDer<'static>, KeyPair) {
        let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = OffsetDateTime::now_utc() + Duration::from_secs(86_400);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().der().clone(), key)
    }

    fn verdict(trusted: &CertificateDer<'static>, shown: &CertificateDer<'static>, name: &'static str) -> Result<(), Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("listed.pem");
        let other = authority(|_| ()).0;
        let pem = [trusted, &other].map(|der| pem(der)).concat();
        std::fs::write(&path, pem).unwrap();
        let mut trust = Trust::nobody();
        trust.add(&path).unwrap();
        let roots = Arc::new(trust.roots);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let by_roots = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), provider).build().unwrap();
        let verifier = RootsOrItself { by_roots, roots, servers: trust.servers };
        verifier.verify_server_cert(shown, &[], &ServerName::try_from(name).unwrap(), &[], UnixTime::now()).map(drop)
    }

    fn pem(der: &CertificateDer<'_>) -> String {
        let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der);
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn what_says_that_it_is_no_authority_s_vouches_for_itself_and_for_no_other_server() {
        let issued_by = |change: fn(&mut CertificateParams)| {
            let mut params = CertificateParams::new([NAME.to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            change(&mut params);
            let key = KeyPair::generate().unwrap();
            let listed = params.self_signed(&key).unwrap().der().clone();
            let issuer = rcgen::Issuer::new(params, key);
            let other = CertificateParams::new(["other.example".to_owned()]).unwrap();
            (listed, other.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone())
        };
        let (authority, issued) = issued_by(|_| ());
        verdict(&authority, &issued, "other.example").unwrap();
        let (server, issued) = issued_by(|params| params.is_ca = IsCa::ExplicitNoCa);
        verdict(&server, &server, NAME).unwrap();
        verdict(&server, &issued, "other.example").unwrap_err();
        verdict(&server, &server, "other.example").unwrap_err();
    }

    #[test]
    fn a_server_whose_own_certificate_is_trusted_is_accepted_also_where_it_is_an_authority_s() {
        let (certificate, _) = authority(|_| ());
        verdict(&certificate, &certificate, NAME).unwrap();
        let (plain, _) = authority(|params| params.is_ca = IsCa::ExplicitNoCa);
        verdict(&plain, &plain, NAME).unwrap();
        let (server, _) = authority(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
        verdict(&server, &server, NAME).unwrap();
    }

    #[test]
    fn an_authority_s_certificate_is_refused_where_it_is_not_the_trusted_one_or_not_of_this_server_now() {
        let (trusted, _) = authority(|_| ());
        let refused = |shown: &CertificateDer<'static>, trusted, name| match verdict(trusted, shown, name).unwrap_err() {
            Error::InvalidCertificate(why) => why,
            other => panic!("{other}"),
        };
        let (of_the_same_name, _) = authority(|_| ());
        assert_eq!(
            refused(&of_the_same_name, &trusted, NAME).to_string(),
            "invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))".split_once(": ").unwrap().1
        );
        assert!(matches!(refused(&trusted, &trusted, "other.example"), CertificateError::NotValidForNameContext { .. }));
        let (expired, _) = authority(|params| params.not_after = datetime!(2024-01-01 12:00 UTC));
        assert!(matches!(refused(&expired, &expired, NAME), CertificateError::Expired | CertificateError::ExpiredContext { .. }));
        let (early, _) = authority(|params| params.not_before = OffsetDateTime::now_utc() + Duration::from_secs(3600));
        assert!(matches!(refused(&early, &early, NAME), CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. }));
        let (of_a_client, _) = authority(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
        assert!(matches!(
            refused(&of_a_client, &of_a_client, NAME),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. }
        ));
        let constrained = authority(|params| {
            params.name_constraints = Some(rcgen::NameConstraints {
                permitted_subtrees: vec![rcgen::GeneralSubtree::DnsName("elsewhere.example".into())],
                excluded_subtrees: vec![],
            });
        });
        refused(&constrained.0, &constrained.0, NAME);
    }
}
