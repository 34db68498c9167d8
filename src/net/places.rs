//! Who is connected, and who makes room for the next.
//!
//! Both rules are for the client that comes, which is as likely honest as any, against those that hold a place and do
//! nothing with it: past the cap of connections the one that has rested longest goes, past the cap of handshakes the
//! oldest that is unfinished. Turning the newest away instead would let whoever opens enough of them lock out everybody.

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::Id;
use tokio::time::{Instant, sleep_until};

use super::watch::Watch;

/// Nobody goes earlier: an honest handshake takes one or two round trips, and an answer that has been given may still be
/// on its way.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long nobody is looked for after nobody was found.
const PAUSE: Duration = Duration::from_millis(100);

/// Of those that rest, one of so many is noted by one look through all connections: it goes without another look.
const NOTED: usize = 16;

/// Connections past the cap that have been dismissed and whose tasks have not come to end them.
pub(super) const LEAVING: usize = 32;

/// What a listener can tell about its connections.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Open now, handshakes included.
    pub connections: AtomicUsize,
    /// TLS handshakes that have not ended.
    pub handshakes: AtomicUsize,
    /// Closed as soon as they were accepted, because too many were open and none was at rest.
    pub refused: AtomicU64,
    /// Closed at rest, to make room for another.
    pub dismissed: AtomicU64,
    /// Handshakes that were broken off to make room for another.
    pub dropped_handshakes: AtomicU64,
    /// TLS handshakes that failed or took too long.
    pub handshake_failures: AtomicU64,
}

/// The connections that may stay.
pub(super) struct Places {
    limit: usize,
    open: HashMap<Id, Arc<Watch>>,
    /// The longest rest is the last.
    rested: Vec<(Id, Instant)>,
    found_nobody: Option<Instant>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: HashMap::new(), rested: Vec::new(), found_nobody: None }
    }

    /// Whether one more may come. Where all places are taken the connection that has rested longest is dismissed, if any has
    /// for [`PATIENCE`].
    pub(super) fn room(&mut self, gauges: &Gauges) -> bool {
        if self.open.len() < self.limit {
            return true;
        }
        let dismissed = self.dismiss_noted() || (self.look() && self.dismiss_noted());
        if dismissed {
            gauges.dismissed.fetch_add(1, Ordering::Relaxed);
        }
        dismissed
    }

    pub(super) fn came(&mut self, id: Id, watch: Arc<Watch>) {
        self.open.insert(id, watch);
    }

    pub(super) fn left(&mut self, id: Id) {
        self.open.remove(&id);
    }

    fn dismiss_noted(&mut self) -> bool {
        while let Some((id, since)) = self.rested.pop() {
            // It may have left, or worked since it was noted.
            let rests = self.open.get(&id).is_some_and(|watch| watch.resting_since() == Some(since));
            if rests && self.open[&id].dismiss() {
                self.open.remove(&id);
                return true;
            }
        }
        false
    }

    /// Notes who has rested longest; false when nobody has.
    fn look(&mut self) -> bool {
        if self.found_nobody.is_some_and(|at| at.elapsed() < PAUSE) {
            return false;
        }
        let resting = self.open.iter().filter_map(|(id, watch)| Some((*id, watch.resting_since()?)));
        self.rested = resting.filter(|(_, since)| since.elapsed() >= PATIENCE).collect();
        self.rested.sort_unstable_by_key(|(_, since)| Reverse(*since));
        let noted = self.rested.len().div_ceil(NOTED);
        self.rested.drain(..self.rested.len() - noted);
        self.found_nobody = self.rested.is_empty().then(Instant::now);
        self.found_nobody.is_none()
    }
}

/// The TLS handshakes that have not ended.
pub(super) struct Handshakes {
    limit: usize,
    permits: Arc<Semaphore>,
    /// In the order in which they began; those that have ended are gone from memory.
    unfinished: VecDeque<Weak<Handshake>>,
    gauges: Arc<Gauges>,
}

/// One handshake, until it is dropped.
pub(super) struct Handshake {
    watch: Arc<Watch>,
    since: Instant,
    gauges: Arc<Gauges>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.gauges.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Handshakes {
    pub(super) fn new(limit: usize, gauges: Arc<Gauges>) -> Self {
        Self { limit, permits: Arc::new(Semaphore::new(limit)), unfinished: VecDeque::new(), gauges }
    }

    /// Waits for room for one more, which the oldest makes once it has had its [`PATIENCE`]. Until then clients wait in the
    /// kernel's queue: they lose less than somebody whose handshake is cut off while we are the ones who are slow.
    pub(super) async fn room(&mut self) -> OwnedSemaphorePermit {
        if let Some(since) = self.oldest().map(|oldest| oldest.since) {
            tokio::select! {
                biased;
                permit = self.permit() => return permit,
                () = sleep_until(since + PATIENCE) => {}
            }
            if self.oldest().is_some_and(|oldest| oldest.watch.dismiss()) {
                self.unfinished.pop_front();
                self.gauges.dropped_handshakes.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.permit().await
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        match self.permits.clone().acquire_owned().await {
            Ok(permit) => permit,
            // Nobody closes it.
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) fn begin(&mut self, watch: Arc<Watch>, permit: OwnedSemaphorePermit) -> Arc<Handshake> {
        self.gauges.handshakes.fetch_add(1, Ordering::Relaxed);
        let gauges = self.gauges.clone();
        let handshake = Arc::new(Handshake { watch, since: Instant::now(), gauges, _permit: permit });
        // Those that have ended behind one that has not.
        if self.unfinished.len() > 2 * self.limit {
            self.unfinished.retain(|handshake| handshake.strong_count() > 0);
        }
        self.unfinished.push_back(Arc::downgrade(&handshake));
        handshake
    }

    fn oldest(&mut self) -> Option<Arc<Handshake>> {
        loop {
            if let Some(oldest) = self.unfinished.front()?.upgrade() {
                return Some(oldest);
            }
            self.unfinished.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const HEAD: Duration = Duration::from_secs(10);
    const IDLE: Duration = Duration::from_secs(60);

    fn come(places: &mut Places) -> (Id, Arc<Watch>) {
        let (id, watch) = (tokio::spawn(async {}).id(), Watch::new(HEAD, IDLE));
        places.came(id, watch.clone());
        (id, watch)
    }

    fn dismissed(watch: &Arc<Watch>) -> bool {
        watch.begin().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_rest_makes_room_and_work_never_does() {
        let (gauges, mut places) = (Gauges::default(), Places::new(3));
        let ((busy_id, busy), (_, first)) = (come(&mut places), come(&mut places));
        let request = busy.begin();
        advance(PATIENCE).await;
        let (_, second) = come(&mut places);
        // The first has worked since it came: it is the second that has rested longest.
        advance(PATIENCE).await;
        drop(first.begin());
        assert!(places.room(&gauges));
        assert!(dismissed(&second) && !dismissed(&first));
        let (_, third) = come(&mut places);
        assert!(!places.room(&gauges), "neither has rested for long enough");
        // The clock stands still: else both would have rested equally long.
        advance(Duration::from_millis(1)).await;
        drop(first.begin());
        advance(PATIENCE).await;
        // What was looked for a moment ago is looked for again.
        assert!(places.room(&gauges) && places.room(&gauges));
        assert!(dismissed(&third));
        assert_eq!(gauges.dismissed.load(Ordering::Relaxed), 2);
        drop(request);
        places.left(busy_id);
        assert!(places.room(&gauges));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_noted_and_worked_since_stays() {
        let (gauges, mut places) = (Gauges::default(), Places::new(NOTED + 1));
        let all: Vec<_> = (0..=NOTED).map(|_| come(&mut places).1).collect();
        advance(PATIENCE).await;
        // One look notes two.
        assert!(places.room(&gauges));
        let (noted, _) = places.rested[0];
        let watch = places.open[&noted].clone();
        drop(watch.begin());
        come(&mut places);
        assert!(places.room(&gauges));
        assert!(!dismissed(&watch));
        assert_eq!(all.iter().filter(|watch| watch.resting_since().is_none()).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_handshake_makes_room_once_it_has_had_its_time() {
        let gauges = Arc::new(Gauges::default());
        let mut handshakes = Handshakes::new(2, gauges.clone());
        let watches = [(); 3].map(|()| Watch::new(HEAD, IDLE));
        let mut begun = Vec::new();
        for watch in &watches[..2] {
            let permit = timeout(Duration::ZERO, handshakes.room()).await.unwrap();
            begun.push(handshakes.begin(watch.clone(), permit));
            advance(PATIENCE / 4).await;
        }
        assert!(timeout(PATIENCE / 4, handshakes.room()).await.is_err());
        assert!(!dismissed(&watches[0]));
        // One that ends makes room at once.
        drop(begun.pop());
        let permit = timeout(Duration::ZERO, handshakes.room()).await.unwrap();
        begun.push(handshakes.begin(watches[2].clone(), permit));
        // The task of the oldest ends when it is told.
        let oldest = begun.swap_remove(0);
        let (watch, started) = (watches[0].clone(), Instant::now());
        let task = tokio::spawn(async move {
            watch.dismissed().await;
            drop(oldest);
        });
        drop(handshakes.room().await);
        task.await.unwrap();
        assert!(started.elapsed() <= PATIENCE / 2);
        assert!(!dismissed(&watches[2]));
        assert_eq!(gauges.handshakes.load(Ordering::Relaxed), 1);
        assert_eq!(gauges.dropped_handshakes.load(Ordering::Relaxed), 1);
    }
}
