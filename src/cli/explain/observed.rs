//! What a credential in observe mode would have come to, as the record of a broker has it.

use serde_json::{Value, json};

use super::{Findings, Question};
use crate::domain::assertion::UnverifiedAssertion;
use crate::domain::authorize::suppose;
use crate::domain::credential::{Credential, Identity};
use crate::domain::matching;
use crate::domain::refusal::Reason;
use crate::domain::tenant::Tenant;
use crate::domain::verify::Claimed;

/// A credential in observe mode that fits, and why it would have been refused nevertheless.
pub(super) struct WouldMatch<'d> {
    credential: &'d Credential,
    refused: Option<Reason>,
    /// Whether the signature held; nobody looks at it offline.
    verified: bool,
}

impl<'a> Question<'a> {
    /// Looks at an assertion whose issuer no credential that counts names.
    pub(super) async fn look_out(
        &self,
        of: (&Tenant, &'a Identity),
        assertion: UnverifiedAssertion<'_>,
        seen: &mut Findings<'a>,
    ) {
        let policy = assertion.unverified_issuer().ok();
        let policy = policy.and_then(|issuer| self.directory.observable(of.1, issuer));
        let Some(Ok(candidate)) = policy.map(|policy| assertion.admit(policy)) else { return };
        if self.offline {
            if let Ok(claims) = candidate.without_signature(self.now) {
                self.note_observed(of, &claims, seen);
            }
        } else if let Ok(held) = self.keys(candidate.policy()).await
            && let Ok(verified) = candidate.verify(&held.keys, None, self.now)
        {
            self.note_observed(of, verified.claims(), seen);
        }
    }

    /// Notes the credential in observe mode that the claims fit. What is asked for is looked at where it is named.
    pub(super) fn note_observed(
        &self,
        (tenant, identity): (&Tenant, &'a Identity),
        claims: &Claimed<'_>,
        seen: &mut Findings<'a>,
    ) {
        let Some(credential) = matching::observed(identity, claims) else { return };
        let target = self.target.as_ref();
        let permitted = credential.check_lifetime(claims).and_then(|()| {
            target.map_or(Ok(()), |target| suppose((tenant, identity), target, &self.tenant).map(drop))
        });
        let refused = permitted.err().map(|refusal| refusal.reason());
        seen.observed = Some(WouldMatch { credential, refused, verified: !self.offline });
    }
}

impl WouldMatch<'_> {
    pub(super) fn text(&self) -> String {
        let name = &self.credential.name;
        let outcome = match (self.refused, self.verified) {
            (Some(reason), _) => format!("be refused, too: AADSTS{} {}", reason.code(), reason.label()),
            (None, true) => "have granted".to_owned(),
            (None, false) => "have granted, if the signature holds".to_owned(),
        };
        format!("\nobserved: {name} fits, and would {outcome}; it is in observe mode and grants nothing\n")
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "credential": self.credential.name,
            "outcome": if self.refused.is_some() { "refused" } else { "granted" },
            "reason": self.refused.map(Reason::label),
            "verified": self.verified,
        })
    }
}
