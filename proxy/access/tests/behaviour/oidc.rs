//! Tokens of a well-behaved provider.

use crate::provider::{ISSUER, RESOURCE, Signer, bearer, claims, claims_with, door, enter, oidc_door, peer};
use gnomon_access::{AuthMethod, Names, Peer, Rejection};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_token_of_the_provider_says_who_is_asking() {
    for signer in [Signer::rsa(), Signer::p256(), Signer::ed25519()] {
        let (door, _) = oidc_door(&[signer.jwk("k1")]);
        let caller = enter(&door, &signer.token("k1", &claims())).await.unwrap();
        assert_eq!(caller.subject, format!("{ISSUER}|u-1"));
        assert_eq!(caller.user.as_deref(), Some("u-1"));
        assert_eq!(caller.email.as_deref(), Some("anna@example.org"));
        assert_eq!(caller.domain.as_deref(), Some("example.org"));
        assert_eq!(caller.groups, Names::from(vec!["finance", "it"]));
        assert_eq!(caller.scopes, Names::from(vec!["mcp", "profile"]));
        assert_eq!((caller.acr.as_deref(), caller.client.as_deref()), (Some("loa2"), Some("claude")));
        assert_eq!(caller.amr, Names::from(vec!["pwd", "otp"]));
        assert_eq!(caller.method, AuthMethod::Oidc);
        assert!(caller.expires.unwrap() > SystemTime::now());
    }
}

#[tokio::test]
async fn a_caller_without_a_token_is_told_where_to_get_one() {
    let (door, _) = door(&format!("{{ mode: oidc, issuer: '{ISSUER}', scopes: [mcp] }}"));
    let challenge = door.authenticate(&HeaderMap::new(), &peer()).await.unwrap_err();
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        challenge.www_authenticate,
        "Bearer realm=\"gnomon\", scope=\"mcp\", resource_metadata=\"https://portal.example/.well-known/oauth-protected-resource/mcp\""
    );
    assert_eq!(door.metadata_path(), Some("/.well-known/oauth-protected-resource/mcp"));
    let document: serde_json::Value = serde_json::from_slice(&door.metadata().unwrap()).unwrap();
    assert_eq!(
        document,
        json!({"resource": RESOURCE, "authorization_servers": [ISSUER], "bearer_methods_supported": ["header"], "scopes_supported": ["mcp"]})
    );
}

#[tokio::test]
async fn a_token_without_the_required_scope_is_asked_to_step_up() {
    let signer = Signer::p256();
    let (door, web) = door(&format!("{{ mode: oidc, issuer: '{ISSUER}', scopes: ['mcp:use'] }}"));
    web.provider(ISSUER, &[signer.jwk("k1")]);
    let challenge = enter(&door, &signer.token("k1", &claims())).await.unwrap_err();
    assert_eq!((challenge.status, challenge.rejection), (StatusCode::FORBIDDEN, Rejection::Scope));
    let header = challenge.www_authenticate.to_str().unwrap();
    assert!(header.contains("error=\"insufficient_scope\"") && header.contains("scope=\"mcp:use\""), "{header}");
    enter(&door, &signer.token("k1", &claims_with(json!({"scope": "mcp:use"})))).await.unwrap();
}

#[tokio::test]
async fn claims_are_where_the_configuration_says() {
    let signer = Signer::p256();
    let yaml = "{ mode: oidc, issuer: 'https://login.example', claims: { user: preferred_username, groups: /realm_access/roles, unverified_email: accept } }";
    let (door, web) = door(yaml);
    web.provider(ISSUER, &[signer.jwk("k1")]);
    let changes = json!({"preferred_username": "anna", "realm_access": {"roles": ["r1"]}, "email_verified": null});
    let caller = enter(&door, &signer.token("k1", &claims_with(changes))).await.unwrap();
    assert_eq!((caller.user.as_deref(), &caller.groups), (Some("anna"), &Names::from(vec!["r1"])));
    assert_eq!(caller.email.as_deref(), Some("anna@example.org"));
}

#[tokio::test]
async fn mail_that_is_not_verified_and_groups_that_are_not_told_are_unknown() {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    for changes in [json!({"email_verified": false}), json!({"email_verified": null}), json!({"email": "nobody"})] {
        let caller = enter(&door, &signer.token("k1", &claims_with(changes.clone()))).await.unwrap();
        assert_eq!((caller.email.as_ref(), caller.domain.as_ref()), (None, None), "{changes}");
    }
    let caller = enter(&door, &signer.token("k1", &claims_with(json!({"groups": null})))).await.unwrap();
    assert_eq!(caller.groups, Names::Unknown);
    let caller = enter(&door, &signer.token("k1", &claims_with(json!({"groups": []})))).await.unwrap();
    assert_eq!(caller.groups, Names::Known(vec![]));
}

#[tokio::test]
async fn a_token_is_verified_once_and_belongs_to_its_connection() {
    let signer = Signer::p256();
    let (door, web) = oidc_door(&[signer.jwk("k1")]);
    let token = signer.token("k1", &claims());
    let first = enter(&door, &token).await.unwrap();
    web.clear();
    let again = enter(&door, &token).await.unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &again), "remembered");
    let elsewhere = door.authenticate(&bearer(&token), &Peer::at("192.0.2.9:1".parse().unwrap())).await.unwrap();
    assert_eq!(elsewhere.address.to_string(), "192.0.2.9");
    let later = SystemTime::now() + Duration::from_secs(3600);
    let challenge = door.authenticate_at(&bearer(&token), &peer(), later).await.unwrap_err();
    assert_eq!(challenge.rejection, Rejection::Expired, "remembering does not outlive the token");
}

#[tokio::test]
async fn the_audience_may_be_configured_and_be_one_of_several() {
    let signer = Signer::p256();
    let (door, web) = door("{ mode: oidc, issuer: 'https://login.example', audience: ['api://gnomon'] }");
    web.provider(ISSUER, &[signer.jwk("k1")]);
    enter(&door, &signer.token("k1", &claims_with(json!({"aud": ["x", "api://gnomon"]})))).await.unwrap();
    assert_eq!(enter(&door, &signer.token("k1", &claims())).await.unwrap_err().rejection, Rejection::Audience);
}
