//! What one client may cost: the `[limits]` section.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::client::Proxies;
use super::rate::{self, Quota};
use crate::document::{Reader, Size};

/// Bounds on sizes, times and numbers of what comes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Request body in bytes, 1KiB to 16MiB; 64KiB. Our longest honest request is an assertion and a few parameters.
    pub body: usize,
    /// Assertion in bytes, 1KiB to 1MiB and at most `body`; 16KiB. Platforms' tokens are below 4KiB.
    pub assertion: usize,
    /// Request line and headers in bytes, 8KiB to 1MiB; 64KiB. There may be at most 100 headers in any case.
    pub head: usize,
    /// From the first byte of an HTTP/1 head to its last, and for the TLS handshake, 1s to 5m; 10s.
    pub header_timeout: Duration,
    /// How long a connection may stay open with no request in flight, 1s to 1h; 60s.
    pub idle_timeout: Duration,
    /// Open connections, 1 to 1000000; 10000. For one more the one is closed that has rested longest, if any has for a
    /// second; else it is closed itself as soon as it is accepted.
    pub connections: usize,
    /// TLS handshakes that have not ended, 1 to 100000; 1024. For one more the oldest is broken off once it has had a second.
    pub handshakes: usize,
    /// Bytes of all request bodies that have begun and not ended, 1MiB to 1GiB and at least `body`; 64MiB. The service that
    /// reads bodies applies it.
    pub bodies: usize,
    /// Requests being worked on, 1 to 100000; 1024. The service that admits requests applies it.
    pub in_flight: usize,
    /// How long a request should wait for a processor at most, 1ms to 10s; 250ms. The service that admits requests applies it.
    pub queue_time: Duration,
    /// Assertions good for one token only that are remembered, 1 to 100000000; 1000000. One more is refused.
    pub one_time_entries: usize,
    /// Whose `X-Forwarded-For` is believed; nobody's.
    pub trusted_proxies: Proxies,
    /// How often one client address may ask for tokens, and the resource manager; without a limit.
    pub per_address: Option<Quota>,
    /// How often one identity may get a token; without a limit.
    pub per_identity: Option<Quota>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 64 << 10,
            assertion: 16 << 10,
            head: 64 << 10,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            connections: 10_000,
            handshakes: 1024,
            bodies: 64 << 20,
            in_flight: 1024,
            queue_time: Duration::from_millis(250),
            one_time_entries: 1_000_000,
            trusted_proxies: Proxies::default(),
            per_address: None,
            per_identity: None,
        }
    }
}

impl Limits {
    /// Reads the keys of the section; the caller opens and finishes it.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let default = Self::default();
        let limits = Self {
            body: size(reader, "body", default.body, 1 << 10..=16 << 20),
            assertion: size(reader, "assertion", default.assertion, 1 << 10..=1 << 20),
            // hyper panics below 8 KiB.
            head: size(reader, "head", default.head, 8 << 10..=1 << 20),
            header_timeout: seconds(reader, "header_timeout", default.header_timeout, 1..=300),
            idle_timeout: seconds(reader, "idle_timeout", default.idle_timeout, 1..=3600),
            connections: count(reader, "connections", default.connections, 1..=1_000_000),
            handshakes: count(reader, "handshakes", default.handshakes, 1..=100_000),
            bodies: size(reader, "bodies", default.bodies, 1 << 20..=1 << 30),
            in_flight: count(reader, "in_flight", default.in_flight, 1..=100_000),
            queue_time: time(reader, "queue_time", default.queue_time, 1..=10_000),
            one_time_entries: count(reader, "one_time_entries", default.one_time_entries, 1..=100_000_000),
            trusted_proxies: Proxies::read(reader, "trusted_proxies"),
            per_address: rate::read(reader, "per_address"),
            per_identity: rate::read(reader, "per_identity"),
        };
        if limits.assertion > limits.body {
            let (assertion, body) = (show(Size(limits.assertion)), show(Size(limits.body)));
            let message = format!("{assertion} can never be reached: the body is at most {body}");
            reader.problem("assertion", message, "raise limits.body or lower limits.assertion");
        }
        if limits.body > limits.bodies {
            let (body, bodies) = (show(Size(limits.body)), show(Size(limits.bodies)));
            let message = format!("{bodies} are not enough for one body of {body}");
            reader.problem("bodies", message, "raise limits.bodies or lower limits.body");
        }
        limits
    }
}

fn size(reader: &mut Reader<'_>, key: &'static str, default: usize, bounds: RangeInclusive<usize>) -> usize {
    reader.bounded(key, Size(default), Size(*bounds.start())..=Size(*bounds.end()), show).0
}

fn seconds(
    reader: &mut Reader<'_>,
    key: &'static str,
    default: Duration,
    bounds: RangeInclusive<u64>,
) -> Duration {
    time(reader, key, default, bounds.start() * 1000..=bounds.end() * 1000)
}

/// With bounds in milliseconds.
fn time(
    reader: &mut Reader<'_>,
    key: &'static str,
    default: Duration,
    bounds: RangeInclusive<u64>,
) -> Duration {
    let bounds = Duration::from_millis(*bounds.start())..=Duration::from_millis(*bounds.end());
    reader.bounded(key, default, bounds, |value| humantime::format_duration(value).to_string())
}

fn count(reader: &mut Reader<'_>, key: &'static str, default: usize, bounds: RangeInclusive<u64>) -> usize {
    let fallback = u64::try_from(default).unwrap_or(u64::MAX);
    let value = reader.bounded(key, fallback, bounds, |value| value.to_string());
    usize::try_from(value).unwrap_or(default)
}

fn show(Size(bytes): Size) -> String {
    match bytes {
        _ if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        _ if bytes % (1 << 10) == 0 => format!("{}KiB", bytes >> 10),
        _ => format!("{bytes}B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::{Document, Problems};

    fn read(text: &str) -> (Limits, Vec<String>) {
        let problems = Problems::default();
        let mut reader = Document::parse("f.toml", text, &problems).reader(&problems);
        let limits = Limits::read(&mut reader);
        reader.finish();
        (limits, problems.into_vec().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn absent_keys_take_the_defaults() {
        assert_eq!(read(""), (Limits::default(), vec![]));
    }

    #[test]
    fn every_key_is_read() {
        let count = |number| std::num::NonZeroU32::new(number).unwrap();
        let text = "body = \"1MiB\"\nassertion = \"8KiB\"\nhead = \"32KiB\"\nheader_timeout = \"5s\"\n\
                    idle_timeout = \"2m\"\nconnections = 50\nhandshakes = 5\nbodies = \"2MiB\"\nin_flight = 7\nqueue_time = \"2ms\"\none_time_entries = 3\n\
                    trusted_proxies = [\"10.0.0.0/8\"]\nper_address = { rate = \"20/s\", burst = 40 }\n\
                    [per_identity]\nrate = \"1/h\"\n";
        let expected = Limits {
            body: 1 << 20,
            assertion: 8 << 10,
            head: 32 << 10,
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(120),
            connections: 50,
            handshakes: 5,
            bodies: 2 << 20,
            in_flight: 7,
            queue_time: Duration::from_millis(2),
            one_time_entries: 3,
            trusted_proxies: Proxies::of(&["10.0.0.0/8"]),
            per_address: Some(Quota::per_second(count(20)).allow_burst(count(40))),
            per_identity: Some(Quota::per_hour(count(1))),
        };
        assert_eq!(read(text), (expected, vec![]));
    }

    #[test]
    fn values_out_of_range_are_told_with_their_bounds() {
        let (limits, problems) = read("head = \"4KiB\"\nidle_timeout = \"2h\"\nconnections = 0\n");
        assert_eq!(limits, Limits::default());
        assert_eq!(
            problems,
            [
                "f.toml:1: head: 4KiB is out of range: expected 8KiB to 1MiB",
                "f.toml:2: idle_timeout: 2h is out of range: expected 1s to 1h",
                "f.toml:3: connections: 0 is out of range: expected 1 to 1000000",
            ]
        );
    }

    #[test]
    fn an_assertion_fits_its_body_and_a_body_those_of_all() {
        let (_, problems) = read("body = \"8KiB\"\n");
        assert!(problems[0].contains("16KiB can never be reached: the body is at most 8KiB"), "{problems:?}");
        let (_, problems) = read("body = \"2MiB\"\nbodies = \"1MiB\"\n");
        assert!(problems[0].contains("1MiB are not enough for one body of 2MiB"), "{problems:?}");
    }
}
