//! The public listener: routing and admission. And the operations listener, on a thread of its own.

mod ops;
mod routes;

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::domain::refusal::{Outage, Refusal};
use crate::exchange::Exchange;
use crate::net::{Limits, Peer};
use crate::wire::{Ids, Surface, Wire};

pub use ops::{Operations, serve as serve_operations};

/// What the public listener serves.
pub struct Public {
    /// The spine.
    pub exchange: Exchange,
    /// How answers look.
    pub wire: Wire,
    /// Bounds on requests.
    pub limits: Limits,
}

impl Public {
    /// Admits and answers one request. Past the limit of requests in flight the answer is an immediate 503, so that what
    /// has been admitted keeps its pace.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let ids = Ids::of(&parts);
        let Some(_admitted) = Admitted::new(&self) else {
            self.exchange.metrics.shed_requests.inc();
            return self.wire.refusal(&Refusal::Unavailable(Outage::Overloaded), Surface::Token, &ids);
        };
        self.route(&parts, body, peer, &ids).await
    }
}

/// One place among the requests in flight, given back when it is dropped: also when the client goes away.
struct Admitted<'p>(&'p Public);

impl<'p> Admitted<'p> {
    fn new(public: &'p Public) -> Option<Self> {
        let gauge = &public.exchange.metrics.requests_in_flight;
        gauge.inc();
        let admitted = Self(public);
        // Counted first, looked at second: two requests can't both take the last place.
        (gauge.get() <= i64::try_from(public.limits.in_flight).unwrap_or(i64::MAX)).then_some(admitted)
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.exchange.metrics.requests_in_flight.dec();
    }
}
