//! Entra's token requests: `client_credentials` with a federated `client_assertion`, v2.0 (`scope`, numbers) and v1.0
//! (`resource`, numbers as strings). Reference: entra-token-service.md section 1.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::form::Form;
use super::response::{Ids, Wire};
use crate::domain::asked::Asked;
use crate::domain::refusal::Refusal;
use crate::domain::resource::Target;
use crate::signing::Token;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Reads a v2.0 request.
pub(super) fn asked_v2(form: &Form<'_>) -> Result<(Asked, String), Refusal> {
    let client = client(form)?;
    let scope = need(form, "scope")?;
    let target = Target::from_scope(scope).ok_or_else(|| Refusal::Scope(scope.to_owned()))?;
    Ok((Asked::plainly(client, target), assertion(form)?))
}

/// Reads a v1.0 request.
pub(super) fn asked_v1(form: &Form<'_>) -> Result<(Asked, String), Refusal> {
    let client = client(form)?;
    let resource = need(form, "resource")?;
    let target = Target::from_resource(resource).ok_or_else(|| Refusal::ResourceForm(resource.to_owned()))?;
    Ok((Asked::plainly(client, target), assertion(form)?))
}

fn need<'f>(form: &'f Form<'_>, name: &'static str) -> Result<&'f str, Refusal> {
    form.get(name).ok_or(Refusal::MissingParameter(name))
}

fn client(form: &Form<'_>) -> Result<String, Refusal> {
    let grant = need(form, "grant_type")?;
    if grant != "client_credentials" {
        return Err(Refusal::GrantType(grant.to_owned()));
    }
    need(form, "client_id").map(str::to_owned)
}

fn assertion(form: &Form<'_>) -> Result<String, Refusal> {
    let assertion = trimmed(form, "client_assertion").ok_or(Refusal::AssertionAbsent)?;
    if form.get("client_assertion_type") != Some(JWT_BEARER) {
        return Err(Refusal::MissingParameter("client_assertion_type"));
    }
    Ok(assertion)
}

/// An assertion. A token file's newline comes along as it is (Python azure-identity, Rust); nothing else is repaired.
pub(super) fn trimmed(form: &Form<'_>, name: &str) -> Option<String> {
    let assertion = form.get(name)?.trim_matches([' ', '\t', '\r', '\n']);
    (!assertion.is_empty()).then(|| assertion.to_owned())
}

/// Renders a token for v2.0. Numbers are numbers; there is no `scope` and no `client_info`, which would make MSAL Go fail.
pub(super) fn success_v2(wire: &Wire, token: &Token, ids: &Ids) -> Response<Full<Bytes>> {
    let (lifetime, jwt) = (token.expires_in, token.jwt.as_str());
    // A token is base64url and dots. Looking for what to escape in it would take longer than all the rest here.
    let head = format!(
        r#"{{"token_type":"Bearer","expires_in":{lifetime},"ext_expires_in":{lifetime},"access_token":""#
    );
    let body = [&head, jwt, r#""}"#].concat();
    wire.json_text(StatusCode::OK, body, ids)
}

/// What v1.0 clients read: every number is a string.
#[derive(Serialize)]
struct SuccessV1<'t> {
    token_type: &'static str,
    expires_in: String,
    ext_expires_in: String,
    expires_on: String,
    not_before: String,
    resource: &'t str,
    access_token: &'t str,
}

/// Renders a token for v1.0.
pub(super) fn success_v1(wire: &Wire, token: &Token, resource: &str, ids: &Ids) -> Response<Full<Bytes>> {
    let body = SuccessV1 {
        token_type: "Bearer",
        expires_in: token.expires_in.to_string(),
        ext_expires_in: token.expires_in.to_string(),
        expires_on: token.expires.to_string(),
        not_before: token.not_before.to_string(),
        resource,
        access_token: &token.jwt,
    };
    wire.json(StatusCode::OK, &body, ids)
}
