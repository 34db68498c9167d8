//! How often a client address may ask and an identity gets tokens, and who counts as a client address.
//!
//! Nothing here waits: the rates are so low that nobody's quota fills again within a test.

use std::net::IpAddr;

use ficus::emulator::github::Job;
use serde_json::{Value, json};

use crate::raw::{Raw, head};
use crate::support::*;

const DIALECTS: [Dialect; 3] = [Dialect::V2, Dialect::V1, Dialect::Rfc8693];
const ROLELESS: &str = "aaaaaaaa-0004-4a00-8000-000000000004";
const ARM: &str = "/subscriptions?api-version=2022-12-01";

const ADDRESS_TEXT: &str = "AADSTS90055: There are too many requests from this network address. Wait as long as \
    Retry-After says, and use a token until it expires instead of requesting another one. Trace ID: ";
const IDENTITY_TEXT: &str = "AADSTS90055: There are too many token requests for this client. Wait as long as \
    Retry-After says, and use a token until it expires instead of requesting another one. Trace ID: ";

fn plan(limits: &str) -> Plan {
    Plan { settings: format!("[limits]\n{limits}\n"), ..Plan::default() }
}

fn per_address(burst: u32) -> String {
    format!("per_address = {{ rate = \"1/h\", burst = {burst} }}\n")
}

fn per_identity(burst: u32) -> Plan {
    plan(&format!("per_identity = {{ rate = \"1/h\", burst = {burst} }}"))
}

/// The test's own address is a proxy's.
fn behind_a_proxy(burst: u32) -> Plan {
    plan(&format!("trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\n{}", per_address(burst)))
}

impl Form {
    fn forwarded(&self, chain: &str) -> Self {
        self.clone().header("x-forwarded-for", chain)
    }
}

impl World {
    /// A client at another address of this machine.
    fn client_at(&self, address: &str) -> reqwest::Client {
        let ca_file = self.broker.ca_file().map(|path| path.as_path());
        client_builder(ca_file).local_address(address.parse::<IpAddr>().unwrap()).build().unwrap()
    }

    async fn shed(&self, reason: &str) -> f64 {
        self.metric(&format!("ficus_requests_shed_total{{reason=\"{reason}\"}}")).await
    }

    async fn address_of(&self, reply: &Reply) -> Value {
        self.record(&reply.trace()).await["ipAddress"].clone()
    }
}

/// The whole answer, but for what differs from one to the next.
#[track_caller]
fn limited(reply: &Reply, text: &str) {
    reply.refused(429, "temporarily_unavailable", 90_055);
    assert_eq!(reply.header("retry-after"), "60");
    assert!(reply.text().starts_with(text), "{}", reply.text());
    let members: Vec<_> = reply.body.as_object().unwrap().keys().map(String::as_str).collect();
    let expected =
        ["correlation_id", "error", "error_codes", "error_description", "error_uri", "timestamp", "trace_id"];
    assert_eq!(members, expected);
}

#[test]
fn without_settings_nobody_is_limited() {
    shared(|world| async move {
        for _ in 0..50 {
            world.request().send(world).await.token();
        }
        for _ in 0..50 {
            world.request_with("x").send(world).await.refused(400, "invalid_request", 50_027);
        }
        assert_eq!((world.shed("address_rate").await, world.shed("identity_rate").await), (0.0, 0.0));
    });
}

#[test]
fn an_address_has_its_burst_whatever_it_sends_and_others_have_theirs() {
    own(plan(&per_address(4)), |world| async move {
        for dialect in DIALECTS {
            world.request().send_in(&world, dialect).await.token();
        }
        world.request_with("garbage").send(&world).await.refused(400, "invalid_request", 50_027);
        for dialect in DIALECTS {
            limited(&world.request().send_in(&world, dialect).await, ADDRESS_TEXT);
        }
        // A method that the path does not have is counted, too, and another tenant is no way out.
        let url = world.token_url(TENANT);
        limited(&Reply::of(world.client.get(&url).send().await.unwrap()).await, ADDRESS_TEXT);
        limited(&world.request().tenant(OTHER_TENANT).send(&world).await, ADDRESS_TEXT);
        assert_eq!(world.shed("address_rate").await, 5.0);

        // Documents are for everybody, and so is the operations listener.
        assert_eq!(world.get(&format!("/{TENANT}/v2.0/.well-known/openid-configuration")).await.status, 200);
        assert_eq!(world.get("/metadata/endpoints?api-version=2022-09-01").await.status, 200);
        assert_eq!(world.get("/error?code=90055").await.body["explanations"].as_array().unwrap().len(), 2);
        assert_eq!(world.ops("/readyz").await.0, 200);

        let form = world.request();
        let other = world.client_at("127.0.0.2").post(&url);
        let other = other.header("content-type", "application/x-www-form-urlencoded").body(form.body());
        Reply::of(other.send().await.unwrap()).await.token();
    });
}

#[test]
fn who_is_limited_by_address_is_answered_before_the_body_has_come() {
    own(plan(&per_address(1)), |world| async move {
        world.request().send(&world).await.token();
        let mut raw = Raw::connect(&world).await;
        raw.send(head(&world.request(), "Content-Length: 1000\r\n")).await;
        let answer = raw.answer().await.unwrap();
        answer.refused(429, 90_055);
        assert_eq!(answer.header("retry-after"), Some("60"));
    });
}

#[test]
fn the_record_of_a_limited_request_is_unverified_and_says_whence_it_came() {
    own(plan(&per_address(1)), |world| async move {
        world.request().send(&world).await.token();
        let reply = world.request().send(&world).await;
        limited(&reply, ADDRESS_TEXT);
        let line = world.record(&reply.trace()).await;
        assert_eq!(line["status"], json!({ "errorCode": 90055, "reason": "address_rate" }));
        assert_eq!((&line["outcome"], &line["verified"]), (&json!("refused"), &json!(false)));
        assert_eq!((&line["ipAddress"], &line["assertion"]), (&json!("127.0.0.1"), &Value::Null));
        let series =
            "ficus_exchanges_total{dialect=\"entra_v2\",outcome=\"refused\",reason=\"address_rate\"}";
        assert_eq!(world.metric(series).await, 1.0);
    });
}

#[test]
fn a_flood_from_one_address_is_aggregated_in_the_record() {
    own(plan(&per_address(1)), |world| async move {
        world.request().send(&world).await.token();
        for _ in 0..300 {
            limited(&world.request_with("x").send(&world).await, ADDRESS_TEXT);
        }
        // The clock of this world stands still: all of it is one second. Its end is when the aggregate is written.
        world.clock.set(world.clock.now() + 1);
        let of_limit = |line: &Value| line["status"]["reason"] == "address_rate";
        let count = |line: &Value| line["count"].as_u64().unwrap_or(1);
        let lines = eventually("all are counted", async || {
            let lines: Vec<_> = world.audit().into_iter().filter(of_limit).collect();
            (lines.iter().map(count).sum::<u64>() == 300).then_some(lines)
        });
        assert!(lines.await.len() <= 102);
    });
}

#[test]
fn the_resource_manager_counts_with_the_token_endpoints_and_refuses_in_its_own_shape() {
    own(plan(&per_address(2)), |world| async move {
        world.request().send(&world).await.token();
        assert_eq!(world.get(ARM).await.status, 401);
        for path in [ARM, "/tenants", "/providers/x"] {
            let reply = world.get(path).await;
            let message =
                "There are too many requests from this network address. Wait as long as Retry-After says.";
            assert_eq!(reply.body, json!({ "error": { "code": "TooManyRequests", "message": message } }));
            assert_eq!((reply.status, reply.header("retry-after")), (429, "60"));
            assert_eq!(reply.header("cache-control"), "no-store, no-cache");
            assert!(is_guid(&reply.trace()), "{reply:?}");
        }
        limited(&world.request().send(&world).await, ADDRESS_TEXT);
        assert_eq!(world.shed("address_rate").await, 4.0);
    });
}

// Proxies

#[test]
fn behind_a_trusted_proxy_the_address_is_the_one_that_it_names() {
    own(behind_a_proxy(1), |world| async move {
        let form = world.request();
        let reply = form.forwarded("198.51.100.1").send(&world).await;
        reply.token();
        assert_eq!(world.address_of(&reply).await, "198.51.100.1");
        let reply = form.forwarded("198.51.100.1:50000, 10.1.2.3").send(&world).await;
        limited(&reply, ADDRESS_TEXT);
        assert_eq!(world.address_of(&reply).await, "198.51.100.1");
        // What a client writes in front is not read, in one line or in two.
        let reply = form.forwarded("203.0.113.5, 198.51.100.1").send(&world).await;
        limited(&reply, ADDRESS_TEXT);
        limited(&form.forwarded("203.0.113.6").forwarded("198.51.100.1").send(&world).await, ADDRESS_TEXT);

        form.forwarded("198.51.100.2").send(&world).await.token();
        form.forwarded("2001:db8::1").send(&world).await.token();
        let reply = form.forwarded("[2001:db8::2]:443").send(&world).await;
        limited(&reply, ADDRESS_TEXT);
        assert_eq!(world.address_of(&reply).await, "2001:db8::2");
        // Without the header it is the proxy itself that asks; a hop that is no address ends the walk.
        let reply = form.send(&world).await;
        reply.token();
        assert_eq!(world.address_of(&reply).await, "127.0.0.1");
        limited(&form.forwarded("198.51.100.9, unknown").send(&world).await, ADDRESS_TEXT);
        // The same address at the resource manager.
        let arm = world.client.get(format!("{}{ARM}", world.authority));
        let arm = arm.header("x-forwarded-for", "198.51.100.1").send().await.unwrap();
        assert_eq!(arm.status(), 429);
    });
}

#[test]
fn nobody_else_can_name_an_address() {
    own(plan(&per_address(2)), |world| async move {
        let form = world.request();
        for address in ["198.51.100.1", "198.51.100.2"] {
            let reply = form.forwarded(address).send(&world).await;
            reply.token();
            assert_eq!(world.address_of(&reply).await, "127.0.0.1");
        }
        limited(&form.forwarded("198.51.100.3").send(&world).await, ADDRESS_TEXT);
        // Nor does the address of who is not trusted count when others are.
    });
    own(plan(&format!("trusted_proxies = [\"127.0.0.2\"]\n{}", per_address(1))), |world| async move {
        let form = world.request();
        form.forwarded("198.51.100.1").send(&world).await.token();
        limited(&form.forwarded("198.51.100.2").send(&world).await, ADDRESS_TEXT);
    });
}

#[test]
fn the_record_has_the_address_behind_the_proxy_without_any_rate() {
    own(plan("trusted_proxies = [\"127.0.0.0/8\"]"), |world| async move {
        for (chain, address) in [("198.51.100.7", "198.51.100.7"), ("x", "127.0.0.1")] {
            let reply = world.request().forwarded(chain).send(&world).await;
            reply.token();
            assert_eq!(world.address_of(&reply).await, address);
        }
    });
}

// Identities

#[test]
fn an_identity_gets_its_burst_in_all_dialects_together_and_others_get_theirs() {
    own(per_identity(3), |world| async move {
        for dialect in DIALECTS {
            world.request().send_in(&world, dialect).await.token();
        }
        for dialect in DIALECTS {
            limited(&world.request().send_in(&world, dialect).await, IDENTITY_TEXT);
        }
        // Another resource is no way out, nor another credential of the identity, nor the tenant's other name.
        limited(&world.request().with("scope", "api://orders/.default").send(&world).await, IDENTITY_TEXT);
        limited(&world.request().tenant("contoso.example").send(&world).await, IDENTITY_TEXT);
        assert_eq!(world.shed("identity_rate").await, 5.0);
        let other = world.request().with("client_id", ROLELESS);
        // For what it may not have it gets no token, and uses none up.
        for _ in 0..5 {
            other.send(&world).await.refused(401, "invalid_grant", 501_051);
        }
        let other = other.with("scope", "https://sql.example/.default");
        for dialect in DIALECTS {
            other.send_in(&world, dialect).await.token();
        }
        limited(&other.send(&world).await, IDENTITY_TEXT);

        let reply = world.request().send(&world).await;
        let line = world.record(&reply.trace()).await;
        assert_eq!(line["status"], json!({ "errorCode": 90055, "reason": "identity_rate" }));
        assert_eq!((&line["verified"], &line["identityName"]), (&json!(true), &json!("id-deploy")));
        assert_eq!(line["federatedCredentialName"], "main-branch");
    });
}

#[test]
fn neither_garbage_nor_other_subjects_of_the_issuer_use_up_what_is_an_identitys() {
    own(per_identity(2), |world| async move {
        world.request().send(&world).await.token();
        let (header, claims) = world.honest();
        let other = |claim: &str, value: &str| {
            let mut claims = claims.clone();
            claims[claim] = json!(value);
            world.request_with(&world.sign(&header, &claims))
        };
        let forged = {
            let token = world.assertion();
            let (text, signature) = token.rsplit_once('.').unwrap();
            let first = if signature.starts_with('A') { "B" } else { "A" };
            world.request_with(&format!("{text}.{first}{}", &signature[1..]))
        };
        for _ in 0..5 {
            world.request_with("garbage").send(&world).await.refused(400, "invalid_request", 50_027);
            forged.send(&world).await.refused(401, "invalid_client", 700_027);
            // Anybody at the same platform has soundly signed tokens.
            let reply = other("sub", "repo:stranger/repo:ref:refs/heads/main").send(&world).await;
            reply.refused(401, "invalid_client", 700_213);
            other("aud", "api://stranger").send(&world).await.refused(401, "invalid_client", 700_212);
            // Who asks for what is not there gets no token, and uses none up.
            let absent = world.request().with("scope", "https://absent.example/.default");
            absent.send(&world).await.refused(401, "invalid_resource", 500_011);
        }
        world.request().send(&world).await.token();
        limited(&world.request().send(&world).await, IDENTITY_TEXT);
        // All of that is still answered for what it is: nobody but who fits learns of the limit.
        forged.send(&world).await.refused(401, "invalid_client", 700_027);
        let reply = other("sub", "repo:stranger/repo:ref:refs/heads/main").send(&world).await;
        reply.refused(401, "invalid_client", 700_213);
    });
}

#[test]
fn a_limited_request_uses_up_no_one_time_assertion_and_a_used_one_takes_no_token() {
    let once = Plan { issuer: "jti_once = true\n".to_owned(), ..per_identity(2) };
    own(once, |world| async move {
        let used = world.request();
        used.send(&world).await.token();
        for _ in 0..5 {
            used.send(&world).await.refused(401, "invalid_client", 50_013);
        }
        world.request().send(&world).await.token();
        let fresh = world.request();
        for _ in 0..3 {
            limited(&fresh.send(&world).await, IDENTITY_TEXT);
        }
        assert_eq!(world.metric("ficus_one_time_entries").await, 2.0);
        // A replay is told as one all the same: it is an alarm.
        used.send(&world).await.refused(401, "invalid_client", 50_013);
    });
}

#[test]
fn a_reload_keeps_what_is_left_and_gives_new_identities_their_own() {
    const ADDED: &str = "aaaaaaaa-0099-4a00-8000-000000000099";
    const ADDED_PRINCIPAL: &str = "bbbbbbbb-0099-4a00-8000-000000000099";
    own(per_identity(2), |world| async move {
        let records = "etc/directory/records.toml";
        world.request().send(&world).await.token();
        world.live(records, &world.records().replace("id-bare", "id-other")).await;
        world.request().send(&world).await.token();
        limited(&world.request().send(&world).await, IDENTITY_TEXT);
        let added = format!(
            "[[identity]]\ntenant = \"contoso.example\"\nname = \"id-added\"\nkind = \"application\"\n\
             client_id = \"{ADDED}\"\nprincipal_id = \"{ADDED_PRINCIPAL}\"\n\
             [[identity.federated_credential]]\nname = \"main\"\nissuer = \"{}\"\nsubject = \"{}\"\n\
             [[role_assignment]]\ntenant = \"contoso.example\"\nprincipal_id = \"{ADDED_PRINCIPAL}\"\n\
             role = \"Reader\"\nscope = \"/\"\n",
            world.emulator.github().issuer(),
            Job::default().subject(),
        );
        world.live(records, &format!("{}\n{added}", world.records())).await;
        let form = world.request().with("client_id", ADDED);
        form.send(&world).await.token();
        form.send(&world).await.token();
        limited(&form.send(&world).await, IDENTITY_TEXT);
        limited(&world.request().send(&world).await, IDENTITY_TEXT);
    });
}

#[test]
fn both_limits_hold_beside_each_other() {
    let settings = format!("{}per_identity = {{ rate = \"1/h\", burst = 1 }}", per_address(3));
    own(plan(&settings), |world| async move {
        world.request().send(&world).await.token();
        for _ in 0..2 {
            limited(&world.request().send(&world).await, IDENTITY_TEXT);
        }
        limited(&world.request().send(&world).await, ADDRESS_TEXT);
        assert_eq!((world.shed("address_rate").await, world.shed("identity_rate").await), (1.0, 2.0));
    });
}
