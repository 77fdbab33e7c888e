//! The errors for mistakes in `auth`.

use crate::provider::RESOURCE;
use gnomon_access::AuthSource;

#[track_caller]
fn refused(yaml: &str, expect: &str) {
    let built = AuthSource::parse(yaml, "g.yml").and_then(|source| source.build("g.yml", RESOURCE, &|_| Err("cannot be read".to_owned())));
    let error = built.map(|_| ()).expect_err(yaml).to_string();
    assert!(error.contains(expect), "{yaml}\n  said:     {error}\n  expected: {expect}");
}

#[test]
fn each_mistake_is_told_at_its_place_with_what_to_do() {
    let hash = "0".repeat(64);
    let table = [
        ("{ mode: oid }".to_owned(), "g.yml:1:9: `oid` is not a mode; did you mean `oidc`?"),
        ("{ mod: oidc }".to_owned(), "unknown key `mod`; did you mean `mode`?"),
        ("{ issuer: 'https://x' }".to_owned(), "`mode` is missing"),
        ("[]".to_owned(), "`auth` is empty"),
        ("{ mode: oidc }".to_owned(), "needs `issuer`"),
        ("{ mode: oidc, issuer: 'http://login.example' }".to_owned(), "is not an https address"),
        ("{ mode: oidc, issuer: 'https://x', jwks_url: 'ftp://x' }".to_owned(), "is not an https address"),
        ("{ mode: oidc, issuer: 'https://x', algorithms: [HS256] }".to_owned(), "`HS256` is not accepted; did you mean"),
        ("{ mode: oidc, issuer: 'https://x', algorithms: [none] }".to_owned(), "`none` is not accepted; known here"),
        ("{ mode: oidc, issuer: 'https://x', algorithms: [] }".to_owned(), "no algorithm is accepted"),
        ("{ mode: oidc, issuer: 'https://x', leeway_seconds: 900 }".to_owned(), "more than 600 seconds"),
        ("{ mode: oidc, issuer: 'https://x', scopes: ['a b'] }".to_owned(), "a scope has no spaces"),
        ("{ mode: oidc, issuer: 'https://x', claims: { unverified_email: yes } }".to_owned(), "known here: ignore, accept"),
        (
            "{ mode: oidc, issuer: 'https://x', introspection: { url: 'https://x/i', client_id: a, client_secret: 'file:x' } }".to_owned(),
            "cannot be read",
        ),
        ("{ mode: none, issuer: 'https://x' }".to_owned(), "`issuer` belongs to `mode: oidc`"),
        ("[ { mode: none }, { mode: mtls } ]".to_owned(), "would let everybody in"),
        ("[ { mode: oidc, issuer: 'https://x' }, { mode: oidc, issuer: 'https://x' } ]".to_owned(), "is given twice"),
        ("{ mode: tokens }".to_owned(), "needs `tokens`"),
        ("{ mode: tokens, tokens: [ { name: a, sha256: gnomon_secret } ] }".to_owned(), "this is not a token's SHA-256"),
        (format!("{{ mode: tokens, tokens: [ {{ name: a, sha256: '{hash}', expires: tomorrow }} ] }}"), "is not a date"),
        (format!("{{ mode: tokens, tokens: [ {{ name: a, sha256: '{hash}' }}, {{ name: b, sha256: '{hash}' }} ] }}"), "is listed twice"),
        ("{ mode: mtls, clients: [ { name: a } ] }".to_owned(), "name how the client is recognised"),
    ];
    for (yaml, expect) in &table {
        refused(yaml, expect);
    }
}

#[test]
fn a_token_written_in_place_of_its_hash_is_not_repeated() {
    let yaml = "{ mode: tokens, tokens: [ { name: a, sha256: gnomon_hunter2 } ] }";
    let error = AuthSource::parse(yaml, "g.yml").unwrap().build("g.yml", RESOURCE, &|_| Ok(String::new())).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
