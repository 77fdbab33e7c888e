//! Client certificates: as the log-in, as the device, and as what a token is bound to.

use crate::provider::{ISSUER, Signer, b64, bearer, claims, claims_with, door, oidc_door, peer};
use aws_lc_rs::digest::{SHA256, digest};
use gnomon_access::{AuthMethod, Names, Peer, Rejection};
use http::{HeaderMap, StatusCode};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use rustls_pki_types::CertificateDer;
use serde_json::json;

fn certificate(common_name: &str, names: &[&str]) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names.push(SanType::Rfc822Name("Agent@corp.example".try_into().unwrap()));
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
}

fn showing(certificate: &CertificateDer<'static>) -> Peer {
    Peer { certificate: Some(vec![certificate.clone()]), ..peer() }
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    digest(&SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_client_is_known_by_fingerprint_name_or_subject() {
    let build = certificate("build-7", &["Build-7.corp.example"]);
    let print = fingerprint(&build);
    for by in
        [format!("sha256: ['{}']", print.to_uppercase()), "san: ['build-*.corp.example']".to_owned(), "subject: ['build-*']".to_owned()]
    {
        let (door, _) = door(&format!("{{ mode: mtls, clients: [ {{ name: build, {by}, groups: [robots] }} ] }}"));
        let caller = door.authenticate(&HeaderMap::new(), &showing(&build)).await.unwrap();
        assert_eq!((caller.subject.as_str(), caller.user.as_deref()), (format!("mtls:{print}").as_str(), Some("build")));
        assert_eq!((caller.method, &caller.groups), (AuthMethod::Mtls, &Names::from(vec!["robots"])));
        let device = caller.device.as_ref().unwrap();
        assert_eq!((device.sha256.as_str(), device.subject.as_deref()), (print.as_str(), Some("build-7")));
        assert_eq!(device.names, ["build-7.corp.example", "Agent@corp.example"]);
        let other = certificate("laptop", &["laptop.corp.example"]);
        let challenge = door.authenticate(&HeaderMap::new(), &showing(&other)).await.unwrap_err();
        assert_eq!((challenge.status, challenge.rejection), (StatusCode::FORBIDDEN, Rejection::UnknownCertificate));
        assert_eq!(door.authenticate(&HeaderMap::new(), &peer()).await.unwrap_err().rejection, Rejection::NoCertificate);
    }
}

#[tokio::test]
async fn without_a_list_a_client_with_a_trusted_certificate_is_known_by_its_name() {
    let (door, _) = door("{ mode: mtls }");
    let caller = door.authenticate(&HeaderMap::new(), &showing(&certificate("build-7", &[]))).await.unwrap();
    assert_eq!((caller.user.as_deref(), &caller.groups), (Some("build-7"), &Names::Unknown));
}

#[tokio::test]
async fn a_bad_token_is_not_rescued_by_a_certificate() {
    let (door, _) = door(
        "[ { mode: mtls }, { mode: tokens, tokens: [ { name: ci, sha256: '0000000000000000000000000000000000000000000000000000000000000000' } ] } ]",
    );
    let shown = showing(&certificate("build-7", &[]));
    assert_eq!(door.authenticate(&bearer("wrong"), &shown).await.unwrap_err().rejection, Rejection::Unknown);
    door.authenticate(&HeaderMap::new(), &shown).await.unwrap();
}

#[tokio::test]
async fn a_token_and_a_certificate_together_are_a_person_on_a_device() {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    let laptop = certificate("laptop-7", &["laptop-7.corp.example"]);
    let token = signer.token("k1", &claims());
    let with = door.authenticate(&bearer(&token), &showing(&laptop)).await.unwrap();
    assert_eq!((with.method, with.device.as_ref().unwrap().subject.as_deref()), (AuthMethod::Oidc, Some("laptop-7")));
    let without = door.authenticate(&bearer(&token), &peer()).await.unwrap();
    assert_eq!(without.device, None, "a remembered token brings no device along");
}

#[tokio::test]
async fn a_bound_token_is_worth_nothing_without_its_certificate() {
    let signer = Signer::p256();
    let (door, web) = door(&format!("{{ mode: oidc, issuer: '{ISSUER}' }}"));
    web.provider(ISSUER, &[signer.jwk("k1")]);
    let laptop = certificate("laptop-7", &[]);
    let thumbprint = b64(digest(&SHA256, &laptop));
    let token = signer.token("k1", &claims_with(json!({"cnf": {"x5t#S256": thumbprint}})));
    door.authenticate(&bearer(&token), &showing(&laptop)).await.unwrap();
    for thief in [peer(), showing(&certificate("laptop-7", &[]))] {
        assert_eq!(door.authenticate(&bearer(&token), &thief).await.unwrap_err().rejection, Rejection::Binding);
    }
}

#[tokio::test]
async fn bytes_that_are_not_a_certificate_let_no_client_in() {
    let (door, _) = door("{ mode: mtls }");
    let junk = CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]);
    assert_eq!(door.authenticate(&HeaderMap::new(), &showing(&junk)).await.unwrap_err().rejection, Rejection::UnknownCertificate);
}
