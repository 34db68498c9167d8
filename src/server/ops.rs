//! The operations listener: plain HTTP on a thread and runtime of its own, so that it answers when everything else is busy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tokio::sync::oneshot;

use super::Public;
use super::changes::{Changes, describe};
use crate::clock::{EARLIEST, UnixTime};
use crate::metrics::{ConnectionReadings, KeyReading, Readings};
use crate::net::{Certificate, Gauges, Limits, Listener, Setup};

/// What operators ask for.
pub struct Operations {
    /// The broker.
    pub public: Arc<Public>,
    /// The public listener's counts.
    pub gauges: Arc<Gauges>,
    /// What the public listener shows; `None` without TLS.
    pub certificate: Option<Arc<Certificate>>,
    /// Changes of files that are not live.
    pub changes: Arc<Changes>,
}

/// Starts serving; stops when the sender of `stop` is used or dropped.
///
/// # Errors
/// When no thread can be had.
pub fn serve(
    listener: Listener,
    operations: Operations,
    stop: oneshot::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let operations = Arc::new(operations);
    std::thread::Builder::new().name("operations".to_owned()).spawn(move || {
        runtime.block_on(async move {
            // Fewer than what is kept of descriptors for all but the public listener.
            let limits = Limits { connections: 64, ..Limits::default() };
            let setup = Setup { limits, grace: std::time::Duration::from_secs(1), ..Setup::default() };
            let service = move |request: Request<hyper::body::Incoming>, _peer| {
                let answer = operations.answer(request.method(), request.uri());
                async move { answer }
            };
            if let Err(error) = listener.serve(setup, service, stop).await {
                tracing::error!(%error, "the operations listener ended");
            }
        });
    })
}

impl Operations {
    fn answer(&self, method: &Method, uri: &Uri) -> Response<Full<Bytes>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match uri.path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(uri.query() == Some("verbose")),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n"),
        }
    }

    /// A refused change is no reason to take traffic away: the state before it serves.
    fn ready(&self, verbose: bool) -> Response<Full<Bytes>> {
        let exchange = &self.public.exchange;
        let fault = if exchange.clock.now() < EARLIEST {
            Some("the clock tells a time before 2020: it is not set")
        } else {
            (!exchange.audit.healthy()).then_some("the audit log can't be written")
        };
        let (status, mut line) = match fault {
            None => (StatusCode::OK, "ready\n".to_owned()),
            Some(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {fault}\n")),
        };
        if verbose {
            line += &describe(&exchange.snapshot.load(), &self.changes.load());
        }
        text(status, line)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let exchange = &self.public.exchange;
        let (audit, now) = (&exchange.audit, exchange.clock.now());
        let not_after = self.certificate.as_ref().and_then(|certificate| certificate.not_after());
        let readings = Readings {
            connections: self.connections(),
            audit_records: audit.written(),
            one_time_entries: exchange.used.len(),
            requests_waiting: self.public.turns.waiting(),
            audit_queue: audit.queue_length(),
            causes: audit.causes(),
            signing_keys: self.signing_keys(now),
            certificate_expiry: not_after.map(|not_after| not_after - now),
            issuers: exchange.snapshot.load().issuers.take_readings(now),
        };
        match exchange.metrics.render(&readings) {
            Ok(body) => {
                let mut response = text(StatusCode::OK, body);
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Err(error) => {
                tracing::error!(%error, "metrics can't be encoded");
                text(StatusCode::INTERNAL_SERVER_ERROR, "metrics can't be encoded\n")
            }
        }
    }

    fn connections(&self) -> ConnectionReadings {
        let (gauges, bodies) = (&self.gauges, &self.public.bodies);
        ConnectionReadings {
            open: gauges.connections.load(Ordering::Relaxed),
            handshakes: gauges.handshakes.load(Ordering::Relaxed),
            body_bytes: bodies.held(),
            refused: gauges.refused.load(Ordering::Relaxed),
            dismissed: gauges.dismissed.load(Ordering::Relaxed),
            dropped_handshakes: gauges.dropped_handshakes.load(Ordering::Relaxed),
            handshake_failures: gauges.handshake_failures.load(Ordering::Relaxed),
            shed_bodies: bodies.shed(),
        }
    }

    fn signing_keys(&self, now: UnixTime) -> Vec<KeyReading> {
        let keys = self.public.exchange.keys.list(now).into_iter();
        keys.map(|key| KeyReading { kid: key.kid, state: key.state, age: now - key.created }).collect()
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
