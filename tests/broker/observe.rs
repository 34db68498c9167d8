//! Credentials in observe mode: the caller meets what it would meet without them, the operator learns what they would have
//! granted.

use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::*;

const RECORDS: &str = "etc/directory/records.toml";
const MATCHES: [&str; 2] = [
    "ficus_observed_matches_total{outcome=\"granted\"}",
    "ficus_observed_matches_total{outcome=\"refused\"}",
];
const MAIN: &str = "subject = \"repo:my--org/payments-service:ref:refs/heads/main\"";
const OBSERVE: &str = "\nmode = \"observe\"";

/// An identity of nothing but this credential, and who may ask for it: it has the role that it needs.
const LONE: &str = "aaaaaaaa-0006-4a00-8000-000000000006";

fn lone(credential: &str) -> String {
    format!(
        "\n[[identity]]\ntenant = \"contoso.example\"\nname = \"id-lone\"\nkind = \"application\"\nclient_id = \"{LONE}\"\n\
         principal_id = \"bbbbbbbb-0006-4a00-8000-000000000006\"\n{credential}\
         [[role_assignment]]\ntenant = \"contoso.example\"\nprincipal_id = \"bbbbbbbb-0006-4a00-8000-000000000006\"\n\
         role = \"Reader\"\nscope = \"/\"\n"
    )
}

fn credential(name: &str, issuer: &str, subject: &str, more: &str) -> String {
    format!(
        "[[identity.federated_credential]]\nname = \"{name}\"\nissuer = \"{issuer}\"\nsubject = \"{subject}\"\n{more}\n"
    )
}

/// An answer without what no two answers share.
fn bare(reply: &Reply) -> (u16, Vec<String>, String) {
    let mut names: Vec<String> = reply.headers.keys().map(ToString::to_string).collect();
    names.sort();
    let (trace, correlation) = (reply.trace(), reply.body["correlation_id"].as_str().unwrap());
    (reply.status, names, reply.body.to_string().replace(&trace, "T").replace(correlation, "C"))
}

async fn matches(world: &World) -> [f64; 2] {
    [world.metric(MATCHES[0]).await, world.metric(MATCHES[1]).await]
}

fn own_world<F: Future>(test: impl FnOnce(Arc<World>) -> F) -> F::Output {
    own(Plan::default(), test)
}

#[test]
fn the_answer_is_that_of_no_credential_and_the_record_names_the_one_observed() {
    own_world(|world| async move {
        let (records, issuer) = (world.records(), world.emulator.github().issuer());
        let subject = "repo:my--org/payments-service:ref:refs/heads/main";
        let others = credential("others", "https://issuer.invalid", "anything", "");
        let main = |more: &str| credential("main-branch", &issuer, subject, more);
        let form = world.request().with("client_id", LONE);
        // Beside a credential of the same issuer, beside one of another, and alone.
        for (beside, code) in [
            (credential("beside", &issuer, "somebody else", ""), 700_213),
            (others.clone(), 700_211),
            (String::new(), 70_025),
        ] {
            let with = |credential: &str| format!("{records}{}", lone(&format!("{beside}{credential}")));
            world.live(RECORDS, &with(&main(""))).await;
            form.send(&world).await.token();
            world.live(RECORDS, &with("")).await;
            let absent = form.send(&world).await;
            absent.refused(401, "invalid_client", code);
            world.live(RECORDS, &with(&main("mode = \"observe\""))).await;
            let before = matches(&world).await;
            let observed = form.send(&world).await;
            assert_eq!(bare(&observed), bare(&absent));
            assert_eq!(matches(&world).await, [before[0] + 1.0, before[1]]);

            let record = world.record(&observed.trace()).await;
            let expected = json!({ "federatedCredentialName": "main-branch", "outcome": "granted" });
            assert_eq!((&record["observed"], &record["outcome"]), (&expected, &json!("refused")));
            assert_eq!(
                (&record["verified"], &record["federatedCredentialName"]),
                (&json!(true), &Value::Null)
            );
            assert_eq!(record["nearMiss"]["cause"], "C-OBSERVED", "{record:#}");
            assert_eq!(world.record(&absent.trace()).await["observed"], Value::Null);
        }
    });
}

#[test]
fn what_would_not_have_been_granted_is_not_called_so() {
    own_world(|world| async move {
        let (records, issuer) = (world.records(), world.emulator.github().issuer());
        let subject = "repo:my--org/payments-service:ref:refs/heads/main";
        let observed = credential("main-branch", &issuer, subject, "mode = \"observe\"");
        world.live(RECORDS, &format!("{records}{}", lone(&observed))).await;
        let form = world.request().with("client_id", LONE);
        let (header, claims) = world.honest();
        let changed = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            form.clone().with("client_assertion", &world.sign(&header, &claims))
        };
        let (now, honest) = (world.clock.now(), world.assertion());
        let (signed, signature) = honest.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let resigned = form.clone().with("client_assertion", &format!("{signed}.{first}{}", &signature[1..]));
        for form in [
            changed("sub", json!("somebody else")),
            changed("aud", json!("api://other")),
            changed("aud", json!([AUDIENCE, "api://other"])),
            changed("exp", json!(now - 3600)),
            changed("iss", json!("https://elsewhere.example")),
            resigned,
        ] {
            let before = matches(&world).await;
            let reply = form.send(&world).await;
            reply.refused(401, "invalid_client", 70_025);
            assert_eq!(matches(&world).await, before);
            assert_eq!(world.record(&reply.trace()).await["observed"], Value::Null);
        }

        // Keys that can't be had are no caller's business, who would else learn that somebody asks for them.
        let far = credential("far", "https://issuer.invalid", "anything", "mode = \"observe\"");
        world.live(RECORDS, &format!("{records}{}", lone(&format!("{observed}{far}")))).await;
        let reply = changed("iss", json!("https://issuer.invalid")).send(&world).await;
        reply.refused(401, "invalid_client", 70_025);
        let record = world.record(&reply.trace()).await;
        assert!(
            record["status"]["additionalDetails"].is_string() && record["verified"] == false,
            "{record:#}"
        );

        // It fits, and something else would have been in the way.
        let unknown = form.clone().with("scope", "https://unknown.example/.default");
        for (form, limit, reason) in
            [(unknown, "", "resource_unknown"), (form.clone(), "\nmax_token_lifetime = \"1m\"", "lifetime")]
        {
            let more = format!("mode = \"observe\"{limit}");
            let records = format!("{records}{}", lone(&credential("main-branch", &issuer, subject, &more)));
            if !limit.is_empty() {
                world.live(RECORDS, &records).await;
            }
            let before = matches(&world).await;
            let reply = form.send(&world).await;
            reply.refused(401, "invalid_client", 70_025);
            assert_eq!(matches(&world).await, [before[0], before[1] + 1.0]);
            let expected =
                json!({ "federatedCredentialName": "main-branch", "outcome": "refused", "reason": reason });
            assert_eq!(world.record(&reply.trace()).await["observed"], expected);
        }
    });
}

#[test]
fn warm_caches_grant_nothing_for_it_in_any_dialect_and_version() {
    own_world(|world| async move {
        let enforced = world.records();
        let observed = enforced.replacen(MAIN, &format!("{MAIN}{OBSERVE}"), 1);
        let assertion = world.assertion();
        let (vault, api) = (format!("{VAULT}/.default"), format!("{API}/.default"));
        let all = || {
            [&vault, &api].into_iter().flat_map(|scope| {
                [Dialect::V2, Dialect::V1, Dialect::Rfc8693]
                    .map(|dialect| (token_request(&assertion, scope), dialect))
            })
        };
        let mut tokens = Vec::new();
        for (form, dialect) in all() {
            let token = form.send_in(&world, dialect).await.token().to_owned();
            assert_eq!(form.send_in(&world, dialect).await.token(), token, "both caches are warm");
            tokens.push(token);
        }
        for _ in 0..2 {
            let digest = world.broker.directory().digest().to_owned();
            world.live(RECORDS, &observed).await;
            assert_ne!(world.broker.directory().digest(), digest);
            let before = matches(&world).await;
            for (form, dialect) in all() {
                let reply = form.send_in(&world, dialect).await;
                let refused = (reply.body["access_token"].is_null(), &reply.body["error_codes"]);
                assert_eq!(refused, (true, &json!([700_213])), "{:?}", reply.body);
            }
            assert_eq!(matches(&world).await, [before[0] + 6.0, before[1]]);
            assert_eq!(world.metric("ficus_directory_objects{kind=\"observed_credential\"}").await, 1.0);
            world.live(RECORDS, &enforced).await;
            for ((form, dialect), token) in all().zip(&tokens) {
                assert_eq!(form.send_in(&world, dialect).await.token(), token);
            }
        }
    });
}

#[test]
fn check_and_explain_say_it() {
    own_world(|world| async move {
        let records = world.records().replacen(MAIN, &format!("{MAIN}{OBSERVE}"), 1);
        world.live(RECORDS, &records).await;
        let token_file = world.folder.path().join("token");
        std::fs::write(&token_file, world.assertion()).unwrap();
        let ficus = |arguments: &[&str]| {
            let output = Command::new(env!("CARGO_BIN_EXE_ficus"))
                .args(arguments)
                .env("FICUS_CONFIG", world.folder.path().join("etc/ficus.toml"))
                .output()
                .unwrap();
            (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, text) = ficus(&["check"]);
        let listed = "\n1 credential in observe mode, granting nothing:\n  id-deploy/main-branch\n";
        assert!(code == 0 && text.ends_with(listed), "{text}");

        let token_file = token_file.to_str().unwrap();
        let explain = ["explain", "--tenant", TENANT, "--client-id", CLIENT, "--token-file", token_file];
        for (more, verified, outcome) in [
            (&["--resource", VAULT][..], true, "granted"),
            (&["--offline"], false, "granted"),
            (&["--resource", "https://unknown.example"], true, "refused"),
        ] {
            let (code, text) = ficus(&[&explain, more, &["--json"]].concat());
            let report: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (code, &report["granted"], &report["refusal"]["code"]),
                (1, &json!(false), &json!(700_213))
            );
            let observed = &report["observed"];
            assert_eq!(
                (&observed["credential"], &observed["verified"]),
                (&json!("main-branch"), &json!(verified))
            );
            assert_eq!(observed["outcome"], outcome, "{report:#}");
            assert_eq!(report["near_miss"]["cause"], "C-OBSERVED");
            let (_, text) = ficus(&[&explain, more].concat());
            assert!(text.contains("\nobserved: main-branch fits, and would "), "{text}");
            assert!(text.contains("main-branch (observe mode)"), "{text}");
        }
    });
}
