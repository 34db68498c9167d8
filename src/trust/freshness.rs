//! How long a key set is good for: arithmetic alone, on times that are passed in.

use std::time::Duration;

use super::settings::TrustSettings;
use crate::clock::UnixTime;

/// An issuer that nobody asked for this long is not refreshed in the background any more.
const IN_USE: Duration = Duration::from_secs(24 * 3600);
/// The longest pause between background refreshes that fail.
const LONGEST_BACKOFF: u64 = 60;

/// What a set may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// Used as it is.
    Fresh,
    /// Past the soft TTL: used, while a newer one is fetched.
    Stale,
    /// Past the hard TTL: not used, whatever state the issuer is in. A key that it has revoked must end some time.
    Spent,
}

/// Whether an interval has passed. A clock that was set back far counts as passed: nothing may hold for longer than it
/// would have.
pub(super) fn has_passed(interval: Duration, since: UnixTime, now: UnixTime) -> bool {
    now.abs_diff(since) >= interval.as_secs()
}

/// The age of a set whose issuer advises a lifetime.
pub(super) fn age(
    settings: &TrustSettings,
    advised: Option<Duration>,
    fetched: UnixTime,
    now: UnixTime,
) -> Age {
    if has_passed(settings.hard_ttl, fetched, now) {
        Age::Spent
    } else if has_passed(soft_ttl(settings, advised), fetched, now) {
        Age::Stale
    } else {
        Age::Fresh
    }
}

/// What the issuer advises, within our bounds: platforms say anything between nothing and a week.
pub(super) fn soft_ttl(settings: &TrustSettings, advised: Option<Duration>) -> Duration {
    match advised {
        Some(advised) => advised.max(settings.soft_ttl_min).min(settings.soft_ttl_max),
        None => settings.soft_ttl,
    }
}

/// Up to a tenth earlier, by the dice: brokers that started together must not ask together for ever.
pub(super) fn jittered(ttl: Duration, dice: u8) -> Duration {
    ttl.saturating_sub(ttl / 10 * u32::from(dice) / 255)
}

/// Whether an issuer is worth a refresh that nobody waits for.
pub(super) fn in_use(used: UnixTime, now: UnixTime) -> bool {
    !has_passed(IN_USE, used, now)
}

/// The pause after so many failed fetches in a row: doubled from a second to a minute, a fifth more or less.
pub(super) fn backoff(failures: u32, dice: u8) -> Duration {
    let Some(earlier) = failures.checked_sub(1) else { return Duration::ZERO };
    let seconds = 1_u64.checked_shl(earlier).unwrap_or(LONGEST_BACKOFF).clamp(1, LONGEST_BACKOFF);
    let milliseconds = seconds * (800 + 400 * u64::from(dice) / 255);
    // In whole seconds, as the clock counts.
    Duration::from_secs((milliseconds + 500) / 1000)
}

/// The lifetime that an answer advises: `max-age` minus `Age` (RFC 9111 section 4.2), nothing at all for `no-store` and
/// `no-cache`. What can't be read counts as absent.
pub(super) fn advised<'h>(
    cache_control: impl Iterator<Item = &'h str>,
    age: Option<&str>,
) -> Option<Duration> {
    let directives = cache_control.flat_map(|value| value.split(',')).map(str::trim);
    let lifetimes = directives.filter_map(|directive| {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "no-cache" => Some(0),
            "max-age" => seconds(value.trim().trim_matches('"')),
            _ => None,
        }
    });
    let left = lifetimes.min()?.saturating_sub(age.and_then(seconds).unwrap_or(0));
    Some(Duration::from_secs(left))
}

/// Digits alone; more of them than fit mean a very long time.
fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = 1_800_000_000;

    fn minutes(minutes: u64) -> Option<Duration> {
        Some(Duration::from_secs(minutes * 60))
    }

    #[test]
    fn the_soft_ttl_is_what_the_issuer_advises_within_five_minutes_and_an_hour() {
        let settings = TrustSettings::default();
        for (advised, expected) in [
            (None, 10),
            (minutes(0), 5),
            (minutes(5), 5),
            (minutes(7), 7),
            (minutes(60), 60),
            (minutes(61), 60),
            (Some(Duration::MAX), 60),
        ] {
            assert_eq!(Some(soft_ttl(&settings, advised)), minutes(expected), "{advised:?}");
        }
    }

    #[test]
    fn a_set_is_fresh_then_stale_then_spent_to_the_second() {
        let settings = TrustSettings::default();
        let at = |seconds| age(&settings, None, NOW, NOW + seconds);
        assert_eq!((at(0), at(599), at(600)), (Age::Fresh, Age::Fresh, Age::Stale));
        assert_eq!((at(86_399), at(86_400)), (Age::Stale, Age::Spent));
        assert_eq!((at(-599), at(-600), at(-86_400)), (Age::Fresh, Age::Stale, Age::Spent));
        assert_eq!(age(&settings, None, NOW, i64::MIN), Age::Spent);
    }

    #[test]
    fn jitter_takes_up_to_a_tenth_and_adds_nothing() {
        let ttl = Duration::from_secs(600);
        assert_eq!(jittered(ttl, 0), ttl);
        assert_eq!(jittered(ttl, 255), Duration::from_secs(540));
        assert!((0..=255).all(|dice| (540..=600).contains(&jittered(ttl, dice).as_secs())));
    }

    #[test]
    fn failures_are_spaced_from_a_second_to_a_minute() {
        let middle = |failures| backoff(failures, 127).as_secs();
        let pauses: Vec<_> = (0..9).map(middle).collect();
        assert_eq!(pauses, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(middle(u32::MAX), 60);
        assert_eq!((backoff(9, 0).as_secs(), backoff(9, 255).as_secs()), (48, 72));
    }

    #[test]
    fn advice_is_read_as_http_has_it() {
        for (values, age, expected) in [
            (&[][..], None, None),
            (&["public"][..], None, None),
            (&["public, Max-Age = 600"][..], None, Some(600)),
            (&["max-age=\"600\""][..], Some("100"), Some(500)),
            (&["max-age=600"][..], Some("601"), Some(0)),
            (&["max-age=600"][..], Some("-1"), Some(600)),
            (&["max-age=600", "max-age=300"][..], None, Some(300)),
            (&["no-store, max-age=600"][..], None, Some(0)),
            (&["no-cache"][..], None, Some(0)),
            (&["max-age=99999999999999999999999"][..], None, Some(u64::MAX)),
            (&["max-age=-1"][..], None, None),
            (&["max-age"][..], None, None),
            (&["s-maxage=5"][..], None, None),
        ] {
            let found = advised(values.iter().copied(), age);
            assert_eq!(found, expected.map(Duration::from_secs), "{values:?} {age:?}");
        }
    }

    #[test]
    fn an_issuer_is_in_use_for_a_day() {
        assert!(in_use(NOW, NOW) && in_use(NOW, NOW + 86_399));
        assert!(!in_use(NOW, NOW + 86_400) && !in_use(UnixTime::MIN, NOW));
    }
}
