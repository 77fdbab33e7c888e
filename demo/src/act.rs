//! One act: a gnomon with a rule or none beyond its own, the sample agent under it, and what was recorded.

use super::server::{NAME, Server};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::{
    env,
    ffi::OsString,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// The timeout for a gnomon to start serving.
const READY: Duration = Duration::from_secs(15);
/// The time within which the gnomon that `gnomon exec` started for the agent must end after it.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// The interval at which both are polled.
const LOOK: Duration = Duration::from_millis(20);
/// The pack that the rules come from.
const PACK: &str = "examples";

/// How the agent's connections come to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// The kernel half redirects them, and knows whose they are: as root.
    Kernel,
    /// The agent's environment names the proxy.
    Variables,
}

/// The results of an act.
pub struct Scene {
    /// The agent's output.
    pub agent: String,
    /// How often the server's tool was called during it.
    pub calls: usize,
    /// The recorded events, a line for each detection.
    pub events: String,
    /// The id of the first detection of a call.
    pub id: Option<String>,
    /// The state folder.
    pub state: PathBuf,
}

/// The folder of all acts, and what they share.
pub struct Theatre<'a> {
    pub folder: &'a Path,
    pub server: &'a Server,
    pub road: Road,
}

impl Theatre<'_> {
    /// Plays one act, with this file of the example rules in force, or none.
    pub fn play(&self, name: &str, rule: Option<&str>) -> Result<Scene> {
        let (config, state) = self.set(name, rule)?;
        let before = self.server.calls();
        let agent = match self.road {
            Road::Kernel => {
                let agent = self.agent(&config, &state, &[])?;
                is_over(&state)?;
                agent
            }
            Road::Variables => {
                let gnomon = Gnomon::start(&config, &state, "off")?;
                let agent = self.agent(&config, &state, &["--proxy-env".into(), "--proxy".into(), gnomon.proxy.to_string().into()])?;
                gnomon.stop()?;
                agent
            }
        };
        let only = format!("server.address={NAME}");
        let asked = |more: &[&str]| {
            let words = ["events", "--state-dir"].map(OsString::from).into_iter().chain([
                state.clone().into(),
                "--where".into(),
                only.clone().into(),
            ]);
            said(itself(words).args(more))
        };
        let json = asked(&["--json", "--where", "mcp.method.name=tools/call"])?;
        let first: Option<Value> = json.lines().next().and_then(|line| serde_json::from_str(line).ok());
        let field = |name: &str| Some(first.as_ref()?.get(name)?.as_str()?.to_owned());
        let id = field("event.id");
        Ok(Scene { agent, calls: self.server.calls() - before, events: asked(&[])?, id, state })
    }

    /// Starts the gnomon of an act anew with its pages up, has the agent call once more, and gives it back.
    pub fn stay(&self, name: &str) -> Result<Gnomon> {
        let (config, state) = self.set(name, None)?;
        let gnomon = Gnomon::start(&config, &state, &free_address()?.to_string())?;
        self.agent(&config, &state, &["--proxy-env".into(), "--proxy".into(), gnomon.proxy.to_string().into()])?;
        Ok(gnomon)
    }

    /// Its configuration, and the folder of its state.
    fn set(&self, name: &str, rule: Option<&str>) -> Result<(PathBuf, PathBuf)> {
        let home = self.folder.join(name);
        let rules = home.join("rules");
        fs::create_dir_all(&rules)?;
        if let Some(rule) = rule {
            let text = gnomon_packs::packs().iter().filter(|pack| pack.name == PACK).flat_map(gnomon_packs::Pack::files);
            let text = text.into_iter().find(|(path, _)| path.ends_with(rule)).with_context(|| format!("there is no example {rule}"))?.1;
            fs::write(rules.join(rule), text)?;
        }
        let authority = self.folder.join("server/ca.pem");
        let port = self.server.address.port();
        let config = format!(
            "proxy:\n    upstream_ca: ['{}']\n    resolve: ['{NAME}:443:127.0.0.1:{port}']\nrules:\n    dirs: ['{}']\n",
            authority.display(),
            rules.display()
        );
        let file = home.join("gnomon.yml");
        fs::write(&file, config)?;
        Ok((file, home.join("state")))
    }

    /// Runs the agent under gnomon, and gives what it printed.
    fn agent(&self, config: &Path, state: &Path, more: &[OsString]) -> Result<String> {
        // One that runs here is none of the demonstration's.
        let nowhere = self.folder.join("exec.sock");
        let words =
            ["exec".into(), "--config".into(), config.into(), "--state-dir".into(), state.into(), "--exec-socket".into(), nowhere.into()];
        let mut exec = itself(words);
        // The folder of the merged certificates.
        exec.env("XDG_CACHE_HOME", self.folder);
        exec.args(more).arg("--").arg(env::current_exe()?).args(["demo", "--agent"]).arg(self.server.address.to_string());
        said(&mut exec)
    }
}

/// A gnomon that serves.
pub struct Gnomon {
    child: Child,
    /// The address of its proxy.
    pub proxy: SocketAddr,
    /// The address of its metrics, or `off`.
    pub metrics: String,
    /// Its state folder.
    pub state: PathBuf,
}

impl Gnomon {
    fn start(config: &Path, state: &Path, metrics: &str) -> Result<Self> {
        let proxy = free_address()?;
        let mut command = itself(["proxy".into(), "--config".into(), config.into(), "--state-dir".into(), state.into()]);
        command.args(["--listen", &proxy.to_string(), "--metrics", metrics]).stdout(Stdio::null());
        // Without metrics its messages at the start are hidden: the demo starts it on its own.
        command.stderr(if metrics == "off" { Stdio::null() } else { Stdio::inherit() });
        let child = command.spawn().context("starting gnomon")?;
        let mut gnomon = Self { child, proxy, metrics: metrics.to_owned(), state: state.to_owned() };
        let start = Instant::now();
        while TcpStream::connect(proxy).is_err() {
            if let Some(status) = gnomon.child.try_wait()? {
                bail!("gnomon ended by itself: {status}");
            }
            ensure!(start.elapsed() < READY, "gnomon does not serve at {proxy}");
            std::thread::sleep(LOOK);
        }
        Ok(gnomon)
    }

    /// Waits until it ends, by the terminal's signal for one.
    pub fn wait(mut self) -> Result<()> {
        self.child.wait()?;
        Ok(())
    }

    /// Ends it in order, so that what it has recorded is written.
    fn stop(mut self) -> Result<()> {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, Signal::TERM)?;
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Gnomon {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the gnomon that ends with the agent, which is not our child, has written its records.
fn is_over(state: &Path) -> Result<()> {
    let start = Instant::now();
    while gnomon_ledger::is_written(state).context("looking at the ledger")? {
        ensure!(start.elapsed() < ENDS_WITHIN, "the gnomon for the agent does not end");
        std::thread::sleep(LOOK);
    }
    Ok(())
}

/// This program again.
pub fn itself(words: impl IntoIterator<Item = OsString>) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(words);
    command
}

/// The output of a command.
pub fn said(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().context("starting gnomon")?;
    ensure!(status.success(), "a part of the demonstration failed, with {status}: {}", String::from_utf8_lossy(&stderr).trim());
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// A free port of loopback. Somebody else may take it before we do; then the start fails, and says so.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?.local_addr()?)
}
