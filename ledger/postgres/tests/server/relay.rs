//! A network between gnomon and a server that can fail at a chosen moment: a socket that leads to the server's.

use crate::stage::{Database, Server};
use gnomon_ledger_postgres::PostgresUrl;
use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

/// How a transaction ends, and no other statement says.
const COMMIT: &[u8] = b"; COMMIT\0";

/// What happens on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Network {
    Sound,
    /// Nothing arrives any more, in either direction.
    Silent,
    /// The server gets `COMMIT`, and then the connection breaks.
    CutAtCommit,
    /// The server gets `COMMIT`, and then nothing comes back.
    SilentAtCommit,
    /// The server gives the turn, and is told nothing more.
    SilentInTurn,
}

pub struct Relay {
    dir: tempfile::TempDir,
    network: Arc<AtomicU8>,
    task: JoinHandle<()>,
}

impl Relay {
    pub fn to(server: &Server) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = format!(".s.PGSQL.{}", server.port);
        let (listener, to) = (UnixListener::bind(dir.path().join(&socket)).unwrap(), server.folder().join(&socket));
        let network = Arc::new(AtomicU8::new(Network::Sound as u8));
        let now = network.clone();
        let task = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(carry(client, UnixStream::connect(&to).await.unwrap(), now.clone()));
            }
        });
        Self { dir, network, task }
    }

    pub fn set(&self, network: Network) {
        self.network.store(network as u8, Ordering::Relaxed);
    }

    pub fn url(&self, database: &Database) -> PostgresUrl {
        let (port, name) = (database.server.port, &database.name);
        format!("postgres://admin@:{port}/{name}?host={}", self.dir.path().display()).parse().unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut client: UnixStream, mut server: UnixStream, network: Arc<AtomicU8>) {
    let (mut up, mut down) = ([0; 16384], [0; 16384]);
    let is = |wanted: Network| network.load(Ordering::Relaxed) == wanted as u8;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(said @ 1..) = read else { return };
                if is(Network::Silent) {
                    return std::future::pending().await;
                }
                let said = &up[..said];
                server.write_all(said).await.unwrap();
                let says = |word: &[u8]| said.windows(word.len()).any(|at| at == word);
                if says(COMMIT) && is(Network::CutAtCommit) {
                    // The server has it, and does it: it answers.
                    server.readable().await.unwrap();
                    return;
                }
                if says(COMMIT) && is(Network::SilentAtCommit) || says(b"pg_advisory_xact_lock") && is(Network::SilentInTurn) {
                    return std::future::pending().await;
                }
            }
            read = server.read(&mut down) => {
                let Ok(said @ 1..) = read else { return };
                if is(Network::Silent) {
                    return std::future::pending().await;
                }
                if client.write_all(&down[..said]).await.is_err() {
                    return;
                }
            }
        }
    }
}
