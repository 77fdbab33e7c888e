//! Compiles entries as written. Every error has its place, and what to do.

use super::{
    Entry, LineRef,
    error::Report,
    source::{Clause, DeviceSource, PolicySource, ProcessSource, Texts, shortened},
    what::{Effect, What},
    when::When,
    who::{Condition, Domain},
};
use crate::yaml::hint;
use crate::{
    AuthMethod, Hints,
    glob::{Flavour, Glob, MAX_PATTERN},
};
use cel::Env;
use ipnet::IpNet;
use serde_saphyr::{Location, Spanned};
use smol_str::SmolStr;
use std::{net::IpAddr, sync::Arc};

/// The most entries of a policy.
pub const MAX_ENTRIES: usize = 1024;
/// The most values of one key.
pub const MAX_VALUES: usize = 1024;

const METHODS: &[&str] = &[
    AuthMethod::None.as_str(),
    AuthMethod::Oidc.as_str(),
    AuthMethod::Introspection.as_str(),
    AuthMethod::Token.as_str(),
    AuthMethod::Mtls.as_str(),
];

pub(super) fn entries(source: &PolicySource, file: &str, report: &mut Report<'_>) -> Vec<Entry> {
    if let Some(extra) = source.0.get(MAX_ENTRIES) {
        report.at::<()>(extra.referenced, format!("more than {MAX_ENTRIES} entries; name groups and patterns instead of single names"));
        return Vec::new();
    }
    let env = Arc::new(Env::stdlib());
    let name: Arc<str> = file.into();
    source.0.iter().enumerate().filter_map(|(index, entry)| one(index, entry, &name, &env, report)).collect()
}

fn one(index: usize, entry: &Spanned<super::source::Entry>, file: &Arc<str>, env: &Arc<Env>, report: &mut Report<'_>) -> Option<Entry> {
    let at = entry.referenced;
    let (effect, clause) = match (&entry.value.allow, &entry.value.deny) {
        (Some(clause), None) => (Effect::Allow, clause),
        (None, Some(clause)) => (Effect::Deny, clause),
        (Some(_), Some(_)) => return report.at(at, "`allow` and `deny` in one entry; write two entries"),
        (None, None) => return report.at(at, "an entry says `allow:` or `deny:` and of what; write one"),
    };
    let clause = &clause.value;
    if effect == Effect::Allow && clause.servers.is_none() {
        report.at::<()>(at, "an `allow` names the servers it is about; `servers: ['*']` are all of the portal's");
    }
    let what = what(clause, report);
    let who = who(clause, report);
    let when = clause.when.as_ref().and_then(|when| match When::compile(&when.value, env) {
        Ok(compiled) => Some(compiled),
        Err(message) => report.at(when.referenced, message),
    });
    if effect == Effect::Deny
        && clause.servers.is_none()
        && what.portals.is_none()
        && who.is_empty()
        && when.is_none()
        && is_everything(clause)
    {
        report.at::<()>(at, "this denies everything to everybody; name whom, or what, it is about");
    }
    let whole = clause.text(effect.as_str());
    let line = LineRef {
        index: index.try_into().unwrap_or(u32::MAX),
        file: file.clone(),
        line: at.line().max(1),
        column: at.column().max(1),
        text: shortened(&whole).into(),
        reason: clause.reason.as_ref().map(|reason| SmolStr::new(&reason.value)),
    };
    Some(Entry { line, whole: whole.into(), effect, what, who, when })
}

fn is_everything(clause: &Clause) -> bool {
    clause.tools.is_none() && clause.prompts.is_none() && clause.resources.is_none() && clause.hints.is_none()
}

fn what(clause: &Clause, report: &mut Report<'_>) -> What {
    let hints = match &clause.hints {
        None => Hints::default(),
        Some(hints) => {
            let (read, destructive) = (hints.value.read_only, hints.value.destructive);
            if read.is_none() && destructive.is_none() {
                report.at::<()>(hints.referenced, "`hints` is empty; give `read_only` or `destructive`");
            }
            if clause.prompts.is_some() || clause.resources.is_some() {
                report.at::<()>(hints.referenced, "only tools have hints; write prompts and resources in an entry of their own");
            }
            Hints { read_only: read, destructive }
        }
    };
    What {
        portals: globs(&clause.portals, Flavour::Name, report),
        servers: globs(&clause.servers, Flavour::Name, report),
        tools: globs(&clause.tools, Flavour::Name, report),
        prompts: globs(&clause.prompts, Flavour::Name, report),
        resources: globs(&clause.resources, Flavour::Path, report),
        hints,
    }
}

fn who(clause: &Clause, report: &mut Report<'_>) -> Vec<Condition> {
    // The cheap ones first: the first that fails ends it.
    let mut all = Vec::new();
    all.extend(words(&clause.methods, METHODS, report).map(Condition::Methods));
    all.extend(names(&clause.groups, report).map(Condition::Groups));
    all.extend(names(&clause.users, report).map(Condition::Users));
    all.extend(each(&clause.domains, report, domain).map(Condition::Domains));
    all.extend(names(&clause.clients, report).map(Condition::Clients));
    all.extend(names(&clause.scopes, report).map(Condition::Scopes));
    all.extend(names(&clause.acr, report).map(Condition::Acr));
    all.extend(names(&clause.amr, report).map(Condition::Amr));
    all.extend(each(&clause.networks, report, network).map(Condition::Networks));
    all.extend(each(&clause.countries, report, country).map(Condition::Countries));
    if let Some(source) = &clause.device {
        let before = all.len();
        device(&source.value, &mut all, report);
        none_is_a_mistake(before, all.len(), "device", "`certificate: any`, `sha256`, `subject` or `san`", source.referenced, report);
    }
    if let Some(source) = &clause.process {
        let before = all.len();
        process(&source.value, &mut all, report);
        none_is_a_mistake(before, all.len(), "process", "`executable`, `sha256`, `user`, `cgroup` or `unit`", source.referenced, report);
    }
    all
}

fn none_is_a_mistake(before: usize, after: usize, key: &str, keys: &str, at: Location, report: &mut Report<'_>) {
    if before == after {
        report.at::<()>(at, format!("`{key}` says nothing; give {keys}"));
    }
}

fn device(source: &DeviceSource, all: &mut Vec<Condition>, report: &mut Report<'_>) {
    if let Some(word) = &source.certificate {
        match word.value.as_str() {
            "any" => all.push(Condition::DeviceAny),
            other => {
                let message = format!(
                    "`{other}` is not known here; `certificate: any` is any that TLS verified, `sha256`, `subject` and `san` name one"
                );
                report.at::<()>(word.referenced, message);
            }
        }
    }
    all.extend(each(&source.sha256, report, sha256).map(Condition::DeviceHash));
    all.extend(globs(&source.subject, Flavour::Name, report).map(Condition::DeviceSubject));
    all.extend(globs(&source.san, Flavour::Name, report).map(Condition::DeviceName));
}

fn process(source: &ProcessSource, all: &mut Vec<Condition>, report: &mut Report<'_>) {
    all.extend(names(&source.user, report).map(Condition::ProcessUser));
    all.extend(each(&source.sha256, report, sha256).map(Condition::ProcessHash));
    all.extend(globs(&source.executable, Flavour::Path, report).map(Condition::ProcessExecutable));
    all.extend(globs(&source.cgroup, Flavour::Path, report).map(Condition::ProcessCgroup));
    all.extend(globs(&source.unit, Flavour::Name, report).map(Condition::ProcessUnit));
}

/// Reads each value of a list; a list must have one.
fn each<T>(texts: &Texts, report: &mut Report<'_>, read: fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
    let texts = texts.as_ref()?;
    if texts.value.is_empty() {
        report.at::<()>(texts.referenced, "an empty list matches nothing; fill it, or remove the key");
    }
    if texts.value.len() > MAX_VALUES {
        report.at::<()>(texts.referenced, format!("more than {MAX_VALUES} values; use a group or a pattern"));
    }
    let mut read_one = |text: &Spanned<String>| match text.value.as_str() {
        "" => report.at(text.referenced, "an empty text; fill it, or remove it"),
        long if long.len() > MAX_PATTERN => report.at(text.referenced, format!("longer than {MAX_PATTERN} bytes")),
        value => match read(value) {
            Ok(value) => Some(value),
            Err(message) => report.at(text.referenced, message),
        },
    };
    Some(texts.value.iter().filter_map(&mut read_one).collect())
}

fn names(texts: &Texts, report: &mut Report<'_>) -> Option<Vec<SmolStr>> {
    each(texts, report, |text| {
        // Elsewhere in the file `*` is a pattern, so here it would be mistaken for one.
        if text.contains('*') {
            return Err(format!("`{text}`: there are no patterns here, only names; remove the key to mean anybody"));
        }
        Ok(SmolStr::new(text))
    })
}

fn globs(texts: &Texts, flavour: Flavour, report: &mut Report<'_>) -> Option<Vec<Glob>> {
    match flavour {
        Flavour::Name => each(texts, report, |text| Ok(Glob::new(text, Flavour::Name))),
        Flavour::Path => each(texts, report, |text| Ok(Glob::new(text, Flavour::Path))),
    }
}

fn words(texts: &Texts, known: &[&str], report: &mut Report<'_>) -> Option<Vec<SmolStr>> {
    let found = each(texts, report, |text| Ok(SmolStr::new(text)))?;
    for text in texts.iter().flat_map(|texts| &texts.value).filter(|text| !known.contains(&text.value.as_str())) {
        report.at::<()>(text.referenced, format!("`{}` is not known here{}", text.value, hint(&text.value, known)));
    }
    Some(found)
}

fn domain(text: &str) -> Result<Domain, String> {
    let (name, below) = match text.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (text, false),
    };
    let plain = name.contains('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if !plain {
        return Err(format!("`{text}` is not a domain; write `example.org`, or `*.example.org` for those below it"));
    }
    let name = SmolStr::new(name.to_ascii_lowercase());
    Ok(if below { Domain::Below(name) } else { Domain::Exact(name) })
}

fn network(text: &str) -> Result<IpNet, String> {
    let network: Option<IpNet> = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    match network {
        Some(network) if network.trunc() != network => Err(format!("`{text}` has bits beyond its prefix; write `{}`", network.trunc())),
        Some(network) => Ok(network),
        None => Err(format!("`{text}` is not a network; write it like `10.0.0.0/8`")),
    }
}

fn country(text: &str) -> Result<SmolStr, String> {
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_alphabetic()) {
        return Ok(SmolStr::new(text.to_ascii_uppercase()));
    }
    Err(format!("`{text}` is not a country; write its two letters of ISO 3166-1, as `DE`"))
}

/// Parses a digest as `openssl x509 -fingerprint` and `sha256sum` write it.
pub(crate) fn sha256(text: &str) -> Result<SmolStr, String> {
    let digits: String = text.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    if digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(digits.into());
    }
    Err(format!("`{text}` is not a SHA-256: 64 hexadecimal digits"))
}
