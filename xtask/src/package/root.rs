//! The root file system of a Debian release: created once by mmdebstrap from the machine's own mirror, and unpacked for each run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{fresh, output};
use crate::debian::mirror;

/// What the package needs, what the test calls, and what it takes to boot.
const INCLUDE: &str = "systemd,systemd-sysv,dbus,ca-certificates,openssl,curl,iproute2,bpftool";

/// A root that is removed when dropped.
#[derive(Debug)]
pub struct Root(PathBuf);

impl Root {
    /// Unpacks the root file system of a release, which is created first if it does not exist.
    ///
    /// # Errors
    /// The mirror does not answer, or has no such release.
    pub fn unpack(home: &Path, suite: &str) -> Result<Self> {
        Self::unpack_archive(home, &archive(home, suite)?)
    }

    /// Unpacks this archive below `home`.
    ///
    /// # Errors
    /// The archive is broken.
    pub fn unpack_archive(home: &Path, archive: &Path) -> Result<Self> {
        let name = archive.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let root = Self(fresh(home.join(format!("root-{name}-{}", std::process::id())))?);
        output(Command::new("tar").arg("-C").arg(&root.0).args(["--exclude=./dev/*", "-xf"]).arg(archive))
            .with_context(|| format!("unpacking {}; remove it if it is broken", archive.display()))?;
        Ok(root)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The archive of a release, created if it does not exist.
///
/// # Errors
/// The mirror does not answer, or has no such release.
pub fn archive(home: &Path, suite: &str) -> Result<PathBuf> {
    let archive = home.join(format!("{suite}.tar"));
    if !archive.exists() {
        eprintln!("making a root file system of {suite}");
        let made = archive.with_extension("part");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=minbase", "--format=tar", "--include", INCLUDE, suite]).arg(&made).arg(mirror()?);
        output(&mut mmdebstrap)?;
        // Renamed into place at the end, so that a file that exists is complete.
        fs::rename(&made, &archive)?;
    }
    Ok(archive)
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
