//! The same authenticator with a real provider: `oidc-provider`, run by node.

use crate::provider::{bearer, claims_with, config, peer};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use gnomon_access::{Authenticator, Fetch, FetchError, Fetched, Rejection};
use http::{HeaderValue, header};
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

/// Longer than a start of node takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The real network.
struct Http(reqwest::Client);

impl Http {
    fn new() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self(reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap())
    }

    async fn read(request: reqwest::RequestBuilder) -> Result<Bytes, FetchError> {
        let failed = |error: reqwest::Error| FetchError(error.without_url().to_string());
        request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?.bytes().await.map_err(failed)
    }
}

impl Fetch for Http {
    fn get<'a>(&'a self, url: &'a str) -> Fetched<'a> {
        Box::pin(Self::read(self.0.get(url)))
    }

    fn post_form<'a>(&'a self, url: &'a str, form: Bytes, authorization: Option<HeaderValue>) -> Fetched<'a> {
        let request = self.0.post(url).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        Box::pin(Self::read(match authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }))
    }
}

struct Provider {
    issuer: String,
    http: Http,
    // It ends when its standard input is closed, and is killed when dropped.
    _process: Child,
}

/// Installs the provider once for each version of its fixture, below the build folder.
async fn installed() -> Result<PathBuf, String> {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider");
    let files = ["package.json", "package-lock.json", "provider.mjs"].map(|name| (name, fs::read(fixture.join(name)).unwrap()));
    let hash = digest(&SHA256, &files.iter().flat_map(|(_, bytes)| bytes.clone()).collect::<Vec<_>>());
    let mark: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("oidc-provider-{mark}"));
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in &files {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let install =
        Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder).kill_on_drop(true).output();
    match timeout(Duration::from_secs(300), install).await {
        Ok(Ok(output)) if output.status.success() => fs::write(folder.join("complete"), b"").unwrap(),
        Ok(Ok(output)) => {
            return Err(format!("npm ci failed: {}", String::from_utf8_lossy(&output.stderr).lines().last().unwrap_or_default()));
        }
        Ok(Err(error)) => return Err(format!("npm cannot be run: {error}")),
        Err(_) => return Err("npm ci did not end".to_owned()),
    }
    Ok(folder)
}

impl Provider {
    async fn start() -> Result<Self, String> {
        let folder = installed().await?;
        let mut node = Command::new("node");
        node.arg("provider.mjs").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let mut process = node.spawn().map_err(|error| format!("node cannot be run: {error}"))?;
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        match timeout(SOON, lines.next_line()).await {
            Ok(Ok(Some(issuer))) => Ok(Self { issuer, http: Http::new(), _process: process }),
            other => panic!("the provider does not start: {other:?}"),
        }
    }

    async fn token(&self, resource: &str) -> String {
        let form = format!("grant_type=client_credentials&scope=mcp%3Ause&resource={resource}");
        // The credentials `agent:agent-secret`.
        let secret = HeaderValue::from_static("Basic YWdlbnQ6YWdlbnQtc2VjcmV0");
        let answer = self.http.post_form(&format!("{}/token", self.issuer), form.into(), Some(secret)).await.unwrap();
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn door(&self) -> Authenticator {
        let issuer = &self.issuer;
        // The tests' resolver returns the fixture's secret for every reference.
        let yaml = format!(
            "{{ mode: oidc, issuer: '{issuer}', scopes: ['mcp:use'], introspection: {{ url: '{issuer}/token/introspection', client_id: portal, client_secret: 'env:X' }} }}"
        );
        Authenticator::new(config(&yaml), Arc::new(Http::new()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_real_provider_are_judged_as_ours_are() {
    if !gnomon_testkit::has("real-oidc-provider", &["node", "npm"]) {
        return;
    }
    let provider = match Provider::start().await {
        Ok(provider) => provider,
        Err(why) => return gnomon_testkit::skip("real-oidc-provider", &why),
    };
    let door = provider.door();
    door.warm().await.expect("its metadata and keys are found");

    let token = provider.token("https://portal.example/mcp").await;
    let caller = door.authenticate(&bearer(&token), &peer()).await.unwrap();
    assert_eq!(caller.subject, format!("{}|agent", provider.issuer));
    assert_eq!((caller.client.as_deref(), &caller.scopes[..]), (Some("agent"), &["mcp:use".into()][..]));

    let other = provider.token("https://other.example/mcp").await;
    assert_eq!(door.authenticate(&bearer(&other), &peer()).await.unwrap_err().rejection, Rejection::Audience);

    let opaque = provider.token("https://portal.example/opaque").await;
    assert!(!opaque.contains('.'));
    let caller = door.authenticate(&bearer(&opaque), &peer()).await.unwrap();
    assert_eq!((caller.client.as_deref(), caller.method), (Some("agent"), gnomon_access::AuthMethod::Introspection));
    assert_eq!(door.authenticate(&bearer("made-up"), &peer()).await.unwrap_err().rejection, Rejection::Unknown);

    // With the provider's key id, signed by another key.
    let forged = crate::provider::Signer::rsa().token("first", &claims_with(json!({"iss": provider.issuer})));
    assert_eq!(door.authenticate(&bearer(&forged), &peer()).await.unwrap_err().rejection, Rejection::Signature);
}
