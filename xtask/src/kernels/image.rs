//! The initramfs of the guests: `tests/kernels/init`, busybox, and our programs with their libraries.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::Programs;
use crate::root;

/// Builds the image and returns its path. It is not compressed, as unpacking it would cost the guest more than reading it.
pub fn build(home: &Path, programs: &Programs) -> Result<PathBuf> {
    let tree = home.join("image");
    // Libraries of an earlier run must not hide that one is missing now.
    let _ = fs::remove_dir_all(&tree);
    for folder in ["bin", "proc", "sys", "dev", "tmp"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    let busybox = found("busybox").context("no busybox")?;
    let scripts = root()?.join("tests/kernels");
    let mut wanted = vec![(busybox.clone(), PathBuf::from("bin/busybox"))];
    wanted.push((scripts.join("init"), "init".into()));
    let ours = [(&programs.sensor, "kernel"), (&programs.groups, "group"), (&programs.features, "features")];
    wanted.extend(ours.map(|(program, name)| (program.clone(), name.into())));
    let mut all = BTreeSet::new();
    for program in [&busybox].into_iter().chain(ours.map(|(program, _)| program)) {
        all.extend(libraries(program)?);
    }
    for library in all {
        let inside = library.strip_prefix("/").context("a library with a relative path")?.to_owned();
        wanted.push((library, inside));
    }
    for (from, to) in wanted {
        let to = tree.join(to);
        fs::create_dir_all(to.parent().context("a file without folder")?)?;
        fs::copy(&from, &to).with_context(|| format!("copying {}", from.display()))?;
    }
    symlink("busybox", tree.join("bin/sh"))?;
    pack(&tree, &home.join("initramfs"))
}

fn pack(tree: &Path, image: &Path) -> Result<PathBuf> {
    let mut names = Command::new("find").current_dir(tree).arg(".").stdout(Stdio::piped()).spawn().context("starting find")?;
    let list = names.stdout.take().context("find's output")?;
    let mut cpio = Command::new("cpio");
    let cpio = cpio.current_dir(tree).args(["--create", "--format=newc", "--quiet", "--owner=0:0"]);
    let packed = cpio.stdin(list).stdout(File::create(image)?).status().context("starting cpio")?;
    ensure!(names.wait()?.success() && packed.success(), "the initramfs could not be packed");
    Ok(image.to_owned())
}

/// The shared libraries of a program, its loader included; none when it is static.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let asked = Command::new("ldd").arg(program).stderr(Stdio::null()).output().context("starting ldd")?;
    Ok(paths(&String::from_utf8(asked.stdout).context("what ldd says")?))
}

/// The absolute paths in the output of `ldd`: "NAME => PATH (ADDRESS)", or "PATH (ADDRESS)" for the loader.
fn paths(listed: &str) -> Vec<PathBuf> {
    let words = listed.lines().filter_map(|line| line.split_whitespace().rev().find(|word| word.starts_with('/')));
    words.map(PathBuf::from).collect()
}

/// The path of a program, looked up in PATH.
fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_copied_and_the_kernels_own_is_not() {
        let listed = "\tlinux-vdso.so.1 (0x7f)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x7f)\n\t/lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        assert_eq!(paths(listed), ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from));
        assert_eq!(paths("\tnot a dynamic executable\n"), Vec::<PathBuf>::new());
    }
}
