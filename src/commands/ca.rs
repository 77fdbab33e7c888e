//! `gnomon ca`: the certificate authority that clients must trust for gnomon to see inside TLS.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gnomon_cli::{
    Complaint,
    options::{Format, FormatFlag, StateFlag},
};
use gnomon_tls::{CaCertificate, CertificateAuthority, InstallError, Present, StoreStatus, TrustStore};
use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

#[derive(Subcommand)]
pub enum Ca {
    /// Write the certificate (PEM), making the authority first if there is none
    Export(Export),
    /// Use an authority of your fleet instead of this host's own: an intermediate certificate and its key
    Import(Import),
    /// Add it to the system's trust store (needs root)
    Install(StateFolder),
    /// Remove it from the system's trust store (needs root)
    Uninstall(StateFolder),
    /// Show the certificate and whether this system trusts it
    Status(Status),
}

#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    state: StateFlag,
    /// Write it to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Args)]
pub struct Import {
    #[command(flatten)]
    state: StateFlag,
    /// PEM: the authority's certificate, then those above it in order; the root may be left out
    #[arg(value_name = "CHAIN")]
    chain: PathBuf,
    /// PEM: its private key, ECDSA (P-256, P-384), Ed25519 or RSA, not encrypted
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Replace the existing authority; clients that trust only that one stop working
    #[arg(long)]
    replace: bool,
}

#[derive(Args)]
pub struct StateFolder {
    #[command(flatten)]
    state: StateFlag,
}

#[derive(Args)]
pub struct Status {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
}

impl Ca {
    pub fn run(self) -> Result<()> {
        let store = TrustStore::default();
        let mut out = io::stdout().lock();
        match self {
            Self::Export(Export { state, out: None }) => write!(out, "{}", made(&state)?.pem())?,
            Self::Export(Export { state, out: Some(path) }) => {
                fs::write(&path, made(&state)?.pem()).with_context(|| format!("cannot write {}", path.display()))?;
            }
            Self::Import(import) => import.run(&mut out)?,
            Self::Install(StateFolder { state }) => {
                let ca = made(&state)?;
                if ca.is_intermediate() {
                    let cause = format!("{} is an intermediate authority, which programs do not trust by itself", ca.subject());
                    return Err(Complaint::own(cause).next("make this system trust the root that issued it").into());
                }
                store.install(&ca)?;
                writeln!(out, "{} is trusted by this system now ({})", ca.subject(), store.certificate.display())?;
                writeln!(
                    out,
                    "Programs that are running keep what they read at their start; Node.js, Python and Java may need more: docs/configuration.md"
                )?;
            }
            Self::Uninstall(StateFolder { .. }) => {
                store.uninstall()?;
                writeln!(out, "this system does not trust gnomon's certificate authority any more")?;
            }
            Self::Status(Status { state, format }) => status(&mut out, &store, &state, format.format())?,
        }
        Ok(())
    }
}

impl Import {
    fn run(self, out: &mut impl Write) -> Result<()> {
        let present = if self.replace { Present::Replace } else { Present::Keep };
        let ca = CertificateAuthority::import(&self.state.dir()?, &self.chain, &self.key, present)?;
        writeln!(out, "{} is this gnomon's authority now, valid to {}", ca.subject(), ca.not_after().date())?;
        let who = if ca.is_intermediate() { "the root that issued it" } else { "it" };
        writeln!(out, "Clients must trust {who}. A gnomon that runs takes it at its next start: systemctl restart gnomon")?;
        Ok(())
    }
}

/// The certificate; the authority is made if there is none, so that it can be handed out before the
/// first start.
fn made(state: &StateFlag) -> Result<CaCertificate> {
    let dir = state.dir()?;
    if let Some(certificate) = CaCertificate::load(&dir)? {
        return Ok(certificate);
    }
    let (authority, _) = CertificateAuthority::load_or_create(&dir)?;
    Ok(authority.certificate().clone())
}

fn status(out: &mut impl Write, store: &TrustStore, state: &StateFlag, format: Format) -> Result<()> {
    let dir = state.dir()?;
    let certificate = CaCertificate::load(&dir)?
        .ok_or_else(|| Complaint::own(format!("no certificate authority in {}", dir.display())).next("`gnomon ca export` makes one"))?;
    let trust: Result<StoreStatus, InstallError> = store.status(&certificate);
    let (word, sentence) = match trust? {
        StoreStatus::Trusted => ("trusted", "this system trusts it"),
        StoreStatus::NotInBundle => ("not_in_bundle", "installed, but the system's bundle was not rebuilt; run: sudo gnomon ca install"),
        StoreStatus::OtherCertificate => ("other_certificate", "another gnomon's certificate is installed; run: sudo gnomon ca install"),
        StoreStatus::Absent if certificate.is_intermediate() => {
            ("intermediate", "an intermediate: this system must trust the root that issued it")
        }
        StoreStatus::Absent => ("absent", "this system does not trust it; run: sudo gnomon ca install"),
    };
    let file = dir.join("ca.pem");
    match format {
        Format::Json => {
            let status = serde_json::json!({
                "file": file.display().to_string(),
                "subject": certificate.subject(),
                "fingerprint_sha256": certificate.fingerprint_sha256(),
                "not_before": certificate.not_before().date().to_string(),
                "not_after": certificate.not_after().date().to_string(),
                "system_trust": word,
            });
            writeln!(out, "{status}")?;
        }
        Format::Text => {
            writeln!(out, "certificate  {}", file.display())?;
            writeln!(out, "subject      {}", certificate.subject())?;
            writeln!(out, "SHA-256      {}", certificate.fingerprint_sha256())?;
            writeln!(out, "valid        {} to {}", certificate.not_before().date(), certificate.not_after().date())?;
            writeln!(out, "system       {sentence}")?;
        }
    }
    Ok(())
}
