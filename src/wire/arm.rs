//! The resource manager's answers that az needs to sign in, and no more: which cloud this is, which subscriptions and
//! which tenant the caller may see (reference: azure-clients.md sections 3 and 5, azure-management-and-imds.md section 4).
//!
//! Read only. But for the cloud's description everything asks for a token of ours first ([`crate::domain::bearer`]).

use std::borrow::Cow;
use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::aadsts::{plain, stamp};
use super::response::{Ids, Wire};
use crate::domain::bearer::{self, Caller, Denied, resource_managers};
use crate::domain::directory::Directory;
use crate::domain::ids::Guid;
use crate::domain::tenant::Tenant;
use crate::signing::Keys;

/// From this version on the cloud's description is an object; before, a list of one.
const OBJECT_SINCE: &str = "2022-09-01";
/// The cloud may be remembered for a day, as our other documents.
const MAX_AGE: u64 = 86_400;

/// What a path of the resource manager asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked<'p> {
    /// How to sign in here.
    Endpoints,
    /// The subscriptions that the caller has a role in.
    Subscriptions,
    /// One of them.
    Subscription(&'p str),
    /// The caller's tenant.
    Tenants,
    /// Anything else that a resource manager would have.
    Other,
}

impl<'p> Asked<'p> {
    /// Reads a path as resource managers do: without regard to case and to empty segments, which clients make of an
    /// origin that is given with a slash behind it. None when the path is not one of a resource manager.
    pub fn of(path: &'p str) -> Option<Self> {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let first = segments.next()?;
        let is = |segment: &str, name: &str| segment.eq_ignore_ascii_case(name);
        let rest = [segments.next(), segments.next()];
        Some(match rest {
            [Some(second), None] if is(first, "metadata") && is(second, "endpoints") => Self::Endpoints,
            [None, _] if is(first, "subscriptions") => Self::Subscriptions,
            [Some(id), None] if is(first, "subscriptions") => Self::Subscription(id),
            [None, _] if is(first, "tenants") => Self::Tenants,
            _ if ["subscriptions", "tenants", "providers"].iter().any(|name| is(first, name)) => Self::Other,
            _ => return None,
        })
    }
}

/// Answers a request to the resource manager, refusals included.
pub fn answer(
    wire: &Wire,
    (directory, keys): (&Directory, &Keys),
    (parts, asked): (&Parts, Asked<'_>),
    ids: &Ids,
) -> Response<Full<Bytes>> {
    if asked == Asked::Endpoints && parts.method == Method::OPTIONS {
        return wire.preflight(ids);
    }
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        return Fault::method(&parts.method).render(wire, ids);
    }
    let answer = match asked {
        Asked::Endpoints => api_version(parts).map(|version| {
            let cloud = cloud(&wire.public_url);
            let body = if *version < *OBJECT_SINCE { json!([cloud]) } else { cloud };
            wire.document(&body, MAX_AGE, ids)
        }),
        _ => protected(wire, (directory, keys), (parts, asked))
            .map(|body| wire.json(StatusCode::OK, &body, ids)),
    };
    answer.unwrap_or_else(|fault| {
        tracing::debug!(correlation = %ids.correlation, code = fault.code, "a resource manager request is refused");
        fault.render(wire, ids)
    })
}

/// There is too much to do.
pub fn busy(wire: &Wire, ids: &Ids) -> Response<Full<Bytes>> {
    let message = "The broker is busy. Please try again.";
    let fault = Fault::new(StatusCode::SERVICE_UNAVAILABLE, "ServerBusy", message);
    let mut response = fault.render(wire, ids);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// The client's address asks too often; it may again after so many seconds.
pub fn throttled(wire: &Wire, seconds: u32, ids: &Ids) -> Response<Full<Bytes>> {
    let message = "There are too many requests from this network address. Wait as long as Retry-After says.";
    let fault = Fault::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
    let mut response = fault.render(wire, ids);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// Who calls comes first: a stranger learns nothing, not even which paths are served.
fn protected(
    wire: &Wire,
    (directory, keys): (&Directory, &Keys),
    (parts, asked): (&Parts, Asked<'_>),
) -> Result<Value, Fault> {
    let now = wire.clock.now();
    let caller =
        bearer::caller(token(parts)?, &wire.public_url, directory, |kid| keys.verifier(kid, now), now)
            .map_err(|denied| Fault::denied(&denied, &wire.public_url))?;
    if asked == Asked::Other {
        return Err(Fault::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            "This broker serves nothing at this path.",
        ));
    }
    api_version(parts)?;
    match asked {
        Asked::Subscription(id) => {
            let found = Guid::parse(id).filter(|id| subscriptions(&caller).contains(id));
            found.map(|id| subscription(caller.tenant(), id)).ok_or_else(|| {
                let message = format!("The subscription '{}' could not be found.", plain(id));
                Fault::new(StatusCode::NOT_FOUND, "SubscriptionNotFound", message)
            })
        }
        Asked::Tenants => Ok(json!({ "value": [tenant(caller.tenant())] })),
        _ => {
            let mine = subscriptions(&caller);
            let list: Vec<_> = mine.iter().map(|id| subscription(caller.tenant(), *id)).collect();
            Ok(json!({ "value": list }))
        }
    }
}

/// Every value counts as a version: clients come with many, and the answers do not differ.
fn api_version(parts: &Parts) -> Result<String, Fault> {
    let query = parts.uri.query().unwrap_or_default();
    let found = form_urlencoded::parse(query.as_bytes())
        .find(|(name, value)| name.eq_ignore_ascii_case("api-version") && !value.is_empty());
    found.map(|(_, value)| value.into_owned()).ok_or_else(|| {
        let message = "The api-version query parameter (?api-version=) is required for all requests.";
        Fault::new(StatusCode::BAD_REQUEST, "MissingApiVersionParameter", message)
    })
}

/// The token of the one `Authorization` header.
fn token(parts: &Parts) -> Result<&str, Fault> {
    let unauthorized = |code, why| Fault::new(StatusCode::UNAUTHORIZED, code, why);
    let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
    let Some(header) = headers.next() else {
        let why = "Authentication failed. The 'Authorization' header is missing.";
        return Err(unauthorized("AuthenticationFailed", why));
    };
    let presented =
        header.to_str().ok().and_then(|text| text.split_once(' ')).filter(|_| headers.next().is_none());
    let bearer = presented.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    bearer.map(|(_, token)| token.trim()).ok_or_else(|| {
        let why = "Authentication failed. The 'Authorization' header is provided in an invalid format.";
        unauthorized("AuthenticationFailedInvalidHeader", why)
    })
}

/// How to sign in here, as az reads it. Every host in it is ours, Microsoft Graph too although it is not served: no
/// client shall take a token of ours elsewhere. az asks for tokens for the first audience, and SDKs for the same one.
fn cloud(origin: &str) -> Value {
    json!({
        "name": "ficus",
        "resourceManager": origin,
        "graph": origin,
        "graphAudience": origin,
        "microsoftGraphResourceId": origin,
        "authentication": {
            "loginEndpoint": origin,
            "audiences": resource_managers(origin),
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "suffixes": {},
    })
}

fn subscriptions<'d>(caller: &Caller<'d>) -> Cow<'d, BTreeSet<Guid>> {
    caller.tenant().subscriptions(caller.principal())
}

/// Subscriptions have no names here but their ids.
fn subscription(tenant: &Tenant, id: Guid) -> Value {
    json!({
        "id": format!("/subscriptions/{id}"),
        "subscriptionId": id,
        "displayName": id,
        "state": "Enabled",
        "tenantId": tenant.id,
        "managedByTenants": [],
        "authorizationSource": "RoleBased",
    })
}

fn tenant(tenant: &Tenant) -> Value {
    let mut body = json!({
        "id": format!("/tenants/{}", tenant.id),
        "tenantId": tenant.id,
        "displayName": tenant.id,
        "tenantCategory": "Home",
        "tenantType": "AAD",
        "domains": [],
    });
    if let Some(domain) = &tenant.domain {
        body["displayName"] = json!(domain);
        body["defaultDomain"] = json!(domain);
        body["domains"] = json!([domain]);
    }
    body
}

/// A refusal as resource managers say it.
struct Fault {
    status: StatusCode,
    code: &'static str,
    message: String,
    /// Where to sign in, when that is known.
    tenant: Option<Guid>,
}

impl Fault {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), tenant: None }
    }

    fn method(received: &Method) -> Self {
        let message =
            format!("The requested resource does not support http method '{}'.", plain(received.as_str()));
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    /// Values in the text are the caller's own, of a token that we signed.
    fn denied(denied: &Denied, origin: &str) -> Self {
        let (code, message) = match denied {
            Denied::Invalid => ("InvalidAuthenticationToken", "The access token is invalid.".to_owned()),
            Denied::Expired { expires, now } => (
                "ExpiredAuthenticationToken",
                format!(
                    "The access token expiry UTC time '{}' is earlier than current UTC time '{}'.",
                    stamp(*expires),
                    stamp(*now)
                ),
            ),
            Denied::Audience { audience, .. } => {
                let names = resource_managers(origin).map(|name| format!("'{name}','{name}/'")).join(",");
                let message = format!(
                    "The access token has been obtained for wrong audience or resource '{}'. It should exactly match \
                     with one of the allowed audiences {names}.",
                    plain(audience)
                );
                ("InvalidAuthenticationTokenAudience", message)
            }
            Denied::Tenant { issuer } => (
                "InvalidAuthenticationTokenTenant",
                format!(
                    "The access token is from the wrong issuer '{}'. Its tenant does not issue by this name.",
                    plain(issuer)
                ),
            ),
            Denied::Identity { principal, .. } => (
                "InvalidAuthenticationToken",
                format!(
                    "The identity '{principal}' of the access token does not exist any more, or is disabled."
                ),
            ),
        };
        let tenant = match denied {
            Denied::Identity { tenant, .. } | Denied::Audience { tenant, .. } => Some(*tenant),
            Denied::Invalid | Denied::Expired { .. } | Denied::Tenant { .. } => None,
        };
        Self { tenant, ..Self::new(StatusCode::UNAUTHORIZED, code, message) }
    }

    fn render(&self, wire: &Wire, ids: &Ids) -> Response<Full<Bytes>> {
        let body = json!({ "error": { "code": self.code, "message": self.message } });
        let mut response = wire.json(self.status, &body, ids);
        if self.status == StatusCode::UNAUTHORIZED {
            let segment = self.tenant.map_or_else(|| "common".to_owned(), |tenant| tenant.to_string());
            let challenge = format!(
                "Bearer authorization_uri=\"{}/{segment}\", error=\"invalid_token\", error_description=\"{}\"",
                wire.public_url, self.message
            );
            let challenge = HeaderValue::from_str(&challenge).unwrap_or(HeaderValue::from_static("Bearer"));
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_without_regard_to_case_and_empty_segments() {
        for path in ["/metadata/endpoints", "//Metadata/Endpoints", "/METADATA//endpoints/"] {
            assert_eq!(Asked::of(path), Some(Asked::Endpoints), "{path}");
        }
        assert_eq!(Asked::of("/Subscriptions"), Some(Asked::Subscriptions));
        assert_eq!(Asked::of("//subscriptions/X/"), Some(Asked::Subscription("X")));
        assert_eq!(Asked::of("/TENANTS/"), Some(Asked::Tenants));
        for other in ["/subscriptions/s/resourceGroups", "/providers", "/tenants/t", "/providers/x/y/z"] {
            assert_eq!(Asked::of(other), Some(Asked::Other), "{other}");
        }
        for none in ["", "/", "//", "/metadata", "/metadata/endpoints/x", "/subscription", "/x/subscriptions"]
        {
            assert_eq!(Asked::of(none), None, "{none}");
        }
    }

    fn request(headers: &[(&str, &str)], uri: &str) -> Parts {
        let mut builder = http::Request::get(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    #[test]
    fn one_bearer_token_is_read() {
        let read = |headers: &[(&str, &str)]| {
            token(&request(headers, "/tenants")).map(str::to_owned).map_err(|fault| fault.code)
        };
        for scheme in ["Bearer", "bearer", "BEARER"] {
            assert_eq!(read(&[("authorization", &format!("{scheme}  a.b.c"))]), Ok("a.b.c".to_owned()));
        }
        assert_eq!(read(&[]), Err("AuthenticationFailed"));
        let invalid = Err("AuthenticationFailedInvalidHeader".to_owned());
        for header in ["Bearer", "a.b.c", "Basic a.b.c", "Bearer\ta.b.c", ""] {
            assert_eq!(read(&[("authorization", header)]).map_err(str::to_owned), invalid, "{header}");
        }
        let twice = [("authorization", "Bearer a.b.c"); 2];
        assert_eq!(read(&twice).map_err(str::to_owned), invalid);
    }

    #[test]
    fn any_version_will_do_but_there_must_be_one() {
        let version = |query: &str| api_version(&request(&[], &format!("/tenants?{query}"))).ok();
        assert_eq!(version("api-version=2022-12-01").as_deref(), Some("2022-12-01"));
        assert_eq!(version("x=1&API%2DVersion=latest").as_deref(), Some("latest"));
        for none in ["", "api-version", "api-version=", "version=2022-12-01"] {
            assert_eq!(version(none), None, "{none}");
        }
    }
}
