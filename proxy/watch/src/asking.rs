//! Questions to a sensor whose answer is waited for.

use std::io;
use std::time::Duration;

use gnomon_http::{HostUser, IpFamily, NearEnd, NetNs};
use gnomon_link::{Family, ToSensor};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::WatchError;
use crate::questions::Answer;
use crate::session::Session;

/// The time within which the sensor must welcome us, or open listeners.
pub(crate) const ANSWERS: Duration = Duration::from_secs(5);
/// The minor version since which the sensor knows failed addresses, and opens sockets as users.
pub(crate) const SINCE_FAILED: u16 = 3;

/// Asks the sensor, once it is this question's turn, and waits for what it hands over.
pub(crate) async fn ask(session: &Session, question: impl FnOnce(u64) -> ToSensor) -> Answer {
    let answered = async {
        let _turn = session.questions.turn().await?;
        let token = session.identities.token();
        let answered = session.questions.wait_for(token);
        session.ask.send(question(token)).await.map_err(|_| WatchError::Gone)?;
        answered.await.unwrap_or(Err(WatchError::Gone))
    };
    timeout(ANSWERS, answered).await.unwrap_or(Err(WatchError::Silent(ANSWERS)))
}

/// A socket at this near end, which the sensor opens unless it is our own.
pub(crate) async fn open(session: &Session, near: NearEnd, family: IpFamily) -> io::Result<TcpSocket> {
    let ours = |user: &HostUser| user.uid == rustix::process::geteuid().as_raw();
    // If the sensor cannot act as users, its features and the metrics say so.
    let user = near.user.filter(|user| !ours(user) && session.speaks(SINCE_FAILED) && session.acts_as_users());
    if near.netns.is_none() && user.is_none() {
        return match family {
            IpFamily::V4 => TcpSocket::new_v4(),
            IpFamily::V6 => TcpSocket::new_v6(),
        };
    }
    let netns_cookie = near.netns.map_or(0, |NetNs(cookie)| cookie);
    let family = match family {
        IpFamily::V4 => Family::V4,
        IpFamily::V6 => Family::V6,
    };
    let question = |token| match user {
        Some(HostUser { uid, gid }) => ToSensor::OpenSocketAs { token, netns_cookie, family, uid, gid },
        None => ToSensor::OpenSocket { token, netns_cookie, family },
    };
    let opened = ask(session, question).await.map_err(io::Error::other)?;
    let socket = opened.into_iter().next().ok_or_else(|| io::Error::other("the sensor sent no socket"))?;
    let socket = std::net::TcpStream::from(socket);
    socket.set_nonblocking(true)?;
    Ok(TcpSocket::from_std_stream(socket))
}
