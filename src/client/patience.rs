//! When to try again, and when to stop.

use std::time::Duration;

use crate::clock::{Stopwatch, random};

/// The first pause, about; each is twice the one before.
const FIRST: Duration = Duration::from_millis(500);
/// The longest pause that nobody asked for.
const LONGEST: Duration = Duration::from_secs(8);
/// What many jobs that are told the same `Retry-After` are spread over.
const SPREAD: Duration = Duration::from_secs(1);

/// The time that a command has, shared by all that it asks for.
#[derive(Debug)]
pub struct Patience {
    watch: Stopwatch,
    limit: Duration,
    pauses: u32,
}

impl Patience {
    /// Begins now.
    pub fn new(limit: Duration) -> Self {
        Self { watch: Stopwatch::start(), limit, pauses: 0 }
    }

    /// What is left.
    pub fn left(&self) -> Duration {
        self.limit.saturating_sub(self.watch.elapsed())
    }

    /// The whole.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Begins a row of tries anew, within the same time.
    pub fn settle(&mut self) {
        self.pauses = 0;
    }

    /// Waits before another try, for as long as the other side asked at least. `false`, and at once, when the time that is
    /// left (or `until`, if that is less) would be over by then.
    pub async fn pause(&mut self, asked: Option<Duration>, until: Option<Duration>) -> bool {
        let pause = pause(self.pauses, asked, u32::from_le_bytes(random()));
        self.pauses += 1;
        let left = until.map_or(self.left(), |until| until.min(self.left()));
        let enough = pause < left;
        if enough {
            tokio::time::sleep(pause).await;
        }
        enough
    }
}

/// Doubled each time, and somewhere between a half and the whole of it, so that jobs that failed together don't come
/// back together.
fn pause(before: u32, asked: Option<Duration>, dice: u32) -> Duration {
    let share = f64::from(dice) / f64::from(u32::MAX);
    match asked {
        Some(asked) => asked.saturating_add(SPREAD.mul_f64(share)),
        None => FIRST.saturating_mul(1 << before.min(16)).min(LONGEST).mul_f64(0.5 + share / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let range = |before| (pause(before, None, 0).as_millis(), pause(before, None, u32::MAX).as_millis());
        assert_eq!(
            [0, 1, 2, 3, 4, 5, u32::MAX].map(range),
            [(250, 500), (500, 1000), (1000, 2000), (2000, 4000), (4000, 8000), (4000, 8000), (4000, 8000)]
        );
    }

    #[test]
    fn what_the_other_side_asked_for_is_never_cut_short() {
        let asked = Some(Duration::from_secs(7));
        assert_eq!([0, u32::MAX].map(|dice| pause(9, asked, dice).as_millis()), [7000, 8000]);
        assert_eq!(pause(0, Some(Duration::MAX), u32::MAX), Duration::MAX);
    }

    #[tokio::test]
    async fn nobody_waits_for_more_than_is_left() {
        let mut patience = Patience::new(Duration::from_secs(60));
        assert!(!patience.pause(Some(Duration::from_secs(61)), None).await);
        assert!(!patience.pause(Some(Duration::from_secs(9)), Some(Duration::from_secs(9))).await);
        assert!(patience.pause(Some(Duration::ZERO), None).await);
        assert!(patience.left() > Duration::from_secs(30));
    }
}
