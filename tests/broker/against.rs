//! `ficus check --against`: another directory, read under the same configuration.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::*;

const MAIN: &str = "repo:my--org/payments-service:ref:refs/heads/main";
const TRUNK: &str = "repo:my--org/payments-service:ref:refs/heads/trunk";

fn check(world: &World, other: &Path, more: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_ficus"))
        .args(["check", "--against", other.to_str().unwrap()])
        .args(more)
        .env("FICUS_CONFIG", world.folder.path().join("etc/ficus.toml"))
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// What would change if the records became these: the report, and whether the exit code tells of flips.
fn changed(world: &World, records: &str) -> Value {
    let before = world.folder.path().join("before");
    std::fs::create_dir_all(&before).unwrap();
    std::fs::write(before.join("records.toml"), world.records()).unwrap();
    std::fs::write(world.folder.path().join("etc/directory/records.toml"), records).unwrap();
    let (code, out, err) = check(world, &before, &["--json"]);
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let flips = report["flips"].as_array().unwrap();
    assert_eq!(report["counts"]["flips"], flips.len());
    let (code, text, _) = check(world, &before, &["--exit-code"]);
    assert_eq!(code, i32::from(!flips.is_empty()), "{text}");
    assert_eq!(
        text.matches("\nwould ").count() + usize::from(text.starts_with("would ")),
        flips.len(),
        "{text}"
    );
    report
}

fn records(report: &Value) -> Vec<(&str, &str, &str)> {
    let all = report["records"].as_array().unwrap().iter();
    all.map(|one| {
        (one["change"].as_str().unwrap(), one["kind"].as_str().unwrap(), one["name"].as_str().unwrap())
    })
    .collect()
}

/// Change, identity, subject or resource, and the reason on the side that refuses.
fn flips(report: &Value) -> Vec<[&str; 4]> {
    let all = report["flips"].as_array().unwrap().iter();
    all.map(|one| {
        let about = one["claims"]["sub"].as_str().or(one["resource"].as_str()).unwrap();
        let reason = one["before"]["reason"].as_str().or(one["after"]["reason"].as_str()).unwrap();
        [one["change"].as_str().unwrap(), one["identity"].as_str().unwrap(), about, reason]
    })
    .collect()
}

#[test]
fn records_and_verdicts_that_differ_are_told() {
    own(Plan::default(), |world| async move {
        let good = world.records();
        let none = changed(&world, &format!("# A comment is no change.\n{good}"));
        assert_eq!((&none["records"], &none["flips"]), (&json!([]), &json!([])));
        assert_eq!(none["digest"]["before"], none["digest"]["after"]);

        // Another subject: one that is lost, one that is won.
        let moved = changed(&world, &good.replacen(MAIN, TRUNK, 1));
        assert_eq!(records(&moved), [("changed", "federated_credential", "id-deploy/main-branch")]);
        let subject = &moved["records"][0]["fields"];
        assert_eq!(*subject, json!({ "subject": { "before": MAIN, "after": TRUNK } }));
        let lost = ["refused", "id-deploy", MAIN, "subject_unmatched"];
        let won = ["granted", "id-deploy", TRUNK, "subject_unmatched"];
        assert_eq!(flips(&moved), [lost, won]);
        assert_eq!(moved["flips"][0]["before"], json!({ "outcome": "granted", "by": "main-branch" }));

        // To try a credential out is to take it away; its issuer is the same.
        let observed = good.replacen(&format!("{MAIN}\""), &format!("{MAIN}\"\nmode = \"observe\""), 1);
        let observed = changed(&world, &observed);
        let mode = json!({ "mode": { "before": "enforce", "after": "observe" } });
        assert_eq!(observed["records"][0]["fields"], mode);
        assert_eq!(flips(&observed), [lost]);

        // A role decides about resources, whatever the token says.
        let role = format!("\nprincipal_id = \"{PRINCIPAL}\"\nrole");
        let given = good.replace(&role, "\nprincipal_id = \"bbbbbbbb-0004-4a00-8000-000000000004\"\nrole");
        let given = changed(&world, &given);
        let found = flips(&given);
        assert!(found.contains(&["refused", "id-deploy", "vault", "not_assigned"]), "{found:?}");
        assert!(found.contains(&["granted", "id-roleless", "vault", "not_assigned"]), "{found:?}");
        assert!(found.iter().all(|one| one[3] == "not_assigned"), "{found:?}");
        assert!(records(&given).iter().all(|(_, kind, _)| *kind == "role_assignment"));

        // An identity that is switched off loses everything that its credentials are for; one that does not count, nothing.
        let off = changed(
            &world,
            &good.replacen("name = \"id-deploy\"", "name = \"id-deploy\"\nenabled = false", 1),
        );
        assert_eq!(records(&off), [("changed", "identity", "id-deploy")]);
        let found = flips(&off);
        assert_eq!(found.len(), 5, "{found:?}");
        assert!(found.iter().all(|one| (one[0], one[3]) == ("refused", "client_disabled")), "{found:?}");
    });
}

#[test]
fn what_either_side_expects_is_asked_of_both() {
    own(Plan::default(), |world| async move {
        let good = world.records();
        let issuer = world.emulator.github().issuer();
        let expectation = |client: &str, outcome: &str| {
            format!(
                "\n[[expect]]\ntenant = \"contoso.example\"\nidentity = \"{client}\"\nresource = \"{VAULT}\"\n\
                 claims = {{ iss = \"{issuer}\", sub = \"{MAIN}\", aud = [\"{AUDIENCE}\"] }}\n{outcome}\n"
            )
        };
        let role = format!("\nprincipal_id = \"{PRINCIPAL}\"\nrole");
        let taken = good.replace(&role, "\nprincipal_id = \"bbbbbbbb-0099-4a00-8000-000000000099\"\nrole");
        let report = changed(&world, &format!("{taken}{}", expectation("id-deploy", "deny = \"501051\"")));
        let asked = ["refused", "id-deploy", MAIN, "not_assigned"];
        assert!(flips(&report).contains(&asked), "{:?}", flips(&report));
        assert!(!flips(&changed(&world, &taken)).contains(&asked));
        // A side that has a problem can't be compared with.
        let broken = world.folder.path().join("broken");
        std::fs::create_dir(&broken).unwrap();
        std::fs::write(broken.join("a.toml"), expectation("id-none", "deny = \"700213\"")).unwrap();
        let (code, out, err) = check(&world, &broken, &["--json"]);
        assert!(
            code == 1 && out.is_empty() && err.contains("broken/a.toml:4: expect[0].identity"),
            "{out}{err}"
        );
    });
}
