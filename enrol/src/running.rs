//! The state of the servers of a running gnomon, read from the metrics that it serves. Any process of this host may read those, so nothing
//! here is hidden from monitoring.

use anyhow::{Result, anyhow, bail};
use gnomon_cli::Complaint;
use gnomon_http::client::{Answer, Bounds, ClientError, get_blocking};
use http::StatusCode;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

/// Enough for the metrics of thousands of servers.
const BOUNDS: Bounds = Bounds { answer: 64 << 20, patience: Duration::from_secs(20) };

/// One series: its labels, and its value.
pub(super) struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Series {
    /// A label; empty where it has none.
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }

    /// The value, as the whole number that counters and gauges here have.
    pub fn whole(&self) -> u64 {
        // Saturates, and is 0 where it is no number.
        self.value as u64
    }

    /// The value.
    pub fn value(&self) -> f64 {
        self.value
    }
}

/// The metrics of a running gnomon.
pub(super) struct Metrics(BTreeMap<String, Vec<Series>>);

impl Metrics {
    /// Reads the metrics served at this address.
    ///
    /// # Errors
    /// Nobody answers there, or something else does.
    pub fn at(address: SocketAddr) -> Result<Self, Complaint> {
        let address = SocketAddr::new(reached_at(address.ip()), address.port());
        let next = "start it, or name the configuration that it runs with (--config), or where it serves its metrics (--metrics)";
        let text = fetch(address).map_err(|error| Complaint::own(format!("no gnomon answers at {address}: {error}")).next(next))?;
        let metrics = Self::read(&text);
        match metrics.0.contains_key("gnomon_build_info") {
            true => Ok(metrics),
            false => Err(Complaint::own(format!("what answers at {address} is not gnomon")).next(next)),
        }
    }

    /// From the text format of Prometheus (0.0.4). What is not of that form is passed over.
    fn read(text: &str) -> Self {
        let mut all: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, series)) = series(line) {
                all.entry(name.to_owned()).or_default().push(series);
            }
        }
        Self(all)
    }

    /// The series of a metric that have this label.
    pub fn of<'a>(&'a self, metric: &str, label: (&'a str, &'a str)) -> impl Iterator<Item = &'a Series> + use<'a> {
        self.0.get(metric).into_iter().flatten().filter(move |series| series.label(label.0) == label.1)
    }
}

/// The address to connect to for a listener on all addresses: loopback.
fn reached_at(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn fetch(address: SocketAddr) -> Result<String> {
    let read = async |answer: Answer| Ok::<_, ClientError>((answer.status(), answer.whole().await?));
    let (status, body) = get_blocking(&format!("http://{address}/metrics"), BOUNDS, read)?;
    match status {
        StatusCode::OK => String::from_utf8(body.into()).map_err(|_| anyhow!("its answer is not text")),
        status => bail!("HTTP {}", status.as_u16()),
    }
}

/// `name{label="value",…} value`.
fn series(line: &str) -> Option<(&str, Series)> {
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.trim_start_matches(',').to_owned(), value);
            rest = after;
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some((name, Series { labels, value }))
}

/// A label's value up to its quote, and what comes after that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, text.get(at + 1..)?)),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_whatever_their_labels_hold() {
        let text = "# HELP a b\na 1\nb{x=\"1\",y=\"a \\\"b\\\\ {c}\\n\"} 2.5\nb{x=\"2\",y=\"\"} 1e3\nnothing\nbroken{x=\"1 3\n";
        let metrics = Metrics::read(text);
        assert_eq!(metrics.0.keys().collect::<Vec<_>>(), ["a", "b"]);
        let b: Vec<_> = metrics.of("b", ("x", "1")).map(|series| (series.label("y"), series.value())).collect();
        assert_eq!(b, [("a \"b\\ {c}\n", 2.5)]);
        assert_eq!(metrics.of("b", ("y", "")).map(Series::whole).collect::<Vec<_>>(), [1000]);
    }
}
