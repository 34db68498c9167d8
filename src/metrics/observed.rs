//! What credentials in observe mode would have done.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Refused exchanges that fit a credential in observe mode.
#[derive(Debug)]
pub struct ObservedMetrics {
    granted: IntCounter,
    refused: IntCounter,
}

impl ObservedMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Refused exchanges that a credential in observe mode fits, by what it would have come to.";
        let matches = IntCounterVec::new(Opts::new("observed_matches_total", help), &["outcome"])?;
        registry.register(Box::new(matches.clone()))?;
        let [granted, refused] = ["granted", "refused"].map(|outcome| matches.with_label_values(&[outcome]));
        Ok(Self { granted, refused })
    }

    /// Notes one, and whether it would have been granted.
    pub fn note(&self, would_grant: bool) {
        if would_grant { &self.granted } else { &self.refused }.inc();
    }
}
