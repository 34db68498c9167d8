//! Our signing keys: a folder of them, what of them is published, and the mint.
//!
//! Deliberately absent for now: rotation. Every key of the manifest is published and the newest of an algorithm that
//! may sign does, which is the seam for a life cycle by time.

mod folder;
mod key;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::clock::UnixTime;
use crate::document::Reader;
use crate::domain::authorize::Grant;
use crate::domain::resource::SigningAlgorithm;
use crate::domain::token::{TokenClaims, unique_token_id};

pub use folder::{FolderError, create};
use key::SigningKey;

/// The `[keys]` section.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Folder of key files, each of mode 0600, and a manifest.
    pub path: PathBuf,
    /// Whether to make the first keys when the folder is absent or empty. Default false.
    pub create: bool,
    /// How long resources may cache our JWKS, 1 min to 24 h. Default 1 h.
    pub jwks_max_age: Duration,
}

impl Settings {
    /// Reads the section.
    pub fn read(reader: &mut Reader<'_>, base: &Path) -> Self {
        let hour = Duration::from_secs(3600);
        Self {
            path: base.join(reader.get_or("path", PathBuf::from("../data/keys"))),
            create: reader.get_or("create", false),
            jwks_max_age: reader.bounded("jwks_max_age", hour, Duration::from_secs(60)..=24 * hour, |age| {
                humantime::format_duration(age).to_string()
            }),
        }
    }
}

/// The keys that we sign with and publish.
#[derive(Debug)]
pub struct Keys(Vec<SigningKey>);

/// A signed token; without `Debug`, so that no log can show it.
pub struct Token {
    /// The compact JWS.
    pub jwt: String,
    /// Its `uti` claim.
    pub uti: String,
    /// Seconds that it is valid from now, less one as Entra counts.
    pub expires_in: u32,
}

/// There is no key for an algorithm, or the signing failed. It must not leak more than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no token could be signed")]
pub struct SigningFailed;

/// One member of our JWKS: Entra's keys name the issuer whose tokens they sign.
#[derive(Debug, Serialize)]
struct PublishedKey<'k> {
    #[serde(flatten)]
    jwk: &'k jsonwebtoken::jwk::Jwk,
    issuer: &'k str,
}

impl Keys {
    /// Loads the folder; when it is absent or empty and `create` is set, makes the first keys.
    pub fn open(settings: &Settings, now: UnixTime) -> Result<Self, FolderError> {
        if settings.create && folder::is_vacant(&settings.path) {
            folder::create(&settings.path, now)?;
        }
        folder::load(&settings.path).map(Self)
    }

    /// Signs a token for a grant. Time and randomness are arguments.
    pub fn mint(&self, grant: &Grant, now: UnixTime, random: [u8; 16]) -> Result<Token, SigningFailed> {
        let key = self.signing(grant.algorithm(), now).ok_or(SigningFailed)?;
        let uti = unique_token_id(random);
        let claims = TokenClaims::new(grant, now, &uti);
        let jwt = key.sign(grant.version(), &claims)?;
        Ok(Token { jwt, uti, expires_in: grant.lifetime() - 1 })
    }

    /// Our JWKS as the keys of one issuer's tokens; all tenants share the keys.
    pub fn jwks(&self, issuer: &str) -> serde_json::Value {
        let keys: Vec<_> = self.0.iter().map(|key| PublishedKey { jwk: key.public(), issuer }).collect();
        serde_json::json!({ "keys": keys })
    }

    /// The key that signs now: the newest that may.
    fn signing(&self, algorithm: SigningAlgorithm, now: UnixTime) -> Option<&SigningKey> {
        self.0
            .iter()
            .filter(|key| key.algorithm() == algorithm && key.signs_from() <= now)
            .max_by_key(|key| key.signs_from())
    }
}
