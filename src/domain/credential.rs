//! Identities and their federated identity credentials.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ids::Guid;
use super::refusal::Refusal;
use super::verify::{Claimed, lives_longer};

/// Who a token will be for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name in the directory.
    pub name: String,
    /// The id that callers ask with, unique in its tenant.
    pub client_id: Guid,
    /// The id that role assignments name and tokens carry as `oid` and `sub`.
    pub principal_id: Guid,
    /// The ARM id, when the identity has a place in a subscription.
    pub resource_id: Option<Arc<str>>,
    /// Whether `resource_id` goes into tokens.
    pub kind: IdentityKind,
    /// A disabled identity gets nothing.
    pub enabled: bool,
    /// Where it lives, such as `eastus2`.
    pub location: Option<String>,
    /// Free texts.
    pub tags: BTreeMap<String, String>,
    /// At most [`super::rules::MAX_CREDENTIALS`].
    pub credentials: Vec<Credential>,
}

/// What an identity is in Entra's terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// A user-assigned managed identity; tokens carry its ARM id as `xms_mirid`.
    UserAssigned,
    /// An application's service principal.
    Application,
}

impl IdentityKind {
    /// As written in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserAssigned => "user-assigned",
            Self::Application => "application",
        }
    }
}

/// One federated identity credential: which external token may act as the identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// Unique in its identity.
    pub name: String,
    /// Equal to `iss`, byte for byte.
    pub issuer: Arc<str>,
    /// Equal to `sub`, byte for byte.
    pub subject: String,
    /// Equal to an element of `aud`, byte for byte.
    pub audience: String,
    /// Whether it counts.
    pub state: CredentialState,
    /// Whether an assertion that it vouches for is good for one token only.
    pub jti_once: bool,
    /// Longest `exp` - `iat`, beside the issuer's own limit: the stricter of both holds.
    pub max_token_lifetime: Option<Duration>,
}

/// Whether a credential counts. One that does not is as good as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialState {
    /// It counts.
    Enabled,
    /// In observe mode: what it would match is told to the operator, and refused. Only [`Comparison::would_match`] knows
    /// of it, so that whoever asks whether a credential counts can't take it for one that does.
    Observed,
    /// Switched off in its own record.
    Disabled,
    /// Its issuer is switched off.
    IssuerDisabled,
}

impl CredentialState {
    /// As the digest of a directory has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Observed => "Observed",
            Self::Disabled => "Disabled",
            Self::IssuerDisabled => "IssuerDisabled",
        }
    }
}

/// What a token presents for comparison.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: &'a str,
    /// The elements of `aud` that may match.
    pub audiences: &'a [String],
}

/// One credential held against one token, field by field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// Whether the credential counts at all.
    pub state: CredentialState,
    /// Whether the issuers are the same bytes.
    pub issuer: bool,
    /// Whether the subjects are the same bytes.
    pub subject: bool,
    /// Whether some presented audience is the same bytes.
    pub audience: bool,
}

impl Identity {
    /// Refuses one that is switched off, by the name that it was asked for.
    pub fn in_use(&self, name: &str) -> Result<&Self, Refusal> {
        if self.enabled { Ok(self) } else { Err(Refusal::ClientDisabled(name.to_owned())) }
    }
}

impl Credential {
    /// The one comparison there is: serving and explaining both use it. Bytes, nothing else: no case, no trimming,
    /// no Unicode normalisation, no patterns.
    pub fn compare(&self, presented: Presented<'_>) -> Comparison {
        Comparison {
            state: self.state,
            issuer: *self.issuer == *presented.issuer,
            subject: self.subject == presented.subject,
            audience: presented.audiences.contains(&self.audience),
        }
    }

    /// Refuses an assertion that lives longer than this credential lets it. Only who has been matched may learn that.
    pub fn check_lifetime(&self, claims: &Claimed<'_>) -> Result<(), Refusal> {
        let (issued, expires) = (claims.issued(), claims.expires());
        match self.max_token_lifetime {
            Some(longest) if lives_longer(issued, expires, longest) => {
                Err(Refusal::Lifetime { issued, expires })
            }
            _ => Ok(()),
        }
    }

    /// Whether it counts and names this issuer.
    pub fn names_issuer(&self, issuer: &str) -> bool {
        self.state == CredentialState::Enabled && *self.issuer == *issuer
    }
}

impl Comparison {
    /// Everything fits, and it is in observe mode: it would match if it counted.
    pub fn would_match(self) -> bool {
        self.state == CredentialState::Observed && self.issuer && self.subject && self.audience
    }

    /// Everything fits.
    pub fn matches(self) -> bool {
        self.names_subject() && self.audience
    }

    /// Issuer and subject fit.
    pub fn names_subject(self) -> bool {
        self.state == CredentialState::Enabled && self.issuer && self.subject
    }
}
