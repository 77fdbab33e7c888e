//! Kernels from Debian's packages.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Kernel;
use crate::debian::Suite;

/// The package that depends on the suite's current kernel.
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
    // Since Linux 6.17 Debian has the kernel image in a package of its own.
    let package = suite.dependency(&image, "linux-binary-")?.unwrap_or(image);
    let unpacked = home.join(kernel.name).join("unpacked");
    suite.unpack(&package, &unpacked)?;
    let found = ["boot", "usr/lib/modules", "lib/modules"].iter().find_map(|folder| vmlinuz(&unpacked.join(folder), 2));
    let found = found.with_context(|| format!("no kernel in {package}"))?;
    // Renamed into place at the end, so that a file that exists is complete.
    fs::rename(&found, &kept).with_context(|| format!("keeping {}", found.display()))?;
    fs::remove_dir_all(&unpacked)?;
    Ok(kept)
}

/// A file `vmlinuz` or `vmlinuz-VERSION`, at most `depth` folders below this one.
fn vmlinuz(folder: &Path, depth: usize) -> Option<PathBuf> {
    let entries = || fs::read_dir(folder).ok().into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz"));
    let here = entries().find(|path| named(path) && path.is_file());
    here.or_else(|| entries().filter(|_| depth > 1).find_map(|path| vmlinuz(&path, depth - 1)))
}
