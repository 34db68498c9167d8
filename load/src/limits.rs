//! What the machine allows: the steps that no broker can do without, measured in the same run on the same cores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use ficus::clock::Stopwatch;
use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::client::{Ask, Dialer};
use crate::echo::{self, Echo};
use crate::engine::{Course, Job, Pace, Running, lanes};
use crate::issuer::Issuer;
use crate::process::thread_cpu;
use crate::recorder::{Expected, Recorder};
use crate::sampler::{Sampler, median, slices};
use crate::scenario::{Send, Traffic};
use crate::signer::{Algorithm, Signer};
use crate::stock::Stock;

/// Seconds for each server that is measured.
const SECONDS: f64 = 1.2;
/// Slices of which the median counts.
const SLICES: usize = 15;
/// Seconds of processor time in each.
const SLICE: f64 = 0.004;
/// Operations between two looks at the clock.
const BATCH: u32 = 8;
/// Connections that shake hands at a time.
const HANDSHAKES: usize = 16;

/// Microseconds of processor time each.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits {
    /// A signature, by algorithm, with a parsed key.
    pub(crate) sign: BTreeMap<String, f64>,
    /// A check of one.
    pub(crate) verify: BTreeMap<String, f64>,
    /// A request and an answer of the broker's sizes, on connections as the scenario has them.
    pub(crate) echo: f64,
    /// The same without TLS.
    pub(crate) echo_plain: f64,
    /// The discovery document, where jobs ask for it.
    pub(crate) document: f64,
    /// A whole TLS handshake on a connection of its own, accept and end included.
    pub(crate) handshake: f64,
    /// The echo, where it also checks and signs for each request what the scenario's jobs need: the same steps cost more one after
    /// the other than each for itself, since none finds the processor's caches as it left them.
    #[serde(default)]
    pub(crate) in_one_server: f64,
}

/// How client and server talk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Talk {
    /// Bytes of bodies.
    pub(crate) request: usize,
    pub(crate) answer: usize,
    pub(crate) document: usize,
}

/// The parts of a sum that no broker can beat.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor(pub(crate) Vec<(String, f64)>);

impl Floor {
    pub(crate) fn sum(&self) -> f64 {
        self.0.iter().map(|(_, cost)| cost).sum()
    }
}

impl Limits {
    /// The middle of what was measured before and after.
    pub(crate) fn between(&self, later: &Self) -> Self {
        let both = |one: &BTreeMap<String, f64>, other: &BTreeMap<String, f64>| {
            one.iter().map(|(name, cost)| (name.clone(), f64::midpoint(*cost, other[name]))).collect()
        };
        Self {
            sign: both(&self.sign, &later.sign),
            verify: both(&self.verify, &later.verify),
            echo: f64::midpoint(self.echo, later.echo),
            echo_plain: f64::midpoint(self.echo_plain, later.echo_plain),
            document: f64::midpoint(self.document, later.document),
            handshake: f64::midpoint(self.handshake, later.handshake),
            in_one_server: f64::midpoint(self.in_one_server, later.in_one_server),
        }
    }

    /// What a job of this traffic can't avoid.
    pub(crate) fn floor(&self, traffic: &Traffic) -> Floor {
        let (assertion, token) = (traffic.assertion.name(), traffic.token.name());
        let mut parts = vec![("echo".to_owned(), self.echo)];
        let steps = Steps::of(traffic);
        if steps.verify {
            parts.push((format!("{assertion} verify"), self.verify[assertion]));
        }
        if steps.sign {
            parts.push((format!("{token} sign"), self.sign[token]));
        }
        if traffic.cold {
            parts.push(("handshake".to_owned(), self.handshake));
            parts.push(("document".to_owned(), self.document));
        }
        Floor(parts)
    }
}

/// Which signatures a job needs.
#[derive(Clone, Copy)]
struct Steps {
    verify: bool,
    sign: bool,
}

impl Steps {
    fn of(traffic: &Traffic) -> Self {
        let (verify, sign) = match traffic.send {
            Send::Fresh => (true, true),
            Send::RefusedSubject | Send::RefusedSignature => (true, false),
            // What was verified and signed before need not be again.
            Send::Repeated | Send::UnknownKid | Send::Garbage => (false, false),
        };
        Self { verify, sign }
    }

    /// As the echo is told them.
    fn path(self, traffic: &Traffic) -> String {
        let step = |wanted, algorithm: Algorithm| if wanted { algorithm.name() } else { echo::NOTHING };
        format!("/{}/{}", step(self.verify, traffic.assertion), step(self.sign, traffic.token))
    }
}

/// Measures everything that a scenario is held against.
pub(crate) async fn measure(traffic: &Traffic, talk: Talk, issuer: &Issuer) -> Result<Limits, Failure> {
    let mut limits = Limits::default();
    for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
        let (sign, verify) = cryptography(issuer.signer(0, algorithm, 0))?;
        limits.sign.insert(algorithm.name().to_owned(), sign);
        limits.verify.insert(algorithm.name().to_owned(), verify);
    }
    let echo = Echo::start()?;
    let steps = String::new();
    let kept =
        Measured { echo: &echo, traffic, with_tls: true, request: talk.request, answer: talk.answer, steps };
    limits.echo = kept.cost().await?;
    limits.in_one_server =
        Measured { steps: Steps::of(traffic).path(traffic), ..kept.clone() }.cost().await?;
    limits.echo_plain = Measured { with_tls: false, ..kept.clone() }.cost().await?;
    if traffic.cold {
        limits.document = Measured { request: 0, answer: talk.document, ..kept.clone() }.cost().await?;
    }
    limits.handshake = kept.handshake().await?;
    Ok(limits)
}

/// One server that is measured.
#[derive(Clone)]
struct Measured<'a> {
    echo: &'a Echo,
    traffic: &'a Traffic,
    with_tls: bool,
    request: usize,
    answer: usize,
    /// What is computed for each request, as a path.
    steps: String,
}

impl Measured<'_> {
    /// A request on a connection that is kept.
    async fn cost(&self) -> Result<f64, Failure> {
        let (url, http) = (
            self.echo.url(self.with_tls, self.answer) + &self.steps,
            if self.with_tls { self.traffic.http } else { 1 },
        );
        let ask = if self.request == 0 { Ask::get(&url, http) } else { Ask::post(&url, http) };
        let streams = if http == 2 { self.traffic.streams } else { 1 };
        self.run((&url, http), Job::Kept(ask?), (self.traffic.connections, streams)).await
    }

    async fn handshake(&self) -> Result<f64, Failure> {
        self.run((&self.echo.url(true, 0), 1), Job::Handshake, (HANDSHAKES, 1)).await
    }

    async fn run(&self, (url, http): (&str, usize), job: Job, lanes: (usize, usize)) -> Result<f64, Failure> {
        let course = Arc::new(Course {
            dialer: Dialer::new(url, Some(self.echo.ca()), http)?,
            job,
            stock: Stock::repeated(vec![Bytes::from(vec![b'x'; self.request])]),
            expected: Expected::Status(200),
            connections: lanes.0,
            streams: lanes.1,
            in_flight: self.traffic.in_flight,
            clock: Stopwatch::start(),
        });
        let lanes = self::lanes(&course).await?;
        let recorder = Arc::new(Recorder::new(course.expected));
        let running =
            Running::start(&course, Pace { seconds: SECONDS, count: None, rate: None }, lanes, &recorder);
        let sampler = Sampler::start(vec![self.echo.meter.clone()], recorder.clone(), course.clock)?;
        running.end(&recorder).await?;
        let looks = sampler.end();
        match recorder.bad() {
            0 => Ok(median(&slices(&looks))),
            bad => Err(format!("the echo failed {bad} times: {:?}", recorder.sum().broken).into()),
        }
    }
}

/// What signing and checking cost, of a message as long as a token, while every core does the same: under load the broker
/// has no core to itself either, and two hardware threads of one core slow each other down.
fn cryptography(signer: &Signer) -> Result<(f64, f64), Failure> {
    let message = [b'x'; 1400];
    let (signature, verifier) = (signer.sign(&message)?, signer.verifier()?);
    let sign = on_all_cores(&|| cost(&mut || signer.sign(&message).map(drop)))?;
    let verify = on_all_cores(&|| cost(&mut || Ok(verifier.verify_sig(&message, &signature)?)))?;
    Ok((sign, verify))
}

/// The mean of what all cores find.
fn on_all_cores(measure: &(dyn Fn() -> Result<f64, Failure> + Sync)) -> Result<f64, Failure> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let costs = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(measure)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<f64, Failure>>| {
            thread.join().map_err(|_| "measuring panicked")?
        };
        threads.into_iter().map(join).collect::<Result<Vec<f64>, Failure>>()
    })?;
    Ok(costs.iter().sum::<f64>() / costs.len() as f64)
}

fn cost(operation: &mut dyn FnMut() -> Result<(), Failure>) -> Result<f64, Failure> {
    let mut costs = Vec::with_capacity(SLICES);
    for _ in 0..SLICES {
        let (start, mut count) = (thread_cpu(), 0_u32);
        let mut spent = 0.0;
        while spent < SLICE {
            // The clock costs more than half a microsecond.
            for _ in 0..BATCH {
                operation()?;
            }
            count += BATCH;
            spent = (thread_cpu() - start).as_secs_f64();
        }
        costs.push(spent * 1e6 / f64::from(count));
    }
    Ok(median(&costs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        let of = |rs256, es256| BTreeMap::from([("RS256".to_owned(), rs256), ("ES256".to_owned(), es256)]);
        let (sign, verify) = (of(244.0, 16.0), of(16.0, 50.0));
        Limits {
            sign,
            verify,
            echo: 15.0,
            echo_plain: 12.0,
            document: 14.0,
            handshake: 300.0,
            in_one_server: 290.0,
        }
    }

    fn floor(send: Send, token: Algorithm, cold: bool) -> f64 {
        let (pool, connections, streams, in_flight, http, probe) = (1, 1, 1, None, 1, false);
        let assertion = Algorithm::Rs256;
        let traffic =
            Traffic { send, assertion, token, pool, connections, streams, in_flight, http, cold, probe };
        limits().floor(&traffic).sum()
    }

    #[test]
    fn a_floor_is_what_a_job_cannot_avoid() {
        let rs256 = Algorithm::Rs256;
        assert!((floor(Send::Fresh, rs256, false) - 275.0).abs() < 1e-9);
        assert!((floor(Send::Fresh, Algorithm::Es256, false) - 47.0).abs() < 1e-9);
        assert!((floor(Send::Repeated, rs256, false) - 15.0).abs() < 1e-9);
        assert!((floor(Send::RefusedSubject, rs256, false) - 31.0).abs() < 1e-9);
        assert!((floor(Send::Garbage, rs256, false) - 15.0).abs() < 1e-9);
        assert!((floor(Send::Fresh, rs256, true) - 589.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_measured_twice_is_in_the_middle() {
        let later = Limits { echo: 17.0, ..limits() };
        let between = limits().between(&later);
        assert_eq!((between.echo, between.sign["RS256"]), (16.0, 244.0));
    }

    #[test]
    fn signing_costs_processor_time() {
        let (sign, verify) =
            cryptography(&Signer::generate(Algorithm::Es256, "k".to_owned()).unwrap()).unwrap();
        assert!(sign > 1.0 && verify > 1.0, "{sign} {verify}");
    }
}
