//! Notices connections that cost us a socket and give nothing back.
//!
//! hyper's own header timeout also runs while a kept-alive connection rests, so it can't tell a slow head (seconds)
//! from a resting client (a minute). A [`Watch`] is told what happens on one connection and knows when it is overdue.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Stands in the count of requests in flight once the connection has been dismissed.
const DISMISSED: usize = 1 << (usize::BITS - 1);

/// What a connection is overdue with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// A head has begun and does not end.
    Head,
    /// Nothing has been in flight for a while.
    Idle,
    /// Others need the place.
    Dismissed,
}

/// The state of one connection; times are microseconds since `start`.
#[derive(Debug)]
pub(super) struct Watch {
    start: Instant,
    header_timeout: Duration,
    idle_timeout: Duration,
    in_flight: AtomicUsize,
    idle_since: AtomicU64,
    /// 0 while no head has begun, and always with HTTP/2, whose heads are frames among frames.
    head_since: AtomicU64,
    told: Notify,
}

impl Watch {
    /// Begins idle.
    pub(super) fn new(header_timeout: Duration, idle_timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            start: Instant::now(),
            header_timeout,
            idle_timeout,
            in_flight: AtomicUsize::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            told: Notify::new(),
        })
    }

    /// A request is in flight until the returned value is dropped. `None` once the connection has been dismissed.
    pub(super) fn begin(self: &Arc<Self>) -> Option<InFlight> {
        if self.in_flight.fetch_add(1, Ordering::AcqRel) >= DISMISSED {
            return None;
        }
        self.head_since.store(0, Ordering::Relaxed);
        Some(InFlight(self.clone()))
    }

    /// Since when nothing has been in flight; `None` while something is, or after a dismissal.
    pub(super) fn resting_since(&self) -> Option<Instant> {
        let resting = self.in_flight.load(Ordering::Acquire) == 0;
        resting.then(|| self.start + Duration::from_micros(self.idle_since.load(Ordering::Acquire)))
    }

    /// Ends the connection for the sake of others, unless a request is in flight. Once this has told true, none begins.
    pub(super) fn dismiss(&self) -> bool {
        let dismissed = self.in_flight.compare_exchange(0, DISMISSED, Ordering::AcqRel, Ordering::Relaxed);
        if dismissed.is_ok() {
            self.told.notify_one();
        }
        dismissed.is_ok()
    }

    /// Waits for the dismissal.
    pub(super) async fn dismissed(&self) {
        self.told.notified().await;
    }

    /// Lets the idle time begin again.
    pub(super) fn touch(&self) {
        self.idle_since.store(self.elapsed(), Ordering::Release);
    }

    /// Waits until the connection is overdue. Must be polled by the task that does the connection's I/O, after it: that
    /// is how it sees a head begin without being woken for every request.
    pub(super) async fn overdue(&self) -> Overdue {
        let mut alarm = pin!(sleep_until(self.due().0));
        let mut dismissed = pin!(self.dismissed());
        poll_fn(|cx| {
            if dismissed.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Overdue::Dismissed);
            }
            // An alarm that comes too early is set again when it rings, which is rarer than a request.
            // Nor is the clock looked at while something is in flight.
            if self.in_flight.load(Ordering::Acquire) == 0 {
                let (earlier, _) = self.due();
                if earlier < alarm.deadline() {
                    alarm.as_mut().reset(earlier);
                }
            }
            while alarm.as_mut().poll(cx).is_ready() {
                let (due, what) = self.due();
                if due <= Instant::now() {
                    return Poll::Ready(what);
                }
                alarm.as_mut().reset(due);
            }
            Poll::Pending
        })
        .await
    }

    /// When the connection is overdue if nothing more happens.
    fn due(&self) -> (Instant, Overdue) {
        if self.in_flight.load(Ordering::Acquire) > 0 {
            return (Instant::now() + self.idle_timeout, Overdue::Idle);
        }
        let at = |micros| self.start + Duration::from_micros(micros);
        let idle = at(self.idle_since.load(Ordering::Acquire)) + self.idle_timeout;
        match self.head_since.load(Ordering::Relaxed) {
            since @ 1.. if at(since) + self.header_timeout < idle => {
                (at(since) + self.header_timeout, Overdue::Head)
            }
            _ => (idle, Overdue::Idle),
        }
    }

    fn received(&self) {
        let resting = self.in_flight.load(Ordering::Acquire) == 0;
        if resting && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.elapsed().max(1), Ordering::Relaxed);
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A request between its head and the end of the service's work.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Watch>);

impl Drop for InFlight {
    fn drop(&mut self) {
        // In this order: whoever reads that nothing is in flight must find since when.
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A stream that tells a watch when bytes come in.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) watch: Arc<Watch>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.received();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    async fn overdue_within(watch: &Watch, limit: Duration) -> Option<Overdue> {
        timeout(limit, watch.overdue()).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_less_time_than_rest() {
        let watch = Watch::new(HEAD, IDLE);
        assert_eq!(overdue_within(&watch, HEAD * 2).await, None);
        watch.received();
        assert_eq!(overdue_within(&watch, HEAD / 2).await, None);
        // Further bytes of the same head give it no more time.
        watch.received();
        assert_eq!(overdue_within(&watch, HEAD).await, Some(Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn requests_in_flight_are_never_overdue_and_rest_begins_at_their_end() {
        let watch = Watch::new(HEAD, IDLE);
        watch.received();
        let (first, second) = (watch.begin().unwrap(), watch.begin().unwrap());
        assert_eq!(overdue_within(&watch, IDLE * 3).await, None);
        drop(first);
        // Body bytes of a request in flight are no head.
        watch.received();
        assert_eq!(overdue_within(&watch, IDLE * 3).await, None);
        drop(second);
        assert_eq!(overdue_within(&watch, IDLE - HEAD).await, None);
        assert_eq!(overdue_within(&watch, HEAD * 2).await, Some(Overdue::Idle));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_set_for_rest_rings_earlier_once_a_head_begins() {
        let watch = Watch::new(HEAD, IDLE);
        let mut overdue = pin!(watch.overdue());
        assert!(timeout(HEAD, overdue.as_mut()).await.is_err());
        watch.received();
        assert_eq!(timeout(HEAD * 2, overdue).await, Ok(Overdue::Head));
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_resting_connection_is_dismissed_and_then_begins_nothing() {
        let watch = Watch::new(HEAD, IDLE);
        let request = watch.begin().unwrap();
        assert_eq!(watch.resting_since(), None);
        assert!(!watch.dismiss());
        advance(HEAD).await;
        drop(request);
        assert_eq!(watch.resting_since(), Some(Instant::now()));
        assert_eq!(overdue_within(&watch, HEAD).await, None);
        assert!(watch.dismiss());
        assert!(!watch.dismiss() && watch.begin().is_none());
        assert_eq!(overdue_within(&watch, HEAD).await, Some(Overdue::Dismissed));
    }
}
