//! What attackers send: a test for each attack.

use crate::provider::{ISSUER, RESOURCE, Signer, b64, bearer, claims, claims_with, door, enter, now, oidc_door, peer};
use gnomon_access::{Authenticator, MAX_NAMES, MAX_TOKEN, Rejection};
use http::{HeaderMap, HeaderValue, StatusCode, header::AUTHORIZATION};
use serde_json::{Value, json};

async fn refused(door: &Authenticator, token: &str) -> Rejection {
    let challenge = enter(door, token).await.expect_err("refused");
    assert_eq!(challenge.status, StatusCode::UNAUTHORIZED, "{challenge:?}");
    challenge.rejection
}

async fn refused_claims(changes: Value) -> Rejection {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    refused(&door, &signer.token("k1", &claims_with(changes))).await
}

#[tokio::test]
async fn a_token_for_another_server_is_refused() {
    for aud in [
        json!("https://other.example/mcp"),
        json!(["a", "b"]),
        json!([]),
        json!("https://portal.example/mcp/"),
        json!("https://PORTAL.example/mcp"),
        json!({}),
    ] {
        assert_eq!(refused_claims(json!({"aud": aud})).await, Rejection::Audience, "{aud}");
    }
}

#[tokio::test]
async fn a_token_without_an_audience_is_refused() {
    assert_eq!(refused_claims(json!({"aud": null})).await, Rejection::Audience);
}

#[tokio::test]
async fn an_expired_token_is_refused() {
    assert_eq!(refused_claims(json!({"exp": now() - 61})).await, Rejection::Expired);
    assert_eq!(refused_claims(json!({"exp": 0})).await, Rejection::Expired);
}

#[tokio::test]
async fn a_token_without_expiry_or_with_a_strange_one_is_refused() {
    for exp in [Value::Null, json!("9999999999"), json!(-1), json!(1e300), json!(true)] {
        assert_eq!(refused_claims(json!({"exp": exp})).await, Rejection::Malformed, "{exp}");
    }
}

#[tokio::test]
async fn a_token_of_the_future_is_refused() {
    assert_eq!(refused_claims(json!({"nbf": now() + 120})).await, Rejection::NotYet);
    assert_eq!(refused_claims(json!({"iat": now() + 120})).await, Rejection::NotYet);
}

#[tokio::test]
async fn a_token_of_another_issuer_is_refused() {
    for iss in [json!("https://evil.example"), json!("https://login.example/"), json!([ISSUER]), Value::Null] {
        assert_eq!(refused_claims(json!({"iss": iss})).await, Rejection::Issuer, "{iss}");
    }
}

#[tokio::test]
async fn alg_none_is_refused() {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let message = format!("{}.{}", b64(json!({"alg": alg, "kid": "k1"}).to_string()), b64(claims().to_string()));
        for token in [format!("{message}."), format!("{message}.AAAA")] {
            assert_eq!(refused(&door, &token).await, Rejection::Algorithm, "{alg}");
        }
    }
}

#[tokio::test]
async fn hs256_keyed_with_the_public_key_is_refused() {
    let rsa = Signer::rsa();
    let jwk = rsa.jwk("k1");
    let (door, web) = oidc_door(std::slice::from_ref(&jwk));
    for secret in [jwk.to_string(), jwk["n"].as_str().unwrap().to_owned()] {
        let forger = Signer::Hmac(secret.into_bytes());
        assert_eq!(refused(&door, &forger.token("k1", &claims())).await, Rejection::Algorithm);
    }
    // Even where the provider publishes a symmetric key.
    let shared = Signer::Hmac(b"shared".to_vec());
    web.provider(ISSUER, &[jwk, shared.jwk("k2")]);
    assert_eq!(refused(&door, &shared.token("k2", &claims())).await, Rejection::Algorithm);
}

#[tokio::test]
async fn a_public_key_is_not_used_for_the_algorithm_of_another_kind() {
    let (rsa, ec) = (Signer::rsa(), Signer::p256());
    let (door, _) = oidc_door(&[rsa.jwk("k1")]);
    assert_eq!(refused(&door, &ec.token("k1", &claims())).await, Rejection::Key);
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    let (ours, theirs) = (Signer::p256(), Signer::p256());
    let (door, _) = oidc_door(&[ours.jwk("k1")]);
    assert_eq!(refused(&door, &theirs.token("k1", &claims())).await, Rejection::Signature);
    let good = ours.token("k1", &claims());
    let parts: Vec<&str> = good.split('.').collect();
    let admin = b64(claims_with(json!({"sub": "admin"})).to_string());
    assert_eq!(refused(&door, &format!("{}.{admin}.{}", parts[0], parts[2])).await, Rejection::Signature);
    assert_eq!(refused(&door, &format!("{}.{}.", parts[0], parts[1])).await, Rejection::Signature);
    assert_eq!(refused(&door, &format!("{}.{}.{}", parts[0], parts[1], b64([0; 64]))).await, Rejection::Signature);
}

#[tokio::test]
async fn keys_that_a_token_brings_or_points_to_are_ignored() {
    let (ours, theirs) = (Signer::rsa(), Signer::rsa());
    let (door, web) = oidc_door(&[ours.jwk("k1")]);
    web.put("https://evil.example/keys", json!({"keys": [theirs.jwk("k9")]}));
    for head in [
        json!({"alg": "RS256", "kid": "k9", "jku": "https://evil.example/keys"}),
        json!({"alg": "RS256", "kid": "k9", "jwk": theirs.jwk("k9")}),
        json!({"alg": "RS256", "kid": "k1", "jwk": theirs.jwk("k1"), "x5u": "https://evil.example/cert", "x5c": ["AAAA"]}),
        json!({"alg": "RS256", "kid": "https://evil.example/keys"}),
        json!({"alg": "RS256", "kid": "../../dev/null"}),
    ] {
        let token = theirs.token_of(&head.to_string(), &claims().to_string());
        assert!(matches!(refused(&door, &token).await, Rejection::Key | Rejection::Signature), "{head}");
    }
    assert!(web.asked().iter().all(|line| !line.contains("evil")), "nothing of the token's is fetched");
}

#[tokio::test]
async fn a_key_id_that_two_providers_use_does_not_mix_them_up() {
    let (ours, theirs) = (Signer::p256(), Signer::p256());
    let (door, web) = door(&format!("[ {{ mode: oidc, issuer: '{ISSUER}' }}, {{ mode: oidc, issuer: 'https://partner.example' }} ]"));
    web.provider(ISSUER, &[ours.jwk("same")]);
    web.provider("https://partner.example", &[theirs.jwk("same")]);
    let partner = claims_with(json!({"iss": "https://partner.example"}));
    assert_eq!(enter(&door, &theirs.token("same", &partner)).await.unwrap().subject, "https://partner.example|u-1");
    assert_eq!(refused(&door, &theirs.token("same", &claims())).await, Rejection::Signature, "the partner cannot speak for us");
    enter(&door, &ours.token("same", &claims())).await.unwrap();
}

#[tokio::test]
async fn a_key_id_that_stands_twice_in_a_set_serves_only_its_own_signatures() {
    let (one, two, three) = (Signer::p256(), Signer::p256(), Signer::p256());
    let (door, _) = oidc_door(&[one.jwk("k"), two.jwk("k")]);
    enter(&door, &one.token("k", &claims())).await.unwrap();
    enter(&door, &two.token("k", &claims())).await.unwrap();
    assert_eq!(refused(&door, &three.token("k", &claims())).await, Rejection::Signature);
    // Without a key id there must be only one candidate.
    let head = json!({"alg": "ES256"}).to_string();
    assert_eq!(refused(&door, &one.token_of(&head, &claims().to_string())).await, Rejection::Key);
}

#[tokio::test]
async fn tokens_of_other_kinds_are_refused() {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "JWE", ""] {
        let head = json!({"alg": "ES256", "kid": "k1", "typ": typ}).to_string();
        assert_eq!(refused(&door, &signer.token_of(&head, &claims().to_string())).await, Rejection::Kind, "{typ}");
    }
    // An ID token is for the client, so its audience is the client's id.
    let id_token = claims_with(json!({"aud": "claude", "nonce": "n"}));
    assert_eq!(refused(&door, &signer.token("k1", &id_token)).await, Rejection::Audience);
}

#[tokio::test]
async fn what_two_readers_could_read_in_two_ways_is_refused() {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    let head = json!({"alg": "ES256", "kid": "k1"}).to_string();
    let twice = claims().to_string().replacen('{', r#"{"sub":"admin","#, 1);
    assert_eq!(refused(&door, &signer.token_of(&head, &twice)).await, Rejection::Malformed);
    let twice = r#"{"alg":"ES256","alg":"none","kid":"k1"}"#;
    assert_eq!(refused(&door, &signer.token_of(twice, &claims().to_string())).await, Rejection::Malformed);
    let critical = r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":false}"#;
    assert_eq!(refused(&door, &signer.token_of(critical, &claims().to_string())).await, Rejection::Malformed);
    for junk in ["eyJ.e30.AA", "eyJhbGciOiJFUzI1NiJ9.bm90anNvbg.AA", "eyJ..", "eyJhbGciOiJFUzI1NiJ9.W10.AA", "eyJhbGciOjF9.e30.AA"] {
        assert!(matches!(refused(&door, junk).await, Rejection::Malformed | Rejection::Issuer), "{junk}");
    }
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(3000), "]".repeat(3000));
    assert_eq!(refused(&door, &signer.token_of(&head, &deep)).await, Rejection::Malformed);
}

#[tokio::test]
async fn a_token_of_which_possession_cannot_be_proven_is_refused() {
    for cnf in
        [json!({"jkt": "abc"}), json!({"jwk": {}}), json!("x"), json!({"x5t#S256": "AAAA"}), json!({"x5t#S256": b64([7; 32]), "jkt": "x"})]
    {
        assert_eq!(refused_claims(json!({"cnf": cnf})).await, Rejection::Binding, "{cnf}");
    }
    assert_eq!(refused_claims(json!({"cnf": {"x5t#S256": b64([7; 32])}})).await, Rejection::Binding, "no certificate was shown");
}

#[tokio::test]
async fn a_huge_token_costs_no_verification() {
    let signer = Signer::p256();
    let (door, web) = oidc_door(&[signer.jwk("k1")]);
    let token = signer.token("k1", &claims_with(json!({"groups": "g".repeat(MAX_TOKEN)})));
    assert_eq!(refused(&door, &token).await, Rejection::Unreadable);
    assert!(web.asked().is_empty(), "nor a look at keys");
}

#[tokio::test]
async fn more_groups_than_can_be_judged_are_refused_not_cut_short() {
    let many = vec!["g"; MAX_NAMES + 1];
    assert_eq!(refused_claims(json!({"groups": many})).await, Rejection::TooMany);
    let many = "g ".repeat(MAX_NAMES + 1);
    assert_eq!(refused_claims(json!({"scope": many})).await, Rejection::TooMany);
}

#[tokio::test]
async fn strange_claims_are_refused() {
    for changes in [
        json!({"sub": null}),
        json!({"sub": 7}),
        json!({"sub": ""}),
        json!({"sub": "x".repeat(600)}),
        json!({"groups": [1]}),
        json!({"groups": {"a": 1}}),
        json!({"acr": ["x"]}),
        json!({"hd": 1}),
    ] {
        assert_eq!(refused_claims(changes.clone()).await, Rejection::Malformed, "{changes}");
    }
}

#[tokio::test]
async fn a_second_credential_does_not_get_in_behind_the_first() {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    let token = signer.token("k1", &claims());
    let mut headers = bearer(&token);
    headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer other"));
    assert_eq!(door.authenticate(&headers, &peer()).await.unwrap_err().rejection, Rejection::Unreadable);
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_static("Basic YTpi"));
    assert_eq!(door.authenticate(&headers, &peer()).await.unwrap_err().rejection, Rejection::Unreadable);
}

#[tokio::test]
async fn a_token_appears_in_nothing_that_is_shown_or_logged() {
    let signer = Signer::p256();
    let (door, _) = oidc_door(&[signer.jwk("k1")]);
    let good = signer.token("k1", &claims());
    let bad = signer.token("k1", &claims_with(json!({"aud": "https://other.example"})));
    let caller = enter(&door, &good).await.unwrap();
    let challenge = enter(&door, &bad).await.unwrap_err();
    let shown = format!("{caller:?} {caller} {door:?} {challenge:?} {}", challenge.text);
    for token in [&good, &bad] {
        for part in token.split('.') {
            assert!(!shown.contains(part), "{shown}");
        }
    }
    assert!(!shown.contains("other.example"), "nor what it says: {shown}");
    assert!(!challenge.www_authenticate.to_str().unwrap().contains(RESOURCE), "{challenge:?}");
}
