//! The public listener: routing and admission. And the operations listener, on a thread of its own.

mod changes;
mod ops;
mod routes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::domain::refusal::{Outage, Refusal};
use crate::exchange::Exchange;
use crate::net::{Limits, Peer};
use crate::wire::{Ids, Surface, Wire};

pub use changes::{Changes, Pending, Refused};
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
        contained(self.route(&parts, body, peer, &ids)).await.unwrap_or_else(|| {
            tracing::error!(correlation = %ids.correlation, "a request panicked");
            self.wire.refusal(&Refusal::Unavailable(Outage::Internal), Surface::Token, &ids)
        })
    }
}

/// Runs a request so that a panic in it ends it alone, with an answer; `None` then. What requests share is swapped or
/// counted atomically, so a broken-off request leaves none of it half-done.
async fn contained<F: Future>(request: F) -> Option<F::Output> {
    let mut request = pin!(request);
    std::future::poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| request.as_mut().poll(context))) {
        Ok(poll) => poll.map(Some),
        Err(_) => Poll::Ready(None),
    })
    .await
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_request_alone() {
        assert_eq!(contained(async { 1 }).await, Some(1));
        let panicking = contained(async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        });
        assert_eq!(panicking.await, None::<()>);
    }
}
