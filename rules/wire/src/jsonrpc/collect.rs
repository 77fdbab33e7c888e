//! The containers of a JSON-RPC message that matter, and the facts taken from them.
//!
//! The tokenizer asks what a key means where it stands ([`Slot`]), what a container opened there is
//! ([`ContainerRole`]), and hands over scalars. Everything else it only checks.

use smol_str::SmolStr;

use super::leaves::Leaves;
use super::places::{Container, ContainerRole, META_PREFIX, STRICT, Slot, Word, deciding_in_params, deciding_top_level, result_key};
use super::{
    Heard, Id, Likeness, Limits, MAX_INPUT_REQUESTS, MAX_KEY, MAX_META_KEYS, MAX_TOOLS, Malformed, Message, MessageKind, ParamsShape,
    Presence, Scalar, Shape, Truncation, Version,
};
use crate::mcp_names;

/// The place where a key in another case was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Variant {
    #[default]
    None,
    Params,
    TopLevel,
}

/// First or later, for an element of an array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nth {
    First,
    Further,
}

/// The result of an object in the place of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// A message: [`Collector::message`].
    Message,
    /// Some other object, or one that is unreadable and shows nothing of JSON-RPC.
    Nothing,
}

/// Whether `method` stands in an array. JavaScript makes the text of `["tools/call"]`, however deep it is nested, of such a one where
/// it is used as a key, and readers of Java unwrap it: it is that method. Several values make a text with commas, which no
/// method has; how a server interprets those is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    No,
    /// One value, or none yet; how much the message and the body looked like JSON-RPC before it.
    One(Likeness, Likeness),
    Several,
}

/// Collects the facts of one message after the other.
#[derive(Clone, Debug)]
pub(super) struct Collector {
    /// Most bytes kept of one captured string.
    max_capture: usize,
    message: Message,
    /// True if the message holds anything of an earlier object: most objects of a long array have nothing that is kept.
    used: bool,
    seen: u32,
    variant: Variant,
    /// The likeness of the message in progress.
    message_likeness: Likeness,
    /// The likeness of the body so far.
    likeness: Likeness,
    /// The first fault that waits for the end of the message.
    fault: Option<Malformed>,
    method: Listed,
    leaves: Leaves,
}

impl Collector {
    pub fn new(limits: Limits) -> Self {
        Self {
            max_capture: limits.max_capture,
            message: Message::default(),
            used: false,
            seen: 0,
            variant: Variant::None,
            message_likeness: Likeness::None,
            likeness: Likeness::None,
            fault: None,
            method: Listed::No,
            leaves: Leaves::new(limits.arguments),
        }
    }

    pub const fn message(&self) -> &Message {
        &self.message
    }

    pub const fn likeness(&self) -> Likeness {
        self.likeness
    }

    /// Remembers a fault until the kind of message is known.
    pub fn fault(&mut self, fault: Malformed) {
        self.fault.get_or_insert(fault);
    }

    /// The fault that still waits when the body's value ends.
    pub const fn pending(&self) -> Option<Malformed> {
        self.fault
    }

    pub fn liken(&mut self, likeness: Likeness) {
        self.message_likeness = self.message_likeness.max(likeness);
        self.likeness = self.likeness.max(likeness);
    }

    pub fn begin(&mut self, index: usize, shape: Shape) {
        if std::mem::take(&mut self.used) {
            self.message = Message::default();
        }
        self.message.index = index;
        self.message.shape = shape;
        self.seen = 0;
        self.variant = Variant::None;
        self.message_likeness = Likeness::None;
        self.method = Listed::No;
        self.leaves.begin();
    }

    /// The findings in the message's texts, and the hash of its tools.
    pub fn over(&mut self, heard: Heard, tools: Option<[u8; 32]>) {
        self.used |= tools.is_some() || heard != Heard::default();
        (self.message.heard, self.message.result.tools_hash) = (heard, tools);
    }

    /// Ends the object.
    pub fn finish(&mut self, end: u64) -> Result<Ending, Malformed> {
        self.message.end = end;
        self.message.kind = self.kind();
        let ambiguous = match self.variant {
            Variant::None => false,
            // Other JSON-RPC protocols may well have a `Name` in their params.
            Variant::Params => self.message_likeness == Likeness::Mcp,
            Variant::TopLevel => self.message_likeness != Likeness::None,
        };
        if ambiguous {
            self.fault(Malformed::AmbiguousKey);
        }
        if self.method == Listed::Several && self.message_likeness != Likeness::None {
            self.fault(Malformed::SeveralMethods);
        }
        match self.fault {
            Some(fault) if self.likeness != Likeness::None => Err(fault),
            Some(_) => Ok(Ending::Nothing),
            None if self.message.kind == MessageKind::Other && self.message.jsonrpc == Version::Absent => Ok(Ending::Nothing),
            None => Ok(Ending::Message),
        }
    }

    fn kind(&self) -> MessageKind {
        let has = |slot: Slot| self.seen & (1 << slot as u8) != 0;
        if self.message.method.is_some() {
            if has(Slot::Id) { MessageKind::Request } else { MessageKind::Notification }
        } else if has(Slot::Result) {
            MessageKind::Response
        } else if has(Slot::Error) {
            MessageKind::Error
        } else {
            MessageKind::Other
        }
    }

    /// The most bytes to keep of a key in this container; 0 if none of its keys matters.
    pub fn key_limit(&self, place: ContainerRole) -> usize {
        match place {
            ContainerRole::Other
            | ContainerRole::Batch
            | ContainerRole::Tools
            | ContainerRole::SupportedVersions
            | ContainerRole::Methods => 0,
            _ => MAX_KEY,
        }
    }

    /// The slot for the value of this key. `path` is the length of the argument path of its object.
    pub fn key(&mut self, place: ContainerRole, key: &str, path: usize) -> Slot {
        self.used = true;
        let slot = match (place, key) {
            (ContainerRole::Message, _) => self.message_key(key),
            (ContainerRole::Params, _) => self.params_key(key),
            (ContainerRole::ParamsMeta, _) => self.meta_key(key),
            (ContainerRole::ClientInfo, "name") => Slot::ClientName,
            (ContainerRole::ClientInfo, "version") => Slot::ClientVersion,
            (ContainerRole::MetaClientInfo, "name") => Slot::MetaClientName,
            (ContainerRole::MetaClientInfo, "version") => Slot::MetaClientVersion,
            (ContainerRole::Arguments, _) => {
                self.leaves.member(path, key, &mut self.message);
                Slot::Leaf
            }
            (ContainerRole::Result, "isError") => {
                self.message.result.is_error_given = Presence::Present;
                Slot::IsError
            }
            (ContainerRole::Result, _) => result_key(key),
            (ContainerRole::ResultMeta, _) if key.starts_with(META_PREFIX) => {
                self.message.result.meta_mcp = Presence::Present;
                match key.strip_prefix(META_PREFIX) {
                    Some("serverInfo") => Slot::MetaServerInfo,
                    _ => Slot::None,
                }
            }
            (ContainerRole::ServerInfo, "name") => Slot::ServerName,
            (ContainerRole::ServerInfo, "version") => Slot::ServerVersion,
            (ContainerRole::Tool, "name") => Slot::ToolName,
            (ContainerRole::Tool, "inputSchema") => {
                self.message.result.input_schema = Presence::Present;
                Slot::None
            }
            (ContainerRole::InputRequests, _) => Slot::InputRequest,
            (ContainerRole::InputRequest, "method") => Slot::InputMethod,
            (ContainerRole::InputRequest, _) => {
                if deciding_top_level(key) == Some("method") {
                    self.message.result.input_requests_overflow = Truncation::Cut;
                }
                Slot::None
            }
            (ContainerRole::Error, "code") => {
                self.message.result.error_code_given = Presence::Present;
                Slot::ErrorCode
            }
            (ContainerRole::Error, "message") => Slot::ErrorMessage,
            _ => Slot::None,
        };
        if (slot as u8) < STRICT {
            let bit = 1 << slot as u8;
            if self.seen & bit != 0 {
                self.fault(Malformed::DuplicateKey);
            }
            self.seen |= bit;
        }
        slot
    }

    fn message_key(&mut self, key: &str) -> Slot {
        match key {
            "jsonrpc" => {
                self.liken(Likeness::JsonRpc);
                self.message.jsonrpc = Version::Other;
                Slot::Jsonrpc
            }
            "method" => Slot::Method,
            "id" => {
                self.message.id = Some(Id::Other);
                Slot::Id
            }
            "params" => {
                self.message.params = ParamsShape::Other;
                Slot::Params
            }
            "result" => Slot::Result,
            "error" => Slot::Error,
            _ => self.top_level_variant(key),
        }
    }

    fn params_key(&mut self, key: &str) -> Slot {
        match key {
            "name" => Slot::Name,
            "uri" => Slot::Uri,
            "_meta" => Slot::Meta,
            "arguments" => Slot::Arguments,
            // What else a client gives a server to work on: `completion/complete`, and the answers to its questions.
            "argument" | "context" | "inputResponses" => {
                self.leaves.beside(key, &mut self.message);
                Slot::Leaf
            }
            "protocolVersion" => {
                self.message.protocol_version = Some(Scalar::Other);
                Slot::ProtocolVersion
            }
            "clientInfo" => Slot::ClientInfo,
            "capabilities" => Slot::Capabilities,
            "clientCapabilities" => {
                self.message.client_capabilities = Presence::Present;
                Slot::ClientCapabilities
            }
            "cursor" => Slot::Cursor,
            "taskId" => {
                self.message.task_id = Presence::Present;
                Slot::TaskId
            }
            "id" => {
                self.message.params_id = Presence::Present;
                Slot::ParamsId
            }
            _ => {
                if deciding_in_params(key) {
                    self.variant = self.variant.max(Variant::Params);
                }
                Slot::None
            }
        }
    }

    fn top_level_variant(&mut self, key: &str) -> Slot {
        let Some(name) = deciding_top_level(key) else {
            return Slot::None;
        };
        self.variant = Variant::TopLevel;
        match name {
            "jsonrpc" => self.liken(Likeness::JsonRpc),
            "method" => return Slot::VariantMethod,
            _ => {}
        }
        Slot::None
    }

    fn meta_key(&mut self, key: &str) -> Slot {
        let meta = &mut self.message.meta;
        if meta.keys.len() < MAX_META_KEYS {
            meta.keys.push(SmolStr::new(key));
        }
        let Some(name) = key.strip_prefix(META_PREFIX) else {
            return Slot::None;
        };
        meta.mcp = Presence::Present;
        match name {
            "protocolVersion" => Slot::MetaProtocolVersion,
            "clientInfo" => Slot::MetaClientInfo,
            _ => Slot::None,
        }
    }

    /// The slot for an element of an array.
    pub fn element(&mut self, place: ContainerRole, path: usize, which: Nth) -> Slot {
        match place {
            ContainerRole::Methods => {
                if which == Nth::Further {
                    self.several_methods();
                }
                Slot::MethodItem
            }
            ContainerRole::Batch => Slot::BatchItem,
            ContainerRole::Tools => Slot::Tool,
            ContainerRole::SupportedVersions => Slot::SupportedVersion,
            // Its entries are what JavaScript makes of an array's elements, too.
            ContainerRole::InputRequests => Slot::InputRequest,
            ContainerRole::Arguments => {
                self.leaves.element(path);
                Slot::Leaf
            }
            _ => Slot::None,
        }
    }

    /// Undoes the likeness that the first of several `method` members caused.
    fn several_methods(&mut self) {
        if let Listed::One(message, body) = self.method {
            (self.message_likeness, self.likeness) = (message, body);
        }
        self.message.method = None;
        self.method = Listed::Several;
    }

    /// The role of a container opened in this slot, and the length of its argument path.
    pub fn open(&mut self, slot: Slot, container: Container) -> (ContainerRole, usize) {
        let message = &mut self.message;
        let place = match (slot, container) {
            (Slot::Method, Container::Array) => {
                self.method = Listed::One(self.message_likeness, self.likeness);
                ContainerRole::Methods
            }
            (Slot::MethodItem, Container::Array) => ContainerRole::Methods,
            // Names are strings; how a server interprets any other type is unknown.
            (Slot::Name, _) => {
                message.name_is_odd = Presence::Present;
                ContainerRole::Other
            }
            (Slot::Uri, _) => {
                message.uri_is_odd = Presence::Present;
                ContainerRole::Other
            }
            (Slot::ToolName, _) => {
                message.result.tools_odd = Presence::Present;
                message.result.tools_overflow = Truncation::Cut;
                ContainerRole::Other
            }
            (Slot::Top | Slot::BatchItem, Container::Object) => ContainerRole::Message,
            (Slot::Top, Container::Array) => ContainerRole::Batch,
            (Slot::BatchItem, Container::Array) => {
                // Its objects are still read, to tell what kind of body this is.
                self.fault(Malformed::NestedBatch);
                ContainerRole::Batch
            }
            (Slot::Params, Container::Object) => {
                message.params = ParamsShape::Object;
                ContainerRole::Params
            }
            (Slot::Params, Container::Array) => {
                message.params = ParamsShape::Array;
                ContainerRole::Other
            }
            (Slot::Capabilities, Container::Object) => {
                message.capabilities = Presence::Present;
                ContainerRole::Other
            }
            (Slot::Meta, Container::Object) => ContainerRole::ParamsMeta,
            (Slot::ClientInfo, Container::Object) => ContainerRole::ClientInfo,
            (Slot::MetaClientInfo, Container::Object) => ContainerRole::MetaClientInfo,
            (Slot::Arguments | Slot::Leaf, _) => {
                if slot == Slot::Arguments {
                    self.leaves.root();
                }
                return self.leaves.path().map_or((ContainerRole::Other, 0), |path| (ContainerRole::Arguments, path));
            }
            (Slot::Result, Container::Object) => ContainerRole::Result,
            (Slot::ServerInfo, Container::Object) => {
                message.result.server_info = Presence::Present;
                ContainerRole::ServerInfo
            }
            (Slot::ResultCapabilities, Container::Object) => {
                message.result.capabilities = Presence::Present;
                ContainerRole::Other
            }
            (Slot::SupportedVersions, Container::Array) => ContainerRole::SupportedVersions,
            (Slot::ResultMeta, Container::Object) => ContainerRole::ResultMeta,
            (Slot::MetaServerInfo, Container::Object) => {
                message.result.meta_server_info = Presence::Present;
                ContainerRole::ServerInfo
            }
            (Slot::InputMethod, _) => {
                message.result.input_requests_overflow = Truncation::Cut;
                ContainerRole::Other
            }
            (Slot::InputRequests, _) => ContainerRole::InputRequests,
            (Slot::InputRequest, Container::Object) => ContainerRole::InputRequest,
            (Slot::Tools, Container::Array) => ContainerRole::Tools,
            (Slot::Tool, Container::Object) => ContainerRole::Tool,
            (Slot::Error, Container::Object) => ContainerRole::Error,
            _ => ContainerRole::Other,
        };
        (place, 0)
    }

    /// An object or array in arguments that holds nothing still has a path.
    pub fn empty_leaf(&mut self) {
        self.leaves.keep("", Truncation::Whole, &mut self.message);
    }

    /// Most bytes wanted of the value in this slot; 0 if it is only checked.
    pub fn value_limit(&mut self, slot: Slot) -> usize {
        match slot {
            Slot::None
            | Slot::Top
            | Slot::BatchItem
            | Slot::Params
            | Slot::Result
            | Slot::Error
            | Slot::Meta
            | Slot::ClientInfo
            | Slot::Capabilities
            | Slot::TaskId
            | Slot::MetaClientInfo
            | Slot::ClientCapabilities
            | Slot::ParamsId
            | Slot::ServerInfo
            | Slot::ResultCapabilities
            | Slot::SupportedVersions
            | Slot::ResultMeta
            | Slot::MetaServerInfo
            | Slot::Tools
            | Slot::Tool
            | Slot::InputRequests
            | Slot::InputRequest
            | Slot::IsError => 0,
            Slot::Arguments => {
                self.leaves.root();
                self.leaves.room(&mut self.message)
            }
            Slot::Leaf => self.leaves.room(&mut self.message),
            _ => self.max_capture,
        }
    }

    pub fn string(&mut self, slot: Slot, text: &str, truncation: Truncation) {
        let kept = || Some(SmolStr::new(text));
        match slot {
            Slot::Method => {
                if mcp_names::is_mcp_method(text) {
                    self.liken(Likeness::Mcp);
                }
                self.message.method = kept();
                self.note_cut(truncation);
            }
            Slot::MethodItem if self.method == Listed::Several => {}
            Slot::MethodItem => self.string(Slot::Method, text, truncation),
            Slot::VariantMethod => {
                if mcp_names::is_mcp_method(text) {
                    self.liken(Likeness::Mcp);
                }
            }
            Slot::Jsonrpc => {
                if text == "2.0" {
                    self.message.jsonrpc = Version::V2;
                }
            }
            Slot::Id => {
                self.message.id = Some(Id::Str(SmolStr::new(text)));
                self.note_cut(truncation);
            }
            Slot::Name => {
                self.message.name = kept();
                self.note_cut(truncation);
            }
            Slot::Uri => {
                self.message.uri = kept();
                self.note_cut(truncation);
            }
            Slot::ProtocolVersion => {
                self.message.protocol_version = Some(Scalar::Str(SmolStr::new(text)));
            }
            Slot::Cursor => self.message.cursor = kept(),
            Slot::ClientName => self.message.client_name = kept(),
            Slot::ClientVersion => self.message.client_version = kept(),
            Slot::MetaProtocolVersion => self.message.meta.protocol_version = kept(),
            Slot::MetaClientName => self.message.meta.client_name = kept(),
            Slot::MetaClientVersion => self.message.meta.client_version = kept(),
            Slot::Arguments | Slot::Leaf => self.leaves.keep(text, truncation, &mut self.message),
            _ => self.result_string(slot, text, truncation),
        }
    }

    fn result_string(&mut self, slot: Slot, text: &str, truncation: Truncation) {
        let result = &mut self.message.result;
        let kept = || Some(SmolStr::new(text));
        match slot {
            Slot::ResultProtocolVersion => result.protocol_version = kept(),
            Slot::ServerName => result.server_name = kept(),
            Slot::ServerVersion => result.server_version = kept(),
            Slot::SupportedVersion if mcp_names::is_protocol_version(text) => {
                result.supported_versions = Presence::Present;
            }
            Slot::ToolName => {
                if truncation.is_cut() || result.tools.len() >= MAX_TOOLS {
                    result.tools_overflow = Truncation::Cut;
                }
                if result.tools.len() < MAX_TOOLS {
                    result.tools.push(SmolStr::new(text));
                }
            }
            Slot::ResultType => result.result_type = kept(),
            Slot::InputMethod => {
                if truncation.is_cut() || result.input_requests.len() >= MAX_INPUT_REQUESTS {
                    result.input_requests_overflow = Truncation::Cut;
                }
                if result.input_requests.len() < MAX_INPUT_REQUESTS {
                    result.input_requests.push(SmolStr::new(mcp_names::without_gaps(text).unwrap_or(text)));
                }
            }
            Slot::ErrorMessage => result.error_message = kept(),
            _ => {}
        }
    }

    fn note_cut(&mut self, truncation: Truncation) {
        self.message.truncated |= truncation.is_cut();
    }

    pub fn number(&mut self, slot: Slot, raw: &str, truncation: Truncation) {
        match slot {
            Slot::Id => {
                self.message.id = Some(Id::Num(SmolStr::new(raw)));
                self.note_cut(truncation);
            }
            Slot::ProtocolVersion => {
                self.message.protocol_version = Some(Scalar::Num(SmolStr::new(raw)));
            }
            Slot::Name => self.message.name_is_odd = Presence::Present,
            Slot::Uri => self.message.uri_is_odd = Presence::Present,
            Slot::ToolName => {
                self.message.result.tools_odd = Presence::Present;
                self.message.result.tools_overflow = Truncation::Cut;
            }
            Slot::ErrorCode => self.message.result.error_code = raw.parse().ok().or_else(|| whole(raw)),
            Slot::Arguments | Slot::Leaf => match whole(raw).filter(|_| !truncation.is_cut()) {
                Some(number) => self.leaves.keep(&number.to_string(), truncation, &mut self.message),
                None => self.leaves.keep(raw, truncation, &mut self.message),
            },
            _ => {}
        }
    }

    pub fn word(&mut self, slot: Slot, word: Word) {
        match (slot, word) {
            (Slot::Id, Word::Null) => self.message.id = Some(Id::Null),
            (Slot::Name, Word::True | Word::False) => self.message.name_is_odd = Presence::Present,
            (Slot::Uri, Word::True | Word::False) => self.message.uri_is_odd = Presence::Present,
            (Slot::IsError, Word::True) => self.message.result.is_error = Some(true),
            (Slot::IsError, Word::False | Word::Null) => self.message.result.is_error = Some(false),
            (Slot::Arguments, _) => {
                self.leaves.root();
                self.leaves.keep(word.as_str(), Truncation::Whole, &mut self.message);
            }
            (Slot::Leaf, _) => self.leaves.keep(word.as_str(), Truncation::Whole, &mut self.message),
            _ => {}
        }
    }
}

/// A whole number that is not written as one (`1e6`, `1000000.0`): servers that convert arguments to their types take it for the same.
/// None for those beyond what a 64-bit float holds exactly (RFC 8259 section 6).
fn whole(raw: &str) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if !raw.contains(['.', 'e', 'E']) {
        return None;
    }
    let number: f64 = raw.parse().ok()?;
    (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i64)
}
