//! The status of a feature on this kernel: it works, is missing, or was refused.

use std::io;

use aya::programs::ProgramError;

use crate::SensorError;

/// The status of a feature here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// Works.
    Ok,
    /// This kernel does not support it.
    Unsupported(String),
    /// The kernel has it, but it failed: mostly a missing capability.
    Broken(String),
    /// Not applicable, as a feature that it builds upon is missing.
    NotApplicable,
}

/// Distinguishes features that a kernel lacks from those it refuses.
pub(crate) fn status(error: &ProgramError) -> Status {
    let text = match error {
        // The last line of the verifier's log says what the error was; the rest is of no use to a reader.
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // The statistics behind it are left out.
            let statistics = ["processed ", "verification time ", "stack depth "];
            let telling = |line: &&str| !line.is_empty() && !statistics.iter().any(|begin| line.starts_with(begin));
            let said = log.lines().rev().find(telling).unwrap_or_default();
            let helper = ["unknown func ", "invalid func ", "cannot use helper "].iter().any(|refusal| log.contains(refusal));
            let lacking = helper || (log.trim().is_empty() && io_error.raw_os_error() == Some(libc::EINVAL));
            let text = format!("{io_error}: {said}");
            return if lacking { Status::Unsupported(text) } else { Status::Broken(text) };
        }
        other => other.to_string(),
    };
    match error {
        ProgramError::SyscallError(error) => system(&error.io_error, text),
        _ => Status::Broken(text),
    }
}

/// The status of a failed system call.
pub(crate) fn system(error: &io::Error, text: String) -> Status {
    match error.raw_os_error() {
        Some(libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP | libc::ENOSYS) => Status::Unsupported(text),
        _ => Status::Broken(text),
    }
}

impl From<&SensorError> for Status {
    fn from(error: &SensorError) -> Self {
        Self::Broken(error.to_string())
    }
}
