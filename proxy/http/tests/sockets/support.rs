//! Upstreams for the tests: a certificate authority, TLS servers, and pools that trust them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use gnomon_http::{Alpn, AlpnCache, Destination, DialOptions, Dialer, PoolOptions, Pools, RequestBody, Scheme, UpstreamBody, UpstreamTls};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivatePkcs8KeyDer;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub const NAME: &str = "mcp.example";

/// An upstream's authority, and its certificate in a file.
pub struct UpstreamCa {
    issuer: Issuer<'static, KeyPair>,
    pub pem_file: PathBuf,
    _dir: TempDir,
}

impl UpstreamCa {
    pub fn new() -> Self {
        Self::named("upstream CA")
    }

    pub fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let dir = tempfile::tempdir().unwrap();
        let pem_file = dir.path().join("upstream-ca.pem");
        std::fs::write(&pem_file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), pem_file, _dir: dir }
    }

    pub fn server(&self, name: &str, alpn: &[Alpn]) -> Arc<ServerConfig> {
        self.server_valid_until(name, alpn, OffsetDateTime::now_utc() + Duration::days(1))
    }

    pub fn server_valid_until(&self, name: &str, alpn: &[Alpn], not_after: OffsetDateTime) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = not_after - Duration::days(2);
        params.not_after = not_after;
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        config.alpn_protocols = alpn.iter().filter_map(|a| a.wire()).map(<[u8]>::to_vec).collect();
        Arc::new(config)
    }

    /// A server whose own certificate is this authority's, as `openssl req -x509` makes it.
    pub fn server_itself(&self) -> Arc<ServerConfig> {
        let pem = std::fs::read(&self.pem_file).unwrap();
        let certificate = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(&pem).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivatePkcs8KeyDer::from(self.issuer.key().serialize_der()).into())
            .unwrap();
        Arc::new(config)
    }

    /// A server that goes on with none but clients with a certificate of this authority.
    pub fn server_asking_for_certificates(&self, name: &str, version: &'static rustls::SupportedProtocolVersion) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = OffsetDateTime::now_utc() + Duration::days(1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        let pem = std::fs::read(&self.pem_file).unwrap();
        roots.add(<rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(&pem).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate.der().clone()], PrivatePkcs8KeyDer::from(key.serialize_der()).into())
            .unwrap();
        Arc::new(config)
    }

    pub fn trusted(&self) -> UpstreamTls {
        UpstreamTls::new(std::slice::from_ref(&self.pem_file)).unwrap()
    }
}

/// A dialer that resolves `NAME` (any port) to `address`.
pub fn dialer(port: u16, address: SocketAddr) -> Dialer {
    let to = format!("{NAME}:{port}:{}:{}", address.ip(), address.port());
    Dialer::new(DialOptions { resolve: vec![to.parse().unwrap()], ..DialOptions::default() })
}

pub fn pools<B: RequestBody>(tls: UpstreamTls, address: SocketAddr) -> Pools<B> {
    Pools::new(dialer(443, address), tls, Arc::new(AlpnCache::default()), PoolOptions::default())
}

pub fn dest(alpn: Alpn) -> Destination {
    Destination::new(Scheme::Https, NAME, 443, alpn, Arc::from("uid:1000")).unwrap()
}

pub fn post(body: &'static str) -> Request<Full<Bytes>> {
    Request::post("/mcp").body(Full::from(body)).unwrap()
}

/// A server that echoes method, path, version and host, and counts its connections.
pub struct Echo {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
}

impl Echo {
    pub async fn start(config: Arc<ServerConfig>) -> Self {
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let address = serve(config, move |tls| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                let h2 = tls.get_ref().1.alpn_protocol() == Some(b"h2");
                let io = TokioIo::new(tls);
                if h2 {
                    let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service_fn(echo)).await;
                } else {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(io, service_fn(echo)).with_upgrades().await;
                }
            }
        })
        .await;
        Self { address, connections }
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn echo(mut req: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
    if req.headers().contains_key(http::header::UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut req);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
        let switching = Response::builder().status(101).header("upgrade", "websocket").header("connection", "upgrade");
        return Ok(switching.body(Full::default()).unwrap());
    }
    let host = req.headers().get("host").map_or("-", |h| h.to_str().unwrap()).to_owned();
    let authority = req.uri().authority().map_or("-", |a| a.as_str()).to_owned();
    let text = format!("{} {} {:?} host={host} authority={authority}", req.method(), req.uri().path(), req.version());
    Ok(Response::new(Full::from(text)))
}

/// Accepts TLS connections and passes each to `handle`.
pub async fn serve<F, R>(config: Arc<ServerConfig>, handle: F) -> SocketAddr
where
    F: Fn(TlsStream<TcpStream>) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            if let Ok(tls) = acceptor.accept(tcp).await {
                tokio::spawn(handle(tls));
            }
        }
    });
    address
}

/// The start of a body, as text.
pub async fn text(response: Response<UpstreamBody>) -> String {
    use http_body_util::BodyExt;
    let mut body = http_body_util::Limited::new(response.into_body(), 64 << 10);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame.unwrap().into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    String::from_utf8(bytes).unwrap()
}
