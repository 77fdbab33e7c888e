//! Checks that the proxy for the variables is a gnomon, and finds its authority.

use gnomon_cli::Complaint;
use gnomon_http::{
    SendError,
    client::{Answer, Bounds, ClientError, get_blocking},
};
use gnomon_tls::CaCertificate;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Its head alone is read.
const BOUNDS: Bounds = Bounds { answer: 0, patience: Duration::from_secs(5) };

/// The certificate file of the gnomon that serves at this address, from one of these state folders.
pub fn check(proxy: SocketAddr, state_dirs: &[PathBuf]) -> Result<PathBuf, Complaint> {
    let foreign = || Complaint::own(format!("what answers at {proxy} is not gnomon")).next("name the proxy with --proxy");
    let read = async |answer: Answer| Ok::<_, ClientError>(answer.headers().clone());
    let headers = get_blocking(&format!("http://{proxy}/"), BOUNDS, read).map_err(|error| match error {
        ClientError::Send(SendError::Closed | SendError::Other(_)) => foreign(),
        error => {
            Complaint::own(format!("no proxy answers at {proxy}: {error}")).next("start one with `gnomon run`, or name it with --proxy")
        }
    })?;
    if !headers.contains_key("x-gnomon") {
        return Err(foreign());
    }
    let Some(fingerprint) = headers.get("x-gnomon-ca").and_then(|value| value.to_str().ok()) else {
        return Err(Complaint::own(format!("the proxy at {proxy} asks for a user and a password, which variables cannot carry safely"))
            .next("join a gnomon that runs as root instead, without --proxy-env"));
    };
    let its_own = |dir: &&PathBuf| CaCertificate::load(dir).ok().flatten().is_some_and(|ca| ca.fingerprint_sha256() == fingerprint);
    state_dirs.iter().find(its_own).map(|dir| dir.join("ca.pem")).ok_or_else(|| {
        Complaint::own(format!("the authority of the proxy at {proxy} ({fingerprint}) is in none of the state folders that can be read"))
            .next("name its state folder with --state-dir")
    })
}
