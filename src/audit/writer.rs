//! Brings records to the sink: one thread, one write for all that waits.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::oneshot;
use tracing::{error, info};

use super::causes::{Counts, Examiner};
use super::record::{Outcome, Record, Status};
use super::sink::{FileSink, Sink, StdoutSink};
use super::tally::Tally;
use super::{AuditError, Destination, Overflow, Settings};
use crate::clock::{Clock, UnixTime};

/// The most lines of each queue in one write.
const BATCH_DECISIONS: usize = 512;
const BATCH_UNVERIFIED: usize = 128;

/// Unverified refusals of one kind that get a line each in one second; the rest are only counted.
const LINES_PER_SECOND: u64 = 100;

/// Refusals that are looked into between two writes, so that no grant waits for more; and most that wait for that.
const EXAMINED_AT_ONCE: usize = 8;
const WAITING: usize = 1024;

/// Entra's number for a fault that passes.
const TRANSIENT: u32 = 90033;

/// The buffer keeps at most this much between writes.
const BUFFER: usize = 1 << 20;

/// Why a grant must not leave. The log itself counts it as a refusal with the reason `audit_unavailable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditFailure {
    /// Too many decisions wait to be written.
    #[error("the audit queue is full")]
    Overflow,
    /// The line could not be written.
    #[error("the audit log can't be written")]
    Write,
    /// The line was not written in time; it may be written later, as one of a grant that never left.
    #[error("the audit log does not take the line")]
    Stalled,
    /// The log was closed before.
    #[error("the audit log is closed")]
    Closed,
}

struct Limits {
    decisions: usize,
    unverified: usize,
    on_overflow: Overflow,
}

struct Entry {
    record: Record,
    /// Where a grant waits for its line.
    waiter: Option<oneshot::Sender<Result<(), AuditFailure>>>,
}

#[derive(Default)]
struct Shared {
    closing: AtomicBool,
    failing: AtomicBool,
    written: AtomicU64,
    /// Refusals without a line yet. Only overflow and failures come here, so the lock is off the usual path.
    held: Mutex<Tally>,
    causes: Arc<Counts>,
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Tally> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an entry that got no line. A grant counts as refused, since its token must not leave.
    fn hold(&self, mut record: Record) {
        self.causes.pass_over(&record);
        if record.outcome == Outcome::Granted {
            record.outcome = Outcome::Refused;
            record.status =
                Status { error_code: TRANSIENT, reason: Some("audit_unavailable"), ..Status::default() };
        }
        self.held().add(&record);
    }
}

/// The audit log. Dropping it closes it.
pub struct Audit {
    decisions: Sender<Entry>,
    unverified: Sender<Entry>,
    on_overflow: Overflow,
    shared: Arc<Shared>,
    writer: Thread,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// How long a grant waits for its line before it is refused: longer than any write on a sound disk, shorter than clients
/// wait.
const STALLED: Duration = Duration::from_secs(2);
/// How long closing waits for the writer: ten seconds, looked at every ten milliseconds.
const CLOSING_STEP: Duration = Duration::from_millis(10);
const CLOSING_STEPS: u32 = 1000;

impl Audit {
    /// Opens the log and starts its thread.
    ///
    /// # Errors
    /// When the destination can't be opened for writing; the error names it and what to do.
    pub fn open(settings: &Settings, clock: Clock) -> Result<Self, AuditError> {
        let limits = Limits { decisions: 4096, unverified: 1024, on_overflow: settings.on_overflow };
        let (place, sink) = match &settings.path {
            Destination::Stdout => ("stdout".to_owned(), StdoutSink::open().map(|sink| Box::new(sink) as _)),
            Destination::File(path) => (
                path.display().to_string(),
                FileSink::open(path, settings.durability, settings.rotate_size, clock.clone())
                    .map(|sink| Box::new(sink) as _),
            ),
        };
        sink.and_then(|sink| Self::start(sink, &limits, clock)).map_err(|source| AuditError {
            place,
            action: "can't be opened for appending",
            source,
            hint: "set [audit] path to a file that ficus may create and write, or to \"stdout\"",
        })
    }

    fn start(sink: Box<dyn Sink>, limits: &Limits, clock: Clock) -> io::Result<Self> {
        let (decisions, decisions_out) = mpsc::channel(limits.decisions);
        let (unverified, unverified_out) = mpsc::channel(limits.unverified);
        let shared = Arc::new(Shared::default());
        let writer = Writer {
            decisions: decisions_out,
            unverified: unverified_out,
            shared: Arc::clone(&shared),
            sink,
            clock,
            second: UnixTime::MIN,
            seen: Tally::default(),
            examiner: Examiner::new(Arc::clone(&shared.causes)),
            waiting: VecDeque::new(),
            batch: Vec::new(),
            buffer: Vec::new(),
        };
        let handle = thread::Builder::new().name("audit".into()).spawn(move || writer.run())?;
        Ok(Self {
            decisions,
            unverified,
            on_overflow: limits.on_overflow,
            shared,
            writer: handle.thread().clone(),
            handle: Mutex::new(Some(handle)),
        })
    }

    /// Records a grant; returns when its line is written.
    ///
    /// # Errors
    /// Then the token must not leave, and nobody needs to record that: the log counts it as a refusal.
    pub async fn grant(&self, record: Record) -> Result<(), AuditFailure> {
        let (waiter, written) = oneshot::channel();
        let entry = Entry { record, waiter: Some(waiter) };
        match self.on_overflow {
            Overflow::Block => self.decisions.send(entry).await.map_err(|_| AuditFailure::Closed)?,
            Overflow::Refuse => self.offer(&self.decisions, entry)?,
        }
        self.writer.unpark();
        match tokio::time::timeout(STALLED, written).await {
            Ok(written) => written.unwrap_or(Err(AuditFailure::Closed)),
            Err(_) => {
                // Cleared by the next write that succeeds.
                self.shared.failing.store(true, Ordering::Release);
                Err(AuditFailure::Stalled)
            }
        }
    }

    /// Records a refusal without waiting. Where there is no room for its line, it adds to an aggregate instead.
    pub fn refusal(&self, record: Record) {
        // Soundly signed tokens are no proof of good will, anybody can have one: refusals never take the half of the queue
        // that is kept for grants.
        let room = self.decisions.capacity() > self.decisions.max_capacity() / 2;
        let queue = if record.verified && room { &self.decisions } else { &self.unverified };
        if self.offer(queue, Entry { record, waiter: None }).is_ok() {
            self.writer.unpark();
        }
    }

    fn offer(&self, queue: &Sender<Entry>, entry: Entry) -> Result<(), AuditFailure> {
        match queue.try_send(entry) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(entry)) => {
                self.shared.hold(entry.record);
                self.writer.unpark();
                Err(AuditFailure::Overflow)
            }
            Err(TrySendError::Closed(entry)) => {
                error!(status = ?entry.record.status, "a decision came after the audit log was closed");
                Err(AuditFailure::Closed)
            }
        }
    }

    /// Whether the last write succeeded. After a failure the log tries again with the next record, and each second.
    pub fn healthy(&self) -> bool {
        !self.shared.failing.load(Ordering::Acquire)
    }

    /// How many records wait to be written.
    pub fn queue_length(&self) -> usize {
        [&self.decisions, &self.unverified].iter().map(|queue| queue.max_capacity() - queue.capacity()).sum()
    }

    /// How many lines were written.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// How often each cause of refusals was found, by name, and how many nobody looked into.
    pub fn causes(&self) -> Vec<(&'static str, u64)> {
        self.shared.causes.read()
    }

    /// Writes all that waits, brings it to the disk and ends the threads. It blocks: call it outside the runtime's workers.
    pub fn close(&self) {
        let handle = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.closing.store(true, Ordering::Release);
        self.writer.unpark();
        let Some(handle) = handle else { return };
        // A destination that takes nothing must not keep the process from ending.
        for _ in 0..CLOSING_STEPS {
            if handle.is_finished() {
                if handle.join().is_err() {
                    error!("the audit thread panicked");
                }
                return;
            }
            thread::park_timeout(CLOSING_STEP);
        }
        error!("the audit log did not take what was queued in time");
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

struct Writer {
    decisions: Receiver<Entry>,
    unverified: Receiver<Entry>,
    shared: Arc<Shared>,
    sink: Box<dyn Sink>,
    clock: Clock,
    /// The second that `seen` counts in.
    second: UnixTime,
    seen: Tally,
    examiner: Examiner,
    /// Refusals that are looked into before they are written.
    waiting: VecDeque<Entry>,
    batch: Vec<Entry>,
    buffer: Vec<u8>,
}

impl Writer {
    fn run(mut self) {
        while !self.shared.closing.load(Ordering::Acquire) {
            let took = self.collect(|queue| queue.try_recv().ok());
            self.flush();
            if took + self.examine() > 0 {
                continue;
            }
            if self.shared.held().is_empty() {
                // Whoever queues something wakes us after it is queued.
                thread::park();
            } else {
                thread::park_timeout(Duration::from_secs(1));
            }
        }
        self.finish();
    }

    /// Fills the batch; gives how many entries left the queues for it or for an aggregate.
    fn collect(&mut self, next: impl Fn(&mut Receiver<Entry>) -> Option<Entry>) -> usize {
        let now = self.clock.now();
        if now != self.second {
            self.second = now;
            self.seen = Tally::default();
            self.aggregate();
        }
        let before = self.batch.len();
        // Decisions first: strangers must not delay them.
        self.batch.extend(std::iter::from_fn(|| next(&mut self.decisions)).take(BATCH_DECISIONS));
        let mut took = self.batch.len() - before;
        for entry in std::iter::from_fn(|| next(&mut self.unverified)).take(BATCH_UNVERIFIED) {
            took += 1;
            if self.seen.add(&entry.record) > LINES_PER_SECOND {
                self.shared.hold(entry.record);
            } else {
                self.batch.push(entry);
            }
        }
        let room = WAITING.saturating_sub(self.waiting.len());
        let unexplained = self.batch.extract_if(.., |entry| entry.record.inquiry.is_some());
        self.waiting.extend(unexplained.take(room));
        took
    }

    /// Looks into refusals that wait for it, some at a time; gives how many are ready to be written.
    fn examine(&mut self) -> usize {
        let (before, mut compared) = (self.batch.len(), 0);
        while compared < EXAMINED_AT_ONCE
            && let Some(mut entry) = self.waiting.pop_front()
        {
            compared += usize::from(self.examiner.examine(&mut entry.record, self.second));
            self.batch.push(entry);
        }
        self.batch.len() - before
    }

    /// Gives what was only counted a line for each kind.
    fn aggregate(&mut self) {
        let records = self.shared.held().take(self.second);
        self.batch.extend(records.map(|record| Entry { record, waiter: None }));
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let result = self.write();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        let was_failing = self.shared.failing.swap(result.is_err(), Ordering::AcqRel);
        match (&result, was_failing) {
            (Err(error), false) => error!(%error, "the audit log can't be written; grants are refused"),
            (Ok(()), true) => info!("the audit log can be written again"),
            _ => {}
        }
        if result.is_ok() {
            self.shared.written.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
        }
        for Entry { record, waiter } in self.batch.drain(..) {
            match &result {
                Ok(()) => self.shared.causes.pass_over(&record),
                Err(_) => self.shared.hold(record),
            }
            if let Some(waiter) = waiter {
                let answer = if result.is_ok() { Ok(()) } else { Err(AuditFailure::Write) };
                // A caller that left has no use for the answer.
                let _ = waiter.send(answer);
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        for entry in &self.batch {
            serde_json::to_writer(&mut self.buffer, &entry.record)?;
            self.buffer.push(b'\n');
        }
        self.sink.append(&self.buffer)
    }

    /// Writes what is left. Closed queues end only when the senders that were under way have arrived.
    fn finish(mut self) {
        self.decisions.close();
        self.unverified.close();
        while self.collect(Receiver::blocking_recv) > 0 {
            self.flush();
        }
        while self.examine() > 0 {
            self.flush();
        }
        self.aggregate();
        self.flush();
        let lost = self.shared.held().take(self.second).filter_map(|record| record.count).sum::<u64>();
        if lost > 0 {
            error!(count = lost, "refusals could not be recorded");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::mpsc as std_mpsc;
    use std::task::{Context, Waker};

    use serde_json::Value;

    use super::super::Durability;
    use super::*;
    use crate::domain::refusal::Reason;

    /// Tells when a batch arrives, and does with it what it is told to; without a word it takes it.
    struct Puppet {
        arrived: std_mpsc::Sender<()>,
        orders: std_mpsc::Receiver<io::Result<()>>,
        lines: Arc<Mutex<Vec<u8>>>,
    }

    impl Sink for Puppet {
        fn append(&mut self, batch: &[u8]) -> io::Result<()> {
            self.arrived.send(()).unwrap_or_default();
            self.orders.recv().unwrap_or(Ok(()))?;
            self.lines.lock().unwrap().extend(batch);
            Ok(())
        }
    }

    struct Stage {
        audit: Arc<Audit>,
        arrived: std_mpsc::Receiver<()>,
        orders: std_mpsc::Sender<io::Result<()>>,
        lines: Arc<Mutex<Vec<u8>>>,
        clock: Clock,
    }

    impl Stage {
        fn new(on_overflow: Overflow) -> Self {
            let (arrived_in, arrived) = std_mpsc::channel();
            let (orders, orders_out) = std_mpsc::channel();
            let lines = Arc::default();
            let sink = Puppet { arrived: arrived_in, orders: orders_out, lines: Arc::clone(&lines) };
            let clock = Clock::fixed(1);
            let limits = Limits { decisions: 2, unverified: 3, on_overflow };
            let audit = Arc::new(Audit::start(Box::new(sink), &limits, clock.clone()).unwrap());
            Self { audit, arrived, orders, lines, clock }
        }

        /// Lets the writer go on freely, closes the log and gives its lines.
        fn close(self) -> Vec<Value> {
            drop(self.orders);
            self.audit.close();
            parse(&self.lines.lock().unwrap())
        }
    }

    fn parse(bytes: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(bytes).unwrap();
        assert!(text.is_empty() || text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn grant(trace: usize) -> Record {
        let trace_id = Some(trace.to_string().as_str().into());
        Record { trace_id, outcome: Outcome::Granted, verified: true, ..Record::default() }
    }

    fn refusal(verified: bool, error_code: u32) -> Record {
        let status = Status { error_code, reason: Some("test"), ..Status::default() };
        Record { status, verified, ..Record::default() }
    }

    fn sum(lines: &[Value], error_code: u32) -> u64 {
        let of_code = lines.iter().filter(|line| line["status"]["errorCode"] == error_code);
        of_code.map(|line| line["count"].as_u64().unwrap_or(1)).sum()
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> std::task::Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn open(path: &Path, durability: Durability) -> Audit {
        let path = Destination::File(path.to_owned());
        let settings = Settings { path, on_overflow: Overflow::Block, durability, rotate_size: 1 << 20 };
        Audit::open(&settings, Clock::fixed(1)).unwrap()
    }

    #[tokio::test]
    async fn a_grant_returns_after_its_line_is_in_the_file() {
        for durability in [Durability::Kernel, Durability::Fsync] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("audit.jsonl");
            let audit = open(&path, durability);
            for trace in 0..20 {
                audit.grant(grant(trace)).await.unwrap();
                let lines = parse(&fs::read(&path).unwrap());
                assert_eq!(lines.len(), trace + 1);
                assert_eq!(lines[trace]["traceId"], trace.to_string());
            }
            assert_eq!((audit.written(), audit.queue_length(), audit.healthy()), (20, 0, true));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn concurrent_grants_are_all_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let audit = Arc::new(open(&path, Durability::Kernel));
        let tasks = (0..8).map(|task| {
            let audit = Arc::clone(&audit);
            tokio::spawn(async move {
                for trace in 0..50 {
                    audit.grant(grant(task * 50 + trace)).await.unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        let lines = parse(&fs::read(&path).unwrap());
        let mut traces: Vec<usize> =
            lines.iter().map(|line| line["traceId"].as_str().unwrap().parse().unwrap()).collect();
        traces.sort_unstable();
        assert_eq!(traces, (0..400).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_counts() {
        let stage = Stage::new(Overflow::Refuse);
        let audit = Arc::clone(&stage.audit);
        let mut first = pin!(audit.grant(grant(0)));
        assert!(poll(first.as_mut()).is_pending());
        stage.arrived.recv().unwrap();
        // The writer is busy with the first; two more fit.
        let (mut second, mut third) = (pin!(audit.grant(grant(1))), pin!(audit.grant(grant(2))));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        assert_eq!(audit.queue_length(), 2);
        assert_eq!(audit.grant(grant(3)).await, Err(AuditFailure::Overflow));
        for _ in 0..5 {
            audit.refusal(refusal(true, 700_213));
            audit.refusal(refusal(false, 700_027));
        }
        stage.clock.set(2);
        let lines = stage.close();
        assert_eq!((first.await, second.await, third.await), (Ok(()), Ok(()), Ok(())));
        let traces: Vec<_> = lines.iter().filter_map(|line| line["traceId"].as_str()).collect();
        assert_eq!(traces, ["0", "1", "2"]);
        assert_eq!([TRANSIENT, 700_213, 700_027].map(|code| sum(&lines, code)), [1, 5, 5]);
        // Room for three: verified refusals, kept out of the grants' queue, share it. The rest is in aggregates.
        assert_eq!(lines.iter().filter(|line| line["verified"] == false).count(), 2, "{lines:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_grant_whose_line_is_not_taken_is_refused_in_time() {
        let stage = Stage::new(Overflow::Refuse);
        let audit = Arc::clone(&stage.audit);
        let mut first = pin!(audit.grant(grant(0)));
        assert!(poll(first.as_mut()).is_pending());
        stage.arrived.recv().unwrap();
        assert!(audit.healthy());
        // The sink holds the line; the paused clock runs to the end of the wait.
        assert_eq!(first.await, Err(AuditFailure::Stalled));
        assert!(!audit.healthy());
        stage.close();
        assert!(audit.healthy(), "the write that succeeded at last has cleared it");
    }

    #[tokio::test]
    async fn a_full_queue_blocks_when_asked_to() {
        let stage = Stage::new(Overflow::Block);
        let audit = Arc::clone(&stage.audit);
        let mut grants: Vec<_> = (0..10).map(|trace| Box::pin(audit.grant(grant(trace)))).collect();
        assert!(poll(grants[0].as_mut()).is_pending());
        stage.arrived.recv().unwrap();
        for waiting in &mut grants[1..] {
            assert!(poll(waiting.as_mut()).is_pending());
        }
        assert_eq!(audit.queue_length(), 2);
        drop(stage.orders);
        // Each answer needs the ones before it, so the queue has to move for all of them.
        for waiting in grants {
            assert_eq!(waiting.await, Ok(()));
        }
        audit.close();
        let lines = parse(&stage.lines.lock().unwrap());
        let traces: Vec<_> = lines.iter().map(|line| line["traceId"].as_str().unwrap()).collect();
        assert_eq!(traces, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
    }

    #[tokio::test]
    async fn a_failed_write_fails_its_grants_until_one_succeeds() {
        let stage = Stage::new(Overflow::Refuse);
        for trace in 0..3 {
            stage.orders.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
            assert_eq!(stage.audit.grant(grant(trace)).await, Err(AuditFailure::Write));
            assert!(!stage.audit.healthy());
        }
        stage.orders.send(Ok(())).unwrap();
        assert_eq!(stage.audit.grant(grant(3)).await, Ok(()));
        assert!(stage.audit.healthy());
        let lines = stage.close();
        let granted: Vec<_> = lines.iter().filter(|line| line["outcome"] == "granted").collect();
        assert_eq!(granted.len(), 1);
        assert_eq!(granted[0]["traceId"], "3");
        assert_eq!(sum(&lines, TRANSIENT), 3);
    }

    #[test]
    fn refusals_of_a_failed_batch_are_counted_exactly() {
        let stage = Stage::new(Overflow::Refuse);
        for time in 2..5 {
            stage.clock.set(time);
            stage.orders.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
            stage.audit.refusal(refusal(true, 700_213));
            stage.arrived.recv().unwrap();
        }
        assert_eq!(sum(&stage.close(), 700_213), 3);
    }

    #[test]
    fn a_flood_of_strangers_gets_few_lines_and_an_exact_sum() {
        let stage = Stage::new(Overflow::Refuse);
        for _ in 0..1000 {
            stage.orders.send(Ok(())).unwrap();
            stage.audit.refusal(refusal(false, 700_027));
        }
        let lines = stage.close();
        assert_eq!(sum(&lines, 700_027), 1000);
        assert!(lines.iter().filter(|line| line["count"].is_null()).count() <= 100);
    }

    #[test]
    fn every_refusal_that_has_a_line_has_its_cause_and_the_rest_is_counted() {
        let stage = Stage::new(Overflow::Refuse);
        let (audit, directory) = (Arc::clone(&stage.audit), super::super::causes::tests::directory());
        for branch in 0..20 {
            let status = Status { error_code: 700_213, reason: Some("test"), ..Status::default() };
            let record = super::super::causes::tests::record(&directory, branch, Reason::SubjectUnmatched);
            audit.refusal(Record { status, ..record });
        }
        let lines = stage.close();
        let count = |name: &str| audit.causes().into_iter().find(|(other, _)| *other == name).unwrap().1;
        let with_cause = lines.iter().filter(|line| line["nearMiss"]["cause"] == "S-GH-BRANCH").count();
        let with_line = lines.iter().filter(|line| line["count"].is_null()).count();
        assert!(with_cause > 0 && with_cause == with_line, "{lines:?}");
        assert_eq!(count("S-GH-BRANCH"), with_cause as u64);
        assert_eq!(count("S-GH-BRANCH") + count("not_examined"), 20);
        assert_eq!(sum(&lines, 700_213), 20);
    }

    #[tokio::test]
    async fn closing_writes_what_waits_and_ends_the_log() {
        let stage = Stage::new(Overflow::Refuse);
        let audit = Arc::clone(&stage.audit);
        audit.refusal(refusal(true, 1));
        stage.arrived.recv().unwrap();
        audit.refusal(refusal(true, 2));
        audit.refusal(refusal(false, 3));
        let lines = stage.close();
        assert_eq!([1, 2, 3].map(|code| sum(&lines, code)), [1, 1, 1]);
        assert_eq!(audit.written(), 3);
        assert_eq!(audit.grant(grant(0)).await, Err(AuditFailure::Closed));
    }

    #[test]
    fn a_destination_that_cannot_be_opened_is_named_with_a_hint() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: Destination::File(folder.path().to_owned()),
            on_overflow: Overflow::Refuse,
            durability: Durability::Kernel,
            rotate_size: 1 << 20,
        };
        let error = Audit::open(&settings, Clock::fixed(1)).err().unwrap().to_string();
        assert!(
            error.starts_with(&format!("audit log {}: can't be opened", folder.path().display())),
            "{error}"
        );
        assert!(error.contains("(hint: set [audit] path"), "{error}");
    }
}
