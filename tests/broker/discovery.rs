//! The documents that clients and APIs read before or after a token: configuration, keys, instance, error pages.

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ficus::domain::refusal::Reason;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};

use crate::support::*;

fn configuration(tenant: &str) -> String {
    format!("/{tenant}/v2.0/.well-known/openid-configuration")
}

fn configuration_v1(tenant: &str) -> String {
    format!("/{tenant}/.well-known/openid-configuration")
}

/// Where the configuration of v2.0 is, by OpenID Connect and by RFC 8414.
fn configurations(tenant: &str) -> [String; 2] {
    [configuration(tenant), format!("/.well-known/oauth-authorization-server/{tenant}/v2.0")]
}

/// The whole document of v2.0; `keys` is whose keys it points at.
fn document(world: &World, segment: &str, issuer: &str, keys: &str) -> Value {
    let authority = &world.authority;
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{authority}/{segment}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{authority}/{segment}/oauth2/v2.0/token"),
        "jwks_uri": format!("{authority}/{keys}/discovery/v2.0/keys"),
        "token_endpoint_auth_methods_supported": ["private_key_jwt", "none"],
        "grant_types_supported": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
        "scopes_supported": ["openid"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        "request_uri_parameter_supported": false,
        "http_logout_supported": false,
        "frontchannel_logout_supported": false,
        "cloud_instance_name": authority.strip_prefix("https://").unwrap(),
        "tenant_region_scope": null,
        "claims_supported": [
            "aud", "iss", "iat", "nbf", "exp", "azp", "azpacr", "idtyp", "oid", "roles", "sub", "tid", "uti", "ver"
        ],
    })
}

/// The same of v1.0.
fn document_v1(world: &World, segment: &str, issuer: &str, keys: &str) -> Value {
    let authority = &world.authority;
    let mut document = document(world, segment, issuer, keys);
    document["authorization_endpoint"] = json!(format!("{authority}/{segment}/oauth2/authorize"));
    document["token_endpoint"] = json!(format!("{authority}/{segment}/oauth2/token"));
    document["jwks_uri"] = json!(format!("{authority}/{keys}/discovery/keys"));
    document["token_endpoint_auth_methods_supported"] = json!(["private_key_jwt"]);
    document["grant_types_supported"] = json!(["client_credentials"]);
    document["claims_supported"] = json!([
        "aud", "iss", "iat", "nbf", "exp", "appid", "appidacr", "idp", "idtyp", "oid", "roles", "sub", "tid",
        "uti", "ver"
    ]);
    document
}

/// Checks that an answer is a public document with these headers and no others.
fn is_public(reply: &Reply, max_age: u32) {
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    let golden: BTreeMap<&str, String> = [
        ("access-control-allow-methods", "GET, OPTIONS"),
        ("access-control-allow-origin", "*"),
        ("cache-control", &format!("max-age={max_age}, private")),
        ("content-length", reply.header("content-length")),
        ("content-type", "application/json; charset=utf-8"),
        ("date", reply.header("date")),
        ("x-content-type-options", "nosniff"),
        ("x-ms-request-id", reply.header("x-ms-request-id")),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into();
    let sent: BTreeMap<&str, String> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap().to_owned()))
        .collect();
    assert_eq!(sent, golden);
    assert!(is_guid(&reply.trace()));
}

#[test]
fn a_tenants_document_is_the_same_however_it_is_asked_for() {
    wide(|world| async move {
        let issuer = format!("{}/{LETTERS}/v2.0", world.authority);
        let expected = document(world, LETTERS, &issuer, LETTERS);
        let expected_v1 = document_v1(world, LETTERS, &format!("{}/{LETTERS}/", world.authority), LETTERS);
        let upper = LETTERS.to_ascii_uppercase();
        for tenant in
            [LETTERS, &upper, "abcdefAB-1234-4abc-8def-abcdefabcdef", "adatum.example", "ADATUM.Example"]
        {
            for query in [
                "",
                "?",
                "?appid=x",
                "?api-version=1.0&a=1&a=1",
                "?%zz",
                "?tenant=common&issuer=https://evil",
            ] {
                for path in configurations(tenant) {
                    let reply = world.get(&format!("{path}{query}")).await;
                    is_public(&reply, 86_400);
                    assert_eq!(reply.body, expected, "{path}{query}");
                }
                let reply = world.get(&format!("{}{query}", configuration_v1(tenant))).await;
                is_public(&reply, 86_400);
                assert_eq!(reply.body, expected_v1, "{tenant}{query}");
            }
        }
    });
}

#[test]
fn headers_of_the_request_do_not_move_the_document_to_another_host() {
    shared(|world| async move {
        let plain = world.get(&configuration(TENANT)).await.body;
        for (name, value) in [
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "host=evil.example;proto=http"),
            ("x-forwarded-prefix", "/evil"),
            ("host", "evil.example"),
            ("accept", "text/html"),
        ] {
            let url = format!("{}{}", world.authority, configuration(TENANT));
            let reply = Reply::of(world.client.get(url).header(name, value).send().await.unwrap()).await;
            assert_eq!(reply.body, plain, "{name}");
        }
    });
}

#[test]
fn common_and_organizations_name_the_issuer_by_a_template_and_the_keys_of_common() {
    shared(|world| async move {
        let issuer = format!("{}/{{tenantid}}/v2.0", world.authority);
        let issuer_v1 = format!("{}/{{tenantid}}/", world.authority);
        for (asked, segment) in [
            ("common", "common"),
            ("Common", "common"),
            ("organizations", "organizations"),
            ("ORGANIZATIONS", "organizations"),
        ] {
            for query in ["", "?", "?a=b"] {
                for path in configurations(asked) {
                    let reply = world.get(&format!("{path}{query}")).await;
                    is_public(&reply, 86_400);
                    assert_eq!(reply.body, document(world, segment, &issuer, "common"), "{path}{query}");
                }
                let reply = world.get(&format!("{}{query}", configuration_v1(asked))).await;
                is_public(&reply, 86_400);
                assert_eq!(reply.body, document_v1(world, segment, &issuer_v1, "common"), "{asked}{query}");
            }
        }
    });
}

#[test]
fn the_issuers_are_the_authority_and_the_iss_of_tokens() {
    shared(|world| async move {
        let v1 = world.get(&configuration_v1(TENANT)).await.body;
        let token = world.request().send(world).await.token().to_owned();
        assert_eq!(verify(world, &token, VAULT).await.claims["iss"], v1["issuer"]);
        assert_eq!(v1["issuer"], format!("{}/{TENANT}/", world.authority));
        let document = world.get(&configuration(TENANT)).await.body;
        let issuer = document["issuer"].as_str().unwrap();
        let reply = world.request().with("scope", &format!("{API}/.default")).send(world).await;
        assert_eq!(verify(world, reply.token(), API_CLIENT).await.claims["iss"], issuer);
        let origin = |url: &Value| url::Url::parse(url.as_str().unwrap()).unwrap().origin();
        for member in ["issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"] {
            assert_eq!(origin(&document[member]), origin(&json!(world.authority)), "{member}");
        }
        assert_eq!(issuer, format!("{}/{TENANT}/v2.0", world.authority));
        assert_eq!(document["token_endpoint"], world.token_url(TENANT));
    });
}

#[test]
fn a_tenant_that_sets_its_issuer_publishes_that() {
    wide(|world| async move {
        let published = world.get(&configuration(CUSTOM)).await.body;
        assert_eq!(published, document(world, CUSTOM, CUSTOM_V2, CUSTOM));
        let published = world.get(&configuration_v1(CUSTOM)).await.body;
        assert_eq!(published, document_v1(world, CUSTOM, CUSTOM_V1, CUSTOM));
        let keys = world.get(&format!("/{CUSTOM}/discovery/v2.0/keys")).await.body;
        assert!(keys["keys"].as_array().unwrap().iter().all(|key| key["issuer"] == CUSTOM_V2), "{keys}");
    });
}

#[test]
fn what_names_no_tenant_has_no_documents() {
    shared(|world| async move {
        assert_eq!(world.get(&configuration(TENANT)).await.status, 200);
        for (tenant, error, code) in [
            ("33333333-3333-3333-3333-333333333333", "invalid_tenant", 90_002),
            ("nowhere.example", "invalid_tenant", 90_002),
            ("consumers", "invalid_request", 50_059),
            ("CONSUMERS", "invalid_request", 50_059),
            ("not-a-tenant", "invalid_request", 900_023),
            ("11111111111111111111111111111111", "invalid_request", 900_023),
            ("%7B11111111-1111-1111-1111-111111111111%7D", "invalid_request", 900_023),
            ("contoso.example.", "invalid_request", 900_023),
            ("contoso.example%00", "invalid_request", 900_023),
            ("", "invalid_request", 900_023),
            ("00000000-0000-0000-0000-000000000000", "invalid_request", 900_021),
        ] {
            let mut paths = vec![
                configuration(tenant),
                configuration_v1(tenant),
                format!("/{tenant}/discovery/v2.0/keys"),
                format!("/{tenant}/discovery/keys"),
            ];
            paths.extend(configurations(tenant));
            for path in paths {
                let reply = world.get(&path).await;
                reply.refused(400, error, code);
                assert_eq!(reply.headers.get("access-control-allow-origin"), None, "{path}");
            }
        }
    });
}

#[test]
fn head_is_get_without_the_body() {
    shared(|world| async move {
        for path in [configuration(TENANT), configuration("common"), format!("/{TENANT}/discovery/v2.0/keys")]
        {
            let get = world.get(&path).await;
            let head = world.client.head(format!("{}{path}", world.authority)).send().await.unwrap();
            assert_eq!(head.status(), 200);
            for name in get.headers.keys().filter(|name| !matches!(name.as_str(), "date" | "x-ms-request-id"))
            {
                assert_eq!(head.headers().get(name), get.headers.get(name), "{path} {name}");
            }
            assert!(head.bytes().await.unwrap().is_empty());
        }
        let head =
            world.client.head(format!("{}{}", world.authority, configuration("x"))).send().await.unwrap();
        assert_eq!(head.status(), 400);
    });
}

#[test]
fn documents_take_no_other_method() {
    shared(|world| async move {
        let instance = "/common/discovery/instance".to_owned();
        let paths = [
            configuration(TENANT),
            configuration_v1(TENANT),
            configurations(TENANT)[1].clone(),
            format!("/{TENANT}/discovery/v2.0/keys"),
            format!("/{TENANT}/discovery/keys"),
            instance,
            "/error?code=50027".to_owned(),
        ];
        for path in paths {
            for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"] {
                let method = http::Method::from_bytes(method.as_bytes()).unwrap();
                let request = world.client.request(method.clone(), format!("{}{path}", world.authority));
                let reply = Reply::of(request.send().await.unwrap()).await;
                reply.refused(405, "invalid_request", 900_561);
                assert_eq!(reply.header("allow"), "GET", "{path}");
                let text = format!("only accepts GET requests. Received a {method} request.");
                assert!(reply.text().contains(&text), "{}", reply.text());
            }
        }
    });
}

#[test]
fn a_browser_is_told_before_it_asks_that_it_may_read_documents() {
    shared(|world| async move {
        for path in [configuration(TENANT), configuration("common"), format!("/{TENANT}/discovery/v2.0/keys")]
        {
            let url = format!("{}{path}", world.authority);
            let request =
                world.client.request(http::Method::OPTIONS, url).header("origin", "https://page.example");
            let response = request.header("access-control-request-method", "GET").send().await.unwrap();
            assert_eq!(response.status(), 204);
            assert_eq!(response.headers()["access-control-allow-origin"], "*");
            assert_eq!(response.headers()["access-control-allow-methods"], "GET, OPTIONS");
            assert_eq!(response.headers().get("access-control-allow-credentials"), None);
            assert!(response.bytes().await.unwrap().is_empty());
        }
        // Nobody's page may send token requests.
        let request = world.client.request(http::Method::OPTIONS, world.token_url(TENANT));
        let request =
            request.header("origin", "https://page.example").header("access-control-request-method", "POST");
        let reply = Reply::of(request.send().await.unwrap()).await;
        reply.refused(405, "invalid_request", 900_561);
        assert_eq!(reply.headers.get("access-control-allow-origin"), None);
    });
}

#[test]
fn there_is_nothing_at_other_paths() {
    shared(|world| async move {
        for path in [
            "/".to_owned(),
            "/favicon.ico".to_owned(),
            "/.well-known/openid-configuration".to_owned(),
            format!("/{TENANT}"),
            format!("/{TENANT}/v2.0"),
            format!("{}/", configuration(TENANT)),
            format!("/{}", configuration(TENANT)),
            configuration(TENANT).replace("openid", "OpenID"),
            configuration(TENANT).replace("v2.0", "%762.0"),
            configuration(TENANT).replace("v2.0", "v3.0"),
            format!("/{TENANT}/discovery/v2.0/keys/x"),
            format!("/{TENANT}/discovery/keys/x"),
            "/.well-known/oauth-authorization-server".to_owned(),
            format!("/.well-known/oauth-authorization-server/{TENANT}"),
            format!("{}/", configurations(TENANT)[1]),
            format!("/{TENANT}/v2.0/.well-known/oauth-authorization-server"),
            format!("/{TENANT}/discovery/instance"),
            format!("/{TENANT}/oauth2/v2.0/authorize"),
            "/Common/discovery/instance".to_owned(),
            "/errors?code=50027".to_owned(),
        ] {
            world.get(&path).await.refused(404, "invalid_request", 90_023);
        }
    });
}

/// The published keys of a tenant by `kty`; there is one of each.
async fn keys(world: &World, tenant: &str) -> (Value, Value) {
    let reply = world.get(&format!("/{tenant}/discovery/v2.0/keys")).await;
    is_public(&reply, 3600);
    let body = reply.body.as_object().unwrap();
    assert_eq!(body.len(), 1, "{body:?}");
    let keys = body["keys"].as_array().unwrap();
    let of = |kind: &str| {
        let mut found = keys.iter().filter(|key| key["kty"] == kind);
        let key = found.next().unwrap().clone();
        assert!(found.next().is_none());
        key
    };
    assert_eq!(keys.len(), 2);
    (of("RSA"), of("EC"))
}

#[test]
fn v1_has_the_same_keys_and_none_names_an_issuer() {
    shared(|world| async move {
        let (rsa, ec) = keys(world, TENANT).await;
        for tenant in [TENANT, "common", "organizations"] {
            let reply = world.get(&format!("/{tenant}/discovery/keys")).await;
            is_public(&reply, 3600);
            let mut expected = vec![rsa.clone(), ec.clone()];
            for key in &mut expected {
                key.as_object_mut().unwrap().remove("issuer");
            }
            for key in reply.body["keys"].as_array().unwrap() {
                let position = expected.iter().position(|other| other == key);
                expected.remove(position.unwrap_or_else(|| panic!("{tenant}: {key}")));
            }
            assert!(expected.is_empty(), "{tenant}: {expected:?}");
        }
    });
}

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(value.as_str().unwrap()).unwrap()
}

#[test]
fn the_rsa_key_is_that_of_its_certificate_whose_thumbprint_names_it() {
    shared(|world| async move {
        let (rsa, _) = keys(world, TENANT).await;
        assert_eq!(members(&rsa), BTreeSet::from(["kty", "use", "kid", "x5t", "n", "e", "x5c", "issuer"]));
        assert_eq!((&rsa["use"], &rsa["e"]), (&json!("sig"), &json!("AQAB")));
        assert_eq!(bytes(&rsa["n"]).len(), 256);
        assert_ne!(bytes(&rsa["n"])[0], 0);
        let [certificate] = rsa["x5c"].as_array().unwrap().as_slice() else { panic!("{rsa}") };
        // With padding, and not the URL-safe alphabet: RFC 7517 section 4.7.
        let certificate = STANDARD.decode(certificate.as_str().unwrap()).unwrap();
        let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate));
        assert_eq!((&rsa["kid"], &rsa["x5t"]), (&json!(thumbprint), &json!(thumbprint)));

        let published: PublicEncryptingKey =
            PublicKeyComponents { n: bytes(&rsa["n"]), e: bytes(&rsa["e"]) }.try_into().unwrap();
        let certificate = CertificateDer::from(certificate);
        let certified = webpki::EndEntityCert::try_from(&certificate).unwrap();
        assert_eq!(*certified.subject_public_key_info(), *published.as_der().unwrap().as_ref());
    });
}

#[test]
fn the_ec_key_is_named_by_its_rfc_7638_thumbprint() {
    shared(|world| async move {
        let (_, ec) = keys(world, TENANT).await;
        assert_eq!(members(&ec), BTreeSet::from(["kty", "use", "kid", "crv", "x", "y", "issuer"]));
        assert_eq!((&ec["use"], &ec["crv"]), (&json!("sig"), &json!("P-256")));
        assert_eq!((bytes(&ec["x"]).len(), bytes(&ec["y"]).len()), (32, 32));
        let canonical = format!("{{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":{},\"y\":{}}}", ec["x"], ec["y"]);
        assert_eq!(ec["kid"], URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes())));
    });
}

#[test]
fn all_tenants_publish_the_same_keys_each_under_its_own_issuer() {
    wide(|world| async move {
        let without = |mut key: Value| (key.as_object_mut().unwrap().remove("issuer").unwrap(), key);
        let template = format!("{}/{{tenantid}}/v2.0", world.authority);
        let (first, second) = keys(world, TENANT).await;
        let (first, second) = (without(first), without(second));
        for (tenant, issuer) in [
            (TENANT, format!("{}/{TENANT}/v2.0", world.authority)),
            ("contoso.example", format!("{}/{TENANT}/v2.0", world.authority)),
            (OTHER_TENANT, format!("{}/{OTHER_TENANT}/v2.0", world.authority)),
            ("ABCDEFAB-1234-4ABC-8DEF-ABCDEFABCDEF", format!("{}/{LETTERS}/v2.0", world.authority)),
            ("common", template.clone()),
            ("organizations?appid=x", template),
        ] {
            let (path, query) = tenant.split_once('?').unwrap_or((tenant, ""));
            let reply = world.get(&format!("/{path}/discovery/v2.0/keys?{query}")).await;
            let keys = reply.body["keys"].as_array().unwrap();
            assert_eq!(keys.len(), 2);
            for key in keys {
                let (named, key) = without(key.clone());
                assert_eq!(named, issuer, "{tenant}");
                assert!(key == first.1 || key == second.1, "{tenant}");
            }
        }
    });
}

async fn instance(world: &World, query: &str) -> Reply {
    world.get(&format!("/common/discovery/instance{query}")).await
}

fn endpoint(authority: &str, tenant: &str) -> String {
    url::form_urlencoded::byte_serialize(format!("{authority}/{tenant}/oauth2/v2.0/authorize").as_bytes())
        .collect()
}

#[test]
fn instance_discovery_says_that_we_are_an_authority() {
    wide(|world| async move {
        let host = world.authority.strip_prefix("https://").unwrap();
        for (tenant, segment) in [
            (LETTERS, LETTERS),
            ("ABCDEFAB-1234-4ABC-8DEF-ABCDEFABCDEF", LETTERS),
            ("adatum.example", LETTERS),
            ("Adatum.EXAMPLE", LETTERS),
            ("common", "common"),
            ("Common", "common"),
            ("organizations", "organizations"),
        ] {
            let endpoint = endpoint(&world.authority, tenant);
            let document = format!("{}{}", world.authority, configuration(segment));
            let one = json!({ "tenant_discovery_endpoint": document, "api-version": "1.0" });
            let reply = instance(world, &format!("?api-version=1.0&authorization_endpoint={endpoint}")).await;
            is_public(&reply, 86_400);
            assert_eq!(reply.body, one, "{tenant}");
            let later = json!({
                "tenant_discovery_endpoint": document,
                "api-version": "1.1",
                "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
            });
            for query in [
                format!("?authorization_endpoint={endpoint}&api-version=1.1"),
                format!("?authorization_endpoint={endpoint}"),
                format!("?x=y&api-version=1.1&authorization_endpoint={endpoint}&x=z"),
            ] {
                let reply = instance(world, &query).await;
                is_public(&reply, 86_400);
                assert_eq!(reply.body, later, "{query}");
            }
        }
    });
}

#[test]
fn instance_discovery_knows_no_other_authority() {
    shared(|world| async move {
        let good = endpoint(&world.authority, TENANT);
        assert_eq!(
            instance(world, &format!("?api-version=1.1&authorization_endpoint={good}")).await.status,
            200
        );
        let port = world.authority.rsplit(':').next().unwrap();
        for authority in [
            "https://login.microsoftonline.com".to_owned(),
            format!("https://evil.example:{port}"),
            format!("http://localhost:{port}"),
            format!("https://localhost.evil.example:{port}"),
            format!("{}@evil.example", world.authority),
            format!("https://evil.example/{}", world.authority),
            "localhost".to_owned(),
        ] {
            let query = format!("?api-version=1.1&authorization_endpoint={}", endpoint(&authority, TENANT));
            instance(world, &query).await.refused(400, "invalid_instance", 50_049);
        }
        for query in [
            "",
            "?",
            "?api-version=1.1",
            "?api-version=1.1&authorization_endpoint=",
            "?Authorization_Endpoint=x",
        ] {
            instance(world, query).await.refused(400, "invalid_instance", 50_049);
        }
        for (tenant, error, code) in [
            ("33333333-3333-3333-3333-333333333333", "invalid_tenant", 90_002),
            ("00000000-0000-0000-0000-000000000000", "invalid_request", 900_021),
            ("not-a-tenant", "invalid_request", 900_023),
        ] {
            let query =
                format!("?api-version=1.1&authorization_endpoint={}", endpoint(&world.authority, tenant));
            instance(world, &query).await.refused(400, error, code);
        }
    });
}

async fn page(world: &World, query: &str, accept: &str) -> (u16, http::HeaderMap, String) {
    let url = format!("{}/error{query}", world.authority);
    let response = world.client.get(url).header("accept", accept).send().await.unwrap();
    (response.status().as_u16(), response.headers().clone(), response.text().await.unwrap())
}

#[test]
fn every_code_has_a_page_for_tools_and_one_for_people() {
    shared(|world| async move {
        for reason in Reason::ALL {
            let code = reason.code();
            let (status, headers, text) = page(world, &format!("?code={code}"), "*/*").await;
            assert_eq!(
                (status, &headers["content-type"]),
                (200, &"application/json; charset=utf-8".parse().unwrap())
            );
            assert_eq!(headers["cache-control"], "no-store, no-cache");
            let body: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(members(&body), BTreeSet::from(["code", "explanations"]));
            assert_eq!(body["code"], code);
            let explanations = body["explanations"].as_array().unwrap();
            assert_eq!(explanations.len(), Reason::ALL.iter().filter(|other| other.code() == code).count());

            let accept = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8";
            let (status, headers, html) = page(world, &format!("?code={code}"), accept).await;
            assert_eq!(
                (status, &headers["content-type"]),
                (200, &"text/html; charset=utf-8".parse().unwrap())
            );
            assert_eq!(headers["cache-control"], "no-store, no-cache");
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["content-security-policy"], "default-src 'none'; style-src 'unsafe-inline'");
            assert!(html.contains(&format!("<title>AADSTS{code}</title>")), "{html}");
            for explanation in explanations {
                assert_eq!(members(explanation), BTreeSet::from(["meaning", "check"]));
                for text in ["meaning", "check"].map(|member| explanation[member].as_str().unwrap()) {
                    assert!(text.len() > 10 && html.contains(text), "{code}: {text}");
                }
            }
            assert!(!html.contains("<script"), "{html}");
        }
    });
}

#[test]
fn the_page_that_a_refusal_names_is_there() {
    shared(|world| async move {
        let refused = world.request().without("scope").send(world).await;
        refused.refused(400, "invalid_request", 900_144);
        let uri = refused.body["error_uri"].as_str().unwrap();
        let reply = Reply::of(world.client.get(uri).send().await.unwrap()).await;
        assert_eq!((reply.status, &reply.body["code"]), (200, &json!(900_144)));
    });
}

#[test]
fn the_error_page_takes_one_known_number_and_echoes_nothing_else() {
    shared(|world| async move {
        for (query, status, code) in [
            ("?code=1", 404, 90_023),
            ("?code=700214", 404, 90_023),
            ("?code=4294967295", 404, 90_023),
            ("", 400, 9_002_313),
            ("?", 400, 9_002_313),
            ("?code", 400, 9_002_313),
            ("?code=", 400, 9_002_313),
            ("?Code=50027", 400, 9_002_313),
            ("?code=AADSTS50027", 400, 9_002_313),
            ("?code=%2B50027", 400, 9_002_313),
            ("?code=-1", 400, 9_002_313),
            ("?code=50027.0", 400, 9_002_313),
            ("?code=+50027", 400, 9_002_313),
            ("?code=50027%00", 400, 9_002_313),
            ("?code=%D9%A5", 400, 9_002_313),
            ("?code=99999999999999999999", 400, 9_002_313),
            ("?code=50027&code=50027", 400, 9_002_313),
            ("?code=50027&c%6fde=1", 400, 9_002_313),
            ("?code=%3Cscript%3Ealert(1)%3C%2Fscript%3E", 400, 9_002_313),
            ("?code=50027%3Cscript%3Ealert(1)%3C%2Fscript%3E", 400, 9_002_313),
            ("?code=50027%0d%0aset-cookie:a=b", 400, 9_002_313),
        ] {
            for accept in ["*/*", "text/html"] {
                let (got, headers, text) = page(world, query, accept).await;
                let reply = Reply { status: got, headers, body: serde_json::from_str(&text).unwrap() };
                reply.refused(status, "invalid_request", code);
                assert!(!text.contains("alert") && !text.contains('<'), "{text}");
                assert_eq!(reply.headers.get("set-cookie"), None);
            }
        }
        let (status, _, text) = page(world, "?code=50027&x=%3Cscript%3E&code2=%22%3E", "text/html").await;
        assert_eq!(status, 200);
        assert!(!text.contains("<script") && !text.contains("code2"), "{text}");
    });
}
