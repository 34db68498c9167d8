//! Credentials in observe mode: what they would have granted is told to the operator, and to nobody else.
//!
//! It begins where the spine has refused, so it costs no grant anything, and the refusal stays what it was: the caller can't
//! tell such a credential from none, but by the time that the answer takes. No `Match` and no `Grant` is made of it.

use super::Exchange;
use super::Snapshot;
use super::observed::Observed;
use crate::audit::{Outcome, WouldMatch};
use crate::domain::asked::Resolved;
use crate::domain::assertion::UnverifiedAssertion;
use crate::domain::authorize::suppose;
use crate::domain::matching::{self, Match};
use crate::domain::proof::Proof;
use crate::domain::refusal::Refusal;
use crate::domain::tenant::Tenant;
use crate::domain::verify::Verified;

/// Whom a refused request was for, and what for.
pub(super) struct Lookout<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) resolved: &'a Resolved<'a, 'a>,
    /// The tenant as the path names it.
    pub(super) as_asked: &'a str,
}

impl<'a> Lookout<'a> {
    /// What serves; where nothing does, what is in observe mode is noted.
    pub(super) fn find<'v>(
        &self,
        verified: &'v Verified<'v>,
        seen: &mut Observed<'_>,
    ) -> Result<Match<'a, 'v>, Refusal> {
        matching::find(self.tenant, self.resolved.identity, verified)
            .inspect_err(|_| self.note(verified, seen))
    }

    /// Notes the credential in observe mode that a verified token fits, and what would have come of it. One-time use and
    /// rates are left out: looking takes nothing of either.
    fn note(&self, verified: &Verified<'_>, seen: &mut Observed<'_>) {
        let Resolved { identity, target, .. } = self.resolved;
        let claims = verified.claims();
        let Some(credential) = matching::observed(identity, claims) else { return };
        let permitted = credential
            .check_lifetime(claims)
            .and_then(|()| suppose((self.tenant, identity), target, self.as_asked));
        seen.would_match(WouldMatch {
            federated_credential_name: credential.name.clone(),
            outcome: if permitted.is_ok() { Outcome::Granted } else { Outcome::Refused },
            reason: permitted.err().map(|refusal| refusal.reason().label()),
        });
    }
}

impl Exchange {
    /// Looks at an assertion whose issuer no credential that counts names. Where one in observe mode does, the assertion is
    /// verified as any other.
    pub(super) async fn look_out(
        &self,
        lookout: &Lookout<'_>,
        (assertion, proof): (UnverifiedAssertion<'_>, Option<&Proof>),
        snapshot: &Snapshot,
        seen: &mut Observed<'_>,
    ) {
        let identity = lookout.resolved.identity;
        let policy = assertion.unverified_issuer().ok();
        let policy = policy.and_then(|issuer| snapshot.directory.observable(identity, issuer));
        let Some(Ok(candidate)) = policy.map(|policy| assertion.admit(policy)) else { return };
        if let Ok(verified) = self.verify((&candidate, proof), &snapshot.issuers, seen).await {
            seen.verified();
            lookout.note(&verified, seen);
        }
    }
}
