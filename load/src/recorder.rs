//! What became of every job of a phase.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;

use crate::client::{Answer, Broken};

/// Lanes that share a part write to it in turn; with as many parts as this they hardly ever meet.
const PARTS: usize = 8;
/// Granted answers that are kept, to be looked at afterwards.
const SAMPLES: u64 = 40;
/// Longest that a histogram can tell, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// The number that the broker gives to a request for which it has no room.
pub(crate) const SHED: u32 = 90024;

/// Answers by status and Entra's number.
pub(crate) type Answers = BTreeMap<(u16, u32), u64>;

/// The answer that a scenario is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// This status.
    Status(u16),
    /// A refusal with one of these numbers.
    Codes(&'static [u32]),
}

impl Expected {
    fn fits(self, status: u16, code: u32) -> bool {
        match self {
            Self::Status(expected) => status == expected,
            Self::Codes(codes) => codes.contains(&code),
        }
    }
}

/// Nanoseconds, from a microsecond to two minutes, three digits sharp.
///
/// # Panics
/// Never: the bounds are constants that fit.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LONGEST, 3).expect("the bounds fit")
}

/// Counts and times of one phase, shared by all lanes.
pub(crate) struct Recorder {
    expected: Expected,
    parts: Vec<Mutex<Part>>,
    done: AtomicU64,
    bad: AtomicU64,
    samples: Mutex<Vec<Sample>>,
}

/// A granted answer, and the number of the body that it answers.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) number: usize,
    pub(crate) body: Bytes,
}

/// What one part, or all of them together, have noted.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// From the intended moment to the whole answer, of what was not turned away.
    pub(crate) latency: Histogram<u64>,
    /// The same of what was turned away, from the moment it was really sent.
    pub(crate) shed: Histogram<u64>,
    /// From the intended moment to the real one.
    pub(crate) lag: Histogram<u64>,
    pub(crate) answers: Answers,
    pub(crate) broken: BTreeMap<Broken, u64>,
    /// Turned away without being told when to come back.
    pub(crate) shed_without_hint: u64,
}

/// When a job was to begin, began, and ended, since the run began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    pub(crate) intended: Duration,
    pub(crate) sent: Duration,
    pub(crate) ended: Duration,
}

impl Recorder {
    pub(crate) fn new(expected: Expected) -> Self {
        let part = || Mutex::new(Part::new());
        let (done, bad, samples) = Default::default();
        Self { expected, parts: (0..PARTS).map(|_| part()).collect(), done, bad, samples }
    }

    /// Notes a job of this lane.
    pub(crate) fn note(&self, lane: usize, times: Times, outcome: &Result<Answer, Broken>, number: usize) {
        let mut part = locked(&self.parts[lane % PARTS]);
        let lag = nanoseconds(times.sent.saturating_sub(times.intended));
        part.lag.saturating_record(lag);
        let answer = match outcome {
            Ok(answer) => answer,
            Err(broken) => {
                *part.broken.entry(broken).or_default() += 1;
                drop(part);
                self.bad.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        let code = if answer.status == 200 { 0 } else { answer.code() };
        *part.answers.entry((answer.status, code)).or_default() += 1;
        if code == SHED {
            part.shed.saturating_record(nanoseconds(times.ended.saturating_sub(times.sent)));
            part.shed_without_hint += u64::from(answer.retry_after.is_none());
            return;
        }
        // From the moment it was to be sent: a stall delays those behind it, and they say so.
        part.latency.saturating_record(nanoseconds(times.ended.saturating_sub(times.intended)));
        drop(part);
        if !self.expected.fits(answer.status, code) {
            self.bad.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let done = self.done.fetch_add(1, Ordering::Relaxed);
        // The first of each power of two, so that a phase of any length leaves as many.
        if answer.status == 200 && done.is_power_of_two() && done.ilog2() < SAMPLES as u32 {
            locked(&self.samples).push(Sample { number, body: answer.body.clone() });
        }
    }

    /// Notes jobs that were to begin and never did.
    pub(crate) fn unsent(&self, count: u64) {
        if count > 0 {
            *locked(&self.parts[0]).broken.entry("never sent").or_default() += count;
            self.bad.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Jobs so far that ended as they should.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Jobs so far that ended otherwise; those turned away are neither.
    pub(crate) fn bad(&self) -> u64 {
        self.bad.load(Ordering::Relaxed)
    }

    pub(crate) fn samples(&self) -> Vec<Sample> {
        locked(&self.samples).clone()
    }

    /// All parts together.
    pub(crate) fn sum(&self) -> Part {
        let mut sum = Part::new();
        for part in &self.parts {
            let part = locked(part);
            for (to, from) in
                [(&mut sum.latency, &part.latency), (&mut sum.shed, &part.shed), (&mut sum.lag, &part.lag)]
            {
                // Both have the same bounds.
                let _ = to.add(from);
            }
            part.answers.iter().for_each(|(kind, count)| *sum.answers.entry(*kind).or_default() += count);
            part.broken.iter().for_each(|(why, count)| *sum.broken.entry(why).or_default() += count);
            sum.shed_without_hint += part.shed_without_hint;
        }
        sum
    }
}

impl Part {
    fn new() -> Self {
        Self {
            latency: histogram(),
            shed: histogram(),
            lag: histogram(),
            answers: Answers::new(),
            broken: BTreeMap::new(),
            shed_without_hint: 0,
        }
    }
}

/// A lane that panicked leaves counts that are whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &'static str) -> Result<Answer, Broken> {
        Ok(Answer { status, retry_after: None, body: body.into() })
    }

    fn times(intended: u64, sent: u64, ended: u64) -> Times {
        let at = Duration::from_millis;
        Times { intended: at(intended), sent: at(sent), ended: at(ended) }
    }

    /// The value in whole milliseconds, as sharp as a histogram is.
    fn milliseconds(histogram: &Histogram<u64>, quantile: f64) -> u64 {
        (histogram.value_at_quantile(quantile) + 50_000) / 1_000_000
    }

    #[test]
    fn latency_counts_from_the_intended_moment() {
        let recorder = Recorder::new(Expected::Status(200));
        // One stalls for 100 ms; the next nine were due every 10 ms meanwhile, and are answered in 1 ms each.
        recorder.note(0, times(0, 0, 100), &answer(200, ""), 0);
        for number in 1..10 {
            recorder.note(number, times(number as u64 * 10, 99, 100), &answer(200, ""), number);
        }
        let sum = recorder.sum();
        assert_eq!((sum.latency.len(), milliseconds(&sum.latency, 0.5)), (10, 50));
        assert_eq!((milliseconds(&sum.latency, 1.0), milliseconds(&sum.lag, 1.0)), (100, 89));
        assert_eq!((recorder.done(), recorder.bad()), (10, 0));
    }

    #[test]
    fn what_is_turned_away_is_neither_done_nor_bad() {
        let recorder = Recorder::new(Expected::Status(200));
        recorder.note(0, times(0, 5, 7), &answer(503, r#"{"error_codes":[90024]}"#), 0);
        let hinted = Answer { status: 503, retry_after: Some(1), body: r#"{"error_codes":[90024]}"#.into() };
        recorder.note(0, times(0, 5, 7), &Ok(hinted), 0);
        let sum = recorder.sum();
        assert_eq!((recorder.done(), recorder.bad(), sum.latency.len()), (0, 0, 0));
        assert_eq!((milliseconds(&sum.shed, 0.5), sum.shed_without_hint), (2, 1));
        assert_eq!(sum.answers, Answers::from([((503, SHED), 2)]));
    }

    #[test]
    fn other_answers_than_expected_are_bad() {
        let refused = || answer(401, r#"{"error_codes":[700213]}"#);
        for (expected, outcome, bad) in [
            (Expected::Status(200), answer(200, ""), 0),
            (Expected::Status(200), refused(), 1),
            (Expected::Codes(&[700_213]), refused(), 0),
            (Expected::Codes(&[700_027]), refused(), 1),
            (Expected::Codes(&[700_213]), answer(200, ""), 1),
            (Expected::Status(200), Err("no answer"), 1),
        ] {
            let recorder = Recorder::new(expected);
            recorder.note(0, times(0, 0, 1), &outcome, 0);
            assert_eq!((recorder.done(), recorder.bad()), (1 - bad, bad), "{expected:?} {outcome:?}");
        }
        let recorder = Recorder::new(Expected::Status(200));
        recorder.unsent(3);
        assert_eq!((recorder.bad(), recorder.sum().broken["never sent"]), (3, 3));
    }

    #[test]
    fn samples_are_spread_over_a_phase_of_any_length() {
        let recorder = Recorder::new(Expected::Status(200));
        for number in 0..1000 {
            recorder.note(0, times(0, 0, 1), &answer(200, "t"), number);
        }
        let numbers: Vec<_> = recorder.samples().iter().map(|sample| sample.number).collect();
        assert_eq!(numbers, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    }
}
