//! The table of configuration keys: the JSON Schema and the reference page are read off it, and a
//! test holds the parser to it.

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// One text.
    Text,
    /// A whole number within bounds, both included.
    Number(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of ports.
    Ports,
    /// A list of texts.
    Texts,
    /// `builtin`, `none`, or a list of pack names.
    Packs,
    /// A list of policy entries.
    Policy,
    /// A way to prove who one is, or a list of them.
    Auth,
    /// What a program is pinned to, or `unpinned`.
    Pin,
    /// Texts by name.
    Variables,
    /// A certificate with its key, or who makes one.
    Tls,
    /// How entries are shown, by their names.
    Labels,
    /// The same for tools and prompts, by their servers' ids.
    Overrides,
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Dotted; `[]` marks the entries of a list.
    pub path: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// What holds without it, as the page shows it.
    pub default: &'static str,
    /// A value, as YAML in one line.
    pub sample: &'static str,
    /// What it does, units and bounds included.
    pub doc: &'static str,
}

const fn key(path: &'static str, shape: Shape, default: &'static str, sample: &'static str, doc: &'static str) -> Key {
    Key { path, shape, default, sample, doc }
}

/// Every key that this version knows.
pub const KEYS: &[Key] = &[
    key(
        "proxy.listen",
        Shape::Text,
        "127.0.0.1:8443",
        "127.0.0.1:8443",
        "Address and port of the proxy. Anything but loopback needs `proxy.users`.",
    ),
    key(
        "proxy.bypass",
        Shape::Texts,
        "none",
        "['*.bank.example']",
        "Servers whose TLS is never opened: `host`, `*.host` (names below it) or `host:port`. They are passed through byte for byte and not judged.",
    ),
    key(
        "proxy.upstream_ca",
        Shape::Texts,
        "the system's roots",
        "[corp-root.pem]",
        "PEM files with further authorities to trust when servers are verified. Relative to this file.",
    ),
    key(
        "proxy.resolve",
        Shape::Texts,
        "none",
        "['mcp.example:443:127.0.0.1:8444']",
        "`HOST:PORT:ADDR[:PORT]`: dial this address instead of resolving the name, as curl's `--resolve`; several for one host and port are all its addresses, in this order.",
    ),
    key(
        "proxy.users[].name",
        Shape::Text,
        "",
        "ada",
        "A user who may use the proxy (Basic authentication). It becomes `user.name` in events.",
    ),
    key(
        "proxy.users[].password",
        Shape::Text,
        "",
        "'env:ADA_PASSWORD'",
        "Where the password is: `file:/path` (first line), `env:NAME`, or `credential:NAME` (systemd). Never the password itself.",
    ),
    key(
        "proxy.window_bytes",
        Shape::Number(4096, 16 << 20),
        "65536",
        "65536",
        "Most bytes of a body that are held back until a rule has decided, per request; bytes.",
    ),
    key(
        "proxy.max_connections",
        Shape::Number(1, 1 << 20),
        "4096",
        "4096",
        "Most client connections at a time, tunnels and WebSockets to their end. A further one takes the place of the oldest that has said nothing (`silent` in `gnomon_flows_total`); where all have spoken it waits. Lowered to what the limit of open files leaves room for.",
    ),
    key(
        "proxy.max_connections_per_user",
        Shape::Number(1, 1 << 20),
        "1024",
        "1024",
        "Most connections of one user at a time, redirected or to the proxy itself, so that the programs of one leave room for others: by uid as far as the sensor knows it, else by the name that `proxy.users` authenticates. Further ones wait up to two seconds and are then reset, or answered 429 where they gave a name, and counted as `over_share` in `gnomon_flows_total`; from scopes that only intercept they pass unread, counted as `beyond_share`. Unless it is set, a quarter of `proxy.max_connections`.",
    ),
    key(
        "sensor.scopes[].name",
        Shape::Text,
        "",
        "agents",
        "A scope: cgroups whose connections are treated alike. Everything else is observed. Of scopes that match one cgroup the first holds, of nested cgroups the inner one's.",
    ),
    key(
        "sensor.scopes[].match.cgroup",
        Shape::Text,
        "none",
        "'/system.slice/docker-*.scope'",
        "Cgroups by path, `*` for any part of one name, and all below them. One of the three ways to match.",
    ),
    key(
        "sensor.scopes[].match.user",
        Shape::Text,
        "none",
        "ada",
        "What a user's sessions run, by name or number: the cgroup `/user.slice/user-UID.slice` that systemd-logind makes.",
    ),
    key(
        "sensor.scopes[].match.unit",
        Shape::Text,
        "none",
        "agent.service",
        "A service or scope of the system: the cgroup `/system.slice/UNIT`.",
    ),
    key(
        "sensor.scopes[].mode",
        Shape::Word(super::scopes::MODES),
        "observe",
        "intercept",
        "`off`: not looked at. `observe`: tagged. `intercept`: sent through the proxy and read, nothing is refused. `enforce`: sent through the proxy, and rules hold.",
    ),
    key("sensor.scopes[].ports", Shape::Ports, "443", "[443, 8443]", "Destination ports that are sent through the proxy, at most 16."),
    key(
        "sensor.scopes[].quic",
        Shape::Word(super::scopes::QUICS),
        "refuse",
        "leave",
        "HTTP/3 where connections are sent through the proxy: UDP to port 443, whatever `ports` says, is refused, so that clients fall back to TCP, or left unread. UDP to other ports always goes direct, unseen.",
    ),
    key(
        "sensor.scopes[].fail",
        Shape::Word(super::scopes::FAILS),
        "open",
        "closed",
        "A connection that cannot be sent through the proxy goes direct and is counted, or is refused. Those to link-local, cloud metadata, multicast and broadcast addresses go direct either way.",
    ),
    key(
        "sensor.max_cpu_percent",
        Shape::Number(1, 6400),
        "25",
        "25",
        "What the sensor may take of the processor, in the kernel and by its own process, in percent of one core. Measured for one second in thirty; above it twice in a row, it does not look at packets for ten minutes: server names of connections that are not redirected are not seen then. Redirecting and refusing never end because of it.",
    ),
    key(
        "sanctioned",
        Shape::Texts,
        "none",
        "[mcp.corp.example]",
        "MCP servers that the organisation allows: `host`, `*.host` or `host:port`. They are `gnomon.sanctioned: true`.",
    ),
    key(
        "rules.mode",
        Shape::Word(super::ENFORCEMENTS),
        "enforce",
        "shadow",
        "Whether what rules refuse is refused (`enforce`), or everything passes and events say in `gnomon.would` what would have happened (`shadow`).",
    ),
    key(
        "rules.packs",
        Shape::Packs,
        "builtin",
        "builtin",
        "Rules that ship: `builtin` (those that are on by default), `none`, or a list of pack names.",
    ),
    key(
        "rules.dirs",
        Shape::Texts,
        "none",
        "[rules.d]",
        "Folders with rules of your own: all `*.yml` and `*.yaml` below them. Relative to this file.",
    ),
    key(
        "rules.overrides",
        Shape::Text,
        "none",
        "overrides.yml",
        "A file that changes level, response, activity or mode of rules: a list of `rule` or `pack`, `level`, `response`, `enabled`, `mode`, `reason`. Relative to this file.",
    ),
    key(
        "rules.triage",
        Shape::Text,
        "first of rules.dirs, else triage.d in the state folder",
        "rules.d/triage",
        "The folder that `gnomon triage` writes exceptions into. What is in it is loaded. Relative to this file.",
    ),
    key(
        "rules.hosts",
        Shape::Texts,
        "none",
        "[hosts.csv]",
        "CSV files (`host,kind`) that stand over the shipped catalogue of hosts. Relative to this file.",
    ),
    key(
        "events.jsonl",
        Shape::Text,
        "off",
        "events.jsonl",
        "A file to which events are appended as JSON lines, `-` for standard output, or `off`. It is rotated within the bounds of `events.retention`. Relative to this file.",
    ),
    key(
        "events.retention.days",
        Shape::Number(1, 3650),
        "30",
        "30",
        "How long events are kept, days: in the ledger and in the file of JSON lines.",
    ),
    key(
        "events.otlp.endpoint",
        Shape::Text,
        "off",
        "'https://collector.example:4318'",
        "The URL of an OpenTelemetry collector that every event is sent to as a log record (OTLP over HTTP, protobuf), or `off`. Without a path it is `/v1/logs`. With `http` everybody on the way can read events.",
    ),
    key(
        "events.otlp.headers",
        Shape::Texts,
        "none",
        "['Authorization=file:/etc/gnomon/otlp-authorization']",
        "`NAME=SECRET` for each header of these requests, at most 16. The secret is the header's whole value, as `Bearer …`, and is named as passwords are: `file:/path` (first line), `env:NAME`, or `credential:NAME` (systemd).",
    ),
    key(
        "events.otlp.ca",
        Shape::Texts,
        "the system's roots",
        "[corp-root.pem]",
        "PEM files with further authorities to trust when the collector is verified. Relative to this file.",
    ),
    key(
        "events.syslog.endpoint",
        Shape::Text,
        "off",
        "'tls://siem.example:6514'",
        "A syslog server that every event is sent to (RFC 5424), as `tls://HOST:PORT` or `tcp://HOST:PORT`, or `off`. With `tcp` everybody on the way can read events.",
    ),
    key(
        "events.syslog.ca",
        Shape::Texts,
        "the system's roots",
        "[corp-root.pem]",
        "PEM files with further authorities to trust when the syslog server is verified. Relative to this file.",
    ),
    key(
        "events.retention.max_gib",
        Shape::Number(1, 4096),
        "2",
        "2",
        "Most GiB of the ledger's database, and of the file of JSON lines with those it was rotated to; beyond it the oldest events go. The database's write-ahead log comes on top, at most 64 MiB.",
    ),
    key(
        "metrics.listen",
        Shape::Text,
        "127.0.0.1:9464",
        "127.0.0.1:9464",
        "Address and port of `/metrics` (Prometheus) and `/healthz`, or `off`.",
    ),
    key(
        "state",
        Shape::Text,
        "the state folder",
        "'postgres://gnomon@db.corp.example/gnomon'",
        "A PostgreSQL database for what several gnomons share: reviews of servers and verdicts on events. Over TCP with TLS and a certificate for its host (`sslrootcert=FILE` adds an authority); the password by `PGPASSWORD` or a passfile. Events and audit stay on the host.",
    ),
    key(
        "contact",
        Shape::Text,
        "none",
        "'security@corp.example'",
        "Whom people of this machine ask about gnomon: `gnomon status` shows it.",
    ),
    key(
        "countries",
        Shape::Text,
        "none",
        "/var/lib/GeoIP/GeoLite2-Country.mmdb",
        "A MaxMind database (country or city) by which policy's `countries` knows where an address is. Relative to this file.",
    ),
    key(
        "servers[].id",
        Shape::Text,
        "",
        "docs",
        "A name for an MCP server: lower-case letters, digits and `-`, at most 32. Tools of several servers are shown as `ID_TOOL`, so it has no `_`.",
    ),
    key(
        "servers[].url",
        Shape::Text,
        "none",
        "'https://docs.example/mcp'",
        "Where the server is: `https://` or `http://`. Credentials do not belong here. A server has this or `command`.",
    ),
    key(
        "servers[].openapi.file",
        Shape::Text,
        "none",
        "openapi/shop.json",
        "An HTTP API in place of an MCP server: its OpenAPI document (3.0 to 3.2, JSON or YAML, at most 40 MiB), relative to this file. Each operation is a tool for Code Mode. See [openapi.md](../openapi.md).",
    ),
    key(
        "servers[].openapi.sha256",
        Shape::Text,
        "nothing, with a warning",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "What the document must be: its SHA-256, looked at when gnomon starts.",
    ),
    key(
        "servers[].openapi.base",
        Shape::Text,
        "the document's first https:// server",
        "'https://api.example/v1'",
        "Where requests go, and with them the credentials: nowhere else. Operations whose own servers do not name it are not offered.",
    ),
    key(
        "servers[].openapi.allow",
        Shape::Texts,
        "none",
        "[getItem, 'GET /items/**']",
        "Operations that are tools on every list as well: patterns of names (`*` is anything), or of `METHOD /path` (`*` stops at `/`, `**` does not).",
    ),
    key(
        "servers[].openapi.writes",
        Shape::Texts,
        "none",
        "[createItem, 'POST /items/*/notes']",
        "Operations that may be called although they are not GET, HEAD or OPTIONS: patterns as above. Others are on no list, and refused with the reason.",
    ),
    key(
        "servers[].openapi.credentials",
        Shape::Variables,
        "none",
        "{apiKey: 'file:/etc/gnomon/shop-key', login: 'env:SHOP_USER_AND_PASSWORD'}",
        "Secrets by the document's names for its security schemes: they are sent where the scheme says, with the operations that ask for it. For Basic it is `user:password`. Secrets are named as in `auth`, which is sent with every operation.",
    ),
    key(
        "servers[].command",
        Shape::Texts,
        "none",
        "[/opt/mcp/files-server, /srv/shared]",
        "A server on standard input and output that gnomon runs: the program (a path relative to this file, or a name in `PATH`) and its arguments. Paths that stand here may be read. See [portal-servers.md](../portal-servers.md).",
    ),
    key(
        "servers[].pin",
        Shape::Pin,
        "nothing, with a warning",
        "{sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}",
        "What the program must be, looked at before each start: `sha256` of the file, `files` with further paths and their SHA-256, or `package: name@version` and `lockfile` for `npx` and `uv run`. A launcher without `package` is refused unless `unpinned` stands here.",
    ),
    key(
        "servers[].env",
        Shape::Variables,
        "none",
        "{LOG_LEVEL: info, API_KEY: 'file:/etc/gnomon/files-key'}",
        "Variables of the program, at most 64; it gets none of gnomon's. A value that is `file:/path` (first line), `env:NAME` or `credential:NAME` (systemd) says where a secret is; secrets are taken out of what the program writes to the log.",
    ),
    key(
        "servers[].cwd",
        Shape::Text,
        "a folder of its own",
        "/srv/shared",
        "Where the program starts. It may be read. Relative to this file.",
    ),
    key(
        "servers[].read",
        Shape::Texts,
        "none",
        "[/opt/mcp/lib]",
        "What the program may read and execute, with all below it, besides the system's programs and libraries and what `command` names. Relative to this file. What holds the state folder, this file or a secret is refused.",
    ),
    key("servers[].write", Shape::Texts, "none", "[/srv/shared]", "What it may read and change, with all below it. Relative to this file."),
    key(
        "servers[].network",
        Shape::Word(super::programs::NETWORKS),
        "none",
        "internet",
        "Whom the program may connect to: nobody, anybody over IPv4 and IPv6 (this host's own services included), or the local sockets of this host as well.",
    ),
    key(
        "servers[].user",
        Shape::Text,
        "a user of its own",
        "mcp",
        "Whom the program becomes where gnomon runs as root, by name or number: without it a number of its own from 61184 on, which has no name. Elsewhere it runs as whoever gnomon is.",
    ),
    key(
        "servers[].confine",
        Shape::Word(super::programs::DEMANDS),
        "enforced",
        "enforced",
        "Whether the program is run where the kernel cannot restrict its files and system calls: not, or with whatever there is.",
    ),
    key(
        "servers[].limits.memory_mib",
        Shape::Number(16, 1 << 20),
        "1024",
        "1024",
        "Memory that each process of the program may write to, MiB; and that all of an instance use together, where gnomon's cgroup is delegated to it.",
    ),
    key(
        "servers[].limits.tasks",
        Shape::Number(1, 1 << 16),
        "128",
        "128",
        "Processes and threads of one instance; on top of those that its user has when it starts, where gnomon's cgroup is not delegated to it.",
    ),
    key(
        "servers[].limits.instances",
        Shape::Number(1, 1024),
        "16",
        "16",
        "Most instances at a time. A server with sessions has one for each session and one for the portal itself; a stateless one has one.",
    ),
    key(
        "servers[].transport",
        Shape::Word(&["either", "streamable", "sse"]),
        "either",
        "either",
        "Streamable HTTP, the HTTP+SSE transport of 2024-11-05, or whichever the server has: HTTP+SSE is tried where a POST is answered with 404, 405 or 406.",
    ),
    key(
        "servers[].auth.bearer",
        Shape::Text,
        "none",
        "'file:/etc/gnomon/docs-token'",
        "Where the token is that the portal shows to the server: `file:/path` (first line), `env:NAME`, or `credential:NAME` (systemd). Clients never see it, and the server never sees a client's.",
    ),
    key(
        "servers[].auth.headers",
        Shape::Texts,
        "none",
        "['X-Api-Key=env:DOCS_KEY']",
        "`NAME=SECRET` for each header that the portal shows to the server, at most 16; secrets are named as above.",
    ),
    key(
        "servers[].tools",
        Shape::Labels,
        "as the server has them",
        "{create_issue: {alias: open-ticket, description: Opens a ticket of our help desk.}, delete_repo: {enabled: false}}",
        "How tools are shown, by the server's own names: `alias` (letters and digits with single `_` or `-` between them, at most 40), `description` (at most 8192 bytes) and `enabled`: what is `false` is neither listed nor callable. Policy, rules, events and audit keep to the server's own names.",
    ),
    key("servers[].prompts", Shape::Labels, "as the server has them", "{review: {alias: code-review}}", "The same for prompts."),
    key("portals[].id", Shape::Text, "", "main", "A name for a portal: lower-case letters, digits and `-`, at most 32."),
    key("portals[].listen", Shape::Text, "127.0.0.1:8080", "127.0.0.1:8080", "Address and port of the portal."),
    key("portals[].path", Shape::Text, "/mcp", "/mcp", "The path of its endpoint."),
    key(
        "portals[].hosts",
        Shape::Texts,
        "none",
        "[mcp.corp.example]",
        "Host names that clients call it by, besides `localhost` and the loopback addresses. Requests to other names are refused (DNS rebinding).",
    ),
    key(
        "portals[].origins",
        Shape::Texts,
        "none",
        "['https://inspector.corp.example']",
        "Origins of web pages that may call it, besides those of its own hosts.",
    ),
    key(
        "portals[].url",
        Shape::Text,
        "its own address and path",
        "'https://mcp.corp.example/mcp'",
        "The portal's URL as clients know it, if something that ends TLS stands before it. Tokens must have been issued for it.",
    ),
    key(
        "portals[].tls",
        Shape::Tls,
        "plain HTTP",
        "{cert: portal.pem, key: portal.key, client_ca: [clients.pem]}",
        "The portal's own TLS: `cert`, a PEM file with its certificate and those above it, and `key`, which not everybody may read, both read again when they change; or `ca: own`, a certificate of gnomon's own authority for the names of `url`, `hosts` and `listen`. `client_ca`: PEM files with the authorities whose certificates clients may show, for `auth: {mode: mtls}` and as `device` in the policy; where `mtls` is the only way in, there is no connection without one. Relative to this file.",
    ),
    key(
        "portals[].auth",
        Shape::Auth,
        "{mode: none}",
        "{mode: none}",
        "How callers prove who they are: see [portal-policy.md](../portal-policy.md). `none` is for loopback addresses only.",
    ),
    key("portals[].servers", Shape::Texts, "", "[docs]", "The servers it offers, by id, in the order in which they are shown."),
    key(
        "portals[].overrides",
        Shape::Overrides,
        "none",
        "{docs: {tools: {search: {alias: find}}, prompts: {review: {enabled: false}}}}",
        "How this portal shows tools and prompts, by server: laid over `servers[].tools` and `servers[].prompts`, part by part.",
    ),
    key(
        "portals[].prefix",
        Shape::Word(&["always", "never"]),
        "always",
        "always",
        "Whether names carry their server's id. `never` is for portals with a single server.",
    ),
    key(
        "portals[].code_mode",
        Shape::Word(&["off", "opt_in", "default_on", "enforced"]),
        "opt_in",
        "opt_in",
        "Code Mode ([codemode.md](../codemode.md)): for nobody, for whoever asks with `?codemode=search_and_execute`, for whoever does not say `?codemode=off`, or for everybody.",
    ),
    key(
        "portals[].record",
        Shape::Texts,
        "none",
        "[arguments]",
        "What of calls' payloads the audit records: `arguments`, `results`. Secrets and personal numbers are taken out as far as they can be told by name or form, and texts cut after 1024 characters ([audit.md](../audit.md)).",
    ),
    key(
        "portals[].policy",
        Shape::Policy,
        "nothing is allowed",
        "[{allow: {servers: [docs]}}]",
        "Who may do what: see [portal-policy.md](../portal-policy.md). Nothing is allowed unless an entry says so.",
    ),
    key(
        "portals[].sessions.max",
        Shape::Number(1, 10_000_000),
        "100000",
        "100000",
        "Most sessions of clients; beyond it the oldest end of the caller who has the most.",
    ),
    key("portals[].sessions.idle_seconds", Shape::Number(1, 30 * 86_400), "86400", "86400", "How long an unused session is kept, seconds."),
    key("portals[].max_request_bytes", Shape::Number(1024, 64 << 20), "4194304", "4194304", "Most bytes of a request."),
    key(
        "portals[].max_connections",
        Shape::Number(1, 1 << 20),
        "4096",
        "4096",
        "Most client connections at a time. A further one takes the place of the one that has been without a request for the longest time, of the address that has most of these; where all have requests under way it waits. One source address other than 127.0.0.1 and ::1 has at most three quarters.",
    ),
    key(
        "audit.checkpoints",
        Shape::Texts,
        "none",
        "[/mnt/evidence/checkpoints.jsonl]",
        "Files that the audit's signed checkpoints are appended to, best on a disk of another machine. They are events as well, so they leave with those.",
    ),
    key(
        "audit.checkpoint_seconds",
        Shape::Number(1, 3600),
        "60",
        "60",
        "How often a checkpoint is made while there are new records, seconds.",
    ),
    key(
        "audit.writes",
        Shape::Word(&["soon", "before_answer", "before_call"]),
        "soon",
        "soon",
        "`soon`: records are durable a fifth of a second after the answer. `before_answer`: an answer is given once its record is durable, or withheld. `before_call`: as well as that, a call leaves for its server once a record of its beginning is durable, or not at all.",
    ),
    key("audit.days", Shape::Number(1, 36_500), "365", "365", "How long records are kept, days."),
    key(
        "audit.max_gib",
        Shape::Number(1, 4096),
        "4",
        "4",
        "Most GiB of the audit's database. Beyond it nothing more is recorded, which is told; nothing that is recorded is taken away for it.",
    ),
    key(
        "codemode.sandbox_seconds",
        Shape::Number(1, 60),
        "5",
        "5",
        "How long a script of Code Mode may compute, seconds; waiting for tools is not counted.",
    ),
    key("codemode.wall_seconds", Shape::Number(1, 600), "60", "60", "How long it may take in all, seconds."),
    key("codemode.heap_mib", Shape::Number(4, 512), "64", "64", "Memory of a script, MiB."),
    key("codemode.stack_kib", Shape::Number(64, 4096), "512", "512", "Its stack, KiB."),
    key("codemode.calls", Shape::Number(1, 10_000), "100", "100", "Tool calls of a script."),
    key("codemode.in_flight", Shape::Number(1, 256), "16", "16", "Tool calls of a script at the same time; further ones wait."),
    key("codemode.arguments_kib", Shape::Number(1, 1024), "256", "256", "Arguments of one such call, KiB of JSON."),
    key(
        "codemode.result_kib",
        Shape::Number(1, 1024),
        "256",
        "256",
        "A script's result, KiB of JSON. A model is given its first 24,000 characters.",
    ),
    key("codemode.logs_kib", Shape::Number(1, 1024), "16", "16", "What a script may write to its console, KiB."),
    key("codemode.code_kib", Shape::Number(1, 1024), "64", "64", "A script's code, KiB."),
    key("codemode.workers", Shape::Number(1, 256), "128", "128", "Scripts that run at the same time; 64 more wait for at most 10 s."),
];

/// Most ports of a scope.
pub const MAX_PORTS: usize = 16;

/// The reference page, Markdown.
pub fn reference() -> String {
    let mut page = String::from(
        "# Configuration keys\n\n\
         Generated from the table in `src/config/keys.rs`; edit it there. One YAML file, named by `--config`; every key may be left out. \
         What stands on the command line wins. The guide is [configuration.md](../configuration.md).\n\n\
         | key | default | for example | what it does |\n|---|---|---|---|\n",
    );
    for key in KEYS {
        let default = match key.default {
            "" => "required".to_owned(),
            words if words.contains(' ') || words == "none" => words.to_owned(),
            value => format!("`{value}`"),
        };
        let bounds = match key.shape {
            Shape::Number(low, high) => format!(" From {low} to {high}."),
            Shape::Word(words) => format!(" One of: `{}`.", words.join("`, `")),
            _ => String::new(),
        };
        page.push_str(&format!("| `{}` | {default} | `{}` | {}{bounds} |\n", key.path, key.sample, key.doc.replace('|', "\\|")));
    }
    page
}
