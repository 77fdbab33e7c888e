//! Service tokens, and configurations without a log-in.

use crate::provider::{bearer, door, enter, peer};
use gnomon_access::{AuthMethod, Names, Rejection, generate_token};
use http::HeaderMap;
use std::time::{Duration, SystemTime};

#[tokio::test]
async fn a_service_token_is_known_by_its_hash() {
    let (ci, old) = (generate_token().unwrap(), generate_token().unwrap());
    let yaml = format!(
        "{{ mode: tokens, tokens: [ {{ name: ci, sha256: '{}', groups: [robots] }}, {{ name: old, sha256: '{}', expires: 2020-01-01 }} ] }}",
        ci.sha256, old.sha256
    );
    let (door, web) = door(&yaml);
    let caller = enter(&door, &ci.token).await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.user.as_deref(), caller.method), ("token:ci", Some("ci"), AuthMethod::Token));
    assert_eq!(caller.groups, Names::from(vec!["robots"]));
    assert_eq!(enter(&door, &old.token).await.unwrap_err().rejection, Rejection::Expired);
    for wrong in [generate_token().unwrap().token, ci.sha256.clone(), ci.token[..20].to_owned(), format!("{}x", ci.token)] {
        assert_eq!(enter(&door, &wrong).await.unwrap_err().rejection, Rejection::Unknown);
    }
    assert_eq!(door.authenticate(&HeaderMap::new(), &peer()).await.unwrap_err().rejection, Rejection::Missing);
    assert!(door.metadata().is_none() && web.asked().is_empty());
}

#[tokio::test]
async fn a_service_token_ends_when_it_says_even_if_it_is_remembered() {
    let made = generate_token().unwrap();
    let (door, _) =
        door(&format!("{{ mode: tokens, tokens: [ {{ name: ci, sha256: '{}', expires: '2100-01-01T00:00:00Z' }} ] }}", made.sha256));
    enter(&door, &made.token).await.unwrap();
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_102_444_800);
    assert_eq!(door.authenticate_at(&bearer(&made.token), &peer(), later).await.unwrap_err().rejection, Rejection::Expired);
}

#[tokio::test]
async fn an_open_door_lets_everybody_in_unnamed() {
    let (door, _) = door("{ mode: none }");
    for headers in [HeaderMap::new(), bearer("anything")] {
        let caller = door.authenticate(&headers, &peer()).await.unwrap();
        assert_eq!((caller.method, caller.user.as_ref(), caller.groups.clone()), (AuthMethod::None, None, Names::Unknown));
    }
}
