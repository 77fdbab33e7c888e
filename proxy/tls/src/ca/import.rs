//! An authority issued elsewhere: a fleet's intermediate for this host, with its key and the certificates above it.

use std::fs::File;
use std::path::Path;

use super::{
    CERTIFICATE_FILE, CaCertificate, CaError, CertificateAuthority, ChainPosition, KEY_FILE, io_error, lock, pair, prepare, read_text,
};

/// The treatment of an authority that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Present {
    /// The existing one is kept, which is an error.
    Keep,
    /// Replaced, and its files moved aside; clients that trust it trust the new one only if they trust its issuer.
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
        if present == Present::Keep {
            if pair::is_there(&certificate_path)? {
                return Err(CaError::Present { certificate: certificate_path });
            }
            if pair::is_there(&key_path)? {
                return Err(CaError::CertificateMissing { certificate: certificate_path, key: key_path });
            }
        }
        let read = |path: &Path| read_text(File::open(path).map_err(io_error("opening", path))?, path);
        let certificate = CaCertificate::parse(chain, read(chain)?)?;
        certificate.must_be_valid(chain)?;
        let pem = read(key)?;
        let imported = Self::pair(certificate, &pem, chain, key)?;
        pair::set_aside(state_dir)?;
        pair::put(state_dir, &imported.certificate.pem, &pem)?;
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
