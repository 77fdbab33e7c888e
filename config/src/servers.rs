//! The MCP servers that portals offer: where they are, and what proves to them who we are.

pub mod programs;

use crate::{
    Check, ConfigError, NamedSecret, OpenApi, SecretRef,
    declare::{Absent as _, Form, Many, Maybe, Part, Show, mapping, section},
    exports::NamedSecrets,
    forms::{FilePath, FilePaths, NeededText, OwnText, Secret, Text, Variables, Word, words, written},
    keys::Shape,
    labels,
    openapi::OpenApiSource,
    raw,
};
use gnomon_confine::{Demand, Network};
use gnomon_portal::Labels;
use gnomon_upstream::Transport;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header::AUTHORIZATION};
use programs::{Limits, Pinning, Variable};
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;
use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

/// Longest id of a server or a portal.
const LONGEST_ID: usize = 32;

words! { Transport: "either" => Either, "streamable" => Streamable, "sse" => Sse }

mapping! {
    struct ServerSource at "servers[]." {
        by hand ServerKeys {
            /// A name for an MCP server: lower-case letters, digits and `-`, at most 32. Tools of several servers are shown as
            /// `ID_TOOL`, so it has no `_`.
            id as NeededText, needed: true, sample "docs";
            /// The server's URL: `https://` or `http://`. Credentials do not belong here. A server has this or `command`.
            url as OwnText, without "none", sample "'https://docs.example/mcp'";
            openapi as Maybe<OpenApiSource>;
            /// Labels of tools, by the server's own names: `alias` (letters and digits with single `_` or `-` between them, at most 40),
            /// `description` (at most 8192 bytes) and `enabled`: a tool that is `false` is neither listed nor callable. Policy, rules, events
            /// and audit keep to the server's own names.
            tools as Labelled, without "as the server has them", sample "{create_issue: {alias: open-ticket, description: Opens a ticket of our help desk.}, delete_repo: {enabled: false}}";
            /// The same for prompts.
            prompts as Labelled, without "as the server has them", sample "{review: {alias: code-review}}";
        }

        /// Transport of a server with a URL, and the credentials of one with a URL or a document.
        pub struct Remote, written RemoteSource, with (check) {
            /// Streamable HTTP, the HTTP+SSE transport of 2024-11-05, or whichever the server has: HTTP+SSE is tried where a POST
            /// is answered with 404, 405 or 406.
            transport: Transport as Word<Transport> = Transport::Either;
            /// The credentials that it is sent.
            auth: Auth as Part<Auth>;
        }

        /// A program on this host.
        pub struct Program, written ProgramSource, with (check) {
            /// A server on standard input and output that gnomon runs: the program (a path relative to this file, or a name in `PATH`) and
            /// its arguments. Paths in it may be read. See [portal-servers.md](../portal-servers.md).
            command: Vec<String> as Command, without "none", sample "[/opt/mcp/files-server, /srv/shared]";
            /// Digests of the program, verified before each start: `sha256` of the file, `files` with further paths and their SHA-256, or
            /// `package: name@version` and `lockfile` for `npx` and `uv run`. A launcher without `package` is refused unless this is
            /// `unpinned`.
            pin: Pinning as Pinned, without "nothing, with a warning", sample "{sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}";
            /// Variables of the program, at most 64; it gets none of gnomon's. A value `file:/path` (first line), `env:NAME` or
            /// `credential:NAME` (systemd) refers to a secret; secrets are redacted in what the program writes to the log.
            env: Vec<(String, Variable)> as Variables, without "none", sample "{LOG_LEVEL: info, API_KEY: 'file:/etc/gnomon/files-key'}";
            /// The program's working directory. It may be read. Relative to this file.
            cwd: Option<PathBuf> as FilePath, without "a folder of its own", sample "/srv/shared";
            /// Paths that the program may read and execute, with all below them, besides the system's programs and libraries and those that
            /// `command` names. Relative to this file. A path that holds the state folder, this file or a secret is refused.
            read: Vec<PathBuf> as FilePaths, without "none", sample "[/opt/mcp/lib]";
            /// Paths that it may read and change, with all below them. Relative to this file.
            write: Vec<PathBuf> as FilePaths, without "none", sample "[/srv/shared]";
            /// The program's network access: none, any address over IPv4 and IPv6 (this host's own services included), or the local sockets
            /// of this host as well.
            network: Network as Word<Network> = Network::None, sample "internet";
            /// The user that the program runs as where gnomon runs as root, by name or number: by default a number of its own from 61184 on,
            /// which has no name. Elsewhere it runs as gnomon's own user.
            user: Option<String> as Text, without "a user of its own", sample "mcp";
            /// Required confinement: refuse to run the program where the kernel cannot restrict its files and system calls, or run it with
            /// whatever there is.
            confine: Demand as Word<Demand> = Demand::Enforced;
            /// The bounds of one instance.
            limits: Limits as Part<Limits>;
        }
    }
}

section! {
    /// The credentials that a server is sent.
    pub struct Auth, written AuthKeys at "servers[].auth." {
        /// The token that the portal sends to the server: `file:/path` (first line), `env:NAME`, or `credential:NAME` (systemd). Clients
        /// never see it, and the server never sees a client's.
        bearer: Option<SecretRef> as Secret, without "none", sample "'file:/etc/gnomon/docs-token'";
        /// `NAME=SECRET` for each header that the portal sends to the server, at most 16; secrets are named as above.
        headers: Vec<NamedSecret> as NamedSecrets, without "none", sample "['X-Api-Key=env:DOCS_KEY']";
    }
}

written! {
    /// A program and its arguments.
    Command: Option<Spanned<Vec<Spanned<String>>>>, Shape::Texts;
    /// The pins of a program, or a word.
    Pinned: Option<Spanned<raw::PinSource>>, Shape::Pin;
    /// Labels of entries, by the entries' names.
    Labelled: BTreeMap<String, Spanned<raw::Label>>, Shape::Labels;
}

/// A registered MCP server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its id.
    pub id: String,
    /// A URL, a program, or an API.
    pub at: At,
    /// Its transport and credentials, where it is reached over HTTP.
    pub remote: Remote,
    /// The labels of its tools and prompts.
    pub labels: Labels,
}

/// The kind of a server: a URL, a program, or an API.
#[derive(Clone, Debug)]
pub enum At {
    /// A server at this URL.
    Url(String),
    /// A program, which gnomon runs.
    Program(Box<Program>),
    /// An HTTP API that a document describes.
    Api(Box<OpenApi>),
}

impl Server {
    /// The headers that prove who we are.
    ///
    /// # Errors
    /// When a secret cannot be read, or can be in no header.
    pub fn credentials(&self) -> Result<HeaderMap, ConfigError> {
        let value = |secret: &SecretRef, text: String| {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| ConfigError::new(format!("the secret {secret} of server `{}` cannot be in a header", self.id)))?;
            value.set_sensitive(true);
            Ok::<_, ConfigError>(value)
        };
        let mut headers = HeaderMap::new();
        if let Some(bearer) = &self.remote.auth.bearer {
            headers.insert(AUTHORIZATION, value(bearer, format!("Bearer {}", bearer.fetch()?))?);
        }
        for NamedSecret { name, secret } in &self.remote.auth.headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| ConfigError::new(format!("`{name}` is not the name of a header")))?;
            headers.insert(name, value(secret, secret.fetch()?)?);
        }
        Ok(headers)
    }

    /// The host and port of its URL, if it has one.
    pub fn place(&self) -> Option<(String, u16)> {
        match &self.at {
            At::Url(url) => place(url),
            // An API is no MCP server: what is found at its address is not what the portal offers.
            At::Program(_) | At::Api(_) => None,
        }
    }

    /// Its entry without its labels: what it is reached by.
    pub fn entry(&self) -> Value {
        Self { labels: Labels::default(), ..self.clone() }.to_json()
    }

    fn to_json(&self) -> Value {
        let of_its_kind = match &self.at {
            At::Url(url) => [json!({"url": url}), self.remote.show()],
            At::Program(program) => [program.show(), json!({})],
            At::Api(api) => [json!({"openapi": api.show()}), json!({"auth": Part::<Auth>::show(&self.remote.auth)})],
        };
        let mut shown = Map::from_iter([("id".to_owned(), self.id.as_str().into())]);
        for keys in of_its_kind.into_iter().chain([labels::show(&self.labels).into()]) {
            if let Value::Object(keys) = keys {
                shown.extend(keys);
            }
        }
        shown.into()
    }
}

/// The host and port of a URL that was checked when it was read.
pub(crate) fn place(url: &str) -> Option<(String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
    Some((host, uri.port_u16().unwrap_or(usual)))
}

impl Form<Vec<Server>> for Many<ServerSource> {
    /// They are read before the rest, together with the portals: see [`crate::Config::parse`].
    fn read(_: Self::Source, default: Vec<Server>, _: &mut Check<'_>) -> Option<Vec<Server>> {
        Some(default)
    }
}

impl Show<Vec<Server>> for Many<ServerSource> {
    fn show(value: &Vec<Server>) -> Value {
        value.iter().map(Server::to_json).collect()
    }
}

impl Check<'_> {
    pub(crate) fn servers(&mut self, servers: Vec<ServerSource>) -> Vec<Server> {
        let mut known: Vec<Server> = Vec::with_capacity(servers.len());
        for server in servers {
            let (keys, remote, program) = server.apart();
            self.id(&keys.id, known.iter().map(|known| known.id.as_str()));
            let ServerKeys { id, url, openapi, tools, prompts } = keys;
            let Some(at) = self.at(&id, (url, openapi, program), &remote) else { continue };
            let remote = Remote::read(remote, self);
            let labels = Labels { tools: self.labels_of(tools), prompts: self.labels_of(prompts) };
            known.extend(remote.map(|remote| Server { id: id.value, at, remote, labels }));
        }
        known
    }

    /// A server has a URL, is a program, or has a document, and the keys that go with that.
    fn at(
        &mut self,
        Spanned { value: id, referenced: place, .. }: &Spanned<String>,
        (url, openapi, mut program): (Option<Spanned<String>>, Option<Spanned<OpenApiSource>>, ProgramSource),
        remote: &RemoteSource,
    ) -> Option<At> {
        let place = *place;
        // An empty one is none.
        program.command = program.command.filter(|command| !command.value.is_empty());
        let is_program = program.command.is_some();
        if let Some(api) = openapi {
            if url.is_some() || is_program {
                return self.refused(place, format!("the server `{id}` has `openapi` and a `url` or `command`; remove one"));
            }
            if !program.is_absent() || remote.transport.is_some() {
                let cause = format!("the server `{id}` has `openapi`: `transport` and what programs may do do not belong there");
                return self.refused(place, cause);
            }
            return OpenApi::read(api.value, self).map(|api| At::Api(Box::new(api)));
        }
        match (url, is_program) {
            (Some(_), true) => self.refused(place, format!("the server `{id}` has a `url` and a `command`; remove one")),
            (None, false) => self.refused(place, format!("the server `{id}` has none of `url`, `command` and `openapi`; add one")),
            (Some(url), false) => {
                if !program.is_absent() {
                    return self.refused(place, format!("the server `{id}` has a `url`: what programs may do does not belong there"));
                }
                self.url(url).map(At::Url)
            }
            (None, true) => {
                if !remote.is_absent() {
                    let cause = format!("`transport` and `auth` are for servers with a `url`; `{id}` gets its secrets by `env`");
                    return self.refused(place, cause);
                }
                self.program(place, program).map(|program| At::Program(Box::new(program)))
            }
        }
    }

    pub(crate) fn id<'a>(&mut self, id: &Spanned<String>, known: impl Iterator<Item = &'a str>) {
        let text = &id.value;
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || text.len() > LONGEST_ID || !text.chars().all(fits) || text.starts_with('-') || text.ends_with('-') {
            let cause = format!("`{text}` is not a valid id: use lower-case letters, digits and `-` between them, at most {LONGEST_ID}");
            self.refuse(id.referenced, cause);
        } else if known.collect::<HashSet<_>>().contains(text.as_str()) {
            self.refuse(id.referenced, format!("the id `{text}` is listed twice; change one"));
        }
    }

    pub(crate) fn url(&mut self, url: Spanned<String>) -> Option<String> {
        let uri = url.value.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        match uri {
            // It is not repeated, as it holds a secret.
            Some(uri) if uri.authority().is_some_and(|a| a.as_str().contains('@')) => {
                self.refused(url.referenced, "credentials do not belong into a URL; name them under `auth`".to_owned())
            }
            Some(uri) if matches!(uri.scheme_str(), Some("http" | "https")) => Some(url.value),
            _ => self.refused(url.referenced, format!("`{}` is not an http:// or https:// URL", url.value)),
        }
    }
}
