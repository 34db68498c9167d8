//! `[[expect]]` against a running broker: what is expected of claims is what a signed token with them gets, and a change that
//! breaks an expectation never goes live.

use std::process::Command;

use ficus::config::Config;
use ficus::directory::files::Tree;
use ficus::document::Problems;
use serde_json::{Value, json};

use crate::support::*;

const ROLELESS: &str = "aaaaaaaa-0004-4a00-8000-000000000004";
const OFF: &str = "aaaaaaaa-0002-4a00-8000-000000000002";
const FILE: &str = "etc/directory/expect.toml";

fn expectation(client: &str, claims: &Value, resource: &str, outcome: &str) -> String {
    let members = claims.as_object().unwrap().iter();
    // Strings and lists of strings are written in TOML as in JSON.
    let members: Vec<_> = members.map(|(name, value)| format!("{name} = {value}")).collect();
    format!(
        "[[expect]]\ntenant = \"contoso.example\"\nidentity = \"{client}\"\nclaims = {{ {} }}\n{resource}\n{outcome}\n",
        members.join(", ")
    )
}

/// The problems of the world's directory with these expectations in it, read as a broker reads it.
fn judged(world: &World, expectations: &str) -> Vec<String> {
    std::fs::write(world.folder.path().join(FILE), expectations).unwrap();
    let problems = Problems::default();
    let config = Config::load(&world.folder.path().join("etc/ficus.toml"), std::iter::empty(), &problems);
    config.unwrap().load_directory(&mut Tree::default(), &problems);
    problems.into_vec().iter().filter(|problem| !problem.warning).map(ToString::to_string).collect()
}

#[test]
fn what_is_expected_of_claims_is_what_a_signed_token_with_them_gets() {
    own(Plan::default(), |world| async move {
        let github = world.emulator.github().issuer();
        let sub = |rest: &str| json!(format!("repo:my--org/payments-service:{rest}"));
        let main = sub("ref:refs/heads/main");
        let own_issuer = format!("{}/{TENANT}/v2.0", world.authority);
        let variants = [
            json!({ "iss": github, "sub": main, "aud": AUDIENCE }),
            json!({ "iss": github, "sub": main, "aud": [AUDIENCE] }),
            json!({ "iss": github, "sub": main, "aud": [AUDIENCE, "api://other"] }),
            json!({ "iss": github, "sub": main, "aud": "api://azureadtokenexchange" }),
            json!({ "iss": github, "sub": main, "aud": [] }),
            json!({ "iss": github, "sub": main }),
            json!({ "iss": github, "sub": main, "aud": 1 }),
            json!({ "iss": github, "aud": AUDIENCE }),
            json!({ "iss": github, "sub": sub("ref:refs/heads/dev"), "aud": AUDIENCE }),
            json!({ "iss": github, "sub": sub("environment:staging"), "aud": "api://staging" }),
            json!({ "iss": github, "sub": sub("environment:staging"), "aud": AUDIENCE }),
            json!({ "iss": github, "sub": sub("environment:off"), "aud": AUDIENCE }),
            json!({ "iss": github, "sub": sub("environment:short"), "aud": AUDIENCE }),
            json!({ "iss": format!("{github}/"), "sub": main, "aud": AUDIENCE }),
            json!({ "iss": own_issuer, "sub": main, "aud": AUDIENCE }),
            json!({ "sub": main, "aud": AUDIENCE }),
        ];
        let (mut held, mut broken, mut granted) = (String::new(), Vec::new(), 0);
        for claims in &variants {
            let (header, honest) = world.honest();
            let mut whole = claims.clone();
            whole["iat"] = honest["iat"].clone();
            whole["exp"] = json!(honest["iat"].as_i64().unwrap() + 300);
            let token = world.sign(&header, &whole);
            for client in [CLIENT, ROLELESS, OFF, TENANT] {
                for resource in [VAULT, API, "https://unknown.example"] {
                    let form =
                        token_request(&token, &format!("{resource}/.default")).with("client_id", client);
                    let reply = form.send(&world).await;
                    let record = world.record(&reply.trace()).await;
                    let told = match reply.status {
                        200 => vec![format!("allow = {}", record["federatedCredentialName"])],
                        _ => {
                            let code = &record["status"]["errorCode"];
                            let names = [json!(format!("AADSTS{code}")), record["status"]["reason"].clone()];
                            let cause = record["nearMiss"]["cause"].as_str().map(|cause| json!(cause));
                            names.into_iter().chain(cause).map(|name| format!("deny = {name}")).collect()
                        }
                    };
                    granted += usize::from(reply.status == 200);
                    let write = |outcome: &str| {
                        expectation(client, claims, &format!("resource = \"{resource}\""), outcome)
                    };
                    held.extend(told.iter().map(|outcome| write(outcome)));
                    let opposite =
                        if reply.status == 200 { "deny = \"700213\"" } else { "allow = \"main-branch\"" };
                    // What is expected of an identity that is switched off is suspended.
                    if client != OFF {
                        broken.push(write(opposite));
                    }
                }
            }
        }
        assert!(granted > 5, "{granted}");
        assert_eq!(judged(&world, &held), [""; 0]);
        let found = judged(&world, &broken.concat());
        assert_eq!(found.len(), broken.len());
        for (number, line) in found.iter().enumerate() {
            assert!(line.contains(&format!("{FILE}:{}: expect[{number}].", number * 6 + 6)), "{line}");
        }
        let _ = std::fs::remove_file(world.folder.path().join(FILE));
    });
}

fn expected(world: &World, resource: &str) -> String {
    let sub = "repo:my--org/payments-service:ref:refs/heads/main";
    let claims = json!({ "iss": world.emulator.github().issuer(), "sub": sub, "aud": AUDIENCE });
    expectation("id-deploy", &claims, resource, "allow = \"main-branch\"")
}

#[test]
fn a_change_that_breaks_an_expectation_is_refused_and_the_last_good_state_serves() {
    own(Plan::default(), |world| async move {
        let good = world.records();
        let records = "etc/directory/records.toml";
        let digest = world.broker.directory().digest().to_owned();
        let refused = "ficus_directory_reload_total{result=\"refused\"}";
        // An expectation that holds changes nothing, and is in force.
        let vault = format!("resource = \"{VAULT}\"");
        world.replace(FILE, &expected(&world, &vault));
        world.replace(records, &good.replacen("main-branch", "other-name", 1));
        let line =
            "expect.toml:6: expect[0].allow: expected \"main-branch\" to grant, but \"other-name\" does";
        assert!(world.told(line).await.contains(&digest));
        world.request().send(&world).await.token();

        let role = format!("\nprincipal_id = \"{PRINCIPAL}\"\nrole");
        let roleless = good.replace(&role, "\nprincipal_id = \"bbbbbbbb-0099-4a00-8000-000000000099\"\nrole");
        world.replace(records, &roleless);
        assert!(world.told("AADSTS501051 not_assigned").await.contains(&digest));
        world.request().send(&world).await.token();

        let subject = "payments-service:ref:refs/heads/main";
        let moved = good.replace(subject, "payments-service:ref:refs/heads/trunk");
        world.replace(records, &moved);
        let text = world.told("AADSTS700213 subject_unmatched, S-GH-BRANCH (branch) (hint: ").await;
        assert!(text.contains(&digest), "{text}");
        world.request().send(&world).await.token();
        assert_eq!(world.broker.generation(), 1);
        assert_eq!(world.metric(refused).await, 3.0);

        // Whoever means the change says so in both.
        let file = expected(&world, &vault).replace("allow = \"main-branch\"", "deny = \"S-GH-BRANCH\"");
        world.replace(FILE, &file);
        world.past(1).await;
        world.request().send(&world).await.refused(401, "invalid_client", 700_213);
        assert!(!world.told("generation 2\n").await.contains("refused"));
    });
}

#[test]
fn no_switch_waits_for_an_expectation_and_what_is_really_broken_still_does() {
    own(Plan::default(), |world| async move {
        let (records, config) = ("etc/directory/records.toml", "etc/ficus.toml");
        let (good, settings) = (world.records(), std::fs::read_to_string(world.folder.path().join(config)));
        let settings = settings.unwrap();
        let after = |text: &str, line: &str| text.replacen(line, &format!("{line}enabled = false\n"), 1);
        let subject = |branch: &str| format!("repo:my--org/payments-service:ref:refs/heads/{branch}");
        let claims =
            json!({ "iss": world.emulator.github().issuer(), "sub": subject("dev"), "aud": AUDIENCE });
        let denied = expectation("id-deploy", &claims, "", "deny = \"S-GH-BRANCH\"");
        let both = format!("{}{denied}", expected(&world, &format!("resource = \"{VAULT}\"")));
        assert_eq!(judged(&world, &both), [""; 0]);
        let identity = after(&good, &format!("principal_id = \"{PRINCIPAL}\"\n"));
        let credential = after(&good, &format!("subject = \"{}\"\n", subject("main")));
        let issuer = after(&settings, "allow_private_network = true\n");
        for (file, off, error, code, told) in [
            (records, &identity, "unauthorized_client", 7_000_112, "identity \"id-deploy\""),
            (records, &credential, "invalid_client", 700_213, "credential \"main-branch\" of \"id-deploy\""),
            (config, &issuer, "invalid_client", 700_211, "issuer \"https://"),
        ] {
            let on = if file == records { &good } else { &settings };
            world.request().send(&world).await.token();
            world.live(file, off).await;
            world.request().send(&world).await.refused(401, error, code);
            let (code, out, err) = run(&world, "check");
            let line = "expect.toml:6: warning: expect[0].allow: it is refused: ";
            let said = format!("; it is suspended while {told}");
            assert!(code == 0 && err.contains(line) && err.contains(&said), "{code} {out}{err}");
            assert!(out.contains(" suspended\n"), "{out}");
            world.live(file, on).await;
        }
        assert!(run(&world, "check").1.ends_with("\n2 expectations hold\n"));
        // The same expectations, and what no switch has done: also beside a switch that is off elsewhere.
        let generation = world.broker.generation();
        let off = good.replacen("name = \"once\"\n", "name = \"once\"\nenabled = false\n", 1);
        for (broken, said) in [
            (good.replacen("main-branch", "other-name", 1), "expected \"main-branch\" to grant, but"),
            (
                off.replacen(&subject("main"), &subject("dev"), 1),
                "expected a refusal, but \"main-branch\" grants",
            ),
        ] {
            world.replace(records, &broken);
            world.told(said).await;
            world.request().send(&world).await.token();
        }
        assert_eq!(world.broker.generation(), generation);
    });
}

fn run(world: &World, command: &str) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ficus"))
        .arg(command)
        .env("FICUS_CONFIG", world.folder.path().join("etc/ficus.toml"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn check_counts_those_that_hold_and_serve_refuses_to_start_with_one_that_does_not() {
    own(Plan::default(), |world| async move {
        let run = |command: &str| run(&world, command);
        assert!(!run("check").1.contains("expectation"));
        let one = expected(&world, "");
        assert_eq!(judged(&world, &one), [""; 0]);
        assert!(run("check").1.ends_with("\n1 expectation holds\n"));
        assert_eq!(judged(&world, &format!("{one}{one}")), [""; 0]);
        assert!(run("check").1.ends_with("\n2 expectations hold\n"));
        judged(&world, &format!("{one}{}", one.replace("main-branch", "other-branch")));
        for command in ["check", "serve"] {
            let (code, out, err) = run(command);
            let said = "expect.toml:12: expect[1].allow: expected \"other-branch\" to grant, but \"main-branch\" does";
            assert!(code == 1 && out.is_empty() && err.contains(said), "{command}: {code} {out}{err}");
        }
    });
}
