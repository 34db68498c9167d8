//! The public listener: routing and admission. And the operations listener, on a thread of its own.

mod changes;
mod ops;
mod routes;
mod turns;

use std::future::poll_fn;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::header::EXPECT;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};

use crate::domain::refusal::{Outage, Refusal};
use crate::exchange::Exchange;
use crate::metrics::{Shed, Stage};
use crate::net::{self, Addresses, Bodies, Limits, Peer};
use crate::wire::{Ids, Surface, Wire};

pub use changes::{Changes, Pending, Refused, Restless};
pub use ops::{Operations, serve as serve_operations};
use turns::Turn;
pub use turns::Turns;

/// What the public listener serves.
pub struct Public {
    /// The spine.
    pub exchange: Exchange,
    /// How answers look.
    pub wire: Wire,
    /// Bounds on requests.
    pub limits: Limits,
    /// How often client addresses ask, where that is limited.
    pub addresses: Option<Addresses>,
    /// What unfinished bodies hold.
    pub bodies: Bodies,
    /// Turns at the processors.
    pub turns: Turns,
}

impl Public {
    /// Answers one request.
    pub async fn answer(self: Arc<Self>, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let (parts, mut body) = request.into_parts();
        let ids = Ids::of(&parts);
        let response = contained(pin!(self.route(&parts, &mut body, peer, &ids))).await;
        let response = response.unwrap_or_else(|| {
            tracing::error!(correlation = %ids.correlation, "a request panicked");
            self.wire.refusal(&Refusal::Unavailable(Outage::Internal), Surface::Token, &ids)
        });
        // Who is still sending when the connection closes may never see the answer that tells it why: many clients send
        // head and body apart. Who asks before sending is not sent for, and who was too slow is not waited for again.
        let unread = !body.is_end_stream() && response.status() != StatusCode::REQUEST_TIMEOUT;
        if unread && !parts.headers.contains_key(EXPECT) {
            tokio::spawn(net::discard(body, self.limits.header_timeout));
        }
        response
    }

    /// Counts a request from this address; one too many is refused before anything of it is read.
    fn charge(&self, client: IpAddr) -> Result<(), Refusal> {
        let taken = self.addresses.as_ref().map_or(Ok(()), |addresses| addresses.take(client));
        taken.map_err(|seconds| {
            self.exchange.metrics.shed(Shed::AddressRate);
            Refusal::AddressRate(seconds)
        })
    }

    /// A place among the requests in flight, which a request takes once it is whole: one that is still being sent costs
    /// nobody else a place, however slowly it comes. Past the limit there is none, so that what has been admitted keeps
    /// its pace.
    fn admit(&self) -> Result<Admitted<'_>, Refusal> {
        let admitted = Admitted::new(self);
        if admitted.is_none() {
            self.exchange.metrics.shed(Shed::InFlight);
        }
        admitted.ok_or(Refusal::Unavailable(Outage::Overloaded))
    }

    /// A turn at the processors, when it comes soon enough.
    async fn turn(&self) -> Result<Turn<'_>, Refusal> {
        let metrics = &self.exchange.metrics;
        let Some((turn, waited)) = self.turns.take().await else {
            metrics.shed(Shed::QueueTime);
            return Err(Refusal::Unavailable(Outage::Overloaded));
        };
        if let Some(waited) = waited {
            metrics.stage(Stage::Queue, waited.as_secs_f64());
        }
        Ok(turn)
    }
}

/// Runs a request so that a panic in it ends it alone, with an answer; `None` then. What requests share is swapped or
/// counted atomically, so a broken-off request leaves none of it half-done.
///
/// It takes a reference: an `async fn` that awaits a future it was given by value has room for it twice, and each such wrapper
/// would double what is moved about for every request.
async fn contained<F: Future>(mut request: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| request.as_mut().poll(context))) {
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

    /// What a future takes is moved for each request and kept for each connection. A wrapper that takes another's future by
    /// value doubles it.
    #[test]
    fn the_room_of_a_request_is_small() {
        fn room<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let whole = room(Public::answer);
        assert!(whole <= 5 << 10, "{whole} bytes");
    }

    #[tokio::test]
    async fn p_07_a_panic_ends_one_request_alone() {
        assert_eq!(contained(pin!(async { 1 })).await, Some(1));
        let panicking = pin!(async {
            tokio::task::yield_now().await;
            panic!("on purpose");
        });
        assert_eq!(contained(panicking).await, None::<()>);
    }
}
