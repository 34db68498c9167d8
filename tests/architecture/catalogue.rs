//! Holds SECURITY.md's table of the threat catalogue to the tests that it names, and the tests to the catalogue.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The catalogue's rows by letter. Those of the management plane (N) wait for one; what holds for the record and for our keys
/// is tested under its rows all the same.
const ROWS: [(&str, &[u32]); 11] = [
    ("J", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
    ("C", &[1, 2, 3, 4]),
    ("M", &[1, 2, 3, 4]),
    ("S", &[1, 2, 3, 4, 5, 6, 7]),
    // These count cases; a row begins with its first.
    ("F", &[2, 10, 18, 29, 36, 60]),
    ("G", &[1, 15, 26]),
    ("T", &[1]),
    ("K", &[1, 2, 3, 4, 5, 6]),
    ("H", &[1, 2, 3, 4, 5, 6, 7]),
    ("O", &[1, 2, 3, 4, 5, 6]),
    ("B", &[1, 2, 3, 4, 5]),
];
/// The rows of operations, apart from one that is no test's: known advisories are a step of `.ci/run`.
const OPERATIONS: [u32; 9] = [1, 2, 3, 4, 5, 6, 7, 8, 9];

/// Where tests of the catalogue's rows are: what only a part alone can show is tested beside its code.
const SUITES: [&str; 4] = ["tests/adversarial", "tests/faults", "tests/broker", "src"];

/// Every row as tests' names begin: `j_01_`.
pub(crate) fn rows() -> impl Iterator<Item = String> {
    let operations = ("P", &OPERATIONS[..]);
    ROWS.iter().copied().chain([operations]).flat_map(|(letter, numbers)| {
        numbers.iter().map(move |number| format!("{}_{number:02}_", letter.to_lowercase()))
    })
}

/// The names of all test functions and of helpers beside them, below a folder of the project.
pub(crate) fn functions(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files(&project().join(folder)) {
        let text = fs::read_to_string(&path).unwrap_or_default();
        for line in text.lines().map(str::trim_start) {
            let line = line.strip_prefix("async ").or(line.strip_prefix("pub ")).unwrap_or(line);
            let name = line.strip_prefix("fn ").or(line.strip_prefix("def "));
            found.extend(name.and_then(|name| name.split(['(', '<']).next()).map(str::to_owned));
        }
    }
    found
}

/// Rows without a test of their name.
pub(crate) fn untested(names: &BTreeSet<String>) -> Vec<String> {
    let of_row = |name: &str, row: &str| name.starts_with(row) || name.contains(&format!("_{row}"));
    rows().filter(|row| !names.iter().any(|name| of_row(name, row))).collect()
}

/// Names of the suites' functions: those of the catalogue.
pub(crate) fn suites() -> BTreeSet<String> {
    SUITES.iter().flat_map(|folder| functions(folder)).collect()
}

/// What a table names and is not there: files, and functions of tests (`…` stands for the rest of a name).
pub(crate) fn dangling(table: &str, names: &BTreeSet<String>) -> Vec<String> {
    let rows = table.lines().filter(|line| line.starts_with("| "));
    let named = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    named.filter(|name| !is_there(name, names)).map(str::to_owned).collect()
}

fn is_there(name: &str, names: &BTreeSet<String>) -> bool {
    let is_file = name.contains(['/', '.']);
    if is_file {
        let places = ["", "tests/adversarial/", "tests/faults/", "src/trust/", "src/domain/"];
        return places.iter().any(|place| project().join(format!("{place}{name}")).exists());
    }
    match name.strip_suffix('…') {
        Some(beginning) => names.iter().any(|other| other.starts_with(beginning)),
        None => names.contains(name),
    }
}

/// The part of a document between a heading and the next one.
pub(crate) fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let start = text.find(heading).map_or(text.len(), |at| at + heading.len());
    let rest = &text[start..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}
