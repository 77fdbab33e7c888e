//! Names of secrets, one list for headers, parameters, options and members; and addresses without their secrets.

use crate::{Field, Value};
use std::borrow::Cow;

/// The replacement for values that are not written.
pub const CONCEALED: &str = "***";

/// Parts of names, without punctuation.
const SECRET: [&str; 14] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "accesskey",
    "authkey",
    "privatekey",
    "authorization",
    "cookie",
    "credential",
    "signature",
    "sessionkey",
];

/// True if the value of a header, parameter, option or member of this name is secret, as far as a name can tell: punctuation and case do
/// not count, and it errs towards secret.
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let plain: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    SECRET.iter().any(|part| plain.contains(part))
}

/// A field's value as it is written: addresses that programs name may carry credentials.
pub(crate) fn written(field: Field, value: &Value) -> Cow<'_, Value> {
    match value {
        Value::Str(uri) if field == Field::ResourceUri => match without_secrets(uri) {
            Cow::Borrowed(_) => Cow::Borrowed(value),
            Cow::Owned(uri) => Cow::Owned(uri.into()),
        },
        _ => Cow::Borrowed(value),
    }
}

/// A URI (RFC 3986) without its user and password, and without the values of parameters that are secret by their names.
fn without_secrets(uri: &str) -> Cow<'_, str> {
    let (before, query) = uri.split_once('?').map_or((uri, None), |(before, query)| (before, Some(query)));
    let user = before.split_once("://").and_then(|(scheme, rest)| {
        let authority = rest.split(['/', '#']).next().unwrap_or_default();
        let (_, host) = authority.rsplit_once('@')?;
        Some(format!("{scheme}://{CONCEALED}@{host}{}", rest.get(authority.len()..).unwrap_or_default()))
    });
    let is_secret = |field: &str| field.split_once('=').is_some_and(|(name, value)| !value.is_empty() && is_secret_name(name));
    let secret = query.is_some_and(|query| query.split(['&', ';', '#']).any(is_secret));
    if user.is_none() && !secret {
        return Cow::Borrowed(uri);
    }
    let mut said = user.unwrap_or_else(|| before.to_owned());
    for (n, field) in query.into_iter().flat_map(|query| query.split_inclusive(['&', ';', '#'])).enumerate() {
        if n == 0 {
            said.push('?');
        }
        match field.split_once('=') {
            Some((name, value)) if is_secret(field) => {
                let end = value.chars().next_back().filter(|last| matches!(last, '&' | ';' | '#'));
                said.extend([name, "=", CONCEALED]);
                said.extend(end);
            }
            _ => said.push_str(field),
        }
    }
    Cow::Owned(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_secret_whatever_their_punctuation() {
        for name in [
            "apikey",
            "X-Api-Key",
            "x_auth_key",
            "Authorization",
            "Proxy-Authorization",
            "set-cookie",
            "x-password",
            "API_TOKEN",
            "sig-nature",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["accept", "mcp-session-id", "x-request-id", "user-agent", "key", "author", "content-type"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn addresses_are_written_without_users_and_secret_parameters() {
        for (uri, written) in [
            ("file:///srv/plan.md", "file:///srv/plan.md"),
            ("db://host/table?id=1&page=2#top", "db://host/table?id=1&page=2#top"),
            ("https://u:pw@h.example/x?token=abc", "https://***@h.example/x?token=***"),
            ("https://h.example/x?a=1&api_key=abc&b=2", "https://h.example/x?a=1&api_key=***&b=2"),
            ("https://u:p@w@h/x", "https://***@h/x"),
            ("mailto:ada@example.com", "mailto:ada@example.com"),
            ("x://h?token=", "x://h?token="),
            ("x?secret=a#b", "x?secret=***#b"),
        ] {
            assert_eq!(without_secrets(uri), written, "{uri}");
        }
    }
}
