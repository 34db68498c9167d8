//! What OAuth calls the errors that Entra calls otherwise, for the clients of RFC 8693.

use http::StatusCode;

use crate::domain::refusal::Reason;

/// Status and name after RFC 6749 section 5.2 and RFC 8693 section 2.2.2, where they are not Entra's: a subject token that is
/// not accepted, for whatever reason, is an invalid request; a resource that is not to be had, an invalid target.
pub(super) fn error(reason: Reason) -> Option<(StatusCode, &'static str)> {
    use Reason as R;
    match reason {
        R::ClientNil | R::ClientUnknown | R::ClientDisabled => {
            Some((StatusCode::UNAUTHORIZED, "invalid_client"))
        }
        R::ResourceForm | R::ResourceUnknown | R::NotAssigned => {
            Some((StatusCode::BAD_REQUEST, "invalid_target"))
        }
        R::AssertionMalformed
        | R::AssertionKind
        | R::ClaimAbsent
        | R::OwnIssuer
        | R::NoCredential
        | R::IssuerUnnamed
        | R::AlgorithmRefused
        | R::KeyIdAbsent
        | R::KeyUnknown
        | R::Signature
        | R::Time
        | R::Lifetime
        | R::SubjectAbsent
        | R::SubjectUnmatched
        | R::AudienceUnmatched
        | R::Replayed => Some((StatusCode::BAD_REQUEST, "invalid_request")),
        R::Method
        | R::Path
        | R::BodyTooLarge
        | R::BodyTooSlow
        | R::Malformed
        | R::MissingParameter
        | R::GrantType
        | R::Scope
        | R::AssertionAbsent
        | R::TenantAbsent
        | R::TenantNil
        | R::TenantForm
        | R::TenantUnknown
        | R::IssuerUnavailable
        | R::AddressRate
        | R::IdentityRate
        | R::InstanceUnknown
        | R::Overloaded
        | R::OneTimeFull
        | R::AuditUnavailable
        | R::SigningUnavailable
        | R::ClockUnset
        | R::Internal => None,
    }
}
