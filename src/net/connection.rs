//! One connection, from the handshake to its close.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch::Receiver;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::frames::Frames;
use super::limits::Limits;
use super::places::Handshake;
use super::watch::{Overdue, Watch, Watched};

/// Requests that one HTTP/2 client may have in flight on one connection.
const STREAMS: u32 = 32;
/// HTTP/2 streams that the client resets before we have come to take them on, until the connection is closed: a client
/// that opens and resets in a loop makes us work without ever reaching [`STREAMS`] (CVE-2023-44487). Those that we have
/// taken on are counted by [`Frames`].
const RESETS: usize = 20;
/// HTTP/2 streams that we reset over the client's errors (CVE-2025-8671) or refuse past [`STREAMS`], in the life of a
/// connection. Honest clients may begin a hundred before they have read that they may not.
const ERRORS: usize = 128;
/// Header fields of one request. HTTP/1's are counted by hyper, which has the same limit.
const HEADERS: usize = 100;
/// HTTP/2 receive windows in bytes: a token request fits into one, and a connection can't make us hold more.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;
/// What is kept of an answer on an HTTP/2 stream whose client lets us send no more, in bytes.
const SEND_BUFFER: usize = 64 << 10;

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the socket; an IPv4 client of an IPv6 listener shows its IPv4 address.
    pub address: SocketAddr,
}

/// A connection that has been accepted, with all it needs to live.
pub(super) struct Connection<S> {
    pub(super) peer: Peer,
    pub(super) limits: Arc<Limits>,
    pub(super) service: S,
    /// Began when the connection was accepted.
    pub(super) watch: Arc<Watch>,
    /// Changes once, when the listener shuts down.
    pub(super) drain: Receiver<()>,
}

impl<S, F> Connection<S>
where
    S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    /// Serves without TLS: HTTP/1.1 only.
    pub(super) async fn plain(self, socket: TcpStream) {
        self.http1(socket).await;
    }

    /// Serves with TLS; false when the handshake fails or takes longer than a head may.
    pub(super) async fn secure(
        self,
        socket: TcpStream,
        config: Arc<ServerConfig>,
        handshake: Arc<Handshake>,
    ) -> bool {
        let shaking = timeout(self.limits.header_timeout, TlsAcceptor::from(config).accept(socket));
        let stream = tokio::select! {
            biased;
            () = self.watch.dismissed() => return true,
            shaken = shaking => match shaken {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) | Err(_) => return false,
            },
        };
        drop(handshake);
        self.watch.touch();
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream).await;
        } else {
            self.http1(stream).await;
        }
        true
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let watch = self.watch;
        let io = TokioIo::new(Watched { stream, watch: watch.clone() });
        let connection = http1::Builder::new()
            .half_close(false)
            // The watch does this. 100 headers are hyper's default; saying so would cost an allocation per request.
            .header_read_timeout(None)
            .max_buf_size(self.limits.head)
            .serve_connection(io, watched(self.service, self.peer, watch.clone()));
        drive(pin!(connection), http1::Connection::graceful_shutdown, &watch, self.drain).await;
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let watch = self.watch;
        let io = TokioIo::new(Frames::of(stream));
        // Bounded by h2 itself: CONTINUATION frames of a head (5, or a quarter more than its size needs), empty DATA frames
        // (100), small ones (a budget), the table of its compression (4 KiB), and answers to PING and SETTINGS, of which
        // there is one at a time: until it is sent nothing more is read.
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(ERRORS)
            .max_header_list_size(u32::try_from(self.limits.head).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(self.limits.idle_timeout)
            .serve_connection(io, watched(self.service, self.peer, watch.clone()));
        drive(pin!(connection), http2::Connection::graceful_shutdown, &watch, self.drain).await;
    }
}

/// The service, with every request told to the watch.
fn watched<S, F>(
    service: S,
    peer: Peer,
    watch: Arc<Watch>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Full<Bytes>>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Full<Bytes>>, Infallible>> + Send + 'static,
>
where
    S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    service_fn(move |request: Request<Incoming>| {
        let in_flight = watch.begin();
        let service = service.clone();
        // The work begins in here: a future that were taken along would have its room twice.
        async move {
            // A connection that has been dismissed is about to end: as if the request had come after that.
            let Some(in_flight) = in_flight else { return pending().await };
            let response = if request.headers().len() <= HEADERS {
                service(request, peer).await
            } else {
                too_many_headers()
            };
            // The time that a client takes to read its answer is its own: it counts as idle.
            drop(in_flight);
            Ok::<_, Infallible>(response)
        }
    })
}

fn too_many_headers() -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response
}

/// Runs a connection to its end: its own, an overdue one, or that of the listener.
async fn drive<C: Future>(
    mut connection: Pin<&mut C>,
    close: fn(Pin<&mut C>),
    watch: &Watch,
    mut drain: Receiver<()>,
) {
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            // How a connection ended is the client's business; there is nobody left to tell.
            _ = connection.as_mut() => return,
            overdue = watch.overdue() => match overdue {
                Overdue::Head => return,
                // It tells the client politely, if it can at once, and waits for nothing.
                Overdue::Dismissed => {
                    close(connection.as_mut());
                    let once = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx).is_ready()));
                    once.await;
                    return;
                }
                Overdue::Idle if closing => return,
                // Polite first: TLS ends with a close_notify and HTTP/2 with a GOAWAY, so that no request is lost.
                Overdue::Idle => watch.touch(),
            },
            _ = drain.changed(), if !closing => {}
        }
        closing = true;
        close(connection.as_mut());
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_room_of_a_request_is_its_works() {
        fn room<F>(_: impl Fn(Request<Incoming>, Peer) -> F) -> usize {
            size_of::<F>()
        }
        fn watched_room<S: Service<Request<Incoming>>>(_: &S) -> usize {
            size_of::<S::Future>()
        }
        let work = async |_: Request<Incoming>, _: Peer| {
            let kept = std::hint::black_box([0_u8; 8192]);
            tokio::task::yield_now().await;
            Response::new(Full::new(Bytes::copy_from_slice(&kept)))
        };
        let work = move |request, peer| work(request, peer);
        let peer = Peer { address: (Ipv4Addr::LOCALHOST, 1).into() };
        let second = Duration::from_secs(1);
        let (alone, whole) = (room(work), watched_room(&watched(work, peer, Watch::new(second, second))));
        assert!(whole <= alone + 1024, "{whole} bytes for {alone}");
    }
}
