//! Kernels from Debian's packages: downloaded by the machine's own apt from the mirror that it uses, with lists and
//! caches apart, and unpacked. Nothing is installed, and the machine's own lists are left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Kernel;
use crate::run;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// The package that always depends on the suite's current kernel.
const CURRENT: &str = "linux-image-cloud-amd64";

/// The kernel's file, from an earlier run or from the mirror.
pub fn fetch(home: &Path, kernel: Kernel) -> Result<PathBuf> {
    let kept = home.join(kernel.name).join("vmlinuz");
    if kept.exists() {
        return Ok(kept);
    }
    eprintln!("fetching the kernel of {}", kernel.suite);
    let suite = Suite::open(&home.join(kernel.name), kernel.suite)?;
    let image = suite.dependency(CURRENT, "linux-image-")?.with_context(|| format!("{} has no {CURRENT}", kernel.suite))?;
    // Since Linux 6.17 Debian's kernel itself is in a package of its own.
    let package = suite.dependency(&image, "linux-binary-")?.unwrap_or(image);
    let unpacked = suite.unpack(&package)?;
    let found = ["boot", "usr/lib/modules", "lib/modules"].iter().find_map(|folder| vmlinuz(&unpacked.join(folder), 2));
    let found = found.with_context(|| format!("no kernel in {package}"))?;
    // Moved into place at the end: what is there is whole.
    fs::rename(&found, &kept).with_context(|| format!("keeping {}", found.display()))?;
    fs::remove_dir_all(&unpacked)?;
    Ok(kept)
}

/// A file `vmlinuz` or `vmlinuz-VERSION`, at most this many folders deep.
fn vmlinuz(folder: &Path, depth: usize) -> Option<PathBuf> {
    let entries = || fs::read_dir(folder).ok().into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let here = entries().find(|path| named(path) && path.is_file());
    here.or_else(|| entries().filter(|_| depth > 1).find_map(|path| vmlinuz(&path, depth - 1)))
}

/// apt, looking at one suite only.
struct Suite {
    state: PathBuf,
}

impl Suite {
    fn open(state: &Path, name: &str) -> Result<Self> {
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(folder)).with_context(|| format!("making {}", state.display()))?;
        }
        let source = format!("deb [signed-by={KEYRING}] {} {name} main\n", mirror()?);
        fs::write(state.join("sources.list"), source)?;
        let suite = Self { state: state.to_owned() };
        run(suite.apt("apt-get").arg("update")).with_context(|| format!("the mirror in use has no {name}"))?;
        Ok(suite)
    }

    fn apt(&self, program: &str) -> Command {
        let mut apt = Command::new(program);
        apt.current_dir(&self.state).arg("-qq");
        for (key, value) in [("Dir::Etc::SourceList", "sources.list"), ("Dir::State::Lists", "lists"), ("Dir::Cache", "cache")] {
            apt.arg(format!("-o{key}={}", self.state.join(value).display()));
        }
        apt.args(["-oDir::Etc::SourceParts=/dev/null", "-oAcquire::Languages=none"]);
        // apt's own user cannot write below a home directory.
        apt.arg("-oAPT::Sandbox::User=root");
        apt
    }

    /// The first package that `package` depends on and whose name begins so.
    fn dependency(&self, package: &str, begin: &str) -> Result<Option<String>> {
        Ok(depends(&output(self.apt("apt-cache").args(["depends", package]))?, begin))
    }

    /// Downloads and unpacks a package; the answer is where.
    fn unpack(&self, package: &str) -> Result<PathBuf> {
        run(self.apt("apt-get").args(["download", package]))?;
        let mut files = fs::read_dir(&self.state)?.filter_map(|entry| Some(entry.ok()?.path()));
        let package = files.find(|path| path.extension().is_some_and(|end| end == "deb")).context("apt-get downloaded nothing")?;
        let unpacked = self.state.join("unpacked");
        run(Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked))?;
        fs::remove_file(&package)?;
        Ok(unpacked)
    }
}

/// From what `apt-cache depends` prints.
fn depends(listed: &str, begin: &str) -> Option<String> {
    let named = listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    named.map(str::trim).find(|name| name.starts_with(begin)).map(str::to_owned)
}

/// The Debian mirror that this machine uses, in whichever form its sources are written.
fn mirror() -> Result<String> {
    let asked = output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]))?;
    let mirror = asked.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    Ok(mirror.context("apt's sources name no Debian mirror")?.to_owned())
}

/// What a command prints; anything but success is an error that names it.
fn output(command: &mut Command) -> Result<String> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting {:?}", command.get_program()))?;
    ensure!(output.status.success(), "{command:?} ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_current_package_depends_on() {
        let listed = "linux-image-cloud-amd64\n  Depends: linux-base-cloud-amd64\n  Depends: linux-image-7.2.13+deb14-cloud-amd64\n";
        assert_eq!(depends(listed, "linux-image-").as_deref(), Some("linux-image-7.2.13+deb14-cloud-amd64"));
        assert_eq!(depends(listed, "linux-binary-"), None);
    }
}
