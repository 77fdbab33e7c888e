//! The processes of a run: how each is started, found ready, and ended.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::load::Route;
use crate::pki::BenchPki;

const READY_WITHIN: Duration = Duration::from_secs(15);
// Short, as one bench measures how long a start takes.
const READY_POLL: Duration = Duration::from_micros(500);
const ENDS_WITHIN: Duration = Duration::from_secs(5);
const ENDS_POLL: Duration = Duration::from_millis(2);

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Name {
    /// No proxy at all.
    Direct,
    /// The least an HTTP-aware intercepting proxy can do.
    FloorHttp,
    /// hudsucker with a collecting body check.
    Hudsucker,
    /// The product.
    Gnomon,
}

impl Name {
    /// All, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Direct, Self::FloorHttp, Self::Hudsucker, Self::Gnomon];

    /// As written on the command line and in tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::FloorHttp => "floor-http",
            Self::Hudsucker => "hudsucker",
            Self::Gnomon => "gnomon",
        }
    }
}

/// A child process that ends with its owner.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program`, its output going to a log file in `dir`, and waits until it accepts
    /// connections on `port`.
    ///
    /// # Errors
    /// When it cannot be started, ends early, or does not listen within 15 s.
    pub fn start(program: &Path, args: &[OsString], port: u16, dir: &Path) -> Result<Self> {
        Self::start_in(None, program, args, port, dir)
    }

    /// The same, in a cgroup from its first instruction on.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_in(cgroup: Option<&Path>, program: &Path, args: &[OsString], port: u16, dir: &Path) -> Result<Self> {
        let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = dir.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = cgroup.map_or_else(|| Command::new(program), |cgroup| in_cgroup(cgroup, program));
        let child = command
            .args(args)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut process = Self { child, log };
        process.wait_until_ready(port).with_context(|| format!("{name} did not come up"))?;
        Ok(process)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self, port: u16) -> Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}:\n{}", self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("nothing listens on port {port} after {READY_WITHIN:?}:\n{}", self.log_tail());
            }
            std::thread::sleep(READY_POLL);
        }
        Ok(())
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Asks it to end, and waits until it has; what does not within 5 s is killed.
impl Drop for Process {
    fn drop(&mut self) {
        // By itself it leaves nothing behind, and writes what it counted.
        if let Ok(pid) = i32::try_from(self.pid()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < ENDS_WITHIN {
            std::thread::sleep(ENDS_POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that is in the cgroup before its program begins, so that all its sockets are.
#[must_use]
pub fn in_cgroup(cgroup: &Path, program: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", r#"echo $$ > "$0/cgroup.procs" && exec "$@""#]).arg(cgroup).arg(program);
    shell
}

/// One contender, up and reachable.
pub struct Contender {
    /// Which one.
    pub name: Name,
    /// How the load generator reaches the upstream through it.
    pub route: Route,
    /// Its events file, where it writes one.
    pub events: Option<PathBuf>,
    process: Option<Process>,
}

impl Contender {
    /// The process whose CPU and memory count; none for `direct`.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }
}

/// Where contenders find what they share.
pub struct Ring<'a> {
    /// Directory of the bench's own programs.
    pub programs: &'a Path,
    /// The gnomon binary.
    pub gnomon: &'a Path,
    /// The run's temporary directory.
    pub dir: &'a Path,
    /// The run's certificates.
    pub pki: &'a BenchPki,
    /// The upstream's port on localhost.
    pub upstream_port: u16,
}

impl Ring<'_> {
    /// Starts one contender.
    ///
    /// # Errors
    /// When its process does not come up.
    pub fn enter(&self, name: Name) -> Result<Contender> {
        match name {
            Name::Direct => Ok(Contender { name, route: self.route(None, None)?, events: None, process: None }),
            Name::FloorHttp => self.enter_own(name, "floor"),
            Name::Hudsucker => self.enter_own(name, "hudsucker_peer"),
            Name::Gnomon => self.enter_gnomon(),
        }
    }

    fn route(&self, proxy_port: Option<u16>, ca: Option<&Path>) -> Result<Route> {
        let proxy = proxy_port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        Route::new(self.upstream_port, proxy, &[ca.unwrap_or(&self.pki.upstream_ca.cert)])
    }

    fn enter_own(&self, name: Name, program: &str) -> Result<Contender> {
        let port = free_port()?;
        let ca = &self.pki.proxy_ca;
        let args = [
            "--port".into(),
            port.to_string().into(),
            "--ca-cert".into(),
            ca.cert.clone().into(),
            "--ca-key".into(),
            ca.key.clone().into(),
            "--upstream-ca".into(),
            self.pki.upstream_ca.cert.clone().into(),
        ];
        let process = Process::start(&self.programs.join(program), &args, port, self.dir)?;
        Ok(Contender { name, route: self.route(Some(port), Some(&ca.cert))?, events: None, process: Some(process) })
    }

    fn enter_gnomon(&self) -> Result<Contender> {
        let (port, metrics_port) = (free_port()?, free_port()?);
        let (state, rules, events) = (self.dir.join("gnomon"), self.dir.join("rules"), self.dir.join("events.jsonl"));
        fs::create_dir_all(&rules)?;
        fs::write(rules.join("tool-calls.yml"), RULE)?;
        let args = [
            "proxy".into(),
            // Rivals print no detections either.
            "--quiet".into(),
            "--state-dir".into(),
            state.clone().into(),
            "--listen".into(),
            format!("127.0.0.1:{port}").into(),
            "--upstream-ca".into(),
            self.pki.upstream_ca.cert.clone().into(),
            "--resolve".into(),
            format!("localhost:{0}:127.0.0.1:{0}", self.upstream_port).into(),
            "--rules".into(),
            rules.into(),
            "--events".into(),
            events.clone().into(),
            "--metrics".into(),
            format!("127.0.0.1:{metrics_port}").into(),
        ];
        let process = Process::start(self.gnomon, &args, port, self.dir)?;
        let ca = state.join("ca.pem");
        let route = self.route(Some(port), Some(&ca))?;
        Ok(Contender { name: Name::Gnomon, route, events: Some(events), process: Some(process) })
    }
}

/// A port that was free a moment ago. Another program may take it before its user does; the run
/// then stops with a message rather than measuring a stranger.
///
/// # Errors
/// When loopback has no port left.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Every tool call matches, so that judging and logging are on the measured path.
const RULE: &str = r"title: Every tool call
id: 8f6f3e0a-6d0c-4b53-9d3d-0a6f2f1c7e11
status: test
level: informational
logsource: { product: mcp, category: mcp_traffic }
detection:
  call: { mcp.method.name: tools/call }
  condition: call
gnomon:
  response: { action: log }
";
