//! Our signing keys: a folder of them, their life by time, what of them is published, and the mint.
//!
//! announced (published, not signing) -> signing -> retired (published until its last token has expired) -> gone.

mod change;
mod fault;
mod folder;
mod follow;
mod key;
mod manifest;
mod ring;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::clock::{Clock, EARLIEST, UnixTime};
use crate::document::Reader;
use crate::domain::authorize::Grant;
use crate::domain::keyset::KeySet;
use crate::domain::resource::SigningAlgorithm;
use crate::secret::Secret;

pub use change::{Pace, Rotated, create, revoke, rotate};
pub use fault::FolderError;
use follow::Follower;
pub use follow::Following;
use manifest::Schedule;
pub use manifest::State;
use ring::KeyRing;
pub use ring::ListedKey;

/// The `[keys]` section.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of key files, each of mode 0600, and a manifest.
    pub path: PathBuf,
    /// Whether to make the first keys when the folder is absent or empty. Default false.
    pub create: bool,
    /// How long resources may cache our JWKS, 1 min to 24 h. Default 1 h.
    pub jwks_max_age: Duration,
    /// How long a key signs, 1 to 366 days. Default 30 days.
    pub rotate_every: Duration,
    /// How long a key is published before it signs, 6 min to 183 days. Default 24 h.
    pub announce_for: Duration,
}

impl Settings {
    /// Reads the section.
    pub fn read(reader: &mut Reader<'_>, base: &Path) -> Self {
        let (minute, hour, day) =
            (Duration::from_secs(60), Duration::from_secs(3600), Duration::from_secs(86_400));
        let show = |duration| humantime::format_duration(duration).to_string();
        let settings = Self {
            path: base.join(reader.get_or("path", PathBuf::from("../data/keys"))),
            create: reader.get_or("create", false),
            jwks_max_age: reader.bounded("jwks_max_age", hour, minute..=day, show),
            rotate_every: reader.bounded("rotate_every", 30 * day, day..=366 * day, show),
            announce_for: reader.bounded("announce_for", day, 6 * minute..=183 * day, show),
        };
        let (age, announce) = (show(settings.jwks_max_age), show(settings.announce_for));
        if settings.announce_for < settings.jwks_max_age + 5 * minute {
            let message = format!("{announce} is too short: expected jwks_max_age ({age}) and 5m, or more");
            reader.problem("announce_for", message, "else a key signs before every resource has read it");
        }
        if settings.rotate_every < 2 * settings.announce_for {
            let message = format!(
                "{} is too short: expected twice announce_for ({announce}), or more",
                show(settings.rotate_every)
            );
            reader.problem("rotate_every", message, "else keys are announced before the last have signed");
        }
        settings
    }
}

/// The keys that we sign with and publish: those of the last good manifest.
#[derive(Debug)]
pub struct Keys {
    ring: Arc<ArcSwap<KeyRing>>,
    /// What they were read from at the start.
    opened: Option<folder::Stamp>,
}

/// A signed token.
#[derive(Debug, Clone)]
pub struct Token {
    /// The compact JWS.
    pub jwt: Secret<String>,
    /// The key that signed it.
    pub kid: Arc<str>,
    /// Its `uti` claim.
    pub uti: String,
    /// Seconds that it is valid from now, less one as Entra counts.
    pub expires_in: u32,
    /// Its `nbf` claim.
    pub not_before: UnixTime,
    /// Its `exp` claim.
    pub expires: UnixTime,
}

/// There is no key for an algorithm, or the signing failed. It must not leak more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no token could be signed")]
pub struct SigningFailed;

impl Keys {
    /// Loads the folder; when it is absent or empty and `create` is set, makes the first keys.
    pub fn open(settings: &Settings, now: UnixTime) -> Result<Self, FolderError> {
        if settings.create && folder::is_vacant(&settings.path) {
            if now < EARLIEST {
                let message = "can't have keys made: the clock tells a time before 2020";
                return Err(fault::fail(&settings.path, message, "set the clock of the machine"));
            }
            let made = create(&settings.path, now);
            // Of replicas that start together one makes them.
            if folder::is_vacant(&settings.path) {
                made?;
            }
        }
        let opened = folder::stamp(&settings.path);
        let ring = folder::load(&settings.path)?;
        folder::note_orphans(&settings.path);
        Ok(Self { ring: Arc::new(ArcSwap::from_pointee(ring)), opened })
    }

    /// Follows the folder, and changes keys when their time comes if this instance may. Must be called in a tokio runtime.
    pub fn follow(&self, settings: &Settings, clock: Clock) -> Following {
        let place = (settings.path.clone(), Schedule::of(settings));
        Follower::new(place, clock, self.ring.clone(), self.opened).start()
    }

    /// Signs a token for a grant. Time and randomness are arguments.
    pub fn mint(&self, grant: &Grant, now: UnixTime, random: [u8; 16]) -> Result<Token, SigningFailed> {
        self.ring.load().mint(grant, now, random)
    }

    /// Whether what is minted now for this algorithm is signed by the key of this id.
    pub fn still_signs(&self, kid: &str, algorithm: SigningAlgorithm, now: UnixTime) -> bool {
        self.ring.load().signing(algorithm, now).is_some_and(|key| key.id() == kid)
    }

    /// Our JWKS; all tenants share the keys. With an issuer, as the keys of that issuer's tokens.
    pub fn jwks(&self, issuer: Option<&str>, now: UnixTime) -> serde_json::Value {
        self.ring.load().jwks(issuer, now)
    }

    /// The public half of a key that is in our JWKS now; none of any other key.
    pub fn verifier(&self, kid: &str, now: UnixTime) -> Option<Arc<KeySet>> {
        self.ring.load().verifier(kid, now)
    }

    /// What is published now.
    pub fn list(&self, now: UnixTime) -> Vec<ListedKey> {
        self.ring.load().list(now)
    }
}

/// What the folder holds, as a broker would publish it.
pub fn list(folder: &Path, now: UnixTime) -> Result<Vec<ListedKey>, FolderError> {
    folder::load(folder).map(|ring| ring.list(now))
}
