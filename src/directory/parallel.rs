//! Work that is shared among cores.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

/// More would take cores from requests, for files that are read in a moment anyway.
const MOST_THREADS: usize = 4;

/// Applies a function to every item, on this thread and others. The results are in the order of the items; a panic in the
/// function is one here.
pub(super) fn map<T: Send, R: Send>(items: Vec<T>, function: impl Fn(T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let helpers = cores.min(MOST_THREADS).min(items.len()).saturating_sub(1);
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || std::iter::from_fn(next).map(|(at, item)| (at, function(item))).collect::<Vec<_>>();
    let mut results = thread::scope(|scope| {
        // Where no thread can be had, those that there are do the work.
        let spawn = |_| Builder::new().name("directory".to_owned()).spawn_scoped(scope, work).ok();
        let helpers: Vec<_> = (0..helpers).filter_map(spawn).collect();
        let mut results = work();
        for helper in helpers {
            results.extend(helper.join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
        results
    });
    results.sort_unstable_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn results_keep_the_order_and_panics_are_passed_on() {
        assert_eq!(map((0..1000).collect(), |n: usize| n * 2), (0..2000).step_by(2).collect::<Vec<_>>());
        assert!(map(Vec::<u8>::new(), |n| n).is_empty());
        let panicked =
            catch_unwind(AssertUnwindSafe(|| map((0..9).collect(), |n: usize| assert!(n < 8, "eight"))));
        assert!(panicked.unwrap_err().downcast_ref::<&str>().is_some_and(|text| *text == "eight"));
    }
}
