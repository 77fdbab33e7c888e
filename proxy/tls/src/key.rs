//! The key of leaf certificates.

use std::sync::Arc;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::sign::SigningKey;
use rustls_pki_types::PrivatePkcs8KeyDer;

use crate::CaError;

/// The key of all leaves that this process makes: as rcgen wants it, and as rustls does. It is never
/// written anywhere.
pub(crate) struct LeafKey {
    pair: KeyPair,
    signing: Arc<dyn SigningKey>,
}

impl LeafKey {
    pub(crate) fn generate() -> Result<Self, CaError> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let der = PrivatePkcs8KeyDer::from(pair.serialize_der());
        let signing = rustls::crypto::aws_lc_rs::default_provider().key_provider.load_private_key(der.into())?;
        Ok(Self { pair, signing })
    }

    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    pub(crate) fn signing(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signing)
    }
}
