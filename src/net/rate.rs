//! How often something may happen: so many times in a while, and so many at once. `governor` counts.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{NotUntil, RateLimiter};

use crate::clock::Stopwatch;
use crate::document::{Field, Reader};

pub use governor::Quota;

/// Most requests in a unit of time, and most at once. With an hour for one, governor's nanoseconds still fit into 64 bits.
const MOST: u32 = 1_000_000;
/// Seconds. Nobody is told to wait longer, however low the rate: SDKs sleep for as long as they are told, and assertions expire.
const LONGEST_WAIT: u32 = 60;

/// A rate as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rate {
    requests: NonZeroU32,
    seconds: u32,
}

impl Field for Rate {
    const EXPECTED: &'static str =
        "a rate such as \"20/s\", \"600/m\" or \"100/h\", of 1 to 1000000 requests";

    fn from_text(text: &str) -> Option<Self> {
        let (requests, unit) = text.split_once('/')?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            _ => return None,
        };
        // Numbers are parsed with a sign, too.
        let requests =
            requests.parse().ok().filter(|_| requests.starts_with(|c: char| c.is_ascii_digit()))?;
        (requests <= MOST).then_some(())?;
        Some(Self { requests: NonZeroU32::new(requests)?, seconds })
    }
}

impl Rate {
    fn quota(self, burst: u64) -> Option<Quota> {
        let burst = u32::try_from(burst).ok().and_then(NonZeroU32::new)?;
        let period = Duration::from_secs(self.seconds.into()) / self.requests.get();
        Some(Quota::with_period(period)?.allow_burst(burst))
    }
}

/// Reads the table of a limit. Without one there is no limit.
pub(super) fn read(reader: &mut Reader<'_>, key: &'static str) -> Option<Quota> {
    let is_set = reader.is_table(key);
    let mut table = reader.section(key);
    if !is_set {
        return None;
    }
    let rate = table.need::<Rate>("rate");
    let in_a_second = rate.map_or(1, |rate| (rate.requests.get() / rate.seconds).max(1));
    let burst = table.bounded("burst", in_a_second.into(), 1..=MOST.into(), |value| value.to_string());
    table.finish();
    rate?.quota(burst)
}

/// Time since it was made, which nobody can set back.
#[derive(Debug, Clone)]
pub(super) struct Monotonic(Stopwatch);

impl Monotonic {
    pub(super) fn start() -> Self {
        Self(Stopwatch::start())
    }
}

impl Clock for Monotonic {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// Counts by keys in a store, on our clock.
pub(super) type Limiter<K, S> = RateLimiter<K, S, Monotonic, NoOpMiddleware<Nanos>>;

/// What is left of one quota. Taking is a compare-and-swap.
#[derive(Debug)]
pub struct Bucket(Limiter<NotKeyed, InMemoryState>);

impl Bucket {
    /// A full one.
    pub fn new(quota: Quota) -> Self {
        Self(Limiter::new(quota, InMemoryState::default(), Monotonic::start()))
    }

    /// Takes one out of it.
    ///
    /// # Errors
    /// When it is empty: whole seconds after which to try again, 1 to 60.
    pub fn take(&self) -> Result<(), u32> {
        self.0.check().map_err(|early| wait(&early, self.0.clock()))
    }
}

/// Whole seconds until there is one again, rounded up.
pub(super) fn wait(early: &NotUntil<Nanos>, clock: &impl Clock<Instant = Nanos>) -> u32 {
    whole_seconds(early.wait_time_from(clock.now()))
}

fn whole_seconds(wait: Duration) -> u32 {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    u32::try_from(seconds).unwrap_or(u32::MAX).clamp(1, LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;
    use crate::document::{Document, Problems};

    fn read(text: &str) -> (Option<Quota>, Vec<String>) {
        let problems = Problems::default();
        let mut reader = Document::parse("f.toml", text, &problems).reader(&problems);
        let quota = super::read(&mut reader, "per_address");
        reader.finish();
        (quota, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    fn quota(text: &str) -> Quota {
        let (quota, problems) = read(&format!("[per_address]\n{text}\n"));
        assert_eq!(problems, [""; 0], "{text}");
        quota.unwrap()
    }

    #[test]
    fn a_rate_is_off_unless_it_is_set() {
        assert_eq!(read(""), (None, vec![]));
    }

    #[test]
    fn a_burst_is_by_default_what_the_rate_gives_in_a_second() {
        for (text, millis, burst) in [
            ("rate = \"20/s\"", 50, 20),
            ("rate = \"600/m\"", 100, 10),
            ("rate = \"59/m\"", 60_000 / 59, 1),
            ("rate = \"1/h\"", 3_600_000, 1),
            ("rate = \"1/h\"\nburst = 3", 3_600_000, 3),
            ("rate = \"1/h\"\nburst = 1000000", 3_600_000, 1_000_000),
        ] {
            let quota = quota(text);
            assert_eq!(quota.replenish_interval().as_millis(), millis, "{text}");
            assert_eq!(quota.burst_size().get(), burst, "{text}");
        }
    }

    #[test]
    fn what_is_no_rate_is_told() {
        for wrong in ["20", "20/d", "0/s", "-1/s", "+1/s", "1000001/s", "20 / s", "/s", "1.5/s", "20/s/s", ""]
        {
            let (quota, problems) = read(&format!("[per_address]\nrate = \"{wrong}\"\n"));
            let expected = format!(
                "f.toml:2: per_address.rate: expected a rate such as \"20/s\", \"600/m\" or \"100/h\", of 1 to 1000000 \
                 requests, found {wrong:?}"
            );
            assert_eq!((quota, problems), (None, vec![expected]));
        }
        assert!(read("[per_address]\nrate = 20\n").1[0].contains("expected a rate"));
        let (quota, problems) = read("[per_address]\nburst = 0\nrat = \"1/s\"\n");
        assert_eq!(quota, None);
        assert_eq!(
            problems,
            [
                "f.toml: per_address.rate: is missing: expected a rate such as \"20/s\", \"600/m\" or \"100/h\", of 1 to \
                 1000000 requests",
                "f.toml:2: per_address.burst: 0 is out of range: expected 1 to 1000000",
                "f.toml:3: per_address.rat: unknown key (hint: did you mean \"rate\"?)",
            ]
        );
        assert_eq!(
            read("per_address = \"20/s\"\n").1,
            ["f.toml:1: per_address: expected a section [per_address], found \"20/s\""]
        );
    }

    #[test]
    fn a_quota_gives_its_burst_and_then_its_rate() {
        let clock = FakeRelativeClock::default();
        let limiter = RateLimiter::direct_with_clock(quota("rate = \"2/m\"\nburst = 3"), clock.clone());
        let take = || limiter.check().map_err(|early| wait(&early, &clock));
        assert_eq!([take(), take(), take(), take()], [Ok(()), Ok(()), Ok(()), Err(30)]);
        clock.advance(Duration::from_millis(28_999));
        assert_eq!(take(), Err(2));
        clock.advance(Duration::from_secs(1));
        assert_eq!(take(), Err(1));
        clock.advance(Duration::from_millis(1));
        assert_eq!([take(), take()], [Ok(()), Err(30)]);
        // It never holds more than the burst.
        clock.advance(Duration::from_secs(3600));
        assert_eq!([take(), take(), take(), take()], [Ok(()), Ok(()), Ok(()), Err(30)]);
    }

    #[test]
    fn the_largest_quota_fits_into_the_arithmetic() {
        let clock = FakeRelativeClock::default();
        let limiter = RateLimiter::direct_with_clock(quota("rate = \"1/h\"\nburst = 1000000"), clock.clone());
        clock.advance(Duration::from_secs(100 * 365 * 86_400));
        assert!((0..1_000_000).all(|_| limiter.check().is_ok()));
        assert_eq!(limiter.check().map_err(|early| wait(&early, &clock)), Err(60));
    }

    #[test]
    fn waits_are_whole_seconds_from_one_to_a_minute() {
        for (millis, seconds) in
            [(0, 1), (1, 1), (1000, 1), (1001, 2), (60_000, 60), (60_001, 60), (3_600_000, 60)]
        {
            assert_eq!(whole_seconds(Duration::from_millis(millis)), seconds, "{millis}");
        }
    }

    #[test]
    fn a_bucket_fills_again() {
        let bucket = Bucket::new(quota("rate = \"1000/s\"\nburst = 1"));
        assert_eq!(bucket.take(), Ok(()));
        while bucket.take().is_err() {}
    }
}
