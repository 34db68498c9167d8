//! The `[trust]` section: what holds for every issuer.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::document::Reader;

/// Fetching and keeping keys. Numbers and reasons: reference oidc-issuers.md sections 3.2 and 4.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustSettings {
    /// Longest wait for one connection, TLS included; 100 ms to 10 s.
    pub connect_timeout: Duration,
    /// Longest time for discovery and keys together, from look-up to last byte; 500 ms to 30 s.
    pub fetch_deadline: Duration,
    /// Longest time that a request waits for keys; 100 ms to 30 s. The fetch itself goes on.
    pub request_wait: Duration,
    /// After how long a set is fetched again where its issuer advises nothing; 5 to 60 min.
    pub soft_ttl: Duration,
    /// The shortest such time, whatever an issuer advises; 1 to 60 min.
    pub soft_ttl_min: Duration,
    /// The longest such time, whatever an issuer advises; 5 to 60 min.
    pub soft_ttl_max: Duration,
    /// How long a set is used while a newer one can't be had; 1 to 24 h. A revoked key lives no longer.
    pub hard_ttl: Duration,
    /// Shortest time between two fetches that unknown key ids cause; 10 s to 5 min.
    pub unknown_kid_interval: Duration,
    /// Shortest time between two fetches that bad signatures cause; 1 to 60 min.
    pub bad_signature_interval: Duration,
    /// The folder of the last good sets; `None` keeps none.
    pub state_path: Option<PathBuf>,
}

impl Default for TrustSettings {
    fn default() -> Self {
        let (seconds, minutes) = (Duration::from_secs, |minutes: u64| Duration::from_secs(minutes * 60));
        Self {
            connect_timeout: seconds(2),
            fetch_deadline: seconds(5),
            request_wait: seconds(3),
            soft_ttl: minutes(10),
            soft_ttl_min: minutes(5),
            soft_ttl_max: minutes(60),
            hard_ttl: minutes(24 * 60),
            unknown_kid_interval: seconds(20),
            bad_signature_interval: minutes(5),
            state_path: None,
        }
    }
}

impl TrustSettings {
    /// Reads the keys of `[trust]`; problems are noted on the reader.
    pub fn read(reader: &mut Reader<'_>, base: &Path) -> Self {
        let default = Self::default();
        let (milliseconds, seconds) = (Duration::from_millis, Duration::from_secs);
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        let mut time = |key, default, bounds| duration(reader, key, default, bounds);
        let settings = Self {
            connect_timeout: time(
                "connect_timeout",
                default.connect_timeout,
                milliseconds(100)..=seconds(10),
            ),
            fetch_deadline: time("fetch_deadline", default.fetch_deadline, milliseconds(500)..=seconds(30)),
            request_wait: time("request_wait", default.request_wait, milliseconds(100)..=seconds(30)),
            soft_ttl: time("soft_ttl", default.soft_ttl, minutes(5)..=minutes(60)),
            soft_ttl_min: time("soft_ttl_min", default.soft_ttl_min, minutes(1)..=minutes(60)),
            soft_ttl_max: time("soft_ttl_max", default.soft_ttl_max, minutes(5)..=minutes(60)),
            hard_ttl: time("hard_ttl", default.hard_ttl, minutes(60)..=minutes(24 * 60)),
            unknown_kid_interval: time(
                "unknown_kid_interval",
                default.unknown_kid_interval,
                seconds(10)..=seconds(300),
            ),
            bad_signature_interval: time(
                "bad_signature_interval",
                default.bad_signature_interval,
                minutes(1)..=minutes(60),
            ),
            state_path: None,
        };
        let (least, most) = (settings.soft_ttl_min, settings.soft_ttl_max);
        let shown = |value| humantime::format_duration(value).to_string();
        if least > most {
            let message = format!("{} is more than soft_ttl_max, {}", shown(least), shown(most));
            reader.problem("soft_ttl_min", message, "lower it, or raise soft_ttl_max");
        }
        let state_path = base.join(reader.get_or("state_path", PathBuf::from("../data/issuers")));
        Self { state_path: Some(state_path), ..settings }
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
        let settings = TrustSettings::read(&mut reader, Path::new("/etc/ficus"));
        reader.finish();
        (settings, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_and_bounds() {
        let state_path = Some(PathBuf::from("/etc/ficus/../data/issuers"));
        let default = TrustSettings { state_path, ..TrustSettings::default() };
        assert_eq!(read(""), (default, vec![]));
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

    #[test]
    fn every_time_has_bounds() {
        for (key, below, above) in [
            ("connect_timeout", "99ms", "11s"),
            ("fetch_deadline", "499ms", "31s"),
            ("request_wait", "99ms", "31s"),
            ("soft_ttl", "4m", "61m"),
            ("soft_ttl_min", "59s", "61m"),
            ("soft_ttl_max", "4m", "61m"),
            ("hard_ttl", "59m", "25h"),
            ("unknown_kid_interval", "9s", "301s"),
            ("bad_signature_interval", "59s", "61m"),
        ] {
            for value in [below, above] {
                let (_, problems) = read(&format!("{key} = \"{value}\"\n"));
                let found = problems.first().map_or("", String::as_str);
                assert!(
                    found.contains(&format!("{key}: ")) && found.contains("out of range"),
                    "{problems:?}"
                );
            }
        }
        let (_, problems) = read("soft_ttl_min = \"30m\"\nsoft_ttl_max = \"20m\"\n");
        assert_eq!(
            problems,
            [
                "f.toml:1: soft_ttl_min: 30m is more than soft_ttl_max, 20m (hint: lower it, or raise soft_ttl_max)"
            ]
        );
        assert_eq!(read("state_path = \"/s\"\n").0.state_path, Some(PathBuf::from("/s")));
    }
}
