//! Every metric in one table, each handle resolved once: a look-up by label takes a lock, an increment does not.
//!
//! Labels come from closed sets only, never from a request.

use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::domain::directory::{Directory, Inventory};
use crate::domain::refusal::Reason;

/// How a caller speaks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Entra's v2.0 token endpoint.
    EntraV2,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 1] = [Self::EntraV2];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::EntraV2 => "entra_v2",
        }
    }
}

/// Seconds. From the fastest repeated exchange to the longest wait for an issuer.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// All metrics of one broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    granted: Vec<IntCounter>,
    refused: Vec<Vec<IntCounter>>,
    granted_duration: Histogram,
    refused_duration: Histogram,
    /// Requests that are being answered.
    pub requests_in_flight: IntGauge,
    /// Requests turned away because too many were in flight.
    pub shed_requests: IntCounter,
    shed_connections: IntCounter,
    connections: IntGauge,
    audit_records: IntCounter,
    audit_queue: IntGauge,
    signing_key_age: IntGaugeVec,
    /// The snapshot that decides.
    pub directory: DirectoryMetrics,
}

/// One of our signing keys.
#[derive(Debug, Clone)]
pub struct KeyReading {
    /// Its id.
    pub kid: String,
    /// Where in its life it is.
    pub state: &'static str,
    /// Seconds since it was made.
    pub age: i64,
}

/// What decides, in numbers.
#[derive(Debug)]
pub struct DirectoryMetrics {
    /// Changes that went live.
    pub applied: IntCounter,
    /// Changes that were refused whole.
    pub refused: IntCounter,
    generation: IntGauge,
    info: IntGaugeVec,
    objects: IntGaugeVec,
    most_credentials: IntGauge,
}

impl DirectoryMetrics {
    fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let reloads = IntCounterVec::new(
            Opts::new("directory_reload_total", "Changes of directory and configuration files."),
            &["result"],
        )?;
        let generation = IntGauge::new("directory_generation", "Counts snapshots since the start.")?;
        let info =
            IntGaugeVec::new(Opts::new("directory_info", "Always 1; the digest is a label."), &["digest"])?;
        let objects = IntGaugeVec::new(Opts::new("directory_objects", "Records by kind."), &["kind"])?;
        let most_credentials =
            IntGauge::new("credentials_per_identity_max", "Most credentials of one identity; at most 20.")?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(generation.clone()))?;
        registry.register(Box::new(info.clone()))?;
        registry.register(Box::new(objects.clone()))?;
        registry.register(Box::new(most_credentials.clone()))?;
        let (applied, refused) =
            (reloads.with_label_values(&["applied"]), reloads.with_label_values(&["refused"]));
        Ok(Self { applied, refused, generation, info, objects, most_credentials })
    }

    /// Shows another snapshot.
    pub fn show(&self, directory: &Directory, generation: u64) {
        let Inventory { tenants, identities, credentials, resources, role_assignments, most_credentials } =
            directory.inventory();
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (kind, count) in [
            ("tenant", tenants),
            ("identity", identities),
            ("credential", credentials),
            ("resource", resources),
            ("role_assignment", role_assignments),
        ] {
            self.objects.with_label_values(&[kind]).set(number(count));
        }
        self.most_credentials.set(number(most_credentials));
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.info.reset();
        self.info.with_label_values(&[directory.digest()]).set(1);
    }
}

/// Values that others own and that are read when metrics are asked for.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// Open connections.
    pub connections: usize,
    /// Connections closed at accept since the start.
    pub refused_connections: u64,
    /// Audit lines written since the start.
    pub audit_records: u64,
    /// Audit records that wait.
    pub audit_queue: usize,
    /// Our published keys.
    pub signing_keys: Vec<KeyReading>,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// When two metrics have one name, which a test would show.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new_custom(Some("ficus".to_owned()), None)?;
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let vector = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vector.clone()))?;
            Ok(vector)
        };
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let exchanges = counter("exchanges_total", "Decided exchanges.", &["dialect", "outcome", "reason"])?;
        let shed = counter("requests_shed_total", "Work turned away because of a limit.", &["reason"])?;
        let durations = prometheus::HistogramVec::new(
            HistogramOpts::new("exchange_duration_seconds", "Time from the whole request to the decision.")
                .buckets(BUCKETS.to_vec()),
            &["outcome"],
        )?;
        registry.register(Box::new(durations.clone()))?;
        let build = counter("build_info", "Always 1; the version is a label.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).inc();
        let refused = |dialect: Dialect, reason: Reason| {
            exchanges.with_label_values(&[dialect.label(), "refused", reason.label()])
        };
        Ok(Self {
            granted: Dialect::ALL
                .map(|d| exchanges.with_label_values(&[d.label(), "granted", "granted"]))
                .to_vec(),
            refused: Dialect::ALL.map(|d| Reason::ALL.map(|reason| refused(d, reason)).to_vec()).to_vec(),
            granted_duration: durations.with_label_values(&["granted"]),
            refused_duration: durations.with_label_values(&["refused"]),
            requests_in_flight: gauge("requests_in_flight", "Requests that are being answered.")?,
            shed_requests: shed.with_label_values(&["in_flight"]),
            shed_connections: shed.with_label_values(&["connections"]),
            connections: gauge("connections", "Open connections of the public listener.")?,
            audit_records: {
                let records = IntCounter::new("audit_records_total", "Audit lines written.")?;
                registry.register(Box::new(records.clone()))?;
                records
            },
            audit_queue: gauge("audit_queue_length", "Audit records that wait to be written.")?,
            signing_key_age: {
                let opts = Opts::new("signing_key_age_seconds", "Time since a published key was made.");
                let ages = IntGaugeVec::new(opts, &["kid", "state"])?;
                registry.register(Box::new(ages.clone()))?;
                ages
            },
            directory: DirectoryMetrics::new(&registry)?,
            registry,
        })
    }

    /// Notes a grant.
    pub fn granted(&self, dialect: Dialect, seconds: f64) {
        self.granted[dialect as usize].inc();
        self.granted_duration.observe(seconds);
    }

    /// Notes a refusal.
    pub fn refused(&self, dialect: Dialect, reason: Reason, seconds: f64) {
        self.refused[dialect as usize][reason as usize].inc();
        self.refused_duration.observe(seconds);
    }

    /// Everything in Prometheus' text format, with the process metrics.
    ///
    /// # Errors
    /// When a metric can't be encoded.
    pub fn render(&self, readings: &Readings) -> Result<String, prometheus::Error> {
        self.connections.set(i64::try_from(readings.connections).unwrap_or(i64::MAX));
        self.audit_queue.set(i64::try_from(readings.audit_queue).unwrap_or(i64::MAX));
        catch_up(&self.shed_connections, readings.refused_connections);
        catch_up(&self.audit_records, readings.audit_records);
        // Keys come, change their state and go.
        self.signing_key_age.reset();
        for key in &readings.signing_keys {
            self.signing_key_age.with_label_values(&[key.kid.as_str(), key.state]).set(key.age);
        }
        let mut families = self.registry.gather();
        families.extend(prometheus::gather());
        TextEncoder::new().encode_to_string(&families)
    }
}

/// Brings a counter up to a total that is counted elsewhere.
fn catch_up(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_series_from_the_start() {
        let metrics = Metrics::new().unwrap();
        metrics.granted(Dialect::EntraV2, 0.001);
        metrics.refused(Dialect::EntraV2, Reason::SubjectUnmatched, 0.001);
        let text = metrics.render(&Readings { audit_records: 2, ..Readings::default() }).unwrap();
        assert!(text.contains(
            "ficus_exchanges_total{dialect=\"entra_v2\",outcome=\"granted\",reason=\"granted\"} 1"
        ));
        for reason in Reason::ALL {
            let count = u8::from(reason == Reason::SubjectUnmatched);
            let line = format!("outcome=\"refused\",reason=\"{}\"}} {count}", reason.label());
            assert!(text.contains(&line), "{line}");
        }
        assert!(text.contains("ficus_audit_records_total 2"));
        assert!(text.contains("process_resident_memory_bytes"));
    }
}
