//! What a run has found, as it is kept: figures in milliseconds, microseconds of processor time, MiB and cores.

mod bars;
mod compare;
mod growth;
mod html;
mod svg;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(crate) use compare::compare;
pub(crate) use growth::Growth;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::limits::{Floor, Limits};
use crate::recorder::{Part, SHED};
use crate::sampler::{Look, median, slices};

/// Everything about one run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) scenario: String,
    pub(crate) about: String,
    /// What was measured, and what it ran on.
    pub(crate) setting: BTreeMap<String, String>,
    pub(crate) limits: Option<Limits>,
    pub(crate) floor: Floor,
    pub(crate) phases: Vec<PhaseReport>,
    /// What assertions are about; see [`Report::figures`].
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) checks: Vec<Check>,
    /// What to know before believing a figure.
    pub(crate) warnings: Vec<String>,
}

/// Something that had to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    pub(crate) holds: bool,
    pub(crate) found: String,
}

/// One phase.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PhaseReport {
    pub(crate) name: String,
    pub(crate) warm: bool,
    /// Jobs a second that were to begin; none in a closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) seconds: f64,
    /// Jobs that ended as they should, otherwise, and with a 503 for want of room.
    pub(crate) done: u64,
    pub(crate) errors: u64,
    pub(crate) shed: u64,
    /// Of these, 503 without `Retry-After`.
    pub(crate) shed_without_hint: u64,
    /// Of jobs that ended as they should, a second.
    pub(crate) throughput: f64,
    /// Answers by status and Entra's number.
    pub(crate) answers: BTreeMap<String, u64>,
    /// Jobs without an answer, by why.
    pub(crate) broken: BTreeMap<String, u64>,
    pub(crate) latency: Times,
    pub(crate) shed_latency: Times,
    /// How much later than intended jobs were sent.
    pub(crate) lag: Times,
    /// Of the latency: percentile and milliseconds.
    pub(crate) curve: Vec<(f64, f64)>,
    /// Microseconds of the broker's processor time for each job: the median of the slices, and the slices.
    pub(crate) cpu: f64,
    pub(crate) cpu_slices: Vec<f64>,
    /// That, by what no broker can do without.
    pub(crate) cpu_ratio: f64,
    /// Cores that were busy with the broker, with the harness, and with others.
    pub(crate) broker_cores: f64,
    pub(crate) own_cores: f64,
    pub(crate) other_cores: f64,
    /// Times for each thousand jobs that a thread of the broker gave up its core to wait.
    pub(crate) waits: f64,
    /// MiB of the broker: at the beginning, at most, and growth from the second to the last fifth.
    pub(crate) memory_start: f64,
    pub(crate) memory: f64,
    pub(crate) memory_growth: f64,
    /// The operations listener's slowest answer, where it was asked.
    pub(crate) ops_max: Option<f64>,
    /// There was nothing left to send before the time was up.
    pub(crate) used_up: bool,
    /// Seconds since the phase began, and what happened.
    pub(crate) faults: Vec<(f64, String)>,
    pub(crate) timeline: Vec<Moment>,
}

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    #[serde(rename = "p99.99")]
    pub(crate) p9999: f64,
    pub(crate) max: f64,
}

/// A piece of a phase, by its end.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Seconds since the phase began.
    pub(crate) at: f64,
    /// Jobs a second.
    pub(crate) done: f64,
    pub(crate) errors: f64,
    pub(crate) broker_cores: f64,
    pub(crate) own_cores: f64,
    pub(crate) memory: f64,
}

const MIB: f64 = 1024.0 * 1024.0;
/// Most points in a timeline.
const POINTS: usize = 200;

impl Times {
    pub(crate) fn of(histogram: &hdrhistogram::Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e6;
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: at(1.0),
        }
    }

    fn figures(self) -> [(&'static str, f64); 7] {
        let Self { mean, p50, p90, p99, p999, p9999, max } = self;
        [
            ("mean", mean),
            ("p50", p50),
            ("p90", p90),
            ("p99", p99),
            ("p99.9", p999),
            ("p99.99", p9999),
            ("max", max),
        ]
    }
}

impl PhaseReport {
    /// What lanes have noted.
    pub(crate) fn count(&mut self, sum: &Part) {
        self.latency = Times::of(&sum.latency);
        self.shed_latency = Times::of(&sum.shed);
        self.lag = Times::of(&sum.lag);
        self.curve = curve(&sum.latency);
        self.shed_without_hint = sum.shed_without_hint;
        self.shed = sum.answers.iter().filter(|((_, code), _)| *code == SHED).map(|(_, count)| count).sum();
        let answers = sum.answers.iter().map(|((status, code), count)| match code {
            0 => (status.to_string(), *count),
            code => (format!("{status} {code}"), *count),
        });
        self.answers = answers.collect();
        self.broken = sum.broken.iter().map(|(why, count)| ((*why).to_owned(), *count)).collect();
    }

    /// What the sampler has seen.
    pub(crate) fn observe(&mut self, looks: &[Look], floor: f64) {
        let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return };
        self.seconds = (last.at - first.at).as_secs_f64();
        (self.done, self.errors) = (last.done, last.bad);
        let per_second = |amount: f64| if self.seconds > 0.0 { amount / self.seconds } else { 0.0 };
        let busy = |of: fn(&Look) -> std::time::Duration| of(last).saturating_sub(of(first)).as_secs_f64();
        self.throughput = per_second(self.done as f64);
        self.broker_cores = per_second(busy(|look| look.broker));
        self.own_cores = per_second(busy(|look| look.own));
        let machine = per_second(busy(|look| look.machine));
        self.other_cores = (machine - self.broker_cores - self.own_cores).max(0.0);
        self.cpu_slices = slices(looks);
        self.cpu = median(&self.cpu_slices);
        self.cpu_ratio = if floor > 0.0 { self.cpu / floor } else { 0.0 };
        let memory: Vec<_> = looks.iter().map(|look| look.memory as f64 / MIB).collect();
        self.memory_start = memory[0];
        self.memory = memory.iter().copied().fold(0.0, f64::max);
        let fifth = |n: usize| median(&memory[memory.len() * n / 5..memory.len() * (n + 1) / 5]);
        self.memory_growth = if memory.len() < 10 { 0.0 } else { fifth(4) - fifth(1) };
        self.timeline = timeline(looks);
    }

    /// By the names that assertions use.
    fn figures(&self) -> Vec<(String, f64)> {
        let numbers = [
            ("done", self.done as f64),
            ("errors", self.errors as f64),
            ("shed", self.shed as f64),
            ("shed_without_hint", self.shed_without_hint as f64),
            ("throughput", self.throughput),
            ("cpu", self.cpu / 1e3),
            ("cpu_ratio", self.cpu_ratio),
            ("broker_cores", self.broker_cores),
            ("own_cores", self.own_cores),
            ("other_cores", self.other_cores),
            ("waits", self.waits),
            ("memory", self.memory),
            ("memory_growth", self.memory_growth),
            ("ops_max", self.ops_max.unwrap_or(0.0)),
        ];
        let named = |prefix: &str, times: Times| {
            times.figures().map(|(name, value)| (format!("{prefix}{name}"), value))
        };
        let times = named("", self.latency).into_iter().chain(named("shed_", self.shed_latency));
        let times = times.chain(named("lag_", self.lag));
        numbers.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(times).collect()
    }
}

impl Report {
    /// The phase whose latency is the run's: the last open loop, else the last.
    pub(crate) fn paced(&self) -> Option<&PhaseReport> {
        let measured = || self.phases.iter().rev().filter(|phase| !phase.warm);
        measured().find(|phase| phase.rate.is_some()).or_else(|| measured().next())
    }

    /// The phase whose processor time and throughput are the run's: the last closed loop, else the last.
    pub(crate) fn saturated(&self) -> Option<&PhaseReport> {
        let measured = || self.phases.iter().rev().filter(|phase| !phase.warm);
        measured().find(|phase| phase.rate.is_none()).or_else(|| measured().next())
    }

    /// Fills in what assertions are about: `phase.figure` for each phase, and `figure` alone for latencies of the paced
    /// phase, processor time and throughput of the saturated one, and sums of counts.
    pub(crate) fn figures(&mut self) {
        let mut figures = BTreeMap::new();
        for phase in self.phases.iter().filter(|phase| !phase.warm) {
            figures.extend(
                phase.figures().into_iter().map(|(name, value)| (format!("{}.{name}", phase.name), value)),
            );
            for (name, value) in phase.figures() {
                let sum = ["done", "errors", "shed", "shed_without_hint"].contains(&name.as_str());
                let most = ["memory", "ops_max"].contains(&name.as_str());
                let figure: &mut f64 = figures.entry(name).or_insert(0.0);
                *figure = if sum {
                    *figure + value
                } else if most {
                    figure.max(value)
                } else {
                    value
                };
            }
        }
        let of_saturation =
            ["throughput", "cpu", "cpu_ratio", "waits", "broker_cores", "own_cores", "other_cores"];
        let saturated = self.saturated().map(PhaseReport::figures).unwrap_or_default();
        figures.extend(saturated.into_iter().filter(|(name, _)| of_saturation.contains(&name.as_str())));
        let is_time =
            |name: &str| name.starts_with('p') || name.starts_with("lag_") || ["mean", "max"].contains(&name);
        let paced = self.paced().map(PhaseReport::figures).unwrap_or_default();
        figures.extend(paced.into_iter().filter(|(name, _)| is_time(name)));
        if let (Some(paced), Some(saturated)) = (self.paced(), self.saturated()) {
            figures
                .insert("goodput".to_owned(), paced.throughput / saturated.throughput.max(f64::MIN_POSITIVE));
        }
        figures.append(&mut self.figures);
        self.figures = figures;
    }

    /// As JSON and as a page.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), Failure> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.json"), serde_json::to_string_pretty(self)?)?;
        Ok(fs::write(folder.join("report.html"), html::page(self))?)
    }

    /// Whether everything held.
    pub(crate) fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }
}

/// Percentiles from the middle to where a single job decides, ever closer together.
fn curve(histogram: &hdrhistogram::Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points: Vec<_> = (0..9).map(|n| f64::from(n) / 10.0).collect();
    let mut rest = 0.1;
    while rest * histogram.len() as f64 >= 1.0 && rest > 1e-6 {
        points.extend([1.0 - rest, 1.0 - rest / 2.0, 1.0 - rest / 4.0]);
        rest /= 10.0;
    }
    if histogram.is_empty() {
        return Vec::new();
    }
    points.into_iter().map(|q| (q * 100.0, histogram.value_at_quantile(q) as f64 / 1e6)).collect()
}

fn timeline(looks: &[Look]) -> Vec<Moment> {
    let Some(first) = looks.first() else { return Vec::new() };
    let step = looks.len().div_ceil(POINTS).max(1);
    let ends: Vec<_> = looks.iter().step_by(step).collect();
    let moment = |pair: &[&Look]| {
        let (from, to) = (pair[0], pair[1]);
        let seconds = (to.at - from.at).as_secs_f64().max(1e-6);
        let cores =
            |of: fn(&Look) -> std::time::Duration| of(to).saturating_sub(of(from)).as_secs_f64() / seconds;
        Moment {
            at: (to.at - first.at).as_secs_f64(),
            done: (to.done - from.done) as f64 / seconds,
            errors: (to.bad - from.bad) as f64 / seconds,
            broker_cores: cores(|look| look.broker),
            own_cores: cores(|look| look.own),
            memory: to.memory as f64 / MIB,
        }
    };
    ends.windows(2).map(moment).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn phase(name: &str, rate: Option<f64>, cpu: f64, p99: f64) -> PhaseReport {
        let latency = Times { p99, ..Times::default() };
        let curve = vec![(0.0, 0.1), (50.0, 0.5), (99.0, p99)];
        let moment =
            |at| Moment { at, done: 10.0, errors: 1.0, broker_cores: 0.5, own_cores: 0.2, memory: 30.0 };
        PhaseReport {
            name: name.to_owned(),
            rate,
            done: 10,
            errors: 1,
            throughput: cpu,
            cpu,
            latency,
            curve,
            faults: vec![(0.5, "reload <&>".to_owned())],
            timeline: vec![moment(0.5), moment(1.0)],
            memory: cpu,
            ..PhaseReport::default()
        }
    }

    /// A small report with everything in it.
    pub(crate) fn report() -> Report {
        let warm = PhaseReport { warm: true, errors: 100, ..phase("warm", None, 1.0, 1.0) };
        let phases = vec![warm, phase("full", None, 300.0, 9.0), phase("open", Some(5.0), 240.0, 2.0)];
        let mut report = Report { scenario: "s".to_owned(), phases, ..Report::default() };
        report.figures();
        report
    }

    #[test]
    fn a_figure_without_a_phase_is_that_of_the_phase_that_it_makes_sense_in() {
        let figures = report().figures;
        let expected = [
            ("p99", 2.0),
            ("full.p99", 9.0),
            ("cpu", 0.3),
            ("open.cpu", 0.24),
            ("errors", 2.0),
            ("done", 20.0),
        ];
        for (name, value) in
            expected.into_iter().chain([("goodput", 0.8), ("memory", 300.0), ("throughput", 300.0)])
        {
            assert!((figures[name] - value).abs() < 1e-9, "{name}: {}", figures[name]);
        }
        assert!(!figures.contains_key("warm.p99"));
    }

    #[test]
    fn a_curve_goes_as_far_as_there_are_jobs() {
        let mut histogram = crate::recorder::histogram();
        assert!(curve(&histogram).is_empty());
        (1..=1000).for_each(|n| histogram.saturating_record(n * 1_000_000));
        let curve = curve(&histogram);
        let last = curve.last().unwrap();
        assert!(last.0 > 99.9 && last.0 < 100.0, "{last:?}");
        assert!(curve.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{curve:?}");
        let times = Times::of(&histogram);
        assert!((times.p50 - 500.0).abs() < 1.0 && (times.p999 - 999.0).abs() < 2.0, "{times:?}");
    }
}
