//! A whole series with the real broker, as somebody at a terminal starts it. Counts are looked at, never times.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const SERIES: &str = r#"
[base]
about = "A few exchanges"
asserts = ["errors==0", "shed==0", "done==40"]

[base.directory]
identities = 4
credentials = 2

[base.traffic]
send = "fresh"
token = "ES256"
pool = 50
connections = 5
in_flight = 2

[[base.phase]]
name = "warm"
seconds = 60
count = 8
warm = true

[[base.phase]]
name = "full"
seconds = 60
count = 40

[[axis]]
grows = "identities"
values = [1, 2]

[[axis]]
grows = "issuers"
values = [1, 3]

[[axis]]
grows = "roles"
values = [0, 2]
"#;

/// Runs a series on these axes, without the broker's limits being measured.
fn growth(folder: &Path, series: &str, axes: &[&str]) -> Output {
    let file = folder.join("series.toml");
    fs::write(&file, series).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_ficus-load"));
    command.args(["growth", "--no-limits", "--series"]).arg(file).arg("--out").arg(folder);
    for axis in axes {
        command.args(["--axis", axis]);
    }
    command.output().unwrap()
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_series_runs_every_size_of_the_axes_that_are_asked_for_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let output = growth(folder.path(), SERIES, &["issuers", "roles"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));

    let found = folder.path().join("growth");
    let growth = json(&found.join("growth.json"));
    let mut sizes = Vec::new();
    for axis in growth["axes"].as_array().unwrap() {
        for point in axis["points"].as_array().unwrap() {
            assert_eq!(point["done"], 40, "{point}");
            assert!(point["memory_before"].as_f64().unwrap() > 1.0, "{point}");
            assert!(point["limit"].is_null(), "{point}");
            sizes.push(format!("{}-{}", axis["grows"].as_str().unwrap(), point["value"]));
        }
    }
    assert_eq!(sizes, ["issuers-1", "issuers-3", "roles-0", "roles-2"]);
    assert!(!found.join("identities-1").exists());

    // Discovery document and keys of each issuer.
    for (size, fetches) in [("issuers-1", 2), ("issuers-3", 6)] {
        let report = json(&found.join(size).join("report.json"));
        assert_eq!(report["figures"]["issuer_fetches"], f64::from(fetches), "{size}");
        let holds = |check: &Value| check["holds"] == true;
        let checks = report["checks"].as_array().unwrap();
        assert!(checks.iter().all(holds), "{checks:?}");
        for what in
            ["metrics agree with clients", "the record agrees with clients", "sampled tokens are sound"]
        {
            assert!(checks.iter().any(|check| check["what"] == what), "{what}: {checks:?}");
        }
    }

    let markdown = fs::read_to_string(found.join("growth.md")).unwrap();
    assert!(said.contains(&markdown), "{said}");
    assert_eq!(markdown.lines().filter(|line| line.starts_with("| issuers: ")).count(), 2, "{markdown}");
    let picture = fs::read_to_string(found.join("growth.svg")).unwrap();
    assert!(picture.contains(">issuers</text>") && picture.contains(">roles</text>"), "{picture}");
    assert!(!picture.contains(">identities</text>"), "{picture}");
}

#[test]
fn a_run_that_does_not_hold_breaks_the_series() {
    let folder = tempfile::tempdir().unwrap();
    let series = SERIES.replace("done==40", "done==41");
    let output = growth(folder.path(), &series, &["identities"]);
    assert_eq!(output.status.code(), Some(1));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("identities-1 is broken, and so is the series"), "{complaint}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("BROKEN done==41: it is 40"));
    // What was found is kept for whoever looks for the cause; nothing of it becomes a figure.
    assert!(folder.path().join("growth/identities-1/report.json").exists());
    for missing in ["growth/growth.json", "growth/growth.svg", "growth/identities-2"] {
        assert!(!folder.path().join(missing).exists(), "{missing}");
    }
}
