//! An issuer's published keys, parsed key by key.

use std::collections::HashMap;

use aws_lc_rs::signature::ParsedPublicKey;
use serde_json::value::RawValue;

use super::algorithm::Algorithm;
use super::json::Members;
use super::jwk::{Key, Skipped};

/// Most keys of one set. Large SPIRE federations publish more than 100 (oidc-issuers.md section 2.13).
const MAX_KEYS: usize = 256;
/// Most keys of one id: equal ids are allowed for different key types, and one re-used id is seen in practice.
const MAX_SAME_ID: usize = 2;

/// A set with at least one usable key. Look-ups are by the exact id.
#[derive(Debug)]
pub struct KeySet {
    by_id: HashMap<String, Vec<Key>>,
    without_id: Vec<Key>,
}

/// Why a document gives no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not an object with a `keys` list.
    #[error("not a JWK set")]
    Malformed,
    /// No key of it can be used.
    #[error("holds no usable key")]
    Empty,
}

impl KeySet {
    /// Parses a JWK set (RFC 7517 section 5). Keys that can't be used are skipped and reported, never fatal.
    pub fn parse(document: &[u8]) -> Result<(Self, Vec<Skipped>), Unusable> {
        let members = Members::read(document).map_err(|_| Unusable::Malformed)?;
        let keys: Vec<&RawValue> = members.typed("keys").ok().flatten().ok_or(Unusable::Malformed)?;
        let mut set = Self { by_id: HashMap::new(), without_id: Vec::new() };
        let mut skipped = Vec::new();
        for (index, jwk) in keys.iter().enumerate() {
            let kept = if index < MAX_KEYS { Key::read(jwk.get()) } else { Err(Skipped::Surplus) };
            if let Err(reason) = kept.and_then(|key| set.add(key)) {
                skipped.push(reason);
            }
        }
        if set.is_empty() { Err(Unusable::Empty) } else { Ok((set, skipped)) }
    }

    fn add(&mut self, mut key: Key) -> Result<(), Skipped> {
        let same = match key.id.take() {
            Some(id) => self.by_id.entry(id).or_default(),
            None => {
                self.without_id.push(key);
                return Ok(());
            }
        };
        if same.len() == MAX_SAME_ID {
            return Err(Skipped::Surplus);
        }
        same.push(key);
        Ok(())
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.by_id.values().map(Vec::len).sum::<usize>() + self.without_id.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.without_id.is_empty()
    }

    /// The keys to try: those of this id that are fit for the algorithm (an empty list when none is), or `None` when
    /// the set does not list the id. A token without an id is served only when exactly one key is fit: trying
    /// several would let a weaker key of the set speak for a stronger one.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Vec<&ParsedPublicKey>> {
        match id {
            Some(id) => Some(verifiers(self.by_id.get(id)?.iter(), algorithm)),
            None => Some(verifiers(self.by_id.values().flatten().chain(&self.without_id), algorithm))
                .filter(|fit| fit.len() == 1),
        }
    }
}

fn verifiers<'k>(keys: impl Iterator<Item = &'k Key>, algorithm: Algorithm) -> Vec<&'k ParsedPublicKey> {
    keys.flat_map(|key| &key.verifiers).filter(|(fit, _)| *fit == algorithm).map(|(_, key)| key).collect()
}
