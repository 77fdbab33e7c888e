//! Command lines without what must not appear in a log: credentials, and bodies of requests.
//!
//! People and agents put both on command lines, where every user of the host can read them; an event that is kept for
//! weeks and sent to other systems is another matter. This errs towards hiding: a harmless value behind `--token-file` is
//! hidden as well. An argument with white space in it is read as the command line that it mostly is (`sh -c '…'`). It knows words, not
//! programs, so a bare password in a place of its own (`mysql -phunter2`), or one that begins with `-`, stays.

pub use gnomon_observe::CONCEALED;
use gnomon_observe::is_secret_name;

/// Prefixes of tokens that can be told by them.
const TOKEN_PREFIXES: [&str; 9] = ["sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-", "xoxb-", "AKIA", "eyJ"];
/// Tokens are longer than words.
const SHORTEST_TOKEN: usize = 16;

/// The depth to which command lines within arguments are parsed: `sudo sh -c "ssh host 'curl …'"` has three.
const DEEPEST: usize = 4;

/// The arguments with credentials and JSON bodies replaced by [`CONCEALED`].
#[must_use]
pub fn conceal(arguments: &[String]) -> Vec<String> {
    let mut hides = Hides::default();
    arguments.iter().map(|argument| hides.argument(argument, DEEPEST)).collect()
}

/// The next word is a value to be hidden, or not.
#[derive(Default)]
struct Hides {
    next: bool,
}

impl Hides {
    fn argument(&mut self, argument: &str, depth: usize) -> String {
        if std::mem::take(&mut self.next) && !argument.starts_with('-') {
            return CONCEALED.to_owned();
        }
        self.next = is_bearer(argument)
            || argument.starts_with('-')
                && !argument.contains(['=', ' '])
                && (is_secret_name(argument) || argument == "-u" || argument == "--user");
        one(argument, depth)
    }
}

fn is_bearer(word: &str) -> bool {
    word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic")
}

fn one(argument: &str, depth: usize) -> String {
    if let Some(hidden) = value_hidden(argument) {
        return hidden;
    }
    if is_json(argument) {
        return format!("{{{CONCEALED}}}");
    }
    // A shell command, a header, a sentence.
    if argument.contains(char::is_whitespace) && depth > 0 {
        return line(argument, depth - 1);
    }
    // An address with its query to the end, behind fields of a form.
    let (form, address) = argument.split_at(scheme(argument).unwrap_or(argument.len()));
    let fields = form.split('&').map(|field| value_hidden(field).unwrap_or_else(|| token_hidden(field)));
    fields.collect::<Vec<_>>().join("&") + &address_hidden(address)
}

/// A name and a value: an option, a variable, a header, a field of a form.
fn value_hidden(text: &str) -> Option<String> {
    let at = text.find(['=', ':'])?;
    let (name, value) = text.split_at(at + 1);
    let hides = !value.is_empty() && !name.contains(['/', ' ', '{']) && is_secret_name(name);
    // Hiding only the first of several form fields would not be enough.
    let (value, rest) = if name.ends_with('=') { value.split_at(value.find('&').unwrap_or(value.len())) } else { (value, "") };
    let space = if value.starts_with(' ') { " " } else { "" };
    (hides && rest.is_empty()).then(|| format!("{name}{space}{CONCEALED}"))
}

fn is_json(text: &str) -> bool {
    let bare = text.trim_start_matches(|c: char| c.is_whitespace() || c == '[');
    bare.starts_with("{\"") || bare.starts_with("{ \"") || bare.starts_with("{\\\"")
}

/// A command line in one argument, word by word as a shell would have them, what is around them as it is.
fn line(text: &str, depth: usize) -> String {
    let (mut said, mut rest, mut hides) = (String::with_capacity(text.len()), text, Hides::default());
    while !rest.is_empty() {
        let spaces = rest.len() - rest.trim_start().len();
        said.push_str(&rest[..spaces]);
        rest = &rest[spaces..];
        if is_json(rest) {
            // Up to the last possible end of the JSON.
            rest = rest.rfind('}').map_or("", |end| &rest[end + 1..]);
            said.push_str(&format!("{{{CONCEALED}}}"));
            continue;
        }
        let (word, after) = rest.split_at(end_of_word(rest));
        rest = after;
        said.push_str(&match quoted(word) {
            Some((quote, within)) => format!("{quote}{}{quote}", hides.argument(within, depth)),
            None if word.is_empty() => String::new(),
            None => hides.argument(word, depth),
        });
    }
    said
}

/// The end of the first word: white space outside of quotes. Quotes that are not closed are letters.
fn end_of_word(text: &str) -> usize {
    let (mut quote, mut escaped) = (None, false);
    for (at, c) in text.char_indices() {
        match quote {
            _ if std::mem::take(&mut escaped) => {}
            Some('"') | None if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c.is_whitespace() => return at,
            None if matches!(c, '"' | '\'') && text[at + 1..].contains(c) => quote = Some(c),
            None => {}
        }
    }
    text.len()
}

/// The quote and content of a word that is quoted as a whole.
fn quoted(word: &str) -> Option<(char, &str)> {
    let quote = word.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let within = word.get(1..word.len().checked_sub(1)?)?;
    (word.ends_with(quote) && !within.contains(quote)).then_some((quote, within))
}

fn token_hidden(word: &str) -> String {
    // `--key=sk-…` and `name:sk-…`: the token may follow a name that says nothing.
    let start = word.rfind(['=', ':', ',', '"', '\'']).map_or(0, |at| at + 1);
    let (before, token) = word.split_at(start);
    let is_token = token.len() >= SHORTEST_TOKEN && TOKEN_PREFIXES.iter().any(|prefix| token.starts_with(prefix));
    if is_token { format!("{before}{CONCEALED}") } else { word.to_owned() }
}

/// The beginning of the first URL's scheme (RFC 3986 section 3.1).
fn scheme(text: &str) -> Option<usize> {
    let end = text.find("://")?;
    let is_scheme = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    Some(text[..end].rfind(|c| !is_scheme(c)).map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8)))
}

/// A URL without the password (RFC 3986 section 3.2.1) and the query, and those that follow it in the same word.
fn address_hidden(text: &str) -> String {
    let Some((scheme_name, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (path, more) = rest[authority.len()..].split_at(scheme(&rest[authority.len()..]).unwrap_or(rest.len() - authority.len()));
    let path = path.split('/').map(token_hidden).collect::<Vec<_>>().join("/");
    let (path, more) = match path.split_once('?') {
        Some(_) => (query_concealed(&path), String::new()),
        None => (path, address_hidden(more)),
    };
    match authority.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme_name}://{user}:{CONCEALED}@{host}{path}{more}")
        }
        None => format!("{scheme_name}://{authority}{path}{more}"),
    }
}

/// A query's values may be anything, as in `url.full` of events.
fn query_concealed(path: &str) -> String {
    match path.split_once('?') {
        Some((path, _)) => format!("{path}?{CONCEALED}"),
        None => path.to_owned(),
    }
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
            (&["tool", "https://x/y?a=1&X-Amz-Signature=2&code=3"], "tool https://x/y?***"),
            (&["tool", "https://x/?redirect=https://y/z&code=3"], "tool https://x/?***"),
            (&["tool", "https://ada:hunter&2@x/y"], "tool https://ada:***@x/y"),
            (&["tool", "https://ada:pw@x/y?t=eyJhbGciOiJIUzI1NiJ9"], "tool https://ada:***@x/y?***"),
            (&["tool", "--mirrors=https://ada:pw@x/y,https://eve:pw@z/"], "tool --mirrors=https://ada:***@x/y,https://eve:***@z/"),
            (&["tool", "https://x/hooks/ghp_0123456789abcdef"], "tool https://x/hooks/***"),
            (&["curl", "-d", "password=b&to=https://x/?a=1&b=2"], "curl -d password=***&to=https://x/?***"),
            (&["sh", "-c", "curl -H 'x: Bearer abc' https://x"], "sh -c curl -H 'x: Bearer ***' https://x"),
            (&["bash", "-lc", "tool --password hunter2 run"], "bash -lc tool --password *** run"),
            (&["sh", "-c", "cd /srv && export API_TOKEN=abc; npm start"], "sh -c cd /srv && export API_TOKEN=*** npm start"),
            (&["sh", "-c", "curl -H \"X-Api-Key: abc\" https://x"], "sh -c curl -H \"X-Api-Key: ***\" https://x"),
            (&["sh", "-c", "curl -d '{\"params\": {\"path\": \"/etc/passwd\"}}' https://x"], "sh -c curl -d '{***}' https://x"),
            (&["sh", "-c", "curl -d {\"a\": \"b c\"} https://x"], "sh -c curl -d {***} https://x"),
            (&["sh", "-c", "sudo sh -c 'curl -u ada:lovelace https://x?y=1'"], "sh -c sudo sh -c 'curl -u *** https://x?***'"),
            (&["sh", "-c", "psql 'host=db password=hunter2 user=ada'"], "sh -c psql 'host=db password=*** user=ada'"),
            (&["curl", "-d", "user=a&password=b", "https://x"], "curl -d user=a&password=*** https://x"),
            (&["curl", "-d", "password=b&user=a"], "curl -d password=***&user=a"),
            (&["curl", "-H", "Authorization:", "Bearer", "abc"], "curl -H Authorization: Bearer ***"),
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
            &["sh", "-c", "cd /srv && make test | tee 'a log' > it\\'s.txt"],
            &["git", "commit", "-m", "Don't break: it's fine"],
            &["awk", "{ print $1 }"],
        ] {
            assert_eq!(concealed(line), line.join(" "));
        }
    }
}
