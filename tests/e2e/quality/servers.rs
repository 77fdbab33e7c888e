//! The servers of all hosts that the corpora name: one listener and certificate per host, each
//! giving the answer that was last prepared.

use super::corpus::{Case, Given};
use crate::support::{
    authority::Authority,
    gnomon::Setup,
    upstream::h1,
    upstream::h2,
    upstream::{Answer, End, Log, Received, Responder, by_default},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_rustls::TlsAcceptor;

/// The upstreams of a test, by the names that clients request.
pub struct Servers {
    authority: Authority,
    addresses: HashMap<String, SocketAddr>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    given: Mutex<Option<Given>>,
    log: Mutex<Arc<Log>>,
}

impl Servers {
    pub fn new() -> Self {
        Self { authority: Authority::new("the servers' authority"), addresses: HashMap::new(), shared: Arc::default() }
    }

    /// Prepares the servers for a case, and clears their logs.
    pub async fn prepare(&mut self, case: &Case) {
        *self.shared.given.lock().unwrap() = case.answer.clone();
        *self.shared.log.lock().unwrap() = Arc::default();
        let name = case.name().to_ascii_lowercase();
        if !self.addresses.contains_key(&name) {
            let address = self.listen(&name).await;
            self.addresses.insert(name, address);
        }
    }

    /// Makes gnomon resolve the names to these servers.
    pub fn known_to(&self, mut setup: Setup) -> Setup {
        for (name, address) in &self.addresses {
            let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
            setup = setup.resolve(&name, *address);
        }
        setup.trust(self.authority.pem_file())
    }

    /// JSON values that a server acted upon since [`Servers::prepare`].
    pub fn executed(&self) -> Vec<String> {
        self.look(|all| all.iter().flat_map(|r| &r.executed).map(|v| String::from_utf8_lossy(v).into_owned()).collect())
    }

    /// Paths of the requests that reached a server since then.
    pub fn paths(&self) -> Vec<String> {
        self.look(|all| all.iter().map(|r| r.path.clone()).collect())
    }

    /// Looks at those requests.
    pub fn look<R>(&self, look: impl FnOnce(&[Received]) -> R) -> R {
        let log = self.shared.log.lock().unwrap().clone();
        log.look(look)
    }

    async fn listen(&self, name: &str) -> SocketAddr {
        let acceptor = TlsAcceptor::from(self.authority.server(name, &["h2", "http/1.1"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = self.shared.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let _ = tcp.set_nodelay(true);
                let (acceptor, log) = (acceptor.clone(), shared.log.lock().unwrap().clone());
                let responder = shared.clone().responder();
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
                        h2::serve(tls, 0, log, responder).await;
                    } else {
                        h1::serve(tls, 0, log, responder).await;
                    }
                });
            }
        });
        address
    }
}

impl Shared {
    fn responder(self: Arc<Self>) -> Responder {
        Arc::new(move |received: &Received| {
            if received.end != Some(End::Clean) {
                return None;
            }
            self.given.lock().unwrap().clone().map_or_else(|| by_default(received), |given| Some(answer(given)))
        })
    }
}

/// A recorded answer. Bodies were recorded decoded and whole, so it is framed anew.
fn answer(given: Given) -> Answer {
    const FRAMING: [&str; 6] = ["content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "date"];
    let headers = given.headers.into_iter().map(|(name, value)| (&*name.to_ascii_lowercase().leak(), value));
    let headers: Vec<(&'static str, String)> = headers.filter(|(name, _)| !FRAMING.contains(name)).collect();
    let events = headers.iter().any(|(name, value)| *name == "content-type" && value.starts_with("text/event-stream"));
    if events && given.status == 200 {
        let (send, pieces) = mpsc::unbounded_channel();
        let _ = send.send(given.body);
        return Answer::Stream { headers, pieces };
    }
    Answer::Full { status: given.status, headers, body: given.body }
}
