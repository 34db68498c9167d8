//! What is shown of external issuers, under a bounded number of labels.

use std::collections::{BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

/// Most issuers with a label of their own: a directory may name thousands, and each is several series.
const OWN_LABELS: usize = 100;
/// The label that the rest share. No issuer has this name: issuers are URLs.
const OTHER: &str = "other";
const RESULTS: [&str; 2] = ["success", "failure"];

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
}

/// The metrics of all issuers.
#[derive(Debug)]
pub(super) struct IssuerMetrics {
    fetches: IntCounterVec,
    keys: IntGaugeVec,
    ages: IntGaugeVec,
    /// Who has a label of its own. Locked only where metrics are asked for.
    own: Mutex<BTreeSet<String>>,
}

impl IssuerMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let fetches = Opts::new("issuer_fetches_total", "Fetches of issuers' keys that have ended.");
        let fetches = IntCounterVec::new(fetches, &["issuer", "result"])?;
        let keys = Opts::new("issuer_keys", "Usable keys at hand; those of other issuers are added up.");
        let keys = IntGaugeVec::new(keys, &["issuer"])?;
        let ages = "Time since an issuer's keys were fetched; of other issuers the longest.";
        let ages = IntGaugeVec::new(Opts::new("issuer_keys_age_seconds", ages), &["issuer"])?;
        registry.register(Box::new(fetches.clone()))?;
        registry.register(Box::new(keys.clone()))?;
        registry.register(Box::new(ages.clone()))?;
        Ok(Self { fetches, keys, ages, own: Mutex::default() })
    }

    /// Shows these issuers and no others.
    pub(super) fn show(&self, readings: &[IssuerReading]) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        self.share_out(&mut own, readings);
        self.keys.reset();
        self.ages.reset();
        for reading in readings {
            let label = own.get(&reading.issuer).map_or(OTHER, String::as_str);
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

    /// Takes labels from issuers that are gone and gives free ones to others in the order of their URLs. Who has one keeps
    /// it: a count that moved between labels would look like a restart.
    fn share_out(&self, own: &mut BTreeSet<String>, readings: &[IssuerReading]) {
        let named: HashSet<&str> = readings.iter().map(|reading| reading.issuer.as_str()).collect();
        own.retain(|issuer| {
            let stays = named.contains(issuer.as_str());
            if !stays {
                for result in RESULTS {
                    // Fails when there is no such series, which is as good.
                    let _ = self.fetches.remove_label_values(&[issuer.as_str(), result]);
                }
            }
            stays
        });
        let free = OWN_LABELS - own.len();
        if free > 0 {
            let mut waiting: Vec<&str> = named.into_iter().filter(|issuer| !own.contains(*issuer)).collect();
            waiting.sort_unstable();
            own.extend(waiting.into_iter().take(free).map(str::to_owned));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn reading(number: usize) -> IssuerReading {
        let issuer = format!("https://{number:03}.example");
        IssuerReading { issuer, keys: 2, age: Some(i64::try_from(number).unwrap()), succeeded: 1, failed: 0 }
    }

    struct Shown {
        registry: Registry,
        metrics: IssuerMetrics,
    }

    impl Shown {
        fn new() -> Self {
            let registry = Registry::new();
            Self { metrics: IssuerMetrics::new(&registry).unwrap(), registry }
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
            assert_eq!(lines.len(), 101 * 4);
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
        assert_eq!(lines.len(), 101 * 4);
        assert!(!lines.iter().any(|line| line.contains("https://100.example")), "{lines:#?}");
        assert!(has(&lines, "issuer_keys{issuer=\"https://000.example\"} 2"));
        assert!(has(&lines, "issuer_fetches_total{issuer=\"https://199.example\",result=\"success\"} 2"));
        // However often the directory changes, there are no more series than for one.
        for round in 0..20 {
            let lines = shown.after(&(round * 40..round * 40 + 150).map(reading).collect::<Vec<_>>());
            assert_eq!(lines.len(), 101 * 4);
        }
        // What the rest counted stays: a counter never goes down.
        let lines = shown.after(&[]);
        assert!(lines.iter().all(|line| line.contains("issuer=\"other\"")), "{lines:#?}");
    }

    #[test]
    fn keys_that_nobody_fetched_have_no_age() {
        let none = IssuerReading { issuer: "https://a.example".to_owned(), ..IssuerReading::default() };
        let lines = Shown::new().after(&[none]);
        assert!(has(&lines, "issuer_keys{issuer=\"https://a.example\"} 0"));
        assert!(has(&lines, "issuer_fetches_total{issuer=\"https://a.example\",result=\"failure\"} 0"));
        assert_eq!(lines.len(), 3);
    }
}
