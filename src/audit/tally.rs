//! Counts decisions that have no line of their own, so that sums stay exact.

use std::collections::BTreeMap;

use super::record::{Outcome, Record, Status, WouldMatch};
use crate::clock::UnixTime;

/// More kinds than this are counted without their identity: strangers must not make the table grow.
const KINDS: usize = 1024;

/// What one aggregate line has in common. Nothing in it is a stranger's text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    verified: bool,
    error_code: u32,
    reason: Option<&'static str>,
    service_principal_id: Option<String>,
    identity_name: Option<String>,
    observed: Option<WouldMatch>,
}

/// Refusals by kind.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<Kind, u64>);

impl Tally {
    /// Counts a refusal, or all that an aggregate stands for; gives the sum of its kind.
    pub(super) fn add(&mut self, record: &Record) -> u64 {
        let mut kind = Kind {
            verified: record.verified,
            error_code: record.status.error_code,
            reason: record.status.reason,
            service_principal_id: record.service_principal_id.clone(),
            identity_name: record.identity_name.clone(),
            observed: record.observed.clone(),
        };
        if self.0.len() >= KINDS && !self.0.contains_key(&kind) {
            kind.service_principal_id = None;
            kind.identity_name = None;
            kind.observed = None;
        }
        let sum = self.0.entry(kind).or_default();
        *sum += record.count.unwrap_or(1);
        *sum
    }

    /// Starts again from nothing; gives one aggregate per kind.
    pub(super) fn take(&mut self, now: UnixTime) -> impl Iterator<Item = Record> + use<> {
        std::mem::take(&mut self.0).into_iter().map(move |(kind, count)| Record {
            created: now,
            service_principal_id: kind.service_principal_id,
            identity_name: kind.identity_name,
            observed: kind.observed,
            status: Status { error_code: kind.error_code, reason: kind.reason, ..Status::default() },
            outcome: Outcome::Refused,
            verified: kind.verified,
            count: Some(count),
            ..Record::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(identity: usize) -> Record {
        Record { identity_name: Some(format!("id-{identity}")), ..Record::default() }
    }

    #[test]
    fn an_aggregate_counts_for_all_it_stands_for() {
        let mut tally = Tally::default();
        tally.add(&refusal(1));
        tally.add(&refusal(1));
        let aggregate = tally.take(7).next().unwrap();
        assert!(tally.0.is_empty());
        assert_eq!((aggregate.created, aggregate.count), (7, Some(2)));
        assert_eq!(tally.add(&aggregate), 2);
        assert_eq!(tally.add(&refusal(1)), 3);
    }

    #[test]
    fn what_would_have_matched_is_counted_apart_and_kept() {
        let observed = |name: &str| {
            let (federated_credential_name, outcome) = (name.to_owned(), Outcome::Granted);
            Some(WouldMatch { federated_credential_name, outcome, reason: None })
        };
        let mut tally = Tally::default();
        for name in ["a", "b", "a"] {
            tally.add(&Record { observed: observed(name), ..refusal(1) });
        }
        tally.add(&refusal(1));
        let found: Vec<_> = tally.take(0).map(|record| (record.observed, record.count)).collect();
        assert_eq!(found, [(None, Some(1)), (observed("a"), Some(2)), (observed("b"), Some(1))]);
    }

    #[test]
    fn the_table_is_bounded_and_the_sum_exact() {
        let mut tally = Tally::default();
        for identity in 0..3 * KINDS {
            tally.add(&refusal(identity));
        }
        let aggregates: Vec<_> = tally.take(0).collect();
        assert_eq!(aggregates.len(), KINDS + 1);
        assert_eq!(aggregates.iter().filter_map(|record| record.count).sum::<u64>(), 3 * KINDS as u64);
    }
}
