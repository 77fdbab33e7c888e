//! Which files a package contains, and where: the same below `/` of a Debian package and in a tarball.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::output;
use crate::root as workspace;

/// Files of the sources, and their places in the package.
const FILES: [(&str, &str); 7] = [
    ("deploy/systemd/gnomon.slice", "usr/lib/systemd/system/gnomon.slice"),
    ("deploy/systemd/gnomon-sensor.service", "usr/lib/systemd/system/gnomon-sensor.service"),
    ("deploy/systemd/gnomon.service", "usr/lib/systemd/system/gnomon.service"),
    ("deploy/systemd/gnomon.sysusers", "usr/lib/sysusers.d/gnomon.conf"),
    ("deploy/debian/gnomon.yml", "etc/gnomon/gnomon.yml"),
    ("deploy/debian/copyright", "usr/share/doc/gnomon/copyright"),
    ("deploy/examples/gnomon.yml", "usr/share/doc/gnomon/examples/gnomon.yml"),
];

/// Folders whose files are packaged as examples, if the folders exist.
const EXAMPLES: [&str; 2] = ["deploy/prometheus", "deploy/grafana"];

/// Where the rules that ship are, in a folder for each pack.
const RULES: &str = "usr/share/gnomon/rules";

/// Shells, and the places of their completions.
const SHELLS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/gnomon"),
    ("zsh", "usr/share/zsh/vendor-completions/_gnomon"),
    ("fish", "usr/share/fish/vendor_completions.d/gnomon.fish"),
];

/// Copies everything to `tree`, which must be empty.
pub fn lay_out(tree: &Path, program: &Path) -> Result<()> {
    let sources = workspace()?;
    put(tree, "usr/bin/gnomon", &fs::read(program)?, 0o755)?;
    let bare = tree.join("usr/bin/gnomon");
    // As Debian's policy (10.1) requires, whatever the build profile.
    output(Command::new("strip").args(["--strip-unneeded", "--remove-section=.comment"]).arg(&bare))?;
    for (from, to) in FILES {
        put(tree, to, &fs::read(sources.join(from)).with_context(|| from.to_owned())?, 0o644)?;
    }
    for folder in EXAMPLES.iter().map(|folder| sources.join(folder)).filter(|folder| folder.is_dir()) {
        let name = folder.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
        for entry in fs::read_dir(&folder)?.flatten().filter(|entry| entry.path().is_file()) {
            let to = format!("usr/share/doc/gnomon/examples/{name}/{}", entry.file_name().to_string_lossy());
            put(tree, &to, &fs::read(entry.path())?, 0o644)?;
        }
    }
    // As files, to be read, copied and diffed; the program has its own.
    for pack in fs::read_dir(sources.join("rules/packs"))?.flatten().filter(|entry| entry.path().is_dir()) {
        for rule in fs::read_dir(pack.path())?.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "yml")) {
            let to = format!("{RULES}/{}/{}", pack.file_name().to_string_lossy(), rule.file_name().to_string_lossy());
            put(tree, &to, &fs::read(rule.path())?, 0o644)?;
        }
    }
    for (shell, to) in SHELLS {
        let completions = output(reference(program).args(["completions", shell]))?;
        put(tree, to, completions.as_bytes(), 0o644)?;
    }
    for (page, text) in super::pages::pages(sources, &EXAMPLES)? {
        put(tree, &format!("{}/{page}", super::pages::FOLDER), text.as_bytes(), 0o644)?;
    }
    man(tree, program)?;
    put(tree, "usr/share/doc/gnomon/changelog.gz", &gzip(&fs::read(sources.join("CHANGELOG.md"))?)?, 0o644)
}

/// A command that makes the program print its generated pages.
fn reference(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("reference");
    command
}

fn man(tree: &Path, program: &Path) -> Result<()> {
    let made = super::fresh(tree.with_extension("man"))?;
    output(reference(program).arg("man").arg(&made))?;
    for page in fs::read_dir(&made)?.flatten() {
        let to = format!("usr/share/man/man1/{}.gz", page.file_name().to_string_lossy());
        put(tree, &to, &gzip(&fs::read(page.path())?)?, 0o644)?;
    }
    Ok(fs::remove_dir_all(made)?)
}

/// Compressed without a name or a time, as Debian's policy (12.1, 12.7) and reproducibility require.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new("gzip").arg("-9n").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("starting gzip")?;
    let mut input = child.stdin.take().context("gzip takes no input")?;
    let bytes = bytes.to_vec();
    // A thread of its own, as a full pipe would block both ends.
    let fed = std::thread::spawn(move || input.write_all(&bytes));
    let done = child.wait_with_output()?;
    ensure!(done.status.success() && fed.join().is_ok_and(|written| written.is_ok()), "gzip failed");
    Ok(done.stdout)
}

/// Writes one file and creates its folders.
pub fn put(tree: &Path, to: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let path = tree.join(to);
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}
