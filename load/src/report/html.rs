//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use super::svg::{Chart, Line, escaped, short};
use super::{Moment, PhaseReport, Report};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
    color:#1b1b1b;background:#fff}h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.1rem;margin-top:2rem}\
    table{border-collapse:collapse;margin:.5rem 0;font-variant-numeric:tabular-nums}\
    td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #8884}\
    td:first-child,th:first-child{text-align:left}table.words td{text-align:left}\
    figure{margin:1.5rem 0}figcaption{font-weight:600}svg{width:100%;height:auto}\
    svg text{font:12px system-ui,sans-serif;fill:#555}svg text.x{text-anchor:middle}svg text.y{text-anchor:end}\
    svg text.mark{fill:#c0392b;font-size:11px}svg line.mark{stroke:#c0392b;stroke-dasharray:4 3}\
    svg line.grid{stroke:#8883}svg line.axis{stroke:#888}svg polyline{fill:none;stroke-width:1.8}\
    .bar{display:flex;height:1.4rem;margin:.2rem 0}.bar i{display:block;height:100%}\
    .broken{color:#c0392b;font-weight:600}.headline{font-size:1.25rem}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#161616}svg text{fill:#aaa}}";

/// Parts of the limit, then what is above it.
const SHADES: [&str; 6] = ["#2a78d6", "#1b9e77", "#8a63d2", "#e8b10a", "#4aa3df", "#e8710a"];

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let title = format!("ficus-load: {}", escaped(&report.scenario));
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n\
         <h1>{title}</h1><p>{}</p>\n",
        escaped(&report.about)
    );
    headline(report, &mut html);
    checks(report, &mut html);
    phases(report, &mut html);
    limits(report, &mut html);
    html += "<h2>Latency</h2>\n";
    html += &latency(report);
    html += "<h2>Over time</h2>\n";
    over_time(report, &mut html);
    answers(report, &mut html);
    html += "<h2>Setting</h2><table class=\"words\">";
    for (name, value) in &report.setting {
        let _ = write!(html, "<tr><td>{}</td><td>{}</td></tr>", escaped(name), escaped(value));
    }
    html + "</table></body></html>\n"
}

fn headline(report: &Report, html: &mut String) {
    let Some(phase) = report.saturated() else { return };
    let _ = write!(
        html,
        "<p class=\"headline\">{} jobs a second; {:.1} us of the broker's processor time for each job",
        short(phase.throughput),
        phase.cpu
    );
    if phase.cpu_ratio > 0.0 {
        let _ = write!(html, ", <b>{:.2} times</b> what no broker can do without", phase.cpu_ratio);
    }
    if let Some(paced) = report.paced().filter(|paced| paced.rate.is_some()) {
        let (rate, times) = (short(paced.rate.unwrap_or_default()), paced.latency);
        let _ = write!(html, "; at {rate} a second p50 is {:.2} ms and p99 {:.2} ms", times.p50, times.p99);
    }
    *html += "</p>\n";
    for warning in &report.warnings {
        let _ = writeln!(html, "<p class=\"broken\">{}</p>", escaped(warning));
    }
}

fn checks(report: &Report, html: &mut String) {
    *html += "<table class=\"words\">";
    for check in &report.checks {
        let (class, word) = if check.holds { ("", "holds") } else { ("broken", "broken") };
        let (what, found) = (escaped(&check.what), escaped(&check.found));
        let _ = write!(html, "<tr class=\"{class}\"><td>{what}</td><td>{word}</td><td>{found}</td></tr>");
    }
    *html += "</table>\n";
}

fn phases(report: &Report, html: &mut String) {
    *html += "<h2>Phases</h2><table><tr><th>phase</th><th>jobs</th><th>/s</th><th>errors</th><th>shed</th><th>p50 ms</th>\
        <th>p90</th><th>p99</th><th>p99.9</th><th>p99.99</th><th>max</th><th>cpu us</th><th>ratio</th><th>broker cores</th>\
        <th>harness</th><th>others</th><th>MiB</th></tr>";
    for phase in &report.phases {
        let times = phase.latency;
        let numbers = [times.p50, times.p90, times.p99, times.p999, times.p9999, times.max]
            .map(|value| format!("{value:.2}"));
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.1}</td><td>{:.2}</td>\
             <td>{:.2}</td><td>{:.2}</td><td>{:.2}</td><td>{:.0}</td></tr>",
            escaped(&phase.name),
            phase.done,
            short(phase.throughput),
            phase.errors,
            phase.shed,
            numbers.join("</td><td>"),
            phase.cpu,
            phase.cpu_ratio,
            phase.broker_cores,
            phase.own_cores,
            phase.other_cores,
            phase.memory
        );
    }
    *html +=
        "</table><p>Latencies count from the moment at which a job was to begin, whatever held it up.</p>\n";
}

/// What no broker can do without, and what this one takes.
fn limits(report: &Report, html: &mut String) {
    let (Some(phase), Some(limits)) = (report.saturated(), &report.limits) else { return };
    let widest = phase.cpu.max(report.floor.sum()).max(f64::MIN_POSITIVE);
    let piece = |cost: f64, shade: &str| {
        format!("<i style=\"width:{:.2}%;background:{shade}\"></i>", cost / widest * 100.0)
    };
    *html += "<h2>Against the limits</h2><table><tr><th>microseconds of one core</th><th></th></tr>";
    for ((name, cost), shade) in report.floor.0.iter().zip(SHADES) {
        let _ = write!(
            html,
            "<tr><td><span style=\"color:{shade}\">&#9632;</span> {}</td><td>{cost:.1}</td></tr>",
            escaped(name)
        );
    }
    let rest = phase.cpu - report.floor.sum();
    let _ = write!(
        html,
        "<tr><td>together</td><td>{:.1}</td></tr><tr><td>the broker</td><td>{:.1}</td></tr>\
         <tr><td><span style=\"color:{}\">&#9632;</span> above the limit</td><td>{rest:.1}</td></tr></table><div class=\"bar\">",
        report.floor.sum(),
        phase.cpu,
        SHADES[5]
    );
    for ((_, cost), shade) in report.floor.0.iter().zip(SHADES) {
        *html += &piece(*cost, shade);
    }
    *html += &piece(rest.max(0.0), SHADES[5]);
    *html += "</div><table><tr><th>all limits</th><th>us</th></tr>";
    let signatures = limits.sign.iter().map(|(name, cost)| (format!("{name} sign"), *cost));
    let checks = limits.verify.iter().map(|(name, cost)| (format!("{name} verify"), *cost));
    let others = [
        ("echo", limits.echo),
        ("echo without TLS", limits.echo_plain),
        ("TLS handshake", limits.handshake),
        ("the scenario's signatures and echo in one server", limits.in_one_server),
    ];
    let others = others.map(|(name, cost)| (name.to_owned(), cost));
    for (name, cost) in signatures.chain(checks).chain(others) {
        let _ = write!(html, "<tr><td>{name}</td><td>{cost:.1}</td></tr>");
    }
    *html += "</table>\n";
}

fn measured(report: &Report) -> impl Iterator<Item = &PhaseReport> {
    report.phases.iter().filter(|phase| !phase.warm)
}

/// Percentiles, each further nine as wide as the one before.
fn latency(report: &Report) -> String {
    let place = |percentile: f64| -(1.0 - percentile / 100.0).max(1e-7).log10();
    let line = |phase: &'_ PhaseReport| {
        phase.curve.iter().map(|(percentile, ms)| (place(*percentile), *ms)).collect()
    };
    let ticks = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999];
    let chart = Chart {
        title: "Latency by percentile",
        x: "percentile",
        y: "ms",
        lines: measured(report).map(|phase| Line { name: &phase.name, points: line(phase) }).collect(),
        ticks: ticks.map(|percentile| (place(percentile), format!("{percentile}"))).to_vec(),
        is_log: true,
        ..Chart::default()
    };
    chart.render()
}

/// All measured phases one after the other.
fn over_time(report: &Report, html: &mut String) {
    let (mut start, mut marks, mut moments) = (0.0, Vec::new(), Vec::new());
    for phase in measured(report) {
        marks.push((start, phase.name.clone()));
        marks.extend(phase.faults.iter().map(|(at, what)| (start + at, what.clone())));
        moments.extend(phase.timeline.iter().map(|moment| Moment { at: start + moment.at, ..*moment }));
        start += phase.seconds;
    }
    let points = |of: fn(&Moment) -> f64| moments.iter().map(|moment| (moment.at, of(moment))).collect();
    let charts: [(&str, &str, Vec<Line<'_>>); 3] = [
        (
            "Throughput and errors",
            "jobs/s",
            vec![
                Line { name: "done", points: points(|moment| moment.done) },
                Line { name: "errors", points: points(|moment| moment.errors) },
            ],
        ),
        (
            "Processor",
            "cores",
            vec![
                Line { name: "broker", points: points(|moment| moment.broker_cores) },
                Line { name: "harness", points: points(|moment| moment.own_cores) },
            ],
        ),
        (
            "Memory of the broker",
            "MiB",
            vec![Line { name: "resident", points: points(|moment| moment.memory) }],
        ),
    ];
    for (title, y, lines) in charts {
        *html += &Chart { title, x: "seconds", y, lines, marks: marks.clone(), ..Chart::default() }.render();
    }
}

fn answers(report: &Report, html: &mut String) {
    *html += "<h2>Answers</h2><table><tr><th>phase</th><th>answer</th><th>jobs</th></tr>";
    for phase in &report.phases {
        for (what, count) in phase.answers.iter().chain(&phase.broken) {
            let (name, what) = (escaped(&phase.name), escaped(what));
            let _ = write!(html, "<tr><td>{name}</td><td>{what}</td><td>{count}</td></tr>");
        }
    }
    *html += "</table>\n";
}

#[cfg(test)]
mod tests {
    use crate::report::tests::report;

    #[test]
    fn a_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows() {
        let page = super::page(&report());
        for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "//"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("reload &lt;&amp;&gt;") && !page.contains("reload <"));
        assert!(!page.contains("NaN"), "{page}");
        for tag in ["svg", "table", "figure", "html", "body"] {
            let count = |mark: String| page.matches(&mark).count();
            assert_eq!(count(format!("<{tag}")), count(format!("</{tag}>")), "{tag}");
        }
    }
}
