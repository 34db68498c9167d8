//! Every way to say no. A refusal is stable: dialects render it, metrics and the audit record name its [`Reason`].

use super::ids::Guid;

/// A "no", with the values that the caller itself presented and nothing of what is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The path takes other methods only.
    Method {
        /// What the path accepts, such as `POST`.
        accepted: &'static str,
        /// What was sent.
        received: String,
    },
    /// No such path.
    Path,
    /// The body is larger than the limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTooSlow,
    /// The request contradicts itself or names something twice; says what.
    Malformed(&'static str),
    /// A required parameter is absent.
    MissingParameter(&'static str),
    /// A grant type that this endpoint does not serve.
    GrantType(String),
    /// The scope is not one resource with `/.default`.
    Scope(String),
    /// The resource is neither a URI nor a client id.
    ResourceForm(String),
    /// No assertion and no other credential.
    AssertionAbsent,
    /// `common` and the like name no tenant.
    TenantAbsent,
    /// The all-zero tenant.
    TenantNil,
    /// Neither a GUID nor a domain name.
    TenantForm(String),
    /// No such tenant here.
    TenantUnknown(String),
    /// The all-zero client id.
    ClientNil,
    /// No such identity in this tenant.
    ClientUnknown {
        /// As presented.
        client: String,
        /// As presented.
        tenant: String,
    },
    /// The identity, as presented, is disabled.
    ClientDisabled(String),
    /// The assertion is not a JWT that we read; says why.
    AssertionMalformed(&'static str),
    /// The header's `typ` announces something that is not a plain JWT.
    AssertionKind(String),
    /// A required claim is absent.
    ClaimAbsent(&'static str),
    /// Our own token came back as an assertion.
    OwnIssuer(String),
    /// The identity, as presented, has no enabled credential.
    NoCredential(String),
    /// No enabled credential of the identity names this issuer.
    IssuerUnnamed(String),
    /// The algorithm is not accepted from this issuer.
    AlgorithmRefused(String),
    /// The header names no key.
    KeyIdAbsent,
    /// The issuer's keys can't be had now.
    IssuerUnavailable {
        /// As presented.
        issuer: String,
        /// Seconds after which to try again, 1 to 30.
        retry_after: u32,
    },
    /// The issuer publishes no key of this id.
    KeyUnknown {
        /// As presented.
        key_id: String,
        /// As presented.
        issuer: String,
    },
    /// The signature does not hold.
    Signature,
    /// Outside the assertion's time range.
    Time {
        /// Our time, seconds since 1970.
        now: i64,
        /// `nbf`, else 0; or `iat` when that is what lies ahead.
        valid_from: i64,
        /// `exp`.
        expires: i64,
    },
    /// `exp` - `iat` is longer than accepted.
    Lifetime {
        /// `iat`.
        issued: i64,
        /// `exp`.
        expires: i64,
    },
    /// No subject.
    SubjectAbsent,
    /// No enabled credential has this issuer and subject.
    SubjectUnmatched(String),
    /// Issuer and subject fit, the audience does not.
    AudienceUnmatched(String),
    /// No such resource in the tenant.
    ResourceUnknown {
        /// As presented.
        resource: String,
        /// As presented.
        tenant: String,
    },
    /// The resource demands a role assignment, and there is none.
    NotAssigned {
        /// The client.
        client: Guid,
        /// The resource, as presented.
        resource: String,
    },
    /// An assertion that is good for one token only has got one already.
    Replayed,
    /// Too many requests from the client's address; seconds after which to try again, 1 to 60.
    AddressRate(u32),
    /// Too many tokens for the identity; seconds as above.
    IdentityRate(u32),
    /// Instance discovery was asked about an authority that is not this one.
    InstanceUnknown,
    /// Our side could not finish; a retry may.
    Unavailable(Outage),
}

/// What of ours is not there at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// More requests in flight than the limit.
    Overloaded,
    /// No room to remember one more assertion that is good for one token only.
    OneTimeFull,
    /// The decision can't be recorded, so nothing may leave.
    Audit,
    /// The token can't be signed.
    Signing,
    /// Our clock was never set, so nothing can be said of times.
    Clock,
    /// A fault in ficus itself.
    Internal,
}

/// The name of a refusal in metrics, the audit record and the explanation page: a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is explained at the Refusal of the same name")]
pub enum Reason {
    Method,
    Path,
    BodyTooLarge,
    BodyTooSlow,
    Malformed,
    MissingParameter,
    GrantType,
    Scope,
    ResourceForm,
    AssertionAbsent,
    TenantAbsent,
    TenantNil,
    TenantForm,
    TenantUnknown,
    ClientNil,
    ClientUnknown,
    ClientDisabled,
    AssertionMalformed,
    AssertionKind,
    ClaimAbsent,
    OwnIssuer,
    NoCredential,
    IssuerUnnamed,
    AlgorithmRefused,
    KeyIdAbsent,
    IssuerUnavailable,
    KeyUnknown,
    Signature,
    Time,
    Lifetime,
    SubjectAbsent,
    SubjectUnmatched,
    AudienceUnmatched,
    ResourceUnknown,
    NotAssigned,
    Replayed,
    AddressRate,
    IdentityRate,
    InstanceUnknown,
    Overloaded,
    OneTimeFull,
    AuditUnavailable,
    SigningUnavailable,
    ClockUnset,
    Internal,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 45] = [
        Self::Method,
        Self::Path,
        Self::BodyTooLarge,
        Self::BodyTooSlow,
        Self::Malformed,
        Self::MissingParameter,
        Self::GrantType,
        Self::Scope,
        Self::ResourceForm,
        Self::AssertionAbsent,
        Self::TenantAbsent,
        Self::TenantNil,
        Self::TenantForm,
        Self::TenantUnknown,
        Self::ClientNil,
        Self::ClientUnknown,
        Self::ClientDisabled,
        Self::AssertionMalformed,
        Self::AssertionKind,
        Self::ClaimAbsent,
        Self::OwnIssuer,
        Self::NoCredential,
        Self::IssuerUnnamed,
        Self::AlgorithmRefused,
        Self::KeyIdAbsent,
        Self::IssuerUnavailable,
        Self::KeyUnknown,
        Self::Signature,
        Self::Time,
        Self::Lifetime,
        Self::SubjectAbsent,
        Self::SubjectUnmatched,
        Self::AudienceUnmatched,
        Self::ResourceUnknown,
        Self::NotAssigned,
        Self::Replayed,
        Self::AddressRate,
        Self::IdentityRate,
        Self::InstanceUnknown,
        Self::Overloaded,
        Self::OneTimeFull,
        Self::AuditUnavailable,
        Self::SigningUnavailable,
        Self::ClockUnset,
        Self::Internal,
    ];

    /// The label in metrics and in the audit record.
    pub fn label(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Path => "path",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::Malformed => "malformed",
            Self::MissingParameter => "missing_parameter",
            Self::GrantType => "grant_type",
            Self::Scope => "scope",
            Self::ResourceForm => "resource_form",
            Self::AssertionAbsent => "assertion_absent",
            Self::TenantAbsent => "tenant_absent",
            Self::TenantNil => "tenant_nil",
            Self::TenantForm => "tenant_form",
            Self::TenantUnknown => "tenant_unknown",
            Self::ClientNil => "client_nil",
            Self::ClientUnknown => "client_unknown",
            Self::ClientDisabled => "client_disabled",
            Self::AssertionMalformed => "assertion_malformed",
            Self::AssertionKind => "assertion_kind",
            Self::ClaimAbsent => "claim_absent",
            Self::OwnIssuer => "own_issuer",
            Self::NoCredential => "no_credential",
            Self::IssuerUnnamed => "issuer_unnamed",
            Self::AlgorithmRefused => "algorithm_refused",
            Self::KeyIdAbsent => "key_id_absent",
            Self::IssuerUnavailable => "issuer_unavailable",
            Self::KeyUnknown => "key_unknown",
            Self::Signature => "signature",
            Self::Time => "time",
            Self::Lifetime => "lifetime",
            Self::SubjectAbsent => "subject_absent",
            Self::SubjectUnmatched => "subject_unmatched",
            Self::AudienceUnmatched => "audience_unmatched",
            Self::ResourceUnknown => "resource_unknown",
            Self::NotAssigned => "not_assigned",
            Self::Replayed => "replayed",
            Self::AddressRate => "address_rate",
            Self::IdentityRate => "identity_rate",
            Self::InstanceUnknown => "instance_unknown",
            Self::Overloaded => "overloaded",
            Self::OneTimeFull => "one_time_full",
            Self::AuditUnavailable => "audit_unavailable",
            Self::SigningUnavailable => "signing_unavailable",
            Self::ClockUnset => "clock_unset",
            Self::Internal => "internal",
        }
    }

    /// The number after `AADSTS` (reference: entra-token-service.md section 2.3).
    pub fn code(self) -> u32 {
        match self {
            Self::Method => 900_561,
            Self::Path => 90_023,
            Self::BodyTooLarge | Self::BodyTooSlow => 90_013,
            Self::Malformed => 9_002_313,
            Self::MissingParameter => 900_144,
            Self::GrantType => 70_003,
            Self::Scope => 1_002_012,
            Self::ResourceForm => 500_012,
            Self::AssertionAbsent => 7_000_216,
            Self::TenantAbsent => 50_059,
            Self::TenantNil => 900_021,
            Self::TenantForm => 900_023,
            Self::TenantUnknown => 90_002,
            Self::ClientNil => 700_038,
            Self::ClientUnknown => 700_016,
            Self::ClientDisabled => 7_000_112,
            Self::AssertionMalformed => 50_027,
            Self::AssertionKind => 5_002_727,
            Self::ClaimAbsent => 90_014,
            Self::OwnIssuer => 700_231,
            Self::NoCredential => 70_025,
            Self::IssuerUnnamed => 700_211,
            Self::AlgorithmRefused => 5_002_738,
            Self::KeyIdAbsent => 5_002_723,
            Self::IssuerUnavailable => 50_166,
            Self::KeyUnknown => 7_000_272,
            Self::Signature => 700_027,
            Self::Time => 700_024,
            Self::Lifetime => 70_023,
            Self::SubjectAbsent => 700_022,
            Self::SubjectUnmatched => 700_213,
            Self::AudienceUnmatched => 700_212,
            Self::ResourceUnknown => 500_011,
            Self::NotAssigned => 501_051,
            Self::Replayed => 50_013,
            Self::AddressRate | Self::IdentityRate => 90_055,
            Self::InstanceUnknown => 50_049,
            Self::Overloaded | Self::OneTimeFull => 90_024,
            Self::AuditUnavailable => 90_033,
            Self::SigningUnavailable | Self::ClockUnset => 90_006,
            Self::Internal => 90_020,
        }
    }
}

impl Refusal {
    /// The reason, without the values.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Method { .. } => Reason::Method,
            Self::Path => Reason::Path,
            Self::BodyTooLarge => Reason::BodyTooLarge,
            Self::BodyTooSlow => Reason::BodyTooSlow,
            Self::Malformed(_) => Reason::Malformed,
            Self::MissingParameter(_) => Reason::MissingParameter,
            Self::GrantType(_) => Reason::GrantType,
            Self::Scope(_) => Reason::Scope,
            Self::ResourceForm(_) => Reason::ResourceForm,
            Self::AssertionAbsent => Reason::AssertionAbsent,
            Self::TenantAbsent => Reason::TenantAbsent,
            Self::TenantNil => Reason::TenantNil,
            Self::TenantForm(_) => Reason::TenantForm,
            Self::TenantUnknown(_) => Reason::TenantUnknown,
            Self::ClientNil => Reason::ClientNil,
            Self::ClientUnknown { .. } => Reason::ClientUnknown,
            Self::ClientDisabled(_) => Reason::ClientDisabled,
            Self::AssertionMalformed(_) => Reason::AssertionMalformed,
            Self::AssertionKind(_) => Reason::AssertionKind,
            Self::ClaimAbsent(_) => Reason::ClaimAbsent,
            Self::OwnIssuer(_) => Reason::OwnIssuer,
            Self::NoCredential(_) => Reason::NoCredential,
            Self::IssuerUnnamed(_) => Reason::IssuerUnnamed,
            Self::AlgorithmRefused(_) => Reason::AlgorithmRefused,
            Self::KeyIdAbsent => Reason::KeyIdAbsent,
            Self::IssuerUnavailable { .. } => Reason::IssuerUnavailable,
            Self::KeyUnknown { .. } => Reason::KeyUnknown,
            Self::Signature => Reason::Signature,
            Self::Time { .. } => Reason::Time,
            Self::Lifetime { .. } => Reason::Lifetime,
            Self::SubjectAbsent => Reason::SubjectAbsent,
            Self::SubjectUnmatched(_) => Reason::SubjectUnmatched,
            Self::AudienceUnmatched(_) => Reason::AudienceUnmatched,
            Self::ResourceUnknown { .. } => Reason::ResourceUnknown,
            Self::NotAssigned { .. } => Reason::NotAssigned,
            Self::Replayed => Reason::Replayed,
            Self::AddressRate(_) => Reason::AddressRate,
            Self::IdentityRate(_) => Reason::IdentityRate,
            Self::InstanceUnknown => Reason::InstanceUnknown,
            Self::Unavailable(Outage::Overloaded) => Reason::Overloaded,
            Self::Unavailable(Outage::OneTimeFull) => Reason::OneTimeFull,
            Self::Unavailable(Outage::Audit) => Reason::AuditUnavailable,
            Self::Unavailable(Outage::Signing) => Reason::SigningUnavailable,
            Self::Unavailable(Outage::Clock) => Reason::ClockUnset,
            Self::Unavailable(Outage::Internal) => Reason::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_reason_is_listed_once_under_a_label_of_its_own() {
        let labels: HashSet<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
        assert_eq!(labels.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index, "{reason:?} is not in its place");
        }
        assert_eq!(Reason::Internal as usize + 1, Reason::ALL.len());
    }
}
