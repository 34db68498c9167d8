//! `ficus check --report`: each finding comes of what it is about, and of nothing else.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::TENANT;

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
    let rows = kinds.flat_map(|(kind, list)| list.as_array().unwrap().iter().map(move |one| (kind, one)));
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
    assert_eq!(text, "nothing to report\n");
    assert_eq!(report.as_object().unwrap().len(), 12);
    assert!(report.as_object().unwrap().values().all(|list| *list == json!([])), "{report}");

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
