//! Looks at broker, harness and machine while a phase runs, and tells what a job cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ficus::clock::Stopwatch;

use crate::Failure;
use crate::process::{Meter, machine_cpu};
use crate::recorder::Recorder;

/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// The parts of a phase whose median is the cost: a neighbour that is busy for a second spoils two of them.
const SLICES: usize = 9;

/// One look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Since the run began.
    pub(crate) at: Duration,
    pub(crate) done: u64,
    pub(crate) bad: u64,
    /// Processor time of broker, harness and machine.
    pub(crate) broker: Duration,
    pub(crate) own: Duration,
    pub(crate) machine: Duration,
    /// Bytes that the broker has in memory.
    pub(crate) memory: u64,
}

/// A thread that looks, until it is ended or dropped.
pub(crate) struct Sampler {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Look>>>,
}

impl Sampler {
    pub(crate) fn start(
        meters: Vec<Meter>,
        recorder: Arc<Recorder>,
        clock: Stopwatch,
    ) -> Result<Self, Failure> {
        let (over, own) = (Arc::new(AtomicBool::new(false)), Meter::of(std::process::id())?);
        let ended = over.clone();
        let look = move || Look {
            at: clock.elapsed(),
            done: recorder.done(),
            bad: recorder.bad(),
            broker: meters.iter().map(Meter::cpu).sum(),
            own: own.cpu(),
            machine: machine_cpu(),
            memory: meters.iter().map(Meter::memory).sum(),
        };
        let thread = thread::spawn(move || {
            let mut looks = vec![look()];
            while !ended.load(Ordering::Acquire) {
                thread::park_timeout(PAUSE);
                looks.push(look());
            }
            looks
        });
        Ok(Self { over, thread: Some(thread) })
    }

    /// All looks; the first and the last are at its beginning and its end.
    pub(crate) fn end(mut self) -> Vec<Look> {
        self.over.store(true, Ordering::Release);
        let Some(thread) = self.thread.take() else { return Vec::new() };
        thread.thread().unpark();
        thread.join().unwrap_or_default()
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
    }
}

/// Microseconds of the broker's processor time for each job, by slice of the phase, in order.
pub(crate) fn slices(looks: &[Look]) -> Vec<f64> {
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return Vec::new() };
    let length = (last.at - first.at) / u32::try_from(SLICES).unwrap_or(1);
    let (mut costs, mut from) = (Vec::new(), first);
    for look in looks {
        let jobs = look.done - from.done;
        if look.at - from.at >= length && jobs > 0 {
            costs.push((look.broker.saturating_sub(from.broker)).as_secs_f64() * 1e6 / jobs as f64);
            from = look;
        }
    }
    costs
}

/// The middle one; zero of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_processor_time_by_jobs_and_a_busy_neighbour_spoils_little() {
        let at = |n: u64, micros: u64| Look {
            at: Duration::from_millis(n * 100),
            done: n * 1000,
            bad: 0,
            broker: Duration::from_micros(micros),
            own: Duration::ZERO,
            machine: Duration::ZERO,
            memory: 0,
        };
        // 50 us a job, but for one slice.
        let looks: Vec<_> = (0..=9).map(|n| at(n, n * 50_000 + if n > 4 { 900_000 } else { 0 })).collect();
        let costs = slices(&looks);
        assert_eq!(costs.len(), 9);
        assert!((median(&costs) - 50.0).abs() < 1e-9, "{costs:?}");
        assert!(costs.iter().any(|cost| *cost > 900.0), "{costs:?}");
        assert!(slices(&[]).is_empty());
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!([median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0]), median(&[])], [2.0, 2.5, 0.0]);
    }
}
