//! The forms that clients are asked to fill in (elicitation), kept until they have answered.
//!
//! A server decides how long a form is, and a client how long it waits: what they take together is bounded for the process and shared by
//! callers, none of whom has more than is left.

use gnomon_shares::{Bounds, Share, Shares};
use gnomon_upstream::{
    form::Form,
    rpc::{INTERNAL_ERROR, INVALID_PARAMS, Outcome, Request, RpcError},
};
use std::sync::{Arc, LazyLock};

/// The unit of counting, bytes.
const UNIT: usize = 1 << 10;
/// The memory of all of them, bytes.
const ALL: usize = 16 << 20;

static ROOM: LazyLock<Arc<Shares>> = LazyLock::new(|| Shares::new(Bounds { all: ALL / UNIT, each: ALL / UNIT, times_free: 1 }));

/// A form with its place among all.
#[derive(Debug)]
pub struct KeptForm {
    form: Form,
    _room: Share,
}

impl KeptForm {
    /// The form of a question to this caller's client; none where it has none.
    ///
    /// # Errors
    /// For the server: no answer could be checked, or too many forms wait already.
    pub fn of(question: &Request, holder: &str) -> Result<Option<Self>, RpcError> {
        let Some(form) = Form::of(question)? else { return Ok(None) };
        let room = ROOM.take_some(&holder.into(), form.bytes().div_ceil(UNIT).max(1));
        let room = room.map_err(|_| RpcError::new(INTERNAL_ERROR, "the client has not filled in earlier forms"))?;
        Ok(Some(Self { form, _room: room }))
    }

    /// The form.
    #[must_use]
    pub fn form(&self) -> &Form {
        &self.form
    }
}

/// A client's answer to a question; in place of one that does not fit the question's form an error for whoever asked.
pub(crate) async fn held(kept: Option<KeptForm>, said: Outcome) -> Outcome {
    let (Some(kept), Outcome::Result(result)) = (&kept, &said) else { return said };
    match kept.form.holds(result).await {
        Ok(()) => said,
        Err(why) => {
            tracing::debug!("a client's answer does not fit the form that it was asked with: {why}");
            RpcError::new(INVALID_PARAMS, format!("the client's answer does not fit `requestedSchema`: {why}")).into()
        }
    }
}
