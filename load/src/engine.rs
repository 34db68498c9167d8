//! Runs one phase: lanes that send, and what tells them when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use ficus::clock::Stopwatch;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;

use crate::Failure;
use crate::client::{Answer, Ask, Broken, Dialer, Wire};
use crate::recorder::{Expected, Recorder, Times};
use crate::stock::Stock;

/// How long lanes go on with what was due when a phase has ended.
const DRAIN: Duration = Duration::from_secs(15);

/// What every job does.
pub(crate) struct Course {
    pub(crate) dialer: Dialer,
    pub(crate) job: Job,
    pub(crate) stock: Stock,
    pub(crate) expected: Expected,
    pub(crate) connections: usize,
    /// Lanes that share a connection.
    pub(crate) streams: usize,
    /// Requests at a time, at most; as many as there are lanes.
    pub(crate) in_flight: Option<usize>,
    /// Since the run began.
    pub(crate) clock: Stopwatch,
}

pub(crate) enum Job {
    /// A request on a connection that is kept.
    Kept(Ask),
    /// A new connection, a document, and a request.
    Cold(Box<[Ask; 2]>),
    /// A new connection and nothing on it.
    Handshake,
}

/// When jobs begin, and when it ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) seconds: f64,
    pub(crate) count: Option<u64>,
    /// Jobs a second; without it each lane begins the next when the last has ended.
    pub(crate) rate: Option<f64>,
}

/// One sender, with its connection.
#[derive(Default)]
pub(crate) struct Lane(Option<Wire>);

/// As many as a course needs, connected where connections are kept.
pub(crate) async fn lanes(course: &Course) -> Result<Vec<Lane>, Failure> {
    let mut lanes = Vec::with_capacity(course.connections * course.streams);
    for _ in 0..course.connections {
        let wire = match course.job {
            Job::Kept(_) => Some(course.dialer.dial().await?),
            Job::Cold(_) | Job::Handshake => None,
        };
        for _ in 1..course.streams {
            lanes.push(Lane(wire.as_ref().and_then(Wire::share)));
        }
        lanes.push(Lane(wire));
    }
    Ok(lanes)
}

/// What a phase is while it runs.
pub(crate) struct Running {
    gate: Arc<Gate>,
    tasks: JoinSet<Lane>,
}

impl Running {
    /// Sends all lanes off.
    pub(crate) fn start(
        course: &Arc<Course>,
        pace: Pace,
        lanes: Vec<Lane>,
        recorder: &Arc<Recorder>,
    ) -> Self {
        let gate = Arc::new(Gate::new(pace, course.clock, course.in_flight));
        gate.clone().keep(lanes.len());
        let mut tasks = JoinSet::new();
        for (number, lane) in lanes.into_iter().enumerate() {
            tasks.spawn(drive(course.clone(), gate.clone(), recorder.clone(), (number, lane)));
        }
        Self { gate, tasks }
    }

    /// The lanes, when all have come to rest, and whether there was nothing left to send.
    pub(crate) async fn end(mut self, recorder: &Recorder) -> Result<(Vec<Lane>, bool), Failure> {
        let mut lanes = Vec::new();
        while let Some(lane) = self.tasks.join_next().await {
            lanes.push(lane.map_err(|error| format!("a lane broke: {error}"))?);
        }
        recorder.unsent(self.gate.unsent());
        Ok((lanes, self.gate.is_out.load(Ordering::Acquire)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gate.over.store(true, Ordering::Release);
    }
}

/// One job by itself.
pub(crate) async fn once(course: &Course, recorder: &Recorder) -> Result<Result<Answer, Broken>, Failure> {
    let (number, body) = course.stock.take().ok_or("there is nothing to send")?;
    let sent = course.clock.elapsed();
    let outcome = Lane::default().run(course, body.clone()).await;
    recorder.note(0, Times { intended: sent, sent, ended: course.clock.elapsed() }, &outcome, number);
    Ok(outcome)
}

async fn drive(
    course: Arc<Course>,
    gate: Arc<Gate>,
    recorder: Arc<Recorder>,
    (number, mut lane): (usize, Lane),
) -> Lane {
    loop {
        let (_turn, Some(intended)) = (gate.turn().await, gate.next().await) else { break };
        let Some((item, body)) = course.stock.take() else {
            gate.run_out();
            break;
        };
        let sent = course.clock.elapsed();
        let outcome = lane.run(&course, body.clone()).await;
        recorder.note(number, Times { intended, sent, ended: course.clock.elapsed() }, &outcome, item);
    }
    lane
}

impl Lane {
    async fn run(&mut self, course: &Course, body: Bytes) -> Result<Answer, Broken> {
        match &course.job {
            Job::Kept(post) => {
                if self.0.as_ref().is_none_or(Wire::is_closed) {
                    self.0 = Some(course.dialer.dial().await?);
                }
                let Some(wire) = &mut self.0 else { return Err("connecting failed") };
                let outcome = wire.ask(post, body).await;
                if outcome.is_err() {
                    // What a request without an answer leaves behind must not answer the next.
                    self.0 = None;
                }
                outcome
            }
            Job::Cold(asks) => {
                let [document, post] = &**asks;
                let mut wire = course.dialer.dial().await?;
                let discovered = wire.ask(document, Bytes::new()).await?;
                if discovered.status != 200 { Ok(discovered) } else { wire.ask(post, body).await }
            }
            Job::Handshake => {
                course.dialer.shake_hands().await?;
                Ok(Answer { status: 200, retry_after: None, body: Bytes::new() })
            }
        }
    }
}

/// Lets jobs begin: one after the other in a closed loop; at fixed moments, whatever became of those before, in an open
/// one. There is no queue: the number of a job is its moment.
struct Gate {
    clock: Stopwatch,
    start: Duration,
    until: Duration,
    /// Zero in a closed loop.
    spacing: Duration,
    total: u64,
    next: AtomicU64,
    due: Semaphore,
    /// Lanes come by in the order in which they asked.
    turns: Semaphore,
    /// Nothing is left to send.
    is_out: AtomicBool,
    over: AtomicBool,
}

impl Gate {
    fn new(pace: Pace, clock: Stopwatch, in_flight: Option<usize>) -> Self {
        let start = clock.elapsed();
        let spacing = pace.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(1.0 / rate));
        // A phase of the length of n spacings has n jobs.
        let by_time = pace.rate.map_or(u64::MAX, |rate| (pace.seconds * rate).round().max(1.0) as u64);
        Self {
            clock,
            start,
            until: start + Duration::from_secs_f64(pace.seconds),
            spacing,
            total: by_time.min(pace.count.unwrap_or(u64::MAX)),
            next: AtomicU64::new(0),
            due: Semaphore::new(0),
            turns: Semaphore::new(in_flight.unwrap_or(Semaphore::MAX_PERMITS)),
            is_out: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    fn is_open_loop(&self) -> bool {
        !self.spacing.is_zero()
    }

    /// The moment at which a job is to begin.
    fn moment(&self, number: u64) -> Duration {
        self.start
            + Duration::from_nanos(
                u64::try_from(self.spacing.as_nanos()).unwrap_or(u64::MAX).saturating_mul(number),
            )
    }

    /// Held as long as a job takes.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.turns.acquire().await.ok()
    }

    /// When the caller's next job was to begin, once it may; `None` when there is none.
    async fn next(&self) -> Option<Duration> {
        if self.is_open_loop() {
            self.due.acquire().await.ok()?.forget();
        }
        let now = self.clock.elapsed();
        let end = if self.is_open_loop() { self.until + DRAIN } else { self.until };
        if self.over.load(Ordering::Acquire) || now >= end {
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::AcqRel);
        if number >= self.total {
            return None;
        }
        Some(if self.is_open_loop() { self.moment(number) } else { now })
    }

    /// Keeps the time of an open loop, on a thread of its own: the runtime's timers are a millisecond coarse.
    fn keep(self: Arc<Self>, lanes: usize) {
        if !self.is_open_loop() {
            return;
        }
        thread::spawn(move || {
            let mut released = 0;
            while released < self.total && !self.over.load(Ordering::Acquire) {
                let now = self.clock.elapsed();
                let next = self.moment(released);
                if now < next {
                    thread::sleep((next - now).min(Duration::from_millis(100)));
                    continue;
                }
                let due = (now - self.start).as_nanos() / self.spacing.as_nanos().max(1) + 1;
                let due = u64::try_from(due).unwrap_or(u64::MAX).clamp(released + 1, self.total);
                self.due.add_permits(usize::try_from(due - released).unwrap_or(1));
                released = due;
            }
            // Each lane learns that there is nothing more.
            self.due.add_permits(lanes);
        });
    }

    fn run_out(&self) {
        self.is_out.store(true, Ordering::Release);
        self.over.store(true, Ordering::Release);
    }

    /// Jobs whose moment came and that no lane began. What was not there to be sent is not among them.
    fn unsent(&self) -> u64 {
        let begun = self.next.load(Ordering::Acquire).min(self.total);
        if self.is_open_loop() && !self.is_out.load(Ordering::Acquire) { self.total - begun } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(rate: Option<f64>, seconds: f64, count: Option<u64>) -> Arc<Gate> {
        Arc::new(Gate::new(Pace { seconds, count, rate }, Stopwatch::start(), None))
    }

    #[tokio::test]
    async fn an_open_loop_keeps_its_moments_however_late_its_lanes_are() {
        let gate = gate(Some(1000.0), 0.05, None);
        gate.clone().keep(2);
        // Longer than the whole phase: all of it is due at once, and every job still has its own moment.
        tokio::time::sleep(Duration::from_millis(60)).await;
        let mut moments = Vec::new();
        while let Some(intended) = gate.next().await {
            moments.push(intended - gate.start);
        }
        assert_eq!(moments, (0..50).map(Duration::from_millis).collect::<Vec<_>>());
        assert_eq!((gate.next().await, gate.unsent()), (None, 0));
    }

    #[tokio::test]
    async fn a_closed_loop_ends_by_count_or_time() {
        let counted = gate(None, 60.0, Some(2));
        assert!(counted.next().await.is_some() && counted.next().await.is_some());
        assert_eq!(counted.next().await, None);
        let timed = gate(None, 0.001, None);
        tokio::time::sleep(Duration::from_millis(2)).await;
        assert_eq!((timed.next().await, timed.unsent()), (None, 0));
    }

    #[tokio::test]
    async fn what_is_used_up_ends_a_phase_and_what_was_never_begun_is_told() {
        let out = gate(Some(1000.0), 60.0, None);
        out.clone().keep(1);
        assert!(out.next().await.is_some());
        out.run_out();
        assert_eq!((out.next().await, out.unsent()), (None, 0));
        let stalled = gate(Some(1000.0), 0.01, None);
        stalled.over.store(true, Ordering::Release);
        assert_eq!(stalled.unsent(), 10);
    }

    #[tokio::test]
    async fn a_job_begins_when_another_has_ended_where_so_many_are_the_most() {
        let pace = Pace { seconds: 60.0, count: None, rate: None };
        let gate = Gate::new(pace, Stopwatch::start(), Some(2));
        let (first, _second) = (gate.turn().await.unwrap(), gate.turn().await.unwrap());
        tokio::select! {
            biased;
            _ = gate.turn() => panic!("a third of two"),
            () = std::future::ready(()) => {}
        }
        drop(first);
        assert!(gate.turn().await.is_some());
    }
}
