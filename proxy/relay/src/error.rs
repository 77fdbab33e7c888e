//! Why a call has no answer. The texts are fit for a client's eyes: no address, no URL.

use crate::not_taken_up::NotTakenUp;
use gnomon_inspect::Refusal;
use gnomon_upstream::{
    UpstreamError,
    carried::{CARRIED_OUT, CarriedOut, Sent},
    rpc::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, Outcome, RpcError},
};
use serde_json::json;

/// The reason that a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError {
    /// Its server gave no answer.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// A rule refuses what was to be sent, or what came back.
    #[error("{}", .0.text)]
    Refused(Box<Refusal>),
    /// A rule withholds the answer that came, which says this of the call.
    #[error("{}", .0.text)]
    Withheld(Box<Refusal>, CarriedOut),
    /// Policy no longer allows what was under way, as it is in force now: the answer that a client gets to what it may not do.
    #[error("{}", .0.message)]
    Denied(Box<RpcError>),
    /// Policy does not let the caller use the server, or no longer.
    #[error("the client may not use this server")]
    Withdrawn,
    /// Policy allows it on a condition that nothing here can meet.
    #[error("it was not forwarded, since {0}, which is not supported here")]
    Unfulfilled(&'static str),
    /// The server was not asked, as the audit could not write the beginning of the call.
    #[error("it was not asked, as the audit cannot be written")]
    Unrecorded,
    /// The client did not take up what waits for it.
    #[error(transparent)]
    NotTakenUp(#[from] NotTakenUp),
    /// The client's input is not what the server asks for; the call goes on waiting.
    #[error("`inputResponses` does not fit what the server asks for: {0}; the call waits for another")]
    Unfit(String),
    /// The server asks for input, and the call cannot be kept until the client has it.
    #[error("the call cannot be kept while its server waits for the input that it asks for")]
    NotKept,
    /// The server says more than the client reads.
    #[error("unread answers use all the memory that this caller may take: read them, or ask for less")]
    NoRoom,
    /// What the server said is large, and others' is read first.
    #[error("what the server said is too large to be read now, as many wait whose answers are: ask for less, or later")]
    Unread,
    /// The two protocol eras have no word for it in common.
    #[error("{0}")]
    Untranslatable(&'static str),
}

impl CallError {
    /// What is known of a request that ended with this; none where something answers it, or that is no question.
    pub fn carried_out(&self, sent: Sent) -> Option<CarriedOut> {
        match (self, sent) {
            (Self::Upstream(error), _) => error.carried_out(sent),
            (Self::Withheld(_, carried), _) => Some(*carried),
            // What its server said before the answer.
            (Self::Refused(_), Sent::Yes) => Some(CarriedOut::Perhaps),
            // It may not leave once more, or its beginning could not be recorded again.
            (Self::Denied(_) | Self::NotKept | Self::NoRoom | Self::Unread | Self::Unrecorded, Sent::Yes) => Some(CarriedOut::Perhaps),
            _ => None,
        }
    }

    /// The answer to the client; `server` is the id by which it knows the server, and `carried` what is known of a call that
    /// something may come of.
    pub fn outcome(&self, server: &str, carried: Option<CarriedOut>) -> Outcome {
        match self {
            Self::Upstream(error) => error.outcome(server, carried),
            Self::Refused(refusal) | Self::Withheld(refusal, _) => {
                let mut data = json!({"gnomon": {"action": refusal.action.as_str(), "rule": refusal.rule_id}});
                if let Some(carried) = carried {
                    data[CARRIED_OUT] = carried.word().into();
                }
                RpcError::new(INVALID_REQUEST, refused(refusal, carried)).with(data).into()
            }
            Self::Denied(denied) => match carried {
                None => RpcError::clone(denied).into(),
                Some(carried) => RpcError::new(denied.code, format!("{}; {}", denied.message, carried.words()))
                    .with(json!({CARRIED_OUT: carried.word()}))
                    .into(),
            },
            Self::Withdrawn | Self::Unfulfilled(_) => RpcError::new(INVALID_REQUEST, self.to_string()).into(),
            Self::Unrecorded => told(format!("server `{server}`: {self}"), carried).with(json!({"server": server})).into(),
            Self::NotTakenUp(why) => RpcError::new(INVALID_PARAMS, why.to_string()).into(),
            Self::Unfit(_) => RpcError::new(INVALID_PARAMS, self.to_string()).into(),
            Self::NotKept | Self::NoRoom | Self::Unread => told(self.to_string(), carried).into(),
            Self::Untranslatable(why) => RpcError::new(METHOD_NOT_FOUND, *why).with(json!({"server": server})).into(),
        }
    }

    /// The word for `error.type` in events.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Upstream(error) => error.kind(),
            Self::Refused(_) => "refused",
            Self::Withheld(..) => "withheld",
            Self::Denied(_) => "denied",
            Self::Withdrawn => "withdrawn",
            Self::Unfulfilled(_) => "unfulfilled",
            Self::Unrecorded => "unrecorded",
            Self::NotTakenUp(_) => "unknown_state",
            Self::Unfit(_) => "unfit_answer",
            Self::NotKept => "not_kept",
            Self::NoRoom => "no_room",
            Self::Unread => "unread",
            Self::Untranslatable(_) => "untranslatable",
        }
    }
}

/// The words of a refusal, with what is known of the call.
#[must_use]
pub fn refused(refusal: &Refusal, carried: Option<CarriedOut>) -> String {
    match carried {
        None => refusal.text.clone(),
        Some(carried) => format!("{}; {}", refusal.text, carried.words()),
    }
}

/// A failure of ours, with what is known of the call.
fn told(text: String, carried: Option<CarriedOut>) -> RpcError {
    match carried {
        None => RpcError::new(INTERNAL_ERROR, text),
        Some(carried) => RpcError::new(INTERNAL_ERROR, format!("{text}; {}", carried.words())),
    }
}
