//! Every metric in one table, each handle resolved once: a look-up by label takes a lock, an increment does not.
//!
//! Labels come from closed sets and from the configuration only, never from a request.

mod caches;
mod causes;
mod connections;
mod issuers;
mod observed;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::domain::directory::{Directory, Inventory};
use crate::domain::refusal::Reason;

use caches::CacheMetrics;
use causes::CauseMetrics;
use connections::ConnectionMetrics;
pub use connections::ConnectionReadings;
use issuers::IssuerMetrics;
pub use issuers::IssuerReading;
use observed::ObservedMetrics;

/// How a caller speaks to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Entra's v2.0 token endpoint.
    EntraV2,
    /// Entra's v1.0 token endpoint.
    EntraV1,
    /// Token exchange of RFC 8693, at the v2.0 endpoint.
    Rfc8693,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::EntraV2, Self::EntraV1, Self::Rfc8693];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::EntraV2 => "entra_v2",
            Self::EntraV1 => "entra_v1",
            Self::Rfc8693 => "rfc8693",
        }
    }
}

/// A part of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The wait for a processor, of those that had to wait.
    Queue,
    /// Tenant, identity, form of the assertion, is its issuer named.
    Parse,
    /// The issuer's keys: at hand, or waited for.
    Keys,
    /// Signature and times.
    Verify,
    /// Whom it fits, and what they may have.
    Match,
    /// Our token.
    Mint,
    /// The wait for a grant's audit line.
    Audit,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Queue, Self::Parse, Self::Keys, Self::Verify, Self::Match, Self::Mint, Self::Audit];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Parse => "parse",
            Self::Keys => "keys",
            Self::Verify => "verify",
            Self::Match => "match",
            Self::Mint => "mint",
            Self::Audit => "audit",
        }
    }
}

/// Why work is turned away that could be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// Too many requests in flight.
    InFlight,
    /// Too long a wait for a processor.
    QueueTime,
    /// Too many requests from one address.
    AddressRate,
    /// Too many tokens for one identity.
    IdentityRate,
}

impl Shed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InFlight, Self::QueueTime, Self::AddressRate, Self::IdentityRate];

    /// The label.
    pub fn label(self) -> &'static str {
        match self {
            Self::InFlight => "in_flight",
            Self::QueueTime => "queue_time",
            Self::AddressRate => "address_rate",
            Self::IdentityRate => "identity_rate",
        }
    }
}

/// Seconds. From the fastest repeated exchange to the longest wait for an issuer.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Seconds. Most stages take microseconds; a wait for keys or a disk may take a second.
const STAGE_BUCKETS: [f64; 12] =
    [0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.01, 0.1, 1.0, 5.0];

/// All metrics of one broker.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    granted: Vec<IntCounter>,
    refused: Vec<Vec<IntCounter>>,
    granted_duration: Histogram,
    refused_duration: Histogram,
    stages: [Histogram; Stage::ALL.len()],
    /// Requests that are being answered.
    pub requests_in_flight: IntGauge,
    shed: [IntCounter; Shed::ALL.len()],
    connections: ConnectionMetrics,
    audit_records: IntCounter,
    requests_waiting: IntGauge,
    audit_queue: IntGauge,
    one_time_entries: IntGauge,
    signing_key_age: IntGaugeVec,
    /// Without labels; a vector because there may be no certificate.
    certificate_expiry: IntGaugeVec,
    issuers: IssuerMetrics,
    causes: CauseMetrics,
    /// Caches.
    pub caches: CacheMetrics,
    /// Credentials in observe mode.
    pub observed: ObservedMetrics,
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
    /// Held, replaced.
    restless: [IntGauge; 2],
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
        let restless = IntGaugeVec::new(
            Opts::new("restless_files", "Watched files that are written again before they have rested."),
            &["state"],
        )?;
        registry.register(Box::new(restless.clone()))?;
        registry.register(Box::new(reloads.clone()))?;
        registry.register(Box::new(generation.clone()))?;
        registry.register(Box::new(info.clone()))?;
        registry.register(Box::new(objects.clone()))?;
        registry.register(Box::new(most_credentials.clone()))?;
        let (applied, refused) =
            (reloads.with_label_values(&["applied"]), reloads.with_label_values(&["refused"]));
        let restless = ["held", "replaced"].map(|state| restless.with_label_values(&[state]));
        Ok(Self { applied, refused, generation, info, objects, most_credentials, restless })
    }

    /// Shows how many files never rest: those that count as they were read last, and those that are replaced whole.
    pub fn restless(&self, held: usize, replaced: usize) {
        for (gauge, count) in self.restless.iter().zip([held, replaced]) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Shows another snapshot.
    pub fn show(&self, directory: &Directory, generation: u64) {
        let inventory = directory.inventory();
        let Inventory { tenants, identities, credentials, observed, resources, .. } = inventory;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (kind, count) in [
            ("tenant", tenants),
            ("identity", identities),
            ("credential", credentials),
            ("observed_credential", observed),
            ("resource", resources),
            ("role_assignment", inventory.role_assignments),
        ] {
            self.objects.with_label_values(&[kind]).set(number(count));
        }
        self.most_credentials.set(number(inventory.most_credentials));
        self.generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.info.reset();
        self.info.with_label_values(&[directory.digest()]).set(1);
    }
}

/// Values that others own and that are read when metrics are asked for.
#[derive(Debug, Clone, Default)]
pub struct Readings {
    /// Connections of the public listener.
    pub connections: ConnectionReadings,
    /// Audit lines written since the start.
    pub audit_records: u64,
    /// Causes of refusals, by name, and how often each was found since the start.
    pub causes: Vec<(&'static str, u64)>,
    /// Assertions good for one token only that are remembered.
    pub one_time_entries: usize,
    /// Requests that wait for a processor.
    pub requests_waiting: u64,
    /// Audit records that wait.
    pub audit_queue: usize,
    /// Our published keys.
    pub signing_keys: Vec<KeyReading>,
    /// Seconds until the certificate that is shown ends; `None` without TLS.
    pub certificate_expiry: Option<i64>,
    /// The issuers of the snapshot that decides.
    pub issuers: Vec<IssuerReading>,
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
        let total = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let total = IntCounter::new(name, help)?;
            registry.register(Box::new(total.clone()))?;
            Ok(total)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let vector = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vector.clone()))?;
            Ok(vector)
        };
        let (durations, stages) = durations(&registry)?;
        let caches = CacheMetrics::new(&registry)?;
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
            shed: Shed::ALL.map(|why| shed.with_label_values(&[why.label()])),
            connections: ConnectionMetrics::new(&registry, &shed)?,
            stages: Stage::ALL.map(|stage| stages.with_label_values(&[stage.label()])),
            audit_records: total("audit_records_total", "Audit lines written.")?,
            requests_waiting: gauge("requests_waiting", "Requests that wait for a processor.")?,
            audit_queue: gauge("audit_queue_length", "Audit records that wait to be written.")?,
            one_time_entries: gauge("one_time_entries", "Assertions remembered as used.")?,
            signing_key_age: gauges("signing_key_age_seconds", "Age of a published key.", &["kid", "state"])?,
            certificate_expiry: gauges(
                "tls_certificate_expiry_seconds",
                "Time until the certificate that is shown ends.",
                &[],
            )?,
            issuers: IssuerMetrics::new(&registry, caches.issuer_keys.clone())?,
            causes: CauseMetrics::new(&registry)?,
            caches,
            observed: ObservedMetrics::new(&registry)?,
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

    /// Notes a request that is turned away.
    pub fn shed(&self, why: Shed) {
        self.shed[why as usize].inc();
    }

    /// Notes a stage of an exchange that has ended.
    pub fn stage(&self, stage: Stage, seconds: f64) {
        self.stages[stage as usize].observe(seconds);
    }

    /// Everything in Prometheus' text format, with the process metrics.
    ///
    /// # Errors
    /// When a metric can't be encoded.
    pub fn render(&self, readings: &Readings) -> Result<String, prometheus::Error> {
        self.connections.show(&readings.connections);
        self.requests_waiting.set(i64::try_from(readings.requests_waiting).unwrap_or(i64::MAX));
        self.audit_queue.set(i64::try_from(readings.audit_queue).unwrap_or(i64::MAX));
        self.one_time_entries.set(i64::try_from(readings.one_time_entries).unwrap_or(i64::MAX));
        catch_up(&self.audit_records, readings.audit_records);
        self.certificate_expiry.reset();
        if let Some(expiry) = readings.certificate_expiry {
            self.certificate_expiry.with_label_values::<&str>(&[]).set(expiry);
        }
        self.issuers.show(&readings.issuers);
        self.causes.show(&readings.causes);
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

/// How long exchanges take, by outcome, and their parts, by stage.
fn durations(registry: &Registry) -> Result<(HistogramVec, HistogramVec), prometheus::Error> {
    let exchange = HistogramVec::new(
        HistogramOpts::new("exchange_duration_seconds", "Time from the whole request to the decision.")
            .buckets(BUCKETS.to_vec()),
        &["outcome"],
    )?;
    let stage = HistogramVec::new(
        HistogramOpts::new("stage_duration_seconds", "Time in a stage, also in one that ends in a refusal.")
            .buckets(STAGE_BUCKETS.to_vec()),
        &["stage"],
    )?;
    registry.register(Box::new(exchange.clone()))?;
    registry.register(Box::new(stage.clone()))?;
    Ok((exchange, stage))
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

    #[test]
    fn every_stage_has_its_series_from_the_start() {
        let metrics = Metrics::new().unwrap();
        metrics.stage(Stage::Mint, 0.000_2);
        let text = metrics.render(&Readings::default()).unwrap();
        for stage in Stage::ALL {
            let count = u8::from(stage == Stage::Mint);
            let line = format!("ficus_stage_duration_seconds_count{{stage=\"{}\"}} {count}\n", stage.label());
            assert!(text.contains(&line), "{line}");
        }
    }

    #[test]
    fn tls_is_shown_as_it_is_read() {
        let metrics = Metrics::new().unwrap();
        for (expiry, failures) in [(Some(100), 1), (Some(-5), 3)] {
            let connections =
                ConnectionReadings { handshake_failures: failures, ..ConnectionReadings::default() };
            let readings = Readings { certificate_expiry: expiry, connections, ..Readings::default() };
            let text = metrics.render(&readings).unwrap();
            let expected = format!("\nficus_tls_certificate_expiry_seconds {}\n", expiry.unwrap());
            assert!(text.contains(&expected), "{text}");
            assert!(text.contains(&format!("\nficus_tls_handshake_failures_total {failures}\n")), "{text}");
        }
        // Without TLS there is nothing that could end.
        let text = metrics.render(&Readings::default()).unwrap();
        assert!(!text.contains("ficus_tls_certificate_expiry_seconds "), "{text}");
    }
}
