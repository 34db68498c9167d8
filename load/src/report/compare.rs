//! Two reports side by side.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Report;
use crate::Failure;

/// The figures that tell most, first; ratios alone survive another machine.
const FIGURES: [&str; 13] = [
    "cpu_ratio",
    "cpu",
    "throughput",
    "p50",
    "p90",
    "p99",
    "p99.9",
    "p99.99",
    "max",
    "errors",
    "shed",
    "memory",
    "waits",
];

pub(crate) fn compare(first: &Path, second: &Path) -> Result<String, Failure> {
    let read = |path: &Path| -> Result<Report, Failure> {
        let text = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    };
    Ok(table(&read(first)?, &read(second)?))
}

fn table(first: &Report, second: &Report) -> String {
    let mut text = format!("{:14}{:>14}{:>14}{:>9}\n", "", first.scenario, second.scenario, "ratio");
    for (name, label) in [("machine", "machine"), ("commit", "commit")] {
        let [one, other] = [first, second].map(|report| report.setting.get(name).map_or("?", String::as_str));
        if one != other {
            let _ = writeln!(text, "{label}: {one} and {other}");
        }
    }
    for name in FIGURES {
        let (Some(one), Some(other)) = (first.figures.get(name), second.figures.get(name)) else { continue };
        let ratio = if *one > 0.0 { format!("{:.3}", other / one) } else { "-".to_owned() };
        let _ = writeln!(text, "{name:14}{one:>14.3}{other:>14.3}{ratio:>9}");
    }
    text + "times in ms, memory in MiB; ratio: the second by the first\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::report;

    #[test]
    fn two_reports_are_compared_by_their_figures() {
        let folder = tempfile::tempdir().unwrap();
        let (first, mut second) = (report(), report());
        second.figures.insert("p99".to_owned(), 3.0);
        let paths = [&first, &second].map(|report| {
            let path = folder.path().join(format!("{}.json", report.figures["p99"]));
            fs::write(&path, serde_json::to_string(report).unwrap()).unwrap();
            path
        });
        let text = compare(&paths[0], &paths[1]).unwrap();
        let p99 = text.lines().find(|line| line.starts_with("p99 ")).unwrap();
        assert!(p99.ends_with("1.500"), "{p99}");
        let gone = compare(&paths[0], Path::new("/nowhere.json")).unwrap_err();
        assert!(gone.to_string().contains("/nowhere.json"), "{gone}");
    }
}
