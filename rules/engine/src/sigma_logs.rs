//! Log sources of Sigma whose rules gnomon can answer: besides its own, those of web proxies and web servers, whose field names (appendix
//! "taxonomy" of the Sigma specification 2.1.0) are read as ours.

use crate::{
    error::Report,
    yaml::{self, Fault, Key, Node, NodeKind, Plain},
};
use gnomon_observe::Class;

/// What a rule is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogSource {
    /// `{product: mcp, category: mcp_traffic}`, in our own names.
    Mcp,
    /// `{category: proxy}` or `{category: webserver}`, in those of web logs.
    Web,
}

impl LogSource {
    /// The class of a rule that names none.
    pub(crate) fn class(self) -> Class {
        match self {
            Self::Mcp => Class::Mcp,
            Self::Web => Class::Threat,
        }
    }
}

/// What the document is written for.
pub(crate) fn logsource(document: &Node, report: &mut Report<'_>) -> Option<LogSource> {
    const ADVICE: &str = "write `logsource: {product: mcp, category: mcp_traffic}`, or `{category: proxy}` or `{category: webserver}` and no \
                          other key for rules in the names of web logs";
    let Some(node) = document.get("logsource") else {
        return report.at(document.at, format!("`logsource` is missing; {ADVICE}"));
    };
    let NodeKind::Map(entries) = &node.kind else {
        return report.at(node.at, format!("`logsource` must be a mapping; {ADVICE}"));
    };
    if let Some("proxy" | "webserver") = node.get("category").and_then(Node::text) {
        let other = entries.iter().find(|(key, _)| !matches!(key.name.as_str(), "category" | "definition"));
        return match other {
            Some((key, _)) => report.at(key.at, format!("`{}` in `logsource` is of one product's logs; {ADVICE}", key.name)),
            None => Some(LogSource::Web),
        };
    }
    for (key, value) in entries {
        let wanted = match key.name.as_str() {
            "product" => "mcp",
            "category" => "mcp_traffic",
            "definition" => continue,
            other => return report.at(key.at, format!("`{other}` in `logsource` is of other traffic than ours; {ADVICE}")),
        };
        if value.text() != Some(wanted) {
            return report.at(value.at, format!("this rule is for other traffic than ours; {ADVICE}"));
        }
    }
    if node.get("product").is_none() || node.get("category").is_none() {
        return report.at(node.at, format!("`logsource` is not complete; {ADVICE}"));
    }
    Some(LogSource::Mcp)
}

/// Their names, and ours. What web logs have beyond these, gnomon does not see before it judges (`sc-bytes`), or writes otherwise
/// (`cs-version`), so a rule on it is refused as one on any unknown field.
const NAMES: [(&str, &str); 24] = [
    // Rules of the public repository look for paths here as well as for queries.
    ("c-uri", "url.original"),
    ("cs-uri", "url.original"),
    ("c-uri-query", "url.original"),
    ("cs-uri-query", "url.original"),
    ("c-uri-stem", "url.path"),
    ("cs-uri-stem", "url.path"),
    ("c-uri-extension", "url.extension"),
    ("c-useragent", "user_agent.original"),
    ("cs-user-agent", "user_agent.original"),
    ("cs-host", "server.address"),
    ("r-dns", "server.address"),
    ("cs-method", "http.request.method"),
    ("sc-status", "http.response.status_code"),
    ("cs-referer", "http.request.header.referer"),
    ("cs-referrer", "http.request.header.referer"),
    ("c-referer", "http.request.header.referer"),
    ("cs-cookie", "http.request.header.cookie"),
    ("cs-content-type", "http.request.header.content-type"),
    ("cs-username", "user.name"),
    ("cs-bytes", "http.request.body.size"),
    ("c-ip", "source.address"),
    ("src_ip", "source.address"),
    ("dst_ip", "destination.address"),
    ("dst_port", "server.port"),
];

/// The documents of a file, with the fields of each in our names.
pub(crate) fn documents(text: &str) -> (Vec<Node>, Option<Fault>) {
    let (mut documents, fault) = yaml::documents(text);
    for document in &mut documents {
        if of(document) == Some(LogSource::Web) {
            let NodeKind::Map(entries) = &mut document.kind else { continue };
            for (_, node) in entries.iter_mut().filter(|(key, _)| matches!(key.name.as_str(), "detection" | "filter")) {
                rename(node);
            }
        }
    }
    (documents, fault)
}

/// The log source of a document, without saying what is wrong with it.
fn of(document: &Node) -> Option<LogSource> {
    logsource(document, &mut Report::new(""))
}

fn rename(node: &mut Node) {
    match &mut node.kind {
        NodeKind::Map(entries) => {
            for (key, value) in entries {
                rename_key(key, value);
                rename(value);
            }
        }
        NodeKind::List(list) => list.iter_mut().for_each(rename),
        NodeKind::Scalar(_) => {}
    }
}

fn rename_key(key: &mut Key, value: &Node) {
    let (name, modifiers) = key.name.split_once('|').map_or((key.name.as_str(), None), |(name, words)| (name, Some(words)));
    let is_null = matches!(&value.kind, NodeKind::Scalar(scalar) if scalar.value == Plain::Null);
    let ours = match NAMES.iter().find(|(theirs, _)| *theirs == name) {
        // There is always a path, but not always a query.
        Some((theirs, _)) if theirs.ends_with("-query") && is_null => "url.query",
        Some((_, ours)) => ours,
        None => return,
    };
    key.name = modifiers.map_or_else(|| ours.to_owned(), |modifiers| format!("{ours}|{modifiers}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use gnomon_observe::{FieldRef, Role};

    #[test]
    fn each_name_of_a_web_log_is_a_field_that_rules_may_ask_for() {
        for (theirs, ours) in NAMES {
            let field: FieldRef = ours.parse().unwrap_or_else(|error| panic!("{theirs}: {error}"));
            assert_eq!(field.role(), Role::Evidence, "{theirs}");
            assert!(theirs.parse::<FieldRef>().is_err(), "{theirs} would be ambiguous");
        }
    }
}
