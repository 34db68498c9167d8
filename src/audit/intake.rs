//! Takes decisions in. Where a write only goes to memory, whoever brings a record writes it, and all others that wait; else,
//! and for what is left over, there is a thread.

use std::io;
use std::mem;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{self, Sender};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tracing::error;

use super::record::Record;
use super::sink::{FileSink, Sink, StdoutSink};
use super::writer::{Entry, Shared, Writer};
use super::{AuditError, Destination, Overflow, Settings};
use crate::clock::Clock;

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

/// The audit log. Dropping it closes it.
pub struct Audit {
    decisions: Sender<Entry>,
    unverified: Sender<Entry>,
    on_overflow: Overflow,
    shared: Arc<Shared>,
    /// Who has it writes.
    desk: Arc<Mutex<Option<Writer>>>,
    /// Whether requests write: see `Sink::is_quick`.
    requests_write: bool,
    thread: Thread,
    handle: Mutex<Option<JoinHandle<()>>>,
}

/// How long a grant waits for its line before it is refused: longer than any write on a sound disk, shorter than clients
/// wait.
const STALLED: Duration = Duration::from_secs(2);
/// How often one request writes before it leaves to the thread what others go on bringing.
const ROUNDS: usize = 4;
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
        // A disk that hangs keeps the worker that writes; requests must go on with another.
        let workers = Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        let requests_write = sink.is_quick() && workers > 1;
        let writer = Writer::new((decisions_out, unverified_out), Arc::clone(&shared), sink, clock);
        let desk = Arc::new(Mutex::new(Some(writer)));
        let at_desk = (Arc::clone(&desk), Arc::clone(&shared));
        let attend = move || Writer::attend(&at_desk.0, &at_desk.1);
        let handle = thread::Builder::new().name("audit".into()).spawn(attend)?;
        Ok(Self {
            decisions,
            unverified,
            on_overflow: limits.on_overflow,
            shared,
            desk,
            requests_write,
            thread: handle.thread().clone(),
            handle: Mutex::new(Some(handle)),
        })
    }

    /// Records a grant; returns when its line is written.
    ///
    /// # Errors
    /// Then the token must not leave, and nobody needs to record that: the log counts it as a refusal.
    pub async fn grant(&self, record: Box<Record>) -> Result<(), AuditFailure> {
        let (waiter, written) = oneshot::channel();
        let entry = Entry { record, waiter: Some(waiter) };
        match self.on_overflow {
            Overflow::Block => self.decisions.send(entry).await.map_err(|_| AuditFailure::Closed)?,
            Overflow::Refuse => self.offer(&self.decisions, entry)?,
        }
        let unattended = Unattended(self);
        let attended = async {
            if self.requests_write {
                // What others have ready comes first: who is back first writes for all. The runtime leaves us to this worker,
                // which may be kept by a write that hangs: that too is within the time.
                yield_now().await;
            }
            if written.is_empty() {
                drop(unattended);
            } else {
                mem::forget(unattended);
            }
            written.await
        };
        match tokio::time::timeout(STALLED, attended).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(AuditFailure::Write),
            Ok(Err(_)) => Err(AuditFailure::Closed),
            Err(_) => {
                // Cleared by the next write that succeeds.
                self.shared.failing.store(true, Ordering::Release);
                Err(AuditFailure::Stalled)
            }
        }
    }

    /// Records a refusal without waiting. Where there is no room for its line, it adds to an aggregate instead.
    pub fn refusal(&self, record: Box<Record>) {
        // Soundly signed tokens are no proof of good will, anybody can have one: refusals never take the half of the queue
        // that is kept for grants.
        let room = self.decisions.capacity() > self.decisions.max_capacity() / 2;
        let queue = if record.verified && room { &self.decisions } else { &self.unverified };
        let is_looked_into = record.inquiry.is_some();
        match self.offer(queue, Entry { record, waiter: None }) {
            // Only the thread looks into refusals, and writes them then.
            Ok(()) if is_looked_into => {
                if self.shared.is_asleep() {
                    self.thread.unpark();
                }
            }
            Ok(()) => self.attend(),
            Err(_) => {}
        }
    }

    /// Sees to it that what is queued gets written: here, where that is quick, or by whoever is at it, else by the thread.
    fn attend(&self) {
        self.shared.announce();
        for _ in 0..if self.requests_write { ROUNDS } else { 0 } {
            // Who has the desk looks again for what came meanwhile. A poisoned desk writes nothing any more.
            let Ok(mut held) = self.desk.try_lock() else { return };
            let Some(writer) = held.as_mut() else { return };
            writer.write_waiting();
            let is_behind = writer.is_behind();
            drop(held);
            if !is_behind && !self.shared.is_announced() {
                return;
            }
        }
        self.thread.unpark();
    }

    fn offer(&self, queue: &Sender<Entry>, entry: Entry) -> Result<(), AuditFailure> {
        match queue.try_send(entry) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(entry)) => {
                self.shared.hold(entry.record);
                self.thread.unpark();
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
        self.thread.unpark();
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

/// A line that is queued and that nobody knows of yet. Dropping it sees to it that it gets written: also when the client goes
/// away before its grant could.
struct Unattended<'a>(&'a Audit);

impl Drop for Unattended<'_> {
    fn drop(&mut self) {
        self.0.attend();
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::pin::pin;
    use std::sync::mpsc as std_mpsc;
    use std::task::{Context, Poll, Waker};
    use std::thread::ThreadId;

    use serde_json::Value;

    use super::super::Durability;
    use super::super::record::{Outcome, Status};
    use super::super::writer::TRANSIENT;
    use super::*;
    use crate::domain::refusal::Reason;

    /// Tells when a batch arrives, and does with it what it is told to; without a word it takes it.
    struct Puppet {
        arrived: std_mpsc::Sender<()>,
        orders: std_mpsc::Receiver<io::Result<()>>,
        lines: Arc<Mutex<Vec<u8>>>,
        is_quick: bool,
        writers: Arc<Mutex<Vec<ThreadId>>>,
    }

    impl Sink for Puppet {
        fn append(&mut self, batch: &[u8]) -> io::Result<()> {
            self.arrived.send(()).unwrap_or_default();
            self.orders.recv().unwrap_or(Ok(()))?;
            self.lines.lock().unwrap().extend(batch);
            self.writers.lock().unwrap().push(thread::current().id());
            Ok(())
        }

        fn is_quick(&self) -> bool {
            self.is_quick
        }
    }

    struct Stage {
        audit: Arc<Audit>,
        arrived: std_mpsc::Receiver<()>,
        orders: std_mpsc::Sender<io::Result<()>>,
        lines: Arc<Mutex<Vec<u8>>>,
        clock: Clock,
        writers: Arc<Mutex<Vec<ThreadId>>>,
    }

    impl Stage {
        fn new(on_overflow: Overflow) -> Self {
            Self::of(on_overflow, false)
        }

        fn of(on_overflow: Overflow, is_quick: bool) -> Self {
            let (arrived_in, arrived) = std_mpsc::channel();
            let (orders, orders_out) = std_mpsc::channel();
            let (lines, writers): (Arc<Mutex<_>>, Arc<Mutex<_>>) = Default::default();
            let sink = Puppet {
                arrived: arrived_in,
                orders: orders_out,
                lines: Arc::clone(&lines),
                is_quick,
                writers: Arc::clone(&writers),
            };
            let clock = Clock::fixed(1);
            let limits = Limits { decisions: 2, unverified: 3, on_overflow };
            let audit = Arc::new(Audit::start(Box::new(sink), &limits, clock.clone()).unwrap());
            Self { audit, arrived, orders, lines, clock, writers }
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

    fn grant(trace: usize) -> Box<Record> {
        let trace_id = Some(trace.to_string().as_str().into());
        Box::new(Record { trace_id, outcome: Outcome::Granted, verified: true, ..Record::default() })
    }

    fn refusal(verified: bool, error_code: u32) -> Box<Record> {
        let status = Status { error_code, reason: Some("test"), ..Status::default() };
        Box::new(Record { status, verified, ..Record::default() })
    }

    fn sum(lines: &[Value], error_code: u32) -> u64 {
        let of_code = lines.iter().filter(|line| line["status"]["errorCode"] == error_code);
        of_code.map(|line| line["count"].as_u64().unwrap_or(1)).sum()
    }

    fn wait_for(mut condition: impl FnMut() -> bool) {
        while !condition() {
            thread::yield_now();
        }
    }

    /// Unlike the runtime's own, to the end of this worker's queue.
    async fn yield_once() {
        let mut yielded = false;
        std::future::poll_fn(|context| {
            context.waker().wake_by_ref();
            if std::mem::replace(&mut yielded, true) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
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

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_brings_a_record_writes_it_where_that_is_quick() {
        for (is_quick, wanted) in [(true, 15..=20), (false, 0..=0)] {
            let stage = Stage::of(Overflow::Refuse, is_quick);
            for trace in 0..20 {
                stage.orders.send(Ok(())).unwrap();
                stage.audit.grant(grant(trace)).await.unwrap();
            }
            let here = thread::current().id();
            let here = stage.writers.lock().unwrap().iter().filter(|writer| **writer == here).count();
            // The thread looks by itself when it starts and each second, and may have been at it.
            assert!(wanted.contains(&here), "{here}");
            assert_eq!(stage.close().len(), 20);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_comes_while_somebody_writes_is_written_by_the_same() {
        let stage = Stage::of(Overflow::Refuse, true);
        let mut by_the_same = 0;
        for trace in 0..20 {
            let (audit, runtime) = (Arc::clone(&stage.audit), Handle::current());
            let first = thread::spawn(move || runtime.block_on(audit.grant(grant(trace))).unwrap());
            stage.arrived.recv().unwrap();
            stage.audit.refusal(refusal(true, 1));
            stage.orders.send(Ok(())).and_then(|()| stage.orders.send(Ok(()))).unwrap();
            stage.arrived.recv().unwrap();
            let id = first.thread().id();
            first.join().unwrap();
            wait_for(|| stage.audit.written() == 2 * (trace as u64 + 1));
            by_the_same += usize::from(stage.writers.lock().unwrap().ends_with(&[id, id]));
        }
        assert!(by_the_same >= 15, "{by_the_same}");
        assert_eq!(stage.close().len(), 40);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_grant_whose_client_goes_away_is_written_in_leaving() {
        let stage = Stage::of(Overflow::Refuse, true);
        drop(stage.orders);
        let here = thread::current().id();
        let by_us = || stage.writers.lock().unwrap().iter().filter(|writer| **writer == here).count();
        // While the thread is at it the line is the thread's, and while that is held up there may be no room.
        for _ in 0..10_000 {
            let _ = poll(pin!(stage.audit.grant(grant(0))));
            if by_us() >= 10 {
                return;
            }
            thread::yield_now();
        }
        panic!("nobody wrote for those who went away");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_worker_that_is_kept_keeps_no_grant_that_made_way_for_longer_than_others_wait() {
        let stage = Stage::of(Overflow::Refuse, true);
        drop(stage.orders);
        let (go_on, busy) = std_mpsc::channel::<()>();
        let (let_go, kept) = std_mpsc::channel::<()>();
        let (began, begins) = std_mpsc::channel();
        tokio::spawn(async move {
            began.send(()).unwrap();
            busy.recv().unwrap_or_default();
        });
        begins.recv().unwrap();
        let (audit, looks) = (Arc::clone(&stage.audit), Arc::clone(&stage.audit));
        let (spawned, granted) = oneshot::channel();
        tokio::spawn(async move {
            let granted = tokio::spawn(async move { audit.grant(grant(0)).await });
            while looks.queue_length() == 0 {
                yield_once().await;
            }
            // It has made way. From now on this worker is kept, and the other one is not.
            drop((spawned.send(granted), go_on));
            kept.recv().unwrap_or_default();
        });
        let granted = tokio::time::timeout(10 * STALLED, granted.await.unwrap()).await;
        drop(let_go);
        let granted = granted.expect("it waits for the worker").unwrap();
        // The thread may have written its line meanwhile.
        assert!(matches!(granted, Ok(()) | Err(AuditFailure::Stalled)), "{granted:?}");
    }

    #[test]
    fn refusals_that_are_looked_into_are_written_without_others_coming() {
        let stage = Stage::of(Overflow::Refuse, true);
        drop(stage.orders);
        let directory = super::super::causes::tests::directory();
        for branch in 0..50 {
            let record = super::super::causes::tests::record(&directory, branch, Reason::SubjectUnmatched);
            stage.audit.refusal(Box::new(record));
            // Every other one finds the thread dozing.
            wait_for(|| branch % 2 == 0 || stage.audit.written() == branch as u64 + 1);
        }
    }

    #[tokio::test]
    async fn the_only_worker_never_writes() {
        let stage = Stage::of(Overflow::Refuse, true);
        stage.orders.send(Ok(())).unwrap();
        stage.audit.grant(grant(0)).await.unwrap();
        assert_ne!(*stage.writers.lock().unwrap(), [thread::current().id()]);
        assert_eq!(stage.close().len(), 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sink_that_hangs_keeps_one_who_writes_and_nobody_else() {
        let stage = Stage::of(Overflow::Refuse, true);
        let audit = Arc::clone(&stage.audit);
        let kept = tokio::spawn(async move { audit.grant(grant(0)).await });
        stage.arrived.recv().unwrap();
        let audit = Arc::clone(&stage.audit);
        let mut other = pin!(audit.grant(grant(1)));
        assert!(poll(other.as_mut()).is_pending(), "it waits without a thread");
        stage.audit.refusal(refusal(false, 700_027));
        assert!(!kept.is_finished());
        stage.orders.send(Ok(())).unwrap();
        stage.orders.send(Ok(())).unwrap();
        assert_eq!((kept.await.unwrap(), other.await), (Ok(()), Ok(())));
        let lines = stage.close();
        assert_eq!(lines.len(), 3, "what came meanwhile is written: {lines:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_writer_that_panics_lets_no_grant_leave() {
        let stage = Stage::of(Overflow::Refuse, true);
        let audit = Arc::clone(&stage.audit);
        let panics = thread::spawn(move || {
            let _desk = audit.desk.lock().unwrap();
            panic!("as a writer might");
        });
        assert!(panics.join().is_err());
        assert!(poll(pin!(stage.audit.grant(grant(0)))).is_pending());
        assert_eq!(stage.close().len(), 0);
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
            audit.refusal(Box::new(Record { status, ..record }));
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
