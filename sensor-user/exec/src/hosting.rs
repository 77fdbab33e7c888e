//! A gnomon for a single program: started when root runs `gnomon exec` and none is running, stopped when no process is left in the
//! program's scope.
//!
//! The program replaces the process that was started (exec), so another process must wait for its end: the *host*, which is detached, so
//! that the program finds no child that it did not make.

use super::say;
use anyhow::{Context as _, Result, bail};
use gnomon_cli::Complaint;
use gnomon_host::cgroup::{CgroupError, Hierarchy};
use gnomon_kit::Backoff;
use gnomon_link::ExecEnd;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, openat},
    process::{Pid, Signal, kill_process, setsid},
};
use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::DirBuilderExt as _, fs::FileExt as _, net::UnixStream, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The longest from the start of a gnomon until it can be joined.
const READY: Duration = Duration::from_secs(15);
/// The interval at which that is checked.
const LOOK: Duration = Duration::from_millis(20);
/// The interval at which the host checks the scope, for kernels that do not notify, and whether gnomon still runs.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A gnomon that ran this long counts as healthy; one that ended sooner is restarted with growing pauses.
const IN_ORDER: Duration = Duration::from_secs(60);
/// The longest pause before a restart.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The host's message once it can be joined.
const YES: u8 = b'y';

/// The connection to the host, held by the process that becomes the program. Closing it without [`Hosted::runs_in`] stops the host.
#[derive(Debug)]
pub struct Hosted {
    line: UnixStream,
    socket: PathBuf,
}

impl Hosted {
    /// The socket at which its gnomon is joined.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends the host the path of the scope that it waits for.
    pub fn runs_in(mut self, cgroup: &str) -> Result<(), Complaint> {
        writeln!(self.line, "{cgroup}").map_err(|error| Complaint::own(format!("the gnomon for this program is gone: {error}")))
    }
}

/// Starts a host, and waits until its gnomon can be joined. `own` are the arguments of `gnomon run`.
///
/// # Errors
/// If it cannot be started; its log was shown.
pub fn start(own: &[OsString]) -> Result<Hosted, Complaint> {
    let folder = PathBuf::from(format!("/run/gnomon-exec-{}", std::process::id()));
    let (mut line, theirs) = UnixStream::pair().map_err(Complaint::own)?;
    let started = itself(["exec-host".into(), "--folder".into(), folder.clone().into(), "--".into()].iter().chain(own))
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .status();
    let failed = |cause: String| Complaint::own(cause).next("gnomon doctor says what is missing; --proxy-env needs nothing of the kernel");
    match started {
        Ok(status) if status.success() => {}
        Ok(status) => return Err(failed(format!("no gnomon runs, and none can be started: {status}"))),
        Err(error) => return Err(failed(format!("no gnomon runs, and none can be started: {error}"))),
    }
    let mut said = [0];
    match line.read(&mut said) {
        Ok(1) if said == [YES] => Ok(Hosted { line, socket: folder.join("exec.sock") }),
        _ => Err(failed("no gnomon runs, and the one that was started for this program cannot be joined".to_owned())),
    }
}

fn itself<'a>(arguments: impl IntoIterator<Item = &'a OsString>) -> Command {
    // The file of the running program, even if another file has taken its path since.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("gnomon").args(arguments);
    command
}

/// The host's arguments.
#[derive(Debug)]
pub struct Host {
    /// Folder of its socket and its log; created, and removed at the end.
    pub folder: PathBuf,
    /// The arguments of the gnomon that it starts.
    pub own: Vec<OsString>,
    /// Which of the two processes of the start this is.
    pub stage: Stage,
}

/// The host is started by a process that exits at once, so that it is reparented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The process that exits at once.
    Starting,
    /// The host itself.
    Detached,
}

/// Runs as the host. Standard input is the socket to the process that becomes the program.
///
/// # Errors
/// Its gnomon cannot be started.
pub fn host(host: &Host) -> Result<()> {
    if host.stage == Stage::Starting {
        let again = ["exec-host".into(), "--detached".into(), "--folder".into(), host.folder.clone().into(), "--".into()];
        itself(again.iter().chain(&host.own)).spawn().context("starting the host")?;
        return Ok(());
    }
    // Signals from the terminal are for the program alone.
    let _ = setsid();
    let mut line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().context("taking the line")?);
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    DirBuilder::new().mode(0o755).create(&host.folder).with_context(|| format!("making {}", host.folder.display()))?;
    let served = serve(host, &mut line);
    let _ = fs::remove_dir_all(&host.folder);
    served
}

fn serve(host: &Host, line: &mut UnixStream) -> Result<()> {
    let socket = host.folder.join("exec.sock");
    let log = File::options().read(true).write(true).create_new(true).open(host.folder.join("log")).context("making the log")?;
    let begin = || {
        itself(&host.own)
            .args(["--exec-socket".into(), OsString::from(&socket)])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .spawn()
    };
    let mut gnomon = begin().context("starting gnomon")?;
    let over = match until_joined(&mut gnomon, &socket, &log, line) {
        // The program runs on if gnomon ends, so gnomon is restarted: it takes the scope over.
        Ok(Some(cgroup)) => keep(&mut gnomon, begin, &cgroup),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    stop(&mut gnomon);
    over
}

/// Keeps a gnomon running as long as a process is in the cgroup.
fn keep(gnomon: &mut Child, begin: impl Fn() -> io::Result<Child>, cgroup: &str) -> Result<()> {
    let (mut pause, mut since) = (Backoff::new(LOOK_AGAIN, LONGEST_PAUSE), Instant::now());
    wait_for(cgroup, || {
        if !matches!(gnomon.try_wait(), Ok(Some(_))) || since.elapsed() < pause.wait() {
            return;
        }
        match since.elapsed() > IN_ORDER {
            true => pause.reset(),
            false => _ = pause.failed(),
        }
        since = Instant::now();
        // A failed restart cannot be reported here, and is retried.
        if let Ok(again) = begin() {
            *gnomon = again;
        }
    })
}

/// The program's cgroup, once the program is in it; `None` if the caller gave up.
fn until_joined(gnomon: &mut Child, socket: &Path, log: &File, line: &mut UnixStream) -> Result<Option<String>> {
    let start = Instant::now();
    while ExecEnd::connect(socket, LOOK).is_err() {
        let text = text_of(log);
        let ended = gnomon.try_wait()?.is_some();
        if ended || start.elapsed() > READY || text.contains("without the sensor") || text.contains("the sensor ended") {
            let _ = io::stderr().write_all(text.as_bytes());
            bail!("the gnomon for this program cannot be joined");
        }
        std::thread::sleep(LOOK);
    }
    line.write_all(&[YES])?;
    // A reader of the program's standard error must not wait for us.
    rustix::stdio::dup2_stderr(File::options().write(true).open("/dev/null")?)?;
    let mut cgroup = String::new();
    BufReader::new(line).take(64 << 10).read_line(&mut cgroup)?;
    // None: the process that was to become the program hung up.
    Ok(cgroup.strip_suffix('\n').map(str::to_owned))
}

/// Waits until no process is left in the cgroup, and calls `meanwhile` every second.
fn wait_for(cgroup: &str, mut meanwhile: impl FnMut()) -> Result<()> {
    let events = match Hierarchy::find()?.at(cgroup) {
        Ok(cgroup) => openat(cgroup.directory(), "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()),
        // The program has ended already.
        Err(CgroupError::Io { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let Ok(events) = events.map(File::from) else { return Ok(()) };
    loop {
        let mut text = [0; 256];
        // Reading fails once the cgroup is removed, because it was empty.
        let Ok(read) = events.read_at(&mut text, 0) else { return Ok(()) };
        if !String::from_utf8_lossy(&text[..read]).contains("populated 1") {
            return Ok(());
        }
        let fd = events.as_fd();
        let _ = poll(&mut [PollFd::new(&fd, PollFlags::PRI)], Timespec::try_from(LOOK_AGAIN).ok().as_ref());
        meanwhile();
    }
}

/// Ends the gnomon gracefully, so that its records are written, and waits for that.
fn stop(gnomon: &mut Child) {
    if let Some(pid) = i32::try_from(gnomon.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
    }
    if let Err(error) = gnomon.wait() {
        say(format_args!("waiting for gnomon: {error}"));
    }
}

fn text_of(log: &File) -> String {
    let mut text = vec![0; 16 << 10];
    let read = log.read_at(&mut text, 0).unwrap_or(0);
    String::from_utf8_lossy(&text[..read]).into_owned()
}
