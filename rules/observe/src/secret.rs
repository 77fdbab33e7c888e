//! Names of secrets, one list for headers, parameters, options and members; and addresses without their secrets.

use crate::{Family, Field, FieldRef, Retention, Value, tokens::tokens_in};
use gnomon_kit::percent;
use smol_str::SmolStr;
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

/// Names of parameters whose values are secret where nothing else is called so.
const SECRET_PARAMETERS: [&str; 7] = ["key", "auth", "pass", "pwd", "sig", "code", "pat"];

/// True if the value of a parameter of this name in an address is secret: [`is_secret_name`], or a short name that stands for one there
/// (`sig` of shared access signatures, `key` of Google, `code` of a login).
#[must_use]
pub fn is_secret_parameter(name: &str) -> bool {
    is_secret_name(name) || SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

impl FieldRef {
    /// True if events hold it: what people typed, what servers say, and headers that carry credentials are in none.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        match self {
            FieldRef::Field(field) => field.info().is_stored(),
            FieldRef::Member(family, name) => is_stored_member(*family, name),
        }
    }
}

/// True if events hold this member of a family.
pub(crate) fn is_stored_member(family: Family, name: &str) -> bool {
    family != Family::Argument && !is_secret_name(name)
}

/// A field's value as it is written: names, ids and addresses that programs choose may carry the credentials of an address.
pub(crate) fn written(field: Field, value: &Value) -> Cow<'_, Value> {
    if field.info().retention != Retention::Address {
        return Cow::Borrowed(value);
    }
    // The id of a session may have the form of a token, and sessions are told apart by it.
    let said: fn(&str) -> Cow<'_, str> = if field == Field::McpSessionId { without_parameters } else { without_secrets };
    match value {
        Value::Str(text) => match said(text) {
            Cow::Borrowed(_) => Cow::Borrowed(value),
            Cow::Owned(text) => Cow::Owned(text.into()),
        },
        Value::List(list) if list.iter().any(|text| matches!(said(text), Cow::Owned(_))) => {
            Cow::Owned(Value::List(list.iter().map(|text| SmolStr::new(said(text))).collect()))
        }
        Value::List(_) | Value::Int(_) | Value::Bool(_) => Cow::Borrowed(value),
    }
}

/// A name or an address without what is secret in it: the user and password of a URI (RFC 3986), the values of parameters that are secret by their
/// names, escaped or not (of the query, of the fragment, of segments of the path, or where the text begins with one), what follows `Bearer` or
/// `Basic`, and tokens of well-known services wherever they stand. The other text stays as it is, whatever it says.
#[must_use]
pub fn without_secrets(text: &str) -> Cow<'_, str> {
    if let Some((scheme, credentials)) = text.split_once(' ')
        && (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("basic"))
        && !credentials.is_empty()
    {
        return Cow::Owned(format!("{scheme} {CONCEALED}"));
    }
    let plain = without_parameters(text);
    let tokens = tokens_in(&plain);
    if tokens.is_empty() {
        return plain;
    }
    let (mut said, mut at) = (String::with_capacity(plain.len()), 0);
    for token in tokens {
        said.push_str(plain.get(at..token.start).unwrap_or_default());
        said.push_str(CONCEALED);
        at = token.end;
    }
    said.push_str(plain.get(at..).unwrap_or_default());
    Cow::Owned(said)
}

/// The same, but for tokens by their form.
fn without_parameters(uri: &str) -> Cow<'_, str> {
    if !uri.contains(['@', '=']) {
        return Cow::Borrowed(uri);
    }
    // What follows the first delimiter is parameters, and may follow the host at once.
    let (before, parameters) = uri.split_at(uri.find(DELIMITERS).unwrap_or(uri.len()));
    let authority = before.split_once("//").map_or(0..0, |(scheme, rest)| {
        let begin = scheme.len() + "//".len();
        begin..begin + rest.find('/').unwrap_or(rest.len())
    });
    // `;` and `&` may be part of a password.
    let in_full = match parameters.strip_prefix([';', '&']) {
        Some(_) if authority.end == before.len() && !authority.is_empty() => {
            let rest = uri.get(authority.start..).unwrap_or_default();
            authority.start..authority.start + rest.find(['/', '?', '#']).unwrap_or(rest.len())
        }
        _ => authority,
    };
    let host = uri.get(in_full.clone()).and_then(|authority| authority.rsplit_once('@')).map(|(_, host)| host);
    let (mut said, rest) = match host {
        Some(host) => {
            let (scheme, rest) = (uri.get(..in_full.start).unwrap_or_default(), uri.get(in_full.end..).unwrap_or_default());
            (format!("{scheme}{CONCEALED}@{host}"), rest)
        }
        None => (String::new(), uri),
    };
    let (path, parameters) = rest.split_at(rest.find(DELIMITERS).unwrap_or(rest.len()));
    let mut concealed = host.is_some();
    for (nth, segment) in path.split('/').enumerate() {
        if nth > 0 {
            said.push('/');
        }
        concealed |= put_parameter(segment, &mut said);
    }
    // The delimiter before a parameter is its first character.
    let mut left = parameters;
    while let Some(delimiter) = left.chars().next() {
        let after = left.get(delimiter.len_utf8()..).unwrap_or_default();
        let (parameter, next) = after.split_at(after.find(DELIMITERS).unwrap_or(after.len()));
        said.push(delimiter);
        concealed |= put_parameter(parameter, &mut said);
        left = next;
    }
    if concealed { Cow::Owned(said) } else { Cow::Borrowed(uri) }
}

/// Adds `name=value`, or whatever else it is, without a value that is secret by its name. True if there was one.
fn put_parameter(parameter: &str, said: &mut String) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if !value.is_empty() && is_secret_parameter(&percent::decoded(name)) => {
            said.extend([name, "=", CONCEALED]);
            true
        }
        _ => {
            said.push_str(parameter);
            false
        }
    }
}

/// The characters that begin parameters.
const DELIMITERS: [char; 4] = ['?', '&', ';', '#'];

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
            ("https://h.example/x#access_token=abc&b=2", "https://h.example/x#access_token=***&b=2"),
            ("https://h.example/x?a=1#token=abc", "https://h.example/x?a=1#token=***"),
            ("https://h.example/x?%74oken=abc", "https://h.example/x?%74oken=***"),
            ("https://h.example/x;password=abc", "https://h.example/x;password=***"),
            ("https://h.example;password=abc", "https://h.example;password=***"),
            ("https://h.example/x;v=1/y;password=abc?b=2", "https://h.example/x;v=1/y;password=***?b=2"),
            ("https://u:p;w@h.example/x", "https://***@h.example/x"),
            ("https://u:p&w@h.example/x", "https://***@h.example/x"),
            ("//u:pw@h.example/x", "//***@h.example/x"),
            ("nosuch+https://u:pw@h/?api_key=abc", "nosuch+https://***@h/?api_key=***"),
            ("https://h/c/f.csv?sv=2024&sig=abc%3D&se=9", "https://h/c/f.csv?sv=2024&sig=***&se=9"),
            ("https://h/x?key=abc&KEY=d&code=e", "https://h/x?key=***&KEY=***&code=***"),
            ("https://h/mcp/api_key=abc/tools", "https://h/mcp/api_key=***/tools"),
            ("password=abc", "password=***"),
            ("agent/1.0;token=abc", "agent/1.0;token=***"),
            ("Bearer abc", "Bearer ***"),
            ("echo_ghp_0123456789abcdefghijABCDEFGHIJ012345", "echo_***"),
            ("file:///srv/ghp_0123456789abcdefghijABCDEFGHIJ012345/x", "file:///srv/***/x"),
            ("curl/8.5.0 (x86_64; key ring)", "curl/8.5.0 (x86_64; key ring)"),
        ] {
            assert_eq!(without_secrets(uri), written, "{uri}");
        }
    }
}
