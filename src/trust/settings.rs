//! The `[trust]` section: what holds for every issuer.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::document::Reader;

/// Times of fetching and keeping keys. Numbers and reasons: reference oidc-issuers.md sections 3.2 and 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustSettings {
    /// Longest wait for one connection, TLS included; 100 ms to 10 s.
    pub connect_timeout: Duration,
    /// Longest time for discovery and keys together, from look-up to last byte; 500 ms to 30 s.
    pub fetch_deadline: Duration,
    /// Longest time that a request waits for keys; 100 ms to 30 s. The fetch itself goes on.
    pub request_wait: Duration,
    /// How long a fetched set is used before it is fetched again; 5 to 60 min.
    pub soft_ttl: Duration,
}

impl Default for TrustSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            fetch_deadline: Duration::from_secs(5),
            request_wait: Duration::from_secs(3),
            soft_ttl: Duration::from_secs(10 * 60),
        }
    }
}

impl TrustSettings {
    /// Reads the keys of `[trust]`; problems are noted on the reader.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let (milliseconds, seconds) = (Duration::from_millis, Duration::from_secs);
        let mut time = |key, default, bounds| duration(reader, key, default, bounds);
        Self {
            connect_timeout: time(
                "connect_timeout",
                default.connect_timeout,
                milliseconds(100)..=seconds(10),
            ),
            fetch_deadline: time("fetch_deadline", default.fetch_deadline, milliseconds(500)..=seconds(30)),
            request_wait: time("request_wait", default.request_wait, milliseconds(100)..=seconds(30)),
            soft_ttl: time("soft_ttl", default.soft_ttl, seconds(5 * 60)..=seconds(60 * 60)),
        }
    }
}

/// A duration within bounds, shown as people write it.
pub(super) fn duration(
    reader: &mut Reader<'_>,
    key: &'static str,
    default: Duration,
    bounds: RangeInclusive<Duration>,
) -> Duration {
    reader.bounded(key, default, bounds, |value| humantime::format_duration(value).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Problems};

    fn read(text: &str) -> (TrustSettings, Vec<String>) {
        let problems = Problems::default();
        let mut reader = Document::parse("f.toml", text, &problems).reader(&problems);
        let settings = TrustSettings::read(&mut reader);
        reader.finish();
        (settings, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_and_bounds() {
        assert_eq!(read(""), (TrustSettings::default(), vec![]));
        let (settings, problems) =
            read("soft_ttl = \"20m\"\nrequest_wait = \"1m\"\nfetch_deadline = \"1ms\"\n");
        assert_eq!(settings.soft_ttl, Duration::from_secs(1200));
        assert_eq!(
            problems,
            [
                "f.toml:3: fetch_deadline: 1ms is out of range: expected 500ms to 30s",
                "f.toml:2: request_wait: 1m is out of range: expected 100ms to 30s",
            ]
        );
    }
}
