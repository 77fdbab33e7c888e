//! The tarball for other distributions: the same files as the Debian package, below one folder, and what they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use super::{
    deb::{links_to_nothing_else, needed_libc},
    fresh, layout, output,
    root::Root,
    source_date, version,
};

/// Builds it. Two builds of the same sources by the same compiler are identical.
pub fn build(home: &Path, program: &Path) -> Result<PathBuf> {
    let architecture = std::env::consts::ARCH;
    let name = format!("gnomon-{}-linux-{architecture}", version()?);
    let tree = fresh(home.join(&name))?;
    layout::lay_out(&tree, program)?;
    let installed = tree.join("usr/bin/gnomon");
    links_to_nothing_else(&installed)?;
    layout::put(&tree, "INSTALL", install(&needed_libc(&installed)?).as_bytes(), 0o644)?;
    let tarball = home.join(format!("{name}.tar.xz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mode=go+rX,go-w", "--xz"]);
    tar.arg(format!("--mtime=@{}", source_date()?)).arg("-C").arg(home).arg("-cf").arg(&tarball).arg(&name);
    output(&mut tar)?;
    fs::remove_dir_all(tree)?;
    Ok(tarball)
}

fn install(libc: &str) -> String {
    format!(
        "gnomon for Linux, from a folder.\n\n\
         Needs: glibc {libc} or newer (musl will not do) and GCC's libgcc_s.so.1, which is beside it; Linux 5.10 or newer with cgroup v2;\n\
         for the services systemd 247 or newer.\n\
         Nothing else is linked: cryptography, SQLite and the kernel half are in the program.\n\n\
         To try it:     usr/bin/gnomon run\n\
         To install it: as root, cp -a usr etc / && systemd-sysusers && systemctl daemon-reload\n\
         \x20              systemctl enable --now gnomon-sensor gnomon\n\
         To remove it:  systemctl disable --now gnomon gnomon-sensor, then remove what `tar t` lists,\n\
         \x20              /var/lib/gnomon, and the user gnomon\n"
    )
}

/// Tests that the tarball works on the oldest supported release, where nothing that it needs is installed beforehand.
///
/// # Errors
/// It does not.
pub fn test(home: &Path, suite: &str, tarball: &Path) -> Result<()> {
    let root = Root::unpack(home, suite)?;
    let place = root.path().join("opt/gnomon");
    fs::create_dir_all(&place)?;
    output(Command::new("tar").args(["--strip-components=1", "-C"]).arg(&place).arg("-xf").arg(tarball))?;
    let inside = |arguments: &[&str]| output(Command::new("chroot").arg(root.path()).arg("/opt/gnomon/usr/bin/gnomon").args(arguments));
    inside(&["--version"])?;
    inside(&["rules", "check", "--config", "/opt/gnomon/etc/gnomon/gnomon.yml"])?;
    let certificate = inside(&["ca", "export", "--state-dir", "/opt/state"])?;
    ensure!(certificate.starts_with("-----BEGIN CERTIFICATE-----"), "no authority: {certificate}");
    println!("{suite}: the tarball's program starts, checks its rules, makes its authority");
    Ok(())
}
