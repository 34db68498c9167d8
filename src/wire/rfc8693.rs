//! Token exchange as RFC 8693 has it, at the v2.0 endpoint: the external token is the `subject_token`.
//!
//! Its clients name the identity in three ways (`client_id`, HTTP Basic, `audience`) and the resource in three
//! (`resource`, `scope`, `audience`); [`Asked`] tells the audiences apart.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::entra::trimmed;
use super::form::Form;
use super::response::{Ids, Wire};
use crate::domain::asked::Asked;
use crate::domain::refusal::Refusal;
use crate::domain::resource::Target;
use crate::signing::Token;

/// The grant type (RFC 8693 section 2.1).
pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Token type identifiers (RFC 8693 section 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// Reads a request; `user` is HTTP Basic's.
pub(super) fn asked(form: &Form<'_>, user: Option<String>) -> Result<(Asked, String), Refusal> {
    let audiences: Vec<String> = form.all("audience").map(str::to_owned).collect();
    let client = form.get("client_id").map(str::to_owned).or(user);
    if client.is_none() && audiences.is_empty() {
        return Err(Refusal::MissingParameter("client_id"));
    }
    let target = target(form)?;
    // One audience for each thing that has no parameter of its own.
    let unnamed = usize::from(client.is_none()) + usize::from(target.is_none());
    if audiences.len() < unnamed {
        return Err(scope_or_resource(form));
    }
    if let Some(odd) = audiences.iter().find(|audience| Target::from_resource(audience).is_none()) {
        return Err(Refusal::ResourceForm(odd.clone()));
    }
    if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
        return Err(Refusal::Malformed(
            "it holds an actor_token, and nobody acts for others here; leave it out",
        ));
    }
    let assertion = trimmed(form, "subject_token").ok_or(Refusal::AssertionAbsent)?;
    if !form.get("subject_token_type").is_some_and(|kind| [JWT, ID_TOKEN].contains(&kind)) {
        return Err(Refusal::MissingParameter("subject_token_type=urn:ietf:params:oauth:token-type:jwt"));
    }
    if form.get("requested_token_type").is_some_and(|kind| ![ACCESS_TOKEN, JWT].contains(&kind)) {
        return Err(Refusal::Malformed(
            "requested_token_type takes urn:ietf:params:oauth:token-type:access_token or urn:ietf:params:oauth:token-type:jwt",
        ));
    }
    Ok((Asked { client, target, audiences }, assertion))
}

/// What names the resource and nothing else: `resource`, else a `scope` that ends in `/.default`.
fn target(form: &Form<'_>) -> Result<Option<Target>, Refusal> {
    let scope = form.get("scope").and_then(Target::from_scope);
    let Some(resource) = form.get("resource") else { return Ok(scope) };
    let target = Target::from_resource(resource).ok_or_else(|| Refusal::ResourceForm(resource.to_owned()))?;
    if scope.is_some_and(|scope| scope != target) {
        return Err(Refusal::Malformed("resource and scope name different resources"));
    }
    Ok(Some(target))
}

/// Nothing names the resource: a scope was meant to, or there is none.
fn scope_or_resource(form: &Form<'_>) -> Refusal {
    form.get("scope").map_or(Refusal::MissingParameter("resource"), |scope| Refusal::Scope(scope.to_owned()))
}

/// The type of token that is issued: an access token, which is a JWT, and is called one for who asks for that.
pub(super) fn issued(form: &Form<'_>) -> &'static str {
    if form.get("requested_token_type") == Some(JWT) { JWT } else { ACCESS_TOKEN }
}

/// RFC 8693 section 2.2.1.
#[derive(Serialize)]
struct Success<'t> {
    access_token: &'t str,
    issued_token_type: &'static str,
    token_type: &'static str,
    expires_in: u32,
}

/// Renders a token.
pub(super) fn success(wire: &Wire, token: &Token, issued: &'static str, ids: &Ids) -> Response<Full<Bytes>> {
    let body = Success {
        access_token: &token.jwt,
        issued_token_type: issued,
        token_type: "Bearer",
        expires_in: token.expires_in,
    };
    wire.json(StatusCode::OK, &body, ids)
}
