//! Calls that are not sent, as gnomon has no connection for them: a bound of ours, of all connections or of one principal's. A client that
//! goes on calling would make an event of each, and none of them reached a server. So of each kind so many are an event in a while, and the
//! next after that says how many it stands for ([`gnomon_shares::Lately`]). A kind is whose they are, for which server, by which method, and the rules
//! that stand for them, so that no sum hides another detection. Each refusal is counted besides (`gnomon_upstream_refused_total`), also
//! where nothing follows that could tell the sum.

use crate::route::Route;
use gnomon_inspect::Sighting;
use gnomon_observe::{Field, Lookup};
use gnomon_wire::mcp::{canonical_method, is_mcp_method};
use std::sync::Arc;

/// The `error.type` of such a call.
pub(crate) const SHORT: &str = "upstream_connections_exhausted";

/// What calls of one kind differ in. A sum has none of it.
const OWN: [Field; 4] = [Field::RpcId, Field::ToolName, Field::PromptName, Field::ResourceUri];

/// Leaves of the reports on such calls those that are told now, and says in them how many calls they stand for.
pub(crate) fn sum_up(route: &Route, reports: &mut Vec<Sighting>) {
    let told: Vec<(u32, Option<u64>)> = reports
        .chunk_by(|one, next| one.call == next.call)
        .filter_map(|of_call| {
            let first = of_call.first()?;
            Some((first.call, route.shared.short.counts_some(&kind(route, of_call), first.seen.calls())))
        })
        .collect();
    reports.retain_mut(|report| {
        let calls = told.iter().find(|(call, _)| *call == report.call).and_then(|(_, calls)| *calls);
        if let Some(calls) = calls.filter(|calls| *calls > report.seen.calls()) {
            OWN.into_iter().for_each(|field| report.seen.clear(field));
            report.seen.set(Field::Calls, calls);
        }
        calls.is_some()
    });
}

/// The kind of a call, by all its reports.
fn kind(route: &Route, of_call: &[Sighting]) -> Arc<str> {
    let mut kind = route.seat.client().to_string();
    if let Some(Sighting { seen, .. }) = of_call.first() {
        let port = match seen.get(Field::ServerPort) {
            Lookup::Value(port) => port.as_int(),
            Lookup::Absent | Lookup::Unreadable => None,
        };
        // Anything may be in the place of a method, and would be a kind of its own.
        let method = seen.text(Field::McpMethod).map(|method| if is_mcp_method(method) { canonical_method(method) } else { "other" });
        kind.push_str(&format!("\n{}\n{port:?}\n{method:?}", seen.text(Field::ServerAddress).unwrap_or_default()));
    }
    for report in of_call {
        kind.push('\n');
        kind.push_str(report.seen.text(Field::RuleId).unwrap_or_default());
    }
    kind.into()
}
