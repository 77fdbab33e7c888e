//! Skills (SEP-2640) of all servers: one list, and each leads to its server.
//!
//! Their list is fetched on demand, as servers announce no changes of theirs: from all at once, each with a timeout. A server that does not
//! answer in time is named as missing. A skill is shown to callers that policy lets read its SKILL.md.

use super::Road;
use bytes::Bytes;
use gnomon_access::{Caller, Permit};
use gnomon_audit::{RecordKind as Recorded, Status};
use gnomon_lists::{
    lists::PortalLists,
    route::{Routed, Within, unknown_method},
};
use gnomon_relay::{
    act::Act,
    acts::Ending,
    call::{Call, Origin},
    held::Upstream,
    large,
    names::{Prefix, exposed_name, shortened},
    shares,
    skills::{Skill, Unfit, skill},
};
use gnomon_upstream::{
    catalogue::Kind,
    extensions::SKILLS,
    members::Members,
    rpc::{INVALID_PARAMS, Outcome, Request, RpcError, quoted},
};
use serde_json::{Value, json, value::RawValue};
use smol_str::{SmolStr, ToSmolStr};
use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

/// The timeout for a server to list its skills.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most pages, skills and bytes that are read of each server's.
const PAGES: usize = 20;
const MOST: usize = 1000;
const MOST_BYTES: usize = 4 << 20;
/// Most reports of what one server's list lacks.
const MOST_TOLD: usize = 20;

/// The list of one server.
#[derive(Default)]
struct Listed {
    skills: Vec<Skill>,
    left_out: Vec<Value>,
    /// The time for which it may be cached, milliseconds.
    ttl: Option<u64>,
}

/// A server that was asked, and what came of it in time.
type Asked<'a> = (&'a SmolStr, Result<Result<Listed, String>, tokio::time::error::Elapsed>);

impl Road {
    /// The skills of all servers that a caller may read.
    pub(super) async fn list_skills(&self, call: &Call, request: &Request) -> Outcome {
        let act = self.begin(Recorded::List, call, &request.method);
        let refused = |error: RpcError| (Ending::because(Status::Refused, error.code.to_smolstr()), Outcome::from(error));
        let (ending, outcome) = match request.members() {
            Err(error) => refused(error),
            Ok(params) if params.get("cursor").is_some_and(|cursor| cursor != "null") => {
                refused(RpcError::new(INVALID_PARAMS, "there is no such `cursor`: all skills come on one page"))
            }
            Ok(_) if !self.servers().iter().any(|server| PortalLists::offers(server, SKILLS)) => refused(unknown_method(&request.method)),
            Ok(params) => (Ending::of(Status::Ok), self.skills_of_all(call, request, &params, &act).await),
        };
        act.end(ending, outcome).await
    }

    async fn skills_of_all(&self, call: &Call, request: &Request, params: &Members<'_>, act: &Act) -> Outcome {
        let servers = self.servers();
        let offering = servers.iter().filter(|server| PortalLists::offers(server, SKILLS));
        // A server that is hidden as a whole is not asked, and not reported.
        let known = offering.filter_map(|server| Some((server, self.lists.gate().reach(&call.caller, &server.id)?)));
        let (mut all, mut missing, mut left_out, mut ttl) = (Vec::new(), Vec::new(), Vec::new(), u64::MAX);
        let asked: Vec<Waiting<'_, Asked<'_>>> = known
            .map(|(server, permit)| {
                let listed = self.skills_of(call, request, params, (server, permit), act);
                Box::pin(async move { (&server.id, tokio::time::timeout(PATIENCE, listed).await) }) as Waiting<'_, Asked<'_>>
            })
            .collect();
        for (server, listed) in all_of(asked).await {
            match listed {
                Ok(Ok(listed)) => {
                    all.extend(listed.skills);
                    left_out.extend(listed.left_out);
                    ttl = ttl.min(listed.ttl.unwrap_or(0));
                }
                Ok(Err(why)) => missing.push(json!({"server": server, "why": why})),
                Err(_) => missing.push(json!({"server": server, "why": format!("it has not answered within {PATIENCE:?}")})),
            }
        }
        // A server that is back is listed at once.
        let ttl = if missing.is_empty() && ttl != u64::MAX { ttl } else { 0 };
        let mut text = Vec::with_capacity(all.iter().map(|skill: &Skill| skill.text.len() + 1).sum::<usize>() + 256);
        text.extend_from_slice(b"{\"skills\":[");
        for (index, skill) in all.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(&skill.text);
        }
        text.push(b']');
        let notices = [("dev.gnomon/missing", missing), ("dev.gnomon/left-out", left_out)];
        let notices: serde_json::Map<_, _> =
            notices.into_iter().filter(|(_, told)| !told.is_empty()).map(|(key, told)| (key.to_owned(), told.into())).collect();
        if !notices.is_empty() {
            text.extend_from_slice(format!(",\"_meta\":{}", Value::Object(notices)).as_bytes());
        }
        if matches!(call.from, Origin::Stateless(_)) {
            text.extend_from_slice(format!(",\"resultType\":\"complete\",\"ttlMs\":{ttl},\"cacheScope\":\"private\"").as_bytes());
        }
        text.push(b'}');
        Outcome::Result(text.into())
    }

    /// The list of one server, page by page, as far as the caller may read it.
    async fn skills_of(
        &self,
        call: &Call,
        request: &Request,
        params: &Members<'_>,
        (server, permit): (&Arc<Upstream>, Permit),
        act: &Act,
    ) -> Result<Listed, String> {
        let (mut listed, mut cursor, mut bytes) = (Listed::default(), None::<String>, 0);
        let shown = (self.lists.prefix() == Prefix::Always).then(|| server.id.clone());
        let view = self.lists.view();
        let leave = |left_out: &mut Vec<Value>, name: Option<&str>, why: &str| {
            if left_out.len() < MOST_TOLD {
                left_out.push(json!({"server": server.id, "name": name.map(shortened), "why": why}));
            }
        };
        for _ in 0..PAGES {
            let page = params.with(&[("cursor", cursor.as_deref().map(quoted).as_deref())]);
            let routed = to_server(server.clone(), request, page, permit.clone());
            let (outcome, ending) = self.serve(call, &routed, act).await;
            let Outcome::Result(result) = outcome else {
                return Err(format!("it answers with an error ({})", ending.error.unwrap_or_default()));
            };
            let (owner, bytes_of_page, shown) = (shares::owner(&call.caller), result.len(), shown.clone());
            let read = large::read(&owner, bytes_of_page, move || SkillsPage::read(shown.as_deref(), &result));
            let page = read.await.map_err(|error| error.to_string())??;
            listed.ttl = Some(listed.ttl.map_or(page.ttl, |least: u64| least.min(page.ttl)));
            for (length, entry) in page.entries {
                bytes += length;
                if listed.skills.len() >= MOST || bytes > MOST_BYTES {
                    leave(&mut listed.left_out, None, "its server's list is longer than what is read of it");
                    return Ok(listed);
                }
                let may = |uri: &str| self.lists.may_read(&call.caller, &view, &server.id, uri).is_allow();
                match entry {
                    Ok(skill) if may(&skill.uri) => listed.skills.push(skill),
                    Ok(_) => {}
                    Err(unfit) if unfit.uri.as_deref().is_none_or(may) => leave(&mut listed.left_out, unfit.uri.as_deref(), unfit.why),
                    Err(_) => {}
                }
            }
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(listed)
    }

    /// A server's answer about one skill, or a folder of one, in the caller's names.
    pub(super) async fn of_skill(&self, call: &Call, routed: &Routed, outcome: Outcome) -> (Outcome, Option<Ending>) {
        let Outcome::Result(result) = &outcome else { return (outcome, None) };
        let shown = (self.lists.prefix() == Prefix::Always).then(|| routed.server.id.clone());
        let (read, is_one) = (result.clone(), routed.method == "skills/get");
        let (params, lists, caller, server) = (routed.params.clone(), self.lists.clone(), call.caller.clone(), routed.server.id.clone());
        let owner = shares::owner(&call.caller);
        let new = large::read(&owner, result.len(), move || match is_one {
            true => one(shown.as_deref(), params.as_ref(), &read),
            false => Ok(folder(&lists, &caller, &server, &read)),
        });
        match new.await {
            Ok(Ok(new)) => (Outcome::Result(new.unwrap_or_else(|| result.clone())), None),
            Ok(Err(why)) => {
                let error = RpcError::new(INVALID_PARAMS, format!("the skill {} is not offered: {why}", shortened(&routed.name)));
                (error.into(), Some(Ending::because(Status::Error, "skill")))
            }
            Err(error) => (error.outcome(&routed.server.id, None), Some(Ending::because(Status::Error, error.kind()))),
        }
    }
}

/// A page of a server's list.
struct SkillsPage {
    /// Each entry, and its length.
    entries: Vec<(usize, Result<Skill, Unfit>)>,
    ttl: u64,
    next: Option<String>,
}

impl SkillsPage {
    fn read(shown: Option<&str>, result: &Bytes) -> Result<Self, String> {
        let members = Members::read(result).map_err(|_| "its list is not an object with distinct members".to_owned())?;
        let entries: Vec<&RawValue> =
            members.get("skills").and_then(|json| serde_json::from_str(json).ok()).ok_or("`skills` of its answer is not a list")?;
        let ttl = members.get("ttlMs").and_then(|json| json.parse().ok()).unwrap_or(0);
        let entries = entries.into_iter().map(|entry| (entry.get().len(), skill(shown, entry.get()))).collect();
        Ok(Self { entries, ttl, next: members.text("nextCursor").map(|cursor| cursor.into_owned()) })
    }
}

/// A folder with what the caller may read of it.
fn folder(lists: &PortalLists, caller: &Caller, server: &SmolStr, result: &Bytes) -> Option<Bytes> {
    let members = Members::read(result).ok()?;
    let all: Vec<&RawValue> = serde_json::from_str(members.get("resources")?).ok()?;
    let view = lists.view();
    let shown = all.into_iter().filter_map(|raw| {
        let entry = Members::read(raw.get().as_bytes()).ok()?;
        let uri = entry.text("uri")?;
        lists.may_read(caller, &view, server, &uri).is_allow().then_some(())?;
        Some(match lists.prefix() {
            Prefix::Never => raw.get().to_owned(),
            Prefix::Always => {
                let known = quoted(&exposed_name(Kind::Resource, server, &uri));
                String::from_utf8_lossy(&entry.with(&[("uri", Some(&known))])).into_owned()
            }
        })
    });
    let shown = format!("[{}]", shown.collect::<Vec<_>>().join(","));
    Some(members.with(&[("resources", Some(&shown))]))
}

/// One skill as clients know it. What the server answers must be the one that it was asked for.
fn one(shown: Option<&str>, params: Option<&Bytes>, result: &Bytes) -> Result<Option<Bytes>, &'static str> {
    let members = Members::read(result).map_err(|_| "its server's answer is not an object with distinct members")?;
    let entry = members.get("skill").ok_or("its server's answer has no `skill`")?;
    let skill = skill(shown, entry).map_err(|unfit| unfit.why)?;
    let asked = Members::of(params).ok().and_then(|params| params.text("uri").map(|uri| uri == skill.uri.as_str()));
    if asked != Some(true) {
        return Err("its server answers with another");
    }
    Ok(Some(members.with(&[("skill", Some(&String::from_utf8_lossy(&skill.text)))])))
}

fn to_server(server: Arc<Upstream>, request: &Request, params: Bytes, permit: Permit) -> Routed {
    let (method, within) = (SmolStr::new(&request.method), Within::default());
    let (id, name) = (request.id.clone(), SmolStr::default());
    Routed { server, request: request.clone(), id, method, params: Some(params), permit, exposed: None, name, arguments: None, within }
}

pub(super) type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Awaits all of these concurrently.
pub(super) async fn all_of<T>(futures: Vec<Waiting<'_, T>>) -> Vec<T> {
    let mut futures: Vec<(Option<Waiting<'_, T>>, Option<T>)> = futures.into_iter().map(|future| (Some(future), None)).collect();
    poll_fn(|context| {
        let mut all = Poll::Ready(());
        for (future, done) in &mut futures {
            match future.as_mut().map(|future| future.as_mut().poll(context)) {
                Some(Poll::Ready(value)) => (*future, *done) = (None, Some(value)),
                Some(Poll::Pending) => all = Poll::Pending,
                None => {}
            }
        }
        all
    })
    .await;
    futures.into_iter().filter_map(|(_, done)| done).collect()
}
