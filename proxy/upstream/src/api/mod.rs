//! An HTTP API that a document describes, as a server: its operations are tools, its calls requests.
//!
//! It takes the place of a server of the stateless era, so that a call of an operation takes the very road of any other: policy,
//! schema, rules, audit come before it, and it adds the credentials, which no caller may see. It knows one base; redirections are
//! answers.

mod credentials;
mod integers;
mod selection;

pub use selection::Selection;

use crate::{
    endpoint::{Endpoint, Limits, ServerPools},
    error::UpstreamError,
    legacy::ServerFace,
    oversight::{Asked, News, Oversight},
};
use bytes::Bytes;
use credentials::Credentials;
use gnomon_access::Hints;
use gnomon_catalogue::{
    catalogue::{Entry, Kind, Listed},
    members::Members,
    rpc::{INVALID_PARAMS, METHOD_NOT_FOUND, Outcome, RpcError},
};
use gnomon_openapi::{Effect, Imported, Operation, Veil, result};
use http::{
    HeaderMap, HeaderValue, Response,
    header::{ACCEPT_ENCODING, COOKIE, USER_AGENT},
    uri::PathAndQuery,
};
use integers::beyond;
use serde_json::{Map, Value, json};
use smol_str::SmolStr;
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

/// Most requests to one API at a time; further ones wait.
pub(crate) const IN_FLIGHT: usize = 64;
/// Most tools, and bytes of them, that the rules judge at once.
const PAGE: (usize, usize) = (256, 256 << 10);
const AGENT: HeaderValue = HeaderValue::from_static(concat!("gnomon/", env!("CARGO_PKG_VERSION")));
const PLAIN: HeaderValue = HeaderValue::from_static("identity");

/// Options of an API.
pub struct ApiOptions {
    /// The server's id.
    pub id: SmolStr,
    /// The API's document.
    pub imported: Imported,
    /// The operations that are offered.
    pub selection: Selection,
    /// Headers that every request carries.
    pub headers: HeaderMap,
    /// Secrets by the document's name for the scheme that each is for.
    pub secrets: Vec<(String, String)>,
}

/// An error of serving a document.
#[derive(Debug, thiserror::Error)]
pub enum InvalidApi {
    /// The document has no such scheme.
    #[error("the document has no security scheme `{0}`; it has: {1}")]
    Scheme(String, String),
    /// The scheme exists, but no secret can be sent that way.
    #[error("the security scheme `{0}` takes no secret: {1}")]
    Unsupported(String, SmolStr),
    /// The secret cannot stand where it belongs.
    #[error("the secret for the security scheme `{0}` cannot be sent there")]
    Secret(String),
    /// The base is not a valid URL for requests.
    #[error("its base cannot be called: {0}")]
    Base(#[from] crate::endpoint::InvalidUrl),
}

/// An API.
pub struct Api {
    endpoint: Endpoint,
    /// The beginning of every path.
    base: String,
    title: String,
    operations: HashMap<SmolStr, Operation>,
    entries: Vec<Arc<Entry>>,
    credentials: Credentials,
    veil: Veil,
}

impl Api {
    /// Bounds of one request: the whole answer within a minute, and 4 MiB.
    pub const LIMITS: Limits = Limits { patience: Duration::from_secs(60), message: 4 << 20 };

    /// The API of a document.
    ///
    /// # Errors
    /// [`InvalidApi`].
    pub fn new(pools: Arc<ServerPools>, options: ApiOptions, limits: Limits) -> Result<Self, InvalidApi> {
        let ApiOptions { id, imported, selection, headers, secrets } = options;
        let credentials = Credentials::new(&imported.schemes, &secrets)?;
        let sent = headers.values().filter_map(|value| value.to_str().ok());
        let parts = sent.flat_map(|value| [Some(value), value.split_once(' ').map(|(_, rest)| rest)]).flatten();
        let veil = Veil::new(parts.chain(secrets.iter().map(|(_, secret)| secret.as_str())));
        let endpoint = Endpoint::new(pools, &id, &imported.base.to_string(), headers, limits)?;
        let entry = |operation: &Operation| {
            let is_read = operation.effect == Effect::Read;
            let hints = Hints { read_only: Some(is_read), destructive: (!is_read && operation.method.is_idempotent()).then_some(true) };
            let listed = selection.listed(operation, &id);
            Arc::new(Entry::of_document(operation.name.clone(), (operation.tool.clone(), operation.brief.clone()), hints, listed))
        };
        Ok(Self {
            endpoint,
            base: imported.base.path,
            title: imported.title,
            entries: imported.operations.iter().map(entry).collect(),
            operations: imported.operations.into_iter().map(|operation| (operation.name.clone(), operation)).collect(),
            credentials,
            veil,
        })
    }

    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The API's description of itself.
    pub(crate) fn face(&self) -> ServerFace {
        let info = json!({"name": self.title, "version": "openapi"});
        ServerFace { capabilities: Bytes::from_static(b"{\"tools\":{}}"), info: Some(Bytes::from(info.to_string())), instructions: None }
    }

    /// The tools, as far as the rules let them be offered: one that they refuse costs no other.
    pub(crate) async fn judged(&self, id: &SmolStr, over: &impl Oversight) -> Vec<Arc<Entry>> {
        if !over.judges() {
            return self.entries.clone();
        }
        let (offered, hidden): (Vec<_>, Vec<_>) =
            self.entries.iter().cloned().partition(|entry| !matches!(entry.listed(), Listed::Nowhere(_)));
        let mut judged = Vec::with_capacity(self.entries.len());
        let mut withheld_by = BTreeSet::new();
        let mut rest = &offered[..];
        while !rest.is_empty() {
            let mut room = PAGE.1;
            let fits = rest.iter().take(PAGE.0).take_while(|entry| {
                room.checked_sub(entry.text.len()).is_some_and(|left| {
                    room = left;
                    true
                })
            });
            let (page, after) = rest.split_at(fits.count().max(1));
            rest = after;
            if over.judge(&asked_at(page), &listing(page), News::Some).await.is_ok() {
                judged.extend_from_slice(page);
            } else {
                for entry in page {
                    let alone = std::slice::from_ref(entry);
                    match over.judge(&asked_at(alone), &listing(alone), News::None).await {
                        Ok(()) => judged.push(entry.clone()),
                        Err(why) => {
                            tracing::warn!(server = %id, operation = %entry.name, "is not offered: {why}");
                            withheld_by.extend(why.by().cloned());
                        }
                    }
                }
            }
            tokio::task::yield_now().await;
        }
        over.withheld(Kind::Tool.key(), &withheld_by.into_iter().collect::<Vec<_>>());
        // Operations that are always refused are not listed, and so not judged.
        judged.extend(hidden);
        judged
    }

    /// Answers a request.
    pub(crate) async fn answer(&self, method: &str, params: Option<&Bytes>) -> Result<Outcome, UpstreamError> {
        if method != "tools/call" {
            return Ok(RpcError::new(METHOD_NOT_FOUND, "an API has tools and nothing else").into());
        }
        let wrong = |text: &str| Ok(RpcError::new(INVALID_PARAMS, text).into());
        let Ok(members) = Members::of(params) else { return wrong("a member is listed twice in `params`") };
        let Some(operation) = members.text("name").and_then(|name| self.operations.get(&*name)) else {
            return wrong("there is no such operation");
        };
        let text = members.get("arguments").unwrap_or("{}");
        let arguments = match serde_json::from_str(text) {
            Ok(arguments) => arguments,
            Err(error) => return wrong(&format!("`arguments` cannot be read: {error}")),
        };
        if let Some(integer) = beyond(text) {
            let text = format!(
                "the integer {integer} in the arguments is beyond 64 bits, of which not all digits would be sent: nothing was called"
            );
            return Ok(Outcome::failed_tool(&text));
        }
        let Value::Object(arguments) = arguments else { return wrong("`arguments` is not an object") };
        self.call(operation, &arguments).await
    }

    async fn call(&self, operation: &Operation, arguments: &Map<String, Value>) -> Result<Outcome, UpstreamError> {
        let mut draft = match operation.draft(arguments) {
            Ok(draft) => draft,
            Err(unfit) => return Ok(Outcome::failed_tool(&unfit.to_string())),
        };
        self.credentials.put(&operation.needs, &mut draft);
        let target = format!("{}{}", self.base, draft.target());
        let Ok(target) = PathAndQuery::try_from(target) else { return Ok(Outcome::failed_tool("the arguments make no URL")) };
        let mut headers = draft.headers;
        headers.insert(USER_AGENT, AGENT);
        headers.insert(ACCEPT_ENCODING, PLAIN);
        if !draft.cookies.is_empty() {
            let Ok(mut cookies) = HeaderValue::from_str(&draft.cookies.join("; ")) else {
                return Ok(Outcome::failed_tool("the arguments make no cookie"));
            };
            cookies.set_sensitive(true);
            headers.insert(COOKIE, cookies);
        }
        let response = self.endpoint.exchange(draft.method, target, headers, draft.body).await?;
        Ok(Outcome::Result(self.told(&response)))
    }

    /// An answer as a result, without credentials.
    fn told(&self, response: &Response<Bytes>) -> Bytes {
        let body = self.veil.over(response.body().clone());
        let veiled = response.headers().iter().filter_map(|(name, value)| {
            let value = self.veil.over(Bytes::copy_from_slice(value.as_bytes()));
            Some((name.clone(), HeaderValue::from_maybe_shared(value).ok()?))
        });
        Bytes::from(result(response.status(), &veiled.collect(), &body))
    }
}

/// The question whose answer these entries are. A page of a document's operations is known by the first of them.
fn asked_at(entries: &[Arc<Entry>]) -> Asked<'_> {
    Asked { method: Kind::Tool.method(), cursor: entries.first().map(|entry| entry.name.as_str()) }
}

fn listing(entries: &[Arc<Entry>]) -> Outcome {
    let mut text = b"{\"tools\":[".to_vec();
    for (at, entry) in entries.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        text.extend_from_slice(&entry.text);
    }
    text.extend_from_slice(b"]}");
    Outcome::Result(Bytes::from(text))
}
