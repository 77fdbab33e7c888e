//! Probes on idle connections to servers.
//!
//! A program that keeps a connection idle for long asks its system to probe it, so that a NAT on the way does not forget
//! it and a server that died is noticed. Through us those probes end here, and we answer them: so we probe ourselves,
//! on every connection, whether the program asked or not. The price is a packet a minute.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// How long a connection is idle before it is probed, and the time between probes. NATs keep idle connections for two
/// hours and four minutes (RFC 5382 REQ-5), many for less; few for less than two minutes.
const EVERY: Duration = Duration::from_secs(60);
/// How many probes go unanswered until the connection is given up: a quarter of an hour, which is how long the kernel
/// takes to give up data by default (tcp(7), `tcp_retries2`), so that an outage ends no idle connection sooner than a
/// busy one.
const PROBES: u32 = 15;

/// Turns on probes of a connection while it is idle.
///
/// # Errors
/// The error of `setsockopt(2)`.
pub fn watch(connection: impl AsFd) -> io::Result<()> {
    let connection = connection.as_fd();
    sockopt::set_tcp_keepidle(connection, EVERY)?;
    sockopt::set_tcp_keepintvl(connection, EVERY)?;
    sockopt::set_tcp_keepcnt(connection, PROBES)?;
    Ok(sockopt::set_socket_keepalive(connection, true)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_idle_connection_to_a_server_is_probed_each_minute() {
        let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connection = tokio::net::TcpStream::connect(server.local_addr().unwrap()).await.unwrap();
        watch(&connection).unwrap();
        assert!(sockopt::socket_keepalive(&connection).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&connection).unwrap(), EVERY);
        assert_eq!(sockopt::tcp_keepintvl(&connection).unwrap(), EVERY);
    }
}
