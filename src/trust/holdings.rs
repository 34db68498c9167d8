//! What is had of one issuer: the set at hand, its last fetch, and counts. Settings may change around it.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::Instant;

use super::documents::Published;
use super::fault::Fault;
use super::freshness::{self, has_passed};
use crate::clock::{UnixTime, random};
use crate::metrics::IssuerReading;

/// After a failed fetch the issuer is left alone this long; requests get the same failure meanwhile.
pub(super) const HOLD: Duration = Duration::from_secs(1);

/// Most requests that wait for one issuer; the rest are told to come back. An issuer that hangs must not hold all places
/// of requests in flight, of which there are 1,024 by default.
pub(super) const MAX_WAITERS: usize = 256;

/// How a fetch ended; `None` while it goes on.
pub(super) type Landing = Option<Result<Arc<Fetched>, Failure>>;

#[derive(Debug, Clone, Copy)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// `None` when requests need not heed it.
    pub(super) at: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) published: Published,
    pub(super) at: UnixTime,
    /// Decides how much before the soft TTL it is refreshed in the background.
    pub(super) dice: u8,
}

/// What is had of one source. Settings may change around it.
#[derive(Default)]
pub(super) struct Holdings {
    pub(super) current: ArcSwapOption<Fetched>,
    /// When a request asked last; 0 for never.
    pub(super) used: AtomicI64,
    /// Whether it had its turn to be fetched before anybody asks; it has one.
    pub(super) prefetched: AtomicBool,
    /// Requests that wait for a fetch.
    pub(super) waiters: AtomicUsize,
    /// Held only to look and to start, never while a fetch goes on.
    pub(super) log: Mutex<FlightLog>,
    /// When the set on the disk was fetched. Locked by threads that may wait, while they write.
    pub(super) saved: Mutex<UnixTime>,
    pub(super) fetches: Arc<Fetches>,
    pub(super) requests: Arc<Requests>,
}

/// Requests that needed keys since the last reading.
#[derive(Default)]
pub(super) struct Requests {
    pub(super) served: AtomicU64,
    pub(super) waited: AtomicU64,
}

/// The fetches so far.
#[derive(Default)]
pub(super) struct FlightLog {
    /// The last one, going on or ended.
    pub(super) last: Option<watch::Receiver<Landing>>,
    /// Failures in a row: how many, when the last one ended, and how long refreshes pause after it.
    pub(super) failures: u32,
    pub(super) failed: UnixTime,
    pub(super) backoff: Duration,
    /// When a doubt of its kind last caused one.
    pub(super) unknown_key: Option<UnixTime>,
    pub(super) signature: Option<UnixTime>,
}

/// Fetches that have ended since the last reading.
#[derive(Default)]
pub(super) struct Fetches {
    pub(super) succeeded: AtomicU64,
    pub(super) failed: AtomicU64,
}

/// One who waits, for as long as this lives.
pub(super) struct Waiter<'i>(&'i AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Holdings {
    /// Nothing, counted on from who was here before.
    pub(super) fn after(before: Option<&Self>) -> Self {
        let Some(before) = before else { return Self::default() };
        let (fetches, requests) = (Arc::clone(&before.fetches), Arc::clone(&before.requests));
        Self { fetches, requests, ..Self::default() }
    }

    pub(super) fn take_reading(&self, url: &str, now: UnixTime) -> IssuerReading {
        let current = self.current.load();
        let (fetched, fetches) = (current.as_ref(), &self.fetches);
        IssuerReading {
            issuer: url.to_owned(),
            keys: fetched.map_or(0, |fetched| fetched.published.keys().len()),
            age: fetched.map(|fetched| now - fetched.at),
            succeeded: fetches.succeeded.swap(0, Ordering::Relaxed),
            failed: fetches.failed.swap(0, Ordering::Relaxed),
            hits: self.requests.served.swap(0, Ordering::Relaxed),
            misses: self.requests.waited.swap(0, Ordering::Relaxed),
        }
    }

    /// `None` while somebody else looks.
    pub(super) fn try_log(&self) -> Option<MutexGuard<'_, FlightLog>> {
        match self.log.try_lock() {
            Err(TryLockError::WouldBlock) => None,
            Err(TryLockError::Poisoned(broken)) => Some(broken.into_inner()),
            Ok(log) => Some(log),
        }
    }

    pub(super) fn log(&self) -> MutexGuard<'_, FlightLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Written once a second at most: every request of every worker comes by here.
    pub(super) fn note_use(&self, now: UnixTime) {
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// A place among those who wait; `None` when all are taken.
    pub(super) fn wait_with_others(&self) -> Option<Waiter<'_>> {
        let waiter = Waiter(&self.waiters);
        (self.waiters.fetch_add(1, Ordering::Relaxed) < MAX_WAITERS).then_some(waiter)
    }
}

impl Failure {
    pub(super) fn holds(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() < HOLD)
    }
}

impl FlightLog {
    pub(super) fn going_on(&self) -> Option<watch::Receiver<Landing>> {
        let flight = self.last.as_ref()?;
        (flight.borrow().is_none() && flight.has_changed().is_ok()).then(|| flight.clone())
    }

    pub(super) fn failed_just_now(&self) -> bool {
        let landing = self.last.as_ref().map(|flight| flight.borrow());
        landing.is_some_and(|landing| matches!(&*landing, Some(Err(failure)) if failure.holds()))
    }

    pub(super) fn pauses(&self, now: UnixTime) -> bool {
        self.failures > 0 && !has_passed(self.backoff, self.failed, now)
    }

    pub(super) fn note_failure(&mut self, at: UnixTime) {
        let [dice] = random();
        self.failures = self.failures.saturating_add(1);
        (self.failed, self.backoff) = (at, freshness::backoff(self.failures, dice));
    }
}
