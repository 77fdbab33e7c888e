//! `gnomon disarm` and `gnomon arm`: one switch for everything that could stand in somebody's way.

use crate::commands::run::EXEC_SOCKET;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{Complaint, options::SwitchFlag};
use gnomon_exec::SOCKET_VARIABLE;
use gnomon_host::switch::ReasonKept;
use gnomon_sensord::status::Status;
use nix::unistd::{Uid, User};
use std::{
    env,
    io::{self, Write as _},
    path::PathBuf,
    thread::sleep,
    time::{Duration, Instant},
};

/// The time that the sensor has to obey; later the command says that it did not.
const OBEYS: Duration = Duration::from_secs(2);
/// The interval at which its state is read.
const LOOK: Duration = Duration::from_millis(20);

#[derive(Args)]
pub struct Disarm {
    /// The reason, shown by `gnomon status` and recorded in the event
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    flags: SwitchFlags,
}

#[derive(Args)]
pub struct Arm {
    #[command(flatten)]
    flags: SwitchFlags,
}

#[derive(Args)]
struct SwitchFlags {
    #[command(flatten)]
    switch: SwitchFlag,
    /// The socket of the running gnomon; its state is published beside it
    #[arg(long, env = SOCKET_VARIABLE, hide_env_values = true, value_name = "PATH", default_value = EXEC_SOCKET)]
    exec_socket: PathBuf,
}

impl Disarm {
    pub fn run(self) -> Result<()> {
        let switch = self.flags.switch.switch();
        let reason = match (self.reason.trim(), who()) {
            ("", who) => format!("by {who}"),
            (reason, who) => format!("{reason} (by {who})"),
        };
        let kept = switch.disarm(&reason).map_err(|error| failed("disarm", &switch, &error))?;
        let path = switch.path().display();
        if let ReasonKept::Not(error) = kept {
            // The switch is what was asked for.
            let _ = writeln!(io::stderr(), "gnomon: warning: the reason could not be written to {path}: {error}; disarmed all the same");
        }
        writeln!(
            io::stdout(),
            "disarmed: {path} is there. Nothing is redirected, and no rule refuses any more; `gnomon arm` takes it back"
        )?;
        confirm(&self.flags, SwitchPosition::Disarmed)
    }
}

impl Arm {
    pub fn run(self) -> Result<()> {
        let switch = self.flags.switch.switch();
        switch.arm().map_err(|error| failed("arm", &switch, &error))?;
        writeln!(io::stdout(), "armed: rules and scopes hold again")?;
        confirm(&self.flags, SwitchPosition::Armed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SwitchPosition {
    Armed,
    Disarmed,
}

/// Reports whether the running sensor has obeyed the switch.
fn confirm(flags: &SwitchFlags, position: SwitchPosition) -> Result<()> {
    let Some(folder) = flags.exec_socket.parent() else { return Ok(()) };
    let start = Instant::now();
    loop {
        match Status::read(folder) {
            Ok(Some(status)) if status.armed == (position == SwitchPosition::Armed) => {
                writeln!(io::stdout(), "the sensor obeys")?;
                return Ok(());
            }
            Ok(None) => {
                writeln!(io::stdout(), "no sensor runs here; one that starts will look for the file")?;
                return Ok(());
            }
            Ok(Some(_)) | Err(_) if start.elapsed() < OBEYS => sleep(LOOK),
            Ok(Some(status)) => {
                return Err(Complaint::own(format!("the sensor (process {}) did not obey within {OBEYS:?}", status.pid))
                    .next("it may look for another file (--disarm-file); `systemctl stop gnomon-sensor` detaches everything")
                    .into());
            }
            Err(error) => {
                return Err(Complaint::own(format!("what the sensor says cannot be read: {error}")).into());
            }
        }
    }
}

/// The person, also under sudo.
fn who() -> String {
    let name = || User::from_uid(Uid::current()).ok().flatten().map(|user| user.name);
    env::var("SUDO_USER").ok().or_else(name).unwrap_or_else(|| Uid::current().to_string())
}

fn failed(verb: &str, switch: &gnomon_host::switch::Switch, error: &io::Error) -> Complaint {
    let complaint = Complaint::own(format!("cannot {verb}: {}: {error}", switch.path().display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => complaint.next(format!("sudo gnomon {verb}")),
        _ => complaint.next("create or remove the file by hand: gnomon is disarmed while it exists, whatever is in it"),
    }
}
