//! An authority issued elsewhere: a fleet's intermediate for this host, with its key and the certificates above it.

use std::fs::File;
use std::path::Path;

use super::{
    CERTIFICATE_FILE, CaCertificate, CaError, CertificateAuthority, ChainPosition, KEY_FILE, io_error, lock, prepare, read_text,
    write_whole,
};

/// The treatment of an authority that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// The existing one is kept, which is an error.
    Keep,
    /// Replaced; clients that trust it trust the new one only if they trust its issuer.
    Replace,
}

impl CertificateAuthority {
    /// Puts an authority into the state directory: the file `chain` has its certificate first, then those above it in order (the
    /// root may be left out), and the file `key` its private key, both in PEM, of at most 64 KiB. The files written get the directory's
    /// owner.
    ///
    /// # Errors
    /// [`CaError`]: the pair is none, has expired or may not sign; a certificate did not issue the one before it; or there is an
    /// authority already.
    pub fn import(state_dir: &Path, chain: &Path, key: &Path, present: Present) -> Result<CaCertificate, CaError> {
        prepare(state_dir)?;
        let _lock = lock(state_dir)?;
        let (certificate_path, key_path) = (state_dir.join(CERTIFICATE_FILE), state_dir.join(KEY_FILE));
        if present == Present::Keep && certificate_path.exists() {
            return Err(CaError::Present { certificate: certificate_path });
        }
        let read = |path: &Path| read_text(File::open(path).map_err(io_error("opening", path))?, path);
        let certificate = CaCertificate::parse(chain, read(chain)?)?;
        certificate.must_be_valid(chain)?;
        let pem = read(key)?;
        let imported = Self::pair(certificate, &pem, chain, key)?;
        write_whole(&key_path, pem.as_bytes(), 0o600)?;
        write_whole(&certificate_path, imported.certificate.pem.as_bytes(), 0o644)?;
        Ok(imported.certificate)
    }
}

impl CaCertificate {
    /// Whether another authority issued it: then it is not for trust stores, its root is.
    #[must_use]
    pub fn is_intermediate(&self) -> bool {
        self.position == ChainPosition::Intermediate
    }
}
