//! `ficus explain` and `ficus health` as programs, beside a broker that runs.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::*;

fn ficus(world: &World, arguments: &[&str], token: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ficus"))
        .args(arguments)
        .env("FICUS_CONFIG", world.folder.path().join("etc/ficus.toml"))
        .env("https_proxy", "http://127.0.0.1:1")
        .env("http_proxy", "http://127.0.0.1:1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that needs no token may have ended already.
    let _ = child.stdin.take().unwrap().write_all(token.as_bytes());
    child.wait_with_output().unwrap()
}

/// Exit code and report; the token must not be in either stream.
fn explain(world: &World, token: &str, more: &[&str]) -> (i32, Value) {
    let arguments = ["explain", "--tenant", TENANT, "--client-id", CLIENT, "--token-file", "-", "--json"];
    let output = ficus(world, &[&arguments, more].concat(), token);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let signature = token.rsplit('.').next().unwrap();
    assert!(!out.contains(signature) && !err.contains(signature), "{out}{err}");
    (output.status.code().unwrap(), serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

#[test]
fn it_says_what_the_broker_says() {
    shared(async |w: &'static World| {
        let (header, claims) = w.honest();
        let changed = |name: &str, value: Value| {
            let mut claims = claims.clone();
            claims[name] = value;
            w.sign(&header, &claims)
        };
        let now = w.clock.now();
        for token in [
            w.assertion(),
            changed("sub", json!("repo:my--org/payments-service:ref:refs/heads/mаin")),
            changed("sub", json!("repo:my--org/payments-service:environment:off")),
            changed("sub", json!("repo:my--org/payments-service:environment:staging")),
            changed("aud", json!([AUDIENCE, "api://other"])),
            changed("iss", json!("https://elsewhere.example")),
            changed("iss", json!(format!("{}/{TENANT}/v2.0", w.authority))),
            changed("exp", json!(now - 3600)),
            changed("exp", json!(now + 90_000_000)),
            changed("aud", Value::Array(vec![])),
        ] {
            let reply = w.request_with(&token).send(w).await;
            let code = reply.body["error_codes"][0].clone();
            for more in [&["--scope", "https://vault.example/.default"][..], &["--offline"]] {
                let (exit, report) = explain(w, &token, more);
                assert_eq!(exit, i32::from(reply.status != 200), "{report:#}");
                assert_eq!(report["refusal"]["code"], code, "{report:#}");
            }
        }
    });
}

#[test]
fn limits_of_a_credential_are_told_and_what_only_the_broker_knows_is_not_claimed() {
    shared(async |w: &'static World| {
        let (header, mut claims) = w.honest();
        claims["sub"] = json!("repo:my--org/payments-service:environment:once");
        let token = w.sign(&header, &claims);
        w.request_with(&token).send(w).await.token();
        for (more, verdict) in [
            (&[][..], "granted, if it has not been used"),
            (&["--offline"], "granted, if the signature holds and it has not been used"),
        ] {
            let (exit, report) = explain(w, &token, more);
            assert_eq!((exit, &report["verdict"]), (0, &json!(verdict)), "{report:#}");
            let unchecked = report["not_checked"].as_array().unwrap();
            assert!(unchecked.contains(&json!("one-time use")), "{report:#}");
        }
        claims["sub"] = json!("repo:my--org/payments-service:environment:short");
        for (lifetime, code) in [(600, Value::Null), (601, json!(70_023))] {
            claims["exp"] = json!(claims["iat"].as_i64().unwrap() + lifetime);
            for more in [&[][..], &["--offline"], &["--scope", "https://vault.example/.default"]] {
                let (exit, report) = explain(w, &w.sign(&header, &claims), more);
                assert_eq!(exit, i32::from(code != Value::Null), "{report:#}");
                assert_eq!(report["refusal"]["code"], code, "{report:#}");
                assert_eq!(report["matched"], "short-lived", "{report:#}");
                if code != Value::Null {
                    assert_eq!(report["refusal"]["step"], "lifetime for the credential");
                }
            }
        }
    });
}

#[test]
fn a_forged_signature_shows_only_with_keys() {
    shared(async |w: &'static World| {
        let token = w.assertion();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let forged =
            format!("{signed}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..]);
        let (exit, report) = explain(w, &forged, &[]);
        assert_eq!((exit, &report["refusal"]["code"]), (1, &json!(700_027)), "{report:#}");
        let (exit, report) = explain(w, &forged, &["--offline"]);
        assert_eq!((exit, &report["matched"]), (0, &json!("main-branch")), "{report:#}");
        assert_eq!(report["not_checked"], json!(["issuer's keys and signature"]));
    });
}

#[test]
fn roles_and_resources_are_told() {
    shared(async |w: &'static World| {
        let (exit, report) = explain(w, &w.assertion(), &["--resource", VAULT]);
        assert_eq!(exit, 0);
        assert_eq!(report["roles"], json!(["Contributor", "Key Vault Secrets User"]));
        let (exit, report) = explain(w, &w.assertion(), &["--resource", "https://none.example"]);
        assert_eq!((exit, &report["refusal"]["code"]), (1, &json!(500_011)));
    });
}

#[test]
fn keys_that_can_not_be_had_are_no_verdict() {
    shared(async |w: &'static World| {
        let (header, mut claims) = w.honest();
        claims["iss"] = json!("https://issuer.invalid");
        claims["sub"] = json!("anything");
        let token = w.sign(&header, &claims);
        let (exit, report) = explain(w, &token, &[]);
        assert_eq!((exit, &report["refusal"]["code"]), (69, &json!(50_166)), "{report:#}");
        assert!(report["refusal"]["cause"].as_str().unwrap().contains("discovery document"));
        assert_eq!(explain(w, &token, &["--offline"]).0, 0);
    });
}

#[test]
fn the_text_puts_what_differs_under_each_other_and_spells_out_what_looks_alike() {
    shared(async |w: &'static World| {
        let (header, mut claims) = w.honest();
        claims["sub"] = json!("repo:my--org/payments-service:ref:refs/heads/m\u{430}in\u{1b}[2J");
        let token = w.sign(&header, &claims);
        let arguments = ["explain", "--tenant", TENANT, "--client-id", CLIENT, "--token-file", "-"];
        let text = String::from_utf8(ficus(w, &arguments, &token).stdout).unwrap();
        let mark = |columns: usize, length: usize| {
            format!("{:18}{}{}\n", "", " ".repeat(columns), "^".repeat(length))
        };
        let expected = format!(
            "credentials of id-deploy:\n  main-branch (enabled)\n    issuer   equal\n    subject  SIBLING: branch\n      \
             presented   repo:my--org/payments-service:ref:refs/heads/m\\u{{430}}in\\u{{1b}}[2J\n{}      \
             configured  repo:my--org/payments-service:ref:refs/heads/main\n{}    audience equal\n",
            mark(46, 18),
            mark(46, 3)
        );
        let expected = expected.as_str();
        assert!(text.contains(expected), "{text}");
        assert!(text.contains("  switched-off (disabled)\n"), "{text}");
        assert!(
            text.contains("AADSTS700213 subject_unmatched") && text.ends_with("verdict: refused\n"),
            "{text}"
        );
        assert!(!text.contains(token.rsplit('.').next().unwrap()));

        let output = ficus(w, &arguments, "{\"value\":\"a.b.c\"}");
        let line = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && line.lines().count() == 1 && line.contains("JSON"),
            "{line}"
        );
    });
}

#[test]
fn a_refusal_is_explained_with_the_record_that_would_cure_it() {
    shared(async |w: &'static World| {
        let (header, mut claims) = w.honest();
        claims["sub"] = json!("repo:my--org/payments-service:environment:stage");
        let token = w.sign(&header, &claims);
        w.request_with(&token).send(w).await.refused(401, "invalid_client", 700_213);
        let issuer = w.emulator.github().issuer();
        for more in [&[][..], &["--offline"]] {
            let (_, report) = explain(w, &token, more);
            let near = &report["near_miss"];
            assert_eq!((&near["cause"], &near["part"]), (&json!("S-GH-ENVNAME"), &json!("environment")));
            assert_eq!(report["credentials"][0]["name"], near["credential"], "the nearest comes first");
            assert_eq!(report["credentials"][0]["subject"]["class"], "SIBLING", "{report:#}");
            let proposal = &near["proposal"];
            assert_eq!(proposal["action"], "add");
            let text = |member: &str| proposal[member].as_str().unwrap().to_owned();
            // Put into the directory as it is, it cures the refusal.
            let (etc, toml) = (tempfile::tempdir().unwrap(), text("toml"));
            let folder = w.folder.path().join("etc");
            std::fs::create_dir(etc.path().join("directory")).unwrap();
            let config = std::fs::read_to_string(folder.join("ficus.toml")).unwrap();
            let config =
                config.replace("../emulator.pem", w.folder.path().join("emulator.pem").to_str().unwrap());
            std::fs::write(etc.path().join("ficus.toml"), config).unwrap();
            let records = std::fs::read_to_string(folder.join("directory/records.toml")).unwrap();
            let at = records.find("[[identity.federated_credential]]").unwrap();
            let cured = format!("{}{toml}\n{}", &records[..at], &records[at..]);
            std::fs::write(etc.path().join("directory/records.toml"), cured).unwrap();
            let config = etc.path().join("ficus.toml");
            let (exit, report) =
                explain(w, &token, &[&["--config", config.to_str().unwrap()], more].concat());
            assert_eq!((exit, &report["matched"]), (0, &proposal["name"]), "{report:#}");
            assert_eq!(report["near_miss"], Value::Null);

            let (az, terraform) = (text("az"), text("terraform"));
            assert!(
                az.starts_with("az identity federated-credential create --subscription 33333333-"),
                "{az}"
            );
            assert!(
                az.contains("--identity-name id-deploy") && az.contains("--resource-group 'rg-Deploy'"),
                "{az}"
            );
            assert!(az.contains(&format!("--issuer='{issuer}'")), "{az}");
            assert!(
                terraform.starts_with("resource \"azurerm_federated_identity_credential\""),
                "{terraform}"
            );
            let subject = "  subject = \"repo:my--org/payments-service:environment:stage\"\n";
            assert!(terraform.contains(subject), "{terraform}");
        }
    });
}

#[test]
fn a_wrong_client_is_told_and_no_record_proposed() {
    shared(async |w: &'static World| {
        let token = w.assertion();
        // id-bare has this credential, switched off; the object id of id-deploy is no client id.
        for (client, cause, other) in [
            ("aaaaaaaa-0003-4a00-8000-000000000003", "C-OFF", Value::Null),
            (PRINCIPAL, "T-WRONGCLIENT", json!("id-deploy")),
        ] {
            let arguments =
                ["explain", "--tenant", TENANT, "--client-id", client, "--token-file", "-", "--json"];
            let output = ficus(w, &arguments, &token);
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(1));
            let near = &report["near_miss"];
            assert_eq!((&near["cause"], &near["proposal"]), (&json!(cause), &Value::Null), "{report:#}");
            if other != Value::Null {
                assert_eq!(near["other_identity"], other, "{report:#}");
            }
        }
    });
}

#[test]
fn the_session_in_the_readme_is_what_explain_says() {
    shared(async |w: &'static World| {
        let root = env!("CARGO_MANIFEST_DIR");
        let readme = include_str!("../../README.md");
        let (_, session) = readme.split_once("```console\n$ ficus explain ").unwrap();
        let (session, _) = session.split_once("```").unwrap();
        let (command, output) = session.split_once('\n').unwrap();
        let (header, mut claims) = w.honest();
        claims["iss"] = json!("https://token.actions.githubusercontent.com");
        claims["sub"] = json!("repo:my--org/payments-service:ref:refs/heads/feature/login");
        let file = w.folder.path().join("token.jwt");
        std::fs::write(&file, w.sign(&header, &claims)).unwrap();
        let command = command.replace("token.jwt", file.to_str().unwrap());
        let said = Command::new(env!("CARGO_BIN_EXE_ficus"))
            .current_dir(root)
            .arg("explain")
            .args(command.split(' '))
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let mut rest = said.as_str();
        for part in output.split("…\n") {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not in {rest}"));
            rest = &rest[at + part.len()..];
        }
        assert_eq!(rest, "", "the session ends as the report does");
    });
}

#[test]
fn health_is_an_exit_code() {
    shared(async |w: &'static World| {
        let url = format!("http://{}", w.broker.ops_address());
        let ready = ficus(w, &["health", "--url", &url], "");
        assert_eq!((ready.status.code(), &*ready.stdout), (Some(0), &b"ready\n"[..]));
        for wrong in ["http://127.0.0.1:1".to_owned(), format!("{url}/nowhere"), "nonsense".to_owned()] {
            let output = ficus(w, &["health", "--url", &wrong], "");
            let line = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(1) && line.lines().count() == 1, "{wrong}: {line}");
        }
    });
}

#[test]
fn the_configuration_in_force_is_printed_as_toml_that_means_the_same() {
    shared(async |w: &'static World| {
        let printed = String::from_utf8(ficus(w, &["check", "--print"], "").stdout).unwrap();
        let value: toml::Table = printed.parse().unwrap_or_else(|error| panic!("{error}: {printed}"));
        assert_eq!(value["audit"]["on_overflow"].as_str(), Some("refuse"));
        assert_eq!(value["limits"]["body"].as_str(), Some("64KiB"));
        assert_eq!(value["issuer"][0]["ca_file"].as_str(), Some("../emulator.pem"));
        assert_eq!(value["tenant"][1]["domain"].as_str(), Some("fabrikam.example"));
        assert!(!printed.contains("BEGIN"), "{printed}");
        // Put in place of the file it is the same configuration.
        let file = w.folder.path().join("etc/printed.toml");
        std::fs::write(&file, &printed).unwrap();
        let again = ficus(w, &["check", "--print", "--config", file.to_str().unwrap()], "");
        assert_eq!(String::from_utf8(again.stdout).unwrap(), printed);
    });
}

/// Exit code and report on the record.
fn recorded(world: &World, id: &str, more: &[&str]) -> (i32, Value) {
    let output = ficus(world, &[&["explain", "--json", "--correlation-id", id], more].concat(), "");
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    (output.status.code().unwrap(), serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
}

/// Sends a token under a correlation id of its own, and waits for the record.
async fn correlated(world: &World, token: &str, id: &str) -> Reply {
    let reply = world.request_with(token).header("client-request-id", id).send(world).await;
    world.record(&reply.trace()).await;
    reply
}

fn id(number: usize) -> String {
    format!("0a1b2c3d-0000-4000-8000-0000000001{number:02}")
}

#[test]
fn the_record_is_explained_as_the_token_itself_is() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let (header, claims) = w.honest();
        let changed = |name: &str, value: &str| {
            let mut claims = claims.clone();
            claims[name] = json!(value);
            w.sign(&header, &claims)
        };
        let environment = "repo:my--org/payments-service:environment:";
        for (number, (token, step, action)) in [
            (changed("sub", &format!("{environment}stage")), "subject and audience", json!("add")),
            (changed("sub", &format!("{environment}off")), "subject and audience", Value::Null),
            (changed("aud", "api://elsewhere"), "subject and audience", Value::Null),
            (
                changed("sub", "repo:My--Org/payments-service:ref:refs/heads/main"),
                "subject and audience",
                json!("change"),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            correlated(w, &token, &id(number)).await.refused(
                401,
                "invalid_client",
                if number == 2 { 700_212 } else { 700_213 },
            );
            let (exit, report) = recorded(w, &id(number), &[]);
            let (_, by_token) = explain(w, &token, &["--offline"]);
            assert_eq!(exit, 1);
            for member in ["near_miss", "credentials"] {
                assert_eq!(report[member], by_token[member], "{number}: {report:#}");
            }
            for member in ["code", "reason", "meaning", "check"] {
                assert_eq!(report["refusal"][member], by_token["refusal"][member], "{report:#}");
            }
            assert_eq!(
                (&report["refusal"]["step"], &report["directory"]["changed"]),
                (&json!(step), &json!(false))
            );
            if number != 1 {
                assert_eq!(report["near_miss"]["proposal"]["action"], action, "{report:#}");
            }
        }
        let text =
            ficus(w, &["explain", "--correlation-id", "0A1B2C3D-0000-4000-8000-000000000100*"], "").stdout;
        let text = String::from_utf8(text).unwrap();
        for part in [
            "  identity    id-deploy\n",
            "\nrefused at subject and audience: AADSTS700213 subject_unmatched\n",
            "make sure that the subject is one of yours",
            "\nthe directory is the one that decided\n",
            "    subject  SIBLING: environment\n",
            "\ncause: S-GH-ENVNAME (environment)\n",
            "    [[identity.federated_credential]]\n",
            "    az identity federated-credential create",
            "    resource \"azurerm_federated_identity_credential\"",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(text.ends_with("\nverdict: refused\n"), "{text}");
    });
}

#[test]
fn of_a_recorded_grant_credential_and_token_are_told() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let reply = correlated(w, &w.assertion(), &id(20)).await;
        reply.token();
        let record = w.record(&reply.trace()).await;
        let (exit, report) = recorded(w, &id(20), &[]);
        assert_eq!((exit, &report["granted"], &report["matched"]), (0, &json!(true), &json!("main-branch")));
        assert_eq!((&report["uti"], &report["record"]), (&record["uniqueTokenIdentifier"], &record));
        assert_eq!(report["refusal"], Value::Null);
        // A refusal under the same id is what is asked for, whichever came first.
        let (header, mut claims) = w.honest();
        claims["sub"] = json!("repo:my--org/payments-service:pull_request");
        correlated(w, &w.sign(&header, &claims), &id(20)).await;
        correlated(w, &w.assertion(), &id(20)).await.token();
        let (exit, report) = recorded(w, &id(20), &[]);
        assert_eq!((exit, &report["records"], &report["refusal"]["code"]), (1, &json!(3), &json!(700_213)));
    });
}

#[test]
fn of_a_recorded_audience_with_a_comma_nobody_claims_that_it_matches() {
    let plan = Plan { issuer: "multiple_audiences = true\n".to_owned(), ..Plan::default() };
    own(plan, |world| async move {
        let w = &*world;
        let (header, claims) = w.honest();
        let with = |audience: Value| {
            let mut claims = claims.clone();
            claims["aud"] = audience;
            w.sign(&header, &claims)
        };
        let main = |report: &Value| {
            let all = report["credentials"].as_array().unwrap().clone();
            all.into_iter().find(|one| one["name"] == "main-branch").unwrap()
        };
        correlated(w, &with(json!(["x", AUDIENCE])), &id(50)).await.token();
        let one = with(json!(format!("x, {AUDIENCE}")));
        correlated(w, &one, &id(51)).await.refused(401, "invalid_client", 700_212);
        // The record is the same text for both.
        for (number, exit) in [(50, 0), (51, 1)] {
            let (code, report) = recorded(w, &id(number), &[]);
            assert_eq!(code, exit);
            assert_eq!(
                (&report["today"]["matched"], &report["today"]["refusal"]),
                (&Value::Null, &Value::Null)
            );
            assert!(report["today"]["undecided"].as_str().unwrap().contains("one audience or several"));
            let main = main(&report);
            assert_eq!((&main["matches"], &main["audience"]["equal"]), (&Value::Null, &Value::Null));
            assert_eq!(main["subject"]["equal"], true);
        }
        let text = ficus(w, &["explain", "--correlation-id", &id(51)], "").stdout;
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("\ntoday: can't be told: the audience"), "{text}");
        assert!(!text.contains("(matches)") && !text.contains("today credential"), "{text}");
        // None of them is configured, one or several: that is known.
        correlated(w, &with(json!("x, y")), &id(52)).await.refused(401, "invalid_client", 700_212);
        let (_, report) = recorded(w, &id(52), &[]);
        assert_eq!(report["today"]["refusal"]["code"], 700_212);
    });
}

#[test]
fn what_nobody_verified_gets_no_record_but_for_a_slash() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let (header, mut claims) = w.honest();
        for (number, (issuer, subject, cause, proposed)) in [
            // As anybody could write it who wants to be let in.
            ("https://evil.example", "anything", "I-OTHER", false),
            ("https://issuer.invalid/", "anything", "I-SLASH-MISSING", true),
            ("https://issuer.invalid/", "anythingelse", "I-SLASH-MISSING", false),
        ]
        .into_iter()
        .enumerate()
        {
            (claims["iss"], claims["sub"]) = (json!(issuer), json!(subject));
            let token = w.sign(&header, &claims);
            correlated(w, &token, &id(30 + number)).await.refused(401, "invalid_client", 700_211);
            let (_, report) = recorded(w, &id(30 + number), &[]);
            assert_eq!(
                (&report["verified"], &report["near_miss"]["cause"]),
                (&json!(false), &json!(cause)),
                "{report:#}"
            );
            assert_eq!(report["near_miss"]["proposal"] != Value::Null, proposed, "{report:#}");
        }
        let text = ficus(w, &["explain", "--correlation-id", &id(30)], "").stdout;
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("nobody checked the signature") && !text.contains("TOML"), "{text}");
    });
}

#[test]
fn a_directory_that_has_changed_since_is_told_and_decides_about_today() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let (header, mut claims) = w.honest();
        claims["sub"] = json!("repo:my--org/payments-service:environment:stage");
        correlated(w, &w.sign(&header, &claims), &id(40)).await.refused(401, "invalid_client", 700_213);
        let (_, before) = recorded(w, &id(40), &[]);
        let records = w.folder.path().join("etc/directory/records.toml");
        let text = std::fs::read_to_string(&records).unwrap();
        let cured = text.replacen("environment:staging", "environment:stage", 1).replacen(
            "api://staging",
            AUDIENCE,
            1,
        );
        assert_ne!(text, cured);
        std::fs::write(&records, cured).unwrap();
        let (exit, report) = recorded(w, &id(40), &[]);
        assert_eq!((exit, &report["directory"]["changed"]), (1, &json!(true)));
        assert_eq!(report["directory"]["then"], before["directory"]["today"]);
        assert_eq!(
            (&report["today"]["matched"], &report["near_miss"]),
            (&json!("other-audience"), &Value::Null)
        );
        let text = ficus(w, &["explain", "--correlation-id", &id(40)], "").stdout;
        let text = String::from_utf8(text).unwrap();
        for part in [
            "the directory has changed since",
            "today credential other-audience fits",
            "cause then: S-GH-ENVNAME\n",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
    });
}

#[test]
fn an_id_that_is_not_there_is_told_with_the_files_that_were_read() {
    shared(async |w: &'static World| {
        w.request().send(w).await.token();
        for (arguments, code, said) in [
            (&["--correlation-id", "none"][..], 1, "data/audit.jsonl (hint: "),
            (&["--correlation-id", "none", "--audit-log", "/nowhere/x"], 1, "there is no such file"),
            (&["--correlation-id", "none", "--client-id", CLIENT], 2, "cannot be used with"),
            (&["--audit-log", "x"], 2, "required"),
            (&[], 2, "--token-file"),
        ] {
            let output = ficus(w, &[&["explain"], arguments].concat(), "");
            let (out, err) =
                (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
            assert!(
                output.status.code() == Some(code) && out.is_empty() && err.contains(said),
                "{arguments:?} {out}{err}"
            );
        }
    });
}
