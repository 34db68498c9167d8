//! Brings records to the sink: one at a time writes all that waits.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tracing::{error, info};

use super::causes::{Counts, Examiner};
use super::record::{Outcome, Record, Status};
use super::sink::Sink;
use super::tally::Tally;
use crate::clock::{Clock, UnixTime};

/// The most lines of each queue in one write.
const BATCH_DECISIONS: usize = 512;
const BATCH_UNVERIFIED: usize = 128;

/// Unverified refusals of one kind that get a line each in one second; the rest are only counted.
const LINES_PER_SECOND: u64 = 100;

/// Refusals that are looked into between two writes, so that no grant waits for more; and most that wait for that.
const EXAMINED_AT_ONCE: usize = 8;
const WAITING: usize = 1024;

/// After the thread had something to do, refusals to be looked into are left to come together for this time: waking it for each
/// costs more than looking into it. Grants and what is left over wake it all the same.
const DOZE: Duration = Duration::from_millis(2);

/// Entra's number for a fault that passes.
pub(super) const TRANSIENT: u32 = 90033;

/// The buffer keeps at most this much between writes.
const BUFFER: usize = 1 << 20;

pub(super) struct Entry {
    /// Half a kilobyte, that passes through many hands.
    pub(super) record: Box<Record>,
    /// Where a grant waits to hear whether its line was written.
    pub(super) waiter: Option<oneshot::Sender<bool>>,
}

#[derive(Default)]
pub(super) struct Shared {
    pub(super) closing: AtomicBool,
    pub(super) failing: AtomicBool,
    pub(super) written: AtomicU64,
    /// Whether something was queued since the queues were last looked at.
    queued: AtomicBool,
    /// Whether the thread looks by itself in a moment.
    dozes: AtomicBool,
    /// Refusals without a line yet. Only overflow and failures come here, so the lock is off the usual path.
    held: Mutex<Tally>,
    pub(super) causes: Arc<Counts>,
}

impl Shared {
    fn held(&self) -> MutexGuard<'_, Tally> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called after something is queued, and before trying for the desk: who has the desk looks at this when it has let
    /// go of it, so either the desk is free or what is queued is seen.
    pub(super) fn announce(&self) {
        self.queued.swap(true, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// To be called after the desk is let go of: whether somebody may have found it taken.
    pub(super) fn is_announced(&self) -> bool {
        fence(Ordering::SeqCst);
        self.queued.load(Ordering::Acquire)
    }

    /// To be called after something is queued that only the thread can do: whether the thread must be woken for it.
    pub(super) fn is_asleep(&self) -> bool {
        fence(Ordering::SeqCst);
        !self.dozes.load(Ordering::Acquire)
    }

    /// Counts an entry that got no line. A grant counts as refused, since its token must not leave.
    pub(super) fn hold(&self, mut record: Box<Record>) {
        self.causes.pass_over(&record);
        if record.outcome == Outcome::Granted {
            record.outcome = Outcome::Refused;
            record.status =
                Status { error_code: TRANSIENT, reason: Some("audit_unavailable"), ..Status::default() };
        }
        self.held().add(&record);
    }
}

pub(super) struct Writer {
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
    pub(super) fn new(
        (decisions, unverified): (Receiver<Entry>, Receiver<Entry>),
        shared: Arc<Shared>,
        sink: Box<dyn Sink>,
        clock: Clock,
    ) -> Self {
        Self {
            decisions,
            unverified,
            sink,
            clock,
            second: UnixTime::MIN,
            seen: Tally::default(),
            examiner: Examiner::new(Arc::clone(&shared.causes)),
            shared,
            waiting: VecDeque::new(),
            batch: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Writes what others leave over, and looks into refusals, until the log closes.
    pub(super) fn attend(desk: &Mutex<Option<Self>>, shared: &Shared) {
        let mut was_busy = false;
        while !shared.closing.load(Ordering::Acquire) {
            // It is poisoned, and stays so, when somebody panicked: then no line is sure, and no grant leaves.
            let Ok(mut held) = desk.lock() else { return };
            let Some(writer) = held.as_mut() else { return };
            let did = writer.write_waiting() + writer.examine();
            drop(held);
            if did > 0 || shared.is_announced() {
                was_busy = true;
                continue;
            }
            if !std::mem::take(&mut was_busy) {
                // Whoever queues something that nobody writes wakes us after it is queued. What was only counted has its line
                // when the second is over.
                thread::park_timeout(Duration::from_secs(1));
                continue;
            }
            shared.dozes.store(true, Ordering::Release);
            thread::park_timeout(DOZE);
            shared.dozes.store(false, Ordering::Release);
            fence(Ordering::SeqCst);
        }
        if let Ok(mut writer) = desk.lock()
            && let Some(writer) = writer.take()
        {
            writer.finish();
        }
    }

    /// Writes one batch; gives how many entries left the queues.
    pub(super) fn write_waiting(&mut self) -> usize {
        // Before the queues are looked at.
        self.shared.queued.swap(false, Ordering::AcqRel);
        let took = self.collect(|queue| queue.try_recv().ok());
        self.flush();
        took
    }

    /// Whether there is something in the queues yet. What is looked into is the thread's alone.
    pub(super) fn is_behind(&self) -> bool {
        !(self.decisions.is_empty() && self.unverified.is_empty())
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
        self.batch.extend(records.map(|record| Entry { record: Box::new(record), waiter: None }));
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
                // A caller that left has no use for the answer.
                let _ = waiter.send(result.is_ok());
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
