//! Secrets that stand in the entry of a configuration file: that one stands there, where and what it looks like, by one duty for variables,
//! headers, arguments and URLs.
//!
//! It goes by names and by forms, and errs towards a secret; a reference (`${TOKEN}`) and what stands in its place until somebody puts one in
//! (`<your-api-key>`) are none.

use gnomon_observe::{is_secret_name, known_token, secrets_in_arguments, without_secrets};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{borrow::Cow, ops::Range};

/// The most names of variables or headers, and places of secrets, that are kept of one server.
pub const MAX_NAMES: usize = 64;
/// The longest name or URL that is kept, in bytes.
const MAX_TEXT: usize = 256;
/// Values that are shorter are words rather than secrets, in bytes.
const SHORTEST_SECRET: usize = 8;
/// Segments of a path that are shorter are names, in bytes.
const SHORTEST_SEGMENT: usize = 16;
/// The longest value that is looked at, in bytes.
const MAX_VALUE: usize = 64 << 10;
/// How deep JSON within a value is looked through.
const MAX_DEPTH: usize = 4;

const BY_NAME: &str = "secret-by-name";
const BY_FORM: &str = "secret-by-form";

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// A secret that stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretAt {
    /// The place in the server's entry.
    pub place: String,
    /// What it looks like: `github-token`, `secret-by-name` …
    pub kind: Cow<'static, str>,
}

/// The secrets of one entry.
#[derive(Default)]
pub(crate) struct Secrets {
    pub found: Vec<SecretAt>,
}

impl Secrets {
    fn add(&mut self, place: String, kind: Option<&'static str>) {
        if let Some(kind) = kind.filter(|_| self.found.len() < MAX_NAMES) {
            self.found.push(SecretAt { place: bounded(&place), kind: kind.into() });
        }
    }

    /// Looks at each member, and returns their names, sorted.
    pub fn of_members(&mut self, what: &str, members: Option<&Value>) -> Vec<String> {
        let Some(Value::Object(members)) = members else { return Vec::new() };
        for (name, value) in members.iter().take(MAX_NAMES) {
            self.add(format!("{what}.{name}"), of_member(name, value, MAX_DEPTH));
        }
        let mut names: Vec<String> = members.keys().take(MAX_NAMES).map(|name| bounded(name)).collect();
        names.sort();
        names
    }

    /// `places` is what would be hidden of the argument in an event.
    pub fn of_argument(&mut self, at: usize, argument: &str, before: Option<&str>, places: &[Range<usize>]) {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, value),
            // `--token VALUE`, `--header 'Authorization: VALUE'`.
            None => argument.split_once(':').unwrap_or((before.filter(|before| before.starts_with('-')).unwrap_or_default(), argument)),
        };
        let kind = of_text(name, value, MAX_DEPTH).or_else(|| of_text("", argument, MAX_DEPTH));
        self.add(format!("args[{at}]"), kind.or_else(|| within(argument, places)));
    }

    pub fn of_url(&mut self, url: &str) {
        self.add("url".to_owned(), of_url(url));
    }
}

/// A URL without the segments of its path that look like secrets, which some servers are reached by (`/s/TOKEN/mcp`). What is no URL stays.
#[must_use]
pub fn without_secret_segments(text: &str) -> Cow<'_, str> {
    let Some(place) = path_of(text) else { return Cow::Borrowed(text) };
    let path = text.get(place.clone()).unwrap_or_default();
    if !path.split('/').any(is_secret_segment) {
        return Cow::Borrowed(text);
    }
    let path: Vec<&str> = path.split('/').map(|segment| if is_secret_segment(segment) { HIDDEN } else { segment }).collect();
    let (before, after) = (text.get(..place.start).unwrap_or_default(), text.get(place.end..).unwrap_or_default());
    Cow::Owned(format!("{before}{}{after}", path.join("/")))
}

/// Where the path of the first URL in a text is.
fn path_of(text: &str) -> Option<Range<usize>> {
    let authority = text.find("://")? + "://".len();
    let begin = authority + text.get(authority..)?.find('/')?;
    let path = text.get(begin..)?;
    Some(begin..begin + path.find(|c: char| matches!(c, '?' | '#') || c.is_whitespace()).unwrap_or(path.len()))
}

/// True if a segment is long and no word: a token, a run of hexadecimal or of letters and digits, a UUID.
fn is_secret_segment(segment: &str) -> bool {
    known_token(segment).is_some()
        || is_uuid(segment)
        || segment.split(|c: char| !c.is_ascii_alphanumeric()).any(|piece| piece.len() >= SHORTEST_SEGMENT && is_mixed(piece))
        || segment.len() >= SHORTEST_SEGMENT && changes(segment) * 3 >= segment.len()
}

fn is_mixed(piece: &str) -> bool {
    piece.contains(|c: char| c.is_ascii_digit()) && piece.contains(|c: char| c.is_ascii_alphabetic())
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562), alone or behind a word.
fn is_uuid(segment: &str) -> bool {
    let pieces: Vec<&str> = segment.rsplit('-').take(5).collect();
    let is_hex = |piece: &&str| piece.bytes().all(|b| b.is_ascii_hexdigit());
    pieces.iter().map(|piece| piece.len()).eq([12, 4, 4, 4, 8]) && pieces.iter().all(is_hex)
}

/// How often letters of one kind (small, large, digit) follow those of another; none where a kind is missing. Words change seldom.
fn changes(segment: &str) -> usize {
    let kind = |byte: u8| match byte {
        b'a'..=b'z' => Some(0),
        b'A'..=b'Z' => Some(1),
        b'0'..=b'9' => Some(2),
        _ => None,
    };
    let kinds: Vec<_> = segment.bytes().map(kind).collect();
    if !(0..3).all(|kind| kinds.contains(&Some(kind))) {
        return 0;
    }
    kinds.windows(2).filter(|two| two[0] != two[1] && two.iter().all(Option::is_some)).count()
}

fn of_member(name: &str, value: &Value, depth: usize) -> Option<&'static str> {
    match value {
        Value::String(text) => of_text(name, text, depth).or_else(|| within(cut(text), secrets_in_arguments(&[cut(text)]).first()?)),
        Value::Number(number) => of_text(name, &number.to_string(), depth),
        Value::Object(members) => {
            let depth = depth.checked_sub(1)?;
            members.iter().take(MAX_NAMES).find_map(|(name, value)| of_member(name, value, depth))
        }
        Value::Array(all) => {
            let depth = depth.checked_sub(1)?;
            all.iter().take(MAX_NAMES).find_map(|value| of_member(name, value, depth))
        }
        Value::Null | Value::Bool(_) => None,
    }
}

/// What a value looks like, under the name that it has.
fn of_text(name: &str, value: &str, depth: usize) -> Option<&'static str> {
    let value = cut(value.trim());
    if value.is_empty() || is_reference(value) {
        return None;
    }
    if let Some(json) = json(value) {
        return of_member(name, &json, depth);
    }
    let (scheme, bare) = of_scheme(value);
    if is_placeholder(bare) || is_reference(bare) {
        return None;
    }
    let is_long = bare.len() >= SHORTEST_SECRET && !is_of_a_path(bare);
    let is_named = is_long && !bare.contains("://") && names_secret(name) && !is_amount(name, bare);
    // `Bearer VALUE` is a header's, whatever its name.
    let is_header = is_long && scheme.is_some() && !bare.contains(char::is_whitespace);
    known_token(bare)
        .or_else(|| twilio(bare))
        .or_else(|| bare.contains("://").then(|| of_url(bare)).flatten())
        .or((is_named || is_header).then_some(BY_NAME))
}

/// A JSON text, as some servers take their headers in one variable.
fn json(value: &str) -> Option<Value> {
    let is_json = value.starts_with('{') && value.ends_with('}') || value.starts_with('[') && value.ends_with(']');
    if is_json { serde_json::from_str(value).ok() } else { None }
}

/// What stands within an argument: behind `--header=Cookie:`, `--env=TOKEN=`, in a URL.
fn within(argument: &str, places: &[Range<usize>]) -> Option<&'static str> {
    let parameters_are = |url: &str| matches!(without_secrets(url), Cow::Owned(_));
    places.iter().find_map(|place| {
        let value = argument.get(place.clone())?.trim();
        if json(value).is_some() {
            return of_text("", value, MAX_DEPTH);
        }
        let before = argument.get(..place.start).unwrap_or_default();
        if before.ends_with("://") {
            return is_login(value).then(|| value.split(':').find_map(known_token).unwrap_or(BY_NAME));
        }
        // All of a query is hidden, as anything in it may be secret; told is what its names say.
        let is_query = before.ends_with(['?', '#']);
        if is_reference(value) || is_placeholder(of_scheme(value).1) || is_query && !parameters_are(argument) {
            return None;
        }
        // `--env=NAME=`, as far as the name says that it is none.
        let name = before.strip_suffix(['=', ':']).unwrap_or_default();
        let name = name.rsplit(['=', ':', ' ', '&']).next().unwrap_or_default();
        if is_qualified(name) || is_amount(name, value) {
            return None;
        }
        of_text("", value, MAX_DEPTH).or_else(|| (value.len() >= SHORTEST_SECRET && !is_of_a_path(value)).then_some(BY_NAME))
    })
}

/// A secret in a URL: a token in any of its parts, a password, a parameter by its name, a segment of the path by its form.
fn of_url(url: &str) -> Option<&'static str> {
    let url = cut(url);
    let authority = url.find("://").map_or(0, |at| at + "://".len());
    let rest = url.get(authority..).unwrap_or_default();
    let (host, _) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let user = host.rsplit_once('@').map(|(user, _)| user);
    let parameters = url.split(['?', '&', '#', ';']).skip(1).filter_map(|parameter| parameter.split_once('='));
    let is_parameter = |(name, value): (&str, &str)| {
        let is_named = !value.is_empty() && (names_secret(name) || name.eq_ignore_ascii_case("key") && is_random(value));
        is_named && !is_reference(value) && !is_placeholder(value)
    };
    let of_path = || path_of(url).and_then(|path| url.get(path)).is_some_and(|path| path.split('/').any(is_secret_segment));
    let token = url.split(['/', '?', '&', '=', ':', '@', '#']).filter(|part| !is_placeholder(part)).find_map(known_token);
    token
        .or_else(|| (user.is_some_and(is_login) || { parameters }.any(is_parameter)).then_some(BY_NAME))
        .or_else(|| of_path().then_some(BY_FORM))
}

/// True if what stands before a URL's host has a password, or is one.
fn is_login(user: &str) -> bool {
    match user.split_once(':') {
        Some((_, password)) => !password.is_empty() && !is_reference(password) && !is_placeholder(password),
        None => is_random(user),
    }
}

/// A key of Twilio's as its server takes it: account, key and secret in one argument.
fn twilio(value: &str) -> Option<&'static str> {
    let (account, key) = value.split_once('/')?;
    let (key, secret) = key.split_once(':')?;
    let is_id =
        |id: &str, begins: &str| id.len() > SHORTEST_SECRET && id.starts_with(begins) && id.bytes().all(|b| b.is_ascii_alphanumeric());
    let is_key = is_id(account, "AC") && (is_id(key, "SK") || key.len() > 4 && key.starts_with("SK"));
    (is_key && !secret.is_empty() && !is_reference(secret) && !is_placeholder(secret)).then_some("twilio-key")
}

/// True if the name says that its value is secret. Beside what is hidden in every record these are short names that mean something else
/// elsewhere, as a file names values more loosely than a protocol does.
fn names_secret(name: &str) -> bool {
    let words = words(name);
    let last = words.last().map_or("", String::as_str);
    let is_header = matches!(words.as_slice(), [.., one, last] if one == "auth" && (last == "header" || last == "value"));
    (is_secret_name(name) || is_header || ["pass", "pw", "pwd", "pat", "psk", "auth"].contains(&last)) && !is_qualified(name)
}

/// True if a name is of something about a secret: `PASSWORD_POLICY`, `TOKEN_URL`.
fn is_qualified(name: &str) -> bool {
    const ABOUT: [&str; 26] = [
        "policy",
        "file",
        "path",
        "dir",
        "url",
        "uri",
        "endpoint",
        "host",
        "type",
        "mode",
        "ttl",
        "length",
        "limit",
        "expiry",
        "expires",
        "timeout",
        "algorithm",
        "provider",
        "store",
        "rotation",
        "strength",
        "count",
        "size",
        "format",
        "method",
        "name",
    ];
    words(name).last().is_some_and(|last| ABOUT.contains(&last.as_str()))
}

/// `MAX_TOKENS`: a number of them.
fn is_amount(name: &str, value: &str) -> bool {
    value.bytes().all(|b| b.is_ascii_digit()) && words(name).last().is_some_and(|last| last == "tokens")
}

/// The words of a name, in small letters: between punctuation, and where a large letter follows a small one.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut word, mut before) = (Vec::new(), String::new(), ' ');
    for c in name.chars() {
        if !word.is_empty() && (!c.is_ascii_alphanumeric() || c.is_ascii_uppercase() && before.is_ascii_lowercase()) {
            words.push(std::mem::take(&mut word));
        }
        if c.is_ascii_alphanumeric() {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

/// The scheme of a header's value (RFC 9110 section 11.4), and what stands behind it.
fn of_scheme(value: &str) -> (Option<&str>, &str) {
    let known = |scheme: &&str| ["bearer", "basic", "token"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    match value.split_once(' ') {
        Some((scheme, rest)) if known(&scheme) => (Some(scheme), rest.trim()),
        _ => (None, value),
    }
}

/// True if the value is put in by the client when it starts the server, so that no secret stands in the file.
fn is_reference(value: &str) -> bool {
    let value = of_scheme(value).1;
    let is_name = |inner: &str| inner.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '{' | '}' | ' '));
    let within = |begins, ends| value.strip_prefix(begins).and_then(|rest: &str| rest.strip_suffix(ends)).is_some_and(is_name);
    value.starts_with('$') || within('{', '}') || within('%', '%') || value.starts_with("op://") || value.contains("${")
}

/// True if it stands where somebody shall put the secret in: `<your-api-key>`, `YOUR_API_KEY_HERE`, `ghp_xxxx`.
fn is_placeholder(value: &str) -> bool {
    if value.starts_with('<') && value.ends_with('>') || value.starts_with('[') && value.ends_with(']') {
        return true;
    }
    let words: Vec<&str> = value.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let is = |word: &str, known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known));
    let is_filler = |word: &str| word.len() > 2 && word.bytes().all(|b| matches!(b, b'x' | b'X' | b'0'));
    let tells =
        words.iter().any(|word| is(word, &["your", "placeholder", "changeme", "redacted"]) || is(word, &["yourapikey", "yourtoken"]));
    let is_there = words.len() > 1 && words.last().is_some_and(|word| is(word, &["here"]));
    let is_filled =
        !words.is_empty() && words.iter().all(|word| is_filler(word) || word.len() <= 6) && words.iter().any(|word| is_filler(word));
    let is_all_dots = value.len() > 2 && value.chars().all(|c| matches!(c, '.' | '*' | '-' | '_' | '…'));
    (tells || is_there) && !words.iter().any(|word| word.len() >= SHORTEST_SEGMENT && is_mixed(word)) || is_filled || is_all_dots
}

/// Long, and letters and digits: no name that people give.
fn is_random(value: &str) -> bool {
    known_token(value).is_some() || value.len() >= SHORTEST_SEGMENT && is_mixed(value)
}

/// `--token-file /run/secrets/x` names a place.
fn is_of_a_path(value: &str) -> bool {
    value.starts_with(['/', '~', '.']) || value.starts_with("file:")
}

/// A name as it is kept.
pub(crate) fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT)).unwrap_or_default().to_owned()
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_VALUE)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef";

    fn of(name: &str, value: &str) -> Option<&'static str> {
        of_member(name, &Value::String(value.to_owned()), MAX_DEPTH)
    }

    /// As an argument, behind another one.
    fn in_argument(before: &str, argument: &str) -> Option<String> {
        let mut secrets = Secrets::default();
        let words = [before, argument];
        secrets.of_argument(0, argument, Some(before), &secrets_in_arguments(&words)[1]);
        secrets.found.pop().map(|found| found.kind.into_owned())
    }

    #[test]
    fn a_secret_is_told_by_the_same_duty_in_a_variable_and_in_an_argument() {
        for value in [
            "postgresql://u:PW@db/x",
            "mysql+aio://u:hunter2@db:3306/x?ssl=1",
            "https://h/x?api_key=hunter2hunter2",
            "https://mcp.zapier.com/api/mcp/s/NzY4ZGFmMTItZmY3Ny00ZmEyOTk4/mcp",
            "host=db user=u password=hunter2hunter2",
            "Bearer hunter2hunter2",
            r#"{"Authorization":"Bearer ntn_hunter2hunter2","Notion-Version":"2022-06-28"}"#,
            &format!("AC{HEX}/SK{HEX}:hunter2hunter2"),
            "ACxxxxxxxx/SKxxxxx:secret",
        ] {
            assert!(of("DATABASE_URI", value).is_some(), "{value}");
            assert!(in_argument("", value).is_some(), "{value}");
        }
        for (name, value) in [
            ("IMAP_PASS", "hunter2hunter2"),
            ("SMTP_PW", "hunter2hunter2"),
            ("smtpPass", "hunter2hunter2"),
            ("X-Auth", "hunter2hunter2"),
            ("AUTH_HEADER", "Bearer hunter2hunter2"),
            ("AUTH_HEADER", "hunter2hunter2"),
            ("GITLAB_PAT", "hunter2hunter2"),
            ("OPENAPI_MCP_HEADERS", r#"{"Authorization":"Bearer hunter2hunter2"}"#),
        ] {
            assert!(of(name, value).is_some(), "{name}={value}");
            assert!(in_argument(&format!("--{name}"), value).is_some(), "--{name} {value}");
        }
        assert_eq!(of_member("SMTP_PASS", &Value::from(1_234_567_890), MAX_DEPTH), Some(BY_NAME));
    }

    #[test]
    fn references_placeholders_and_what_is_about_a_secret_are_none() {
        for (name, value) in [
            ("API_KEY", "<your-api-key>"),
            ("API_KEY", "YOUR_API_KEY_HERE"),
            ("API_KEY", "your-api-key-here"),
            ("API_KEY", "${API_KEY}"),
            ("API_KEY", "{env:API_KEY}"),
            ("API_KEY", "%API_KEY_OF_MINE%"),
            ("API_KEY", "xxxxxxxxxxxxxxxx"),
            ("GITHUB_TOKEN", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
            ("GITHUB_TOKEN", "***********"),
            ("AUTH_HEADER", "Bearer <your-token-here>"),
            ("AUTH_HEADER", "Bearer ${TOKEN}"),
            ("HEADERS", r#"{"Authorization":"Bearer ${TOKEN}","Notion-Version":"2022-06-28"}"#),
            ("CONFIG", r#"{"mode":"fast-and-thorough"}"#),
            ("PASSWORD_POLICY", "strict-and-long"),
            ("TOKEN_URL", "https://h.example/oauth/token"),
            ("MAX_TOKENS", "8192000000"),
            ("DATABASE_URL", "postgresql://u:${PASSWORD}@db/x"),
            ("DATABASE_URL", "postgresql://u:<password>@db/x"),
            ("DATABASE_URL", "postgresql://somebody@db/x"),
            ("TOKEN_FILE", "/run/secrets/token"),
            ("NODE_OPTIONS", "--max-old-space-size=4096"),
            ("COMPASS", "north-by-northwest"),
            ("AUTHOR", "Ada Lovelace of London"),
        ] {
            assert_eq!(of(name, value), None, "{name}={value}");
            assert_eq!(in_argument("", &format!("{name}={value}")), None, "{name}={value}");
        }
        for argument in ["--env=PASSWORD_POLICY=strict-and-long", "--header=Authorization: Bearer <your-token-here>"] {
            assert_eq!(in_argument("", argument), None, "{argument}");
        }
    }

    #[test]
    fn a_path_that_is_a_secret_is_told_and_not_shown_and_a_path_of_words_stays() {
        for (url, shown) in [
            ("https://mcp.zapier.com/api/mcp/s/NzY4ZGFmMTItZmY3Ny00ZmEyOTk4/mcp", "https://mcp.zapier.com/api/mcp/s/***/mcp"),
            ("https://mcp.firecrawl.dev/fc-0123456789abcdef0123456789abcdef/v2/mcp", "https://mcp.firecrawl.dev/***/v2/mcp"),
            (
                "https://mcp.composio.dev/composio/server/123e4567-e89b-12d3-a456-426614174000/mcp?x=1",
                "https://mcp.composio.dev/composio/server/***/mcp?x=1",
            ),
            ("https://h/ghp_0123456789abcdefghijABCDEFGHIJ012345", "https://h/***"),
            ("https://h/s/aB3_dE5-fG7_hI9-jK1_mN2", "https://h/s/***"),
        ] {
            assert_eq!(without_secret_segments(url), shown);
            assert!(of_url(url).is_some() && of_url(&url.replace("https://", "https://u@")).is_some(), "{url}");
        }
        for url in [
            "https://api.githubcopilot.com/mcp/",
            "https://h.example/2025-06-18/my-company-mcp-server-2/v1beta1/sse",
            "https://h.example/ModelContextProtocolServer/mcp",
            "https://h.example/@modelcontextprotocol/server-filesystem/mcp",
            "https://h.example/mcp?profile=standard",
            "https://h.example/${TOKEN}/mcp",
            "https://0123456789abcdef0123.example",
            "/srv/0123456789abcdef0123/x.js",
        ] {
            assert_eq!((without_secret_segments(url).as_ref(), of_url(url)), (url, None));
        }
    }
}
