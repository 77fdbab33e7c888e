//! One part: this program again, with its end of the link as standard input.

use super::{privilege::become_user, user::User};
use anyhow::{Context, Result, ensure};
use gnomon_link::{ProxyEnd, SensorEnd};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use std::{
    ffi::{CStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus, Stdio},
    str::FromStr,
};

/// A part that runs.
#[derive(Debug)]
pub struct Part(Child);

impl Part {
    /// The sensor.
    pub fn sensor(arguments: &[OsString], link: SensorEnd) -> io::Result<Self> {
        let parent = ["--parent".into(), std::process::id().to_string().into()];
        Self::start(arguments.iter().cloned().chain(parent), link.into_socket().into())
    }

    /// The process that serves: what we were called with, and who it is to become.
    pub fn serving(arguments: &[OsString], user: &User, link: Option<ProxyEnd>) -> io::Result<Self> {
        let serving =
            Serving { user: user.clone(), parent: std::process::id(), link: if link.is_some() { Link::Stdin } else { Link::None } };
        let input = link.map_or_else(Stdio::null, |link| link.into_socket().into());
        Self::start(arguments.iter().cloned().chain(["--serving".into(), serving.to_string().into()]), input)
    }

    fn start(arguments: impl Iterator<Item = OsString>, input: Stdio) -> io::Result<Self> {
        // The very file that runs, even if another has taken its place since.
        let mut command = Command::new("/proc/self/exe");
        command.arg0("gnomon").args(arguments).stdin(input);
        // The terminal's signals are for us, to be handed on once.
        command.process_group(0);
        command.spawn().map(Self)
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.0.try_wait()
    }

    /// Its number, which is its own until [`Part::ended`] has said so.
    pub fn pid(&self) -> Result<Pid> {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).context("a process without a number")
    }

    pub fn kill(&mut self) {
        // That it has ended by itself is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where the serving process finds its link to the sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Stdin,
    None,
}

/// What the serving process is told by the one that started it: `UID:GID:PARENT:LINK:NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    user: User,
    parent: u32,
    link: Link,
}

impl Serving {
    /// Becomes what it is to be. Its end of the link, if there is a sensor.
    ///
    /// # Errors
    /// It cannot, or who started it is gone.
    pub fn take_up(&self) -> Result<Option<ProxyEnd>> {
        become_user(&self.user)?;
        settle(c"gnomon-serving", self.parent)?;
        match self.link {
            Link::None => Ok(None),
            Link::Stdin => Ok(Some(ProxyEnd::from_socket(take_stdin()?)?)),
        }
    }
}

impl std::fmt::Display for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let link = match self.link {
            Link::Stdin => "stdin",
            Link::None => "none",
        };
        write!(f, "{}:{}:{}:{link}:{}", self.user.uid, self.user.gid, self.parent, self.user.name)
    }
}

impl FromStr for Serving {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "only the supervisor says this".to_owned();
        let mut parts = text.splitn(5, ':');
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or_else(wrong);
        let (uid, gid, parent) = (number()?, number()?, number()?);
        let link = match parts.next() {
            Some("stdin") => Link::Stdin,
            Some("none") => Link::None,
            _ => return Err(wrong()),
        };
        Ok(Self { user: User { name: parts.next().ok_or_else(wrong)?.to_owned(), uid, gid }, parent, link })
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
        for link in [Link::Stdin, Link::None] {
            let told = Serving { user: user.clone(), parent: 12, link };
            assert_eq!(told.to_string().parse(), Ok(told));
        }
        for bad in ["", "1", "1:2:3", "1:2:3:maybe:x", "-1:2:3:none:x", "1:2:3:none"] {
            assert!(bad.parse::<Serving>().is_err(), "{bad}");
        }
    }
}
