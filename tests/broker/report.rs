//! `ficus check --report`: each finding comes of what it is about, and of nothing else.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::*;

const TAGS: &str = "tags = { owner = \"team\", workload = \"app\" }\n";
const VAULT: &str =
    "/subscriptions/22222222-2222-2222-2222-222222222222/resourceGroups/rg/providers/V/vaults/kv";

fn identity(number: u8, more: &str) -> String {
    format!(
        "[[identity]]\nname = \"id-{number}\"\nkind = \"application\"\n\
         client_id = \"0000000{number}-0000-4000-8000-000000000000\"\n\
         principal_id = \"0000000{number}-0000-4000-8000-000000000001\"\n{more}"
    )
}

fn credential(number: usize, more: &str) -> String {
    format!(
        "[[identity.federated_credential]]\nname = \"cred-{number}\"\nissuer = \"https://i.example\"\n\
         subject = \"s{number}\"\n{more}"
    )
}

fn role(number: u8, scope: &str) -> String {
    format!(
        "[[role_assignment]]\nprincipal_id = \"0000000{number}-0000-4000-8000-000000000001\"\nrole = \"Reader\"\n\
         scope = \"{scope}\"\n"
    )
}

fn resource(name: &str, number: u8, scope: &str) -> String {
    format!(
        "[[resource]]\nname = \"{name}\"\nclient_id = \"0000000{number}-0000-4000-8000-000000000002\"\n\
         identifier_uris = [\"api://{name}\"]\nscope = \"{scope}\"\n"
    )
}

/// Records that nothing is to be said of.
fn sound() -> String {
    let identity = identity(1, TAGS);
    [identity, credential(1, ""), role(1, VAULT), resource("vault", 1, VAULT)].concat()
}

/// What is found of these records, as JSON and as text.
fn found(records: &str, issuer: &str) -> (Value, String) {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("directory")).unwrap();
    fs::write(folder.path().join("directory/a.toml"), records).unwrap();
    let config = format!("[[tenant]]\nid = \"{TENANT}\"\ndomain = \"contoso.example\"\n{issuer}");
    fs::write(folder.path().join("ficus.toml"), config).unwrap();
    let run = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ficus"))
            .args(["check", "--report"])
            .args(more)
            .env("FICUS_CONFIG", folder.path().join("ficus.toml"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    (serde_json::from_str(&run(&["--json"])).unwrap(), run(&[]))
}

/// Kind, name and details of everything that is found.
fn rows(records: &str, issuer: &str) -> Vec<[String; 3]> {
    let (report, text) = found(records, issuer);
    let kinds = report.as_object().unwrap().iter();
    let lists = kinds.filter_map(|(kind, list)| Some((kind, list.as_array()?)));
    let rows = lists.flat_map(|(kind, list)| list.iter().map(move |one| (kind, one)));
    let part = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let rows: Vec<_> =
        rows.map(|(kind, one)| [kind.clone(), part(one, "name"), part(one, "details")]).collect();
    for [kind, name, details] in &rows {
        assert!(text.contains(&format!("({kind}, ")), "{kind}: {text}");
        assert!(text.lines().any(|line| line.contains(name) && line.contains(details)), "{name}: {text}");
    }
    rows
}

#[test]
fn each_finding_comes_of_what_it_is_about() {
    let sound = sound();
    let (report, text) = found(&sound, "");
    assert!(text.starts_with("nothing to report\nunused_credentials: can't be told: /"), "{text}");
    let mut kinds = report.as_object().unwrap().clone();
    assert_eq!(kinds.remove("unused_credentials"), Some(Value::Null));
    assert!(
        kinds.remove("audit_log").unwrap()["unknown"].as_str().unwrap().contains("there is no such file")
    );
    assert_eq!(kinds.len(), 12);
    assert!(kinds.values().all(|list| *list == json!([])), "{report}");

    let many = |count: usize| {
        let list: String = (1..=count).map(|number| credential(number, "")).collect();
        sound.replace(&credential(1, ""), &list)
    };
    assert_eq!(rows(&many(14), ""), [[""; 3]; 0]);
    let other = |credential: &str| format!("{sound}{}{credential}{}", identity(2, TAGS), role(2, VAULT));
    let group = VAULT.split("/providers").next().unwrap();
    let second = resource("second", 2, &format!("{VAULT}/secrets/a"));
    let off = credential(2, "enabled = false\n");
    let with_credential =
        |more: &str| sound.replace(&credential(1, ""), &format!("{}{more}", credential(1, "")));
    let switched_off = "[[issuer]]\nurl = \"https://i.example\"\nenabled = false\n";
    for (records, issuer, expected) in [
        (many(15), "", vec![["near_limit", "id-1", "15 of 20"]]),
        (
            other(&credential(1, "")),
            "",
            vec![[
                "duplicate_credentials",
                "id-1/cred-1, id-2/cred-1",
                "https://i.example s1 api://AzureADTokenExchange",
            ]],
        ),
        (other(&credential(1, "audiences = [\"api://other\"]\n")), "", vec![]),
        (sound.replace(TAGS, ""), "", vec![["without_tags", "id-1", "owner, workload"]]),
        (
            sound.replace("workload = \"app\"", "workload = \"\""),
            "",
            vec![["without_tags", "id-1", "workload"]],
        ),
        (
            format!("{sound}{}", role(9, VAULT)),
            "",
            vec![[
                "unknown_principals",
                "00000009-0000-4000-8000-000000000001",
                &format!("Reader at {}", VAULT.to_lowercase()),
            ]],
        ),
        (
            sound.replace(&role(1, VAULT), &role(1, group)),
            "",
            vec![[
                "wide_role_assignments",
                "id-1",
                &format!("Reader at {}, over 1 resource", group.to_lowercase()),
            ]],
        ),
        // One scope may be that of a resource and have another below it.
        (
            format!("{sound}{second}"),
            "",
            vec![[
                "wide_role_assignments",
                "id-1",
                &format!("Reader at {}, over 2 resources", VAULT.to_lowercase()),
            ]],
        ),
        // Above one resource, and not what resources are kept in.
        (sound.replace(&role(1, VAULT), &role(1, &VAULT.replace("/kv", ""))), "", vec![]),
        (
            sound.replace(&role(1, VAULT), ""),
            "",
            vec![["unassigned_resources", "vault", ""], ["without_roles", "id-1", ""]],
        ),
        (with_credential(&off), "", vec![["disabled_credentials", "id-1/cred-2", ""]]),
        (
            with_credential(&credential(2, "mode = \"observe\"\n")),
            "",
            vec![["observed_credentials", "id-1/cred-2", ""]],
        ),
        (
            sound.replace(&credential(1, ""), &credential(1, "enabled = false\n")),
            "",
            vec![
                ["disabled_credentials", "id-1/cred-1", ""],
                ["unnamed_issuers", "https://i.example", ""],
                ["without_credentials", "id-1", "none of 1 counts"],
            ],
        ),
        (
            sound.clone(),
            switched_off,
            vec![
                ["disabled_credentials", "id-1/cred-1", "its issuer"],
                ["unnamed_issuers", "https://i.example", "disabled"],
                ["without_credentials", "id-1", "none of 1 counts"],
            ],
        ),
        (
            sound.clone(),
            "[[issuer]]\nurl = \"https://other.example\"\n",
            vec![["unnamed_issuers", "https://other.example", ""]],
        ),
        (
            sound.replace(TAGS, &format!("{TAGS}enabled = false\n")),
            "",
            vec![["disabled_identities", "id-1", ""], ["unnamed_issuers", "https://i.example", ""]],
        ),
    ] {
        let mut expected: Vec<_> = expected.iter().map(|row| row.map(str::to_owned)).collect();
        let mut found = rows(&records, issuer);
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{records}");
    }
}

/// Names and details of one kind in the report on a world's directory, the whole report, and what it says to people.
fn reported(world: &World, kind: &str, more: &[&str]) -> (Vec<(String, String)>, Value, String) {
    let run = |last: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_ficus"))
            .args(["check", "--report"])
            .args(more)
            .args(last)
            .env("FICUS_CONFIG", world.folder.path().join("etc/ficus.toml"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report: Value = serde_json::from_str(&run(&["--json"])).unwrap();
    let part = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
    let list = report[kind].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows = list.iter().map(|one| (part(one, "name"), part(one, "details"))).collect();
    (rows, report, run(&[]))
}

/// Two credentials that count, of which tokens fit both, and one in observe mode.
fn three() -> String {
    let subject = |name: &str, environment: &str, more: &str| {
        format!(
            "[[identity.federated_credential]]\nname = \"{name}\"\nissuer = \"{{issuer}}\"\n\
             subject = \"repo:my--org/payments-service:{environment}\"\n{more}"
        )
    };
    let credentials = [
        subject("used", "ref:refs/heads/main", ""),
        subject("rare", "environment:rare", ""),
        subject("tried", "environment:tried", "mode = \"observe\"\n"),
        subject("off", "environment:off", "enabled = false\n"),
    ];
    let identity = identity(1, TAGS).replace("[[identity]]", &format!("[[identity]]\ntenant = \"{TENANT}\""));
    let tenant = |text: &str, table: &str| text.replace(table, &format!("{table}\ntenant = \"{TENANT}\""));
    let resource = resource("vault", 1, VAULT);
    [
        identity,
        credentials.concat(),
        tenant(&role(1, VAULT), "[[role_assignment]]"),
        tenant(&resource, "[[resource]]"),
    ]
    .concat()
}

#[test]
fn what_no_grant_of_the_whole_log_names_is_unused() {
    own(Plan { directory: three(), ..Plan::default() }, |world| async move {
        let (header, claims) = world.honest();
        let token = |place: &str| {
            let mut claims = claims.clone();
            claims["sub"] = json!(format!("repo:my--org/payments-service:{place}"));
            let client = "00000001-0000-4000-8000-000000000000";
            token_request(&world.sign(&header, &claims), "api://vault/.default").with("client_id", client)
        };
        let unused = |more: &[&str]| reported(&world, "unused_credentials", more);
        assert!(unused(&[]).2.contains("unused_credentials: can't be told: the audit log has no record\n"));
        // A refusal uses nothing, whatever it is near to.
        let reply = token("environment:other").send(&world).await;
        reply.refused(401, "invalid_client", 700_213);
        world.record(&reply.trace()).await;
        let row = |name: &str, details: &str| (name.to_owned(), details.to_owned());
        assert_eq!(unused(&[]).0, [row("id-1/rare", ""), row("id-1/used", "")]);
        for _ in 0..2 {
            let reply = token("environment:tried").send(&world).await;
            reply.refused(401, "invalid_client", 700_213);
            world.record(&reply.trace()).await;
        }
        token("ref:refs/heads/main").send(&world).await.token();
        let (rows, report, text) = unused(&[]);
        assert_eq!(rows, [row("id-1/rare", "")], "{text}");
        assert!(text.contains("by the audit log from ") && text.contains("proves nothing"), "{text}");
        assert_eq!(
            (&report["audit_log"]["seconds"], &report["audit_log"]["unknown"]),
            (&json!(0), &Value::Null)
        );
        let observed = reported(&world, "observed_credentials", &[]).0;
        assert_eq!(observed, [row("id-1/tried", "matched 2 times")]);

        // What was set aside counts, until it is too long ago.
        let data = world.folder.path().join("data");
        let log = fs::read_to_string(data.join("audit.jsonl")).unwrap();
        let old = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            line["createdDateTime"] = json!("2001-02-03T04:05:06Z");
            format!("{line}\n")
        };
        let granted = log.lines().rfind(|line| line.contains("\"granted\"")).unwrap();
        let rare = old(granted).replace("\"used\"", "\"rare\"");
        let aside = data.join("older.jsonl");
        fs::write(&aside, &rare).unwrap();
        let files = ["--audit-log", aside.to_str().unwrap(), "--audit-log", data.to_str().unwrap()];
        let files = [files[0], files[1], files[2], &format!("{}/audit.jsonl", files[3])];
        let (rows, report, _) = unused(&files);
        assert_eq!((rows, &report["audit_log"]["first"]), (vec![], &json!("2001-02-03T04:05:06Z")));
        let since = [&files[..], &["--since", "2001-02-04"]].concat();
        let (rows, report, _) = unused(&since);
        assert_eq!(rows, [row("id-1/rare", "")]);
        assert_eq!(report["audit_log"]["first"], "2001-02-04T00:00:00Z");
        // Another tenant's, or another identity's, of the same name.
        for (own, other) in [(TENANT, OTHER_TENANT), ("00000001-0000-4000-8000-000000000001", PRINCIPAL)] {
            assert!(rare.contains(own));
            fs::write(&aside, rare.replace(own, other)).unwrap();
            assert_eq!(unused(&files).0, [row("id-1/rare", "")], "{own}");
        }
    });
}
