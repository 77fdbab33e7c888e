//! A connection: within bounds of time, and with what must hold in it set whatever the server's, the role's or the environment's
//! defaults are.

use crate::{
    PostgresUrl,
    error::{PostgresOpenError, late, unreachable},
};
use sqlx::{ConnectOptions as _, PgConnection};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Timeout of connecting.
pub(crate) const CONNECT: Duration = Duration::from_secs(3);

/// A statement ends after 2 s. So does an idle transaction, which frees its turn. No name is one that
/// another schema could have taken. What is said to be kept is on the disk at least.
const SESSION: &str = "SET statement_timeout = '2s';
    SET idle_in_transaction_session_timeout = '2s';
    SET default_transaction_isolation = 'read committed';
    SET search_path = pg_catalog, pg_temp;
    SET client_min_messages = 'warning';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A new connection, before `until`.
pub(crate) async fn connect(url: &PostgresUrl, until: Instant) -> Result<PgConnection, PostgresOpenError> {
    let until = until.min(Instant::now() + CONNECT);
    let options = url.options().map_err(|cause| PostgresOpenError::Setup { at: url.to_string(), cause })?;
    let connected = async {
        let mut conn = options.connect().await?;
        sqlx::raw_sql(SESSION).execute(&mut conn).await?;
        Ok(conn)
    };
    match timeout_at(until, connected).await {
        Ok(connected) => connected.map_err(|error| unreachable(url, error)),
        Err(_) => Err(late(url, CONNECT.as_secs())),
    }
}
