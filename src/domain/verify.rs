//! From a claim to a fact: signature, then times and lifetime, then presence of subject and audience.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::signature::ParsedPublicKey;

use super::assertion::{Candidate, Claims, Parts};
use super::keyset::KeySet;
use super::policy::IssuerPolicy;
use super::proof::Proof;
use super::refusal::Refusal;

/// An assertion that its issuer signed and that is valid now. Comes only from [`Candidate::verify`].
#[derive(Debug)]
pub struct Verified<'a> {
    claimed: Claimed<'a>,
    /// Whose keys have been tried just now; none where a proof stood in for them.
    tried: Option<Weak<KeySet>>,
}

/// The claims that decide, of an assertion that is valid now. Whether its issuer said so, nobody has checked: they are
/// good for explaining, and nothing can be granted with them.
pub struct Claimed<'a> {
    candidate: &'a Candidate<'a>,
    issuer: &'a str,
    subject: &'a str,
    issued: i64,
    expires: i64,
}

impl<'a> Verified<'a> {
    /// The claims, which are facts now.
    pub fn claims(&self) -> &Claimed<'a> {
        &self.claimed
    }

    /// What may be kept for the next time that the same text is presented; nothing new where a proof was used.
    pub fn proof(&self) -> Option<Proof> {
        let Candidate { assertion, policy, .. } = self.claimed.candidate;
        self.tried.clone().map(|keys| Proof {
            digest: *assertion.compact().digest(),
            parts: Arc::clone(&assertion.parts),
            keys,
            policy: (*policy).clone(),
        })
    }
}

impl<'a> Claimed<'a> {
    /// `iss`.
    pub fn issuer(&self) -> &'a str {
        self.issuer
    }

    /// `sub`.
    pub fn subject(&self) -> &'a str {
        self.subject
    }

    /// `aud`, as presented: at least one.
    pub fn audiences(&self) -> &'a [String] {
        &self.candidate.assertion.parts.claims.audiences
    }

    /// The audiences that a credential's may equal: none of several, unless the issuer's policy lets one of them match.
    pub fn matchable_audiences(&self) -> &'a [String] {
        self.policy().matchable(self.audiences())
    }

    /// `iat`.
    pub fn issued(&self) -> i64 {
        self.issued
    }

    /// `exp`.
    pub fn expires(&self) -> i64 {
        self.expires
    }

    /// `jti`, unless it is absent or empty.
    pub fn jwt_id(&self) -> Option<&'a str> {
        self.candidate.assertion.parts.claims.jwt_id.as_deref().filter(|id| !id.is_empty())
    }

    /// Header and claims as they were signed: what is presented, without the signature.
    pub(super) fn signing_input(&self) -> &'a str {
        self.candidate.assertion.signing_input()
    }

    /// What is demanded of the issuer's assertions.
    pub fn policy(&self) -> &'a IssuerPolicy {
        self.candidate.policy
    }
}

/// The claims alone: the signature is nothing to show.
impl fmt::Debug for Claimed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.candidate.assertion.parts.claims.fmt(f)
    }
}

impl<'a> Candidate<'a> {
    /// Checks the signature with the issuer's published keys, then the times against `now`. A proof stands in for the
    /// signature where the assertion was recalled from it and it was made with these very keys under this very policy.
    pub fn verify<'c>(
        &'c self,
        keys: &Arc<KeySet>,
        proof: Option<&Proof>,
        now: i64,
    ) -> Result<Verified<'c>, Refusal> {
        let tried = match proof {
            Some(proof) if proof.holds(self, keys) => None,
            _ => Some(self.check_signature(keys)?),
        };
        Ok(Verified { claimed: self.without_signature(now)?, tried })
    }

    fn check_signature(&self, keys: &Arc<KeySet>) -> Result<Weak<KeySet>, Refusal> {
        let Self { assertion, algorithm, .. } = self;
        let Parts { header, claims, signature } = &*assertion.parts;
        let named =
            keys.candidates(header.key_id.as_deref(), *algorithm).ok_or_else(|| Refusal::KeyUnknown {
                key_id: header.key_id.clone().unwrap_or_default(),
                issuer: claims.issuer.clone().unwrap_or_default(),
            })?;
        if !signed_by_one(&named, assertion.signing_input().as_bytes(), signature) {
            return Err(Refusal::Signature);
        }
        Ok(Arc::downgrade(keys))
    }

    /// Checks what [`Candidate::verify`] checks after the signature: for explaining without the issuer's keys.
    pub fn without_signature<'c>(&'c self, now: i64) -> Result<Claimed<'c>, Refusal> {
        let claims = &self.assertion.parts.claims;
        let (issued, expires) = check_times(claims, self.policy, now)?;
        let issuer = claims.issuer.as_deref().ok_or(Refusal::ClaimAbsent("iss"))?;
        let subject = claims.subject.as_deref().ok_or(Refusal::SubjectAbsent)?;
        match claims.audiences.is_empty() {
            true => Err(Refusal::ClaimAbsent("aud")),
            false => Ok(Claimed { candidate: self, issuer, subject, issued, expires }),
        }
    }
}

/// Whether one of the keys made this signature. The verifiers of `keys` are those of one algorithm.
pub(super) fn signed_by_one(keys: &[&ParsedPublicKey], message: &[u8], signature: &[u8]) -> bool {
    keys.iter().any(|key| key.verify_sig(message, signature).is_ok())
}

/// Gives `iat` and `exp`, which are required; `nbf` is not (reference: oidc-issuers.md section 3.5). Sums saturate: dates are
/// at most 2^53.
fn check_times(claims: &Claims, policy: &IssuerPolicy, now: i64) -> Result<(i64, i64), Refusal> {
    let expires = claims.expires.ok_or(Refusal::ClaimAbsent("exp"))?;
    let issued = claims.issued_at.ok_or(Refusal::ClaimAbsent("iat"))?;
    let leeway = i64::try_from(policy.leeway.as_secs()).unwrap_or(0);
    let valid_from = claims.not_before.unwrap_or(0);
    let latest_start = now.saturating_add(leeway);
    if now >= expires.saturating_add(leeway) || valid_from > latest_start {
        return Err(Refusal::Time { now, valid_from, expires });
    }
    if issued > latest_start {
        return Err(Refusal::Time { now, valid_from: issued, expires });
    }
    if lives_longer(issued, expires, policy.max_token_lifetime) {
        return Err(Refusal::Lifetime { issued, expires });
    }
    Ok((issued, expires))
}

/// Whether there is more than `longest` between the two.
pub(super) fn lives_longer(issued: i64, expires: i64, longest: Duration) -> bool {
    expires.saturating_sub(issued) > i64::try_from(longest.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(issued: i64, expires: i64, not_before: Option<i64>) -> Claims {
        Claims {
            issuer: Some("https://i".into()),
            subject: Some("s".into()),
            audiences: vec!["a".into()],
            expires: Some(expires),
            not_before,
            issued_at: Some(issued),
            jwt_id: None,
            run: Default::default(),
            workflow: None,
        }
    }

    fn check(claims: &Claims) -> Result<(i64, i64), Refusal> {
        check_times(claims, &IssuerPolicy::standard("https://i"), 10_000)
    }

    #[test]
    fn times_hold_to_the_second_with_60_seconds_of_leeway() {
        assert!(check(&claims(9_000, 9_941, None)).is_ok());
        assert!(matches!(check(&claims(9_000, 9_940, None)), Err(Refusal::Time { .. })));
        assert!(check(&claims(9_000, 20_000, Some(10_060))).is_ok());
        assert!(matches!(
            check(&claims(9_000, 20_000, Some(10_061))),
            Err(Refusal::Time { valid_from: 10_061, .. })
        ));
        assert!(check(&claims(10_060, 20_000, None)).is_ok());
        assert!(matches!(
            check(&claims(10_061, 20_000, None)),
            Err(Refusal::Time { valid_from: 10_061, .. })
        ));
    }

    #[test]
    fn lifetime_is_at_most_25_hours_unless_the_policy_is_tighter() {
        assert!(check(&claims(10_000, 10_000 + 90_000, None)).is_ok());
        assert!(matches!(check(&claims(10_000, 10_000 + 90_001, None)), Err(Refusal::Lifetime { .. })));
        let policy = IssuerPolicy {
            max_token_lifetime: Duration::from_secs(600),
            leeway: Duration::ZERO,
            ..IssuerPolicy::standard("https://i")
        };
        assert!(check_times(&claims(10_000, 10_600, None), &policy, 10_000).is_ok());
        assert!(check_times(&claims(10_000, 10_601, None), &policy, 10_000).is_err());
        assert!(check_times(&claims(10_001, 10_600, None), &policy, 10_000).is_err());
    }

    #[test]
    fn both_times_are_required_and_extremes_do_not_wrap() {
        let whole = claims(9_000, 20_000, None);
        assert_eq!(check(&Claims { expires: None, ..whole.clone() }), Err(Refusal::ClaimAbsent("exp")));
        assert_eq!(check(&Claims { issued_at: None, ..whole }), Err(Refusal::ClaimAbsent("iat")));
        assert!(check(&claims(0, 1 << 53, None)).is_err());
        assert!(check(&claims(1 << 53, 1 << 53, Some(1 << 53))).is_err());
        assert!(check_times(&claims(0, 0, None), &IssuerPolicy::standard("i"), i64::MAX).is_err());
    }
}
