//! Reports of entries of servers' lists that are not offered: besides the log and a metric, to clients that list, in the `_meta` of
//! lists, and to those that call such a tool all the same.

use crate::lists::PortalLists;
use gnomon_access::{Asked, Caller, Hints};
use gnomon_relay::{
    held::Upstream,
    names::{Prefix, split_name},
};
use gnomon_upstream::{
    catalogue::{Kind, Lists},
    left_out::{LeftOut, named},
    rpc::{INVALID_PARAMS, RpcError},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// The most entries that one list names.
const MOST_TOLD: usize = 20;

/// The notices of what each server's list lacks, by the first of it and its number: a few of each, however much one lacks, and
/// how many more there are.
fn told(of_servers: Vec<(Vec<Value>, usize)>) -> Vec<Value> {
    let all: usize = of_servers.iter().map(|(_, count)| count).sum();
    let mut shares = vec![0usize; of_servers.len()];
    let mut left = MOST_TOLD.min(of_servers.iter().map(|(first, _)| first.len()).sum());
    while left > 0 {
        for (share, (first, _)) in shares.iter_mut().zip(&of_servers) {
            if left > 0 && *share < first.len() {
                *share += 1;
                left -= 1;
            }
        }
    }
    let mut told: Vec<Value> = of_servers.into_iter().zip(shares).flat_map(|((first, _), share)| first.into_iter().take(share)).collect();
    if all > told.len() {
        told.push(json!({"more": all - told.len()}));
    }
    told
}

impl PortalLists {
    /// The entries that are left out, for this caller, as JSON; none where there are none. Policy hides these as others.
    pub(crate) fn left_out(&self, caller: &Caller, kind: Kind) -> Option<Value> {
        let of_server = |server: &Arc<Upstream>| {
            let lists = server.lists();
            let known = || lists.left_out(kind).iter().filter(|left| self.may_know(caller, &server.id, kind, left));
            let first = known().take(MOST_TOLD).map(|left| json!({"server": server.id, "name": left.name, "why": left.why}));
            (first.collect(), known().count())
        };
        let told = told(self.servers().iter().map(of_server).collect());
        (!told.is_empty()).then_some(told.into())
    }

    /// The reason that a named entry was left out, if it was.
    pub(crate) fn why_left_out(&self, caller: &Caller, kind: Kind, name: &str) -> Option<RpcError> {
        let found = |server: &str, lists: &Lists, own: &str| {
            let own = named(own);
            let left = lists.left_out(kind).iter().find(|left| left.name.as_ref() == Some(&own))?;
            let text = format!("the {} `{own}` of server `{server}` is not offered: {}", kind.word(), left.why);
            self.may_know(caller, server, kind, left).then(|| RpcError::new(INVALID_PARAMS, text))
        };
        match (self.prefix(), split_name(kind, name)) {
            (Prefix::Always, Some((id, own))) => {
                let servers = self.servers();
                let server = servers.named(id)?;
                found(&server.id, &server.lists(), &own)
            }
            (Prefix::Always, None) => None,
            (Prefix::Never, _) => self.servers().iter().find_map(|server| found(&server.id, &server.lists(), name)),
        }
    }

    fn may_know(&self, caller: &Caller, server: &str, kind: Kind, left: &LeftOut) -> bool {
        let name = left.name.as_deref().unwrap_or_default();
        let asked = Asked { portal: self.portal(), server, capability: kind.asked(), name, hints: Hints::default(), arguments: None };
        self.gate().may_list(caller, &asked).is_shown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_lacks_much_leaves_room_for_what_others_lack_and_all_are_counted() {
        let of = |server: &str, count: usize| (vec![json!({"server": server}); count.min(MOST_TOLD)], count);
        let told = told(vec![of("large", 9000), of("small", 2), of("none", 0), of("other", 300)]);
        let count = |server: &str| told.iter().filter(|one| one["server"] == server).count();
        assert_eq!([count("large"), count("small"), count("other")], [9, 2, 9]);
        assert_eq!(told.last(), Some(&json!({"more": 9302 - 20})));
        assert_eq!(super::told(vec![of("only", 3)]).len(), 3);
    }
}
