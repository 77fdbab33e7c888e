//! The week as text.

use super::{COUNTED, Page, SHOWN, Waiting, day, shadow_percent, status, unreached};
use gnomon_cli::{
    line::{clean, counted},
    when,
};
use gnomon_ledger::{HostPort, Tally};
use std::io::{self, Write};

pub fn write(out: &mut impl Write, page: &Page) -> io::Result<()> {
    writeln!(out, "MCP use on {}, {} to {} (UTC)", clean(&page.host), day(page.from_ms), day(page.until_ms - 1))?;
    let (sanctioned, shadow) = page.calls();
    writeln!(out, "\nMCP messages: {sanctioned} to sanctioned servers, {shadow} to shadow servers{}", trend(page))?;
    for d in &page.usage.days {
        let (stopped, detections) = (d.stopped, d.detections);
        writeln!(
            out,
            "  {}  sanctioned {:>8}  shadow {:>8}  stopped {stopped:>6}  detections {detections:>6}",
            day(d.day_ms),
            d.sanctioned,
            d.shadow
        )?;
    }
    let classes: Vec<_> = page.usage.classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
    writeln!(out, "\nDetections: {}", if classes.is_empty() { "none".to_owned() } else { classes.join(", ") })?;
    tally(out, &page.usage.rules)?;
    writeln!(out, "\nLow-level detections, which raise no alert: {}", page.usage.low.total())?;
    tally(out, &page.usage.low)?;
    writeln!(out, "\nShadow servers by use: {}", count(&page.usage.shadow_servers))?;
    tally(out, &page.usage.shadow_servers)?;
    if unreached(page) > 0 {
        writeln!(out, "\nServers tried and not reached, which are no use: {}", count(&page.usage.unreached_servers))?;
        tally(out, &page.usage.unreached_servers)?;
    }
    writeln!(out, "\nNew servers: {}", page.new_servers.len())?;
    for server in page.new_servers.iter().take(SHOWN) {
        let port = server.port.map(|port| format!(":{port}")).unwrap_or_default();
        let used = if server.is_local() { "started".to_owned() } else { counted(server.calls, "message") };
        writeln!(out, "  {}{port}{}  {used}, {}", clean(&server.address), clean(&server.path), status(server))?;
    }
    if !page.newly_listed.is_empty() {
        writeln!(out, "\nNewly listed in configurations of clients, and not seen in use: {}", page.newly_listed.len())?;
        for server in page.newly_listed.iter().take(SHOWN) {
            let port = server.port.map(|port| format!(":{port}")).unwrap_or_default();
            let users = server.users.iter().map(|user| clean(user)).collect::<Vec<_>>().join(", ");
            writeln!(out, "  {}{port}{}  listed by {users}", clean(&server.address), clean(&server.path))?;
        }
    }
    writeln!(out, "\nNew tools of servers known before: {}", page.new_tools.len())?;
    for tool in page.new_tools.iter().take(SHOWN) {
        writeln!(out, "  {}  {}", clean(&HostPort::new(&tool.address, tool.port).to_string()), clean(&tool.name))?;
    }
    writeln!(out, "\nConnections not read, and why: {}", count(&page.usage.unread))?;
    tally(out, &page.usage.unread)?;
    let debt = &page.debt;
    let as_of = page.decisions_as_of_ms.map(|at_ms| format!(" (decisions as of {} UTC)", when::show(at_ms))).unwrap_or_default();
    let sizes = (debt.unreviewed.len(), debt.in_review.len(), debt.expired.len());
    writeln!(out, "\nReview debt{as_of}: {} unreviewed, {} in review, {} expired", sizes.0, sizes.1, sizes.2)?;
    waiting(out, "expired", &debt.expired)?;
    waiting(out, "unreviewed", &debt.unreviewed)?;
    waiting(out, "in review", &debt.in_review)?;
    writeln!(out, "\n{COUNTED}")?;
    page.looked.told().iter().try_for_each(|sentence| writeln!(out, "{sentence}"))
}

/// `; shadow share 12 %, 15 % the week before`
fn trend(page: &Page) -> String {
    let before = shadow_percent(page.calls_before())
        .map_or_else(|| "no calls the week before".to_owned(), |percent| format!("{percent} % the week before"));
    shadow_percent(page.calls()).map_or_else(String::new, |percent| format!("; shadow share {percent} %, {before}"))
}

fn count(tally: &Tally) -> String {
    if tally.names.is_empty() {
        "none".to_owned()
    } else {
        format!("{}{}", tally.names.len(), if tally.others > 0 { " and more" } else { "" })
    }
}

fn tally(out: &mut impl Write, tally: &Tally) -> io::Result<()> {
    tally.by_count().into_iter().take(SHOWN).try_for_each(|(name, count)| writeln!(out, "  {count:>8}  {}", clean(name)))
}

fn waiting(out: &mut impl Write, state: &str, list: &[Waiting]) -> io::Result<()> {
    list.iter().take(SHOWN).try_for_each(|w| {
        let owner = w.owner.as_deref().map(|owner| format!(", {}", clean(owner))).unwrap_or_default();
        writeln!(out, "  {state} since {}  {}  {}{owner}", day(w.since_ms), clean(&w.server.to_string()), w.used())
    })
}
