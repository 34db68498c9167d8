//! What a series has found: the same figures of each run, as tables and as a picture.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Report;
use super::bars::{Bars, Column, Row};
use crate::{Failure, show};

/// What the columns of a table are called.
const HEAD: [&str; 6] = [
    "what grows",
    "µs of one core",
    "times the limit",
    "MiB before the load",
    "MiB under load",
    "ms until ready",
];

/// A series.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Growth {
    about: String,
    /// What it ran on, as in each report.
    setting: BTreeMap<String, String>,
    axes: Vec<Axis>,
}

/// The runs in which one thing grew.
#[derive(Debug, Serialize)]
struct Axis {
    grows: String,
    points: Vec<Point>,
}

/// One run.
#[derive(Debug, Serialize)]
struct Point {
    value: usize,
    /// Exchanges that were measured, and how many a second.
    done: u64,
    throughput: f64,
    /// Microseconds of the broker's processor time for an exchange; of these, what no broker can do without; the former by the
    /// latter. Without limits there is neither of these two.
    cpu: f64,
    limit: Option<f64>,
    cpu_ratio: Option<f64>,
    /// MiB of the broker: connected and ready, and at most.
    memory_before: f64,
    memory: f64,
    /// From the start of the broker, in milliseconds.
    ready: f64,
    /// Cores that other programs kept busy meanwhile.
    other_cores: f64,
    warnings: Vec<String>,
}

impl Growth {
    pub(crate) fn about(about: &str) -> Self {
        Self { about: about.to_owned(), ..Self::default() }
    }

    /// One more run, with so much of what grows.
    pub(crate) fn add(&mut self, grows: &str, value: usize, report: &Report) {
        let (Some(phase), Some(first)) = (report.saturated(), report.phases.first()) else { return };
        let limit = Some(report.floor.sum()).filter(|limit| *limit > 0.0);
        let point = Point {
            value,
            done: phase.done,
            throughput: phase.throughput,
            cpu: phase.cpu,
            limit,
            cpu_ratio: limit.map(|_| phase.cpu_ratio),
            memory_before: first.memory_start,
            memory: phase.memory,
            ready: report.figures.get("ready").copied().unwrap_or_default(),
            other_cores: phase.other_cores,
            warnings: report.warnings.clone(),
        };
        for name in ["machine", "commit", "built", "tokens"] {
            if let Some(value) = report.setting.get(name) {
                self.setting.insert(name.to_owned(), value.clone());
            }
        }
        match self.axes.iter_mut().find(|axis| axis.grows == grows) {
            Some(axis) => axis.points.push(point),
            None => self.axes.push(Axis { grows: grows.to_owned(), points: vec![point] }),
        }
    }

    /// For a terminal.
    pub(crate) fn table(&self) -> String {
        let head = HEAD.map(str::to_owned);
        let rows: Vec<_> = [head].into_iter().chain(self.rows()).collect();
        let mut text = format!("\n{}\n\n{}  {}\n", self.about, show::aligned(&rows), self.ran_on());
        for axis in &self.axes {
            for point in &axis.points {
                for warning in &point.warnings {
                    let _ = writeln!(text, "  warning: {} {}: {warning}", axis.grows, point.value);
                }
            }
        }
        text
    }

    /// For a document.
    pub(crate) fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut text = line(&HEAD.map(str::to_owned)) + "|---|" + &"---:|".repeat(HEAD.len() - 1) + "\n";
        text.extend(self.rows().iter().map(|row| line(row)));
        text + "\n" + &self.ran_on() + "\n"
    }

    /// As JSON, as the Markdown table and as a picture; the names of these files.
    pub(crate) fn write(&self, path: &Path) -> Result<[PathBuf; 3], Failure> {
        let files = ["json", "md", "svg"].map(|ending| path.with_extension(ending));
        fs::write(&files[0], serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(&files[1], self.markdown())?;
        fs::write(&files[2], self.picture())?;
        Ok(files)
    }

    fn rows(&self) -> Vec<[String; HEAD.len()]> {
        let row = |axis: &Axis, point: &Point| {
            [
                format!("{}: {}", axis.grows, grouped(point.value)),
                format!("{:.0}", point.cpu),
                point.cpu_ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
                format!("{:.0}", point.memory_before),
                format!("{:.0}", point.memory),
                format!("{:.0}", point.ready),
            ]
        };
        self.axes.iter().flat_map(|axis| axis.points.iter().map(move |point| row(axis, point))).collect()
    }

    fn ran_on(&self) -> String {
        let setting = |name: &str| self.setting.get(name).map_or("?", String::as_str);
        let points = || self.axes.iter().flat_map(|axis| &axis.points);
        let others = points().map(|point| point.other_cores).fold(0.0, f64::max);
        format!(
            "{}; commit {}; tokens signed {}; other programs kept at most {others:.1} cores busy.",
            setting("machine"),
            setting("commit"),
            setting("tokens")
        )
    }

    fn picture(&self) -> String {
        let bars = |parts: fn(&Point) -> [f64; 2]| {
            self.axes.iter().map(|axis| axis.points.iter().map(parts).collect()).collect()
        };
        let column = |axis: &Axis| Column {
            title: axis.grows.clone(),
            labels: axis.points.iter().map(|point| grouped(point.value)).collect(),
        };
        Bars {
            title: &self.about,
            columns: self.axes.iter().map(column).collect(),
            rows: [
                Row {
                    title: "µs of one core for an exchange",
                    parts: ["what no broker can do without", "the rest"],
                    bars: bars(|point| {
                        let limit = point.limit.unwrap_or(0.0).min(point.cpu);
                        [limit, point.cpu - limit]
                    }),
                },
                Row {
                    title: "MiB of memory",
                    parts: ["before the load", "more under load"],
                    bars: bars(|point| [point.memory_before, (point.memory - point.memory_before).max(0.0)]),
                },
            ],
        }
        .render()
    }
}

/// With commas between thousands.
fn grouped(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (number, digit) in digits.chars().enumerate() {
        if number > 0 && (digits.len() - number).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Floor;
    use crate::report::tests::report;

    /// Two runs on one axis and one without limits on another.
    fn growth() -> Growth {
        let mut growth = Growth::about("a & b");
        let mut found = report();
        found.floor = Floor(vec![("echo".to_owned(), 120.0)]);
        found.phases[0].memory_start = 12.0;
        found.phases[1].cpu_ratio = 2.5;
        found.setting.insert("machine".to_owned(), "2 cores".to_owned());
        found.figures.insert("ready".to_owned(), 80.0);
        growth.add("identities", 10, &found);
        growth.add("identities", 10_000, &found);
        found.floor = Floor::default();
        found.warnings = vec!["beware".to_owned()];
        growth.add("roles", 0, &found);
        growth
    }

    #[test]
    fn a_run_is_one_row_in_both_tables() {
        let growth = growth();
        let markdown = growth.markdown();
        let lines: Vec<_> = markdown.lines().collect();
        assert_eq!(lines[1], "|---|---:|---:|---:|---:|---:|");
        assert_eq!(lines[2], "| identities: 10 | 300 | 2.50 | 12 | 300 | 80 |");
        assert_eq!(lines[3], "| identities: 10,000 | 300 | 2.50 | 12 | 300 | 80 |");
        assert_eq!(lines[4], "| roles: 0 | 300 | - | 12 | 300 | 80 |");
        assert!(lines[6].starts_with("2 cores; commit ?;"), "{}", lines[6]);
        let table = growth.table();
        let rows: Vec<_> = table.lines().filter(|line| line.contains(" 300 ")).collect();
        assert_eq!(rows.len(), 3, "{table}");
        assert!(table.contains("warning: roles 0: beware"), "{table}");
    }

    #[test]
    fn files_hold_the_figures_without_limits_that_were_not_measured() {
        let folder = tempfile::tempdir().unwrap();
        let files = growth().write(&folder.path().join("growth")).unwrap();
        let [json, markdown, picture] = files.map(|file| fs::read_to_string(file).unwrap());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let points = &json["axes"][0]["points"];
        assert_eq!((&points[1]["value"], &points[1]["limit"]), (&10_000.into(), &120.0.into()));
        assert!(json["axes"][1]["points"][0]["cpu_ratio"].is_null());
        assert_eq!(markdown, growth().markdown());
        assert!(picture.starts_with("<svg ") && picture.contains("10,000"), "{picture}");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!(
            [0, 999, 1000, 12_345, 1_234_567].map(grouped),
            ["0", "999", "1,000", "12,345", "1,234,567"]
        );
    }
}
