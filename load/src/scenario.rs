//! A scenario is data: what is sent, in which phases, what goes wrong meanwhile, and what must hold.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::args::RunArgs;
use crate::asserts::Assert;
use crate::shape::Shape;
use crate::signer::Algorithm;

/// The scenarios that are compiled in, in the order in which they are listed.
macro_rules! scenarios {
    ($($name:literal),* $(,)?) => {
        pub(crate) const KNOWN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}
scenarios!(
    "fresh-rs256",
    "fresh-es256",
    "repeated",
    "refused-subject",
    "refused-signature",
    "unknown-kid",
    "garbage",
    "cold-job",
    "reloads",
    "key-rotation",
    "issuer-rotation",
    "issuer-outage",
    "many-records",
    "monday",
    "overload",
    "soak",
    "smoke",
);

/// The scenario of a run without a name.
pub(crate) const DEFAULT: &str = "fresh-rs256";

/// Of one run; the broker is told to have room for them.
pub(crate) const MOST_CONNECTIONS: usize = 10_000;

/// What "all" leaves out: one takes long, the other measures nothing.
const SPECIAL: [&str; 2] = ["soak", "smoke"];

/// These names, with "all" spelled out.
pub(crate) fn named(names: &[String]) -> Vec<&str> {
    let all = KNOWN.iter().map(|(name, _)| *name).filter(|name| !SPECIAL.contains(name));
    names
        .iter()
        .flat_map(|name| if name == "all" { all.clone().collect() } else { vec![name.as_str()] })
        .collect()
}

/// One file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The file's name without its ending.
    #[serde(skip_deserializing)]
    pub(crate) name: String,
    /// One line for people.
    pub(crate) about: String,
    #[serde(default)]
    pub(crate) directory: Shape,
    pub(crate) traffic: Traffic,
    #[serde(rename = "phase")]
    pub(crate) phases: Vec<Phase>,
    #[serde(rename = "fault", default)]
    pub(crate) faults: Vec<Fault>,
    /// What must hold besides the cross-checks, as with `--assert`.
    #[serde(default)]
    pub(crate) asserts: Vec<Assert>,
}

/// What is sent, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Traffic {
    pub(crate) send: Send,
    /// What the issuer signs with.
    #[serde(default = "rs256")]
    pub(crate) assertion: Algorithm,
    /// What the tokens asked for are signed with.
    #[serde(default = "rs256")]
    pub(crate) token: Algorithm,
    /// Different assertions, made before the first phase: 1 to 2000000. A phase ends when they are used up.
    #[serde(default = "pool")]
    pub(crate) pool: usize,
    /// 1 to 10000.
    #[serde(default = "connections")]
    pub(crate) connections: usize,
    /// Requests at a time on each connection, with HTTP/2: 1 to 100.
    #[serde(default = "one")]
    pub(crate) streams: usize,
    /// At most so many requests at a time, 1 to 10000, for which all connections take turns; one on each of them.
    #[serde(default)]
    pub(crate) in_flight: Option<usize>,
    /// The version, 1 or 2.
    #[serde(default = "one")]
    pub(crate) http: usize,
    /// A new connection and handshake for each job, which asks for the discovery document first.
    #[serde(default)]
    pub(crate) cold: bool,
    /// Ask the operations listener ten times a second how it is, and note how long that takes.
    #[serde(default)]
    pub(crate) probe: bool,
}

/// What each request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Send {
    /// An assertion that was never sent before.
    Fresh,
    /// One assertion for each identity, again and again.
    Repeated,
    /// Fresh and soundly signed; no credential has its subject.
    RefusedSubject,
    /// The signature is of nobody.
    RefusedSignature,
    /// No key of this name was ever published; another name each time.
    UnknownKid,
    /// Not a token at all.
    Garbage,
}

/// A part of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    pub(crate) name: String,
    /// At most this long: 0.1 to 3600.
    pub(crate) seconds: f64,
    /// At most this many jobs.
    #[serde(default)]
    pub(crate) count: Option<u64>,
    /// Open loop: jobs a second, or "60%" of what the closed loop before it reached. Without a rate it is a closed loop.
    #[serde(default)]
    pub(crate) rate: Option<Rate>,
    /// At most this many of the connections are used, times their streams; all of them.
    #[serde(default)]
    pub(crate) connections: Option<usize>,
    /// Counts in the cross-checks only.
    #[serde(default)]
    pub(crate) warm: bool,
}

/// How often jobs begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    PerSecond(f64),
    /// Of saturation; 1.0 is all of it.
    Share(f64),
}

/// Something that happens during a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    /// The name of its phase.
    pub(crate) phase: String,
    /// Seconds after the phase began.
    pub(crate) at: f64,
    /// Seconds between repetitions; without it, it happens once.
    #[serde(default)]
    pub(crate) every: Option<f64>,
    /// Seconds after which it ends; without it, with the phase.
    #[serde(default)]
    pub(crate) lasts: Option<f64>,
    #[serde(rename = "do")]
    pub(crate) act: Act,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Act {
    /// A file of the directory changes.
    Reload,
    /// The broker signs with new keys.
    RotateSigningKeys,
    /// The issuer signs with another key from now on, and publishes both.
    RotateIssuer,
    /// The issuer answers nothing but 503.
    IssuerDown,
}

impl Act {
    pub(crate) fn is_of_the_issuer(self) -> bool {
        matches!(self, Self::RotateIssuer | Self::IssuerDown)
    }
}

fn rs256() -> Algorithm {
    Algorithm::Rs256
}

fn pool() -> usize {
    20_000
}

fn connections() -> usize {
    32
}

fn one() -> usize {
    1
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::PerSecond(rate) => serializer.serialize_f64(*rate),
            Self::Share(share) => serializer.serialize_str(&format!("{}%", share * 100.0)),
        }
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        let share = |text: &str| text.strip_suffix('%')?.trim().parse::<f64>().ok();
        let rate = match Written::deserialize(deserializer)? {
            Written::Number(rate) => Some(Self::PerSecond(rate)),
            Written::Text(text) => share(&text).map(|percent| Self::Share(percent / 100.0)),
        };
        rate.filter(|rate| match rate {
            Self::PerSecond(rate) => (0.1..=1e6).contains(rate),
            Self::Share(share) => (0.01..=10.0).contains(share),
        })
        .ok_or_else(|| serde::de::Error::custom("a rate is 0.1 to 1000000 a second, or \"1%\" to \"1000%\""))
    }
}

impl Scenario {
    /// One that is compiled in, else a file.
    pub(crate) fn find(name: &str) -> Result<Self, Failure> {
        if let Some((name, text)) = KNOWN.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        let path = Path::new(name);
        if path.extension().is_none() {
            return Err(format!(
                "there is no scenario {name}; --list shows them, and FILE.toml names another"
            )
            .into());
        }
        let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
        Self::parse(&path.file_stem().unwrap_or_default().to_string_lossy(), &text)
    }

    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, Failure> {
        let mut scenario: Self = toml::from_str(text).map_err(|error| format!("scenario {name}: {error}"))?;
        name.clone_into(&mut scenario.name);
        scenario.sound()?;
        Ok(scenario)
    }

    /// With what the command line says otherwise.
    pub(crate) fn change(&mut self, args: &RunArgs) -> Result<(), Failure> {
        let traffic = &mut self.traffic;
        let to = |value: &mut usize, other: Option<usize>| *value = other.unwrap_or(*value);
        to(&mut traffic.connections, args.connections);
        to(&mut traffic.pool, args.common.pool);
        to(&mut traffic.http, args.http);
        to(&mut traffic.streams, args.streams);
        if let (Some(seconds), Some(last)) = (args.common.seconds, self.phases.last_mut()) {
            last.seconds = seconds;
        }
        self.sound()
    }

    /// The error when something makes no sense.
    pub(crate) fn sound(&self) -> Result<(), Failure> {
        self.fault().map_or(Ok(()), |fault| Err(format!("scenario {}: {fault}", self.name).into()))
    }

    /// The first thing that makes no sense.
    fn fault(&self) -> Option<String> {
        let Traffic { pool, connections, streams, in_flight, http, cold, .. } = self.traffic;
        let bounds = [
            ("traffic.pool", pool, 2_000_000),
            ("traffic.connections", connections, MOST_CONNECTIONS),
            ("traffic.streams", streams, 100),
            ("traffic.in_flight", in_flight.unwrap_or(1), 10_000),
            ("traffic.http", http, 2),
        ];
        if let Some(fault) = self.directory.fault() {
            return Some(fault);
        }
        if let Some((name, _, most)) = bounds.iter().find(|(_, value, most)| !(1..=*most).contains(value)) {
            return Some(format!("{name} is to be 1 to {most}"));
        }
        if streams > 1 && (http == 1 || cold) {
            return Some("traffic.streams needs http = 2 and connections that are kept".to_owned());
        }
        self.phases_fault().or_else(|| self.faults_fault())
    }

    fn phases_fault(&self) -> Option<String> {
        if self.phases.iter().all(|phase| phase.warm) {
            return Some("no phase measures anything".to_owned());
        }
        let (mut names, mut saturated) = (Vec::new(), false);
        for Phase { name, seconds, rate, warm, .. } in &self.phases {
            if names.contains(&name) {
                return Some(format!("two phases are called {name}"));
            }
            names.push(name);
            if !(0.1..=3600.0).contains(seconds) {
                return Some(format!("phase {name}: seconds are to be 0.1 to 3600"));
            }
            if matches!(rate, Some(Rate::Share(_))) && !saturated {
                return Some(format!("phase {name}: a share needs a closed loop before it"));
            }
            saturated |= rate.is_none() && !warm;
        }
        None
    }

    fn faults_fault(&self) -> Option<String> {
        for Fault { phase, at, every, lasts, act } in &self.faults {
            let Some(known) = self.phases.iter().find(|known| known.name == *phase) else {
                return Some(format!("a fault happens in the phase {phase}, which there is not"));
            };
            if !(0.0..=known.seconds).contains(at) || lasts.is_some_and(|lasts| lasts <= 0.0) {
                return Some(format!("a fault in {phase} does not happen within its phase"));
            }
            if every.is_some_and(|every| *act != Act::Reload || every < 0.05) {
                return Some(format!(
                    "a fault in {phase}: only a reload repeats, every 0.05 seconds at most"
                ));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "about = \"a\"\n[traffic]\nsend = \"fresh\"\n[[phase]]\nname = \"full\"\nseconds = 2\n\
        [[phase]]\nname = \"open\"\nseconds = 2\nrate = \"60%\"\n[[fault]]\nphase = \"open\"\nat = 1\ndo = \"reload\"\n";

    fn refused(from: &str, to: &str) -> String {
        let text = SOUND.replacen(from, to, 1);
        assert_ne!(text, SOUND, "{from}");
        Scenario::parse("s", &text).unwrap_err().to_string()
    }

    #[test]
    fn every_known_scenario_is_sound_and_has_a_line_for_people() {
        for (name, text) in KNOWN {
            let scenario = Scenario::parse(name, text).unwrap();
            assert!(!scenario.about.is_empty() && !scenario.about.contains('\n'), "{name}");
            assert!(!scenario.asserts.is_empty(), "{name} holds whatever happens");
        }
        let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios")).unwrap().count();
        assert_eq!(files, KNOWN.len(), "a file is not compiled in");
        assert!(KNOWN.iter().any(|(name, _)| *name == DEFAULT));
    }

    #[test]
    fn all_are_those_that_measure_something_soon() {
        let asked = ["soak".to_owned(), "all".to_owned()];
        let names = named(&asked);
        assert_eq!((names.len(), names[0], names[1]), (KNOWN.len() - 1, "soak", KNOWN[0].0));
        assert!(!names.contains(&"smoke"));
    }

    #[test]
    fn rates_are_numbers_or_shares() {
        let sound = Scenario::parse("s", SOUND).unwrap();
        assert_eq!(sound.phases[1].rate, Some(Rate::Share(0.6)));
        let number = Scenario::parse("s", &SOUND.replace("\"60%\"", "250")).unwrap();
        assert_eq!(number.phases[1].rate, Some(Rate::PerSecond(250.0)));
        assert!(refused("\"60%\"", "\"60\"").contains("a rate is"));
        assert!(refused("\"60%\"", "0").contains("a rate is"));
    }

    #[test]
    fn what_is_unknown_or_makes_no_sense_is_refused() {
        assert!(refused("seconds", "minutes").contains("minutes"));
        assert!(refused("[traffic]", "[traffic]\nspeed = 1").contains("unknown field `speed`"));
        assert!(refused("\"fresh\"", "\"stale\"").contains("stale"));
        assert!(refused("\"reload\"", "\"explode\"").contains("explode"));
        assert!(refused("[traffic]", "[traffic]\nhttp = 3").contains("traffic.http is to be 1 to 2"));
        assert!(refused("[traffic]", "[traffic]\nstreams = 2").contains("needs http = 2"));
        assert!(refused("[traffic]", "[traffic]\nin_flight = 0").contains("in_flight is to be 1 to 10000"));
        assert!(refused("[traffic]", "[directory]\nissuers = 201\n[traffic]").contains("is to be 1 to 200"));
        assert!(refused("\"open\"", "\"full\"").contains("two phases are called full"));
        assert!(refused("seconds = 2", "seconds = 0").contains("0.1 to 3600"));
        assert!(refused("seconds = 2", "seconds = 2\nwarm = true").contains("needs a closed loop"));
        assert!(refused("phase = \"open\"", "phase = \"shut\"").contains("shut, which there is not"));
        assert!(refused("at = 1", "at = 3").contains("within its phase"));
        assert!(refused("at = 1", "at = 1\nevery = 0.01").contains("only a reload repeats"));
        assert!(refused("about = \"a\"", "about = \"a\"\nasserts = [\"p99\"]").contains("p99"));
    }
}
