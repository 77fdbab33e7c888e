//! The container image, from `deploy/container/Containerfile`, by buildah and so without a daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{fresh, output, source_date};
use crate::root as workspace;

/// The name of a root file system as a base image.
const LOCAL_BASE: &str = "localhost/gnomon-base:local";

/// Builds it from the Debian package, as an OCI archive. The base image is pulled from its registry, unless a root file system of
/// Debian's (a tar, as mmdebstrap makes it) is given instead.
///
/// # Errors
/// buildah is missing, or there is no base.
pub fn build(home: &Path, deb: &Path, base: Option<&Path>) -> Result<PathBuf> {
    let archive = home.join("gnomon-oci.tar");
    let store = Store::new(home)?;
    let deb = deb.file_name().context("a package without a name")?.to_string_lossy();
    if let Some(base) = base {
        let container = store.run(&["from", "scratch"])?;
        let container = container.trim();
        output(store.buildah(&["add", "--quiet", container]).arg(base).arg("/"))?;
        store.run(&["commit", "--quiet", "--rm", container, LOCAL_BASE])?;
    }
    let mut build = store.buildah(&["build", "--isolation", "chroot", "--build-arg", &format!("DEB={deb}")]);
    build.args(["--timestamp", &source_date()?.to_string()]);
    if base.is_some() {
        build.args(["--pull-never", "--build-arg", &format!("BASE={LOCAL_BASE}")]);
    }
    build.arg("-f").arg(workspace()?.join("deploy/container/Containerfile"));
    build.arg("-t").arg(format!("oci-archive:{}", archive.display())).arg(home);
    output(&mut build).context("the base image must be reachable, or be given with --base")?;
    Ok(archive)
}

/// Tests that the image works like the package: the program starts as its user and creates its authority.
///
/// # Errors
/// It does not.
pub fn test(home: &Path, archive: &Path) -> Result<()> {
    let store = Store::new(home)?;
    let container = store.run(&["from", &format!("oci-archive:{}", archive.display())])?;
    let container = container.trim();
    let inside = |arguments: &[&str]| {
        let mut run = store.buildah(&["run", "--isolation", "chroot", "--user", "gnomon", container, "--"]);
        output(run.args(arguments))
    };
    inside(&["/usr/bin/gnomon", "--version"])?;
    inside(&["/usr/bin/gnomon", "rules", "check", "--config", "/etc/gnomon/gnomon.yml"])?;
    let certificate = inside(&["/usr/bin/gnomon", "ca", "export", "--state-dir", "/var/lib/gnomon"])?;
    ensure!(certificate.starts_with("-----BEGIN CERTIFICATE-----"), "no authority: {certificate}");
    let about = store.run(&["inspect", "--format", "{{.OCIv1.Config.Entrypoint}} {{.OCIv1.Config.Cmd}}", container])?;
    ensure!(about.trim().starts_with("[/usr/bin/gnomon] [run "), "the image starts something else: {about}");
    println!("image: starts as its user, checks its rules, makes its authority");
    Ok(())
}

/// The folder in which buildah keeps layers; removed when dropped.
struct Store(PathBuf);

impl Store {
    fn new(home: &Path) -> Result<Self> {
        ensure!(Command::new("buildah").arg("--version").output().is_ok(), "buildah is missing: apt-get install buildah");
        Ok(Self(fresh(home.join(format!("image-{}", std::process::id())))?))
    }

    fn buildah(&self, arguments: &[&str]) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.0.join("root")).arg("--runroot").arg(self.0.join("run")).args(["--storage-driver", "vfs"]);
        buildah.args(arguments);
        buildah
    }

    fn run(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.buildah(arguments))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Containers first, as some of their files belong to other users.
        let _ = self.buildah(&["rm", "--all"]).output();
        let _ = self.buildah(&["rmi", "--all", "--force"]).output();
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} stays: {error}", self.0.display());
        }
    }
}
