//! Every way to say no. A refusal is stable: dialects render it, metrics and the audit record name its [`Reason`].

use super::ids::Guid;
pub use super::reason::Reason;

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
