//! A story as text: who, where, what, why, what came of it, what happened around it, what to do.

use super::telling::Telling;
use gnomon_cli::{
    line::{Event, clean, counted, one_line, plain, with_id, word},
    when,
};
use gnomon_kit::unix_millis;
use gnomon_ledger::{Contact, More, Related, STORY_AFTER_MS, STORY_BEFORE_MS, ServerStatus, VerdictKind};
use std::io::{self, Write};

/// A section's lines, each a name and a value; unknown values are left out, and so is a section without lines.
struct Section<'a, W> {
    out: &'a mut W,
    event: &'a Event,
    /// The section that has no line yet.
    begun: Option<&'static str>,
}

impl<W: Write> Section<'_, W> {
    fn head(&mut self, name: &'static str) {
        self.begun = Some(name);
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if let Some(name) = self.begun.take() {
            writeln!(self.out, "\n{name}")?;
        }
        writeln!(self.out, "{line}")
    }

    fn line(&mut self, name: &str, parts: &[Option<String>]) -> io::Result<()> {
        let text: Vec<&str> = parts.iter().flatten().map(String::as_str).filter(|part| !part.is_empty()).collect();
        if text.is_empty() { Ok(()) } else { self.write(&format!("  {name:<11} {}", text.join(" "))) }
    }

    /// The field's value, for the terminal.
    fn get(&self, name: &str) -> Option<String> {
        self.event.get(name).map(plain).filter(|text| !text.is_empty())
    }

    /// The value with words around it.
    fn with(&self, before: &str, name: &str, after: &str) -> Option<String> {
        self.get(name).map(|text| format!("{before}{text}{after}"))
    }
}

pub fn write(out: &mut impl Write, telling: &Telling<'_>) -> io::Result<()> {
    let event = &telling.event;
    let mut s = Section { out, event, begun: None };
    head(&mut s)?;
    verdicts(&mut s, telling)?;
    who(&mut s)?;
    match s.get("gnomon.channel").as_deref() {
        Some("config") => configured(&mut s, telling)?,
        Some("process") => started(&mut s, telling)?,
        _ => {
            whither(&mut s, telling)?;
            what(&mut s)?;
        }
    }
    why(&mut s, telling)?;
    aftermath(&mut s, telling)?;
    around(&mut s, telling)?;
    if !telling.next.is_empty() {
        s.head("Next");
        let width = telling.next.iter().map(|(command, _)| command.chars().count()).max().unwrap_or_default();
        for (command, why) in &telling.next {
            s.write(&format!("  {command:<width$}  # {why}"))?;
        }
    }
    Ok(())
}

fn head<W: Write>(s: &mut Section<'_, W>) -> io::Result<()> {
    let title = s.get("rule.name").or_else(|| s.get("gnomon.flow.outcome")).unwrap_or_else(|| "no rule matched".to_owned());
    writeln!(s.out, "{title}")?;
    let words = ["rule.level", "gnomon.detection.class", "gnomon.confidence", "gnomon.action"].map(|name| s.get(name));
    writeln!(s.out, "{}", words.into_iter().flatten().collect::<Vec<_>>().join(" · "))?;
    let time = s.get("@timestamp").unwrap_or_default().replacen('T', " ", 1).replace('Z', " UTC");
    let burst = s.with(", burst ", "gnomon.incident.id", "").unwrap_or_default();
    writeln!(s.out, "{time}, event {}{burst}", s.get("event.id").unwrap_or_default())
}

fn verdicts<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    let verdicts = match &telling.verdicts {
        Ok(verdicts) => verdicts,
        Err(why) => {
            writeln!(s.out, "{}", one_line(&format!("whether anybody judged it is not known: {why}")))?;
            let Some(known) = &telling.recalled else { return Ok(()) };
            let nothing = if known.verdicts.is_empty() { " nobody had" } else { "" };
            let as_of = when::show(unix_millis(known.as_of));
            writeln!(s.out, "as of {as_of} UTC, when this host read the database of decisions last:{nothing}")?;
            &known.verdicts
        }
    };
    for (at_ms, verdict) in verdicts {
        let word = match verdict.kind {
            VerdictKind::Benign => "benign",
            VerdictKind::Confirmed => "confirmed",
        };
        let until = verdict.until.as_deref().map(|until| format!(" until {until}")).unwrap_or_default();
        let text = format!("found {word}{until} by {} on {} UTC: {}", verdict.owner, when::show(*at_ms), verdict.reason);
        writeln!(s.out, "{}", clean(&text))?;
    }
    Ok(())
}

fn who<W: Write>(s: &mut Section<'_, W>) -> io::Result<()> {
    s.head("Who");
    s.line("user", &[s.get("user.name"), s.with("(", "user.id", ")"), s.with("in ", "user.group.names", "")])?;
    s.line("program", &[s.get("process.executable.path"), s.with("pid ", "process.pid", ""), s.with("(", "gnomon.process.identity", ")")])?;
    s.line("file", &[s.get("gnomon.process.image"), s.with("SHA-256 ", "process.executable.hash.sha256", "")])?;
    s.line("command", &[s.get("process.command_line")])?;
    s.line(
        "started by",
        &[s.get("process.ancestors").map(|list| list.replace(',', " ← ")).or_else(|| s.get("process.parent.executable.path"))],
    )?;
    s.line("container", &[s.get("container.id"), s.with("by ", "container.runtime.name", ""), s.with("pod uid ", "k8s.pod.uid", "")])?;
    s.line("cgroup", &[s.get("gnomon.cgroup")])?;
    s.line("calls itself", &[s.get("mcp.client.name"), s.get("mcp.client.version"), s.with("(", "user_agent.original", ")")])?;
    s.line("from", &[s.get("source.address"), s.with("port ", "source.port", ""), s.with("on ", "host.name", "")])
}

fn whither<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    s.head("Where");
    let sanctioned = s.get("gnomon.sanctioned").map(|truth| if truth == "true" { "sanctioned" } else { "not sanctioned" }.to_owned());
    let port = s.get("server.port").map(|port| format!("port {port}"));
    s.line("server", &[s.get("server.address").or_else(|| s.get("destination.address")), port, sanctioned])?;
    s.line(
        "known as",
        &[
            s.get("gnomon.server.catalogue"),
            s.with("review ", "gnomon.server.review", ""),
            s.get("mcp.server.name"),
            s.get("mcp.server.version"),
        ],
    )?;
    known(s, telling)?;
    s.line(
        "TLS",
        &[s.with("SNI ", "tls.client.server_name", ""), s.with("ALPN ", "tls.next_protocol", ""), s.with("JA4 ", "tls.client.ja4", "")],
    )?;
    // A client that names the server to the proxy chose no address.
    let transport = s.get("network.transport").filter(|_| s.get("destination.address").is_some());
    s.line("address", &[s.get("destination.address"), s.with("port ", "destination.port", ""), transport])?;
    let tied = s.get("gnomon.correlation").map(|by| match by.as_str() {
        "none" => "not tied to a process,".to_owned(),
        by => format!("tied to its process by: {by},"),
    });
    s.line("connection", &[s.get("gnomon.flow.id"), tied, s.with("seen at the ", "gnomon.vantage", "")])
}

/// What the inventory knows of the server.
fn known<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    let Some(known) = &telling.story.server else { return Ok(()) };
    let status = match known.status {
        _ if known.is_local() => format!("of {}", known.users.iter().map(|user| clean(user)).collect::<Vec<_>>().join(", ")),
        ServerStatus::Sanctioned => "sanctioned".to_owned(),
        ServerStatus::Shadow => "shadow".to_owned(),
    };
    let use_of = match known.contact {
        Contact::Unreached => "never reached".to_owned(),
        Contact::Listed => "listed, not seen in use".to_owned(),
        Contact::Used if known.is_local() => "started".to_owned(),
        Contact::Used => counted(known.calls, "message"),
    };
    s.line("inventory", &[Some(format!("{status}, {use_of} since {} UTC", when::show(known.first_seen_ms)))])
}

/// A package, its version, and what fetches it.
fn package<W: Write>(s: &mut Section<'_, W>) -> io::Result<()> {
    let pinned = s.get("gnomon.package.pinned").map(|pinned| if pinned == "true" { "pinned" } else { "not pinned" }.to_owned());
    s.line(
        "package",
        &[s.get("package.ecosystem"), s.get("package.name"), s.get("package.version"), pinned, s.with("by ", "gnomon.package.runner", "")],
    )
}

/// An entry of a client's configuration: the file, what stands there, and where secrets do.
fn configured<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    s.head("Where");
    s.line("client", &[s.get("gnomon.config.client")])?;
    s.line("file", &[s.get("gnomon.config.path")])?;
    s.head("What");
    let kind = s.get("gnomon.config.kind").unwrap_or_else(|| "entry".to_owned());
    s.line("entry", &[s.with(&format!("{kind} "), "gnomon.config.entry", "")])?;
    let change = s.get("gnomon.config.change").map(|change| match change.as_str() {
        "first_seen" => "it was not there before".to_owned(),
        "changed" => "it is another than before".to_owned(),
        "removed" => "it is gone".to_owned(),
        "unread" => "the file could not be read".to_owned(),
        _ => change,
    });
    s.line("change", &[change])?;
    let secrets = s.event.get("gnomon.config.secrets").and_then(serde_json::Value::as_array).into_iter().flatten();
    for secret in secrets.filter_map(serde_json::Value::as_str) {
        // The place has no blank, what it looks like follows.
        let (place, kind) = secret.rsplit_once(' ').unwrap_or((secret, "a secret"));
        s.line("secret", &[Some(format!("in {}, which looks like {}", clean(place), clean(kind)))])?;
    }
    s.line("runs", &[s.get("gnomon.config.runs")])?;
    s.line("content", &[s.with("SHA-256 ", "gnomon.config.hash", "")])?;
    let sanctioned = s.get("gnomon.sanctioned").map(|truth| if truth == "true" { "sanctioned" } else { "not sanctioned" }.to_owned());
    s.line("server", &[s.get("url.full").or_else(|| s.get("server.address")).or_else(|| s.get("gnomon.local.server")), sanctioned])?;
    package(s)?;
    s.line("known as", &[s.get("gnomon.server.catalogue"), s.with("review ", "gnomon.server.review", "")])?;
    known(s, telling)
}

/// A local server that was started: what it is, how it is known, and which agent started it.
fn started<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    s.head("What was started");
    s.line("server", &[s.get("gnomon.local.server")])?;
    package(s)?;
    let known_by = s.get("gnomon.local.known_by").map(|by| match by.as_str() {
        "catalogue" => "its package is in the catalogue".to_owned(),
        "config" => "a configuration lists it".to_owned(),
        "name" => "its name says mcp".to_owned(),
        _ => by,
    });
    s.line("known by", &[known_by])?;
    s.line("agent", &[s.get("gnomon.agent")])?;
    known(s, telling)
}

fn what<W: Write>(s: &mut Section<'_, W>) -> io::Result<()> {
    s.head("What");
    let name = s.get("gen_ai.tool.name").or_else(|| s.get("gen_ai.prompt.name")).or_else(|| s.get("mcp.resource.uri"));
    s.line("call", &[s.get("mcp.method.name").or_else(|| s.get("rpc.method")), name, s.with("(id ", "jsonrpc.request.id", ")")])?;
    s.line("request", &[s.get("http.request.method"), s.get("url.full").or_else(|| s.get("url.path"))])?;
    s.line("session", &[s.get("mcp.session.id"), s.with("protocol ", "mcp.protocol.version", "")])?;
    s.line("contradicts", &[s.get("gnomon.mismatch")])?;
    s.line("unreadable", &[s.get("gnomon.malformed"), s.with("too long: ", "gnomon.truncated", "")])?;
    s.line("bypassed", &[s.get("gnomon.bypass.reason")])
}

fn why<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    s.head("Why");
    s.line("rule", &[s.get("rule.name"), s.with("[", "rule.id", "]")])?;
    s.line("", &[telling.description.as_deref().map(clean)])?;
    for (number, other) in telling.others.iter().enumerate() {
        s.line(if number == 0 { "also matched" } else { "" }, &[Some(clean(other))])?;
    }
    s.line(
        "evidence",
        &[
            s.get("gnomon.evidence").map(|list| list.replace(',', ", ")),
            s.with("signatures ", "gnomon.signatures", ""),
            s.with("answer ", "gnomon.response.signatures", ""),
        ],
    )?;
    s.line("found in", &[s.get("gnomon.text.places").map(|list| list.replace(',', ", "))])
}

fn aftermath<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    let came = &telling.aftermath;
    s.head("What came of it");
    s.line("outcome", &[Some(clean(&came.words))])?;
    s.line("told", &[s.get("message")])?;
    s.line("would be", &[s.get("gnomon.would")])?;
    let out = came.bytes_out.map(|bytes| format!("{bytes} bytes out"));
    let back = came.bytes_in.map(|bytes| format!("{bytes} bytes in"));
    let time = came.duration_ms.map(|ms| format!("{ms} ms"));
    let sizes: Vec<String> = [out, back, time].into_iter().flatten().collect();
    s.line("sizes", &[Some(sizes.join(", "))])?;
    s.line("JSON-RPC", &[s.with("error ", "rpc.response.status_code", "")])?;
    for other in &telling.story.sightings {
        s.write(&format!("  also seen   {}", with_id(&other.json)))?;
    }
    Ok(())
}

fn around<W: Write>(s: &mut Section<'_, W>, telling: &Telling<'_>) -> io::Result<()> {
    let story = telling.story;
    let mut list = |name: &str, related: &[Related]| -> io::Result<()> {
        if related.is_empty() {
            return Ok(());
        }
        writeln!(s.out, "\n{name}")?;
        related.iter().try_for_each(|r| writeln!(s.out, "  {:<8} {}", r.relation.as_str(), with_id(&r.event.json)))
    };
    list(&format!("In the {} s before, by the same connection, session or process", STORY_BEFORE_MS / 1000), &story.before)?;
    list(&format!("In the {} min after", STORY_AFTER_MS / 60_000), &story.after)?;
    if story.more == More::Yes {
        let by = telling.event.get("process.pid").map(|pid| format!("process.pid={pid}"));
        let by = by.or_else(|| Some(format!("gnomon.flow.id={}", telling.event.get("gnomon.flow.id")?.as_str()?)));
        let by = by.or_else(|| Some(format!("mcp.session.id={}", telling.event.get("mcp.session.id")?.as_str()?)));
        if let Some(by) = by {
            writeln!(s.out, "  and more: gnomon events --where {}", word(&by))?;
        }
    }
    Ok(())
}
