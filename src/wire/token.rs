//! Requests to the token endpoints: what all dialects demand of a request, which dialect it is in, and the answer in that dialect.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Response;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use http_body_util::Full;

use super::aadsts::Surface;
use super::form::{self, Form};
use super::response::{Ids, Wire};
use super::{entra, rfc8693};
use crate::domain::refusal::Refusal;
use crate::exchange::TokenRequest;
use crate::metrics::Dialect;
use crate::signing::Token;

/// A token endpoint; which resource a token is for, decides its version, not the endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/{tenant}/oauth2/v2.0/token`.
    V2,
    /// `/{tenant}/oauth2/token`.
    V1,
}

/// A request as its dialect reads it, and how its answer is written.
pub struct TokenCall {
    /// What goes through the spine.
    pub request: Result<TokenRequest, Refusal>,
    style: Style,
}

/// How an answer is written.
pub(super) enum Style {
    EntraV2,
    /// Repeats the `resource` of the request.
    EntraV1 {
        resource: String,
    },
    /// Says what type of token was issued.
    Rfc8693 {
        issued: &'static str,
    },
}

impl TokenCall {
    /// Reads a request. Unknown parameters, query strings and headers are ignored: SDKs send many (reference:
    /// entra-token-service.md section 1.5). The order of the checks is the order in which they are answered.
    pub fn read(endpoint: Endpoint, tenant: &str, parts: &Parts, body: &[u8]) -> Self {
        let form = match read_form(parts, body) {
            Ok(form) => form,
            Err(refusal) => return Self::unread(endpoint, refusal),
        };
        let style = Style::of(endpoint, &form);
        let asked = check(&form, parts, &style).and_then(|()| match &style {
            Style::EntraV2 => entra::asked_v2(&form),
            Style::EntraV1 { .. } => entra::asked_v1(&form),
            Style::Rfc8693 { .. } => rfc8693::asked(&form, basic_user(parts)?),
        });
        let request = asked.map(|(asked, assertion)| TokenRequest {
            tenant: tenant.to_owned(),
            asked,
            assertion: assertion.into(),
        });
        Self { request, style }
    }

    /// A request that ended before it was read.
    pub fn unread(endpoint: Endpoint, refusal: Refusal) -> Self {
        Self { request: Err(refusal), style: Style::of(endpoint, &Form::default()) }
    }

    /// For metrics and the record.
    pub fn dialect(&self) -> Dialect {
        match self.style {
            Style::EntraV2 => Dialect::EntraV2,
            Style::EntraV1 { .. } => Dialect::EntraV1,
            Style::Rfc8693 { .. } => Dialect::Rfc8693,
        }
    }

    /// Renders the decision.
    pub fn answer(&self, wire: &Wire, decision: Result<Token, Refusal>, ids: &Ids) -> Response<Full<Bytes>> {
        let token = match decision {
            Ok(token) => token,
            Err(refusal) => return wire.refusal(&refusal, self.surface(), ids),
        };
        match &self.style {
            Style::EntraV2 => entra::success_v2(wire, &token, ids),
            Style::EntraV1 { resource } => entra::success_v1(wire, &token, resource, ids),
            Style::Rfc8693 { issued } => rfc8693::success(wire, &token, issued, ids),
        }
    }

    fn surface(&self) -> Surface {
        match self.style {
            Style::EntraV2 | Style::EntraV1 { .. } => Surface::Token,
            Style::Rfc8693 { .. } => Surface::Exchange,
        }
    }
}

impl Style {
    fn of(endpoint: Endpoint, form: &Form<'_>) -> Self {
        match endpoint {
            Endpoint::V2 if form.get("grant_type") == Some(rfc8693::GRANT) => {
                Self::Rfc8693 { issued: rfc8693::issued(form) }
            }
            Endpoint::V2 => Self::EntraV2,
            Endpoint::V1 => Self::EntraV1 { resource: form.get("resource").unwrap_or_default().to_owned() },
        }
    }
}

/// Reads the body as a form. A body of another type is answered as Entra does, as if it held no parameter.
fn read_form<'b>(parts: &Parts, body: &'b [u8]) -> Result<Form<'b>, Refusal> {
    let encoded = parts
        .headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if encoded {
        return Err(Refusal::Malformed("its body has a content encoding"));
    }
    Form::parse(body).map_err(|form::BrokenEncoding| {
        if is_form(parts) {
            Refusal::Malformed("a parameter is not percent-encoded UTF-8")
        } else {
            Refusal::MissingParameter("grant_type")
        }
    })
}

/// What all dialects refuse: whatever can be read in two ways.
fn check(form: &Form<'_>, parts: &Parts, style: &Style) -> Result<(), Refusal> {
    let twice = matches!(style, Style::Rfc8693 { .. }).then_some("audience");
    if form.repeats(twice) {
        return Err(Refusal::Malformed("a parameter occurs more than once"));
    }
    let user = basic_user(parts)?;
    if form.get("client_secret").is_some() {
        return Err(Refusal::Malformed(A_SECRET));
    }
    let assertions = ["client_assertion", "assertion", "subject_token", "actor_token"];
    if assertions.iter().filter(|name| form.get(name).is_some()).count() > 1 {
        return Err(Refusal::Malformed("it holds more than one assertion; send one"));
    }
    let client = form.get("client_id");
    if user.is_some_and(|user| client.is_some_and(|client| !client.eq_ignore_ascii_case(&user))) {
        return Err(Refusal::Malformed("client_id and the user of HTTP Basic differ"));
    }
    if is_form(parts) { Ok(()) } else { Err(Refusal::MissingParameter("grant_type")) }
}

const A_SECRET: &str = "it holds a secret, and this broker knows none; send an assertion alone";

/// `application/x-www-form-urlencoded`, once, with optional parameters such as a charset.
fn is_form(parts: &Parts) -> bool {
    let mut types = parts.headers.get_all(CONTENT_TYPE).iter();
    let first = types.next().and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = first.split(';').next().unwrap_or_default().trim();
    types.next().is_none() && essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The user of HTTP Basic, whose password must be empty: it says who is calling, and proves nothing. What can't be decoded may
/// hold a password. Names are percent-encoded there (RFC 6749 section 2.3.1).
fn basic_user(parts: &Parts) -> Result<Option<String>, Refusal> {
    let mut found = None;
    for value in parts.headers.get_all(AUTHORIZATION) {
        let Some((scheme, encoded)) = value.as_bytes().split_at_checked(5) else { continue };
        if !scheme.eq_ignore_ascii_case(b"basic") || encoded.first().is_some_and(u8::is_ascii_alphanumeric) {
            continue;
        }
        let secret = Refusal::Malformed(A_SECRET);
        let pair = STANDARD.decode(encoded.trim_ascii()).map_err(|_| secret.clone())?;
        let colon = pair.iter().position(|byte| *byte == b':');
        let user = colon.filter(|at| at + 1 == pair.len()).map(|at| &pair[..at]).ok_or(secret.clone())?;
        let user = form::decode(user).map_err(|_| secret)?.into_owned();
        if found.replace(user).is_some() {
            return Err(Refusal::Malformed("it has several Authorization headers"));
        }
    }
    Ok(found.filter(|user| !user.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::resource::Target;

    const JWT_BEARER: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
    const JWT: &str = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt";
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
    const MINE: &str = "6f0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6f";

    fn v2() -> String {
        format!(
            "grant_type=client_credentials&client_id={MINE}&scope=api%3A%2F%2Fx%2F.default&client_assertion=a.b.c\
             &client_assertion_type={JWT_BEARER}"
        )
    }

    fn v1() -> String {
        v2().replace("scope=api%3A%2F%2Fx%2F.default", "resource=api%3A%2F%2Fx")
    }

    fn exchange() -> String {
        format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&client_id={MINE}\
             &resource=api%3A%2F%2Fx&subject_token=a.b.c&subject_token_type={JWT}"
        )
    }

    /// Each dialect's honest request.
    fn honest() -> [(Endpoint, String, Dialect); 3] {
        [
            (Endpoint::V2, v2(), Dialect::EntraV2),
            (Endpoint::V1, v1(), Dialect::EntraV1),
            (Endpoint::V2, exchange(), Dialect::Rfc8693),
        ]
    }

    fn read(endpoint: Endpoint, headers: &[(&str, &str)], body: &str) -> TokenCall {
        let mut builder = http::Request::post("/t/oauth2/v2.0/token?client-request-id=x&scope=y");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        TokenCall::read(endpoint, "t", &builder.body(()).unwrap().into_parts().0, body.as_bytes())
    }

    fn granted(endpoint: Endpoint, headers: &[(&str, &str)], body: &str) -> TokenRequest {
        read(endpoint, headers, body).request.unwrap_or_else(|refusal| panic!("{body}: {refusal:?}"))
    }

    fn refusal(endpoint: Endpoint, headers: &[(&str, &str)], body: &str) -> Option<Refusal> {
        read(endpoint, headers, body).request.err()
    }

    fn without(body: &str, name: &str) -> String {
        let kept: Vec<_> = body.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
        kept.join("&")
    }

    #[test]
    fn what_sdks_send_is_accepted_in_every_dialect() {
        for (endpoint, valid, dialect) in honest() {
            for kind in
                ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=utf-8"]
            {
                let extras = format!(
                    "{valid}&client_info=1&x-client-SKU=msal.js.node&claims=%7B%7D&options=%7B%7D&empty="
                );
                let call = read(endpoint, &[("content-type", kind)], &extras);
                assert_eq!(call.dialect(), dialect);
                let request = call.request.ok().unwrap();
                assert_eq!(request.asked.client.as_deref(), Some(MINE));
                assert_eq!(request.asked.target.unwrap().audience().as_ref(), "api://x");
                assert_eq!((request.tenant.as_str(), request.assertion.as_str()), ("t", "a.b.c"));
            }
            let spaced = valid.replace("a.b.c", "%20%09a.b.c%0D%0A");
            assert_eq!(granted(endpoint, &[FORM], &spaced).assertion.as_str(), "a.b.c");
            for kept in ["%EF%BB%BFa.b.c", "%C2%A0a.b.c", "a.b.%0Ac"] {
                assert_ne!(
                    granted(endpoint, &[FORM], &valid.replace("a.b.c", kept)).assertion.as_str(),
                    "a.b.c",
                    "{kept}"
                );
            }
            // The user of HTTP Basic, percent-encoded or not, without a password.
            for user in [MINE.to_owned(), MINE.replace('-', "%2D"), MINE.to_uppercase(), String::new()] {
                let basic = format!("Basic {}", STANDARD.encode(format!("{user}:")));
                let headers = [FORM, ("authorization", &basic), ("content-encoding", "identity")];
                assert!(refusal(endpoint, &headers, &valid).is_none(), "{user}");
            }
            assert!(refusal(endpoint, &[FORM, ("authorization", "Bearer x")], &valid).is_none());
        }
        // Of another dialect, and so unknown.
        granted(Endpoint::V2, &[FORM], &format!("{}&resource=api://other&audience=x", v2()));
        granted(Endpoint::V1, &[FORM], &format!("{}&scope=api://other/.default", v1()));
    }

    #[test]
    fn each_parameter_is_demanded_in_its_order() {
        for (endpoint, valid, names) in [
            (
                Endpoint::V2,
                v2(),
                ["grant_type", "client_id", "scope", "client_assertion", "client_assertion_type"],
            ),
            (
                Endpoint::V1,
                v1(),
                ["grant_type", "client_id", "resource", "client_assertion", "client_assertion_type"],
            ),
        ] {
            let mut body = valid.clone();
            for name in names.into_iter().rev() {
                body = without(&body, name);
                let expected = if name == "client_assertion" {
                    Refusal::AssertionAbsent
                } else {
                    Refusal::MissingParameter(name)
                };
                assert_eq!(refusal(endpoint, &[FORM], &body), Some(expected.clone()));
                assert_eq!(
                    refusal(endpoint, &[FORM], &without(&valid, name)),
                    Some(expected),
                    "{name} alone"
                );
            }
            let blank = valid.replace("a.b.c", "%20%0A");
            assert_eq!(refusal(endpoint, &[FORM], &blank), Some(Refusal::AssertionAbsent));
            let saml = valid.replace("jwt-bearer", "saml2-bearer");
            assert_eq!(
                refusal(endpoint, &[FORM], &saml),
                Some(Refusal::MissingParameter("client_assertion_type"))
            );
            let password = valid.replace("client_credentials", "password");
            assert_eq!(refusal(endpoint, &[FORM], &password), Some(Refusal::GrantType("password".into())));
        }
        let scope = v2().replace("%2F.default", "");
        assert_eq!(refusal(Endpoint::V2, &[FORM], &scope), Some(Refusal::Scope("api://x".into())));
        let resource = v1().replace("api%3A%2F%2Fx", "a+b");
        assert_eq!(refusal(Endpoint::V1, &[FORM], &resource), Some(Refusal::ResourceForm("a b".into())));
        let exchanges = Some(Refusal::GrantType("urn:ietf:params:oauth:grant-type:token-exchange".into()));
        assert_eq!(refusal(Endpoint::V1, &[FORM], &exchange()), exchanges);
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (endpoint, valid, _) in honest() {
            let malformed = |headers: &[(&str, &str)], body: &str| {
                matches!(refusal(endpoint, headers, body), Some(Refusal::Malformed(_)))
            };
            for pair in valid.split('&').chain(["unknown=1", "audience=a&audience=b"]) {
                assert!(malformed(&[FORM], &format!("{valid}&{pair}&{pair}")), "{pair}");
            }
            assert!(malformed(&[FORM], &format!("{valid}&x=%zz")));
            assert!(malformed(&[FORM], &format!("{valid}&client_secret=s")));
            for basic in [
                "basic Yzpwdw==",
                "Basic Yzpwdw",
                "Basic Yzpwd-8=",
                "Basic ?",
                "Basic Yzo=",
                "Basic\tYzpwdw==",
                "Basic",
                "Basic:Yzo=",
            ] {
                assert!(malformed(&[FORM, ("authorization", basic)], &valid), "{basic}");
            }
            let twice = ("authorization", "Basic Og==");
            assert!(malformed(&[FORM, twice, twice], &valid));
            for second in ["assertion", "actor_token", "client_assertion", "subject_token"] {
                let body = format!("{}&{second}=d.e.f", without(&valid, second));
                let is_the_first = valid.contains(&format!("&{second}="));
                assert_eq!(malformed(&[FORM], &body), !is_the_first, "{second}");
            }
            assert!(malformed(&[FORM, ("content-encoding", "gzip")], &valid));
        }
    }

    #[test]
    fn other_content_types_hold_no_parameters() {
        let absent = Some(Refusal::MissingParameter("grant_type"));
        for (endpoint, valid, _) in honest() {
            for kind in [
                "application/json",
                "text/plain",
                "application/x-www-form-urlencodedx",
                "multipart/form-data",
                "",
            ] {
                assert_eq!(refusal(endpoint, &[("content-type", kind)], &valid), absent, "{kind}");
            }
            assert_eq!(refusal(endpoint, &[], &valid), absent);
            assert_eq!(refusal(endpoint, &[FORM, FORM], &valid), absent);
            assert_eq!(refusal(endpoint, &[("content-type", "application/json")], "{\"a\":\"50%\"}"), absent);
        }
    }

    #[test]
    fn an_exchange_names_identity_and_resource_in_three_ways_each() {
        let bare = without(&without(&exchange(), "client_id"), "resource");
        let basic = format!("Basic {}", STANDARD.encode(format!("{MINE}:")));
        let user = ("authorization", basic.as_str());
        let uri = |uri: &str| Target::Uri(uri.to_owned());
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>, Option<Target>, &'a [&'a str]);
        let cases: &[Case<'_>] = &[
            ("client_id=c&resource=r", &[FORM], Some("c"), Some(uri("r")), &[]),
            ("resource=r", &[FORM, user], Some(MINE), Some(uri("r")), &[]),
            ("audience=i&resource=r", &[FORM], None, Some(uri("r")), &["i"]),
            ("audience=i&scope=s/.default", &[FORM], None, Some(uri("s")), &["i"]),
            ("audience=i&audience=r", &[FORM], None, None, &["i", "r"]),
            ("client_id=c&audience=r&scope=openid", &[FORM], Some("c"), None, &["r"]),
            (
                "client_id=c&resource=r&scope=r/.default&audience=a",
                &[FORM],
                Some("c"),
                Some(uri("r")),
                &["a"],
            ),
        ];
        for (with, headers, client, target, audiences) in cases {
            let asked = granted(Endpoint::V2, headers, &format!("{bare}&{with}")).asked;
            assert_eq!((asked.client.as_deref(), &asked.target), (*client, target), "{with}");
            assert_eq!(asked.audiences, *audiences, "{with}");
        }
        let different = Refusal::Malformed("resource and scope name different resources");
        for (with, expected) in [
            ("client_id=c&resource=r&scope=s/.default", different),
            ("resource=r", Refusal::MissingParameter("client_id")),
            ("client_id=c", Refusal::MissingParameter("resource")),
            ("audience=i", Refusal::MissingParameter("resource")),
            ("client_id=c&scope=openid", Refusal::Scope("openid".into())),
            ("client_id=c&scope=a/.default+b/.default", Refusal::Scope("a/.default b/.default".into())),
            ("client_id=c&resource=a+b", Refusal::ResourceForm("a b".into())),
            ("client_id=c&audience=a+b", Refusal::ResourceForm("a b".into())),
        ] {
            assert_eq!(refusal(Endpoint::V2, &[FORM], &format!("{bare}&{with}")), Some(expected), "{with}");
        }
    }

    #[test]
    fn an_exchange_states_its_token_types() {
        let typed = |from: &str, to: &str| refusal(Endpoint::V2, &[FORM], &exchange().replace(from, to));
        assert_eq!(typed("token-type%3Ajwt", "token-type%3Aid_token"), None);
        let expected =
            Some(Refusal::MissingParameter("subject_token_type=urn:ietf:params:oauth:token-type:jwt"));
        assert_eq!(typed("token-type%3Ajwt", "token-type%3Aaccess_token"), expected);
        assert_eq!(refusal(Endpoint::V2, &[FORM], &without(&exchange(), "subject_token_type")), expected);
        let absent = refusal(Endpoint::V2, &[FORM], &without(&exchange(), "subject_token"));
        assert_eq!(absent, Some(Refusal::AssertionAbsent));
        for (requested, accepted) in
            [("access_token", true), ("jwt", true), ("saml2", false), ("refresh_token", false)]
        {
            let body =
                format!("{}&requested_token_type=urn:ietf:params:oauth:token-type:{requested}", exchange());
            assert_eq!(refusal(Endpoint::V2, &[FORM], &body).is_none(), accepted, "{requested}");
        }
        let acting = format!("{}&actor_token_type={JWT}", exchange());
        assert!(matches!(refusal(Endpoint::V2, &[FORM], &acting), Some(Refusal::Malformed(_))));
    }
}
