//! The peer: hudsucker with a body check written the way its documentation suggests, that is
//! collect the body, match a regex, pass it on.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use clap::Parser;
use gnomon_bench::pki::{self, PemPair};
use http_body_util::{BodyExt, Full};
use hudsucker::certificate_authority::RcgenAuthority;
use hudsucker::hyper::{Method, Request};
use hudsucker::rustls::crypto::aws_lc_rs;
use hudsucker::{Body, HttpContext, HttpHandler, Proxy, RequestOrResponse};

static HITS: AtomicU64 = AtomicU64::new(0);

#[derive(Parser)]
struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    ca_cert: PathBuf,
    #[arg(long)]
    ca_key: PathBuf,
    #[arg(long)]
    upstream_ca: PathBuf,
}

#[derive(Clone)]
struct BodyCheck {
    pattern: regex::bytes::Regex,
}

impl HttpHandler for BodyCheck {
    async fn handle_request(&mut self, _: &HttpContext, request: Request<Body>) -> RequestOrResponse {
        if request.method() == Method::CONNECT {
            return request.into();
        }
        let (head, body) = request.into_parts();
        let Ok(collected) = body.collect().await else {
            return Request::from_parts(head, Body::empty()).into();
        };
        let bytes = collected.to_bytes();
        if self.pattern.is_match(&bytes) {
            HITS.fetch_add(1, Ordering::Relaxed);
        }
        Request::from_parts(head, Body::from(Full::new(bytes))).into()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    pki::install_provider();
    let issuer = pki::read_issuer(&PemPair { cert: args.ca_cert, key: args.ca_key })?;
    let authority = RcgenAuthority::new(issuer, 1_000, aws_lc_rs::default_provider());
    let connector = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(pki::client_config(&[&args.upstream_ca])?)
        .https_or_http()
        .enable_http1()
        .build();
    let pattern = regex::bytes::Regex::new(r#""method"\s*:\s*"tools/call""#)?;
    Proxy::builder()
        .with_addr(([127, 0, 0, 1], args.port).into())
        .with_ca(authority)
        .with_http_connector(connector)
        .with_http_handler(BodyCheck { pattern })
        .build()?
        .start()
        .await?;
    Ok(())
}
