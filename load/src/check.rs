//! What must agree: what was sent and answered, what the broker counted, and what it recorded.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::Duration;

use ficus::clock::{Clock, Stopwatch};

use crate::Failure;
use crate::asserts::Assert;
use crate::broker::{Broker, Counts, Recorded};
use crate::recorder::{Answers, Recorder, SHED, Sample};
use crate::report::{Check, Report};
use crate::scenario::Scenario;

/// How long the last lines of the record may take: refusals are written behind their answers, sums of them each second.
const SETTLED: Duration = Duration::from_secs(6);

/// What all phases together were answered.
#[derive(Debug, Default)]
pub(crate) struct Client {
    answers: Answers,
    /// Jobs that have no answer, so that nobody can tell what became of them.
    lost: u64,
    samples: Vec<Sample>,
}

impl Client {
    pub(crate) fn add(&mut self, recorder: &Recorder) {
        let sum = recorder.sum();
        sum.answers.iter().for_each(|(kind, count)| *self.answers.entry(*kind).or_default() += count);
        self.lost +=
            sum.broken.iter().filter(|(why, _)| **why != "never sent").map(|(_, count)| count).sum::<u64>();
        self.samples.extend(recorder.samples());
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// As the broker counts.
    fn counts(&self) -> Counts {
        let sum = |of: &dyn Fn(u16, u32) -> bool| {
            self.answers.iter().filter(|((status, code), _)| of(*status, *code)).map(|(_, count)| count).sum()
        };
        Counts {
            granted: sum(&|status, _| status == 200),
            refused: sum(&|status, code| status != 200 && code != SHED),
            shed: sum(&|_, code| code == SHED),
            reloads: 0,
        }
    }

    /// As the broker records: what is turned away is not decided.
    fn recorded(&self) -> Recorded {
        let decided = self.answers.iter().filter(|((_, code), _)| *code != SHED);
        let mut recorded = Recorded::default();
        decided.for_each(|((_, code), count)| *recorded.0.entry(*code).or_default() += count);
        recorded
    }
}

/// Holds client, metrics and record against each other, and tells how many changes of the directory went live.
pub(crate) async fn counts(
    broker: &Broker,
    before: Option<Counts>,
    client: &Client,
) -> Result<(Vec<Check>, f64), Failure> {
    let (sent, recorded) = (client.counts(), client.recorded());
    let (mut checks, mut reloads) = (Vec::new(), 0.0);
    if client.lost > 0 {
        let found = format!("{} jobs have no answer, and may or may not have been counted", client.lost);
        checks.push(Check { what: "every job has an answer".to_owned(), holds: false, found });
    }
    if let Some((before, after)) = before.zip(broker.counts().await?) {
        let counted = after.since(before);
        reloads = counted.reloads as f64;
        let counted = Counts { reloads: 0, ..counted };
        let Counts { granted, refused, shed, .. } = counted;
        let holds = counted == sent;
        let mut found = format!("{granted} granted, {refused} refused, {shed} shed");
        if !holds {
            found = format!("{found}; clients had {}, {} and {}", sent.granted, sent.refused, sent.shed);
        }
        checks.push(Check { what: "metrics agree with clients".to_owned(), holds, found });
    }
    if broker.audit.is_some() {
        let since = Stopwatch::start();
        let mut found = broker.recorded()?.unwrap_or_default();
        while found != recorded && since.elapsed() < SETTLED {
            tokio::time::sleep(Duration::from_millis(100)).await;
            found = broker.recorded()?.unwrap_or_default();
        }
        let holds = found == recorded;
        let said = match holds {
            true => format!("{} decisions", found.0.values().sum::<u64>()),
            false => format!("by code {:?}; clients had {:?}", found.0, recorded.0),
        };
        checks.push(Check { what: "the record agrees with clients".to_owned(), holds, found: said });
    }
    Ok((checks, reloads))
}

/// A phase in which nothing happened would satisfy almost any assertion.
pub(crate) fn worked(report: &Report) -> Vec<Check> {
    let idle =
        report.phases.iter().filter(|phase| !phase.warm && phase.done + phase.shed + phase.errors == 0);
    let check = |name: &String| Check {
        what: format!("phase {name} has jobs"),
        holds: false,
        found: "there was nothing left to send; --pool makes more".to_owned(),
    };
    idle.map(|phase| check(&phase.name)).collect()
}

/// Whether an assertion holds.
pub(crate) fn assert(assert: &Assert, figures: &BTreeMap<String, f64>) -> Check {
    let what = assert.to_string();
    match figures.get(&assert.figure) {
        Some(value) => Check { what, holds: assert.holds(*value), found: format!("it is {}", shown(*value)) },
        None => {
            Check { what, holds: false, found: "there is no such figure; report.json lists them".to_owned() }
        }
    }
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// What this run was made on.
pub(crate) fn setting(scenario: &Scenario, ready_ms: Option<f64>) -> BTreeMap<String, String> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let commit = Command::new("git").args(["describe", "--always", "--dirty", "--exclude=*"]).output().ok();
    let commit = commit.filter(|output| output.status.success());
    let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    let traffic = &scenario.traffic;
    let tokens = format!("{} for {}", traffic.token.name(), traffic.assertion.name());
    let connections =
        format!("{}, {} at a time, HTTP/{}", traffic.connections, traffic.streams, traffic.http);
    let shape = &scenario.directory;
    let directory = format!(
        "{} identities, {} credentials each, {} issuers, {} roles",
        shape.identities, shape.credentials, shape.issuers, shape.roles
    );
    [
        ("machine", Some(format!("{cores} cores, {}", model.map_or("unknown", |(_, model)| model)))),
        ("commit", commit),
        ("built", Some(if cfg!(debug_assertions) { "unoptimised" } else { "optimised" }.to_owned())),
        ("tokens", Some(tokens)),
        ("connections", Some(connections)),
        ("directory", Some(directory)),
        ("ready", ready_ms.map(|ready| format!("{ready:.0} ms after the start"))),
        ("unix time", Some(Clock::system().now().to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

/// What to know before believing a figure.
pub(crate) fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    if cfg!(debug_assertions) {
        warnings.push("this build is unoptimised: counts mean something, times don't".to_owned());
    }
    let cores = thread::available_parallelism().map_or(1, usize::from) as f64;
    for phase in report.phases.iter().filter(|phase| !phase.warm) {
        let name = &phase.name;
        if phase.used_up {
            warnings.push(format!(
                "{name}: ended after {:.1} s because all assertions were used up",
                phase.seconds
            ));
        }
        if phase.broker_cores > 0.0
            && phase.own_cores > phase.broker_cores
            && phase.own_cores + phase.broker_cores > 0.8 * cores
        {
            let (own, broker) = (phase.own_cores, phase.broker_cores);
            warnings.push(format!(
                "{name}: the harness is the bottleneck ({own:.2} cores, the broker {broker:.2}): the broker's throughput is higher; \
                 its processor time for each job holds"
            ));
        }
        if phase.other_cores > 0.1 * cores {
            warnings.push(format!("{name}: other programs kept {:.2} cores busy", phase.other_cores));
        }
        if phase.rate.is_some() && phase.lag.p50 > 1.0 {
            warnings.push(format!(
                "{name}: half of all jobs began more than {:.1} ms late, which their latency contains",
                phase.lag.p50
            ));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Answer;
    use crate::recorder::{Expected, Times};

    #[test]
    fn what_clients_had_is_counted_as_the_broker_counts() {
        let recorder = Recorder::new(Expected::Status(200));
        let answer = |status, body: &'static str| Ok(Answer { status, retry_after: None, body: body.into() });
        let zero = Duration::ZERO;
        for outcome in [
            answer(200, "{}"),
            answer(200, "{}"),
            answer(401, r#"{"error_codes":[700213]}"#),
            answer(503, r#"{"error_codes":[90024]}"#),
            Err("no answer"),
        ] {
            recorder.note(0, Times { intended: zero, sent: zero, ended: zero }, &outcome, 0);
        }
        recorder.unsent(5);
        let mut client = Client::default();
        client.add(&recorder);
        assert_eq!(client.counts(), Counts { granted: 2, refused: 1, shed: 1, reloads: 0 });
        assert_eq!(client.recorded().0, BTreeMap::from([(0, 2), (700_213, 1)]));
        assert_eq!(client.lost, 1);
    }

    #[test]
    fn an_assertion_on_a_figure_that_is_not_there_is_broken() {
        let figures = BTreeMap::from([("p99".to_owned(), 12.5)]);
        let check = |text: &str| assert(&text.parse().unwrap(), &figures);
        assert!(check("p99<20ms").holds && !check("p99<12ms").holds);
        let unknown = check("p98<20ms");
        assert!(!unknown.holds && unknown.found.contains("no such figure"), "{unknown:?}");
    }
}
