//! What is shown of external issuers, under a bounded number of labels.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::caches::CacheCounts;

/// Most issuers with a label of their own: a directory may name thousands, and each is several series.
const OWN_LABELS: usize = 100;
/// The label that the rest share. No issuer has this name: issuers are URLs.
const OTHER: &str = "other";
const RESULTS: [&str; 2] = ["success", "failure"];
/// Who has a label loses it to who is used this many times more: two that are used alike must not take turns.
const MUCH_MORE: u64 = 2;

/// One issuer that the directory names.
#[derive(Debug, Clone, Default)]
pub struct IssuerReading {
    /// Its URL as configured.
    pub issuer: String,
    /// Keys at hand.
    pub keys: usize,
    /// Seconds since they were fetched; `None` when they were not.
    pub age: Option<i64>,
    /// Fetches that brought keys, since the last reading.
    pub succeeded: u64,
    /// Fetches that did not, since the last reading.
    pub failed: u64,
    /// Requests that found keys at hand, since the last reading.
    pub hits: u64,
    /// Requests that had to wait for a fetch, since the last reading.
    pub misses: u64,
}

/// The metrics of all issuers.
#[derive(Debug)]
pub(super) struct IssuerMetrics {
    fetches: IntCounterVec,
    keys: IntGaugeVec,
    ages: IntGaugeVec,
    cache: CacheCounts,
    /// Of every issuer. Locked only where metrics are asked for.
    known: Mutex<HashMap<String, Known>>,
}

/// What is remembered of an issuer from one reading to the next.
#[derive(Debug, Default)]
struct Known {
    /// Requests that needed its keys.
    uses: u64,
    /// Whether it has a label of its own.
    is_labelled: bool,
}

impl IssuerMetrics {
    pub(super) fn new(registry: &Registry, cache: CacheCounts) -> Result<Self, prometheus::Error> {
        let fetches = Opts::new("issuer_fetches_total", "Fetches of issuers' keys that have ended.");
        let fetches = IntCounterVec::new(fetches, &["issuer", "result"])?;
        let keys = Opts::new("issuer_keys", "Usable keys at hand; those of other issuers are added up.");
        let keys = IntGaugeVec::new(keys, &["issuer"])?;
        let ages = "Time since an issuer's keys were fetched; of other issuers the longest.";
        let ages = IntGaugeVec::new(Opts::new("issuer_keys_age_seconds", ages), &["issuer"])?;
        registry.register(Box::new(fetches.clone()))?;
        registry.register(Box::new(keys.clone()))?;
        registry.register(Box::new(ages.clone()))?;
        Ok(Self { fetches, keys, ages, cache, known: Mutex::default() })
    }

    /// Shows these issuers and no others.
    pub(super) fn show(&self, readings: &[IssuerReading]) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.cache.add(readings.iter().map(|r| r.hits).sum(), readings.iter().map(|r| r.misses).sum());
        self.share_out(&mut known, readings);
        self.keys.reset();
        self.ages.reset();
        for reading in readings {
            let labelled = known.get(&reading.issuer).is_some_and(|known| known.is_labelled);
            let label = if labelled { reading.issuer.as_str() } else { OTHER };
            for (result, count) in RESULTS.into_iter().zip([reading.succeeded, reading.failed]) {
                self.fetches.with_label_values(&[label, result]).inc_by(count);
            }
            self.keys.with_label_values(&[label]).add(i64::try_from(reading.keys).unwrap_or(i64::MAX));
            if let Some(age) = reading.age {
                let oldest = self.ages.with_label_values(&[label]);
                oldest.set(oldest.get().max(age));
            }
        }
    }

    /// Gives labels to the issuers that are used most, ties in the order of their URLs. Who has one keeps it while it is
    /// named, unless another is used much more: a count that moved between labels would look like a restart.
    fn share_out(&self, known: &mut HashMap<String, Known>, readings: &[IssuerReading]) {
        let mut still = HashMap::with_capacity(readings.len());
        for reading in readings {
            let mut issuer = known.remove(&reading.issuer).unwrap_or_default();
            issuer.uses += reading.hits + reading.misses;
            still.insert(reading.issuer.clone(), issuer);
        }
        for (gone, _) in known.drain().filter(|(_, issuer)| issuer.is_labelled) {
            self.take_series(&gone);
        }
        let mut ranked: Vec<(&String, &mut Known)> = still.iter_mut().collect();
        // A label counts as much more use.
        let weight = |issuer: &Known| {
            if issuer.is_labelled { (issuer.uses + 1).saturating_mul(MUCH_MORE) } else { issuer.uses }
        };
        ranked.sort_by(|(a, x), (b, y)| (Reverse(weight(x)), a).cmp(&(Reverse(weight(y)), b)));
        for (rank, (name, issuer)) in ranked.into_iter().enumerate() {
            let labelled = rank < OWN_LABELS;
            if issuer.is_labelled && !labelled {
                // What it counted stays counted.
                for (result, count) in RESULTS.into_iter().zip(self.take_series(name)) {
                    self.fetches.with_label_values(&[OTHER, result]).inc_by(count);
                }
            }
            issuer.is_labelled = labelled;
        }
        *known = still;
    }

    /// Removes what an issuer's own label counted.
    fn take_series(&self, issuer: &str) -> [u64; 2] {
        RESULTS.map(|result| {
            let count = self.fetches.with_label_values(&[issuer, result]).get();
            let _ = self.fetches.remove_label_values(&[issuer, result]);
            count
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::super::caches::CacheMetrics;
    use super::*;

    fn reading(number: usize) -> IssuerReading {
        let issuer = format!("https://{number:03}.example");
        let age = Some(i64::try_from(number).unwrap());
        IssuerReading { issuer, keys: 2, age, succeeded: 1, ..IssuerReading::default() }
    }

    struct Shown {
        registry: Registry,
        metrics: IssuerMetrics,
    }

    impl Shown {
        fn new() -> Self {
            let registry = Registry::new();
            Self {
                metrics: IssuerMetrics::new(&registry, CacheMetrics::new(&registry).unwrap().issuer_keys)
                    .unwrap(),
                registry,
            }
        }

        fn after(&self, readings: &[IssuerReading]) -> Vec<String> {
            self.metrics.show(readings);
            let text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        }
    }

    fn has(lines: &[String], line: &str) -> bool {
        lines.iter().any(|other| other == line)
    }

    #[test]
    fn a_hundred_issuers_have_labels_and_the_rest_share_one() {
        let shown = Shown::new();
        let all: Vec<_> = (0..1000).rev().map(reading).collect();
        for round in 1..=3 {
            let lines = shown.after(&all);
            assert_eq!(lines.len(), 6 + 101 * 4);
            for (series, value) in [
                ("issuer_fetches_total{issuer=\"other\",result=\"success\"}", 900 * round),
                ("issuer_fetches_total{issuer=\"other\",result=\"failure\"}", 0),
                ("issuer_fetches_total{issuer=\"https://099.example\",result=\"success\"}", round),
                ("issuer_keys{issuer=\"https://099.example\"}", 2),
                ("issuer_keys{issuer=\"other\"}", 1800),
                ("issuer_keys_age_seconds{issuer=\"other\"}", 999),
            ] {
                assert!(has(&lines, &format!("{series} {value}")), "{series} {value} in {lines:#?}");
            }
        }
    }

    #[test]
    fn who_is_gone_has_no_series_and_who_has_a_label_keeps_it() {
        let shown = Shown::new();
        shown.after(&(100..250).map(reading).collect::<Vec<_>>());
        // One goes, an earlier one comes: it takes the free label, and nobody else moves.
        let lines = shown.after(&(0..1).chain(101..250).map(reading).collect::<Vec<_>>());
        assert_eq!(lines.len(), 6 + 101 * 4);
        assert!(!lines.iter().any(|line| line.contains("https://100.example")), "{lines:#?}");
        assert!(has(&lines, "issuer_keys{issuer=\"https://000.example\"} 2"));
        assert!(has(&lines, "issuer_fetches_total{issuer=\"https://199.example\",result=\"success\"} 2"));
        // However often the directory changes, there are no more series than for one.
        for round in 0..20 {
            let lines = shown.after(&(round * 40..round * 40 + 150).map(reading).collect::<Vec<_>>());
            assert_eq!(lines.len(), 6 + 101 * 4);
        }
        // What the rest counted stays: a counter never goes down.
        let lines = shown.after(&[]);
        let of_issuers = lines.iter().filter(|line| line.contains("issuer="));
        assert!(of_issuers.clone().all(|line| line.contains("issuer=\"other\"")), "{lines:#?}");
    }

    #[test]
    fn the_most_used_have_the_labels_and_who_is_used_a_little_more_takes_none() {
        let shown = Shown::new();
        let used = |number: usize, hits: u64| IssuerReading { hits, ..reading(number) };
        let quiet = || (0..150).map(reading);
        shown.after(&quiet().collect::<Vec<_>>());
        // The 50 that had to share a label are used, and take those of issuers that nobody uses.
        let lines = shown.after(&quiet().take(100).chain((100..150).map(|n| used(n, 9))).collect::<Vec<_>>());
        let labelled = |lines: &[String], number: usize| {
            lines.iter().any(|line| {
                line.starts_with(&format!("issuer_keys{{issuer=\"https://{number:03}.example\"}}"))
            })
        };
        assert!((0..50).chain(100..150).all(|n| labelled(&lines, n)) && !labelled(&lines, 50));
        // Nothing that was counted is lost: two rounds of 150.
        let counted = |lines: &[String]| -> u64 {
            let successes = lines.iter().filter(|line| line.contains("result=\"success\""));
            successes.map(|line| line.split(' ').nth(1).unwrap().parse::<u64>().unwrap()).sum()
        };
        assert_eq!(counted(&lines), 300);
        // A little more use than another's is not enough: 50 stays without, until it is used much more.
        let with = |hits: u64| (0..150).map(move |n| used(n, if n == 50 { hits } else { u64::from(n < 50) }));
        assert!(!labelled(&shown.after(&with(3).collect::<Vec<_>>()), 50));
        assert!(labelled(&shown.after(&with(9).collect::<Vec<_>>()), 50));
    }

    #[test]
    fn requests_are_counted_over_all_issuers() {
        let shown = Shown::new();
        assert!(has(&shown.after(&[]), "cache_requests_total{cache=\"issuer_keys\",result=\"miss\"} 0"));
        let one = |hits, misses| IssuerReading { hits, misses, ..reading(1) };
        shown.after(&[one(5, 1)]);
        let lines = shown.after(&[one(2, 0), IssuerReading { misses: 1, ..reading(2) }]);
        assert!(has(&lines, "cache_requests_total{cache=\"issuer_keys\",result=\"hit\"} 7"), "{lines:#?}");
        assert!(has(&lines, "cache_requests_total{cache=\"issuer_keys\",result=\"miss\"} 2"), "{lines:#?}");
    }

    #[test]
    fn keys_that_nobody_fetched_have_no_age() {
        let none = IssuerReading { issuer: "https://a.example".to_owned(), ..IssuerReading::default() };
        let lines = Shown::new().after(&[none]);
        assert!(has(&lines, "issuer_keys{issuer=\"https://a.example\"} 0"));
        assert!(has(&lines, "issuer_fetches_total{issuer=\"https://a.example\",result=\"failure\"} 0"));
        assert_eq!(lines.len(), 6 + 3);
    }
}
