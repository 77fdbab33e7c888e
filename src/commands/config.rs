//! `gnomon config`: check and show the configuration, and its schema for editors.

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use gnomon_cli::{
    loaded,
    options::{ConfigFlag, Format, FormatFlag, StateFlag},
};
use gnomon_config::schema;
use gnomon_serve::checking::{self, Serves};
use gnomon_supervise::SensorCoverage;
use std::{
    io::{self, Write},
    path::PathBuf,
};

#[derive(Subcommand)]
pub enum Config {
    /// Check the file and what a start loads with it: rules, those of the state folder included, catalogues, documents, references to secrets
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
    #[command(flatten)]
    state: StateFlag,
    /// The value of `gnomon run --sensor` to check as well
    #[arg(long, env = "GNOMON_SENSOR", hide_env_values = true, value_name = "WHERE", value_parser = str::parse::<SensorCoverage>)]
    sensor: Option<SensorCoverage>,
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
            Self::Check(check) => check.run(&mut out)?,
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

impl Check {
    fn run(self, out: &mut impl Write) -> Result<()> {
        let mut config = match &self.file {
            Some(file) => gnomon_config::Config::load(file)?,
            None => self.config.load()?,
        };
        // A start without such a folder says so; what a configuration holds can be checked all the same.
        let unread: Vec<String> = match self.state.dir_beside(config.file.as_deref()) {
            Ok(state_dir) => loaded::settle(&mut config.rules, &state_dir).iter().map(loaded::Unread::told).collect(),
            Err(none) => vec![format!("not checked: exceptions and editions of a feed; {none}")],
        };
        let checked = checking::check(&config, Serves::Everything)?;
        self.sensor.iter().try_for_each(SensorCoverage::check)?;
        let name = config.file.as_ref().map_or_else(|| "the defaults".to_owned(), |file| file.display().to_string());
        writeln!(out, "{name}: good, {} rules", checked.rules.rules().len())?;
        checked.doubts.iter().try_for_each(|doubt| writeln!(out, "  warning: {doubt}"))?;
        loaded::told(&config.rules, &checked.read).iter().chain(&unread).try_for_each(|line| writeln!(out, "  {line}"))?;
        Ok(())
    }
}
