//! What a granted request gets: the token, claim by claim, and the answer around it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::support::*;

/// A v1.0 resource of ES256, and one of v2.0 and RS256.
const SQL: &str = "https://sql.example/";
const GRAPH: &str = "api://graph";
const ROLELESS: &str = "aaaaaaaa-0004-4a00-8000-000000000004";
const FOREIGN: &str = "aaaaaaaa-0005-4a00-8000-000000000005";
const APP: &str = "aaaaaaaa-0006-4a00-8000-000000000006";
const LETTERS_CLIENT: &str = "aaaaaaaa-0007-4a00-8000-000000000007";
const MIRID: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourcegroups/rg-Deploy/providers/\
    Microsoft.ManagedIdentity/userAssignedIdentities/id-deploy";

fn asking(world: &World, resource: &str) -> Form {
    world.request().with("scope", &format!("{resource}/.default"))
}

/// Takes `uti` out, whose value is random, after a look at its form.
fn take_uti(claims: &mut Value) -> String {
    let uti = claims.as_object_mut().unwrap().remove("uti").unwrap().as_str().unwrap().to_owned();
    assert!(uti.len() == 22 && uti.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{uti}");
    uti
}

/// Everything that a verified token says, but its `uti`.
async fn claims(world: &World, form: Form, audience: &str) -> Value {
    let mut claims = verify(world, form.send(world).await.token(), audience).await.claims;
    take_uti(&mut claims);
    claims
}

/// Checks one grant whole: header, all claims but `uti`, and the body around the token.
async fn is_minted(world: &World, form: Form, header: Value, claims: Value) {
    let reply = form.send(world).await;
    let mut checked = verify(world, reply.token(), claims["aud"].as_str().unwrap()).await;
    take_uti(&mut checked.claims);
    assert_eq!(checked.claims, claims);
    let (alg, kid) = (checked.header["alg"].clone(), checked.header["kid"].clone());
    let mut expected = json!({ "typ": "JWT", "kid": kid });
    expected.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
    if let Some(x5t) = expected.get_mut("x5t") {
        *x5t = kid;
    }
    assert_eq!(checked.header, expected, "{alg}");
    let seconds = claims["exp"].as_i64().unwrap() - world.clock.now() - 1;
    assert_eq!(
        reply.body,
        json!({
            "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": reply.token(),
        })
    );
}

#[test]
fn a_v1_resource_gets_v1_claims_under_rs256() {
    shared(|world| async move {
        let (now, issuer) = (world.clock.now(), format!("{}/{TENANT}/", world.authority));
        let claims = json!({
            "aud": VAULT, "iss": issuer, "idp": issuer,
            "iat": now - 300, "nbf": now - 300, "exp": now + 3600,
            "appid": CLIENT, "appidacr": "2", "idtyp": "app",
            "oid": PRINCIPAL, "sub": PRINCIPAL, "tid": TENANT, "ver": "1.0",
            "roles": ["Contributor", "Key Vault Secrets User"],
            "xms_ficinfo": "ficus", "xms_mirid": MIRID,
        });
        is_minted(world, asking(world, VAULT), json!({ "alg": "RS256", "x5t": "as kid" }), claims).await;
    });
}

#[test]
fn a_v2_resource_gets_v2_claims_under_es256() {
    shared(|world| async move {
        let now = world.clock.now();
        let claims = json!({
            "aud": API_CLIENT, "iss": format!("{}/{TENANT}/v2.0", world.authority),
            "iat": now - 300, "nbf": now - 300, "exp": now + 1800,
            "azp": CLIENT, "azpacr": "2", "idtyp": "app",
            "oid": PRINCIPAL, "sub": PRINCIPAL, "tid": TENANT, "ver": "2.0",
            "roles": ["Orders.Read.All"],
            "xms_ficinfo": "ficus", "xms_mirid": MIRID,
        });
        is_minted(world, asking(world, API), json!({ "alg": "ES256" }), claims).await;
    });
}

#[test]
fn a_v1_resource_of_es256_has_no_x5t_and_a_v2_resource_of_rs256_has_none_either() {
    shared(|world| async move {
        let (now, issuer) = (world.clock.now(), format!("{}/{TENANT}/", world.authority));
        let claims = json!({
            "aud": SQL, "iss": issuer, "idp": issuer,
            "iat": now - 300, "nbf": now - 300, "exp": now + 3600,
            "appid": CLIENT, "appidacr": "2", "idtyp": "app",
            "oid": PRINCIPAL, "sub": PRINCIPAL, "tid": TENANT, "ver": "1.0",
            "roles": ["Contributor"],
            "xms_ficinfo": "ficus", "xms_mirid": MIRID,
        });
        is_minted(world, asking(world, SQL), json!({ "alg": "ES256" }), claims).await;

        // An application, without a role: no xms_mirid, no roles, and a whole day.
        let principal = "bbbbbbbb-0004-4a00-8000-000000000004";
        let claims = json!({
            "aud": "cccccccc-0004-4a00-8000-000000000004", "iss": format!("{}/{TENANT}/v2.0", world.authority),
            "iat": now - 300, "nbf": now - 300, "exp": now + 86_400,
            "azp": ROLELESS, "azpacr": "2", "idtyp": "app",
            "oid": principal, "sub": principal, "tid": TENANT, "ver": "2.0",
            "xms_ficinfo": "ficus",
        });
        let form = asking(world, GRAPH).with("client_id", ROLELESS);
        is_minted(world, form, json!({ "alg": "RS256" }), claims).await;
    });
}

#[test]
fn roles_come_from_the_scope_and_its_ancestors_by_whole_segments() {
    wide(|world| async move {
        let roles =
            async |form: Form, audience: &str| claims(world, form, audience).await.get("roles").cloned();
        let app = |resource| asking(world, resource).with("client_id", APP);
        // Sorted by bytes, each once; none from below or beside.
        assert_eq!(roles(app(VAULT), VAULT).await, Some(json!(["Alpha", "Reader", "beta"])));
        // A resource in rg2 gets nothing of rg.
        assert_eq!(roles(app(SQL), SQL).await, Some(json!(["Sibling"])));
        assert_eq!(roles(app(GRAPH), "cccccccc-0004-4a00-8000-000000000004").await, None);
    });
}

#[test]
fn roles_of_another_tenant_are_worth_nothing() {
    wide(|world| async move {
        let form = asking(world, "https://foreign.example").tenant(OTHER_TENANT).with("client_id", FOREIGN);
        let claims = claims(world, form, "https://foreign.example").await;
        assert_eq!(
            (&claims["roles"], &claims["tid"]),
            (&json!(["Foreign.Read"]), &json!(OTHER_TENANT)),
            "{claims}"
        );
    });
}

#[test]
fn only_a_user_assigned_identity_has_xms_mirid() {
    wide(|world| async move {
        let managed = asking(world, "api://letters-two").tenant(LETTERS).with("client_id", LETTERS_CLIENT);
        let managed = claims(world, managed, "cccccccc-0008-4c00-8000-000000000008").await;
        // The segment is in lower case, the group's name as it is written.
        assert_eq!(
            managed["xms_mirid"],
            "/subscriptions/eeeeeeee-3333-3333-3333-333333333333/resourcegroups/ResourceGroups/providers/\
             Microsoft.ManagedIdentity/userAssignedIdentities/id-letters"
        );
        let application = claims(world, asking(world, VAULT).with("client_id", APP), VAULT).await;
        assert_eq!(application.get("xms_mirid"), None, "an application that has a place");
    });
}

#[test]
fn the_audience_of_v1_is_what_was_asked_for_and_of_v2_the_guid() {
    wide(|world| async move {
        let vault = "cccccccc-0001-4a00-8000-000000000001";
        let letters_one = "cccccccc-0007-4c00-8000-000000000007";
        let letters_two = "cccccccc-0008-4c00-8000-000000000008";
        for (tenant, client, scope, audience) in [
            (TENANT, CLIENT, "https://vault.example/.default", "https://vault.example"),
            (TENANT, CLIENT, "https://vault.example//.default", "https://vault.example/"),
            (TENANT, CLIENT, "https://sql.example//.default", "https://sql.example/"),
            (TENANT, CLIENT, "https://sql.example///.default", "https://sql.example//"),
            (TENANT, CLIENT, "https://sql.example/.default", "https://sql.example"),
            (TENANT, CLIENT, "cccccccc-0001-4a00-8000-000000000001/.default", vault),
            (TENANT, CLIENT, "CCCCCCCC-0001-4A00-8000-000000000001/.default", vault),
            (TENANT, CLIENT, "CCCCcccc-0001-4a00-8000-000000000001/.default", vault),
            (TENANT, CLIENT, "api://orders/.default", API_CLIENT),
            (TENANT, CLIENT, "api://orders//.default", API_CLIENT),
            (TENANT, CLIENT, "CCCCCCCC-0002-4a00-8000-000000000002/.default", API_CLIENT),
            (LETTERS, LETTERS_CLIENT, "api://letters-one/.default", "api://letters-one"),
            (LETTERS, LETTERS_CLIENT, "api://letters-slash//.default", "api://letters-slash/"),
            (LETTERS, LETTERS_CLIENT, "api://letters-slash/.default", "api://letters-slash"),
            (LETTERS, LETTERS_CLIENT, "cccccccc-0007-4C00-8000-000000000007/.default", letters_one),
            (LETTERS, LETTERS_CLIENT, "api://letters-two/.default", letters_two),
            (LETTERS, LETTERS_CLIENT, "cccccccc-0008-4C00-8000-000000000008/.default", letters_two),
        ] {
            let form = world.request().tenant(tenant).with("client_id", client).with("scope", scope);
            let claims = claims(world, form, audience).await;
            assert_eq!(claims["aud"], audience, "{scope}");
        }
    });
}

#[test]
fn two_slashes_more_or_another_case_of_a_uri_name_no_resource() {
    shared(|world| async move {
        assert_eq!(world.request().send(world).await.status, 200);
        for scope in [
            "https://vault.example///.default",
            "https://VAULT.example/.default",
            "https://sql.example////.default",
        ] {
            world.request().with("scope", scope).send(world).await.refused(401, "invalid_resource", 500_011);
        }
    });
}

#[test]
fn a_tenant_may_set_its_issuers_and_idp_follows() {
    wide(|world| async move {
        let form = |resource| {
            asking(world, resource).tenant(CUSTOM).with("client_id", "aaaaaaaa-0008-4a00-8000-000000000008")
        };
        let v1 = claims(world, form("api://custom-one"), "api://custom-one").await;
        assert_eq!((&v1["iss"], &v1["idp"]), (&json!(CUSTOM_V1), &json!(CUSTOM_V1)));
        let v2 = claims(world, form("api://custom-two"), "cccccccc-000a-4c00-8000-00000000000a").await;
        assert_eq!((&v2["iss"], v2.get("idp")), (&json!(CUSTOM_V2), None));
    });
}

#[test]
fn however_tenant_and_client_are_written_the_token_says_them_in_one_way() {
    wide(|world| async move {
        let (now, issuer) = (world.clock.now(), format!("{}/{LETTERS}/", world.authority));
        let upper = LETTERS.to_ascii_uppercase();
        for tenant in
            [LETTERS, &upper, "ABCDefab-1234-4abc-8def-abcdefABCDEF", "adatum.example", "Adatum.Example"]
        {
            for client in [LETTERS_CLIENT.to_owned(), LETTERS_CLIENT.to_ascii_uppercase()] {
                let form = asking(world, "api://letters-one").tenant(tenant).with("client_id", &client);
                let claims = claims(world, form, "api://letters-one").await;
                assert_eq!(
                    claims,
                    json!({
                        "aud": "api://letters-one", "iss": issuer, "idp": issuer,
                        "iat": now - 300, "nbf": now - 300, "exp": now + 600,
                        "appid": LETTERS_CLIENT, "appidacr": "2", "idtyp": "app",
                        "oid": "bbbbbbbb-0007-4a00-8000-000000000007", "sub": "bbbbbbbb-0007-4a00-8000-000000000007",
                        "tid": LETTERS, "ver": "1.0", "xms_ficinfo": "ficus",
                        "xms_mirid": "/subscriptions/eeeeeeee-3333-3333-3333-333333333333/resourcegroups/ResourceGroups/\
                            providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-letters",
                    }),
                    "{tenant} {client}"
                );
            }
        }
    });
}

/// All headers of an answer, with a name for each value that differs from one request to the next.
fn golden(headers: &http::HeaderMap, length: usize) -> BTreeMap<String, String> {
    let entry = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        let value = value.to_str().unwrap();
        let value = match name.as_str() {
            "x-ms-request-id" if is_guid(value) => "GUID",
            "content-length" if value == length.to_string() => "LENGTH",
            "date" if value.ends_with(" GMT") => "DATE",
            _ => value,
        };
        (name.to_string(), value.to_owned())
    };
    let golden: BTreeMap<_, _> = headers.iter().map(entry).collect();
    assert_eq!(golden.len(), headers.len(), "a header is there twice: {headers:?}");
    golden
}

fn success_headers() -> BTreeMap<String, String> {
    [
        ("cache-control", "no-store, no-cache"),
        ("content-length", "LENGTH"),
        ("content-type", "application/json; charset=utf-8"),
        ("date", "DATE"),
        ("expires", "-1"),
        ("pragma", "no-cache"),
        ("x-content-type-options", "nosniff"),
        ("x-ms-request-id", "GUID"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

async fn post(
    client: &reqwest::Client,
    url: &str,
    body: String,
    headers: &[(&str, &str)],
) -> reqwest::Response {
    let mut request = client.post(url).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.unwrap()
}

const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

#[test]
fn over_http1_and_http2_headers_and_body_are_these_and_no_more() {
    shared(|world| async move {
        let second = http2_client(world);
        for (client, version) in [(&world.client, http::Version::HTTP_11), (&second, http::Version::HTTP_2)] {
            let form = asking(world, API);
            let response = post(client, &world.token_url(TENANT), form.body(), &[FORM]).await;
            assert_eq!((response.status().as_u16(), response.version()), (200, version));
            let headers = response.headers().clone();
            let body = response.text().await.unwrap();
            assert_eq!(golden(&headers, body.len()), success_headers(), "{version:?}");
            // The order of the members too, and nothing like scope or client_info, which would make MSAL Go fail.
            let value: Value = serde_json::from_str(&body).unwrap();
            let token = value["access_token"].as_str().unwrap();
            verify(world, token, API_CLIENT).await;
            assert_eq!(
                body,
                format!(
                    "{{\"token_type\":\"Bearer\",\"expires_in\":1799,\"ext_expires_in\":1799,\"access_token\":\"{token}\"}}"
                )
            );
        }
    });
}

#[test]
fn the_clients_request_id_comes_back_only_when_it_asks_for_it() {
    shared(|world| async move {
        let id = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d";
        let ask = "return-client-request-id";
        for (headers, echo) in [
            (vec![("client-request-id", id)], None),
            (vec![("client-request-id", id), (ask, "false")], None),
            (vec![("client-request-id", id), (ask, "1")], None),
            (vec![("client-request-id", id), (ask, "true")], Some(id)),
            (vec![("client-request-id", id), (ask, "True")], Some(id)),
        ] {
            let with = |form: Form| headers.iter().fold(form, |form, (name, value)| form.header(name, value));
            let reply = with(world.request()).send(world).await;
            verify(world, reply.token(), VAULT).await;
            let back = reply.headers.get("client-request-id").map(|value| value.to_str().unwrap());
            assert_eq!(back, echo, "{headers:?}");
            let record = world.record(&reply.trace()).await;
            assert_eq!(record["correlationId"], id, "{record}");
            // A refusal says the same id, asked for or not.
            let refused = with(world.request().with("scope", "x")).send(world).await;
            assert_eq!(refused.refused(400, "invalid_scope", 1_002_012).body["correlation_id"], id);
            let back = refused.headers.get("client-request-id").map(|value| value.to_str().unwrap());
            assert_eq!(back, echo, "{headers:?}");
        }
    });
}

#[test]
fn a_request_id_that_is_no_guid_is_replaced_by_a_fresh_one() {
    shared(|world| async move {
        let mut seen = BTreeSet::new();
        let wrong = [
            "",
            "x",
            "{0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d}",
            "0a1b2c3d4e5f4a6b8c7d9e0f1a2b3c4d",
            "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d, 0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
            "urn:uuid:0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
        ];
        for id in wrong {
            let form =
                world.request().header("client-request-id", id).header("return-client-request-id", "true");
            let reply = form.send(world).await;
            verify(world, reply.token(), VAULT).await;
            let fresh = reply.header("client-request-id").to_owned();
            assert!(is_guid(&fresh) && !id.contains(&fresh) && fresh != reply.trace(), "{id:?} {fresh}");
            assert!(seen.insert(fresh));
            assert!(seen.insert(reply.trace()));
        }
        // The other case of a GUID is a GUID.
        let form = world.request().header("client-request-id", "0A1B2C3D-4E5F-4A6B-8C7D-9E0F1A2B3C4D");
        let reply = form.header("return-client-request-id", "true").send(world).await;
        assert_eq!(reply.header("client-request-id"), "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d");
    });
}

/// Name, query of the URL, headers, further fields of the form.
type Habit = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static [(&'static str, &'static str)],
);

/// What SDKs send beside the required fields (Entra's reference lists it by client), and worse.
const HABITS: [Habit; 8] = [
    ("azure-identity for Python", "", &[FORM, ("x-ms-client-request-id", "x")], &[]),
    (
        "MSAL Python",
        "",
        &[
            FORM,
            ("x-client-sku", "MSAL.Python"),
            ("x-client-ver", "1.31.0"),
            ("x-client-os", "linux"),
            ("x-ms-lib-capability", "retry-after, h429"),
            ("x-client-current-telemetry", "4|730,2|"),
            ("client-request-id", "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"),
        ],
        &[("client_info", "1"), ("claims", "{\"access_token\":{\"xms_cc\":{\"values\":[\"CP1\"]}}}")],
    ),
    (
        "MSAL.NET",
        "",
        &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("x-client-SKU", "MSAL.NetCore"),
            ("x-ms-PKeyAuth", "1.0"),
            ("return-client-request-id", "true"),
        ],
        &[("client_info", "2"), ("fmi_path", "a/b")],
    ),
    (
        "MSAL Go",
        "",
        &[
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
            ("Return-Client-Request-Id", "false"),
        ],
        &[("client_info", "1")],
    ),
    (
        "MSAL JS",
        "?client-request-id=0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d",
        &[("content-type", "application/x-www-form-urlencoded;charset=utf-8")],
        &[
            ("x-client-SKU", "msal.js.node"),
            ("x-client-CPU", "x64"),
            ("x-client-last-telemetry", "5|0|||0,0"),
            ("x-ms-lib-capability", "retry-after, h429"),
            ("client-request-id", "x"),
        ],
    ),
    (
        "an old tool",
        "",
        &[FORM],
        &[("resource", "https://sql.example/"), ("api-version", "1.0"), ("tenant", "x")],
    ),
    ("a bare question mark", "?", &[FORM], &[]),
    (
        "odd ones",
        "?grant_type=password&client_id=x&scope=x&client_secret=x&a=1&a=1&%zz",
        &[
            ("Content-Type", "APPLICATION/X-WWW-FORM-URLENCODED ; Charset=\"UTF-8\""),
            ("accept", "text/html"),
            ("accept-encoding", "gzip, br"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "http"),
            ("forwarded", "host=evil.example;proto=http"),
            ("x-http-method-override", "DELETE"),
            ("x-original-url", "/22222222-2222-2222-2222-222222222222/oauth2/v2.0/token"),
            ("origin", "https://evil.example"),
            ("cookie", "a=b"),
            ("authorization", "Bearer x"),
            ("expect", "100-continue"),
        ],
        &[("\u{fc}nknown", "\u{1f41f}"), ("empty", ""), ("", "nameless"), ("GRANT_TYPE", "password")],
    ),
];

#[test]
fn what_sdks_send_beside_the_required_fields_changes_nothing() {
    shared(|world| async move {
        let plain = claims(world, world.request(), VAULT).await;
        let second = http2_client(world);
        for (name, query, headers, fields) in HABITS {
            for (client, version) in
                [(&world.client, http::Version::HTTP_11), (&second, http::Version::HTTP_2)]
            {
                let form = fields.iter().fold(world.request(), |form, (name, value)| form.with(name, value));
                let url = format!("{}{query}", world.token_url("Contoso.EXAMPLE"));
                let response = post(client, &url, form.body(), headers).await;
                assert_eq!(response.version(), version);
                let mut got = response.headers().clone();
                got.remove("client-request-id");
                let reply = Reply::of(response).await;
                let length = reply.header("content-length").parse().unwrap();
                assert_eq!(golden(&got, length), success_headers(), "{name}");
                let members: Vec<_> = reply.body.as_object().unwrap().keys().map(String::as_str).collect();
                assert_eq!(members, ["access_token", "expires_in", "ext_expires_in", "token_type"], "{name}");
                let mut claims = verify(world, reply.token(), VAULT).await.claims;
                take_uti(&mut claims);
                assert_eq!(claims, plain, "{name}");
            }
        }
    });
}

#[test]
fn fields_may_come_in_any_order_and_values_percent_encoded_throughout() {
    shared(|world| async move {
        let plain = claims(world, world.request(), VAULT).await;
        let mut form = world.request();
        form.fields.reverse();
        assert_eq!(claims(world, form.clone(), VAULT).await, plain);
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let pairs: Vec<_> =
            form.fields.iter().map(|(n, v)| format!("{}={}", encoded(n), encoded(v))).collect();
        let response = post(&world.client, &world.token_url(TENANT), pairs.join("&"), &[FORM]).await;
        let mut claims = verify(world, Reply::of(response).await.token(), VAULT).await.claims;
        take_uti(&mut claims);
        assert_eq!(claims, plain);
    });
}

#[test]
fn a_changed_token_does_not_pass_the_verifier_of_these_tests() {
    shared(|world| async move {
        let reply = asking(world, API).send(world).await;
        let token = reply.token().to_owned();
        verify(world, &token, API_CLIENT).await;
        let other = tokio::spawn(async move { verify(world, &token, VAULT).await });
        assert!(other.await.is_err(), "another audience");
        let mut token = reply.token().to_owned();
        let at = token.rfind('.').unwrap() + 10;
        let changed = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
        token.replace_range(at..=at, changed);
        let other = tokio::spawn(async move { verify(world, &token, API_CLIENT).await });
        assert!(other.await.is_err(), "another signature");
    });
}
