//! What entries are found and counted by.

use super::entry::Entry;

/// A field of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// By id, or as it was asked for.
    Tenant,
    /// By name, client id or principal id.
    Identity,
    /// In the form in which it was asked for.
    Resource,
    /// The credential that matched.
    Credential,
    /// `iss`.
    Issuer,
    /// `sub`.
    Subject,
    /// What the subject says of it.
    Repository,
    /// The platform's run, or the job in it.
    Run,
    /// `jti`.
    TokenId,
    /// SHA-256 of the assertion.
    Digest,
    /// The number after `AADSTS`.
    Code,
    /// A word for it.
    Reason,
    /// What was found to be the cause.
    Cause,
    /// `uti` of the token.
    Uti,
    /// The caller's id of the call.
    Correlation,
    /// Our id of the request.
    Trace,
    /// The client's address.
    Client,
}

impl Field {
    /// Every name that an entry has there, the best one first.
    pub fn values(self, entry: &Entry) -> [Option<String>; 3] {
        let Entry { assertion, status, .. } = entry;
        let one = |text: &Option<String>| [text.clone(), None, None];
        match self {
            Self::Tenant => one(&entry.tenant_id),
            Self::Identity => {
                [&entry.identity_name, &entry.app_id, &entry.service_principal_id].map(Clone::clone)
            }
            Self::Resource => one(&entry.resource),
            Self::Credential => one(&entry.federated_credential_name),
            Self::Issuer => one(&assertion.issuer),
            Self::Subject => one(&assertion.subject),
            Self::Repository => [entry.repository(), None, None],
            Self::Run => [assertion.run_id.clone(), assertion.job_id.clone(), None],
            Self::TokenId => one(&assertion.jwt_id),
            Self::Digest => one(&assertion.digest),
            Self::Code => [(status.error_code != 0).then(|| status.error_code.to_string()), None, None],
            Self::Reason => one(&status.reason),
            Self::Cause => one(&entry.near_miss.cause),
            Self::Uti => one(&entry.unique_token_identifier),
            Self::Correlation => one(&entry.correlation_id),
            Self::Trace => one(&entry.trace_id),
            Self::Client => one(&entry.ip_address),
        }
    }

    /// Whether a sum of refusals may lack it although the decisions in it had it.
    pub(super) fn is_lost_in_sums(self) -> bool {
        !matches!(self, Self::Code | Self::Reason)
    }

    /// Whether its values are the same in upper and lower case, for whoever gives them out.
    pub(super) fn folds_case(self) -> bool {
        matches!(
            self,
            Self::Tenant
                | Self::Identity
                | Self::Repository
                | Self::Digest
                | Self::Cause
                | Self::Correlation
                | Self::Trace
        )
    }
}
