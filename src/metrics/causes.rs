//! Why refusals happened, by name: a closed set.

use prometheus::{IntCounterVec, Opts, Registry};

/// Counted by the audit log, which looks into refusals.
#[derive(Debug)]
pub(super) struct CauseMetrics(IntCounterVec);

impl CauseMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Refusals by what was found to be their cause.";
        let causes = IntCounterVec::new(Opts::new("refusal_causes_total", help), &["cause"])?;
        registry.register(Box::new(causes.clone()))?;
        Ok(Self(causes))
    }

    pub(super) fn show(&self, counts: &[(&'static str, u64)]) {
        for (cause, count) in counts {
            super::catch_up(&self.0.with_label_values(&[cause]), *count);
        }
    }
}
