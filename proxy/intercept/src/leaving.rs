//! Connections of which one side has ended its half.
//!
//! Its FIN may mean that it has gone or that it reads on, and the two look alike, so it is served on. But a program that has gone would
//! keep its seat for as long as the other side is silent. So once nothing has moved for a few seconds, such a connection gives its seat up
//! when another needs it, and after some minutes it ends.

use crate::client_seats::ClientSeat;
use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, sleep},
};

/// The time without traffic after which it may be evicted.
const MAY_GO: Duration = Duration::from_secs(5);
/// The time without traffic after which it ends: as long as an answer may lie unread.
const ENDS: Duration = Duration::from_secs(300);

/// The time of the last traffic on a connection, and whether a side of it has ended.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// Milliseconds since then.
    last: AtomicU64,
    ended: AtomicBool,
    ends: Notify,
}

impl Default for Activity {
    fn default() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0), ended: AtomicBool::new(false), ends: Notify::new() }
    }
}

impl Activity {
    /// Bytes have moved.
    pub fn moves(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since, Ordering::Relaxed);
    }

    /// A side has ended.
    pub fn ends(&self) {
        self.moves();
        if !self.ended.swap(true, Ordering::SeqCst) {
            self.ends.notify_waiters();
        }
    }

    async fn ended(&self) {
        let mut ends = std::pin::pin!(self.ends.notified());
        ends.as_mut().enable();
        if !self.ended.load(Ordering::SeqCst) {
            ends.await;
        }
    }

    async fn quiet_for(&self, time: Duration) {
        loop {
            let quiet = self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
            match time.checked_sub(quiet) {
                Some(rest) if !rest.is_zero() => sleep(rest).await,
                _ => return,
            }
        }
    }

    /// Completes when the connection is to end: one side has ended, nothing moves, and others need the seat, or that has been so for long.
    pub async fn is_over(&self, seat: &ClientSeat) {
        self.ended().await;
        self.quiet_for(MAY_GO).await;
        seat.seated().is_left();
        tokio::select! {
            () = seat.is_needed() => {}
            () = self.quiet_for(ENDS) => {}
        }
    }
}

/// One side of a connection, whose bytes and end are noted.
pub(crate) struct Noting<'a, T> {
    pub inner: &'a mut T,
    pub activity: &'a Activity,
}

impl<T: AsyncRead + Unpin> AsyncRead for Noting<'_, T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut *self.inner).poll_read(cx, buf);
        match &read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => self.activity.moves(),
            Poll::Ready(Ok(())) if buf.remaining() > 0 => self.activity.ends(),
            _ => {}
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noting<'_, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut *self.inner).poll_write(cx, buf);
        if written.is_ready() {
            self.activity.moves();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_seats::ClientSeats;
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::pin::pin;
    use tokio::time::timeout;

    const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4000);

    #[tokio::test(start_paused = true)]
    async fn a_connection_whose_client_has_ended_its_side_goes_when_others_need_its_seat_and_by_itself_in_the_end() {
        let seats = ClientSeats::new(2, 2);
        let (one, two) = tokio::join!(seats.admit(LOCAL), seats.admit(LOCAL));
        let (one, two) = (one.unwrap(), two.unwrap());
        let _under_way = (one.begin(), two.begin());
        let (of_one, of_two) = (Activity::default(), Activity::default());
        let mut over = pin!(of_one.is_over(&one));
        assert!(timeout(ENDS * 2, over.as_mut()).await.is_err(), "who has not ended anything waits as long as it likes");
        of_one.ends();
        let mut newcomer = pin!(seats.admit(LOCAL));
        assert!(timeout(MAY_GO / 2, async { tokio::join!(over.as_mut(), newcomer.as_mut()) }).await.is_err(), "it may read on");
        assert!(
            timeout(MAY_GO, async {
                tokio::select! { () = over.as_mut() => {}, _ = newcomer.as_mut() => {} }
            })
            .await
            .is_ok()
        );
        // The other one has not ended anything; when it has, and nobody needs its seat, it keeps that for a while.
        of_two.ends();
        let began = Instant::now();
        of_two.is_over(&two).await;
        assert!(began.elapsed() >= MAY_GO && began.elapsed() <= ENDS + MAY_GO, "{:?}", began.elapsed());
    }
}
