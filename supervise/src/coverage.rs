//! The part of the host that the kernel half looks at.

use gnomon_cli::Complaint;
use gnomon_host::cgroup::Hierarchy;
use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

/// The part of the host that the kernel half looks at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SensorCoverage {
    /// The whole host.
    #[default]
    Host,
    /// No part.
    Off,
    /// Below the cgroup with this folder.
    Below(PathBuf),
}

impl FromStr for SensorCoverage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "host" => Ok(Self::Host),
            "off" => Ok(Self::Off),
            folder if folder.starts_with('/') => Ok(Self::Below(folder.into())),
            other => Err(format!("`{other}` is neither `host`, `off` nor the whole path of a cgroup's folder")),
        }
    }
}

impl SensorCoverage {
    /// Refuses a folder that is no cgroup's: a sensor could not work there, and whoever named it would have none without noticing.
    ///
    /// # Errors
    /// What is there instead, and what to name.
    pub fn check(&self) -> Result<(), Complaint> {
        match self {
            Self::Host | Self::Off => Ok(()),
            Self::Below(folder) => check_folder("--sensor", folder),
        }
    }
}

/// Refuses a folder that an option names and that is no cgroup's.
///
/// # Errors
/// What is there instead, and what to name.
pub fn check_folder(option: &str, folder: &Path) -> Result<(), Complaint> {
    let shown = folder.display();
    let hierarchy = Hierarchy::find().map_err(|error| Complaint::usage(format!("{option} {shown}: {error}")))?;
    let wrong = match Hierarchy::is_cgroup(folder) {
        Ok(true) => return Ok(()),
        Ok(false) => "that is not a cgroup v2 folder".to_owned(),
        Err(error) => error.to_string(),
    };
    let mount = hierarchy.mount();
    // The path of a cgroup as /proc/PID/cgroup and systemd-cgls write it.
    let meant = mount.join(folder.strip_prefix("/").unwrap_or(folder));
    let next = if meant != mount && Hierarchy::is_cgroup(&meant).is_ok_and(|is_cgroup| is_cgroup) {
        format!("name its folder: {option} {}", meant.display())
    } else {
        format!("name the folder of a cgroup, which is below {} on this host", mount.display())
    };
    Err(Complaint::usage(format!("{option} {shown}: {wrong}")).next(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_cgroup_is_refused_with_the_one_that_was_meant() {
        let Ok(hierarchy) = Hierarchy::find() else { return };
        let coverage = |folder: &Path| SensorCoverage::Below(folder.to_owned());
        assert!(coverage(hierarchy.mount()).check().is_ok() && SensorCoverage::Host.check().is_ok());
        let folder = tempfile::tempdir().unwrap();
        let refused =
            |folder: &Path| coverage(folder).check().err().map(|refused| (refused.cause, refused.next.unwrap_or_default())).unwrap();
        let (cause, next) = refused(folder.path());
        assert_eq!(cause, format!("--sensor {}: that is not a cgroup v2 folder", folder.path().display()));
        assert!(next.contains(&format!("below {}", hierarchy.mount().display())), "{next}");
        let (cause, _) = refused(&folder.path().join("no"));
        assert!(cause.ends_with("No such file or directory (os error 2)"), "{cause}");
        let (cause, _) = refused(Path::new("/proc/self/status"));
        assert!(cause.contains("Not a directory"), "{cause}");
        let Some(below) = std::fs::read_dir(hierarchy.mount()).unwrap().flatten().find(|entry| entry.path().is_dir()) else { return };
        let as_in_proc = Path::new("/").join(below.file_name());
        if !as_in_proc.exists() {
            assert_eq!(refused(&as_in_proc).1, format!("name its folder: --sensor {}", below.path().display()));
        }
    }
}
