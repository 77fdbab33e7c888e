//! Events about a portal itself: a server went or came back, or a caller asked for something it may not have. Messages to a server and back
//! are in [`crate::judged`].

use crate::{
    judged::{Rules, Whose, describe},
    names::shortened,
};
use gnomon_inspect::Sighting;
use gnomon_observe::{Action, Channel, Class, Field, Observation};
use smol_str::{SmolStr, ToSmolStr};

/// A request that was refused before any server was asked.
pub struct Refused<'a> {
    /// The server it would have gone to, where that is known.
    pub server: Option<&'a SmolStr>,
    /// The method of the request.
    pub method: &'a str,
    /// The name that was asked for, in the client's words.
    pub name: &'a str,
    /// The code of the error that its client got.
    pub code: i32,
    /// The reason in words of ours: the client's answer may repeat what it sent, which events do not keep.
    pub why: &'static str,
    /// How many of this caller's it stands for.
    pub requests: u64,
}

impl Rules {
    /// A server went, or came back.
    pub(crate) fn server_is(&self, (portal, server): (&SmolStr, &SmolStr), health: &'static str, message: &str) {
        let mut seen = Observation::new();
        of_portal(&mut seen, portal, Some(server));
        seen.set(Field::Health, health);
        seen.set(Field::Message, format!("server `{server}` of portal `{portal}`{message}"));
        self.note(seen, Action::Log, Class::Health);
    }

    /// Records a request for something that does not exist, or is not the caller's.
    pub fn turned_down(&self, portal: &SmolStr, whose: Whose<'_>, refused: &Refused<'_>) {
        let mut seen = whose.program.cloned().unwrap_or_default();
        of_portal(&mut seen, portal, refused.server);
        describe(&mut seen, whose);
        seen.set(Field::Channel, Channel::Http.as_str());
        seen.set(Field::Sanctioned, true);
        seen.set(Field::McpMethod, refused.method.to_smolstr());
        let named = match refused.method {
            "tools/call" => Some(Field::ToolName),
            "prompts/get" => Some(Field::PromptName),
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some(Field::ResourceUri),
            _ => None,
        };
        if let Some(field) = named.filter(|_| !refused.name.is_empty()) {
            seen.set(field, shortened(refused.name));
        }
        seen.set(Field::ErrorType, refused.code.to_smolstr());
        seen.set(Field::Message, refused.why);
        seen.set_some(Field::Calls, Some(refused.requests).filter(|requests| *requests > 1));
        self.note(seen, Action::Block, Class::Policy);
    }

    fn note(&self, mut seen: Observation, action: Action, class: Class) {
        seen.set(Field::Action, action.as_str());
        seen.set(Field::DetectionClass, class.as_str());
        self.recorder.report(vec![Sighting { seen, rule: None, action, class, call: 0 }]);
    }
}

fn of_portal(seen: &mut Observation, portal: &SmolStr, server: Option<&SmolStr>) {
    seen.set(Field::Vantage, "portal");
    seen.set(Field::PortalId, portal.clone());
    seen.set_some(Field::ServerId, server.cloned());
}
