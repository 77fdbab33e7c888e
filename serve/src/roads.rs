//! The roads to servers, opened and not yet taken: the inline proxy, and the sensors that bring it connections.

use crate::{
    starting::Core,
    watching::{Sensors, Watching},
};
use anyhow::Result;
use gnomon_cli::line;
use gnomon_config::Config;
use gnomon_intercept::Proxy;
use std::path::Path;

/// The coverage without a sensor.
const PROXY_ALONE: &str =
    "  scope     sees what clients send through this proxy, and nothing else on this host; nothing is redirected to it\n";
/// The coverage with a sensor.
const WITH_SENSOR: &str = "  scope     sees what clients send through this proxy, and which programs make TLS connections to which hosts;\n\
                         \x20           `gnomon exec -- COMMAND` sends a program's connections through the proxy; nothing else is redirected but by scopes\n";

/// The parts that serve.
pub enum Parts {
    /// The inline proxy and the portals; links to sensors come from here, if there are to be any.
    Everything(Option<Sensors>),
    /// The portals alone.
    Portals,
}

/// What is opened, and how it is announced.
pub struct Roads {
    pub proxy: Option<Proxy>,
    pub watching: Option<Watching>,
    pub announcement: String,
}

impl Roads {
    /// Opens them.
    ///
    /// # Errors
    /// The proxy's address is taken, its authority cannot be had, or a sensor cannot be used.
    pub async fn open(core: &Core, config: &Config, state_dir: &Path, parts: Parts) -> Result<Self> {
        let sensors = match parts {
            Parts::Portals => return Ok(Self { proxy: None, watching: None, announcement: portals_alone(config, core) }),
            Parts::Everything(sensors) => sensors,
        };
        let (proxy, announcement) = core.proxy(config, state_dir).await?;
        let Some(sensors) = sensors else {
            let announcement = format!("{announcement}{PROXY_ALONE}{}", scopes(config));
            return Ok(Self { proxy: Some(proxy), watching: None, announcement });
        };
        let (proxy, watching) = Watching::start(proxy, sensors, config, state_dir, core.inspector.clone(), core.recorder.clone())?;
        let announcement = format!("{announcement}{WITH_SENSOR}{}", scopes(config));
        Ok(Self { proxy: Some(proxy), watching: Some(watching), announcement })
    }
}

/// The announcement of a gnomon that serves portals alone; they follow.
fn portals_alone(config: &Config, core: &Core) -> String {
    let count = |number: usize, what| line::counted(u64::try_from(number).unwrap_or(u64::MAX), what);
    let (portals, rules) = (count(config.portals.len(), "portal"), count(core.inspector.rules().rules().len(), "rule"));
    let scrape = core.scraped_at().map_or_else(|| "off".to_owned(), |address| format!("http://{address}/metrics"));
    format!("gnomon {}: {portals}, {rules}\n  metrics   {scrape}\n", env!("CARGO_PKG_VERSION"))
}

/// The configured scopes, a line each.
fn scopes(config: &Config) -> String {
    config
        .sensor
        .scopes
        .iter()
        .map(|scope| format!("\x20           {} ({}): {}\n", scope.name, scope.r#match, scope.mode.as_str()))
        .collect()
}
