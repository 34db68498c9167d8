//! The keys of one manifest: who signs at a moment, and what is published.

use std::sync::Arc;

use serde::Serialize;

use super::key::SigningKey;
use super::manifest::{Life, State};
use super::{SigningFailed, Token};
use crate::clock::UnixTime;
use crate::domain::authorize::Grant;
use crate::domain::keyset::KeySet;
use crate::domain::resource::SigningAlgorithm;
use crate::domain::token::{TokenClaims, unique_token_id};

/// All keys that one manifest lists. Never changes; a new manifest makes a new ring.
#[derive(Debug)]
pub(super) struct KeyRing(pub(super) Vec<(SigningKey, Life)>);

/// A key as people and metrics see it.
#[derive(Debug, Clone, Serialize)]
pub struct ListedKey {
    /// Its id.
    pub kid: String,
    /// RS256 or ES256.
    pub alg: &'static str,
    /// The word for its [`State`].
    pub state: &'static str,
    /// When it was made.
    pub created: UnixTime,
    /// When it begins to sign, or began.
    pub signs_from: UnixTime,
    /// When it leaves the JWKS; not known before it has a successor.
    pub leaves: Option<UnixTime>,
}

/// One member of our JWKS: Entra's v2.0 keys name the issuer whose tokens they sign.
#[derive(Debug, Serialize)]
struct PublishedKey<'k> {
    #[serde(flatten)]
    jwk: &'k jsonwebtoken::jwk::Jwk,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer: Option<&'k str>,
}

impl KeyRing {
    pub(super) fn mint(
        &self,
        grant: &Grant,
        now: UnixTime,
        random: [u8; 16],
    ) -> Result<Token, SigningFailed> {
        let key = self.signing(grant.algorithm(), now).ok_or(SigningFailed)?;
        let uti = unique_token_id(random);
        let claims = TokenClaims::new(grant, now, &uti);
        let jwt = key.sign(grant.version(), &claims)?;
        let (not_before, expires) = (claims.not_before(), claims.expires());
        let kid = Arc::clone(key.shared_id());
        Ok(Token { jwt: jwt.into(), kid, uti, expires_in: grant.lifetime() - 1, not_before, expires })
    }

    pub(super) fn jwks(&self, issuer: Option<&str>, now: UnixTime) -> serde_json::Value {
        let keys: Vec<_> =
            self.published(now).map(|(key, _)| PublishedKey { jwk: key.public(), issuer }).collect();
        serde_json::json!({ "keys": keys })
    }

    /// The public half of a published key.
    pub(super) fn verifier(&self, kid: &str, now: UnixTime) -> Option<Arc<KeySet>> {
        self.published(now).find(|(key, _)| key.id() == kid).map(|(key, _)| key.verifier().clone())
    }

    pub(super) fn list(&self, now: UnixTime) -> Vec<ListedKey> {
        let listed = self.published(now).map(|(key, life)| ListedKey {
            kid: key.id().to_owned(),
            alg: key.algorithm().name(),
            state: life.state(now).label(),
            created: life.created,
            signs_from: life.signs_from,
            leaves: life.leaves(),
        });
        listed.collect()
    }

    /// What is gone is not published even where nobody may write the folder.
    fn published(&self, now: UnixTime) -> impl Iterator<Item = &(SigningKey, Life)> {
        self.0.iter().filter(move |(_, life)| life.state(now) != State::Gone)
    }

    /// The key that signs now. Where none does yet, this clock is behind the one that made them: the first to sign does,
    /// being published all the same.
    pub(super) fn signing(&self, algorithm: SigningAlgorithm, now: UnixTime) -> Option<&SigningKey> {
        let mut keys = self.0.iter().filter(|(key, _)| key.algorithm() == algorithm);
        let signing = keys.clone().find(|(_, life)| life.state(now) == State::Signing);
        let found = match signing {
            Some(found) => Some(found),
            None => keys.by_ref().min_by_key(|(_, life)| life.signs_from),
        };
        found.map(|(key, _)| key)
    }
}
