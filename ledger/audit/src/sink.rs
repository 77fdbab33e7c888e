//! Destinations of checkpoints. A file is enough if it is on another machine's disk or is shipped by something else; syslog and OTLP are
//! implemented by the crates that have their connections.

use std::{future::Future, path::PathBuf, pin::Pin};
use thiserror::Error;
use tokio::{fs::OpenOptions, io::AsyncWriteExt};

/// A line on its way.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send + 'a>>;

/// An error of delivering a checkpoint.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SinkError(pub String);

/// A receiver of checkpoints outside of this host.
pub trait Sink: Send {
    /// Its name in messages.
    fn name(&self) -> &str;
    /// Sends a line (without its line feed). `Ok` means that it has left.
    fn send<'a>(&'a mut self, line: &'a str) -> Sending<'a>;
}

/// Appends checkpoints to a file, synced, mode 0640.
#[derive(Debug)]
pub struct FileSink {
    path: PathBuf,
    name: String,
}

impl FileSink {
    /// Appends to this file, creating it where it is missing.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { name: path.display().to_string(), path }
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        &self.name
    }

    fn send<'a>(&'a mut self, line: &'a str) -> Sending<'a> {
        Box::pin(async move {
            let failed = |error: std::io::Error| SinkError(error.to_string());
            // Opened anew each time: others rotate it, and mounts come and go.
            let mut file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path).await.map_err(failed)?;
            file.write_all(format!("{line}\n").as_bytes()).await.map_err(failed)?;
            file.sync_data().await.map_err(failed)
        })
    }
}
