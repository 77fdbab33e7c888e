//! Opaque tokens, checked by introspection.

use crate::provider::{ISSUER, claims_with, door, enter};
use gnomon_access::{AuthMethod, Authenticator, Rejection};
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

const URL: &str = "https://login.example/introspect";

fn asking(answer: Value) -> (Authenticator, Arc<crate::provider::Web>) {
    let yaml =
        format!("{{ mode: oidc, issuer: '{ISSUER}', introspection: {{ url: '{URL}', client_id: 'g n', client_secret: 'file:x' }} }}");
    let (door, web) = door(&yaml);
    web.put(URL, answer);
    (door, web)
}

#[tokio::test]
async fn the_provider_is_asked_what_an_opaque_token_is_worth() {
    let (door, web) = asking(claims_with(json!({"active": true, "iss": null})));
    let caller = enter(&door, "op/aque+1=").await.unwrap();
    assert_eq!((caller.method, caller.user.as_deref()), (AuthMethod::Introspection, Some("u-1")));
    // Base64 of `g%20n:s3cret`.
    let line = format!("POST {URL} token=op%2Faque%2B1%3D&token_type_hint=access_token Basic ZyUyMG46czNjcmV0");
    assert_eq!(web.asked(), [line]);
    enter(&door, "op/aque+1=").await.unwrap();
    assert!(web.asked().is_empty(), "the answer is remembered");
}

#[tokio::test]
async fn an_answer_that_does_not_vouch_for_it_refuses() {
    for (answer, rejection) in [
        (json!({"active": false}), Rejection::Unknown),
        (claims_with(json!({"active": "true"})), Rejection::Unknown),
        (claims_with(json!({})), Rejection::Unknown),
        (claims_with(json!({"active": true, "aud": null})), Rejection::Audience),
        (claims_with(json!({"active": true, "aud": "https://other.example"})), Rejection::Audience),
        (claims_with(json!({"active": true, "iss": "https://evil.example"})), Rejection::Issuer),
        (claims_with(json!({"active": true, "exp": 1})), Rejection::Expired),
        (claims_with(json!({"active": true, "exp": null})), Rejection::Malformed),
    ] {
        let (door, _) = asking(answer.clone());
        assert_eq!(enter(&door, "opaque").await.unwrap_err().rejection, rejection, "{answer}");
    }
}

#[tokio::test]
async fn a_provider_that_cannot_be_asked_is_no_reason_to_log_in_again() {
    let (door, web) = asking(json!([]));
    assert_eq!(enter(&door, "opaque").await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
    web.clear();
    assert_eq!(enter(&door, "opaque").await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn without_introspection_an_opaque_token_is_refused() {
    let (door, web) = door(&format!("{{ mode: oidc, issuer: '{ISSUER}' }}"));
    assert_eq!(enter(&door, "opaque").await.unwrap_err().rejection, Rejection::Unknown);
    assert!(web.asked().is_empty());
}
