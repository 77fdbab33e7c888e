//! The calls that progress notifications of servers are about.
//!
//! A client names each of its calls for that with a token of its own (`_meta.progressToken`), and most count them from nought: what a
//! server says of a token reaches its client only where the token is of a call that it has open at that server, or of a task that
//! such a call began there.

use bytes::Bytes;
use gnomon_upstream::{
    members::Members,
    rpc::{Id, Notification},
};
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use smol_str::SmolStr;

/// The token of a request, if its sender asks for progress.
pub fn token(params: Option<&Bytes>) -> Option<Id> {
    let meta = Members::of(params).ok()?.object("_meta")?;
    Id::of_json(meta.get("progressToken")?.as_bytes())
}

/// The progress of one of these tokens, with the token as its sender wrote it; none where it is of another.
pub fn told_of(notification: &Notification, tokens: &[Id]) -> Option<Notification> {
    let params = Members::of(notification.params.as_ref()).ok()?;
    let said = Id::of_json(params.get("progressToken")?.as_bytes())?;
    let own = tokens.iter().find(|token| **token == said).or_else(|| tokens.iter().find(|token| is_same(token, &said)))?;
    let params = if *own == said { notification.params.clone()? } else { params.with(&[("progressToken", Some(own.json()))]) };
    Some(Notification { method: notification.method.clone(), params: Some(params) })
}

/// True if two JSON texts stand for one token: a peer may write it in another form than it read.
fn is_same(one: &Id, other: &Id) -> bool {
    let read = |id: &Id| serde_json::from_str::<Value>(id.json()).ok();
    match (read(one), read(other)) {
        (Some(Value::Number(one)), Some(Value::Number(other))) => one.as_f64() == other.as_f64(),
        (one, other) => one.is_some() && one == other,
    }
}

/// The tokens of the calls that a session has open at servers.
#[derive(Default)]
pub struct Reported(Mutex<Vec<(SmolStr, Id)>>);

impl Reported {
    fn list(&self) -> MutexGuard<'_, Vec<(SmolStr, Id)>> {
        self.0.lock()
    }

    /// A call begins at this server.
    pub fn begin(&self, server: &SmolStr, params: Option<&Bytes>) -> Option<Reporting<'_>> {
        let token = token(params)?;
        self.list().push((server.clone(), token.clone()));
        Some(Reporting { to: self, at: server.clone(), token })
    }

    /// The tokens of the calls at this server.
    pub fn at(&self, server: &SmolStr) -> Vec<Id> {
        self.list().iter().filter(|(at, _)| at == server).map(|(_, token)| token.clone()).collect()
    }
}

/// A call of which progress may be told, until this is dropped.
pub struct Reporting<'a> {
    to: &'a Reported,
    at: SmolStr,
    token: Id,
}

impl Drop for Reporting<'_> {
    fn drop(&mut self) {
        let mut list = self.to.list();
        if let Some(place) = list.iter().position(|(at, token)| *at == self.at && *token == self.token) {
            list.swap_remove(place);
        }
    }
}

/// The progress of the call that has these parameters.
pub(crate) fn of_call(params: Option<&Bytes>, notification: &Notification) -> Option<Notification> {
    told_of(notification, token(params).as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_however_it_is_written_and_comes_back_as_its_client_wrote_it() {
        let said = |token: &str| Notification {
            method: "notifications/progress".into(),
            params: Some(Bytes::from(format!("{{\"progressToken\":{token},\"progress\":1}}"))),
        };
        let own: Vec<Id> = ["1", r#""a/ü""#, r#""1""#].iter().filter_map(|json| Id::of_json(json.as_bytes())).collect();
        for (token, known) in [("1", "1"), ("1.0", "1"), ("1e0", "1"), (r#""a\/\u00fc""#, r#""a/ü""#), (r#""1""#, r#""1""#)] {
            assert_eq!(told_of(&said(token), &own).and_then(|told| told.params), said(known).params, "{token}");
        }
        for token in ["2", "-1", r#""2""#, "null", "[1]", "{}"] {
            assert!(told_of(&said(token), &own).is_none(), "{token}");
        }
        let twice = Notification { params: Some(Bytes::from_static(br#"{"progressToken":1,"progressToken":2}"#)), ..said("1") };
        assert!(told_of(&twice, &own).is_none());
    }
}
