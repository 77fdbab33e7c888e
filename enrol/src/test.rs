//! `gnomon server test`: whether servers answer, and why not.

use super::attempt::attempt;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint,
    options::{ConfigFlag, Format, FormatFlag, StateFlag},
};
use serde_json::json;
use std::io::{self, Write as _};

#[derive(Args)]
pub struct Test {
    /// Which servers [default: all of the configuration]
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    format: FormatFlag,
}

impl Test {
    pub(super) async fn run(self) -> Result<()> {
        let config = self.config.load()?;
        let known: Vec<&str> = config.servers.iter().map(|server| server.id.as_str()).collect();
        if let Some(unknown) = self.ids.iter().find(|id| !known.contains(&id.as_str())) {
            let next = match known.is_empty() {
                true => "the configuration has none; name another with --config".to_owned(),
                false => format!("it has: {}", known.join(", ")),
            };
            return Err(Complaint::usage(format!("the configuration has no server `{unknown}`")).next(next).into());
        }
        let ids = if self.ids.is_empty() { known } else { self.ids.iter().map(String::as_str).collect() };
        let tried = attempt(&config, &ids, &self.state.dir()?).await?;
        let mut out = io::stdout().lock();
        match self.format.format() {
            Format::Json => {
                let tried = tried.iter().map(|one| match &one.found {
                    Ok(found) => json!({"id": one.id, "answers": true, "found": found.json()}),
                    Err(why) => json!({"id": one.id, "answers": false, "why": why}),
                });
                writeln!(out, "{}", serde_json::to_string_pretty(&tried.collect::<Vec<_>>())?)?;
            }
            Format::Text => {
                let width = tried.iter().map(|one| one.id.len()).max().unwrap_or_default();
                for one in &tried {
                    match &one.found {
                        Ok(found) => writeln!(out, "{:width$}  {}", one.id, found.line())?,
                        Err(why) => writeln!(out, "{:width$}  does not answer: {why}", one.id)?,
                    }
                }
            }
        }
        let silent = tried.iter().filter(|one| one.found.is_err()).count();
        if silent > 0 {
            let cause = format!("{silent} of {} servers do not answer", tried.len());
            return Err(Complaint::input(cause).next("the line of each says why").into());
        }
        Ok(())
    }
}
