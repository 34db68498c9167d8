//! Connections of the public listener, and what is still coming in over them.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::catch_up;

/// What the listener and the bodies tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectionReadings {
    /// Open connections.
    pub open: usize,
    /// TLS handshakes that have not ended.
    pub handshakes: usize,
    /// Bytes held of bodies that have not ended.
    pub body_bytes: usize,
    /// Connections closed at accept since the start.
    pub refused: u64,
    /// Resting connections closed to make room since the start.
    pub dismissed: u64,
    /// TLS handshakes broken off to make room since the start.
    pub dropped_handshakes: u64,
    /// TLS handshakes that failed since the start.
    pub handshake_failures: u64,
    /// Bodies given up for want of room since the start.
    pub shed_bodies: u64,
}

#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    open: IntGauge,
    handshakes: IntGauge,
    body_bytes: IntGauge,
    refused: IntCounter,
    dismissed: IntCounter,
    dropped_handshakes: IntCounter,
    handshake_failures: IntCounter,
    shed_bodies: IntCounter,
}

impl ConnectionMetrics {
    pub(super) fn new(registry: &Registry, shed: &IntCounterVec) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let handshake_failures =
            IntCounter::new("tls_handshake_failures_total", "TLS handshakes that failed.")?;
        registry.register(Box::new(handshake_failures.clone()))?;
        Ok(Self {
            open: gauge("connections", "Open connections of the public listener.")?,
            handshakes: gauge("tls_handshakes", "TLS handshakes that have not ended.")?,
            body_bytes: gauge("body_bytes", "Bytes held of request bodies that have not ended.")?,
            refused: shed.with_label_values(&["connections"]),
            dismissed: shed.with_label_values(&["resting_connections"]),
            dropped_handshakes: shed.with_label_values(&["handshakes"]),
            handshake_failures,
            shed_bodies: shed.with_label_values(&["bodies"]),
        })
    }

    pub(super) fn show(&self, readings: &ConnectionReadings) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.open.set(number(readings.open));
        self.handshakes.set(number(readings.handshakes));
        self.body_bytes.set(number(readings.body_bytes));
        catch_up(&self.refused, readings.refused);
        catch_up(&self.dismissed, readings.dismissed);
        catch_up(&self.dropped_handshakes, readings.dropped_handshakes);
        catch_up(&self.handshake_failures, readings.handshake_failures);
        catch_up(&self.shed_bodies, readings.shed_bodies);
    }
}
