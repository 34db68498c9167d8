//! The only place that prints.

use std::fmt::Write as _;
use std::io::Write as _;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::{PhaseReport, Report};

/// One line of results; a reader that went away is no error of ours.
pub(crate) fn line(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}");
    let _ = stdout.flush();
}

/// One line about what goes on.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A bar on a terminal, and nothing elsewhere.
pub(crate) fn progress(what: &str, length: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar.with_message(what.to_owned())
}

/// The table.
pub(crate) fn table(report: &Report) -> String {
    let mut text = format!("\n{}: {}\n\n", report.scenario, report.about);
    let head = [
        "phase", "jobs", "/s", "errors", "shed", "p50", "p99", "p99.99", "cpu us", "ratio", "broker", "own",
        "other",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(report.phases.iter().map(row));
    text += &aligned(&rows);
    let _ = writeln!(text, "  latencies in ms from the intended moment; broker, own, other: busy cores\n");
    if !report.floor.0.is_empty() {
        let parts: Vec<_> = report.floor.0.iter().map(|(name, cost)| format!("{name} {cost:.1}")).collect();
        let _ = writeln!(text, "  limit: {} = {:.1} us of one core", parts.join(" + "), report.floor.sum());
        let in_one_server = report.limits.as_ref().map_or(0.0, |limits| limits.in_one_server);
        if in_one_server > 0.0 {
            let _ = writeln!(
                text,
                "  the same steps in one server, without a connection's beginning: {in_one_server:.1} us"
            );
        }
    }
    for warning in &report.warnings {
        let _ = writeln!(text, "  warning: {warning}");
    }
    for check in &report.checks {
        let _ = writeln!(
            text,
            "  {} {}: {}",
            if check.holds { "ok    " } else { "BROKEN" },
            check.what,
            check.found
        );
    }
    text
}

/// Rows whose columns stand in line: words first, then numbers.
pub(crate) fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (widths, mut text) = (std::array::from_fn::<_, N, _>(width), String::new());
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(
            |(n, (cell, width))| if n == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") },
        );
        let _ = writeln!(text, "  {}", cells.collect::<Vec<_>>().join("  "));
    }
    text
}

fn row(phase: &PhaseReport) -> [String; 13] {
    let times = phase.latency;
    [
        phase.name.clone(),
        phase.done.to_string(),
        format!("{:.0}", phase.throughput),
        phase.errors.to_string(),
        phase.shed.to_string(),
        format!("{:.2}", times.p50),
        format!("{:.2}", times.p99),
        format!("{:.2}", times.p9999),
        format!("{:.1}", phase.cpu),
        format!("{:.2}", phase.cpu_ratio),
        format!("{:.2}", phase.broker_cores),
        format!("{:.2}", phase.own_cores),
        format!("{:.2}", phase.other_cores),
    ]
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_table_has_a_line_for_each_phase_and_its_columns_stand_in_line() {
        let text = super::table(&crate::report::tests::report());
        let lines: Vec<_> = text
            .lines()
            .filter(|line| {
                line.starts_with("  ") && line.contains("  p50")
                    || line.contains("full")
                    || line.contains("open")
            })
            .collect();
        assert!(lines.len() >= 3, "{text}");
        assert!(lines.windows(2).all(|pair| pair[0].len() == pair[1].len()), "{text}");
    }
}
