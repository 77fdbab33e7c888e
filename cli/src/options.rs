//! Flags that mean the same in every subcommand, and what holds without them.

use crate::complaint::Complaint;
use clap::Args;
use gnomon_config::{Config, Jsonl, Packs, Resolve, Switch};
use gnomon_host::switch::Switch as KillSwitch;
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// The path of root's configuration.
const SYSTEM_CONFIG: &str = "/etc/gnomon/gnomon.yml";
/// The folder of root's state.
const SYSTEM_STATE: &str = "/var/lib/gnomon";

/// The state folder of a gnomon that runs as root.
pub fn system_state() -> PathBuf {
    SYSTEM_STATE.into()
}

/// The flag for the configuration.
#[derive(Args, Clone, Debug, Default)]
pub struct ConfigFlag {
    /// The configuration file [default: /etc/gnomon/gnomon.yml for root, if it exists]
    #[arg(long, env = "GNOMON_CONFIG", hide_env_values = true, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigFlag {
    /// The flag as another process of ours is told it.
    pub fn as_arguments(&self) -> Vec<std::ffi::OsString> {
        self.config.iter().filter(|path| !path.as_os_str().is_empty()).flat_map(|path| ["--config".into(), path.into()]).collect()
    }

    /// The configuration named, else root's, else the defaults.
    ///
    /// # Errors
    /// When the file cannot be read or something is wrong with it.
    pub fn load(&self) -> Result<Config, Complaint> {
        self.file().map_or_else(|| Ok(Config::default()), |path| Ok(Config::load(&path)?))
    }

    /// The file named, else the one that the gnomon of this system reads, if there is one.
    pub fn of_the_system(&self) -> Option<PathBuf> {
        let named = self.config.clone().filter(|path| !path.as_os_str().is_empty());
        named.or_else(|| Some(PathBuf::from(SYSTEM_CONFIG)).filter(|system| system.exists()))
    }

    /// The file named, else root's, if there is one.
    fn file(&self) -> Option<PathBuf> {
        let named = self.config.clone().filter(|path| !path.as_os_str().is_empty());
        named.or_else(|| Some(PathBuf::from(SYSTEM_CONFIG)).filter(|system| is_root() && system.exists()))
    }
}

/// The flag for the state folder: CA, ledger, inventory.
#[derive(Args, Clone, Debug, Default)]
pub struct StateFlag {
    /// Where the certificate authority and the ledger are kept [default: /var/lib/gnomon for root, else ~/.local/state/gnomon]
    #[arg(long, env = "GNOMON_STATE_DIR", hide_env_values = true, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateFlag {
    /// The folder named, else root's, else the user's own (XDG base directories).
    ///
    /// # Errors
    /// When there is no home to put it in.
    pub fn dir(&self) -> Result<PathBuf, Complaint> {
        let set = |path: PathBuf| Some(path).filter(|path| !path.as_os_str().is_empty());
        let variable = |name| env::var_os(name).map(PathBuf::from).and_then(set);
        if let Some(dir) = self.state_dir.clone().and_then(set) {
            return Ok(dir);
        }
        if is_root() {
            return Ok(SYSTEM_STATE.into());
        }
        let base = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
        base.map(|base| base.join("gnomon")).ok_or_else(|| {
            Complaint::usage("no folder for the state: neither XDG_STATE_HOME nor HOME is set").next("name one with --state-dir")
        })
    }

    /// The folder of the gnomon that runs by this file: the one named, root's for root's configuration whoever asks, else as [`StateFlag::dir`].
    ///
    /// # Errors
    /// As [`StateFlag::dir`].
    pub fn dir_beside(&self, config: Option<&Path>) -> Result<PathBuf, Complaint> {
        let is_named = self.state_dir.as_ref().is_some_and(|dir| !dir.as_os_str().is_empty());
        if config == Some(Path::new(SYSTEM_CONFIG)) && !is_named { Ok(system_state()) } else { self.dir() }
    }

    /// The folder that was named for this command alone, which another command would have to be told too.
    pub fn named(&self) -> Option<&Path> {
        let told = env::var_os("GNOMON_STATE_DIR");
        self.state_dir.as_deref().filter(|path| !path.as_os_str().is_empty() && told.as_deref() != Some(path.as_os_str()))
    }

    /// The ledger's database in it.
    ///
    /// # Errors
    /// As [`StateFlag::dir`].
    pub fn ledger(&self) -> Result<PathBuf, Complaint> {
        Ok(ledger_in(&self.dir()?))
    }
}

/// The ledger's database in a state folder.
pub fn ledger_in(state_dir: &Path) -> PathBuf {
    state_dir.join("ledger.sqlite")
}

/// Flags for the rules.
#[derive(Args, Clone, Debug, Default)]
pub struct RuleFlags {
    /// A folder with rules of your own (*.yml, *.yaml, at any depth), or one such file; adds to the configuration's; repeatable
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,
    /// Rules that ship: `builtin`, `none`, or pack names [default: builtin]
    #[arg(long, value_name = "NAME,…", value_parser = str::parse::<Packs>)]
    packs: Option<Packs>,
}

impl RuleFlags {
    /// Puts the flags over the configuration.
    pub fn apply(self, config: &mut Config) {
        config.rules.dirs.extend(self.rules);
        if let Some(packs) = self.packs {
            config.rules.packs = packs;
        }
    }
}

/// The flag for the kill switch.
#[derive(Args, Clone, Debug)]
pub struct SwitchFlag {
    /// The kill switch: while this file is there, gnomon interferes with nothing
    #[arg(long, env = "GNOMON_DISARM_FILE", hide_env_values = true, value_name = "FILE", default_value = KillSwitch::DEFAULT)]
    disarm_file: PathBuf,
}

impl SwitchFlag {
    /// The file, by its whole path.
    pub fn switch(&self) -> KillSwitch {
        KillSwitch::at(std::path::absolute(&self.disarm_file).unwrap_or_else(|_| self.disarm_file.clone()))
    }
}

/// Flags of the commands that serve.
#[derive(Args, Clone, Debug)]
pub struct ServeFlags {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    rules: RuleFlags,
    #[command(flatten)]
    switch: SwitchFlag,
    /// Address and port of the proxy [default: 127.0.0.1:8443]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Address and port of /metrics and /healthz, or `off` [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDR", value_parser = str::parse::<Switch<SocketAddr>>)]
    metrics: Option<Switch<SocketAddr>>,
    /// Append events as JSON lines to this file, or to standard output with `-`
    #[arg(long, value_name = "FILE")]
    events: Option<String>,
    /// A PEM file with further authorities to trust when servers are verified, or servers' own certificates; repeatable
    #[arg(long, value_name = "FILE")]
    upstream_ca: Vec<PathBuf>,
    /// Dial this address for that host and port: HOST:PORT:ADDR[:PORT]; repeatable
    #[arg(long, value_name = "OVERRIDE", value_parser = str::parse::<Resolve>)]
    resolve: Vec<Resolve>,
}

impl ServeFlags {
    /// The kill switch that is obeyed.
    pub fn switch(&self) -> KillSwitch {
        self.switch.switch()
    }

    /// Root's defaults as the variables that mean the same to a process that is not root any more.
    ///
    /// # Errors
    /// There is no state folder.
    pub fn settled_environment(&self) -> Result<Vec<(&'static str, PathBuf)>, Complaint> {
        let whole = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        let config = self.config.file().map(|file| ("GNOMON_CONFIG", whole(file)));
        Ok(config.into_iter().chain([("GNOMON_STATE_DIR", whole(self.state.dir()?))]).collect())
    }

    /// The configuration with these flags over it, and the state folder.
    ///
    /// # Errors
    /// When the configuration is bad or there is no state folder.
    pub fn settle(&self) -> Result<(Config, PathBuf), Complaint> {
        self.over(self.config.load()?)
    }

    /// The same while gnomon runs, with what this file says by now.
    ///
    /// # Errors
    /// As [`ServeFlags::settle`], and when it is not a regular file.
    pub fn settle_again(&self, file: &Path) -> Result<(Config, PathBuf), Complaint> {
        self.over(Config::load_again(file)?)
    }

    fn over(&self, mut config: Config) -> Result<(Config, PathBuf), Complaint> {
        let state_dir = self.state.dir()?;
        self.rules.clone().apply(&mut config);
        config.rules.settle(&state_dir);
        if let Some(listen) = self.listen {
            config.proxy.listen = listen;
        }
        if let Some(metrics) = self.metrics {
            config.metrics.listen = metrics;
        }
        if let Some(events) = &self.events {
            config.events.jsonl = Jsonl::named(events);
        }
        config.proxy.upstream_ca.extend(self.upstream_ca.iter().cloned());
        config.proxy.resolve.extend(self.resolve.iter().cloned());
        Ok((config, state_dir))
    }
}

/// The flag for the format of results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// `--json`.
#[derive(Args, Debug, Default)]
pub struct FormatFlag {
    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl FormatFlag {
    /// Text where nobody asked for JSON.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

/// True if the effective user is root, from procfs: the standard library cannot ask the kernel.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|ids| ids.split_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_systems_configuration_goes_with_the_systems_state_whoever_asks_unless_another_is_named() {
        let system = Path::new(SYSTEM_CONFIG);
        assert_eq!(StateFlag::default().dir_beside(Some(system)).unwrap(), Path::new(SYSTEM_STATE));
        let named = StateFlag { state_dir: Some("/srv/state".into()) };
        for config in [Some(system), Some(Path::new("/home/ada/gnomon.yml")), None] {
            assert_eq!(named.dir_beside(config).unwrap(), Path::new("/srv/state"));
        }
    }
}
