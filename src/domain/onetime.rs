//! Assertions that are good for one token only: which they are, what they are known by, and for how long.

use aws_lc_rs::digest::{Context, Digest, SHA256};

use super::credential::Credential;
use super::matching::Match;
use super::policy::{IssuerPolicy, MAX_LEEWAY};
use super::verify::Claimed;

/// What one assertion is known by among all that are good for one token only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OneTime {
    /// SHA-256 of issuer and `jti`; without a `jti`, of header and claims as they were signed.
    pub key: [u8; 32],
    /// From when on no issuer's policy could accept it any more. It is the largest leeway that is counted with and not the
    /// issuer's own, which a reload may raise while the assertion is remembered.
    pub until: i64,
}

/// Whether the issuer's policy or the credential demands it.
pub fn is_demanded(policy: &IssuerPolicy, credential: &Credential) -> bool {
    policy.jti_once || credential.jti_once
}

/// What to remember of a match, where its issuer or credential demands it.
pub fn demanded(matched: &Match<'_, '_>) -> Option<OneTime> {
    let claims = matched.claims();
    is_demanded(claims.policy(), matched.credential()).then(|| of(claims))
}

/// Signatures are left out: on curves there are many for one text.
fn of(claims: &Claimed<'_>) -> OneTime {
    let leeway = i64::try_from(MAX_LEEWAY.as_secs()).unwrap_or(i64::MAX);
    OneTime {
        key: key(claims.issuer(), claims.jwt_id(), claims.signing_input()),
        until: claims.expires().saturating_add(leeway),
    }
}

fn key(issuer: &str, jwt_id: Option<&str>, signing_input: &str) -> [u8; 32] {
    let mut content = Context::new(&SHA256);
    match jwt_id {
        // A zero begins no compact form, and the length keeps the end of the issuer from being read as the id's beginning.
        Some(id) => {
            content.update(&[0]);
            content.update(&u64::try_from(issuer.len()).unwrap_or(u64::MAX).to_be_bytes());
            content.update(issuer.as_bytes());
            content.update(id.as_bytes());
        }
        None => content.update(signing_input.as_bytes()),
    }
    bytes(&content.finish())
}

fn bytes(digest: &Digest) -> [u8; 32] {
    let mut key = [0; 32];
    key.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_counts_with_its_issuer_and_without_one_what_was_signed() {
        let with = |issuer, id| key(issuer, Some(id), "h.c");
        assert_eq!(with("https://i", "1"), key("https://i", Some("1"), "other.text"));
        let others = [
            with("https://i", "2"),
            with("https://j", "1"),
            with("https://i1", ""),
            with("https:/", "/i1"),
            key("https://i", None, "h.c"),
            key("https://i", None, "h.d"),
        ];
        for (at, one) in others.iter().enumerate() {
            assert_ne!(*one, with("https://i", "1"));
            assert!(others[at + 1..].iter().all(|other| other != one), "{at}");
        }
        assert_eq!(key("https://i", None, "h.c"), key("https://j", None, "h.c"));
    }
}
