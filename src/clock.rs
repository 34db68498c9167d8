//! The only clock and the only source of randomness.
//!
//! Everything that decides takes time and randomness as arguments; the composition root hands out one [`Clock`].

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Wall-clock time in whole seconds since 1970 (the NumericDate of RFC 7519).
pub type UnixTime = i64;

/// The year 2020. A clock that tells an earlier time was never set: machines without a battery begin in 1970.
pub const EARLIEST: UnixTime = 1_577_836_800;

/// Tells wall-clock time: the system's, or one that a test moves.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still until it is set.
    pub fn fixed(now: UnixTime) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now))))
    }

    /// Moves a fixed clock; the system's clock is left alone.
    pub fn set(&self, now: UnixTime) {
        if let Some(fixed) = &self.0 {
            fixed.store(now, Ordering::Relaxed);
        }
    }

    /// Seconds since 1970. A system clock before 1970 reads as 0, at which no assertion is valid.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn now(&self) -> UnixTime {
        match &self.0 {
            Some(fixed) => fixed.load(Ordering::Relaxed),
            None => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX)),
        }
    }
}

/// Fills an array from the operating system's generator, as aws-lc-rs reads it.
///
/// # Panics
/// When the operating system has no randomness to give: there is no safe way to go on.
#[expect(clippy::disallowed_methods, reason = "this is the one source")]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Random bytes for an id: it names something, and is no secret. The generator takes hardly longer for many bytes than for few,
/// so each thread draws them ahead, at most 512 at a time; no byte is given twice.
///
/// # Panics
/// As [`random`] does.
pub fn random_id() -> [u8; 16] {
    thread_local!(static AHEAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) });
    AHEAD.with_borrow_mut(|ahead| {
        if ahead.is_empty() {
            ahead.extend(random::<512>());
        }
        let at = ahead.len().saturating_sub(16);
        let id = std::array::from_fn(|byte| ahead[at + byte]);
        ahead.truncate(at);
        id
    })
}

/// Measures how long something takes, on the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts measuring.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Time since the start, which is now again.
    pub fn lap(&mut self) -> std::time::Duration {
        let begun = std::mem::replace(self, Self::start());
        self.0 - begun.0
    }

    /// Time since the start.
    pub fn elapsed(self) -> std::time::Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_comes_twice_nor_any_half_of_one() {
        let ids: Vec<_> = (0..1000).map(|_| random_id()).collect();
        let halves: HashSet<_> = ids.iter().flat_map(|id| [&id[..8], &id[8..]]).collect();
        assert_eq!(halves.len(), 2000);
    }
}
