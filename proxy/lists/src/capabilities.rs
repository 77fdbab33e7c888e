//! The capabilities that a portal announces: those of any of its servers, as far as the portal supports them.

use crate::lists::PortalLists;
use gnomon_access::Caller;
use gnomon_relay::{held::Upstream, names::Prefix};
use gnomon_upstream::{
    era::Era,
    extensions::{self, SKILLS},
    members::Members,
};
use serde_json::{Map, Value, json};

/// The part of a server's settings that is shown for it: an extension's settings only as far as the portal knows them.
fn settings(name: &str, own: &str, of_others: Option<&Value>) -> Value {
    let own = Members::read(own.as_bytes()).unwrap_or_default();
    match name {
        SKILLS if own.flag("directoryRead") == Some(true) => json!({"directoryRead": true}),
        _ => of_others.cloned().unwrap_or_else(|| json!({})),
    }
}

/// Tasks of the older era, as two servers have them: a method that either knows.
fn tasks(own: &str, of_others: &Value) -> Value {
    let own: Value = serde_json::from_str(own).unwrap_or_default();
    let mut all = of_others.as_object().cloned().unwrap_or_default();
    for key in ["list", "cancel"] {
        if own[key].is_object() {
            all.insert(key.to_owned(), json!({}));
        }
    }
    if own["requests"]["tools"]["call"].is_object() {
        all.insert("requests".to_owned(), json!({"tools": {"call": {}}}));
    }
    all.into()
}

impl PortalLists {
    /// The capabilities for this caller in this era, as JSON.
    pub fn capabilities(&self, caller: &Caller, era: Era) -> Value {
        let mut all = match self.own_of_the_only() {
            Some(own) => own,
            None => self.merged(era),
        };
        let extensions = self.extensions(caller, era);
        if let Some(all) = all.as_object_mut() {
            all.remove("extensions");
            // In the stateless era these are an extension.
            if era == Era::Modern {
                all.remove("tasks");
            }
            if !extensions.is_empty() {
                all.insert("extensions".to_owned(), extensions.into());
            }
        }
        all
    }

    /// The capabilities of a portal's only server that are passed on.
    fn own_of_the_only(&self) -> Option<Value> {
        let servers = self.servers();
        let (Prefix::Never, [only]) = (self.prefix(), &**servers) else { return None };
        serde_json::from_slice(&only.presence().face()?.capabilities).ok()
    }

    fn merged(&self, era: Era) -> Value {
        let mut all = json!({"tools": {"listChanged": true}});
        for server in self.servers().iter() {
            let presence = server.presence();
            let Some(Ok(own)) = presence.face().map(|face| Members::read(&face.capabilities)) else { continue };
            for name in ["prompts", "logging", "completions", "resources", "tasks"] {
                let Some(json) = own.get(name) else { continue };
                let old = &mut all[name];
                *old = match name {
                    "prompts" => json!({"listChanged": true}),
                    "resources" => {
                        let subscribe =
                            old["subscribe"] == true || Members::read(json.as_bytes()).is_ok_and(|r| r.flag("subscribe") == Some(true));
                        json!({"listChanged": true, "subscribe": subscribe})
                    }
                    "tasks" => tasks(json, old),
                    _ => json!({}),
                };
            }
        }
        // Tasks of the older era are another protocol than the later extension, and only servers with sessions have them.
        if era == Era::Modern || all["tasks"].as_object().is_none_or(Map::is_empty) {
            all.as_object_mut().map(|all| all.remove("tasks"));
        }
        all
    }

    /// The extensions that servers offer of which this caller may know, as far as the portal can keep them in this era.
    fn extensions(&self, caller: &Caller, era: Era) -> Map<String, Value> {
        let mut all = Map::new();
        for server in self.known(caller) {
            for name in extensions::kept(era) {
                if let Some(settings) = offered(&server, name, |own| settings(name, own, all.get(*name))) {
                    all.insert((*name).to_owned(), settings);
                }
            }
        }
        all
    }

    /// Whether a server offers an extension.
    #[must_use]
    pub fn offers(server: &Upstream, extension: &str) -> bool {
        offered(server, extension, |_| ()).is_some()
    }
}

/// Maps a server's settings of an extension, if it offers that.
fn offered<T>(server: &Upstream, extension: &str, of: impl FnOnce(&str) -> T) -> Option<T> {
    let presence = server.presence();
    extensions::declared(&presence.face()?.capabilities, extension).map(of)
}
