//! What was in the records until lately, to tell operators why a token that used to fit fits no more. It decides nothing.

use std::collections::VecDeque;

use super::credential::{Credential, CredentialState, Identity, Presented};
use super::ids::Guid;

/// For so long they are remembered, in seconds: somebody looks at a pipeline that ran at night.
const KEPT: i64 = 24 * 3600;
/// So many are.
const MOST: usize = 1000;

/// Credentials that counted, and were taken away or changed while their identity stayed.
#[derive(Debug, Clone, Default)]
pub struct Past(VecDeque<Gone>);

#[derive(Debug, Clone)]
struct Gone {
    tenant: Guid,
    client: Guid,
    credential: Credential,
    /// Seconds since 1970.
    at: i64,
}

impl Past {
    /// Notes what of one identity's credentials is gone; the newest stay.
    pub(super) fn note(&mut self, tenant: Guid, before: &Identity, now: &Identity, at: i64) {
        let counted = before.credentials.iter().filter(|one| one.state == CredentialState::Enabled);
        let same = |one: &Credential, other: &Credential| {
            (&one.issuer, &one.subject, &one.audience) == (&other.issuer, &other.subject, &other.audience)
        };
        for credential in counted.filter(|one| !now.credentials.iter().any(|other| same(one, other))) {
            let client = now.client_id;
            self.0.retain(|gone| {
                (gone.tenant, gone.client) != (tenant, client) || !same(&gone.credential, credential)
            });
            if self.0.len() >= MOST {
                self.0.pop_front();
            }
            self.0.push_back(Gone { tenant, client, credential: credential.clone(), at });
        }
    }

    /// Forgets what is long gone. A clock that is set back makes nothing last longer.
    pub(super) fn forget(&mut self, now: i64) {
        self.0.retain(|gone| (now - KEPT..=now).contains(&gone.at));
    }

    /// Whether something was there that this would have fitted.
    pub(super) fn fitted(&self, (tenant, client): (Guid, Guid), presented: Presented<'_>) -> bool {
        let theirs = self.0.iter().filter(|gone| (gone.tenant, gone.client) == (tenant, client));
        theirs.into_iter().any(|gone| gone.credential.compare(presented).matches())
    }
}
