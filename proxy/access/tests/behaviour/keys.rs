//! Keys over time: rotation, floods of made-up key ids, a provider that is down or lies.

use crate::provider::{ISSUER, Signer, claims, door, enter, oidc_door};
use gnomon_access::{FRESH, PAUSE, Rejection, STALE};
use http::StatusCode;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, advance};

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_when_a_token_names_it() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let (door, web) = oidc_door(&[old.jwk("old")]);
    enter(&door, &old.token("old", &claims())).await.unwrap();
    web.provider(ISSUER, &[new.jwk("new")]);
    advance(PAUSE).await;
    enter(&door, &new.token("new", &claims())).await.unwrap();
    let late = Signer::token(&old, "old", &claims());
    assert_eq!(enter(&door, &(late)).await.unwrap_err().rejection, Rejection::Key, "a withdrawn key counts no more");
}

#[tokio::test(start_paused = true)]
async fn made_up_key_ids_do_not_flood_the_provider() {
    let (signer, forger) = (Signer::p256(), Signer::p256());
    let (door, web) = oidc_door(&[signer.jwk("k1")]);
    enter(&door, &signer.token("k1", &claims())).await.unwrap();
    web.asked();
    advance(PAUSE).await;
    for n in 0..50 {
        assert_eq!(enter(&door, &forger.token(&format!("x{n}"), &claims())).await.unwrap_err().rejection, Rejection::Key);
    }
    let keys = web.asked().iter().filter(|line| line.ends_with("/keys")).count();
    assert_eq!(keys, 1, "one attempt per pause");
}

#[tokio::test(start_paused = true)]
async fn while_the_provider_is_down_its_last_keys_serve_up_to_a_bound() {
    let signer = Signer::p256();
    let (door, web) = oidc_door(&[signer.jwk("k1")]);
    door.warm().await.unwrap();
    web.clear();
    advance(FRESH + PAUSE).await;
    enter(&door, &signer.token("k1", &claims())).await.unwrap();
    advance(STALE).await;
    // A different token, as the first is cached.
    let challenge = enter(&door, &signer.token("k1", &crate::provider::claims_with(json!({"jti": "2"})))).await.unwrap_err();
    assert_eq!((challenge.status, challenge.rejection), (StatusCode::SERVICE_UNAVAILABLE, Rejection::Unreachable));
    web.provider(ISSUER, &[signer.jwk("k1")]);
    advance(PAUSE).await;
    enter(&door, &signer.token("k1", &claims())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn keys_are_had_again_when_they_are_old() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let (door, web) = oidc_door(&[old.jwk("k")]);
    door.warm().await.unwrap();
    // The provider replaced a key under the same id.
    web.provider(ISSUER, &[new.jwk("k")]);
    assert_eq!(enter(&door, &new.token("k", &claims())).await.unwrap_err().rejection, Rejection::Signature);
    advance(FRESH).await;
    enter(&door, &new.token("k", &claims())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_set_without_keys_does_not_lock_everybody_out() {
    let signer = Signer::p256();
    let (door, web) = oidc_door(&[signer.jwk("k1")]);
    door.warm().await.unwrap();
    web.provider(ISSUER, &[]);
    advance(FRESH).await;
    enter(&door, &signer.token("k1", &claims())).await.unwrap();
}

#[tokio::test]
async fn metadata_of_another_issuer_or_with_keys_elsewhere_in_the_clear_is_not_used() {
    let signer = Signer::p256();
    for document in [
        json!({"issuer": "https://evil.example", "jwks_uri": "https://login.example/keys"}),
        json!({"issuer": ISSUER, "jwks_uri": "http://login.example/keys"}),
        json!({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}),
        json!({"issuer": ISSUER}),
    ] {
        let (door, web) = oidc_door(&[signer.jwk("k1")]);
        web.put("https://login.example/.well-known/openid-configuration", document.clone());
        let challenge = enter(&door, &signer.token("k1", &claims())).await.unwrap_err();
        assert_eq!(challenge.rejection, Rejection::Unreachable, "{document}");
        assert_eq!(door.warm().await.unwrap_err(), [ISSUER]);
        assert!(web.asked().iter().all(|line| !line.ends_with("/keys") && !line.contains("file:")));
    }
}

#[tokio::test]
async fn metadata_is_looked_for_where_the_standards_say() {
    let (door, web) = door("{ mode: oidc, issuer: 'https://login.example/realms/a' }");
    door.warm().await.unwrap_err();
    assert_eq!(
        web.asked(),
        [
            "GET https://login.example/.well-known/oauth-authorization-server/realms/a",
            "GET https://login.example/.well-known/openid-configuration/realms/a",
            "GET https://login.example/realms/a/.well-known/openid-configuration",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_never_answers_delays_callers_for_a_bounded_time() {
    let signer = Signer::p256();
    let (door, web) = oidc_door(&[signer.jwk("k1")]);
    door.warm().await.unwrap();
    web.silent.store(true, std::sync::atomic::Ordering::SeqCst);
    advance(FRESH).await;
    let began = Instant::now();
    enter(&door, &signer.token("k1", &claims())).await.unwrap();
    assert!(began.elapsed() <= Duration::from_secs(3), "the keys at hand serve");
    let challenge = enter(&door, &signer.token("k2", &claims())).await.unwrap_err();
    assert_eq!(challenge.rejection, Rejection::Key, "and are what an unknown one is held against");
}
