//! What a verification leaves behind, so that the same assertion need not be decoded and its signature not be checked again.
//!
//! A proof replaces nothing else. It is made by a verification alone, it stands for one text to the last byte, signature
//! included, and it holds for the key set and the policy that it was made under.

use std::sync::{Arc, Weak};

use super::assertion::{Candidate, Compact, Parts, UnverifiedAssertion};
use super::keyset::KeySet;
use super::policy::IssuerPolicy;

/// That the keys of an issuer made the signature of one assertion. Comes only from [`super::verify::Verified::proof`].
pub struct Proof {
    pub(super) digest: [u8; 32],
    pub(super) parts: Arc<Parts>,
    /// Weak: what is remembered keeps no key alive, and while it lasts no other set takes the same place in memory.
    pub(super) keys: Weak<KeySet>,
    pub(super) policy: IssuerPolicy,
}

impl Proof {
    /// SHA-256 of the assertion that it is of, signature included.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// The memory that it takes, in bytes, roughly.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.parts.size()
    }

    /// What parsing the same text gave before; `None` for any other text.
    pub fn recall<'a>(&self, compact: Compact<'a>) -> Option<UnverifiedAssertion<'a>> {
        let same = *compact.digest() == self.digest;
        same.then(|| UnverifiedAssertion { compact, parts: Arc::clone(&self.parts) })
    }

    /// Whether a candidate was recalled from here, and both its key set and policy are still those of the proof.
    pub(super) fn holds(&self, candidate: &Candidate<'_>, keys: &Arc<KeySet>) -> bool {
        Arc::ptr_eq(&self.parts, &candidate.assertion.parts)
            && Weak::as_ptr(&self.keys) == Arc::as_ptr(keys)
            && self.policy == *candidate.policy
    }
}
