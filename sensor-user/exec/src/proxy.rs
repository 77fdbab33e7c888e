//! Checks that the proxy for the variables is a gnomon, and finds its authority.

use gnomon_cli::Complaint;
use gnomon_tls::CaCertificate;
use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

/// The longest that each step may take.
const STEP: Duration = Duration::from_secs(2);
/// The most bytes of its answer that are read.
const ANSWER: u64 = 16 << 10;

/// The certificate file of the gnomon that serves at this address, from one of these state folders.
pub fn check(proxy: SocketAddr, state_dirs: &[PathBuf]) -> Result<PathBuf, Complaint> {
    let answer = ask(proxy).map_err(|error| {
        Complaint::own(format!("no proxy answers at {proxy}: {error}")).next("start one with `gnomon run`, or name it with --proxy")
    })?;
    let lines = || answer.lines().skip(1).take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
    let header = |name: &str| lines().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim());
    if header("x-gnomon").is_none() {
        return Err(Complaint::own(format!("what answers at {proxy} is not gnomon")).next("name the proxy with --proxy"));
    }
    let Some(fingerprint) = header("x-gnomon-ca") else {
        return Err(Complaint::own(format!("the proxy at {proxy} asks for a user and a password, which variables cannot carry safely"))
            .next("join a gnomon that runs as root instead, without --proxy-env"));
    };
    let its_own = |dir: &&PathBuf| CaCertificate::load(dir).ok().flatten().is_some_and(|ca| ca.fingerprint_sha256() == fingerprint);
    state_dirs.iter().find(its_own).map(|dir| dir.join("ca.pem")).ok_or_else(|| {
        Complaint::own(format!("the authority of the proxy at {proxy} ({fingerprint}) is in none of the state folders that can be read"))
            .next("name its state folder with --state-dir")
    })
}

fn ask(proxy: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&proxy, STEP)?;
    stream.set_read_timeout(Some(STEP))?;
    stream.set_write_timeout(Some(STEP))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: {proxy}\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
