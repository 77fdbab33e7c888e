//! Alerts whose command searches the journal: run as written on a system that has one, in the state that they report, each must print the
//! line that says what happened and nothing else.

use anyhow::{Context, Result, ensure};

use super::guest::Guest;
use crate::root as workspace;

/// A collector that accepts the first request and refuses all later ones with 400.
const COLLECTOR: &str = r#"cat > /root/collector <<'END'
while IFS= read -r line && [ "$line" != "$(printf '\r')" ]; do
    case "$line" in [Cc]ontent-[Ll]ength:*) length=$(printf %s "${line#*:}" | tr -d ' \r') ;; esac
done
head -c "${length:-0}" >/dev/null
if [ -e /root/taken ]; then status='400 Bad Request'; else status='200 OK'; fi
: > /root/taken
printf 'HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n' "$status"
END
systemd-run --quiet --unit=collector systemd-socket-activate --listen=127.0.0.1:4318 --accept --inetd sh /root/collector"#;

/// Tests the alerts about events that are not exported yet, and about one that never will be; `cause` makes an event each time.
///
/// # Errors
/// A command does not print its line, or prints others.
pub fn tells_why_events_do_not_leave(guest: &Guest, mut cause: impl FnMut(&str) -> Result<()>) -> Result<()> {
    guest.sh(
        "echo \"events: { otlp: { endpoint: 'http://127.0.0.1:4318' } }\" >> /etc/gnomon/gnomon.yml && systemctl restart gnomon.service",
    )?;
    cause("away")?;
    prints(guest, "GnomonExportStalled", "events do not reach http://127.0.0.1:4318")?;
    guest.sh(COLLECTOR)?;
    guest.until("[ -e /root/taken ] && curl -sS http://127.0.0.1:9464/metrics | grep 'gnomon_export_lag_events{sink=\"otlp\"} 0'")?;
    cause("refused")?;
    prints(guest, "GnomonExportLost", "refuses the event")?;
    guest.sh("systemctl stop collector.service && sed -i '/^events:/d' /etc/gnomon/gnomon.yml && systemctl restart gnomon.service")?;
    Ok(())
}

/// Runs an alert's command until it prints a line with `wanted`. Everything that it prints must match its own pattern.
fn prints(guest: &Guest, alert: &str, wanted: &str) -> Result<()> {
    let command = command(alert)?;
    let printed = guest.until(&format!("{command} | tee /root/printed | grep -qF '{wanted}' && cat /root/printed"))?;
    let (_, pattern) = command.split_once(" -g ").context("it asks for no words")?;
    let words: Vec<_> = pattern.trim_matches('\'').split('|').collect();
    for line in printed.lines() {
        ensure!(words.iter().any(|word| line.contains(word)), "the command of {alert} prints this as well: {line}");
    }
    Ok(())
}

/// The command of an alert, from the rules that ship.
fn command(alert: &str) -> Result<String> {
    let rules = std::fs::read_to_string(workspace()?.join("deploy/prometheus/gnomon.rules.yml"))?;
    let mut lines = rules.lines().map(str::trim).skip_while(|line| *line != format!("- alert: {alert}"));
    let command = lines.find_map(|line| line.strip_prefix("command: ")).with_context(|| format!("{alert} has no command"))?;
    Ok(command.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_alerts_about_exports_ask_the_journal_of_the_service() {
        for alert in ["GnomonExportStalled", "GnomonExportLost"] {
            assert!(command(alert).unwrap().starts_with("journalctl -u gnomon "), "{alert}");
        }
        assert!(command("GnomonNothing").is_err());
    }
}
