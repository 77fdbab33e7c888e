//! Command lines without what nobody should find in a log: credentials, and bodies of requests.
//!
//! People and agents put both on command lines, where every user of the host can read them; an event that is kept for
//! weeks and sent to other systems is another matter. This errs towards hiding: a harmless value behind `--token-file` is
//! hidden as well. It knows words, not programs, so a bare password in a place of its own (`mysql -phunter2`) stays.

/// What stands in place of what was hidden.
pub const CONCEALED: &str = "***";

/// Names whose values are hidden, in options, variables and headers.
const SECRET_NAMES: [&str; 13] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "apikey",
    "api-key",
    "api_key",
    "access-key",
    "access_key",
    "credential",
    "authorization",
    "cookie",
];

/// How tokens begin that say themselves what they are.
const TOKEN_PREFIXES: [&str; 9] = ["sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "AKIA", "eyJ"];
/// Tokens are longer than words.
const SHORTEST_TOKEN: usize = 16;

/// The arguments with credentials and JSON bodies replaced by [`CONCEALED`].
#[must_use]
pub fn conceal(arguments: &[String]) -> Vec<String> {
    let mut hide_next = false;
    arguments
        .iter()
        .map(|argument| {
            if std::mem::take(&mut hide_next) && !argument.starts_with('-') {
                return CONCEALED.to_owned();
            }
            hide_next = argument.starts_with('-')
                && !argument.contains('=')
                && (names_secret(argument) || argument == "-u" || argument == "--user");
            one(argument)
        })
        .collect()
}

fn one(argument: &str) -> String {
    // A name and a value: an option, a variable, a header, a field of a form.
    if let Some(at) = argument.find(['=', ':']) {
        let (name, value) = argument.split_at(at + 1);
        if !value.is_empty() && !name.contains(['/', ' ', '{']) && names_secret(name) {
            let space = if value.starts_with(' ') { " " } else { "" };
            return format!("{name}{space}{CONCEALED}");
        }
    }
    let bare = argument.trim_start_matches(|c: char| c.is_whitespace() || c == '[');
    if bare.starts_with("{\"") || bare.starts_with("{ \"") {
        return format!("{{{CONCEALED}}}");
    }
    let mut hide_next = false;
    let words = argument.split(' ').map(|word| {
        if std::mem::take(&mut hide_next) && !word.is_empty() {
            return CONCEALED.to_owned();
        }
        hide_next = word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
        word_of(word)
    });
    words.collect::<Vec<_>>().join(" ")
}

fn word_of(word: &str) -> String {
    // `--key=sk-…` and `name:sk-…`: the token may follow a name that says nothing.
    let start = word.rfind(['=', ':', ',', '"', '\'']).map_or(0, |at| at + 1);
    let (before, token) = word.split_at(start);
    if token.len() >= SHORTEST_TOKEN && TOKEN_PREFIXES.iter().any(|prefix| token.starts_with(prefix)) {
        return format!("{before}{CONCEALED}");
    }
    // RFC 3986 section 3.2.1: user and password of a URL.
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if let Some((user, host)) = authority.rsplit_once('@') {
            let path = &rest[authority.len()..];
            let user = user.split(':').next().unwrap_or_default();
            return format!("{scheme}://{user}:{CONCEALED}@{host}{}", query_concealed(path));
        }
        return format!("{scheme}://{authority}{}", query_concealed(&rest[authority.len()..]));
    }
    word.to_owned()
}

/// A query's values may be anything, as in `url.full` of events.
fn query_concealed(path: &str) -> String {
    match path.split_once('?') {
        Some((path, _)) => format!("{path}?{CONCEALED}"),
        None => path.to_owned(),
    }
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|secret| name.contains(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn concealed(line: &[&str]) -> String {
        conceal(&line.iter().map(ToString::to_string).collect::<Vec<_>>()).join(" ")
    }

    #[test]
    fn credentials_on_command_lines_do_not_reach_events() {
        for (line, left) in [
            (&["curl", "-H", "Authorization: Bearer abc.def", "https://x/y"][..], "curl -H Authorization: *** https://x/y"),
            (&["curl", "-H", "X-Api-Key:abc"], "curl -H X-Api-Key:***"),
            (&["curl", "-u", "ada:lovelace", "https://x"], "curl -u *** https://x"),
            (&["tool", "--password", "hunter2", "run"], "tool --password *** run"),
            (&["tool", "--api-key=hunter2"], "tool --api-key=***"),
            (&["env", "GITHUB_TOKEN=abc", "npm", "start"], "env GITHUB_TOKEN=*** npm start"),
            (&["git", "clone", "https://ada:pw@git.example/x.git"], "git clone https://ada:***@git.example/x.git"),
            (&["tool", "https://x/y?key=1"], "tool https://x/y?***"),
            (&["sh", "-c", "curl -H 'x: Bearer abc' https://x"], "sh -c curl -H 'x: Bearer *** https://x"),
            (&["tool", "--key=sk-0123456789abcdef0123"], "tool --key=***"),
            (&["curl", "-d", "{\"jsonrpc\":\"2.0\",\"params\":{\"path\":\"/etc/passwd\"}}"], "curl -d {***}"),
        ] {
            assert_eq!(concealed(line), left);
        }
    }

    #[test]
    fn ordinary_command_lines_stay_as_they_are() {
        for line in [
            &["node", "agent.js", "--port", "8080"][..],
            &["npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/ada"],
            &["python3", "-m", "http.server", "--bind", "127.0.0.1"],
            &["git", "commit", "-m", "Fix: the parser"],
            &["docker", "run", "-d", "image:tag"],
            &["tool", "--secret", "--verbose"],
        ] {
            assert_eq!(concealed(line), line.join(" "));
        }
    }
}
