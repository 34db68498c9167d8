//! The life cycle, as functions of the manifest and a moment: announced, signing, retired, gone.
//!
//! Nothing in a key's entry ever changes. When a key stops signing follows from its successor, so that every replica
//! that reads one manifest comes to one answer at every moment, whether it may write or not.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Settings;
use crate::clock::UnixTime;
use crate::domain::resource::SigningAlgorithm;

/// From the moment that a successor signs until a key leaves the JWKS: the longest token, and 5 minutes in which an API
/// may accept it past its end or a replica's clock may be late.
pub(super) const KEPT: i64 = 24 * 3600 + 300;

/// Lists the keys of a folder.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    version: u32,
    pub(super) keys: Vec<Entry>,
}

/// One key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) kid: String,
    #[serde(with = "algorithm_name")]
    pub(super) alg: SigningAlgorithm,
    pub(super) file: String,
    pub(super) created: UnixTime,
    pub(super) signs_from: UnixTime,
}

mod algorithm_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::domain::resource::SigningAlgorithm;

    pub(super) fn serialize<S: Serializer>(alg: &SigningAlgorithm, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(alg.name())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<SigningAlgorithm, D::Error> {
        let name = String::deserialize(from)?;
        let found = SigningAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name);
        found.ok_or_else(|| D::Error::custom(format!("{name:?} is not RS256 or ES256")))
    }
}

/// Where in its life a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the JWKS, not signing.
    Announced,
    /// Signs.
    Signing,
    /// In the JWKS until its last token has expired.
    Retired,
    /// Of no use any more.
    Gone,
}

impl State {
    /// The word for it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Signing => "signing",
            Self::Retired => "retired",
            Self::Gone => "gone",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// The times of one key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) created: UnixTime,
    pub(super) signs_from: UnixTime,
    /// When its successor signs; none while it has none.
    pub(super) retires: Option<UnixTime>,
}

impl Life {
    pub(super) fn state(&self, now: UnixTime) -> State {
        match self.leaves() {
            Some(leaves) if leaves <= now => State::Gone,
            _ if now < self.signs_from => State::Announced,
            _ if self.retires.is_some_and(|retires| retires <= now) => State::Retired,
            _ => State::Signing,
        }
    }

    /// When it leaves the JWKS.
    pub(super) fn leaves(&self) -> Option<UnixTime> {
        self.retires.map(|retires| retires.saturating_add(KEPT))
    }
}

/// How often keys change, in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) every: i64,
    pub(super) announce: i64,
}

impl Schedule {
    pub(super) fn of(settings: &Settings) -> Self {
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        Self { every: seconds(settings.rotate_every), announce: seconds(settings.announce_for) }
    }

    /// Whether it is time to announce keys, so that the newest of each algorithm signs no longer than it should. `newest`
    /// is the moment from which it signs.
    pub(super) fn is_due<const N: usize>(self, newest: [Option<UnixTime>; N], now: UnixTime) -> bool {
        newest.into_iter().any(|signs_from| {
            signs_from.is_none_or(|from| from.saturating_add(self.every).saturating_sub(self.announce) <= now)
        })
    }
}

impl Manifest {
    pub(super) const VERSION: u32 = 1;

    pub(super) fn new() -> Self {
        Self { version: Self::VERSION, keys: Vec::new() }
    }

    /// Reads a manifest; an error is what is wrong, and a hint.
    pub(super) fn parse(text: &[u8]) -> Result<Self, (String, &'static str)> {
        let restore = "restore it from a backup";
        let manifest: Self =
            serde_json::from_slice(text).map_err(|error| (format!("is not a manifest: {error}"), restore))?;
        if manifest.version != Self::VERSION {
            let message = format!("has version {}, expected {}", manifest.version, Self::VERSION);
            return Err((message, "a newer ficus wrote it"));
        }
        for (index, entry) in manifest.keys.iter().enumerate() {
            if manifest.keys[..index].iter().any(|other| other.kid == entry.kid) {
                return Err((format!("lists key {} twice", entry.kid), restore));
            }
            // It names files of its own folder, nothing else.
            if Path::new(&entry.file).file_name() != Some(entry.file.as_ref()) {
                return Err((format!("{:?} is not a file name", entry.file), restore));
            }
        }
        Ok(manifest)
    }

    /// Every key with its times. Of two that sign from one moment, the later in the list is the successor.
    pub(super) fn lives(&self) -> impl Iterator<Item = (&Entry, Life)> {
        self.keys.iter().enumerate().map(|(index, entry)| {
            let later = self.keys.iter().enumerate().filter(|(other_index, other)| {
                other.alg == entry.alg && (other.signs_from, *other_index) > (entry.signs_from, index)
            });
            let retires = later.map(|(_, other)| other.signs_from).min();
            (entry, Life { created: entry.created, signs_from: entry.signs_from, retires })
        })
    }

    pub(super) fn find(&self, kid: &str) -> Option<(&Entry, Life)> {
        self.lives().find(|(entry, _)| entry.kid == kid)
    }

    /// The moment from which an announced key of an algorithm signs.
    pub(super) fn announced(&self, algorithm: SigningAlgorithm, now: UnixTime) -> Option<UnixTime> {
        self.newest(algorithm).filter(|signs_from| *signs_from > now)
    }

    pub(super) fn is_due(&self, now: UnixTime, schedule: Schedule) -> bool {
        schedule.is_due(SigningAlgorithm::ALL.map(|algorithm| self.newest(algorithm)), now)
    }

    /// Takes out the keys whose last token has expired. None stays behind without its successor: it went before that.
    pub(super) fn prune(&mut self, now: UnixTime) -> Vec<Entry> {
        let gone: Vec<_> = self.lives().map(|(_, life)| life.state(now) == State::Gone).collect();
        let mut gone = gone.into_iter();
        self.keys.extract_if(.., |_| gone.next().unwrap_or_default()).collect()
    }

    fn newest(&self, algorithm: SigningAlgorithm) -> Option<UnixTime> {
        self.keys.iter().filter(|entry| entry.alg == algorithm).map(|entry| entry.signs_from).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use SigningAlgorithm::{Es256, Rs256};

    const DAY: i64 = 86_400;
    const SCHEDULE: Schedule = Schedule { every: 30 * DAY, announce: DAY };

    fn manifest(keys: &[(&str, SigningAlgorithm, UnixTime)]) -> Manifest {
        let mut manifest = Manifest::new();
        manifest.keys.extend(keys.iter().map(|(kid, alg, signs_from)| Entry {
            kid: (*kid).to_owned(),
            alg: *alg,
            file: format!("{kid}.pem"),
            created: 0,
            signs_from: *signs_from,
        }));
        manifest
    }

    fn states(manifest: &Manifest, now: UnixTime) -> String {
        let states: Vec<_> =
            manifest.lives().map(|(entry, life)| format!("{} {}", entry.kid, life.state(now))).collect();
        states.join(", ")
    }

    #[test]
    fn a_key_is_announced_signs_retires_and_goes() {
        let keys = manifest(&[("a", Rs256, 0), ("e", Es256, 0), ("b", Rs256, 30 * DAY)]);
        let switch = 30 * DAY;
        assert_eq!(states(&keys, switch - 1), "a signing, e signing, b announced");
        assert_eq!(states(&keys, switch), "a retired, e signing, b signing");
        assert_eq!(states(&keys, switch + KEPT - 1), "a retired, e signing, b signing");
        assert_eq!(states(&keys, switch + KEPT), "a gone, e signing, b signing");
        let mut pruned = keys;
        assert!(pruned.prune(switch + KEPT - 1).is_empty());
        assert_eq!(pruned.prune(switch + KEPT).len(), 1);
        assert_eq!(states(&pruned, switch + KEPT), "e signing, b signing");
    }

    #[test]
    fn exactly_one_key_of_an_algorithm_signs_at_any_moment() {
        // Three hurried rotations, two of them in one second, in front of an announced one.
        let keys = manifest(&[
            ("a", Es256, 0),
            ("b", Es256, 900),
            ("c", Es256, 105),
            ("d", Es256, 105),
            ("f", Es256, 106),
        ]);
        for (now, signer) in
            [(0, "a"), (104, "a"), (105, "d"), (106, "f"), (899, "f"), (900, "b"), (9999, "b")]
        {
            let signing = keys.lives().filter(|(_, life)| life.state(now) == State::Signing);
            assert_eq!(signing.map(|(entry, _)| entry.kid.as_str()).collect::<Vec<_>>(), [signer], "{now}");
        }
    }

    #[test]
    fn keys_are_announced_so_early_that_they_sign_on_time() {
        let mut keys = manifest(&[("a", Rs256, 0), ("e", Es256, 0)]);
        assert!(!keys.is_due(29 * DAY - 1, SCHEDULE));
        assert!(keys.is_due(29 * DAY, SCHEDULE));
        assert_eq!(keys.announced(Rs256, 29 * DAY), None);
        keys.keys.extend(manifest(&[("b", Rs256, 30 * DAY), ("f", Es256, 30 * DAY)]).keys);
        assert!(!keys.is_due(29 * DAY, SCHEDULE) && !keys.is_due(59 * DAY - 1, SCHEDULE));
        assert!(keys.is_due(59 * DAY, SCHEDULE));
        assert_eq!(keys.announced(Rs256, 29 * DAY), Some(30 * DAY));
        // A revoked one is missed.
        keys.keys.retain(|entry| entry.kid != "f");
        assert!(keys.is_due(29 * DAY, SCHEDULE));
    }

    #[test]
    fn a_manifest_is_strict() {
        let problem = |text: &str| Manifest::parse(text.as_bytes()).unwrap_err().0;
        let key = |kid: &str, alg: &str, file: &str| {
            format!(r#"{{"kid":"{kid}","alg":"{alg}","file":"{file}","created":1,"signs_from":1}}"#)
        };
        let list = |keys: &str| format!(r#"{{"version":1,"keys":[{keys}]}}"#);
        assert!(Manifest::parse(list(&key("a", "RS256", "a.pem")).as_bytes()).is_ok());
        assert!(problem(&list(&key("a", "HS256", "a.pem"))).contains("not RS256 or ES256"));
        assert!(problem(&list(&key("a", "RS256", "../a.pem"))).contains("not a file name"));
        let twice = format!("{},{}", key("a", "RS256", "a.pem"), key("a", "RS256", "b.pem"));
        assert!(problem(&list(&twice)).contains("twice"));
        assert!(problem(r#"{"version":2,"keys":[]}"#).contains("version 2"));
        assert!(problem(r#"{"version":1,"keys":[],"x":1}"#).contains("unknown field"));
        assert!(problem(&list(&key("a", "RS256", "a.pem"))[..40]).contains("not a manifest"));
    }
}
