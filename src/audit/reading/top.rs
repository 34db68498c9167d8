//! How often each value of a field occurs, in bounded memory.

use std::collections::HashMap;

use super::entry::Entry;
use super::field::Field;

/// Memory for values and their counts, in bytes, roughly.
const ROOM: usize = 64 << 20;
/// What one value takes beside its text.
const EACH: usize = 96;

/// Decisions of one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub decisions: u64,
    /// Those that ended with a token.
    pub granted: u64,
    /// Those whose assertion's signature held.
    pub verified: u64,
}

/// Counts by value. Exact until the values take 64 MiB. From then on, whenever they do, the rarer half is forgotten: counts may be
/// too low, by at most [`Top::error`], and a value that occurs more often than that is there.
pub struct Top {
    field: Field,
    room: usize,
    used: usize,
    counts: HashMap<Box<str>, Count>,
    /// Entries without a value.
    absent: Count,
    total: u64,
    error: u64,
}

impl Top {
    /// Counts by the values of a field.
    pub fn of(field: Field) -> Self {
        Self {
            field,
            room: ROOM,
            used: 0,
            counts: HashMap::new(),
            absent: Count::default(),
            total: 0,
            error: 0,
        }
    }

    /// Counts an entry, or all that it stands for.
    pub fn add(&mut self, entry: &Entry) {
        let value = self.field.values(entry).into_iter().flatten().next();
        let count = match &value {
            None => &mut self.absent,
            Some(value) => {
                if !self.counts.contains_key(value.as_str()) {
                    self.used += value.len() + EACH;
                }
                self.counts.entry(value.as_str().into()).or_default()
            }
        };
        let decisions = entry.decisions();
        // A log may be anybody's, and say any number.
        add(&mut self.total, decisions);
        add(&mut count.decisions, decisions);
        add(&mut count.granted, if entry.granted() { decisions } else { 0 });
        add(&mut count.verified, if entry.verified { decisions } else { 0 });
        if self.used > self.room {
            self.forget();
        }
    }

    /// All decisions, of whatever value.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// By how much a count may be too low; 0 while all are exact.
    pub fn error(&self) -> u64 {
        self.error
    }

    /// The most frequent, most first; `None` stands for decisions in which the field was not recorded.
    pub fn most(self, limit: usize) -> Vec<(Option<Box<str>>, Count)> {
        let counts = self.counts.into_iter().map(|(value, count)| (Some(value), count));
        let absent = (self.absent != Count::default()).then_some((None, self.absent));
        let mut all: Vec<_> = counts.chain(absent).collect();
        all.sort_unstable_by(|(one, a), (other, b)| {
            b.decisions.cmp(&a.decisions).then_with(|| one.cmp(other))
        });
        all.truncate(limit);
        all
    }

    /// Forgets all that occurred no more often than the value in the middle.
    fn forget(&mut self) {
        let mut often: Vec<u64> = self.counts.values().map(|count| count.decisions).collect();
        let middle = often.len() / 2;
        let (_, middle, _) = often.select_nth_unstable(middle);
        let middle = *middle;
        self.counts.retain(|_, count| count.decisions > middle);
        self.used = self.counts.keys().map(|value| value.len() + EACH).sum();
        add(&mut self.error, middle);
    }
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(trace: Option<&str>, count: Option<u64>) -> Entry {
        let text = serde_json::json!({
            "createdDateTime": "2026-09-21T14:13:20Z", "traceId": trace, "status": { "errorCode": 1 },
            "outcome": "refused", "count": count, "verified": true,
        });
        Entry::parse(&text.to_string()).unwrap()
    }

    fn shown(top: Top, limit: usize) -> Vec<(String, u64)> {
        let rows = top.most(limit).into_iter();
        rows.map(|(value, count)| (value.map_or("-".to_owned(), String::from), count.decisions)).collect()
    }

    #[test]
    fn sums_count_for_all_that_they_stand_for_and_ties_have_an_order() {
        let mut top = Top::of(Field::Trace);
        for (trace, count) in
            [(Some("b"), None), (Some("a"), None), (Some("c"), Some(40)), (None, Some(7)), (Some("c"), None)]
        {
            top.add(&entry(trace, count));
        }
        assert_eq!((top.total(), top.error()), (50, 0));
        let wanted =
            [("c", 41), ("-", 7), ("a", 1), ("b", 1)].map(|(value, count)| (value.to_owned(), count));
        assert_eq!(shown(top, 10), wanted);
    }

    #[test]
    fn made_up_counts_end_at_the_largest_number() {
        let mut top = Top { room: 1, ..Top::of(Field::Trace) };
        for _ in 0..2 {
            top.add(&entry(Some("a"), Some(u64::MAX)));
        }
        assert_eq!((top.total(), top.error()), (u64::MAX, u64::MAX));
        let mut top = Top::of(Field::Trace);
        for _ in 0..2 {
            top.add(&entry(Some("a"), Some(u64::MAX)));
        }
        let most = top.most(1)[0].1;
        assert_eq!((most.decisions, most.granted, most.verified), (u64::MAX, 0, u64::MAX));
    }

    #[test]
    fn made_up_values_take_no_more_than_the_room_and_push_out_nothing_frequent() {
        let mut top = Top { room: 50_000, ..Top::of(Field::Trace) };
        let mut honest = 0;
        for number in 0..20_000 {
            top.add(&entry(Some(&format!("made-up-{number}")), None));
            assert!(top.used <= 50_000 + 200);
            if number % 10 == 0 {
                top.add(&entry(Some("honest"), None));
                honest += 1;
            }
        }
        let (total, error) = (top.total(), top.error());
        assert_eq!(total, 20_000 + honest);
        assert!(error > 0);
        let rows = shown(top, 1);
        assert_eq!(rows[0].0, "honest");
        assert!(rows[0].1 <= honest && rows[0].1 + error >= honest, "{rows:?} {error}");
    }
}
