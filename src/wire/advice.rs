//! `GET /error?code=`: the page that `error_uri` names. Says what a code means and what to check, for the caller's eyes:
//! it knows codes, not requests.

use bytes::Bytes;
use http::header::ACCEPT;
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use url::form_urlencoded;

use super::response::{Ids, Wire};
use crate::domain::refusal::{Reason, Refusal};

/// Answers with HTML for a browser, else JSON.
pub fn error_page(wire: &Wire, parts: &Parts, ids: &Ids) -> Result<Response<Full<Bytes>>, Refusal> {
    let query = parts.uri.query().unwrap_or_default();
    let codes: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "code")
        .map(|(_, value)| value)
        .collect();
    let number: Option<u32> = match codes.as_slice() {
        [one] if one.bytes().all(|byte| byte.is_ascii_digit()) => one.parse().ok(),
        _ => None,
    };
    let code = number.ok_or(Refusal::Malformed("code takes one number, as in /error?code=700213"))?;
    let reasons: Vec<Reason> = Reason::ALL.into_iter().filter(|reason| reason.code() == code).collect();
    if reasons.is_empty() {
        return Err(Refusal::Path);
    }
    let texts: Vec<_> = reasons.iter().map(|reason| advice(*reason)).collect();
    let browser = parts
        .headers
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|v| v.contains("text/html"));
    if browser {
        return Ok(wire.page(html(code, &texts), ids));
    }
    let explained: Vec<_> =
        texts.iter().map(|(meaning, check)| json!({ "meaning": meaning, "check": check })).collect();
    Ok(wire.json(StatusCode::OK, &json!({ "code": code, "explanations": explained }), ids))
}

/// All texts are our own constants, so nothing needs escaping.
fn html(code: u32, texts: &[(&str, &str)]) -> String {
    let sections: String = texts
        .iter()
        .map(|(meaning, check)| format!("<p>{meaning}</p>\n<p><strong>Check:</strong> {check}</p>\n"))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>AADSTS{code}</title>\n\
         <style>body{{font:1.1rem/1.6 system-ui,sans-serif;max-width:42rem;margin:3rem auto;padding:0 1rem}}</style>\n\
         <h1>AADSTS{code}</h1>\n{sections}<p>The operator of this broker finds the request in the audit log by the \
         correlation ID of the error.</p>\n</html>\n"
    )
}

/// What a reason means, and what to check.
#[expect(clippy::too_many_lines, reason = "one exhaustive table")]
pub fn advice(reason: Reason) -> (&'static str, &'static str) {
    match reason {
        Reason::Method => {
            ("The path exists, but not for this HTTP method.", "token endpoints take POST, documents GET.")
        }
        Reason::Path => (
            "There is nothing at this path.",
            "the token endpoint is /{tenant}/oauth2/v2.0/token or /{tenant}/oauth2/token.",
        ),
        Reason::BodyTooLarge => {
            ("The request body is larger than accepted.", "a token request fits into 64 KiB.")
        }
        Reason::BodyTooSlow => {
            ("The request body did not arrive in time.", "the network between client and broker.")
        }
        Reason::Malformed => (
            "The request contradicts itself, repeats a parameter or is not properly encoded.",
            "each parameter is sent once, as application/x-www-form-urlencoded, and no secret beside the assertion.",
        ),
        Reason::MissingParameter => (
            "A required parameter is missing, or the body is not a form.",
            "the Content-Type is application/x-www-form-urlencoded, and the parameter that the error names is in the body.",
        ),
        Reason::GrantType => (
            "The grant type is not served here.",
            "grant_type is client_credentials, or RFC 8693's token-exchange at the v2.0 endpoint.",
        ),
        Reason::Scope => (
            "The scope is not one resource followed by /.default.",
            "scope is the resource's identifier URI with /.default, for example https://vault.azure.net/.default.",
        ),
        Reason::ResourceForm => (
            "The resource is neither a URI nor a client id.",
            "resource (or audience) is the resource's identifier URI, for example https://vault.azure.net, without /.default.",
        ),
        Reason::AssertionAbsent => (
            "The request holds no client_assertion (or subject_token).",
            "the token file or variable of your platform is not empty when it is read.",
        ),
        Reason::TenantAbsent => (
            "The path names no tenant: common, organizations and consumers can't be used to get a token.",
            "the tenant id in the authority URL.",
        ),
        Reason::TenantNil => ("The tenant is the empty GUID.", "the tenant id in the authority URL."),
        Reason::TenantForm => {
            ("The tenant is neither a GUID nor a domain.", "the tenant id in the authority URL.")
        }
        Reason::TenantUnknown => {
            ("This broker has no such tenant.", "the tenant id, and that this is the right broker.")
        }
        Reason::ClientNil => ("The client id is the empty GUID.", "client_id, often an unset variable."),
        Reason::ClientUnknown => (
            "The tenant has no identity with this client id.",
            "client_id is the identity's client id, not its principal id, and belongs to this tenant.",
        ),
        Reason::ClientDisabled => ("The identity is switched off.", "with its owner why it was disabled."),
        Reason::AssertionMalformed => (
            "The assertion is not a JWT that can be read.",
            "that the whole token was sent, without quotes, a Bearer prefix, or the JSON around it.",
        ),
        Reason::AssertionKind => {
            ("The assertion is a JWT of another kind.", "its header has typ JWT or none.")
        }
        Reason::ClaimAbsent => {
            ("The assertion lacks a claim that is required.", "it has iss, aud, exp and iat.")
        }
        Reason::OwnIssuer => (
            "The assertion is a token of this broker, and those can't be exchanged again.",
            "that the platform's own OIDC token is sent.",
        ),
        Reason::NoCredential => (
            "The identity has no federated credential that is switched on.",
            "that the client id is the right one, and ask its owner for a credential.",
        ),
        Reason::IssuerUnnamed => (
            "No federated credential of the identity names the token's issuer.",
            "the iss claim, byte for byte: a slash at its end counts, and a rebuilt cluster has a new issuer.",
        ),
        Reason::AlgorithmRefused => (
            "The token is signed with an algorithm that is not accepted from its issuer.",
            "RS256, ES256 and ES384 are accepted by default; others must be allowed for the issuer.",
        ),
        Reason::KeyIdAbsent => {
            ("The token's header names no key.", "the issuer writes a kid into its tokens.")
        }
        Reason::IssuerUnavailable => (
            "The issuer's discovery document or keys can't be had at the moment.",
            "try again after the time in Retry-After; the operator finds the cause in the audit log.",
        ),
        Reason::KeyUnknown => (
            "The issuer does not publish the key that signed the token.",
            "try again in half a minute if the issuer has just rotated its keys.",
        ),
        Reason::Signature => (
            "The token's signature does not hold.",
            "that the token was not cut, edited or joined with a line break on its way.",
        ),
        Reason::Time => (
            "The token has expired or is not valid yet.",
            "that it is requested right before use (GitHub's live for minutes), and the clocks of both machines.",
        ),
        Reason::Lifetime => (
            "The token lives longer than is accepted from its issuer, or by the credential that it fits.",
            "on Kubernetes, use a projected volume with its own audience and expirationSeconds.",
        ),
        Reason::SubjectAbsent => {
            ("The token has no sub claim.", "how the platform is told to build its subject.")
        }
        Reason::SubjectUnmatched => (
            "No federated credential of the identity has the token's issuer and subject.",
            "the sub claim, byte for byte: a job with an environment has that in its subject instead of the branch.",
        ),
        Reason::AudienceUnmatched => (
            "A federated credential fits in issuer and subject, but not in its audience.",
            "the audience that the platform's token is requested for, usually api://AzureADTokenExchange.",
        ),
        Reason::ResourceUnknown => (
            "The tenant has no resource of this name.",
            "the scope names the resource by an identifier URI or client id of its record.",
        ),
        Reason::NotAssigned => (
            "The resource demands a role assignment, and the identity has none at its scope or above.",
            "ask the resource's owner for a role assignment to the identity's principal id.",
        ),
        Reason::Replayed => (
            "The token has been exchanged already, and the operator lets it be exchanged only once.",
            "that a new token is requested for each exchange, and that nobody else has got hold of this one.",
        ),
        Reason::AddressRate => (
            "There were too many requests from the client's network address.",
            "try again after the time in Retry-After; that tokens are kept until they expire, and that machines behind \
             one address don't loop. The operator may raise limits.per_address.",
        ),
        Reason::IdentityRate => (
            "There were too many token requests for the identity.",
            "try again after the time in Retry-After; that tokens are kept until they expire. The operator may raise \
             limits.per_identity.",
        ),
        Reason::InstanceUnknown => (
            "Instance discovery was asked about an authority that is not this broker.",
            "authorization_endpoint begins with this broker's public URL.",
        ),
        Reason::Overloaded => ("The broker has too much to do.", "try again after the time in Retry-After."),
        Reason::OneTimeFull => (
            "The broker can't remember one more token that may be exchanged only once.",
            "try again after the time in Retry-After; the operator may raise limits.one_time_entries.",
        ),
        Reason::Internal => {
            ("The broker failed over this request.", "with its operator, by the correlation ID.")
        }
        Reason::AuditUnavailable | Reason::SigningUnavailable | Reason::ClockUnset => (
            "The broker can't finish requests at the moment.",
            "try again after the time in Retry-After; the operator finds the cause in the log.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_are_safe_in_html() {
        for reason in Reason::ALL {
            let (meaning, check) = advice(reason);
            assert!(!meaning.contains(['<', '>', '&']) && !check.contains(['<', '>', '&']), "{reason:?}");
        }
    }
}
