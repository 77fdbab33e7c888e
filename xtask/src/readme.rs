//! `cargo xtask readme`: runs the README's two commands on a Debian 12 with Rust, a C compiler, make, CMake and nothing else.
//!
//! Existing build products are used: the checkout, cargo's folders and the compiler are mounted under their own paths. It therefore tests
//! whether the commands work there, not how long the first build takes. Cargo writes to the build folder, which belongs to root; an
//! ordinary user runs the same test programs without cargo. A test that skips because a program is missing must name the package to
//! install.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::debian::{mirror, output};
use crate::package::Root;
use crate::{cargo, root, run, skips, target_dir};

const SUITE: &str = "bookworm";
/// What README says that building needs; the C compiler comes without its library's headers, so they are listed.
const INCLUDE: &str = "ca-certificates,cmake,gcc,libc6-dev,make";

/// Mounts what the commands need in a new namespace and enters it. `$1` is the root, `$2` the user; then come folders, `--`, and the
/// command.
const ENTER: &str = r#"
root=$1 user=$2; shift 2
# A mount, and the root of its namespace, as a system's is: tests make mount namespaces in it, and look into others'.
mount --bind "$root" "$root"
for folder in /proc /sys /dev; do mount --rbind "$folder" "$root$folder"; done
while [ "$1" != -- ]; do mkdir -p "$root$1"; mount --rbind "$1" "$root$1"; shift; done; shift
# Others pass through root's home to what is mounted below it.
chmod 755 "$root/root"
install -d -o "$user" -g "$user" "$root/home/newcomer"
# As every installed Debian has it; what mmdebstrap makes does not.
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
# Where this is, there as well.
here=$PWD; mkdir -p "$root/.old"; cd "$root"; pivot_root . .old; cd /; umount -l /.old
exec sh -c 'cd "$0" && exec "$@"' "$here" setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
"#;

/// Starts gnomon as README does, with other ports and another folder, until it says where it listens; then stops it.
const FIRST: &str = r#"
"$@" run --state-dir "$HOME/state" --listen 127.0.0.1:0 --metrics 127.0.0.1:0 >"$HOME/said" 2>&1 & gnomon=$!
for _ in $(seq 600); do
    grep -q 'proxy' "$HOME/said" && [ -e "$HOME/state/ca.pem" ] && break
    kill -0 "$gnomon" || break
    sleep 0.1
done
kill -TERM "$gnomon"; wait "$gnomon" || { cat "$HOME/said"; exit 1; }
[ -s "$HOME/state/ca.pem" ] && echo 'gnomon ran, and ended when it was asked to'
"#;

/// Runs every test program in its package's folder, as cargo does; one line `FOLDER PROGRAM` for each.
const SECOND: &str = r#"
failed=0
while read -r folder program; do
    echo "     Running $program"
    (cd "$folder" && CARGO_MANIFEST_DIR="$folder" "$program") </dev/null || failed=1
done <"$1"
exit $failed
"#;

/// Options of the check of the README.
#[derive(Args)]
pub struct Readme {
    /// The user who runs the commands; both without it
    #[arg(long = "as", value_enum)]
    who: Option<Who>,
}

/// The user who runs the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    Root,
    User,
}

impl Readme {
    /// # Errors
    /// A command fails there, or a test skips without naming a package to install; or this machine lacks mmdebstrap or root's rights.
    pub fn run(self) -> Result<ExitCode> {
        let programs = test_programs()?;
        let stage = Stage { root: Root::unpack_archive(&target_dir()?.join("readme"), &fetch()?)? };
        for who in [Who::Root, Who::User].into_iter().filter(|who| self.who.is_none_or(|only| only == *who)) {
            println!("as {who:?}: the first command");
            let gnomon = target_dir()?.join("release/gnomon");
            match who {
                Who::Root => stage.enter(who, &["sh", "-c", FIRST, "sh", "cargo", "run", "--release", "--"])?,
                Who::User => stage.enter(who, &["sh", "-c", FIRST, "sh", &gnomon.display().to_string()])?,
            }
            println!("as {who:?}: the second command");
            let list = target_dir()?.join("readme/programs");
            fs::write(&list, &programs)?;
            fs::write(stage.skips()?, "")?;
            match who {
                Who::Root => stage.enter(who, &["cargo", "test", "--release", "--workspace", "--no-fail-fast"])?,
                Who::User => stage.enter(who, &["sh", "-c", SECOND, "sh", &list.display().to_string()])?,
            }
            skips::told(&fs::read_to_string(stage.skips()?)?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The archive of the root file system, created if it does not exist.
///
/// # Errors
/// The mirror does not answer.
pub fn fetch() -> Result<PathBuf> {
    let home = target_dir()?.join("readme");
    fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
    let archive = home.join("newcomer.tar");
    if !archive.exists() {
        let made = archive.with_extension("part");
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap.args(["--quiet", "--variant=minbase", "--format=tar", "--include", INCLUDE, SUITE]).arg(&made).arg(mirror()?);
        run(&mut mmdebstrap)?;
        // Renamed into place at the end, so that a file that exists is complete.
        fs::rename(&made, &archive)?;
    }
    Ok(archive)
}

/// The system that the commands run on.
struct Stage {
    root: Root,
}

impl Stage {
    /// The file in which tests record skips; it has the same path inside and is writable for both users.
    fn skips(&self) -> Result<PathBuf> {
        let file = target_dir()?.join("readme/skips");
        Ok(file)
    }

    /// Runs a command there.
    fn enter(&self, who: Who, command: &[&str]) -> Result<()> {
        let (user, home) = match who {
            Who::Root => ("0", "/root"),
            Who::User => ("1000", "/home/newcomer"),
        };
        let skips = self.skips()?;
        if !skips.exists() {
            fs::write(&skips, "")?;
        }
        open_to_all(&skips)?;
        let sysroot = PathBuf::from(output(Command::new("rustc").args(["--print", "sysroot"]))?.trim());
        let own = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
        let own = own.context("neither CARGO_HOME nor a home directory")?;
        let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", sysroot.join("bin").display());
        let mut enter = Command::new("unshare");
        enter.args(["--mount", "--propagation", "private", "sh", "-euc", ENTER, "sh"]).arg(self.root.path()).arg(user);
        enter.args([root()?, &target_dir()?, &sysroot, &own]).arg("--").args(command);
        enter.env_clear().current_dir(root()?).stdin(Stdio::null());
        enter.env("PATH", path).env("HOME", home).env("CARGO_HOME", own).env("CARGO_TARGET_DIR", target_dir()?);
        enter.env("GNOMON_SKIPS", skips).env("CARGO_NET_OFFLINE", "true").env("CARGO_TERM_COLOR", "never").env("CARGO_INCREMENTAL", "0");
        run(&mut enter)
    }
}

fn open_to_all(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(file, fs::Permissions::from_mode(0o666))?)
}

/// What `cargo test --release --workspace` runs except for doctests: one line of folder and program for each.
fn test_programs() -> Result<String> {
    let mut build = cargo();
    build.current_dir(root()?).args(["test", "--release", "--workspace", "--locked", "--no-run", "--message-format=json"]);
    let messages = output(&mut build)?;
    let programs: Vec<String> = messages.lines().filter_map(program).collect();
    ensure!(!programs.is_empty(), "cargo built no test program");
    Ok(programs.join("\n") + "\n")
}

/// Parses a message of cargo. Paths with quotes or spaces are not supported.
fn program(message: &str) -> Option<String> {
    let value = |key: &str| message.split_once(&format!(r#""{key}":""#))?.1.split('"').next();
    let program = value("executable")?;
    let folder = value("manifest_path")?.strip_suffix("/Cargo.toml")?;
    // The target too has a field `test`; the one of the profile says whether this is a test program.
    let profile = message.split_once(r#""profile":{"#)?.1.split('}').next()?;
    profile.contains(r#""test":true"#).then(|| format!("{folder} {program}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_among_the_messages_of_cargo() {
        let test = r#"{"reason":"compiler-artifact","manifest_path":"/w/ledger/Cargo.toml","profile":{"opt_level":"3","test":true},"executable":"/t/deps/behaviour-0a"}"#;
        assert_eq!(program(test).as_deref(), Some("/w/ledger /t/deps/behaviour-0a"));
        assert_eq!(program(&test.replace("true", "false")), None);
        let itself =
            r#"{"manifest_path":"/w/Cargo.toml","target":{"kind":["bin"],"test":true},"profile":{"test":false},"executable":"/t/gnomon"}"#;
        assert_eq!(program(itself), None);
        assert_eq!(program(&test.replace(r#""/t/deps/behaviour-0a""#, "null")), None);
    }
}
