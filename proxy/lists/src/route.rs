//! The server of a request, by the names that the caller may know.

use crate::{
    lists::PortalLists,
    view::{Exposed, View},
};
use bytes::Bytes;
use gnomon_access::{Asked, Caller, Decision, LineRef, Listing, Permit, arguments};
use gnomon_relay::{
    ground::Ground,
    held::Upstream,
    names::{Prefix, may_come_of, shortened, split_name},
};
use gnomon_upstream::{
    Scope, as_text,
    catalogue::Kind,
    extensions::SKILLS,
    members::Members,
    rpc::{INTERNAL_ERROR, INVALID_PARAMS, Id, METHOD_NOT_FOUND, Request, RpcError, quoted},
};
use parking_lot::Mutex;
use serde_json::Value;
use smol_str::SmolStr;
use std::{borrow::Cow, sync::Arc};

/// A request with its server.
pub struct Routed {
    /// Its server.
    pub server: Arc<Upstream>,
    /// The request as its client made it: what policy is asked about when it leaves once more.
    pub request: Request,
    /// The client's.
    pub id: Id,
    /// The method.
    pub method: SmolStr,
    /// The parameters that the server is to get.
    pub params: Option<Bytes>,
    /// The proof that policy allows it, and its obligations.
    pub permit: Permit,
    /// The entry that is called, where it is on a list.
    pub exposed: Option<Arc<Exposed>>,
    /// The name as the client wrote it.
    pub name: SmolStr,
    /// The arguments of a call of a tool.
    pub arguments: Option<Value>,
    /// The session with the server that it went to last, if there is one.
    pub within: Within,
}

/// The scope at its server that a request went to.
#[derive(Debug, Default)]
pub struct Within(Mutex<Option<Scope>>);

impl Within {
    /// Sets the scope.
    pub fn set(&self, scope: Scope) {
        *self.0.lock() = Some(scope);
    }

    /// The scope; the whole server where none was set.
    pub fn get(&self) -> Scope {
        self.0.lock().unwrap_or(Scope::Server)
    }
}

/// The reason that a request goes to no server.
#[derive(Debug)]
pub struct NotRouted {
    /// The error for its client.
    pub error: RpcError,
    /// The line of policy that denies it, if one does.
    pub line: Option<Box<LineRef>>,
    /// Why, for metrics: policy may hide what there is.
    pub ground: Ground,
}

impl NotRouted {
    /// It cannot be read.
    fn unfit(error: RpcError) -> Self {
        Self { error, line: None, ground: Ground::Arguments }
    }
}

impl From<RpcError> for NotRouted {
    fn from(error: RpcError) -> Self {
        let ground = Ground::of_code(error.code);
        Self { error, line: None, ground }
    }
}

impl PortalLists {
    /// Finds where a request goes.
    ///
    /// # Errors
    /// The client's error, if it leads nowhere.
    pub fn route(&self, caller: &Caller, request: &Request) -> Result<Routed, NotRouted> {
        let method = request.method.as_str();
        let members = request.members().map_err(NotRouted::unfit)?;
        let missing = |key: &str| NotRouted::unfit(RpcError::new(INVALID_PARAMS, format!("`{key}` is missing")));
        let routed = |server, permit, exposed, name: &str, params, arguments| Routed {
            server,
            request: Request::new(request.id.clone(), request.method.clone(), request.params().cloned()),
            id: request.id.clone(),
            method: SmolStr::new(method),
            params: Some(params),
            exposed,
            name: SmolStr::new(name),
            permit,
            arguments,
            within: Within::default(),
        };
        match method {
            "tools/call" | "prompts/get" => {
                let kind = if method == "tools/call" { Kind::Tool } else { Kind::Prompt };
                let name = members.text("name").ok_or_else(|| missing("name"))?;
                let (server, exposed) = self.named(caller, kind, &name)?;
                let params = members.with(&[("name", Some(&quoted(&exposed.entry.name)))]);
                let arguments = members.get("arguments").map(|json| arguments(json.as_bytes())).transpose();
                let arguments = arguments.map_err(|error| NotRouted::unfit(RpcError::new(INVALID_PARAMS, error.to_string())))?;
                let asked = Asked { arguments: arguments.as_ref(), ..self.asked(kind, &exposed) };
                let permit = self.permit(caller, &asked, &name)?;
                Ok(routed(server, permit, Some(exposed), &name, params, arguments))
            }
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                let uri = members.text("uri").ok_or_else(|| missing("uri"))?;
                let (server, own, permit) = self.resource(caller, &uri)?;
                let params = members.with(&[("uri", Some(&quoted(&own)))]);
                Ok(routed(server, permit, None, &uri, params, None))
            }
            "skills/get" | "resources/directory/read" => {
                if !self.servers().iter().any(|server| Self::offers(server, SKILLS)) {
                    return Err(unknown_method(method).into());
                }
                let uri = members.text("uri").ok_or_else(|| missing("uri"))?;
                let unknown = || RpcError::new(INVALID_PARAMS, format!("Unknown skill: {}", shortened(&uri)));
                let (server, own, permit) = self.resource(caller, &uri).map_err(|none| NotRouted { error: unknown(), ..none })?;
                if !Self::offers(&server, SKILLS) {
                    return Err(unknown().into());
                }
                let params = members.with(&[("uri", Some(&quoted(&own)))]);
                Ok(routed(server, permit, None, &uri, params, None))
            }
            "completion/complete" => {
                let reference = members.object("ref").ok_or_else(|| missing("ref"))?;
                let (server, permit, changed) = match reference.text("type").as_deref() {
                    Some("ref/prompt") => {
                        let name = reference.text("name").ok_or_else(|| missing("name"))?;
                        let (server, exposed) = self.named(caller, Kind::Prompt, &name)?;
                        let permit = self.about(caller, &server, &self.asked(Kind::Prompt, &exposed), &name)?;
                        (server, permit, reference.with(&[("name", Some(&quoted(&exposed.entry.name)))]))
                    }
                    Some("ref/resource") => {
                        let uri = reference.text("uri").ok_or_else(|| missing("uri"))?;
                        let (server, own, permit) = self.resource(caller, &uri)?;
                        (server, permit, reference.with(&[("uri", Some(&quoted(&own)))]))
                    }
                    _ => {
                        let error = RpcError::new(INVALID_PARAMS, "`ref.type` must be `ref/prompt` or `ref/resource`");
                        return Err(NotRouted::unfit(error));
                    }
                };
                Ok(routed(server, permit, None, "", members.with(&[("ref", Some(as_text(&changed)))]), None))
            }
            _ => Err(unknown_method(method).into()),
        }
    }

    /// Checks policy. For a thing that the caller may not know of, the error is that it does not exist.
    fn permit(&self, caller: &Caller, asked: &Asked<'_>, name: &str) -> Result<Permit, NotRouted> {
        match self.gate().decide(caller, asked) {
            Decision::Allow(permit) => Ok(permit),
            Decision::Deny { line } => {
                let why = match line.as_ref().and_then(|line| line.reason.as_ref()) {
                    Some(reason) => format!("`{}` may not be called like this: {reason}", shortened(name)),
                    None => format!("`{}` may not be called with these arguments", shortened(name)),
                };
                Err(NotRouted { error: RpcError::new(INVALID_PARAMS, why), line: line.map(Box::new), ground: Ground::Policy })
            }
        }
    }

    /// Checks policy for a request about a thing that is listed, which is no call of it.
    fn about(&self, caller: &Caller, server: &Upstream, asked: &Asked<'_>, name: &str) -> Result<Permit, NotRouted> {
        match self.gate().decide_about(caller, asked) {
            Decision::Allow(permit) => Ok(permit),
            // Another policy came into force meanwhile.
            Decision::Deny { line } => Err(self.denied(caller, server, line, name, unknown(Kind::Prompt, name))),
        }
    }

    /// The error for a thing that is not listed for a caller: the reason, if the entry that denies it gives one to callers of its server;
    /// else that it does not exist.
    fn denied(&self, caller: &Caller, server: &Upstream, line: Option<LineRef>, name: &str, unknown: RpcError) -> NotRouted {
        let may_know = || self.gate().may_reach(caller, &server.id);
        let error = match line.as_ref().and_then(|line| line.reason.as_ref()).filter(|_| may_know()) {
            Some(reason) => RpcError::new(unknown.code, format!("`{}` is not allowed here: {reason}", shortened(name))),
            None => unknown,
        };
        NotRouted { error, line: line.map(Box::new), ground: Ground::Policy }
    }

    fn named(&self, caller: &Caller, kind: Kind, name: &str) -> Result<(Arc<Upstream>, Arc<Exposed>), NotRouted> {
        let view = self.view();
        if let Some((exposed, server)) = view.named(kind, name).and_then(|exposed| Some((exposed, view.upstream(exposed)?))) {
            return match self.gate().may_list(caller, &self.asked(kind, exposed)) {
                Listing::Shown => Ok((server, exposed.clone())),
                Listing::Hidden { line } => Err(self.denied(caller, &server, line, name, unknown(kind, name))),
            };
        }
        if let (Kind::Tool, Some(exposed)) = (kind, self.of_a_page(caller, &view, name))
            && let Some(server) = view.upstream(&exposed)
        {
            return Ok((server, exposed));
        }
        // It may be of a server that was never up yet, and that the caller may know of.
        let server = split_name(kind, name).and_then(|(id, _)| self.servers().named(id).cloned());
        let server = server.filter(|server| self.gate().may_reach(caller, &server.id));
        match server.as_ref().map(|server| (&server.id, server.check())) {
            Some((id, Err(error))) => Err(RpcError::new(INTERNAL_ERROR, format!("server `{id}`: {error}")).into()),
            _ => Err(self.why_left_out(caller, kind, name).unwrap_or_else(|| unknown(kind, name)).into()),
        }
    }

    /// The tool that a page means. It knows its server's own name for it, and its calls are its client's: so of servers that have pages
    /// such a name leads to the only one whose tool of that name the caller may use.
    fn of_a_page(&self, caller: &Caller, view: &View, name: &str) -> Option<Arc<Exposed>> {
        let may = |exposed: &&Arc<Exposed>| self.gate().may_list(caller, &self.asked(Kind::Tool, exposed)).is_shown();
        let mut found = view.pages().may_call(name).iter().filter(may);
        let only = found.next()?;
        found.next().is_none().then(|| only.clone())
    }

    /// The server that a request names, where its caller may know of it.
    pub fn named_server(&self, caller: &Caller, request: &Request) -> Option<SmolStr> {
        let params = request.members().ok()?;
        let name = params.text("name").or_else(|| params.text("uri"))?;
        let is_uri = request.method.starts_with("resources/") || request.method.starts_with("skills/");
        let kind = if is_uri { Kind::Resource } else { Kind::Tool };
        let (id, _) = split_name(kind, &name)?;
        self.servers().named(id).filter(|server| self.gate().may_reach(caller, &server.id)).map(|server| server.id.clone())
    }

    /// The server of a resource, and its own URI for it. URIs that results mention lead to their server too,
    /// as long as it is clear which that is.
    pub fn resource<'a>(&self, caller: &Caller, uri: &'a str) -> Result<(Arc<Upstream>, Cow<'a, str>, Permit), NotRouted> {
        let unknown = || RpcError::new(-32002, format!("Resource not found: {}", shortened(uri)));
        let (server, own) = self.owner(uri).ok_or_else(unknown)?;
        match self.may_read(caller, &self.view(), &server.id, &own) {
            Decision::Allow(permit) => Ok((server, own, permit)),
            Decision::Deny { line } => Err(self.denied(caller, &server, line, uri, unknown())),
        }
    }

    /// The server of a resource, by what is on the lists. Of several servers that could have it none is guessed.
    fn owner<'a>(&self, uri: &'a str) -> Option<(Arc<Upstream>, Cow<'a, str>)> {
        let (servers, view) = self.current();
        if let Some(exposed) = view.named(Kind::Resource, uri) {
            return Some((view.upstream(exposed)?, Cow::Owned(exposed.entry.name.to_string())));
        }
        if self.prefix() == Prefix::Always
            && let Some((id, own)) = split_name(Kind::Resource, uri)
            && let Some(server) = servers.named(id)
        {
            return Some((server.clone(), own));
        }
        let of = |kind, fits: &dyn Fn(&str) -> bool| {
            let mut owners: Vec<usize> = view.all(kind).iter().filter(|e| fits(&e.entry.name)).map(|e| e.place).collect();
            owners.dedup();
            owners
        };
        let mut owners = of(Kind::Resource, &|name| name == uri);
        if owners.is_empty() {
            owners = of(Kind::Template, &|template| may_come_of(template, uri));
        }
        if owners.is_empty() {
            owners = (0..servers.len())
                .filter(|index| {
                    let presence = servers[*index].presence();
                    presence.face().is_some_and(|face| Members::read(&face.capabilities).is_ok_and(|c| c.get("resources").is_some()))
                })
                .collect();
        }
        match *owners {
            [only] => Some((servers.get(only)?.clone(), Cow::Borrowed(uri))),
            _ => None,
        }
    }
}

/// The error for a tool or prompt that a caller may not know of, or that is none.
fn unknown(kind: Kind, name: &str) -> RpcError {
    let what = if kind == Kind::Tool { "tool" } else { "prompt" };
    RpcError::new(INVALID_PARAMS, format!("Unknown {what}: {}", shortened(name)))
}

/// The error for methods that only exist in the other era.
pub fn unknown_method(method: &str) -> RpcError {
    RpcError::new(METHOD_NOT_FOUND, format!("the method `{}` is not known here", shortened(method)))
}
