//! `gnomon config`: check and show the configuration, and its schema for editors.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gnomon_cli::options::{ConfigFlag, Format, FormatFlag};
use gnomon_config::schema;
use gnomon_serve::checking::{self, Serves};
use std::{
    io::{self, Write},
    path::PathBuf,
};

#[derive(Subcommand)]
pub enum Config {
    /// Check the file, its rules, its catalogues, its documents and its references to secrets
    Check(Check),
    /// Show the effective configuration, defaults included; secrets as references only
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
                let rules = checking::check(&config, Serves::Everything)?.rules;
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
