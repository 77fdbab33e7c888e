//! The servers that a client's configuration file lists. What is secret in it never leaves this module: of environment, headers and arguments
//! names and places are kept, and that something stands there which looks like a secret.

use crate::{
    at_most::AtMost,
    launch::{self, Launch},
    secrets::{MAX_NAMES, SecretAt, Secrets, bounded, without_secret_segments},
};
use gnomon_observe::{secrets_in_arguments, without_secrets};
use gnomon_packs::ConfigFormat;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest file that is read, in bytes.
pub const MAX_FILE: usize = 4 << 20;
/// The most servers that are kept of one file.
pub const MAX_SERVERS: usize = 256;
/// How much of an argument is looked at for secrets, in bytes.
const MAX_ARGUMENT: usize = 4096;

/// A server as a file lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedServer {
    /// The name that the file gives it.
    pub name: String,
    /// How a client reaches it.
    pub reached: Reached,
    /// False where the file says that it is not used.
    pub enabled: bool,
    /// The names of the variables that it is given, sorted.
    pub environment: Vec<String>,
    /// The names of the headers that it is sent, sorted.
    pub headers: Vec<String>,
    /// Where secrets stand in the file itself: `env.GITHUB_TOKEN`, `headers.Authorization`, `args[3]`, `url`.
    pub secrets: Vec<SecretAt>,
}

/// How a client reaches a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reached {
    /// Started by the client, and talked to over its standard streams.
    Stdio(Launch),
    /// At this URL, without user, query and fragment, and with `***` in the place of a segment of its path that looks like a secret.
    Url(String),
}

impl ListedServer {
    /// The same within the bounds that hold for what was read here: somebody else may have written it.
    pub(crate) fn within_bounds(&mut self) {
        self.name = bounded(&self.name);
        match &mut self.reached {
            Reached::Stdio(launch) => launch.within_bounds(),
            Reached::Url(url) => *url = place_of(url),
        }
        for names in [&mut self.environment, &mut self.headers] {
            names.truncate(MAX_NAMES);
            names.iter_mut().for_each(|name| *name = bounded(name));
        }
        self.secrets.truncate(MAX_NAMES);
        for secret in &mut self.secrets {
            *secret = SecretAt { place: bounded(&secret.place), kind: bounded(&secret.kind).into() };
        }
    }
}

/// Why a file's servers are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// It is larger than [`MAX_FILE`].
    #[error("it is larger than {MAX_FILE} bytes")]
    TooLarge,
    /// It is not of its format. The reason is not repeated, as it may quote the file.
    #[error("it is not valid {0}")]
    Malformed(&'static str),
}

/// The servers that a file lists, [`MAX_SERVERS`] at most. `servers_key` is the key under which its client keeps them, `a.b` for one within another; empty where
/// it is not known, and the usual ones are tried.
///
/// # Errors
/// [`Unread`].
pub fn listed(format: ConfigFormat, servers_key: &str, bytes: &[u8]) -> Result<AtMost<ListedServer, MAX_SERVERS>, Unread> {
    let document = document(format, bytes)?;
    let keys = if servers_key.is_empty() { USUAL_KEYS } else { &[servers_key] };
    // Claude Code keeps those of each project in the user's file.
    let projects = document.get("projects").and_then(Value::as_object).into_iter().flat_map(Map::values);
    let lists = std::iter::once(&document).chain(projects).flat_map(|holder| keys.iter().filter_map(|key| under(holder, key)));
    let mut servers = AtMost::new();
    for server in lists.flat_map(entries).filter_map(|(name, entry)| server(name, entry)) {
        servers.push(server);
        if servers.has_more() {
            break;
        }
    }
    Ok(servers)
}

/// Keys of clients whose own is not known.
const USUAL_KEYS: &[&str] = &["mcpServers", "mcp.servers", "mcp_servers", "context_servers", "servers"];

/// A file's content, whatever its format.
pub(crate) fn document(format: ConfigFormat, bytes: &[u8]) -> Result<Value, Unread> {
    if bytes.len() > MAX_FILE {
        return Err(Unread::TooLarge);
    }
    let text = |name: &'static str| std::str::from_utf8(bytes).map_err(|_| Unread::Malformed(name));
    match format {
        ConfigFormat::Json => {
            let text = text("JSON")?.trim_start_matches('\u{feff}');
            // Clients take comments and trailing commas. Nesting is bounded by the parser (512).
            let parsed = jsonc_parser::parse_to_serde_value::<Value>(text, &jsonc_parser::ParseOptions::default());
            parsed.map_err(|_| Unread::Malformed("JSON"))
        }
        ConfigFormat::Toml => toml::from_str(text("TOML")?).map_err(|_| Unread::Malformed("TOML")),
        ConfigFormat::Yaml => serde_saphyr::from_str(text("YAML")?).map_err(|_| Unread::Malformed("YAML")),
    }
}

/// What stands under a key, as it is written, else as the way to it.
fn under<'v>(holder: &'v Value, key: &str) -> Option<&'v Value> {
    holder.get(key).or_else(|| key.contains('.').then(|| key.split('.').try_fold(holder, |holder, part| holder.get(part)))?)
}

/// The entries of a list of servers: a mapping by name, or a sequence of entries that name themselves.
fn entries(list: &Value) -> Box<dyn Iterator<Item = (&str, &Map<String, Value>)> + '_> {
    match list {
        Value::Object(by_name) => Box::new(by_name.iter().filter_map(|(name, entry)| Some((name.as_str(), entry.as_object()?)))),
        Value::Array(all) => {
            let named = all.iter().filter_map(Value::as_object);
            Box::new(named.map(|entry| (entry.get("name").and_then(Value::as_str).unwrap_or_default(), entry)))
        }
        _ => Box::new(std::iter::empty()),
    }
}

/// Reads an entry; none where it neither starts anything nor names a URL.
fn server(name: &str, entry: &Map<String, Value>) -> Option<ListedServer> {
    let mut secrets = Secrets::default();
    let first = |keys: &[&str]| keys.iter().find_map(|key| entry.get(*key)).filter(|value| !value.is_null());
    let command = first(&["command", "cmd"]);
    let url = first(&["url", "httpUrl", "serverUrl", "uri", "endpoint"]).and_then(Value::as_str);
    let reached = match command.and_then(|command| arguments(command, entry)) {
        Some(arguments) => {
            let bounded: Vec<&str> = arguments.iter().map(|argument| cut(argument, MAX_ARGUMENT)).collect();
            for (at, (argument, places)) in bounded.iter().zip(secrets_in_arguments(&bounded)).enumerate().skip(1) {
                secrets.of_argument(at - 1, argument, bounded.get(at - 1).copied(), &places);
            }
            Reached::Stdio(launch::launch(&arguments)?)
        }
        None => {
            let url = url?;
            secrets.of_url(url);
            Reached::Url(place_of(url))
        }
    };
    let environment = secrets.of_members("env", first(&["env", "envs", "environment"]));
    let headers = secrets.of_members("headers", first(&["headers", "http_headers", "requestOptions"]));
    let says = |key: &str| entry.get(key).and_then(Value::as_bool);
    let enabled = says("enabled").unwrap_or(true) && !says("disabled").unwrap_or(false);
    Some(ListedServer { name: bounded(name), reached, enabled, environment, headers, secrets: secrets.found })
}

/// The whole argument vector: `command` is the program, all of it as a list, or (Zed) a mapping with `path`.
fn arguments(command: &Value, entry: &Map<String, Value>) -> Option<Vec<String>> {
    let texts = |value: Option<&Value>| -> Vec<String> {
        let list = value.and_then(Value::as_array).into_iter().flatten();
        list.map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect()
    };
    let (program, rest) = match command {
        Value::String(program) if !program.trim().is_empty() => (program.clone(), texts(entry.get("args"))),
        Value::Array(_) => {
            let mut all = texts(Some(command));
            if all.is_empty() {
                return None;
            }
            (all.remove(0), all)
        }
        Value::Object(zed) => (zed.get("path")?.as_str()?.to_owned(), texts(zed.get("args"))),
        _ => return None,
    };
    // Some write the whole line as the program.
    let mut all = match shlex::split(&program) {
        Some(words) if rest.is_empty() && words.len() > 1 && !program.starts_with('/') => words,
        _ => vec![program],
    };
    all.extend(rest);
    Some(all)
}

/// A URL without what may be secret in it. Of its path what looks like a name stays.
fn place_of(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    bounded(&without_secret_segments(&without_secrets(url).replace("***@", "")))
}

fn cut(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GITHUB: &str = "ghp_0123456789abcdefghijABCDEFGHIJ012345";

    fn names(servers: &[ListedServer]) -> Vec<&str> {
        servers.iter().map(|server| server.name.as_str()).collect()
    }

    fn package(server: &ListedServer) -> &str {
        match &server.reached {
            Reached::Stdio(launch) => launch.name(),
            Reached::Url(url) => url,
        }
    }

    #[test]
    fn each_client_s_way_of_listing_servers_is_read() {
        for (format, key, text, expected) in [
            (ConfigFormat::Json, "mcpServers", r#"{"mcpServers":{"fs":{"command":"npx","args":["-y","server-fs"]}}}"#, "server-fs"),
            (
                ConfigFormat::Json,
                "mcpServers",
                "{// mine\n\"mcpServers\":{\"a\":{\"type\":\"http\",\"url\":\"https://h/mcp\",},},}",
                "https://h/mcp",
            ),
            (ConfigFormat::Json, "servers", r#"{"servers":{"a":{"type":"stdio","command":"uvx","args":["server-a"]}}}"#, "server-a"),
            (ConfigFormat::Json, "", r#"{"mcp":{"servers":{"a":{"command":"uvx server-a"}}}}"#, "server-a"),
            (ConfigFormat::Json, "amp.mcpServers", r#"{"amp.mcpServers":{"a":{"command":"docker","args":["run","-i","img"]}}}"#, "img"),
            (ConfigFormat::Json, "mcp", r#"{"mcp":{"a":{"type":"local","command":["npx","-y","p"]}}}"#, "p"),
            (ConfigFormat::Json, "context_servers", r#"{"context_servers":{"a":{"command":{"path":"/opt/a","args":[]}}}}"#, "a"),
            (ConfigFormat::Json, "mcpServers", r#"{"projects":{"/srv":{"mcpServers":{"a":{"command":"/opt/b"}}}}}"#, "b"),
            (ConfigFormat::Json, "mcpServers", r#"{"mcpServers":{"a":{"httpUrl":"https://h/x"}}}"#, "https://h/x"),
            (ConfigFormat::Toml, "mcp_servers", "[mcp_servers.a]\ncommand = 'npx'\nargs = ['-y', 'p']\n", "p"),
            (ConfigFormat::Toml, "mcp_servers", "[[mcp_servers]]\nname = 'a'\ntransport = 'http'\nurl = 'https://h/x'\n", "https://h/x"),
            (ConfigFormat::Yaml, "mcpServers", "mcpServers:\n  - name: a\n    command: npx\n    args: [-y, p]\n", "p"),
            (
                ConfigFormat::Yaml,
                "extensions",
                "extensions:\n  a: {type: stdio, cmd: uvx, args: [p], envs: {}}\n  b: {type: builtin}\n",
                "p",
            ),
        ] {
            let servers = listed(format, key, text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            let [server] = &servers[..] else { panic!("{text}: {servers:?}") };
            assert_eq!(package(server), expected, "{text}");
            assert!(server.enabled && server.secrets.is_empty(), "{text}: {server:?}");
        }
    }

    #[test]
    fn that_a_secret_stands_in_a_file_is_told_with_its_place_and_never_the_secret() {
        let text = format!(
            r#"{{"mcpServers":{{
                "a":{{"command":"npx","args":["-y","p","--api-key","hunter2hunter2","--header","Authorization: Bearer {GITHUB}"],
                     "env":{{"GITHUB_TOKEN":"{GITHUB}","X_SECRET":"hunter2hunter2","HOME":"/srv","B_TOKEN":"${{env:B}}"}}}},
                "aa":{{"command":"TOKEN=hunter2hunter2 docker","args":["run","--env=API_TOKEN=hunter2hunter2","--header=Cookie:hunter2hunter2","img",
                     "https://h/x#access_token=hunter2hunter2","--env=B_TOKEN=${{B}}","https://h/x?profile=standard"]}},
                "b":{{"url":"https://ada:hunter2@h/mcp?api_key=hunter2hunter2","headers":{{"Authorization":"Bearer {GITHUB}","Accept":"x"}},"disabled":true}}
            }}}}"#
        );
        let servers = listed(ConfigFormat::Json, "mcpServers", text.as_bytes()).unwrap();
        fn found(server: &ListedServer) -> Vec<(&str, &str)> {
            server.secrets.iter().map(|one| (&*one.place, &*one.kind)).collect()
        }
        let expected = [
            ("args[3]", "secret-by-name"),
            ("args[5]", "github-token"),
            ("env.GITHUB_TOKEN", "github-token"),
            ("env.X_SECRET", "secret-by-name"),
        ];
        assert_eq!(found(&servers[0]), expected);
        let [_, with_options, remote] = &servers[..] else { panic!("{servers:?}") };
        let by_name = |place| (place, "secret-by-name");
        assert_eq!(found(with_options), [by_name("args[1]"), by_name("args[2]"), by_name("args[4]")]);
        assert_eq!(found(remote), [("url", "secret-by-name"), ("headers.Authorization", "github-token")]);
        assert_eq!((servers[0].environment.len(), remote.headers.len(), remote.enabled), (4, 2, false));
        assert_eq!(remote.reached, Reached::Url("https://h/mcp".to_owned()));
        let shown = serde_json::to_string(&servers[..]).unwrap();
        assert!(!shown.contains("hunter2") && !shown.contains(&GITHUB[4..]), "{shown}");
    }

    #[test]
    fn a_secret_in_the_path_of_a_url_is_told_and_is_in_nothing_that_is_kept() {
        let secret = "NzY4ZGFmMTItZmY3Ny00ZmEyOTk4";
        let text = format!(
            r#"{{"mcpServers":{{"z":{{"url":"https://mcp.zapier.com/api/mcp/s/{secret}/mcp"}},
                "a":{{"command":"npx","args":["-y","mcp-remote@1.0.0","https://mcp.zapier.com/api/mcp/s/{secret}/mcp"]}},
                "p":{{"command":"npx","args":["-y","https://h/{secret}/mcp.tgz"]}},
                "d":{{"command":"deno","args":["run","https://h/{secret}/mcp.ts"],"env":{{"DATABASE_URI":"postgresql://u:PW@db/x"}}}}}}}}"#
        );
        let servers = listed(ConfigFormat::Json, "mcpServers", text.as_bytes()).unwrap();
        let places: Vec<Vec<&str>> = servers.iter().map(|server| server.secrets.iter().map(|one| &*one.place).collect()).collect();
        let of = |name: &str| places[names(&servers).iter().position(|known| *known == name).unwrap()].clone();
        assert_eq!(
            (of("z"), of("a"), of("p"), of("d")),
            (vec!["url"], vec!["args[2]"], vec!["args[1]"], vec!["args[1]", "env.DATABASE_URI"])
        );
        let shown = serde_json::to_string(&servers[..]).unwrap();
        assert!(!shown.contains(secret) && shown.contains("https://mcp.zapier.com/api/mcp/s/***/mcp"), "{shown}");
    }

    #[test]
    fn a_file_that_is_a_trap_is_refused_and_its_text_is_not_repeated() {
        let deep = format!("{{\"mcpServers\":{}", "[".repeat(100_000));
        let aliases = format!(
            "a: &a [x]\n{}mcpServers: *z\n",
            (b'a'..=b'y')
                .map(|c| format!("{}: &{} [*{c}, *{c}, *{c}, *{c}, *{c}]\n", (c + 1) as char, (c + 1) as char, c = c as char))
                .collect::<String>()
        );
        for (format, text) in [
            (ConfigFormat::Json, deep.as_str()),
            (ConfigFormat::Json, "{\"mcpServers\": hunter2"),
            (ConfigFormat::Toml, "mcp_servers = hunter2"),
            (ConfigFormat::Yaml, "mcpServers: [hunter2"),
            (ConfigFormat::Yaml, aliases.as_str()),
        ] {
            let error = listed(format, "mcpServers", text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert_eq!(listed(ConfigFormat::Json, "", &vec![b' '; MAX_FILE + 1]), Err(Unread::TooLarge));
        let many: String = (0..10_000).map(|n| format!("\"s{n}\":{{\"command\":\"x\"}},")).collect();
        let of_many = listed(ConfigFormat::Json, "mcpServers", format!("{{\"mcpServers\":{{{many}}}}}").as_bytes()).unwrap();
        assert_eq!((of_many.len(), of_many.has_more()), (MAX_SERVERS, true));
        // Projects without any take no place.
        let projects: String = (0..1000).map(|n| format!("\"/p{n:04}\":{{}},")).collect();
        let text = format!(r#"{{"projects":{{{projects}"/z":{{"mcpServers":{{"a":{{"command":"x"}}}}}}}}}}"#);
        assert_eq!(names(&listed(ConfigFormat::Json, "mcpServers", text.as_bytes()).unwrap()), ["a"]);
        assert_eq!(
            names(&listed(ConfigFormat::Json, "mcpServers", br#"{"mcpServers":{"a":5,"b":{},"c":{"command":"x"}}}"#).unwrap()),
            ["c"]
        );
    }

    proptest! {
        #[test]
        fn no_secret_of_any_place_is_in_what_is_kept(secret in "[a-zA-Z0-9]{20,40}", name in "[A-Z_]{1,12}") {
            let text = serde_json::json!({"mcpServers": {
                "a": {"command": "npx", "args": ["-y", "p", format!("--token={secret}"), "--key", secret], "env": {name: secret}},
                "c": {"command": format!("env TOKEN={secret} npx"), "args": ["-y", "p"]},
                "d": {"command": format!("TOKEN={secret} npx -y p")},
                "e": {"command": "node", "args": [format!("https://u:{secret}@h/x.js#{secret}")]},
                "f": {"command": format!("https://h/run?any={secret}"), "args": [format!("--header=Cookie:{secret}"), format!("--env=TOKEN={secret}")]},
                "h": {"command": "npx", "args": ["-y", format!("p@https://u:{secret}@h/p.tgz")]},
                "g": {"command": "uvx", "args": ["--from", format!("p @ https://u:{secret}@h/p.whl"), "p"]},
                "b": {"url": format!("https://u:{secret}@h/x?token={secret}"), "headers": {"X-Api-Key": secret}},
            }}).to_string();
            let servers = listed(ConfigFormat::Json, "mcpServers", text.as_bytes()).unwrap();
            prop_assert_eq!(servers.len(), 8);
            prop_assert!(!serde_json::to_string(&servers[..]).unwrap().contains(&secret));
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for format in [ConfigFormat::Json, ConfigFormat::Toml, ConfigFormat::Yaml] {
                let _ = listed(format, "", &bytes);
            }
        }
    }
}
