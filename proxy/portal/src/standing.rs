//! Streams that only wait for news, and for how long they may.
//!
//! A request is let in once, and a stream may stand for days. So what its caller proved itself with is kept, and held against every
//! log-in that is put in force meanwhile: who would be refused now, or would be somebody else, is to come back.

use crate::{
    front::{Visitor, expired},
    portal::Portal,
};
use gnomon_access::Caller;
use http::{HeaderMap, header::AUTHORIZATION};
use std::{pin::pin, sync::Arc};

/// What a caller proved itself with.
pub(crate) struct Proof {
    headers: HeaderMap,
    visitor: Arc<Visitor>,
    caller: Arc<Caller>,
}

impl Proof {
    pub fn of(headers: &HeaderMap, visitor: &Arc<Visitor>, caller: &Arc<Caller>) -> Self {
        let proofs = headers.get_all(AUTHORIZATION).iter().map(|value| (AUTHORIZATION, value.clone()));
        Self { headers: proofs.collect(), visitor: visitor.clone(), caller: caller.clone() }
    }
}

impl Portal {
    /// Until this caller would not be let in any more as who it is: its proof has expired, or was taken from it.
    pub(crate) async fn turned_out(&self, proof: &Proof) {
        let mut log_ins = self.log_ins.subscribe();
        // One may have been put in force since this caller was let in.
        log_ins.mark_changed();
        let mut expired = pin!(expired(&proof.caller));
        loop {
            tokio::select! {
                () = &mut expired => return,
                changed = log_ins.changed() => if changed.is_err() { return },
            }
            match self.authenticator().authenticate(&proof.headers, &proof.visitor.peer).await {
                Ok(caller) if *caller == *proof.caller => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}
