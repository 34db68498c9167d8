//! The API: requests of Key Vault's clients, and answers in its shapes.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, HeaderName, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::super::server::{Answer, Platform, json_response};
use super::authority::Authority;
use super::judge::{Caller, Flaw, Rules, judge, key_id};
use super::{Secret, Tenant};
use crate::clock::UnixTime;

type Reply = Response<Full<Bytes>>;

/// What clients meet.
pub(super) struct Api {
    /// `https://localhost:PORT`.
    pub(super) url: String,
    pub(super) challenge: HeaderValue,
    pub(super) authority: Authority,
    pub(super) rules: Rules,
    /// By name.
    pub(super) secrets: Vec<Stored>,
}

/// A secret with its one version.
pub(super) struct Stored {
    pub(super) secret: Secret,
    /// 32 hexadecimal digits.
    pub(super) version: String,
    pub(super) made: UnixTime,
}

/// The API for the server, which wants answers that live on their own.
pub(super) struct Front(pub(super) Arc<Api>);

impl Platform for Front {
    fn answer(&self, request: &Request<Bytes>) -> Option<Answer> {
        let (api, request) = (self.0.clone(), request.clone());
        Some(Answer::Later(Box::pin(async move { api.answer(&request).await })))
    }
}

/// Tells a client that has no token where to get one and for what. `None` when that can't be said in a header.
pub(super) fn challenge(authority: &Tenant, resource: &str) -> Option<HeaderValue> {
    // SDKs look for the comma without regard to the quotes.
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | ',' | '=');
    if resource.is_empty() || !resource.chars().all(plain) {
        return None;
    }
    let text = format!("Bearer authorization=\"{}\", resource=\"{resource}\"", authority.url());
    HeaderValue::try_from(text).ok()
}

/// Whether Key Vault would take it for the name of a secret.
pub(super) fn is_name(text: &str) -> bool {
    (1..=127).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// What there is to do.
#[derive(Debug, PartialEq, Eq)]
enum Operation<'r> {
    List,
    Versions(&'r str),
    Get(&'r str, Option<&'r str>),
}

impl<'r> Operation<'r> {
    fn of(path: &'r str) -> Option<Self> {
        // Clients ask for the newest version with an empty one.
        let segments: Vec<_> = path.strip_prefix("/secrets")?.trim_end_matches('/').split('/').collect();
        match segments.as_slice() {
            [""] => Some(Self::List),
            ["", name] => Some(Self::Get(name, None)),
            ["", name, "versions"] => Some(Self::Versions(name)),
            ["", name, version] => Some(Self::Get(name, Some(version))),
            _ => None,
        }
    }

    /// What it is called in role definitions.
    fn action(&self) -> &'static str {
        match self {
            Self::Get(..) => "Microsoft.KeyVault/vaults/secrets/getSecret/action",
            Self::List | Self::Versions(_) => "Microsoft.KeyVault/vaults/secrets/readMetadata/action",
        }
    }
}

impl Api {
    /// Who is asking comes first, whatever is asked.
    async fn answer(&self, request: &Request<Bytes>) -> Reply {
        match self.caller(request).await {
            Ok(caller) => self.answer_to(&caller, request),
            Err(flaw) => {
                let mut reply = error(StatusCode::UNAUTHORIZED, "Unauthorized", &flaw.to_string());
                reply.headers_mut().insert(WWW_AUTHENTICATE, self.challenge.clone());
                reply
            }
        }
    }

    async fn caller(&self, request: &Request<Bytes>) -> Result<Caller, Flaw> {
        let token = bearer(request).ok_or(Flaw::Absent)?;
        let trusted = self.authority.trusted(&key_id(token)?).await;
        judge(token, &trusted, &self.rules)
    }

    fn answer_to(&self, caller: &Caller, request: &Request<Bytes>) -> Reply {
        let Some(operation) = Operation::of(request.uri().path()) else {
            return error(
                StatusCode::NOT_FOUND,
                "NotFound",
                "There is nothing at this path (hint: /secrets/NAME).",
            );
        };
        if request.method() != Method::GET {
            let mut reply = error(
                StatusCode::METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "This emulated vault can only be read.",
            );
            reply.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return reply;
        }
        if !has_api_version(request.uri().query().unwrap_or_default()) {
            let message = "api-version must be specified (hint: append ?api-version=7.6)";
            return error(StatusCode::BAD_REQUEST, "BadParameter", message);
        }
        if !caller.has_role {
            return self.forbidden(caller, &operation);
        }
        match operation {
            Operation::List => list(self.secrets.iter().map(|stored| self.item(stored, false))),
            Operation::Versions(name) => {
                self.found(name, None, |stored| list([self.item(stored, true)].into_iter()))
            }
            Operation::Get(name, version) => self.found(name, version, |stored| self.bundle(stored)),
        }
    }

    /// As the real service says it, with the role that would have done.
    fn forbidden(&self, caller: &Caller, operation: &Operation<'_>) -> Reply {
        let message = format!(
            "Caller is not authorized to perform action on resource.\r\n\
             If role assignments, deny assignments or role definitions were changed recently, please observe \
             propagation time.\r\n\
             Caller: appid={};oid={};iss={}\r\nAction: '{}'\r\nAssignment: (not found)\r\n\
             The token has no role '{}' (hint: assign it at the scope of the resource, and get a new token)",
            caller.application,
            caller.principal,
            caller.issuer,
            operation.action(),
            self.rules.role,
        );
        let body = json!({
            "error": { "code": "Forbidden", "message": message, "innererror": { "code": "ForbiddenByRbac" } }
        });
        reply(StatusCode::FORBIDDEN, &body)
    }

    fn found(&self, name: &str, version: Option<&str>, answer: impl Fn(&Stored) -> Reply) -> Reply {
        if !is_name(name) {
            let message = "The request URI contains an invalid name: letters, digits and hyphens are valid.";
            return error(StatusCode::BAD_REQUEST, "BadParameter", message);
        }
        let stored = self.secrets.iter().find(|stored| stored.secret.name.eq_ignore_ascii_case(name));
        let stored = stored.filter(|stored| version.is_none_or(|version| version == stored.version));
        stored.map(answer).unwrap_or_else(|| {
            let id = version.map_or_else(|| name.to_owned(), |version| format!("{name}/{version}"));
            let message = format!("A secret with (name/id) {id} was not found in this key vault.");
            error(StatusCode::NOT_FOUND, "SecretNotFound", &message)
        })
    }

    fn bundle(&self, stored: &Stored) -> Reply {
        let mut body = self.item(stored, true);
        body["value"] = json!(stored.secret.value);
        reply(StatusCode::OK, &body)
    }

    /// All but the value.
    fn item(&self, stored: &Stored, with_version: bool) -> Value {
        let mut id = format!("{}/secrets/{}", self.url, stored.secret.name);
        if with_version {
            id = format!("{id}/{}", stored.version);
        }
        json!({
            "id": id,
            "attributes": {
                "enabled": true,
                "created": stored.made,
                "updated": stored.made,
                "recoveryLevel": "Recoverable+Purgeable",
                "recoverableDays": 90,
            },
        })
    }
}

/// The one bearer token of a request; two are as bad as none.
fn bearer(request: &Request<Bytes>) -> Option<&str> {
    let mut headers = request.headers().get_all(AUTHORIZATION).iter();
    let (header, None) = (headers.next()?, headers.next()) else { return None };
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    Some(token.trim()).filter(|token| scheme.eq_ignore_ascii_case("bearer") && !token.is_empty())
}

/// Any will do: the SDKs' newest are newer than we are.
fn has_api_version(query: &str) -> bool {
    url::form_urlencoded::parse(query.as_bytes())
        .any(|(name, value)| name == "api-version" && !value.is_empty())
}

fn list(items: impl Iterator<Item = Value>) -> Reply {
    reply(StatusCode::OK, &json!({ "value": items.collect::<Vec<_>>(), "nextLink": null }))
}

fn error(status: StatusCode, code: &str, message: &str) -> Reply {
    reply(status, &json!({ "error": { "code": code, "message": message } }))
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let mut reply = json_response(status, Bytes::from(body.to_string()));
    let headers = reply.headers_mut();
    // Of secrets nobody keeps a copy.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn paths_are_those_of_the_clients() {
        assert_eq!(Operation::of("/secrets"), Some(Operation::List));
        assert_eq!(Operation::of("/secrets/"), Some(Operation::List));
        assert_eq!(Operation::of("/secrets/a"), Some(Operation::Get("a", None)));
        assert_eq!(Operation::of("/secrets/a/"), Some(Operation::Get("a", None)));
        assert_eq!(Operation::of("/secrets/a/versions"), Some(Operation::Versions("a")));
        assert_eq!(Operation::of(&format!("/secrets/a/{VERSION}")), Some(Operation::Get("a", Some(VERSION))));
        for other in ["/", "", "/keys/a", "/secretsa", "/deletedsecrets", "/secrets/a/b/c", "/v/secrets"] {
            assert_eq!(Operation::of(other), None, "{other}");
        }
    }

    #[test]
    fn a_challenge_can_be_parsed_by_the_simplest_client() {
        let tenant: Tenant = "https://localhost:8443/11111111-1111-1111-1111-111111111111".parse().unwrap();
        assert_eq!(
            challenge(&tenant, "https://vault.azure.net").unwrap(),
            "Bearer authorization=\"https://localhost:8443/11111111-1111-1111-1111-111111111111\", \
             resource=\"https://vault.azure.net\""
        );
        for wrong in ["", "a b", "a\"b", "a,b", "a=b", "a\\b", "a\nb", "\u{e9}"] {
            assert_eq!(challenge(&tenant, wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn one_bearer_token_is_one() {
        let of = |values: &[&str]| {
            let mut request = Request::new(Bytes::new());
            for value in values {
                request.headers_mut().append(AUTHORIZATION, value.parse().unwrap());
            }
            bearer(&request).map(str::to_owned)
        };
        assert_eq!(of(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(of(&["bearer  abc "]).as_deref(), Some("abc"));
        for none in [&[][..], &["abc"], &["Bearer"], &["Bearer "], &["Basic abc"], &["Bearer a", "Bearer a"]]
        {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn some_version_of_the_api_is_named() {
        assert!(has_api_version("api-version=7.6"));
        assert!(has_api_version("maxresults=1&api-version=2026-04-01"));
        for none in ["", "api-version", "api-version=", "apiversion=7.6"] {
            assert!(!has_api_version(none), "{none}");
        }
    }
}
