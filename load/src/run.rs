//! One run: from nothing to a report.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ficus::clock::Stopwatch;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::args::RunArgs;
use crate::broker::{Broker, Counts, program};
use crate::check::{self, Client};
use crate::client::{self, Ask, Dialer};
use crate::engine::{self, Course, Job, Lane, Pace, Running};
use crate::faults::{Probe, Underway, Victims};
use crate::issuer::Issuer;
use crate::limits::{self, Floor, Limits, Talk};
use crate::process::Meter;
use crate::recorder::{Expected, Recorder};
use crate::report::{PhaseReport, Report};
use crate::sampler::Sampler;
use crate::scenario::{Phase, Rate, Scenario, Send};
use crate::stock::{self, Foreign};
use crate::world::{TENANT, World};
use crate::{Failure, show, tokens};

/// How long the first exchange may take to be granted: a broker that was there first may have to find the issuer's keys.
const FIRST: Duration = Duration::from_secs(40);

/// Everything that a run is made of.
struct Stage<'a> {
    args: &'a RunArgs,
    scenario: &'a Scenario,
    broker: Broker,
    victims: Victims,
    client: Client,
    /// When nothing has been sent yet.
    before: Option<Counts>,
    /// Dropped last: broker and issuer write into it.
    _folder: Option<TempDir>,
}

/// Runs a scenario.
pub(crate) async fn run(args: &RunArgs, scenario: &Scenario) -> Result<Report, Failure> {
    let mut stage = Stage::set(args, scenario).await?;
    let talk = stage.first().await?;
    let issuer = stage.victims.issuer.clone();
    let measure = async || match args.common.no_limits {
        true => Ok(None),
        false => limits::measure(&scenario.traffic, talk, &issuer).await.map(Some),
    };
    show::note("measuring what the machine allows");
    let before = measure().await?;
    let floor = before.as_ref().map(|limits| limits.floor(&scenario.traffic)).unwrap_or_default();
    let mut phases = stage.phases(&floor).await?;
    let after = measure().await?;
    let limits = before.zip(after).map(|(before, after)| before.between(&after));
    let floor = limits.as_ref().map(|limits: &Limits| limits.floor(&scenario.traffic)).unwrap_or_default();
    for phase in &mut phases {
        phase.cpu_ratio = if floor.sum() > 0.0 { phase.cpu / floor.sum() } else { 0.0 };
    }
    stage.report(Report { limits, floor, phases, ..Report::default() }).await
}

impl<'a> Stage<'a> {
    /// Starts everything, or meets it.
    async fn set(args: &'a RunArgs, scenario: &'a Scenario) -> Result<Self, Failure> {
        let elsewhere = &args.elsewhere;
        let is_ours = elsewhere.target.is_none() && elsewhere.peer_url.is_none();
        let program = if is_ours { Some(program(args.common.broker.as_deref())?) } else { None };
        let temporary = if args.folder.is_none() { Some(TempDir::with_prefix("ficus-load-")?) } else { None };
        let folder = temporary.as_ref().map(TempDir::path).or(args.folder.as_deref()).ok_or("no folder")?;
        let issuer = Arc::new(Issuer::start(&folder.join("issuer"), scenario.directory.issuers)?);
        if !issuer.is_served_here() && scenario.faults.iter().any(|fault| fault.act.is_of_the_issuer()) {
            return Err(
                "the issuer is served by another process, which can't be told to fail or rotate".into()
            );
        }
        let (world, broker) = match &program {
            Some(program) => {
                show::note("starting the broker");
                let world = World::write(folder, &scenario.directory, &issuer)?;
                let broker = Broker::start(program, &world).await?;
                (world, broker)
            }
            None => met(args, folder)?,
        };
        let course = Arc::new(course(args, scenario, &broker, &issuer).await?);
        let before = broker.counts().await?;
        let victims = Victims { issuer, world: Arc::new(world), course, program };
        let client = Client::default();
        Ok(Self { args, scenario, broker, victims, client, before, _folder: temporary })
    }

    /// The first exchange, which must go as the scenario expects, tells sizes.
    async fn first(&mut self) -> Result<Talk, Failure> {
        let (course, since) = (&self.victims.course, Stopwatch::start());
        let answer = loop {
            let recorder = Recorder::new(course.expected);
            let answer = engine::once(course, &recorder).await?;
            self.client.add(&recorder);
            let answer = answer.map_err(|broken| format!("the first exchange: {broken}"))?;
            match (recorder.bad(), answer.status) {
                (0, _) => break answer,
                (_, 503) if since.elapsed() < FIRST => tokio::time::sleep(Duration::from_secs(1)).await,
                _ => {
                    let body = String::from_utf8_lossy(&answer.body);
                    return Err(format!("the first exchange was answered {}: {body}", answer.status).into());
                }
            }
        };
        let document = match &course.job {
            Job::Cold(_) => {
                client::get(&discovery(&self.broker.url), Some(&self.broker.ca)).await?.body.len()
            }
            _ => 0,
        };
        Ok(Talk { request: course.stock.body_length(), answer: answer.body.len(), document })
    }

    async fn phases(&mut self, floor: &Floor) -> Result<Vec<PhaseReport>, Failure> {
        let mut lanes = engine::lanes(&self.victims.course).await?;
        let mut reports = Vec::<PhaseReport>::new();
        for phase in &self.scenario.phases {
            let saturation = reports.iter().rev().find(|report| !report.warm && report.rate.is_none());
            let rate = phase.rate.map(|rate| match rate {
                Rate::PerSecond(rate) => rate,
                Rate::Share(share) => share * saturation.map_or(0.0, |report| report.throughput).max(1.0),
            });
            show::note(&match rate {
                Some(rate) => {
                    format!("phase {}: {rate:.0} jobs a second for {} s", phase.name, phase.seconds)
                }
                None => format!("phase {}: closed loop for {} s", phase.name, phase.seconds),
            });
            let report;
            (report, lanes) = self.phase(phase, rate, (floor, lanes)).await?;
            reports.push(report);
            self.broker.alive()?;
        }
        Ok(reports)
    }

    async fn phase(
        &mut self,
        phase: &Phase,
        rate: Option<f64>,
        (floor, mut lanes): (&Floor, Vec<Lane>),
    ) -> Result<(PhaseReport, Vec<Lane>), Failure> {
        let course = &self.victims.course;
        let recorder = Arc::new(Recorder::new(course.expected));
        let waits = || self.broker.meters.iter().map(Meter::waits).sum::<u64>();
        let waits_before = waits();
        let probe = match &self.broker.ops {
            Some(ops) if self.scenario.traffic.probe => Some(Probe::start(ops)?),
            _ => None,
        };
        let faults = self.scenario.faults.iter().filter(|fault| fault.phase == phase.name);
        let underway = Underway::start(&self.victims, faults);
        let sampler = Sampler::start(self.broker.meters.clone(), recorder.clone(), course.clock)?;
        let used = phase.connections.map_or(lanes.len(), |connections| connections * course.streams);
        let unused = lanes.split_off(used.min(lanes.len()));
        let pace = Pace { seconds: phase.seconds, count: phase.count, rate };
        let (mut lanes, used_up) = Running::start(course, pace, lanes, &recorder).end(&recorder).await?;
        let looks = sampler.end();
        let mut report = PhaseReport {
            name: phase.name.clone(),
            warm: phase.warm,
            rate,
            used_up,
            ..PhaseReport::default()
        };
        report.faults = underway.end().await?;
        report.ops_max = probe.map(Probe::end);
        report.count(&recorder.sum());
        report.observe(&looks, floor.sum());
        report.waits = waits().saturating_sub(waits_before) as f64 * 1e3 / report.done.max(1) as f64;
        self.client.add(&recorder);
        lanes.extend(unused);
        Ok((report, lanes))
    }

    async fn report(self, mut report: Report) -> Result<Report, Failure> {
        let Self { scenario, broker, .. } = &self;
        report.scenario.clone_from(&scenario.name);
        report.about.clone_from(&scenario.about);
        report.setting = check::setting(scenario, broker.ready_ms);
        let (checks, reloads) = check::counts(broker, self.before, &self.client).await?;
        report.checks = check::worked(&report);
        report.checks.extend(checks);
        report.figures.insert("reloads".to_owned(), reloads);
        report.figures.insert("issuer_fetches".to_owned(), self.victims.issuer.fetches() as f64);
        if let Some(ready) = broker.ready_ms {
            report.figures.insert("ready".to_owned(), ready);
        }
        let (elsewhere, samples) = (&self.args.elsewhere, self.client.samples());
        let expected = (&scenario.traffic, &scenario.directory);
        let sound = match (&elsewhere.peer_url, &elsewhere.peer_keys) {
            (None, _) => Some(tokens::check(&broker.url, &broker.ca, expected, samples).await?),
            (_, Some(keys)) => {
                Some(tokens::of_a_peer(keys, &broker.ca, scenario.traffic.token, samples).await?)
            }
            (Some(_), None) => None,
        };
        report.checks.extend(sound);
        if let Some(peer) = &elsewhere.peer_url {
            report.setting.insert("peer".to_owned(), peer.clone());
        }
        report.figures();
        let own = elsewhere.peer_url.is_none().then_some(&scenario.asserts).into_iter().flatten();
        report.checks.extend(
            own.chain(&self.args.common.asserts).map(|assert| check::assert(assert, &report.figures)),
        );
        report.warnings = check::warnings(&report);
        Ok(report)
    }
}

/// A broker or peer that runs already.
fn met(args: &RunArgs, folder: &Path) -> Result<(World, Broker), Failure> {
    let elsewhere = &args.elsewhere;
    let read = |path: &PathBuf| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let url = elsewhere.target.as_ref().or(elsewhere.peer_url.as_ref()).ok_or("no target")?;
    let world = World::at(folder, url);
    let ca = match &elsewhere.ca {
        Some(path) => read(path)?,
        None if elsewhere.target.is_some() => read(&world.ca_file())?,
        None if url.starts_with("https:") => return Err("--ca is to name what vouches for the peer".into()),
        None => Vec::new(),
    };
    let ops = elsewhere.ops.as_ref().map(|ops| ops.trim_end_matches('/').to_owned());
    let broker = Broker::met(url, ops, ca, &elsewhere.pid)?;
    Ok((
        world,
        match &elsewhere.audit {
            Some(audit) => broker.with_audit(audit.clone())?,
            None => broker,
        },
    ))
}

async fn course(
    args: &RunArgs,
    scenario: &Scenario,
    broker: &Broker,
    issuer: &Arc<Issuer>,
) -> Result<Course, Failure> {
    let (traffic, elsewhere) = (&scenario.traffic, &args.elsewhere);
    let foreign = elsewhere.peer_url.as_ref().map(|_| Foreign {
        dialect: elsewhere.peer_dialect,
        issuer: elsewhere.peer_issuer.clone().unwrap_or_else(|| issuer.url(0)),
        subject: elsewhere.peer_subject.clone(),
        audience: elsewhere.peer_audience.clone(),
        parameters: elsewhere.peer_param.clone(),
    });
    let url = match &elsewhere.peer_url {
        Some(url) => url.clone(),
        None => format!("{}/{TENANT}/oauth2/v2.0/token", broker.url),
    };
    // Elsewhere, so that this thread can be interrupted.
    let (sent, signing_by) = (scenario.clone(), issuer.clone());
    let made = spawn_blocking(move || {
        let progress = show::progress("signing assertions", sent.traffic.pool as u64);
        let stock = stock::make(&sent, &signing_by, foreign.as_ref(), &|count| progress.inc(count));
        progress.finish_and_clear();
        stock
    });
    let stock = made.await??;
    let post = Ask::post(&url, traffic.http)?;
    let job = match traffic.cold {
        true => Job::Cold(Box::new([Ask::get(&discovery(&broker.url), traffic.http)?, post])),
        false => Job::Kept(post),
    };
    Ok(Course {
        dialer: Dialer::new(&url, Some(&broker.ca), traffic.http)?,
        job,
        stock,
        expected: expected(traffic.send),
        connections: traffic.connections,
        streams: traffic.streams,
        in_flight: traffic.in_flight,
        clock: Stopwatch::start(),
    })
}

fn expected(send: Send) -> Expected {
    match send {
        Send::Fresh | Send::Repeated => Expected::Status(200),
        Send::RefusedSubject => Expected::Codes(&[700_213]),
        Send::RefusedSignature => Expected::Codes(&[700_027]),
        Send::UnknownKid => Expected::Codes(&[7_000_272]),
        Send::Garbage => Expected::Codes(&[50_027, 700_211, 5_002_727]),
    }
}

fn discovery(url: &str) -> String {
    format!("{url}/{TENANT}/v2.0/.well-known/openid-configuration")
}
