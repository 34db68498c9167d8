//! One spine, three dialects: how each puts a request and what its answer looks like.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::*;

const MIRID: &str = "/subscriptions/33333333-3333-3333-3333-333333333333/resourcegroups/rg-Deploy/providers/\
    Microsoft.ManagedIdentity/userAssignedIdentities/id-deploy";
const ROLELESS: &str = "aaaaaaaa-0004-4a00-8000-000000000004";

/// Claims without what differs from token to token.
async fn claims(world: &World, reply: &Reply, audience: &str) -> Value {
    let mut claims = verify(world, reply.token(), audience).await.claims;
    claims.as_object_mut().unwrap().remove("uti");
    claims
}

fn exchange(world: &World) -> Form {
    world.request().in_dialect(Dialect::Rfc8693)
}

#[test]
fn v1_answers_with_strings_and_repeats_the_resource() {
    wide(|world| async move {
        let now = world.clock.now();
        for (resource, audience, seconds) in [
            (VAULT.to_owned(), VAULT.to_owned(), 3600),
            (format!("{VAULT}/"), format!("{VAULT}/"), 3600),
            // The resource decides the token's version, not the endpoint.
            (API.to_owned(), API_CLIENT.to_owned(), 1800),
            (API_CLIENT.to_uppercase(), API_CLIENT.to_owned(), 1800),
        ] {
            let form = world.request().in_dialect(Dialect::V1).with("resource", &resource);
            let reply = form.send_in(world, Dialect::V1).await;
            let expected = json!({
                "token_type": "Bearer",
                "expires_in": (seconds - 1).to_string(),
                "ext_expires_in": (seconds - 1).to_string(),
                "expires_on": (now + seconds).to_string(),
                "not_before": (now - 300).to_string(),
                "resource": resource,
                "access_token": reply.token(),
            });
            assert_eq!(reply.body, expected);
            let v1 = claims(world, &reply, &audience).await;
            let v2 = world.request().with("scope", &format!("{resource}/.default")).send(world).await;
            assert_eq!(v1, claims(world, &v2, &audience).await);
            assert_eq!((v1["exp"].as_i64(), v1["nbf"].as_i64()), (Some(now + seconds), Some(now - 300)));
        }
    });
}

#[test]
fn token_exchange_answers_with_the_type_of_token_that_was_issued() {
    shared(|world| async move {
        let plain = world.request().send(world).await;
        for (requested, issued) in
            [(None, "access_token"), (Some("access_token"), "access_token"), (Some("jwt"), "jwt")]
        {
            let mut form = exchange(world);
            if let Some(requested) = requested {
                form = form
                    .with("requested_token_type", &format!("urn:ietf:params:oauth:token-type:{requested}"));
            }
            let reply = form.send(world).await;
            let expected = json!({
                "access_token": reply.token(),
                "issued_token_type": format!("urn:ietf:params:oauth:token-type:{issued}"),
                "token_type": "Bearer",
                "expires_in": 3599,
            });
            assert_eq!(reply.body, expected);
            assert_eq!(reply.header("cache-control"), "no-store, no-cache");
            assert_eq!(claims(world, &reply, VAULT).await, claims(world, &plain, VAULT).await);
        }
        let id_token =
            exchange(world).with("subject_token_type", "urn:ietf:params:oauth:token-type:id_token");
        assert_eq!(id_token.send(world).await.status, 200);
    });
}

/// Every way to name identity and resource; `None` takes a parameter out, several audiences are several parameters.
#[test]
fn token_exchange_names_identity_and_resource_in_many_ways() {
    shared(|world| async move {
        let bare = exchange(world).without("client_id").without("resource");
        let scope = format!("{VAULT}/.default");
        let other_case = MIRID.replace("resourcegroups", "resourceGroups");
        let ways: &[&[(&str, &str)]] = &[
            &[("client_id", CLIENT), ("resource", VAULT)],
            &[("client_id", CLIENT), ("scope", &scope)],
            &[("client_id", CLIENT), ("audience", VAULT)],
            &[("client_id", CLIENT), ("audience", VAULT), ("scope", "openid")],
            &[("audience", CLIENT), ("resource", VAULT)],
            &[("audience", CLIENT), ("scope", &scope)],
            &[("audience", MIRID), ("scope", &scope)],
            &[("audience", &other_case), ("scope", &scope)],
            &[("audience", MIRID), ("audience", VAULT)],
            &[("audience", VAULT), ("audience", CLIENT)],
            &[("client_id", CLIENT), ("audience", CLIENT), ("audience", VAULT)],
        ];
        for way in ways {
            let mut form = bare.clone();
            form.fields.extend(way.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            let reply = form.send(world).await;
            let said = claims(world, &reply, VAULT).await;
            assert_eq!((&said["appid"], &said["xms_mirid"]), (&json!(CLIENT), &json!(MIRID)), "{way:?}");
        }
        // HTTP Basic with an empty password, its user percent-encoded or not.
        for user in [CLIENT.to_owned(), CLIENT.replace('-', "%2D"), CLIENT.to_uppercase()] {
            let basic = format!("Basic {}", STANDARD.encode(format!("{user}:")));
            let form = bare.clone().with("resource", VAULT).header("authorization", &basic);
            assert_eq!(form.send(world).await.status, 200, "{user}");
            let both = form.with("client_id", CLIENT);
            assert_eq!(both.send(world).await.status, 200, "{user}");
        }
    });
}

#[test]
fn a_token_exchange_that_is_ambiguous_or_acts_for_others_is_refused() {
    shared(|world| async move {
        let form = exchange(world);
        let bare = form.clone().without("client_id").without("resource");
        let with = |form: &Form, fields: &[(&str, &str)]| {
            let mut form = form.clone();
            form.fields.extend(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
            form
        };
        let named = [("audience", CLIENT), ("audience", ROLELESS)];
        let token = world.assertion();
        let malformed = [
            with(&form, &named),
            with(&bare, &named),
            with(&bare, &[("client_id", CLIENT), ("audience", VAULT), ("audience", API)]),
            with(&form, &[("audience", VAULT), ("audience", VAULT), ("audience", VAULT)]),
            with(&form, &[("resource", API)]),
            with(&form, &[("scope", "a"), ("scope", "a")]),
            with(&form, &[("actor_token", &token)]),
            with(&form, &[("actor_token_type", JWT_TYPE)]),
            with(&form, &[("client_assertion", &token), ("client_assertion_type", JWT_BEARER)]),
            with(&form, &[("client_secret", "s")]),
            with(&form, &[("requested_token_type", "urn:ietf:params:oauth:token-type:saml2")]),
            form.clone()
                .header("authorization", &format!("Basic {}", STANDARD.encode(format!("{ROLELESS}:")))),
            form.clone()
                .header("authorization", &format!("Basic {}", STANDARD.encode(format!("{CLIENT}:x")))),
        ];
        for form in malformed {
            form.send(world).await.refused(400, "invalid_request", 9_002_313);
        }
        for (form, error, code) in [
            (with(&bare, &[("resource", VAULT)]), "invalid_request", 900_144),
            (with(&bare, &[("client_id", CLIENT)]), "invalid_request", 900_144),
            (with(&bare, &[("audience", CLIENT)]), "invalid_request", 900_144),
            (with(&bare, &[("client_id", CLIENT), ("scope", "openid")]), "invalid_scope", 1_002_012),
            (with(&bare, &[("client_id", CLIENT), ("audience", "not one")]), "invalid_target", 500_012),
        ] {
            form.send(world).await.refused(400, error, code);
        }
        for fields in
            [&[("audience", VAULT), ("resource", VAULT)][..], &[("audience", VAULT), ("audience", API)]]
        {
            with(&bare, fields).send(world).await.refused(401, "invalid_client", 700_016);
        }
        // What is said twice and differently is not half ignored.
        for fields in [
            &[("audience", API)][..],
            &[("audience", VAULT), ("audience", "api://x")],
            &[("audience", ROLELESS)],
            &[("scope", "api://orders/.default")],
        ] {
            with(&form, fields).send(world).await.refused(400, "invalid_request", 9_002_313);
        }
        let scope = format!("{VAULT}/.default");
        for fields in
            [&[("audience", VAULT)][..], &[("audience", CLIENT), ("scope", &scope)], &[("scope", "openid")]]
        {
            assert_eq!(with(&form, fields).send(world).await.status, 200, "{fields:?}");
        }
    });
}

#[test]
fn v1_serves_no_token_exchange_and_no_scope() {
    shared(|world| async move {
        let exchange = exchange(world).send_in(world, Dialect::V1).await;
        exchange.refused(400, "unsupported_grant_type", 70_003);
        let form = world.request();
        let url = world.token_url_v1(TENANT);
        let request = world.client.post(url).header("content-type", "application/x-www-form-urlencoded");
        let reply = Reply::of(request.body(form.body()).send().await.unwrap()).await;
        reply.refused(400, "invalid_request", 900_144);
        assert!(reply.text().contains("'resource'"), "{}", reply.text());
    });
}

#[test]
fn records_and_metrics_tell_the_dialect() {
    own(Plan::default(), |world| async move {
        for dialect in [Dialect::V2, Dialect::V1, Dialect::Rfc8693] {
            assert_eq!(world.request().send_in(&world, dialect).await.status, 200);
            let refused = world.request().with("client_id", ROLELESS).send_in(&world, dialect).await;
            assert_eq!(refused.body["error_codes"], json!([501_051]));
        }
        // An identity that only an audience names is in the record by its client id.
        let form = exchange(&world).without("client_id").with("audience", MIRID);
        assert_eq!(form.send(&world).await.status, 200);
        let lines = wait_for(|| Some(world.audit()).filter(|lines| lines.len() == 7)).await;
        let mut told: Vec<(String, String)> = lines
            .iter()
            .map(|line| {
                let text = |name: &str| line[name].as_str().unwrap().to_owned();
                (text("dialect"), text("outcome"))
            })
            .collect();
        told.sort();
        let expected = [
            ("entra_v1", "granted"),
            ("entra_v1", "refused"),
            ("entra_v2", "granted"),
            ("entra_v2", "refused"),
            ("rfc8693", "granted"),
            ("rfc8693", "granted"),
            ("rfc8693", "refused"),
        ];
        assert_eq!(told, expected.map(|(dialect, outcome)| (dialect.to_owned(), outcome.to_owned())));
        assert!(lines.iter().all(|line| line["resource"] == VAULT), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line["appId"] == CLIENT).count(), 4, "{lines:?}");
        for dialect in ["entra_v1", "entra_v2", "rfc8693"] {
            let series = format!(
                "ficus_exchanges_total{{dialect=\"{dialect}\",outcome=\"refused\",reason=\"not_assigned\"}}"
            );
            assert_eq!(world.metric(&series).await, 1.0, "{series}");
        }
    });
}

/// What clients add without being asked: parameters (MSAL JS, MSAL Python, MSAL.NET, azure-identity, google-auth), headers, query strings.
const PARAMETERS: &[(&str, &str)] = &[
    ("client_info", "1"),
    ("x-client-SKU", "msal.js.node"),
    ("x-client-VER", "5.6.0"),
    ("x-client-OS", "linux"),
    ("x-client-CPU", "x64"),
    ("x-ms-lib-capability", "retry-after, h429"),
    ("x-client-current-telemetry", "5|771,2,,,|,"),
    ("x-client-last-telemetry", "5|0|||0,0"),
    ("client-request-id", "not a GUID"),
    ("claims", "{\"access_token\":{\"xms_cc\":{\"values\":[\"CP1\"]}}}"),
    ("fmi_path", "a/b"),
    ("options", "{\"userProject\":\"1\"}"),
    ("redirect_uri", "https://other.example"),
    ("nonce", "\u{e9}\u{0}\r\n"),
    ("", "nameless"),
];
const HEADERS: &[(&str, &str)] = &[
    ("x-client-sku", "MSAL.Python"),
    ("x-client-current-telemetry", "4|730,2|"),
    ("x-ms-client-request-id", "also not a GUID"),
    ("client-request-id", "\"quoted\""),
    ("return-client-request-id", "perhaps"),
    ("x-ms-pkeyauth", "1.0"),
    ("accept", "text/html"),
    ("accept-language", "de"),
    ("origin", "https://page.example"),
    ("cookie", "fpc=1; buid=2"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-host", "other.example"),
    ("x-http-method-override", "DELETE"),
    ("authorization", "Bearer e30.e30."),
    ("proxy-authorization", "Basic Yzpw"),
    ("metadata", "true"),
    ("dpop", "e30.e30."),
    ("user-agent", ""),
];
const QUERIES: &[&str] = &[
    "?",
    "?client-request-id=a1b2c3d4-0001-4a00-8000-00000000c001",
    "?api-version=1.0&scope=https%3A%2F%2Fother%2F.default&client_id=other&grant_type=password",
    "?client_assertion=a.b.c&client_assertion=d.e.f&client_secret=s",
    "?%zz&&=&a=%00",
];

/// Nothing of it changes what is decided: neither a grant nor a refusal, one by one and all together.
#[test]
fn what_nobody_asked_for_changes_no_verdict() {
    shared(|world| async move {
        for dialect in [Dialect::V2, Dialect::V1, Dialect::Rfc8693] {
            for (form, expected) in [
                (world.request(), None),
                (world.request().with("client_id", ROLELESS), Some(501_051)),
                (world.request().without("client_assertion"), Some(7_000_216)),
            ] {
                let verdict = |reply: &Reply| {
                    let code = reply.body["error_codes"][0].as_u64();
                    assert_eq!(reply.status == 200, code.is_none(), "{:?}", reply.body);
                    code
                };
                let everything =
                    HEADERS.iter().fold(form.clone(), |form, (name, value)| form.header(name, value));
                let everything =
                    PARAMETERS.iter().fold(everything, |form, (name, value)| form.with(name, value));
                let mut variants: Vec<Form> = vec![everything.clone()];
                variants.extend(PARAMETERS.iter().map(|(name, value)| form.clone().with(name, value)));
                for variant in &variants {
                    let reply = variant.send_in(world, dialect).await;
                    assert_eq!(verdict(&reply), expected, "{dialect:?} {:?}", variant.fields);
                }
                for (name, value) in HEADERS {
                    let reply = form.clone().header(name, value).send_in(world, dialect).await;
                    assert_eq!(verdict(&reply), expected, "{dialect:?} {name}");
                }
                for query in QUERIES {
                    let reply = everything.send_to(world, dialect, query).await;
                    assert_eq!(verdict(&reply), expected, "{dialect:?} {query}");
                }
            }
        }
    });
}

/// An identity that is named by its place is refused by its place: its client id was not presented.
#[test]
fn a_refusal_repeats_the_name_that_was_presented() {
    let off = DIRECTORY.replacen("client_id = ", "enabled = false\nclient_id = ", 1);
    own(Plan { directory: off, ..Plan::default() }, |world| async move {
        let form = exchange(&world).without("client_id").with("audience", MIRID);
        let reply = form.send(&world).await;
        reply.refused(401, "invalid_client", 7_000_112);
        assert!(
            reply.text().contains(&format!("'{MIRID}'")) && !reply.text().contains(CLIENT),
            "{}",
            reply.text()
        );
        let line = world.record(&reply.trace()).await;
        assert!(line["appId"].as_str().unwrap().starts_with("/subscriptions/3333"), "{line}");
    });
}
