//! One part: this program again, with its socket as standard input.

use super::{hand::Handed, privilege::become_user, user::User};
use anyhow::{Context, Result, ensure};
use gnomon_link::SensorEnd;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::{
    ffi::{CStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    str::FromStr,
    sync::OnceLock,
};

/// A part that runs.
#[derive(Debug)]
pub struct Part(Child);

impl Part {
    /// The sensor.
    pub fn sensor(arguments: &[OsString], environment: &[(&'static str, PathBuf)], link: SensorEnd) -> io::Result<Self> {
        let parent = ["--parent".into(), std::process::id().to_string().into()];
        Self::start(arguments.iter().cloned().chain(parent), link.into_socket().into(), environment)
    }

    /// The process that serves: what we were called with, who it is to become, and where it gets its links to sensors.
    pub fn serving(
        arguments: &[OsString],
        environment: &[(&'static str, PathBuf)],
        user: &User,
        links: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let sensors = if links.is_some() { Given::Stdin } else { Given::None };
        let serving = Serving { user: user.clone(), parent: std::process::id(), sensors };
        let input = links.map_or_else(Stdio::null, Stdio::from);
        Self::start(arguments.iter().cloned().chain(["--serving".into(), serving.to_string().into()]), input, environment)
    }

    fn start(arguments: impl Iterator<Item = OsString>, input: Stdio, environment: &[(&'static str, PathBuf)]) -> io::Result<Self> {
        // The very file that runs, even if another has taken its place since.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("gnomon").args(arguments).stdin(input).envs(environment.iter().map(|(name, value)| (name, value)));
        // The terminal's signals are for us, to be handed on once.
        command.process_group(0);
        // The watchdog names the process that was started as a service; without this, parts would not report.
        command.env_remove("WATCHDOG_PID");
        command.spawn().map(Self)
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// The process's number, which is its own until [`Part::ended`] has said so.
    pub fn pid(&self) -> Result<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("a process without a number")
    }

    pub fn kill(&mut self) {
        // An error means that it has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The source of the serving process's links to sensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Stdin,
    None,
}

/// The argument of the serving process, from the one that started it: `UID:GID:PARENT:SENSORS:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    user: User,
    parent: u32,
    sensors: Given,
}

/// The user this process became.
static BECAME: OnceLock<User> = OnceLock::new();

/// The user that this process became for good, if it is the one that serves.
pub fn became() -> Option<&'static User> {
    BECAME.get()
}

impl Serving {
    /// Switches to its user. Returns the source of its links to sensors, if there are to be any.
    ///
    /// # Errors
    /// If it cannot, or its parent is gone.
    pub fn take_up(&self) -> Result<Option<Handed>> {
        become_user(&self.user)?;
        let _ = BECAME.set(self.user.clone());
        settle(c"gnomon-serving", self.parent)?;
        match self.sensors {
            Given::None => Ok(None),
            Given::Stdin => Ok(Some(Handed::new(take_stdin()?))),
        }
    }
}

impl std::fmt::Display for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sensors = match self.sensors {
            Given::Stdin => "stdin",
            Given::None => "none",
        };
        write!(f, "{}:{}:{}:{sensors}:{}", self.user.uid, self.user.gid, self.parent, self.user.name)
    }
}

impl FromStr for Serving {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "only the supervisor says this".to_owned();
        let mut parts = text.splitn(5, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong);
        let (uid, gid, parent) = (number()?, number()?, number()?);
        let sensors = match parts.next() {
            Some("stdin") => Given::Stdin,
            Some("none") => Given::None,
            _ => return Err(wrong()),
        };
        Ok(Self { user: User { name: parts.next().ok_or_else(wrong)?.to_owned(), uid, gid }, parent, sensors })
    }
}

/// The sensor's end of the link.
///
/// # Errors
/// Standard input is none, or who started us is gone.
pub fn sensor_end(parent: u32) -> Result<SensorEnd> {
    settle(c"gnomon-sensor", parent)?;
    SensorEnd::from_socket(take_stdin()?).context("this is started by gnomon run, not by hand")
}

/// A name for ps, and an end with the parent's end. To be called after any change of user, which clears the latter.
fn settle(name: &CStr, parent: u32) -> Result<()> {
    rustix::thread::set_name(name).context("taking a name")?;
    set_parent_process_death_signal(Some(Signal::TERM)).context("asking to be told when the parent ends")?;
    // It may have ended before that.
    let now = getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned());
    ensure!(now == Some(parent), "the process that started this one is gone");
    Ok(())
}

/// Standard input under another number, with nothing in its place: it hangs up when that is dropped.
fn take_stdin() -> Result<OwnedFd> {
    let stdin = io::stdin().as_fd().try_clone_to_owned().context("taking the link")?;
    rustix::stdio::dup2_stdin(File::open("/dev/null").context("opening /dev/null")?).context("closing standard input")?;
    Ok(stdin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_serving_process_is_told_is_understood() {
        let user = User { name: "odd:name".to_owned(), uid: 65534, gid: 7 };
        for sensors in [Given::Stdin, Given::None] {
            let told = Serving { user: user.clone(), parent: 12, sensors };
            assert_eq!(told.to_string().parse(), Ok(told));
        }
        for bad in ["", "1", "1:2:3", "1:2:3:maybe:x", "-1:2:3:none:x", "1:2:3:none"] {
            assert!(bad.parse::<Serving>().is_err(), "{bad}");
        }
    }
}
