//! Pages of tools (`ui://`, the extension `io.modelcontextprotocol/ui`) under policy.
//!
//! A page belongs to the tools that name it: a caller that may use none of them is not shown it either, unless an entry of the policy names
//! the page among its `resources`. And a tool whose page its caller may not read is listed without it, so that its answers are text.

use crate::{
    lists::PortalLists,
    view::{
        Exposed, View,
        pages::{is_page, plain},
    },
};
use gnomon_access::{Caller, Capability, Decision};
use gnomon_upstream::catalogue::Kind;

impl PortalLists {
    /// Whether a caller may read what has this URI, the server's own.
    pub fn may_read(&self, caller: &Caller, view: &View, server: &str, own: &str) -> Decision {
        let decision = self.gate().may_read(caller, server, Capability::Resource, own);
        if decision.is_allow() && self.hides(caller, view, server, own) {
            return Decision::Deny { line: None };
        }
        decision
    }

    /// True if this is a page that is hidden with its tools, whatever policy says of resources at large.
    pub(crate) fn hides(&self, caller: &Caller, view: &View, server: &str, own: &str) -> bool {
        is_page(own) && !self.shows_page(caller, view, server, own) && !self.gate().names(caller, server, own)
    }

    /// Whether a page is of a tool that a caller may know of, or of none.
    fn shows_page(&self, caller: &Caller, view: &View, server: &str, own: &str) -> bool {
        let Some(page) = plain(own) else { return !view.pages().has_any(server) };
        let tools = view.pages().tools.get(&(server.into(), page));
        tools.is_none_or(|tools| tools.iter().any(|tool| self.gate().may_list(caller, &self.asked(Kind::Tool, tool)).is_shown()))
    }

    /// Whether a tool is listed without its page.
    pub(crate) fn hides_page(&self, caller: &Caller, view: &View, tool: &Exposed) -> bool {
        tool.page.as_ref().is_some_and(|page| !self.may_read(caller, view, &tool.server, page).is_allow())
    }
}
