//! The process that stays beside a program and leaves nothing of it behind.
//!
//! The keeper holds the program's standard output as well, and a pipe reports that its reader is gone: so it learns that
//! gnomon has ended, however it ended, `kill -9` included. What the program starts becomes the keeper's when its parent
//! ends (`PR_SET_CHILD_SUBREAPER`), so nothing gets out of its sight by forking twice or by a session of its own.
//!
//! The keeper cannot survive a `kill -9` itself. Then the program gets one too, and what the program had started lives
//! on, in a control group until the next [`crate::settle`]. A confined program cannot send it one where the kernel scopes
//! signals (Linux 6.12) or the program is another user.

use crate::{LaunchError, group::Group, plan::Plan, report::Report, tree};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, set_child_subreaper, wait},
};
use signal_hook::{
    consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};
use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::{
        fs::{DirBuilderExt as _, lchown},
        net::UnixStream,
        process::CommandExt as _,
    },
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// The exit code for a program that is not to be executed.
const REFUSED: u8 = 125;

/// The signals that the keeper waits for.
type Signals = SignalDelivery<UnixStream, SignalOnly>;

/// Runs a program and stays until it and all that it started have ended: its exit code, 128 and the signal where it was
/// one that ended it. `inside` are the arguments with which this very program calls [`crate::enter`].
///
/// For a process of one thread that was started for this.
pub fn keep(plan: &Plan, inside: &[String]) -> u8 {
    match begin(plan, inside) {
        Ok((child, mut signals)) => stay(plan, child, &mut signals),
        Err(error) => {
            // If the report cannot be written, the exit code says it.
            let _ = Report::Refused(error).write();
            REFUSED
        }
    }
}

fn begin(plan: &Plan, inside: &[String]) -> Result<(Pid, Signals), LaunchError> {
    let failed = |what: &'static str| move |error: io::Error| LaunchError::new("it cannot be started", format!("{what}: {error}"));
    // Without it, orphans of the program would escape; so it is not optional.
    set_child_subreaper(Some(rustix::process::getpid())).map_err(|error| failed("becoming the reaper of its processes")(error.into()))?;
    let (woken, wake) = UnixStream::pair().map_err(failed("making a pipe for signals"))?;
    let signals =
        Signals::with_pipe(woken, wake, SignalOnly, [SIGTERM, SIGINT, SIGHUP, SIGCHLD]).map_err(failed("listening for signals"))?;
    make_home(plan).map_err(|error| LaunchError::new("its own folder cannot be made", format!("{}: {error}", plan.home.display())))?;
    // The very file that runs, even if another has taken its place since.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("gnomon").args(inside).stdin(Stdio::inherit());
    let child = command.spawn().map_err(failed("starting the process that becomes it"))?;
    // Only the program reads standard input.
    let nothing = File::open("/dev/null").map_err(failed("opening /dev/null"))?;
    rustix::stdio::dup2_stdin(nothing).map_err(|error| failed("closing standard input")(error.into()))?;
    let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    Ok((child.ok_or_else(|| LaunchError::new("it cannot be started", "it has no number"))?, signals))
}

/// Creates the home. Its content belongs to the program: nothing is done there with the rights that this process may have.
fn make_home(plan: &Plan) -> io::Result<()> {
    if let Some(above) = plan.home.parent() {
        // Others may pass, so that the program's user gets to its own.
        DirBuilder::new().recursive(true).mode(0o711).create(above)?;
    }
    match DirBuilder::new().mode(0o700).create(&plan.home) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match plan.account {
        Some(account) => lchown(&plan.home, Some(account.uid), Some(account.gid)),
        None => Ok(()),
    }
}

/// The keeper's next step.
enum Next {
    Wait,
    /// The program has ended; its exit code.
    Ended(u8),
    /// Asked to end the program.
    Asked,
    /// The reader of the program's output is gone.
    Alone,
}

fn stay(plan: &Plan, child: Pid, signals: &mut Signals) -> u8 {
    let mut deadline: Option<Instant> = None;
    let code = loop {
        match wait_for(child, signals, deadline) {
            Next::Ended(code) => break code,
            Next::Asked if deadline.is_none() => {
                // The group first, so that all its members get the signal at the same moment.
                let _ = kill_process_group(child, Signal::TERM);
                tree::signal(Signal::TERM);
                deadline = Some(Instant::now() + Duration::from_millis(plan.grace_ms));
            }
            Next::Asked | Next::Wait if deadline.is_none_or(|deadline| Instant::now() < deadline) => {}
            Next::Asked | Next::Wait | Next::Alone => {
                let _ = kill_process_group(child, Signal::KILL);
                break 128 + u8::try_from(Signal::KILL.as_raw()).unwrap_or_default();
            }
        }
    };
    let group = Group::of(plan, std::process::id());
    if let Some(group) = &group {
        group.kill();
    }
    tree::end();
    if let Some(group) = &group {
        // The last that is read of it, so that it stands in the log as why it ended.
        if let Some(why) = group.spent(plan.limits) {
            eprintln!("gnomon: {why}");
        }
        group.end_patiently();
    }
    code
}

fn wait_for(child: Pid, signals: &mut Signals, deadline: Option<Instant>) -> Next {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    let left = left.and_then(|left| Timespec::try_from(left).ok());
    let stdout = io::stdout();
    let mut polled = [PollFd::new(signals.get_read(), PollFlags::IN), PollFd::new(&stdout, PollFlags::empty())];
    // An interruption is a signal, and that is what is waited for.
    let _ = poll(&mut polled, left.as_ref());
    let alone = polled[1].revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
    let mut asked = false;
    for signal in signals.pending() {
        asked |= signal != SIGCHLD;
    }
    // Orphans that were reparented to this process are reaped as well.
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            return Next::Ended(code(status));
        }
    }
    match (alone, asked) {
        (true, _) => Next::Alone,
        (false, true) => Next::Asked,
        (false, false) => Next::Wait,
    }
}

/// The exit code that a shell would give.
fn code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
