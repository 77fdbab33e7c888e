//! The container image, from `deploy/container/Containerfile`, by buildah and so without a daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{output, source_date};
use crate::root as workspace;

/// Builds it from the Debian package, as an OCI archive.
///
/// # Errors
/// buildah is missing, or the base image cannot be pulled.
pub fn build(home: &Path, deb: &Path) -> Result<PathBuf> {
    let archive = home.join("gnomon-oci.tar");
    let deb = deb.file_name().context("a package without a name")?.to_string_lossy();
    let mut buildah = Command::new("buildah");
    buildah.args(["build", "--storage-driver", "vfs", "--timestamp", &source_date()?.to_string(), "--build-arg", &format!("DEB={deb}")]);
    buildah.arg("-f").arg(workspace()?.join("deploy/container/Containerfile"));
    buildah.arg("-t").arg(format!("oci-archive:{}", archive.display())).arg(home);
    output(&mut buildah).context("the base image must be reachable; apt-get install buildah")?;
    Ok(archive)
}
