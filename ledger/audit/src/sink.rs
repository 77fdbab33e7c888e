//! Destinations of checkpoints. A file is enough if it is on another machine's disk or is shipped by something else; syslog and OTLP are
//! implemented by the crates that have their connections.

use std::{future::Future, os::unix::fs::FileTypeExt as _, path::PathBuf, pin::Pin};
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
            let mut options = OpenOptions::new();
            // A named pipe is not waited for.
            let options = options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK);
            let mut file = options.open(&self.path).await.map_err(failed)?;
            if file.metadata().await.map_err(failed)?.file_type().is_fifo() {
                return Err(SinkError("it is a named pipe, and has to be a file".to_owned()));
            }
            file.write_all(format!("{line}\n").as_bytes()).await.map_err(failed)?;
            file.sync_data().await.map_err(failed)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_named_pipe_in_the_place_of_a_file_is_told_of_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("checkpoints.jsonl");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Nobody reads it; then somebody does.
        assert!(FileSink::new(&path).send("{}").await.is_err());
        let _reader = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let error = FileSink::new(&path).send("{}").await.unwrap_err();
        assert!(error.to_string().contains("named pipe"), "{error}");
    }
}
