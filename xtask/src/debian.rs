//! Debian packages: downloaded by the machine's own apt from its configured mirror, with separate lists and caches, and unpacked. Nothing
//! is installed, and the machine's own lists are not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::run;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// apt, restricted to one suite.
pub struct Suite {
    state: PathBuf,
}

impl Suite {
    /// Opens a suite; its lists and caches are in a folder of their own.
    ///
    /// # Errors
    /// The mirror has no such suite, or apt cannot be run.
    pub fn open(state: &Path, name: &str) -> Result<Self> {
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

    /// The first package that `package` depends on whose name has this prefix.
    ///
    /// # Errors
    /// apt knows no such package.
    pub fn dependency(&self, package: &str, begin: &str) -> Result<Option<String>> {
        Ok(depends(&output(self.apt("apt-cache").args(["depends", package]))?, begin))
    }

    /// The first version of a package with this prefix.
    ///
    /// # Errors
    /// apt cannot be run.
    pub fn version(&self, package: &str, begin: &str) -> Result<Option<String>> {
        Ok(version(&output(self.apt("apt-cache").args(["madison", package]))?, begin))
    }

    /// Downloads a package (`name`, or `name=version`) and unpacks it into a folder.
    ///
    /// # Errors
    /// The mirror does not have it.
    pub fn unpack(&self, package: &str, into: &Path) -> Result<()> {
        run(self.apt("apt-get").args(["download", package]))?;
        let mut files = fs::read_dir(&self.state)?.filter_map(|entry| Some(entry.ok()?.path()));
        let package = files.find(|path| path.extension().is_some_and(|end| end == "deb")).context("apt-get downloaded nothing")?;
        run(Command::new("dpkg").arg("-x").arg(&package).arg(into))?;
        fs::remove_file(&package).with_context(|| format!("removing {}", package.display()))
    }
}

/// Parses the output of `apt-cache depends`.
fn depends(listed: &str, begin: &str) -> Option<String> {
    let named = listed.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    named.map(str::trim).find(|name| name.starts_with(begin)).map(str::to_owned)
}

/// The Debian mirror that this machine uses, in whichever form its sources are written.
pub fn mirror() -> Result<String> {
    let asked = output(Command::new("apt-get").args(["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"]))?;
    let mirror = asked.lines().find(|line| line.trim_end_matches('/').ends_with("/debian"));
    Ok(mirror.context("apt's sources name no Debian mirror")?.to_owned())
}

/// Parses the output of `apt-cache madison`: `rust-src | 1.95.0+dfsg1-2 | mirror suite/main ...`.
fn version(listed: &str, begin: &str) -> Option<String> {
    let versions = listed.lines().filter_map(|line| Some(line.split('|').nth(1)?.trim()));
    versions.into_iter().find(|found| found.starts_with(begin)).map(str::to_owned)
}

/// The output of a command. A failure is an error that names the command.
pub fn output(command: &mut Command) -> Result<String> {
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

    #[test]
    fn a_version_is_found_by_its_beginning() {
        let listed = " rust-src | 1.94.0+dfsg1-2 | mirror sid/main\n rust-src | 1.95.0+dfsg1-2 | mirror sid/main\n";
        assert_eq!(version(listed, "1.95.0+").as_deref(), Some("1.95.0+dfsg1-2"));
        assert_eq!(version(listed, "1.96"), None);
    }
}
