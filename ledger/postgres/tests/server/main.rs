//! The journal in a real PostgreSQL: what every engine must do, and what can happen to a server and on the way to it.
#![allow(clippy::unwrap_used)]

mod authority;
mod failing;
mod opening;
mod relay;
mod restoring;
mod sharing;
mod stage;
mod texts;
mod trust;

use gnomon_ledger_contract::decisions::Journal;
use gnomon_ledger_model::Decisions;
use gnomon_ledger_postgres::PostgresDecisions;

impl Journal for stage::Database {
    async fn decisions(&self) -> Box<dyn Decisions> {
        Box::new(PostgresDecisions::open(self.url()).await.unwrap())
    }
}

gnomon_ledger_contract::contract_of_decisions!(match stage::Database::new().await {
    Some(database) => database,
    None => return,
});
