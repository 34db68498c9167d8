//! Entra's v2.0 token endpoint: `client_credentials` with a federated `client_assertion`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::form::{Fault, Form};
use super::response::{Ids, Wire};
use crate::domain::refusal::Refusal;
use crate::domain::resource::Target;
use crate::exchange::TokenRequest;
use crate::signing::Token;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Reads a request. Unknown parameters, query strings and headers are ignored: SDKs send many (reference:
/// entra-token-service.md section 1.5). The order of the checks is the order in which they are answered.
pub fn parse(tenant: &str, parts: &Parts, body: &[u8]) -> Result<TokenRequest, Refusal> {
    let form = form(parts, body)?;
    if form.get("client_secret").is_some() || has_password(parts) {
        return Err(Refusal::Malformed(
            "it holds a secret, and this broker knows none; send a client_assertion alone",
        ));
    }
    let second = ["assertion", "subject_token", "actor_token"];
    if form.get("client_assertion").is_some() && second.iter().any(|name| form.get(name).is_some()) {
        return Err(Refusal::Malformed("it holds a second assertion beside client_assertion"));
    }
    let Some(form) = Some(form).filter(|_| is_form(parts)) else {
        return Err(Refusal::MissingParameter("grant_type"));
    };
    let need = |name: &'static str| form.get(name).ok_or(Refusal::MissingParameter(name));
    let grant = need("grant_type")?;
    if grant != "client_credentials" {
        return Err(Refusal::GrantType(grant.to_owned()));
    }
    let client = need("client_id")?;
    let scope = need("scope")?;
    let target = Target::from_scope(scope).ok_or_else(|| Refusal::Scope(scope.to_owned()))?;
    // A token file's newline comes along as it is (Python azure-identity, Rust); nothing else is repaired.
    let assertion = form.get("client_assertion").unwrap_or_default().trim_matches([' ', '\t', '\r', '\n']);
    if assertion.is_empty() {
        return Err(Refusal::AssertionAbsent);
    }
    if form.get("client_assertion_type") != Some(JWT_BEARER) {
        return Err(Refusal::MissingParameter("client_assertion_type"));
    }
    Ok(TokenRequest {
        tenant: tenant.to_owned(),
        client: client.to_owned(),
        target,
        assertion: assertion.to_owned(),
    })
}

/// Reads the body as a form. A body of another type is answered as Entra does, as if it held no parameter.
fn form<'b>(parts: &Parts, body: &'b [u8]) -> Result<Form<'b>, Refusal> {
    let encoded = parts
        .headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(Refusal::Malformed("its body has a content encoding"));
    }
    match Form::parse(body) {
        Ok(form) => Ok(form),
        Err(Fault::Repeated) => Err(Refusal::Malformed("a parameter occurs more than once")),
        Err(Fault::Encoding) if is_form(parts) => {
            Err(Refusal::Malformed("a parameter is not percent-encoded UTF-8"))
        }
        Err(Fault::Encoding) => Err(Refusal::MissingParameter("grant_type")),
    }
}

/// `application/x-www-form-urlencoded`, once, with optional parameters such as a charset.
fn is_form(parts: &Parts) -> bool {
    let mut types = parts.headers.get_all(CONTENT_TYPE).iter();
    let first = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = first.split(';').next().unwrap_or_default().trim();
    types.next().is_none() && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Whether HTTP Basic brings a password. An empty one says only who is calling; what can't be decoded may hold one.
fn has_password(parts: &Parts) -> bool {
    parts.headers.get_all(AUTHORIZATION).iter().any(|value| {
        let Some((scheme, encoded)) = value.as_bytes().split_at_checked(6) else { return false };
        let empty =
            |decoded: Vec<u8>| decoded.iter().position(|byte| *byte == b':') == decoded.len().checked_sub(1);
        scheme.eq_ignore_ascii_case(b"basic ") && !STANDARD.decode(encoded.trim_ascii()).is_ok_and(empty)
    })
}

/// What v2.0 clients read. Numbers are numbers; there is no `scope` and no `client_info`, which would make MSAL Go fail.
#[derive(Serialize)]
struct Success<'t> {
    token_type: &'static str,
    expires_in: u32,
    ext_expires_in: u32,
    access_token: &'t str,
}

/// Renders a token.
pub fn success(wire: &Wire, token: &Token, ids: &Ids) -> Response<Full<Bytes>> {
    let body = Success {
        token_type: "Bearer",
        expires_in: token.expires_in,
        ext_expires_in: token.expires_in,
        access_token: &token.jwt,
    };
    wire.json(StatusCode::OK, &body, ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "grant_type=client_credentials&client_id=c&scope=api%3A%2F%2Fx%2F.default&client_assertion=a.b.c\
        &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut builder = http::Request::post("/t/oauth2/v2.0/token?client-request-id=x");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

    fn refusal(headers: &[(&str, &str)], body: &str) -> Option<Refusal> {
        parse("t", &parts(headers), body.as_bytes()).err()
    }

    fn malformed(headers: &[(&str, &str)], body: &str) -> bool {
        matches!(refusal(headers, body), Some(Refusal::Malformed(_)))
    }

    #[test]
    fn what_sdks_send_is_accepted() {
        for content_type in
            ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"]
        {
            let extras =
                format!("{VALID}&client_info=1&x-client-SKU=msal.js.node&claims=%7B%7D&resource=api://other");
            let parsed = parse("t", &parts(&[("content-type", content_type)]), extras.as_bytes()).unwrap();
            assert_eq!((parsed.client.as_str(), parsed.assertion.as_str()), ("c", "a.b.c"));
        }
        let spaced = VALID.replace("a.b.c", "%20%09a.b.c%0D%0A");
        assert_eq!(parse("t", &parts(&[FORM]), spaced.as_bytes()).unwrap().assertion, "a.b.c");
        for kept in ["%EF%BB%BFa.b.c", "%C2%A0a.b.c", "a.b.%0Ac"] {
            let parsed = parse("t", &parts(&[FORM]), VALID.replace("a.b.c", kept).as_bytes()).unwrap();
            assert_ne!(parsed.assertion, "a.b.c", "{kept}");
        }
        let basic = ("authorization", "Basic Yzo=");
        assert!(refusal(&[FORM, basic, ("content-encoding", "identity")], VALID).is_none());
    }

    #[test]
    fn each_parameter_is_demanded_in_its_order() {
        let without = |name: &str| {
            let kept: Vec<_> =
                VALID.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
            refusal(&[FORM], &kept.join("&"))
        };
        for name in ["grant_type", "client_id", "scope", "client_assertion_type"] {
            assert_eq!(without(name), Some(Refusal::MissingParameter(name)));
        }
        assert_eq!(without("client_assertion"), Some(Refusal::AssertionAbsent));
        assert_eq!(refusal(&[FORM], &VALID.replace("a.b.c", "%20%0A")), Some(Refusal::AssertionAbsent));
        let saml = VALID.replace("jwt-bearer", "saml2-bearer");
        assert_eq!(refusal(&[FORM], &saml), Some(Refusal::MissingParameter("client_assertion_type")));
        let password = VALID.replace("client_credentials", "password");
        assert_eq!(refusal(&[FORM], &password), Some(Refusal::GrantType("password".into())));
        let scope = VALID.replace("%2F.default", "");
        assert_eq!(refusal(&[FORM], &scope), Some(Refusal::Scope("api://x".into())));
        assert_eq!(refusal(&[FORM], ""), Some(Refusal::MissingParameter("grant_type")));
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for pair in VALID.split('&').chain(["unknown=1"]) {
            assert!(malformed(&[FORM], &format!("{VALID}&{pair}&{pair}")), "{pair}");
        }
        assert!(malformed(&[FORM], &format!("{VALID}&x=%zz")));
        assert!(malformed(&[FORM], &format!("{VALID}&client_secret=s")));
        for basic in ["basic Yzpwdw==", "Basic Yzpwdw", "Basic Yzpwd-8=", "Basic ?"] {
            assert!(malformed(&[FORM, ("authorization", basic)], VALID), "{basic}");
        }
        assert!(malformed(&[FORM], &format!("{VALID}&assertion=a.b.c")));
        assert!(malformed(&[FORM], &format!("{VALID}&subject_token=a.b.c")));
        assert!(malformed(&[FORM, ("content-encoding", "gzip")], VALID));
    }

    #[test]
    fn other_content_types_hold_no_parameters() {
        let absent = Some(Refusal::MissingParameter("grant_type"));
        for content_type in [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencodedx",
            "multipart/form-data",
            "",
        ] {
            assert_eq!(refusal(&[("content-type", content_type)], VALID), absent, "{content_type}");
        }
        assert_eq!(refusal(&[], VALID), absent);
        assert_eq!(refusal(&[FORM, FORM], VALID), absent);
        assert_eq!(refusal(&[("content-type", "application/json")], "{\"a\":\"50%\"}"), absent);
    }
}
