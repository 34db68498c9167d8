//! Requests to caches.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Those of one cache.
#[derive(Debug, Clone)]
pub struct CacheCounts {
    hit: IntCounter,
    miss: IntCounter,
}

impl CacheCounts {
    /// Notes a request to it.
    pub fn note(&self, is_hit: bool) {
        if is_hit { &self.hit } else { &self.miss }.inc();
    }

    /// Notes many.
    pub(super) fn add(&self, hits: u64, misses: u64) {
        self.hit.inc_by(hits);
        self.miss.inc_by(misses);
    }
}

/// All caches.
#[derive(Debug)]
pub struct CacheMetrics {
    /// Key sets of issuers. A miss is a request that had to wait for them.
    pub(super) issuer_keys: CacheCounts,
    /// Assertions that have been verified.
    pub assertions: CacheCounts,
    /// Tokens that have been minted.
    pub tokens: CacheCounts,
}

impl CacheMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "Requests to caches: those served from it, and those that were not.";
        let requests = IntCounterVec::new(Opts::new("cache_requests_total", help), &["cache", "result"])?;
        registry.register(Box::new(requests.clone()))?;
        let counts = |cache| CacheCounts {
            hit: requests.with_label_values(&[cache, "hit"]),
            miss: requests.with_label_values(&[cache, "miss"]),
        };
        Ok(Self {
            issuer_keys: counts("issuer_keys"),
            assertions: counts("assertions"),
            tokens: counts("tokens"),
        })
    }
}
