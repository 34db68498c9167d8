//! Which assertions that are good for one token only have got it. Kept in memory: each replica has its own, and a restart
//! begins with none.
//!
//! Only requests whose issuer or credential demands it come here, so only they pay for the locks.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::UnixTime;
use crate::domain::onetime::OneTime;
use crate::domain::refusal::{Outage, Refusal};

type Key = [u8; 32];

/// Locks, and parts of the table: a part that grows copies itself, which must not take long.
const SHARDS: usize = 64;
/// What expires within so many seconds is forgotten together.
const SPAN: i64 = 60;
/// Most entries that one request forgets. More than the one that it adds, so that what has expired never piles up.
const BATCH: usize = 16;

/// The assertions that have been used, none of them forgotten before it has expired.
#[derive(Debug)]
pub struct Used {
    shards: [Mutex<Shard>; SHARDS],
    entries: AtomicUsize,
    limit: usize,
}

#[derive(Debug, Default)]
struct Shard {
    held: HashSet<Key>,
    /// Those whose tokens have left, by the span in which they expire.
    expiring: BTreeMap<i64, Vec<Key>>,
    /// The last span of which something may have been forgotten.
    forgotten: Option<i64>,
}

impl Used {
    /// Remembers at most `limit` at a time.
    pub fn new(limit: usize) -> Self {
        Self { shards: std::array::from_fn(|_| Mutex::default()), entries: AtomicUsize::new(0), limit }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Uses an assertion: of any number of requests with the same one, a single one gets the claim.
    ///
    /// # Errors
    /// When it has been used, or there is no room to remember it: nothing that is alive is forgotten for it.
    pub fn claim(&self, once: OneTime, now: UnixTime) -> Result<Claim<'_>, Refusal> {
        let at = usize::from(once.key[0]) % SHARDS;
        let mut shard = self.shard(at);
        self.forget(&mut shard, now);
        // The clock may have been set back after this one was forgotten: nobody can tell any more.
        if shard.held.contains(&once.key) || shard.forgotten >= Some(span(once.until)) {
            return Err(Refusal::Replayed);
        }
        if !self.take_place() {
            drop(shard);
            return self.claim_elsewhere_freed(once, now, at);
        }
        shard.held.insert(once.key);
        Ok(Claim { used: self, once, at, kept: false })
    }

    /// The table is full; in other shards there may be some that have expired.
    fn claim_elsewhere_freed(&self, once: OneTime, now: UnixTime, at: usize) -> Result<Claim<'_>, Refusal> {
        const FULL: Refusal = Refusal::Unavailable(Outage::OneTimeFull);
        let others = (1..SHARDS).map(|step| (at + step) % SHARDS);
        if !others.into_iter().any(|other| self.forget(&mut self.shard(other), now) > 0) {
            return Err(FULL);
        }
        let mut shard = self.shard(at);
        // Another request may have used it meanwhile.
        if shard.held.contains(&once.key) {
            return Err(Refusal::Replayed);
        }
        if !self.take_place() {
            return Err(FULL);
        }
        shard.held.insert(once.key);
        Ok(Claim { used: self, once, at, kept: false })
    }

    /// A panic can't leave a shard half-changed in a way that matters, so poison means nothing.
    fn shard(&self, at: usize) -> MutexGuard<'_, Shard> {
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_place(&self) -> bool {
        // Counted first, looked at second: two requests can't both take the last place.
        let taken = self.entries.fetch_add(1, Ordering::Relaxed) < self.limit;
        if !taken {
            self.entries.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    fn forget(&self, shard: &mut Shard, now: UnixTime) -> usize {
        let forgotten = shard.forget(span(now));
        self.entries.fetch_sub(forgotten, Ordering::Relaxed);
        forgotten
    }
}

impl Shard {
    /// Forgets a few of those that expired in a span that is over.
    fn forget(&mut self, current: i64) -> usize {
        let mut count = 0;
        while count < BATCH {
            let Some(mut earliest) = self.expiring.first_entry().filter(|entry| *entry.key() < current)
            else {
                break;
            };
            self.forgotten = self.forgotten.max(Some(*earliest.key()));
            match earliest.get_mut().pop() {
                Some(key) => {
                    self.held.remove(&key);
                    count += 1;
                }
                None => drop(earliest.remove()),
            }
        }
        count
    }
}

fn span(time: i64) -> i64 {
    time.div_euclid(SPAN)
}

/// The right to a token for one assertion. Unless it is kept, it is given back when it is dropped: also when the client
/// goes away before its answer.
#[derive(Debug)]
pub struct Claim<'u> {
    used: &'u Used,
    once: OneTime,
    at: usize,
    kept: bool,
}

impl Claim<'_> {
    /// The token leaves: the assertion is used for good.
    pub fn keep(mut self) {
        self.kept = true;
        let mut shard = self.used.shard(self.at);
        shard.expiring.entry(span(self.once.until)).or_default().push(self.once.key);
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.used.shard(self.at).held.remove(&self.once.key);
            self.used.entries.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const NOW: UnixTime = 1_800_000_000;
    const FULL: Option<Refusal> = Some(Refusal::Unavailable(Outage::OneTimeFull));

    fn once(number: u64, until: i64) -> OneTime {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        OneTime { key, until }
    }

    #[test]
    fn one_is_used_once_until_it_expires_and_forgotten_after() {
        let used = Used::new(10);
        let one = once(1, NOW + 100);
        used.claim(one, NOW).unwrap().keep();
        for now in [NOW, NOW + 99, NOW + 100, NOW - 5_000] {
            assert_eq!(used.claim(one, now).err(), Some(Refusal::Replayed), "{now}");
        }
        used.claim(once(2, NOW + 400), NOW).unwrap().keep();
        assert_eq!(used.len(), 2);
        // Whoever uses another of the same shard makes room.
        used.claim(once(1 + SHARDS as u64, NOW + 1_000), NOW + 100 + SPAN).unwrap().keep();
        assert_eq!(used.len(), 2);
        // The first has been forgotten, which must not make it good again when the clock is set back.
        assert_eq!(used.claim(one, NOW).err(), Some(Refusal::Replayed));
    }

    #[test]
    fn one_without_a_token_is_given_back() {
        let used = Used::new(1);
        let one = once(1, NOW + 100);
        for _ in 0..3 {
            let claim = used.claim(one, NOW).unwrap();
            assert_eq!(used.claim(one, NOW).err(), Some(Refusal::Replayed));
            drop(claim);
            assert!(used.is_empty());
        }
        used.claim(one, NOW).unwrap().keep();
        assert_eq!(used.claim(one, NOW).err(), Some(Refusal::Replayed));
    }

    #[test]
    fn a_full_table_refuses_and_forgets_nothing_that_is_alive() {
        let used = Used::new(3);
        for number in 0..3 {
            used.claim(once(number, NOW + 100), NOW).unwrap().keep();
        }
        assert_eq!(used.claim(once(3, NOW + 100), NOW).err(), FULL);
        assert_eq!(used.claim(once(0, NOW + 100), NOW).err(), Some(Refusal::Replayed));
        assert_eq!(used.len(), 3);
        // Once they have expired there is room, also in whose shard nothing has.
        let later = NOW + 100 + SPAN;
        used.claim(once(3, later + 100), later).unwrap().keep();
        assert_eq!(used.len(), 3);
    }

    #[test]
    fn what_has_expired_never_piles_up() {
        let used = Used::new(usize::MAX);
        let number = |n: u64| n * SHARDS as u64;
        for n in 0..1_000 {
            used.claim(once(number(n), NOW + 100), NOW).unwrap().keep();
        }
        let later = NOW + 100 + SPAN;
        for n in 1_000..1_063 {
            used.claim(once(number(n), later + 100), later).unwrap().keep();
        }
        assert_eq!(used.len(), 63);
    }

    #[test]
    fn of_many_at_once_one_gets_it() {
        let used = Used::new(2);
        for number in 0..100 {
            let (barrier, one) = (Barrier::new(4), once(number, NOW + 1));
            let got = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| {
                        scope.spawn(|| {
                            barrier.wait();
                            used.claim(one, NOW).map(Claim::keep).is_ok()
                        })
                    })
                    .collect();
                threads.into_iter().filter_map(|thread| thread.join().ok()).filter(|got| *got).count()
            });
            assert_eq!(got, usize::from(number < 2));
        }
    }
}
