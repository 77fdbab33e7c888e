//! `gnomon exec`: run one program, and what it starts, with its connections read and judged.

use super::run::EXEC_SOCKET;
use anyhow::Result;
use clap::Args;
use gnomon_cli::options::{ConfigFlag, StateFlag, system_state};
use gnomon_exec::{self as exec, Plan, ProxyVariables, SOCKET_VARIABLE};
use gnomon_link::Redirect;
use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

#[derive(Args)]
pub struct Exec {
    /// Set the proxy variables too, for where the kernel half is missing: only programs that honour them are seen then
    #[arg(long)]
    proxy_env: bool,
    /// Tag the program's connections only; none is sent through the proxy
    #[arg(long)]
    no_redirect: bool,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    state: StateFlag,
    /// The proxy that --proxy-env points at [default: proxy.listen of the configuration]
    #[arg(long, value_name = "ADDR")]
    proxy: Option<SocketAddr>,
    /// The socket where a running gnomon is joined
    #[arg(long, env = SOCKET_VARIABLE, hide_env_values = true, value_name = "PATH", default_value = EXEC_SOCKET)]
    exec_socket: PathBuf,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Exec {
    /// Does not return if all goes well: this process is the program then.
    pub fn run(self) -> Result<()> {
        let proxy = match self.proxy {
            Some(proxy) => proxy,
            None => self.config.load()?.proxy.listen,
        };
        // Who joins a running gnomon needs no place for a state: a service may have no home.
        let state_dir = self.state.dir().ok();
        let mut own: Vec<OsString> = ["run", "--listen", "127.0.0.1:0", "--metrics", "off"].map(Into::into).into();
        own.extend(state_dir.iter().flat_map(|dir| ["--state-dir".into(), dir.into()]));
        own.extend(self.config.as_arguments());
        let mut command = self.command.into_iter();
        let plan = Plan {
            program: command.next().unwrap_or_default(),
            arguments: command.collect(),
            redirect: if self.no_redirect { Redirect::Off } else { Redirect::On },
            variables: if self.proxy_env { ProxyVariables::Set } else { ProxyVariables::Unset },
            socket: self.exec_socket,
            proxy,
            authorities: state_dir.into_iter().chain([system_state()]).collect(),
            own,
        };
        Err(exec::run(&plan).into())
    }
}
