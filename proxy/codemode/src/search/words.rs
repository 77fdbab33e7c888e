//! Words as they are looked for: in small letters, in the singular, without those that everything is asked with.

/// Words in questions that say nothing of what is asked for. In order.
const STOP: &[&str] = &[
    "a", "about", "all", "an", "and", "any", "are", "as", "at", "be", "been", "by", "can", "could", "did", "do", "does", "done", "for",
    "from", "had", "has", "have", "here", "how", "i", "if", "in", "into", "is", "it", "its", "may", "me", "might", "my", "need", "of",
    "on", "or", "our", "out", "please", "should", "some", "that", "the", "there", "these", "this", "those", "to", "up", "us", "want",
    "was", "we", "were", "what", "when", "where", "which", "who", "whom", "whose", "why", "will", "with", "would", "you", "your",
];

/// Words of people for what tools are called. In order.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("account", &["user"]),
    ("agreement", &["contract"]),
    ("allow", &["allowed"]),
    ("allowed", &["permission"]),
    ("answer", &["reply"]),
    ("applicant", &["candidate", "application"]),
    ("approval", &["approve"]),
    ("approve", &["review"]),
    ("ask", &["request", "create", "post"]),
    ("back", &["restore", "rollback", "refund"]),
    ("bank", &["payout"]),
    ("below", &["thread"]),
    ("big", &["size"]),
    ("bigger", &["resize", "extend", "scale"]),
    ("book", &["create", "reserve"]),
    ("bug", &["issue"]),
    ("build", &["create"]),
    ("buy", &["create", "purchase", "order"]),
    ("cancel", &["delete", "revoke", "void"]),
    ("change", &["update", "edit", "commit"]),
    ("changed", &["diff", "log"]),
    ("chargeback", &["dispute"]),
    ("check", &["status"]),
    ("ci", &["check", "status", "build"]),
    ("clear", &["purge", "flush", "delete"]),
    ("clock", &["time"]),
    ("close", &["update"]),
    ("code", &["commit", "file"]),
    ("colleague", &["employee", "user"]),
    ("comment", &["reply", "note"]),
    ("compare", &["diff"]),
    ("complain", &["comment"]),
    ("computer", &["device", "server"]),
    ("config", &["file", "setting"]),
    ("connect", &["relation"]),
    ("content", &["read"]),
    ("conversation", &["thread", "history"]),
    ("copy", &["duplicate", "fork", "snapshot"]),
    ("cost", &["price", "bill", "budget"]),
    ("credential", &["token", "key", "kubeconfig"]),
    ("declare", &["create"]),
    ("deploy", &["deployment"]),
    ("difference", &["diff"]),
    ("dir", &["directory"]),
    ("discount", &["coupon", "promotion"]),
    ("disk", &["volume", "file"]),
    ("document", &["file"]),
    ("download", &["get", "read", "fetch"]),
    ("drop", &["delete"]),
    ("dump", &["write", "export"]),
    ("edit", &["update"]),
    ("email", &["mail", "message"]),
    ("emoji", &["reaction"]),
    ("empty", &["flush", "purge"]),
    ("erase", &["delete", "anonymize"]),
    ("everybody", &["user", "member", "employee"]),
    ("everything", &["graph", "list"]),
    ("expense", &["spending"]),
    ("fact", &["observation"]),
    ("find", &["search"]),
    ("fire", &["terminate"]),
    ("fix", &["update", "edit", "adjust"]),
    ("folder", &["directory"]),
    ("forget", &["delete"]),
    ("free", &["available", "slot"]),
    ("give", &["assign", "create"]),
    ("goal", &["objective"]),
    ("hand", &["submit"]),
    ("happened", &["history", "event"]),
    ("hire", &["employee", "offer"]),
    ("history", &["log"]),
    ("holiday", &["leave"]),
    ("host", &["record", "domain"]),
    ("hour", &["time", "worklog"]),
    ("image", &["media"]),
    ("invite", &["add", "member"]),
    ("join", &["merge"]),
    ("k8", &["cluster"]),
    ("keep", &["create", "add"]),
    ("know", &["search", "read", "open"]),
    ("kubectl", &["kubeconfig"]),
    ("kubernetes", &["cluster"]),
    ("label", &["tag", "update"]),
    ("land", &["merge"]),
    ("laptop", &["asset", "device"]),
    ("larger", &["resize", "extend"]),
    ("last", &["recent", "tail"]),
    ("left", &["remaining", "balance", "stock"]),
    ("link", &["relation"]),
    ("load", &["read", "open", "get"]),
    ("log", &["history"]),
    ("look", &["search", "read"]),
    ("machine", &["server", "device"]),
    ("mail", &["email", "message"]),
    ("make", &["create"]),
    ("manager", &["employee"]),
    ("meeting", &["event", "calendar"]),
    ("member", &["user"]),
    ("mind", &["observation"]),
    ("money", &["refund", "payment", "payout", "balance"]),
    ("more", &["scale", "list"]),
    ("mount", &["attach"]),
    ("new", &["create"]),
    ("newsletter", &["subscriber"]),
    ("node", &["entity"]),
    ("note", &["observation"]),
    ("off", &["power", "disable"]),
    ("open", &["read", "create", "list"]),
    ("order", &["purchase"]),
    ("paid", &["pay", "payment"]),
    ("parcel", &["shipment", "fulfillment", "tracking"]),
    ("pay", &["payment"]),
    ("people", &["user", "entity"]),
    ("person", &["user", "entity"]),
    ("picture", &["media"]),
    ("port", &["firewall", "rule"]),
    ("position", &["opening"]),
    ("postpone", &["reschedule"]),
    ("pr", &["pull", "request"]),
    ("problem", &["issue", "incident", "alert"]),
    ("propose", &["create", "request"]),
    ("public", &["recognition"]),
    ("put", &["create", "add", "write"]),
    ("question", &["thread", "message"]),
    ("raise", &["create", "open"]),
    ("read", &["get"]),
    ("readme", &["file", "content"]),
    ("rebase", &["update", "branch"]),
    ("reboot", &["restart"]),
    ("remember", &["create", "add"]),
    ("remove", &["delete"]),
    ("rename", &["move"]),
    ("reopen", &["update"]),
    ("replace", &["edit"]),
    ("repo", &["repository"]),
    ("report", &["create"]),
    ("request", &["create", "ask"]),
    ("rerun", &["retry"]),
    ("restart", &["reboot"]),
    ("review", &["comment"]),
    ("rights", &["permission", "role", "access"]),
    ("said", &["message"]),
    ("salary", &["payroll"]),
    ("save", &["write"]),
    ("say", &["post"]),
    ("screenshot", &["media", "image"]),
    ("send", &["post"]),
    ("server", &["machine"]),
    ("several", &["multiple"]),
    ("show", &["get", "list"]),
    ("signed", &["review", "approve"]),
    ("silence", &["mute"]),
    ("space", &["volume", "storage", "extend"]),
    ("spend", &["bill", "budget", "usage", "expense"]),
    ("spent", &["bill", "budget", "usage", "expense"]),
    ("spin", &["create"]),
    ("staff", &["employee"]),
    ("stage", &["add"]),
    ("start", &["create", "run"]),
    ("stock", &["inventory"]),
    ("stop", &["pause", "cancel", "power"]),
    ("structure", &["tree"]),
    ("submit", &["hand"]),
    ("supplier", &["purchase"]),
    ("switch", &["checkout"]),
    ("task", &["item", "issue", "card"]),
    ("team", &["channel"]),
    ("tell", &["post", "message", "notify"]),
    ("thank", &["recognition"]),
    ("ticket", &["issue"]),
    ("till", &["register"]),
    ("timezone", &["time"]),
    ("tls", &["certificate"]),
    ("today", &["current"]),
    ("token", &["key"]),
    ("transcript", &["transcribe"]),
    ("turn", &["toggle", "convert"]),
    ("uncommitted", &["diff", "status", "unstaged"]),
    ("undo", &["reset", "revert"]),
    ("unpaid", &["invoice", "due"]),
    ("unstage", &["reset"]),
    ("upload", &["push", "write", "create"]),
    ("vacation", &["leave"]),
    ("vat", &["tax"]),
    ("vm", &["server"]),
    ("web", &["fetch"]),
    ("website", &["fetch"]),
    ("who", &["user", "employee"]),
    ("work", &["relation"]),
    ("write", &["post", "create", "add", "comment"]),
    ("year", &["renew"]),
];

/// Words of a text: `listPullRequests`, `list_pull_requests` and `List the pull requests` are the same three. A plural is its
/// singular, as people and schemas mix them.
pub fn words(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !c.is_alphanumeric()).flat_map(humps).filter(|word| !word.is_empty());
    parts.map(str::to_lowercase).filter(|word| STOP.binary_search(&word.as_str()).is_err()).map(|word| singular(&word))
}

/// Further words that a word of a question may mean: what tools call it, and what it is a form of.
pub fn alternatives(word: &str) -> impl Iterator<Item = &str> {
    let said = SYNONYMS.binary_search_by_key(&word, |(said, _)| said).ok().and_then(|at| SYNONYMS.get(at));
    let called = said.into_iter().flat_map(|(_, called)| called.iter().copied());
    called.chain(["ing", "ed", "er", "d"].into_iter().filter_map(move |ending| word.strip_suffix(ending)).filter(|stem| stem.len() >= 4))
}

/// Splits where a small letter or digit meets a capital.
fn humps(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut before = None;
        let cut = rest.char_indices().find_map(|(at, c)| {
            let split = c.is_uppercase() && before.is_some_and(|before: char| !before.is_uppercase());
            before = Some(c);
            split.then_some(at)
        });
        let (hump, after) = rest.split_at(cut.unwrap_or(rest.len()));
        rest = after;
        Some(hump)
    })
}

fn singular(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ies").filter(|stem| stem.len() > 1) {
        return format!("{stem}y");
    }
    if ["sses", "xes", "ches", "shes", "zes", "tuses"].iter().any(|ending| word.ends_with(ending)) {
        return word.strip_suffix("es").unwrap_or(word).to_owned();
    }
    match word.strip_suffix('s') {
        Some(stem) if stem.len() > 2 && !stem.ends_with(['s', 'u', 'i']) => stem.to_owned(),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order_so_that_they_can_be_looked_up() {
        assert!(STOP.is_sorted() && SYNONYMS.is_sorted_by_key(|(said, _)| said));
    }

    #[test]
    fn a_plural_is_its_singular() {
        let of = |text: &str| words(text).collect::<Vec<_>>().join(" ");
        assert_eq!(of("entities repositories branches statuses issues files classes"), "entity repository branch status issue file class");
        assert_eq!(of("status releases series"), "status release sery");
        assert_eq!(of("which of the listPullRequests"), "list pull request");
    }
}
