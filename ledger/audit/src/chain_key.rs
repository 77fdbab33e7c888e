//! Which key a chain goes on with.

use crate::{Checkpoint, KeyError, SigningKey, Store, StoreError};
use std::{io, path::Path};

impl SigningKey {
    /// The key of this chain: made where the chain has nothing yet, else the one that signed it. A new key for an old chain would have every
    /// verification say that its checkpoints are forged.
    ///
    /// # Errors
    /// When the store cannot be read, the key cannot be used, is missing, or is not that of the chain's last checkpoint.
    pub async fn of_chain(path: &Path, store: &mut dyn Store) -> Result<Self, StoreError> {
        let last = store.last_checkpoint().await?;
        if last.is_none() && store.head().await?.seq == 0 {
            return Ok(Self::open(path)?);
        }
        let key = match Self::read(path) {
            Err(KeyError::Io { source, path }) if source.kind() == io::ErrorKind::NotFound => return Err(KeyError::Missing(path).into()),
            read => read?,
        };
        let signed = last.and_then(|last| Checkpoint::parse(&last.line).ok());
        if signed.is_some_and(|signed| !signed.is_signed_by(&key.public())) {
            return Err(KeyError::Another(path.to_owned()).into());
        }
        Ok(key)
    }
}
