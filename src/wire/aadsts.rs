//! Refusals as Entra says them (reference: entra-token-service.md section 2): one exhaustive match from refusal to wire.
//!
//! The texts hold what the caller presented and nothing of what is configured.

use std::borrow::Cow;

use http::StatusCode;
use time::OffsetDateTime;
use time::macros::format_description;

use super::oauth;
use crate::domain::refusal::{Outage, Refusal};
use crate::secret::before_token;

/// Where a refusal is given; one code has two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// Token endpoints, to Entra's clients.
    Token,
    /// The token endpoint, to those of RFC 8693.
    Exchange,
    /// Documents.
    Discovery,
}

/// A refusal on the wire, short of ids and time.
#[derive(Debug)]
pub(super) struct Rendered {
    pub(super) status: StatusCode,
    pub(super) error: &'static str,
    pub(super) text: String,
    pub(super) retry_after: Option<u32>,
}

const HOW_TO_MATCH: &str = "Check the federated credential's issuer, subject and audience against the presented token; \
    they are compared byte for byte. https://learn.microsoft.com/entra/workload-id/workload-identity-federation";

/// A refusal in the words of its surface.
pub(super) fn render(refusal: &Refusal, surface: Surface) -> Rendered {
    let rendered = said(refusal, surface);
    match oauth::error(refusal.reason()).filter(|_| surface == Surface::Exchange) {
        Some((status, error)) => Rendered { status, error, ..rendered },
        None => rendered,
    }
}

/// The whole mapping. Causes that a change of the directory cures are 401: MSAL replays a 400 from its cache for a minute.
#[expect(clippy::too_many_lines, reason = "one exhaustive table")]
fn said(refusal: &Refusal, surface: Surface) -> Rendered {
    use Refusal as R;
    let bad = |text: String| rendered(StatusCode::BAD_REQUEST, "invalid_request", text);
    let client = |text: String| rendered(StatusCode::UNAUTHORIZED, "invalid_client", text);
    let curable = |error, text: String| rendered(StatusCode::UNAUTHORIZED, error, text);
    match refusal {
        R::Method { accepted, received } => Rendered {
            status: StatusCode::METHOD_NOT_ALLOWED,
            ..bad(format!(
                "The endpoint only accepts {accepted} requests. Received a {} request.",
                plain(received)
            ))
        },
        R::Path => Rendered { status: StatusCode::NOT_FOUND, ..bad("There is nothing at this path.".into()) },
        R::BodyTooLarge => Rendered {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            ..bad("The request body is larger than this endpoint accepts.".into())
        },
        R::BodyTooSlow => Rendered {
            status: StatusCode::REQUEST_TIMEOUT,
            ..bad("The request body did not arrive in time.".into())
        },
        R::Malformed(what) => bad(format!("Invalid request. Request is malformed or invalid: {what}.")),
        R::MissingParameter(name) => {
            bad(format!("The request body must contain the following parameter: '{name}'."))
        }
        R::GrantType(grant) => rendered(
            StatusCode::BAD_REQUEST,
            "unsupported_grant_type",
            format!("The app requested an unsupported grant type '{}'.", plain(grant)),
        ),
        R::Scope(scope) => rendered(
            StatusCode::BAD_REQUEST,
            "invalid_scope",
            format!(
                "The provided value for scope {} is not valid. Client credential flows must have a scope value with \
                 /.default suffixed to the resource identifier (application ID URI).",
                plain(scope)
            ),
        ),
        R::ResourceForm(resource) => rendered(
            StatusCode::BAD_REQUEST,
            "invalid_resource",
            format!(
                "The resource name '{}' is not valid. It takes the identifier URI or the client id of one resource.",
                plain(resource)
            ),
        ),
        R::AssertionAbsent if surface == Surface::Exchange => {
            bad("'subject_token' is required for the 'token-exchange' grant type.".into())
        }
        R::AssertionAbsent => {
            bad("'client_assertion' is required for the 'client_credentials' grant type.".into())
        }
        R::TenantAbsent => {
            bad("No tenant-identifying information found in either the request or implied by any \
             provided credentials. Put the tenant's id or domain into the path."
                .into())
        }
        R::TenantNil => bad("The tenant identifier is an empty GUID.".into()),
        R::TenantForm(tenant) => bad(format!(
            "Specified tenant identifier '{}' is neither a valid DNS name, nor a valid external domain.",
            plain(tenant)
        )),
        R::TenantUnknown(tenant) => Rendered {
            error: if surface == Surface::Discovery { "invalid_tenant" } else { "invalid_request" },
            ..bad(format!(
                "Tenant '{}' not found. Check that you have the correct tenant ID and are signing into the correct broker.",
                plain(tenant)
            ))
        },
        R::ClientNil => rendered(
            StatusCode::BAD_REQUEST,
            "unauthorized_client",
            "'00000000-0000-0000-0000-000000000000' is not a valid application identifier.".into(),
        ),
        R::ClientUnknown { client, tenant } => curable(
            "unauthorized_client",
            format!(
                "Application with identifier '{}' was not found in the directory '{}'. It may not be registered \
                 there, or the request may have been sent to the wrong tenant.",
                plain(client),
                plain(tenant)
            ),
        ),
        R::ClientDisabled(client) => {
            curable("unauthorized_client", format!("Application '{}' is disabled.", plain(client)))
        }
        R::AssertionMalformed(why) => bad(format!("JWT token is invalid or malformed: {why}.")),
        R::AssertionKind(kind) => bad(format!(
            "Invalid JWT token. The header type '{}' is not allowed; expected 'JWT'.",
            plain(kind)
        )),
        R::ClaimAbsent(name) => bad(format!(
            "The required field '{name}' is missing from the credential. Ensure that you have all the necessary \
             parameters for the login request."
        )),
        R::OwnIssuer(issuer) => client(format!(
            "The assertion was issued by this broker ('{}'). A token obtained through a federated credential may \
             not itself be used as one.",
            plain(issuer)
        )),
        R::NoCredential(name) => {
            client(format!("The client '{}' has no configured federated identity credentials.", plain(name)))
        }
        R::IssuerUnnamed(issuer) => no_match("issuer", issuer),
        R::SubjectUnmatched(subject) => no_match("subject", subject),
        R::AudienceUnmatched(audience) => no_match("audience", audience),
        R::AlgorithmRefused(name) => client(format!(
            "Invalid JWT token. '{}' is not a supported signature algorithm for this issuer.",
            plain(name)
        )),
        R::KeyIdAbsent => client(
            "Invalid JWT token. No certificate SHA-1 thumbprint, certificate SHA-256 thumbprint, nor keyId \
             specified in token header."
                .into(),
        ),
        R::IssuerUnavailable { issuer, retry_after } => Rendered {
            retry_after: Some((*retry_after).clamp(1, 30)),
            ..unavailable(format!("Request to External OIDC endpoint failed. Issuer: '{}'.", plain(issuer)))
        },
        R::KeyUnknown { key_id, issuer } => client(format!(
            "The key with identifier '{}' used to sign the federated credential was not found in the metadata of \
             identity provider '{}'. Check the keys that it publishes.",
            plain(key_id),
            plain(issuer)
        )),
        R::Signature => client("Client assertion contains an invalid signature.".into()),
        R::Time { now, valid_from, expires } => client(format!(
            "Client assertion is not within its valid time range. Current time: {}, assertion valid from {}, expiry \
             time of assertion {}.",
            round_trip(*now),
            round_trip(*valid_from),
            round_trip(*expires)
        )),
        R::Lifetime { issued, expires } => client(format!(
            "External OIDC Provider token has a longer lifetime than is accepted. Token issued at {issued}. Token \
             expires on {expires}."
        )),
        R::SubjectAbsent => client("The client assertion has no subject claim ('sub').".into()),
        R::ResourceUnknown { resource, tenant } => curable(
            "invalid_resource",
            format!(
                "The resource principal named {} was not found in the tenant named {}. It may not be registered \
                 there, or the request may have been sent to the wrong tenant.",
                plain(resource),
                plain(tenant)
            ),
        ),
        R::NotAssigned { client, resource } => curable(
            "invalid_grant",
            format!(
                "Application '{client}' is not assigned to a role for the application '{}'.",
                plain(resource)
            ),
        ),
        R::Replayed => client(
            "The assertion has been exchanged already, and it may be exchanged only once. Request a new one."
                .into(),
        ),
        R::AddressRate(seconds) => throttled(
            "There are too many requests from this network address. Wait as long as Retry-After says, and use a token \
             until it expires instead of requesting another one.",
            *seconds,
        ),
        R::IdentityRate(seconds) => throttled(
            "There are too many token requests for this client. Wait as long as Retry-After says, and use a token until \
             it expires instead of requesting another one.",
            *seconds,
        ),
        R::InstanceUnknown => {
            rendered(StatusCode::BAD_REQUEST, "invalid_instance", "Unknown or invalid instance.".into())
        }
        R::Unavailable(Outage::Overloaded) => {
            Rendered { retry_after: Some(1), ..unavailable("The broker is busy. Please try again.".into()) }
        }
        // Room comes as what is remembered expires, which is not soon.
        R::Unavailable(Outage::OneTimeFull) => {
            Rendered { retry_after: Some(30), ..unavailable("The broker is busy. Please try again.".into()) }
        }
        R::Unavailable(Outage::Audit | Outage::Signing | Outage::Clock) => {
            unavailable("The service is temporarily unavailable. Please try again.".into())
        }
        R::Unavailable(Outage::Internal) => {
            rendered(StatusCode::INTERNAL_SERVER_ERROR, "server_error", "The service failed.".into())
        }
    }
}

fn rendered(status: StatusCode, error: &'static str, text: String) -> Rendered {
    Rendered { status, error, text, retry_after: None }
}

fn unavailable(text: String) -> Rendered {
    Rendered {
        retry_after: Some(5),
        ..rendered(StatusCode::SERVICE_UNAVAILABLE, "temporarily_unavailable", text)
    }
}

fn throttled(text: &str, seconds: u32) -> Rendered {
    Rendered {
        retry_after: Some(seconds),
        ..rendered(StatusCode::TOO_MANY_REQUESTS, "temporarily_unavailable", text.to_owned())
    }
}

fn no_match(field: &str, presented: &str) -> Rendered {
    let text = format!(
        "No matching federated identity record found for presented assertion {field} '{}'. {HOW_TO_MATCH}",
        plain(presented)
    );
    rendered(StatusCode::UNAUTHORIZED, "invalid_client", text)
}

/// Longest presented value that is echoed, in characters.
const LONGEST_ECHO: usize = 256;

/// A presented value as it may stand in `error_description`: ASCII that needs no JSON escape, or the Rust SDK shows a
/// parse error instead of our text (reference: azure-clients.md section 1, point 6). A token in its place is left out.
pub(super) fn plain(presented: &str) -> Cow<'_, str> {
    let shown = presented.char_indices().nth(LONGEST_ECHO).map_or(presented, |(end, _)| &presented[..end]);
    if let Some(before) = before_token(shown) {
        return Cow::Owned(format!("{}***", plain(before)));
    }
    let fits = |c: char| matches!(c, ' '..='~') && c != '"' && c != '\\';
    if shown.chars().all(fits) {
        return Cow::Borrowed(shown);
    }
    shown.chars().map(|c| if fits(c) { c } else { '?' }).collect()
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The `timestamp` of an error.
pub(super) fn stamp(seconds: i64) -> String {
    at(seconds)
        .format(format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z"))
        .unwrap_or_default()
}

/// .NET's round-trip form with seven digits, as Entra prints times. Later than the year 9999 reads as 1970.
fn round_trip(seconds: i64) -> String {
    at(seconds)
        .format(format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].0000000Z"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::ids::Guid;

    proptest! {
        #[test]
        fn descriptions_need_no_json_escape(presented in any::<String>()) {
            let said = || presented.clone();
            for refusal in [
                Refusal::Method { accepted: "POST", received: said() },
                Refusal::GrantType(said()),
                Refusal::Scope(said()),
                Refusal::ResourceForm(said()),
                Refusal::TenantForm(said()),
                Refusal::TenantUnknown(said()),
                Refusal::ClientUnknown { client: said(), tenant: said() },
                Refusal::ClientDisabled(said()),
                Refusal::NoCredential(said()),
                Refusal::AssertionKind(said()),
                Refusal::OwnIssuer(said()),
                Refusal::IssuerUnnamed(said()),
                Refusal::AlgorithmRefused(said()),
                Refusal::IssuerUnavailable { issuer: said(), retry_after: 1 },
                Refusal::KeyUnknown { key_id: said(), issuer: said() },
                Refusal::SubjectUnmatched(said()),
                Refusal::AudienceUnmatched(said()),
                Refusal::ResourceUnknown { resource: said(), tenant: said() },
                Refusal::NotAssigned { client: Guid::from_random([1; 16]), resource: said() },
            ] {
                let text = render(&refusal, Surface::Token).text;
                prop_assert_eq!(serde_json::to_string(&text).unwrap(), format!("\"{text}\""));
                prop_assert!(text.is_ascii() && text.len() < 1000);
            }
        }
    }

    #[test]
    fn times_are_written_as_entra_writes_them() {
        assert_eq!(stamp(1_767_323_045), "2026-01-02 03:04:05Z");
        assert_eq!(round_trip(0), "1970-01-01T00:00:00.0000000Z");
        assert_eq!(round_trip(i64::MAX), "1970-01-01T00:00:00.0000000Z");
    }
}
