//! `gnomon config`: check and show the configuration, and its schema for editors.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gnomon_cli::{
    Complaint,
    options::{ConfigFlag, Format, FormatFlag},
    rule_files,
};
use gnomon_config::{At, schema};
use std::{
    io::{self, Write},
    path::PathBuf,
};

#[derive(Subcommand)]
pub enum Config {
    /// Check the file, its rules, its catalogues, its documents and its secrets' places
    Check(Check),
    /// Show what holds, defaults included; secrets as references only
    Show(Show),
    /// Write the JSON Schema
    Schema,
}

#[derive(Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigFlag,
    /// The file to check instead of --config
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
}

impl Config {
    pub fn run(self) -> Result<()> {
        let mut out = io::stdout().lock();
        match self {
            Self::Check(Check { config, file }) => {
                let config = match &file {
                    Some(file) => gnomon_config::Config::load(file)?,
                    None => config.load()?,
                };
                let rules = rule_files::load(&config.rules)?;
                rule_files::catalogue(&config.rules.hosts)?;
                if let Some(path) = config.proxy.upstream_ca.iter().find(|path| !path.is_file()) {
                    return Err(Complaint::input(format!("proxy.upstream_ca: there is no file {}", path.display())).into());
                }
                for user in &config.proxy.users {
                    user.password.fetch()?;
                }
                for server in &config.servers {
                    if let At::Api(api) = &server.at {
                        gnomon_serve::apis::imported(&server.id, api)?;
                    }
                }
                gnomon_serve::check_listener(&config)?;
                let name = config.file.map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
                writeln!(out, "{name}: good, {} rules", rules.rules().len())?;
            }
            Self::Show(Show { config, format }) => {
                let config = config.load()?.to_json();
                match format.format() {
                    Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&config)?)?,
                    Format::Text => write!(out, "{}", serde_saphyr::to_string(&config).context("writing YAML")?)?,
                }
            }
            Self::Schema => writeln!(out, "{}", serde_json::to_string_pretty(&schema::json_schema())?)?,
        }
        Ok(())
    }
}
