//! The week as one page of HTML that needs nothing else: no script, no font, no picture from anywhere.
//!
//! Every text goes through the template's escaping, and through [`clean`] first, since an escape sequence or a
//! reordering mark is as hostile on a page as a tag.

use super::{COUNTED, Page, SHOWN, Waiting, day, shadow_percent, status, unreached};
use gnomon_cli::{line::clean, when};
use gnomon_ledger::{DayUsage, HostPort, ServerRecord, Tally};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Nothing is loaded and no script runs, whatever a name contains.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--good:#2da44e;--bad:#cf222e}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--good:#3fb950;--bad:#f85149}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:60rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin:1.6rem 0 .4rem;border-bottom:1px solid var(--line)}
p.sub,p.key,small{color:var(--soft)}table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top;overflow-wrap:anywhere}td.n,th.n{text-align:right}th,td.n,td.d{white-space:nowrap}
.big{font-size:1.3rem}.good{fill:var(--good);color:var(--good)}.bad{fill:var(--bad);color:var(--bad)}.key{margin:0}
svg{max-width:100%;height:auto}svg text{fill:var(--soft);font-size:11px}
@media (max-width:40rem){body{font-size:12px;margin:1rem auto}td,th{padding-right:.4rem}}
@media print{:root{color-scheme:light;--ink:#000;--soft:#444;--line:#999}body{margin:0;max-width:none;font-size:11px}h2{break-after:avoid}tr{break-inside:avoid}}
";

pub fn render(page: &Page) -> String {
    let (sanctioned, shadow) = page.calls();
    let span = format!("{} to {}", day(page.from_ms), day(page.until_ms - 1));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "MCP use on " (clean(&page.host)) ", " (span) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "MCP use on " (clean(&page.host)) }
                p.sub { (span) " (UTC), made " (when::show(page.made_ms)) " by gnomon " (env!("CARGO_PKG_VERSION")) }
                h2 { "Sanctioned and shadow" }
                p.big { (sanctioned) " messages to sanctioned servers, " (shadow) " to shadow servers" }
                p { (share(page)) }
                (chart(&page.usage.days))
                (days(&page.usage.days))
                h2 { "Detections" }
                (classes(page))
                (tally(&page.usage.rules, "Rule"))
                h2 { "Low-level detections" }
                p.key { "Of a level below medium: they raise no alert." }
                (tally(&page.usage.low, "Rule"))
                h2 { "Shadow servers by use" }
                (tally(&page.usage.shadow_servers, "Server"))
                @if unreached(page) > 0 {
                    h2 { "Servers tried and not reached" }
                    p.key { "They are no use: the messages are not among those above." }
                    (tally(&page.usage.unreached_servers, "Server"))
                }
                h2 { "New servers" }
                (new_servers(&page.new_servers))
                @if !page.newly_listed.is_empty() {
                    h2 { "Newly listed in configurations" }
                    p.key { "In configuration files of clients, and not seen in use." }
                    (listed(&page.newly_listed))
                }
                h2 { "New tools of servers known before" }
                (new_tools(page))
                h2 { "Connections that were not read" }
                (tally(&page.usage.unread, "Why"))
                h2 { "Review debt" }
                @if let Some(at_ms) = page.decisions_as_of_ms {
                    p.key { "Decisions as of " (when::show(at_ms)) " UTC: their database could not be read." }
                }
                (debt(page))
                p.key { (COUNTED) "." }
                @for sentence in page.looked.told() {
                    p.key { (sentence) "." }
                }
            }
        }
    }
    .into_string()
}

fn share(page: &Page) -> Markup {
    let percent = |calls| shadow_percent(calls).map_or_else(|| "no calls".to_owned(), |percent| format!("{percent} %"));
    html! { "Shadow share " strong { (percent(page.calls())) } ", the week before " (percent(page.calls_before())) "." }
}

/// Two bars a day; the numbers stand in the table below.
fn chart(days: &[DayUsage]) -> Markup {
    let most = days.iter().map(|day| day.sanctioned.max(day.shadow)).max().unwrap_or_default().max(1);
    let height = |count: u64| u64::try_from(u128::from(count) * 80 / u128::from(most)).unwrap_or(80);
    html! {
        p.key { span.good { "■" } " sanctioned " span.bad { "■" } " shadow, messages by day" }
        svg viewBox="0 0 560 110" width="560" role="img" aria-label="Messages by day: sanctioned and shadow" {
            @for (n, day) in days.iter().enumerate() {
                @let x = n * 80;
                @let (sanctioned, shadow) = (height(day.sanctioned), height(day.shadow));
                rect.good x=(x + 10) y=(85 - sanctioned) width="24" height=(sanctioned) {}
                rect.bad x=(x + 38) y=(85 - shadow) width="24" height=(shadow) {}
                text x=(x + 10) y="102" { (super::day(day.day_ms).get(5..).unwrap_or_default()) }
            }
        }
    }
}

fn days(days: &[DayUsage]) -> Markup {
    html! {
        table {
            tr { th { "Day" } th.n { "Sanctioned" } th.n { "Shadow" } th.n { "Stopped" } th.n { "Detections" } }
            @for d in days {
                tr { td.d { (day(d.day_ms)) } td.n { (d.sanctioned) } td.n { (d.shadow) } td.n { (d.stopped) } td.n { (d.detections) } }
            }
        }
    }
}

fn classes(page: &Page) -> Markup {
    let (classes, levels) = (&page.usage.classes, &page.usage.levels);
    html! {
        @if classes.is_empty() { p { "None." } } @else {
            p {
                @for (class, count) in classes { (class.as_str()) " " (count) " " }
                small { "by level: " @for (level, count) in levels.iter().rev() { (level.as_str()) " " (count) " " } }
            }
        }
    }
}

fn tally(tally: &Tally, what: &str) -> Markup {
    let names = tally.by_count();
    html! {
        @if names.is_empty() { p { "None." } } @else {
            table {
                tr { th { (what) } th.n { "Count" } }
                @for (name, count) in names.iter().take(SHOWN) { tr { td { (clean(name)) } td.n { (count) } } }
            }
            (left_out(names.len(), tally.others))
        }
    }
}

fn listed(servers: &[ServerRecord]) -> Markup {
    html! {
        table {
            tr { th { "Server" } th { "Listed by" } }
            @for server in servers.iter().take(SHOWN) {
                tr {
                    td { (clean(&server.address)) @if let Some(port) = server.port { ":" (port) } (clean(&server.path)) }
                    td { (clean(&server.users.join(", "))) }
                }
            }
        }
        (left_out(servers.len(), 0))
    }
}

fn new_servers(servers: &[ServerRecord]) -> Markup {
    html! {
        @if servers.is_empty() { p { "None." } } @else {
            table {
                tr { th { "Server" } th { "Status" } th { "Calls itself" } th.n { "Messages" } th { "Tools" } }
                @for server in servers.iter().take(SHOWN) {
                    tr {
                        td { (clean(&server.address)) @if let Some(port) = server.port { ":" (port) } (clean(&server.path)) }
                        td.d { (status(server)) }
                        td { (clean(server.name.as_deref().unwrap_or("-"))) }
                        td.n { (server.calls) }
                        td { (clean(&server.tools.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", "))) }
                    }
                }
            }
            (left_out(servers.len(), 0))
        }
    }
}

fn new_tools(page: &Page) -> Markup {
    html! {
        @if page.new_tools.is_empty() { p { "None." } } @else {
            table {
                tr { th { "Server" } th { "Tool" } th { "First seen" } }
                @for tool in page.new_tools.iter().take(SHOWN) {
                    tr { td { (clean(&HostPort::new(&tool.address, tool.port).to_string())) (clean(&tool.path)) } td { (clean(&tool.name)) } td.d { (when::show(tool.first_seen_ms)) } }
                }
            }
            (left_out(page.new_tools.len(), 0))
        }
    }
}

fn debt(page: &Page) -> Markup {
    let lists = [("Approval expired", &page.debt.expired), ("Unreviewed", &page.debt.unreviewed), ("In review", &page.debt.in_review)];
    html! {
        @if lists.iter().all(|(_, list)| list.is_empty()) { p { "None." } } @else {
            table {
                tr { th { "State" } th { "Server" } th.n { "Use" } th { "Since" } th { "Owner" } }
                @for (state, list) in lists { @for waiting in list.iter().take(SHOWN) { (row(state, waiting)) } }
            }
            @for (state, list) in lists { @if list.len() > SHOWN { p { small { (state) ": " (list.len() - SHOWN) " more" } } } }
        }
    }
}

fn row(state: &str, waiting: &Waiting) -> Markup {
    html! {
        tr {
            td.d { (state) }
            td { (clean(&waiting.server.to_string())) }
            td.n { (waiting.used()) }
            td.d { (day(waiting.since_ms)) }
            td { (clean(waiting.owner.as_deref().unwrap_or("-"))) }
        }
    }
}

fn left_out(listed: usize, others: u64) -> Markup {
    let more = (listed.saturating_sub(SHOWN) as u64).saturating_add(others);
    html! { @if more > 0 { p { small { "and " (more) " more" } } } }
}
