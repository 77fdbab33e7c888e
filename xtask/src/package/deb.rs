//! The Debian package.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{fresh, layout, output, source_date, version};
use crate::root as workspace;

/// What the maintainer scripts call that is not essential in Debian.
const DEPENDS: &str = "systemd | systemd-standalone-sysusers | systemd-sysusers, passwd";

/// Builds it. Two builds of the same sources by the same compiler are identical.
pub fn build(home: &Path, program: &Path, revision: u32) -> Result<PathBuf> {
    let version = format!("{}-{revision}", version()?);
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?.trim().to_owned();
    let tree = fresh(home.join("tree"))?;
    layout::lay_out(&tree, program)?;
    layout::put(&tree, "usr/share/doc/gnomon/changelog.Debian.gz", &layout::gzip(changelog(&version)?.as_bytes())?, 0o644)?;
    let sources = workspace()?.join("deploy/debian");
    for script in ["postinst", "prerm", "postrm"] {
        layout::put(&tree, &format!("DEBIAN/{script}"), &fs::read(sources.join(script))?, 0o755)?;
    }
    layout::put(&tree, "DEBIAN/conffiles", b"/etc/gnomon/gnomon.yml\n", 0o644)?;
    let control = control(&version, &architecture, &needed_libc(&tree.join("usr/bin/gnomon"))?, size(&tree)?);
    layout::put(&tree, "DEBIAN/control", control.as_bytes(), 0o644)?;
    folders_for_everybody(&tree)?;
    let deb = home.join(format!("gnomon_{version}_{architecture}.deb"));
    let mut dpkg = Command::new("dpkg-deb");
    dpkg.args(["--root-owner-group", "-Zxz", "--build"]).arg(&tree).arg(&deb);
    output(dpkg.env("SOURCE_DATE_EPOCH", source_date()?.to_string()))?;
    fs::remove_dir_all(tree)?;
    Ok(deb)
}

fn control(version: &str, architecture: &str, libc: &str, kib: u64) -> String {
    format!(
        "Package: gnomon\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: The gnomon authors <gnomon@localhost>\n\
         Installed-Size: {kib}\n\
         Depends: libc6 (>= {libc}), libgcc-s1, ca-certificates, {DEPENDS}\n\
         Section: net\n\
         Priority: optional\n\
         Description: finds and governs shadow MCP traffic\n\
         \x20Shows which AI agents talk to which MCP (Model Context Protocol) servers, says\n\
         \x20who allowed it, and brings them to the sanctioned ones. A small sensor in the\n\
         \x20kernel (eBPF) tags TLS connections with their process; a serving half without\n\
         \x20privilege reads what is sent through it, and judges it by Sigma rules.\n\
         \x20.\n\
         \x20Once installed it observes, and changes nothing on the host.\n"
    )
}

fn changelog(version: &str) -> Result<String> {
    let date = output(Command::new("date").args(["-u", "-R", "-d", &format!("@{}", source_date()?)]))?;
    Ok(format!(
        "gnomon ({version}) unstable; urgency=medium\n\n  * Built from the sources; see changelog.gz for what is new.\n\n -- The gnomon authors <gnomon@localhost>  {}\n",
        date.trim()
    ))
}

/// The newest version of the C library that the program requires.
pub fn needed_libc(program: &Path) -> Result<String> {
    let symbols = output(Command::new("objdump").arg("-T").arg(program))?;
    let versions = symbols.split("GLIBC_").skip(1).filter_map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut numbers = rest.get(..end)?.split('.').map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    let (major, minor) = versions.max().context("the program asks for no C library")?;
    Ok(format!("{major}.{minor}"))
}

/// Fails if the program links to more than `INSTALL` and docs/install.md say: glibc with its libm, and libgcc.
pub fn links_to_nothing_else(program: &Path) -> Result<()> {
    let headers = output(Command::new("objdump").arg("-p").arg(program))?;
    let needed = headers.lines().filter_map(|line| line.trim().strip_prefix("NEEDED")).map(str::trim);
    let other: Vec<_> = needed
        .filter(|library| !["libc.so", "libm.so", "libgcc_s.so", "ld-linux"].iter().any(|known| library.starts_with(known)))
        .collect();
    ensure!(other.is_empty(), "the program links to {} as well; say so in INSTALL and docs/install.md", other.join(", "));
    Ok(())
}

/// The size on disk, in KiB.
fn size(tree: &Path) -> Result<u64> {
    let said = output(Command::new("du").args(["-sk", "--apparent-size"]).arg(tree))?;
    said.split_whitespace().next().and_then(|number| number.parse().ok()).context("du says no size")
}

/// Makes all folders readable, whatever the umask of the build.
fn folders_for_everybody(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_dir()) {
        folders_for_everybody(&entry.path())?;
    }
    Ok(())
}
