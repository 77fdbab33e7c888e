//! Serves [`gnomon_bench::upstream`] over TLS, h1 and h2, on every address of `localhost`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, ensure};
use clap::Parser;
use gnomon_bench::{pki, upstream};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Parser)]
struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    pki::install_provider();
    let mut config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(pki::read_certs(&args.cert)?, pki::read_key(&args.key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    // A proxy may try either address family first; a refusal would cost it a round trip.
    let mut serving = tokio::task::JoinSet::new();
    for address in tokio::net::lookup_host(("localhost", args.port)).await? {
        if let Ok(listener) = TcpListener::bind(address).await {
            serving.spawn(serve(listener, acceptor.clone()));
        }
    }
    ensure!(!serving.is_empty(), "no address of localhost could be bound on port {}", args.port);
    serving.join_all().await;
    Ok(())
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(tls) = acceptor.accept(stream).await else { return };
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tls), service_fn(upstream::answer)).await;
        });
    }
}
