//! One connection, from the handshake to its close.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
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

use super::limits::Limits;
use super::watch::{Overdue, Watch, Watched};

/// Requests that one HTTP/2 client may have in flight on one connection.
const STREAMS: u32 = 32;
/// HTTP/2 streams reset by the client, or by us over its errors, before the connection is closed: a client that opens
/// and resets in a loop makes us work without ever reaching [`STREAMS`] (CVE-2023-44487, RUSTSEC-2024-0003).
const RESETS: usize = 20;
/// HTTP/2 receive windows in bytes: a token request fits into one, and a connection can't make us hold more.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 256 << 10;

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
    /// Changes once, when the listener shuts down.
    pub(super) drain: Receiver<()>,
}

impl<S, F> Connection<S>
where
    S: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    /// Serves without TLS: HTTP/1.1 only.
    pub(super) async fn plain(self, socket: TcpStream) {
        self.http1(socket).await;
    }

    /// Serves with TLS; false when the handshake fails or takes longer than a head may.
    pub(super) async fn secure(self, socket: TcpStream, config: Arc<ServerConfig>) -> bool {
        let handshake = TlsAcceptor::from(config).accept(socket);
        let Ok(Ok(stream)) = timeout(self.limits.header_timeout, handshake).await else { return false };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream).await;
        } else {
            self.http1(stream).await;
        }
        true
    }

    async fn http1(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let watch = Watch::new(Some(self.limits.header_timeout), self.limits.idle_timeout);
        let io = TokioIo::new(Watched { stream, watch: watch.clone() });
        let connection = http1::Builder::new()
            .half_close(false)
            // The watch does this. 100 headers are hyper's default; saying so would cost an allocation per request.
            .header_read_timeout(None)
            .max_buf_size(self.limits.head)
            .serve_connection(io, watched(self.service, self.peer, watch.clone()));
        drive(connection, http1::Connection::graceful_shutdown, &watch, self.drain).await;
    }

    async fn http2(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let watch = Watch::new(None, self.limits.idle_timeout);
        let io = TokioIo::new(stream);
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(RESETS)
            .max_header_list_size(u32::try_from(self.limits.head).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(self.limits.idle_timeout)
            .serve_connection(io, watched(self.service, self.peer, watch.clone()));
        drive(connection, http2::Connection::graceful_shutdown, &watch, self.drain).await;
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
    S: Fn(Request<Incoming>, Peer) -> F,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    service_fn(move |request| {
        let in_flight = watch.begin();
        let work = service(request, peer);
        async move {
            let response = work.await;
            // The time that a client takes to read its answer is its own: it counts as idle.
            drop(in_flight);
            Ok::<_, Infallible>(response)
        }
    })
}

/// Runs a connection to its end: its own, an overdue one, or that of the listener.
async fn drive<C: Future>(connection: C, close: fn(Pin<&mut C>), watch: &Watch, mut drain: Receiver<()>) {
    let mut connection = pin!(connection);
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            // How a connection ended is the client's business; there is nobody left to tell.
            _ = connection.as_mut() => return,
            overdue = watch.overdue() => match overdue {
                Overdue::Head => return,
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
