//! Turns at the processors: who has to wait for one too long is turned away before any work is done for it.
//!
//! Exchanges compute to their end, so without this a broker that is asked for more than its processors can do reads
//! every request, and answers all of them late. Here reading goes first and computing waits in a queue of its own, whose
//! pace is known: a newcomer is told at once when it would wait too long, and those in the queue keep theirs.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Turns for each processor. Who has one waits behind all that is to be read: with few of them a flood of requests for documents
/// would let few exchanges through between two readings, with many those who are to be turned away would wait for them.
const EACH: usize = 16;
/// As few may wait however long it takes: that is a pause of the machine, which passes, and no want of processors.
const FEW: u64 = 32;
/// Of the estimate, the part that each new measurement makes up is one in this many.
const SMOOTHING: u64 = 8;

/// All turns. Taking one that is free, and giving it back, waits for nobody.
pub struct Turns {
    free: Semaphore,
    waiting: AtomicU64,
    /// What each place in the queue has cost lately, in nanoseconds.
    pace: AtomicU64,
    longest: Duration,
}

impl Turns {
    /// Where nobody should wait longer than this.
    pub fn new(longest: Duration) -> Self {
        Self::of(EACH * available_parallelism().map_or(1, usize::from), longest)
    }

    fn of(turns: usize, longest: Duration) -> Self {
        Self { free: Semaphore::new(turns), waiting: AtomicU64::new(0), pace: AtomicU64::new(0), longest }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The next turn, and how long that took if there was none free; `None` at once when it would take too long.
    pub(super) async fn take(&self) -> Option<(Turn<'_>, Option<Duration>)> {
        let (turn, waited) = match self.free.try_acquire() {
            Ok(turn) => (turn, None),
            Err(_) => self.queue().await.map(|(turn, waited)| (turn, Some(waited)))?,
        };
        // What has arrived is read first, so that this worker learns how many there are. Also after a wait: the runtime goes
        // on with whom the last turn woke before anything else, so that turns passed on would leave no time to read.
        behind_others().await;
        Some((Turn(Some(turn)), waited))
    }

    async fn queue(&self) -> Option<(SemaphorePermit<'_>, Duration)> {
        let place = Place::last(&self.waiting);
        if place.1 >= FEW && self.expected(place.1) > self.longest {
            return None;
        }
        let came = Instant::now();
        // It is never closed.
        let turn = self.free.acquire().await.ok()?;
        let waited = came.elapsed();
        self.note(waited, place.1);
        Some((turn, waited))
    }

    fn expected(&self, ahead: u64) -> Duration {
        Duration::from_nanos(self.pace.load(Ordering::Relaxed).saturating_mul(ahead + 1))
    }

    /// Two that end at once may forget one of the measurements: it is an estimate.
    fn note(&self, waited: Duration, ahead: u64) {
        let measured = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX) / (ahead + 1);
        let known = self.pace.load(Ordering::Relaxed);
        let smoothed = known - known / SMOOTHING + measured / SMOOTHING;
        self.pace.store(if known == 0 { measured } else { smoothed }, Ordering::Relaxed);
    }
}

/// A place in the queue with the number of those ahead, given back when it is dropped: also when the client goes away.
struct Place<'t>(&'t AtomicU64, u64);

impl<'t> Place<'t> {
    fn last(waiting: &'t AtomicU64) -> Self {
        Self(waiting, waiting.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to compute.
pub(super) struct Turn<'t>(Option<SemaphorePermit<'t>>);

impl Turn<'_> {
    /// Does the work. Work that waits, for an issuer or for the record, needs no processor: it gives the turn to the next.
    pub(super) async fn spend<F: Future>(mut self, mut work: Pin<&mut F>) -> F::Output {
        std::future::poll_fn(|context| {
            let poll = work.as_mut().poll(context);
            self.0.take();
            poll
        })
        .await
    }
}

/// Lets the worker do first what it has to do already. The runtime's own yield would also ask the kernel for more.
async fn behind_others() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;

    use tokio::task::{JoinHandle, yield_now};
    use tokio::time::advance;

    use super::*;

    const LONGEST: Duration = Duration::from_millis(100);

    /// Waits for a turn and gives it back.
    fn waiter(turns: &Arc<Turns>) -> JoinHandle<bool> {
        let turns = turns.clone();
        tokio::spawn(async move { turns.take().await.is_some() })
    }

    async fn queue(turns: &Arc<Turns>, number: u64) -> Vec<JoinHandle<bool>> {
        let waiters = (0..number).map(|_| waiter(turns)).collect();
        while turns.waiting() < number {
            yield_now().await;
        }
        waiters
    }

    async fn all(waiters: Vec<JoinHandle<bool>>) -> usize {
        let mut admitted = 0;
        for waiter in waiters {
            admitted += usize::from(waiter.await.unwrap());
        }
        admitted
    }

    /// One turn, whose queue moves on a place each `pace`.
    async fn known(pace: Duration) -> Arc<Turns> {
        let turns = Arc::new(Turns::of(1, LONGEST));
        let (turn, waited) = turns.take().await.unwrap();
        assert_eq!(waited, None);
        let first = queue(&turns, 1).await;
        advance(pace).await;
        drop(turn);
        assert_eq!(all(first).await, 1);
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn who_would_wait_too_long_is_turned_away_at_once_and_nobody_else() {
        let turns = known(Duration::from_millis(2)).await;
        let turn = turns.take().await.unwrap();
        let waiting = queue(&turns, 50).await;
        // The 51st would wait for 102 ms.
        assert!(turns.take().await.is_none());
        assert_eq!(turns.waiting(), 50);
        drop(turn);
        assert_eq!(all(waiting).await, 50);
        assert!(turns.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_wait_however_long_a_pause_was_and_the_estimate_recovers() {
        let turns = known(Duration::from_secs(5)).await;
        let turn = turns.take().await.unwrap();
        let waiting = queue(&turns, FEW).await;
        assert!(turns.take().await.is_none());
        drop(turn);
        // No time passes between one and the next.
        assert_eq!(all(waiting).await, 32);
        let turn = turns.take().await.unwrap();
        let waiting = queue(&turns, FEW).await;
        drop(turn);
        assert_eq!(all(waiting).await, 32);
        let turn = turns.take().await.unwrap();
        let waiting = queue(&turns, FEW + 1).await;
        drop(turn);
        assert_eq!(all(waiting).await, 33);
    }

    #[tokio::test(start_paused = true)]
    async fn who_goes_away_leaves_its_place() {
        let turns = Arc::new(Turns::of(1, LONGEST));
        let turn = turns.take().await.unwrap();
        let waiting = queue(&turns, 3).await;
        waiting[0].abort();
        while turns.waiting() > 2 {
            yield_now().await;
        }
        drop(turn);
        let mut waiting = waiting.into_iter();
        assert!(waiting.next().unwrap().await.unwrap_err().is_cancelled());
        assert_eq!(all(waiting.collect()).await, 2);
        assert_eq!(turns.waiting(), 0);
    }

    #[tokio::test]
    async fn what_is_to_be_read_comes_before_a_turn_that_is_passed_on() {
        let turns = Arc::new(Turns::of(1, LONGEST));
        let (turn, _) = turns.take().await.unwrap();
        let (order, mut told) = tokio::sync::mpsc::unbounded_channel();
        let waiting = turns.clone();
        let computes = order.clone();
        tokio::spawn(async move {
            let _turn = waiting.take().await.unwrap();
            computes.send("compute").unwrap();
        });
        while turns.waiting() == 0 {
            yield_now().await;
        }
        drop(turn);
        tokio::spawn(async move { order.send("read").unwrap() });
        assert_eq!((told.recv().await, told.recv().await), (Some("read"), Some("compute")));
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_waits_gives_its_turn_to_the_next() {
        let turns = Arc::new(Turns::of(1, LONGEST));
        let (turn, _) = turns.take().await.unwrap();
        let mut slow = Box::pin(async { turn.spend(pin!(std::future::pending::<()>())).await });
        assert!(turns.free.try_acquire().is_err());
        assert!(tokio::time::timeout(LONGEST, slow.as_mut()).await.is_err());
        let (turn, _) = turns.take().await.unwrap();
        assert_eq!(turn.spend(pin!(async { 7 })).await, 7);
        assert!(turns.free.try_acquire().is_ok());
    }
}
