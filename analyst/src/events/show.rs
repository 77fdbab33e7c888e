//! `gnomon events show ID`.

use super::{
    incidents::{self, SHOWN_DETECTIONS},
    story,
    telling::Telling,
};
use crate::stored;
use anyhow::Result;
use clap::Args;
use gnomon_cli::{
    Complaint,
    options::{ConfigFlag, Format, FormatFlag, StateFlag},
    rule_files,
};
use gnomon_ledger::{Found, ReadError, Reader, StoredEvent};
use std::io::{self, BufWriter, Write};

#[derive(Args)]
pub struct Show {
    #[command(flatten)]
    state: StateFlag,
    #[command(flatten)]
    config: ConfigFlag,
    #[command(flatten)]
    format: FormatFlag,
    /// The event's id, a burst's (gnomon.incident.id) or a daily incident's (--incidents); the start of it will do
    #[arg(value_name = "ID")]
    id: String,
    /// Show the daily incident that it belongs to: the same user, server and day
    #[arg(long)]
    incident: bool,
}

impl Show {
    pub async fn run(self) -> Result<()> {
        let mut reader = Reader::open(&self.state.ledger()?).await?;
        let format = self.format.format();
        let found = reader.find(&self.id).await.map_err(|error| match error {
            ReadError::NotAnId { .. } => anyhow::Error::from(Complaint::usage(error)),
            other => other.into(),
        })?;
        let found = match found {
            Found::Event(event) | Found::Burst(event) if self.incident => reader.daily_incident_of(&event).await?,
            found => found,
        };
        match found {
            Found::Event(event) => self.tell(&mut reader, event, format).await,
            Found::Burst(first) => self.tell(&mut reader, first, format).await,
            Found::Daily(incident) => {
                let detections = reader.detections_of(&incident, SHOWN_DETECTIONS).await?;
                let mut out = BufWriter::new(io::stdout().lock());
                match format {
                    Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&incident)?)?,
                    Format::Text => incidents::tell(&mut out, &incident, &detections)?,
                }
                Ok(out.flush()?)
            }
            Found::Several(ids) => {
                Err(Complaint::usage(format!("several ids begin with `{}`: {}", self.id, ids.join(", "))).next("write more of it").into())
            }
            Found::Nothing if self.incident => Err(Complaint::usage(format!("`{}` is not the id of a detection in this ledger", self.id))
                .next("`gnomon events show` without --incident tells of any event; what is older than events.retention is gone")
                .into()),
            Found::Nothing => Err(Complaint::usage(format!("nothing in the ledger has the id `{}`", self.id))
                .next("it may be older than events.retention keeps, or in another --state-dir")
                .into()),
        }
    }

    async fn tell(&self, reader: &mut Reader, event: StoredEvent, format: Format) -> Result<()> {
        let story = reader.story(event).await?;
        // The rules may have changed since, or the caller may not read them: then their descriptions are left out.
        let config = self.config.load().map(|mut config| {
            if let Ok(state_dir) = self.state.dir() {
                config.rules.settle(&state_dir);
            }
            config
        });
        let rules = config.as_ref().ok().and_then(|config| rule_files::load(&config.rules).ok());
        let id = stored::text(&serde_json::from_str(&story.event.json)?, "event.id").unwrap_or_default();
        let (verdicts, recalled) = match config {
            Ok(config) => {
                let decided = config.decided(&self.state.dir()?);
                let verdicts = decided.verdicts_on(&id).await.map_err(|error| error.to_string());
                let recalled = if verdicts.is_err() { decided.recalled_verdicts(&id).ok().flatten() } else { None };
                (verdicts, recalled)
            }
            Err(error) => (Err(error.to_string()), None),
        };
        let telling = Telling::new(&story, rules.as_ref(), verdicts)?.recalling(recalled).of_folder(self.state.named());
        let mut out = BufWriter::new(io::stdout().lock());
        match format {
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&telling.to_json())?)?,
            Format::Text => story::write(&mut out, &telling)?,
        }
        out.flush()?;
        match telling.verdicts {
            Ok(_) => Ok(()),
            Err(why) => Err(Complaint::own(format!("whether anybody judged the event is not known: {why}"))
                .next("fix that, and ask again before judging it; everything else that is shown is complete")
                .into()),
        }
    }
}
