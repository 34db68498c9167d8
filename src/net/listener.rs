//! Binds, accepts, counts, and ends in good order.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection::{Connection, Peer};
use super::limits::Limits;
use super::places::{Gauges, Handshake, Handshakes, LEAVING, Places};
use super::watch::Watch;

/// The pause after an error of accept itself. When descriptors run out, accept fails at once and for as long as it lasts;
/// connections that wait meanwhile stay in the kernel's queue.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the tasks that are broken off at the end have to let go; one that waits does so at once.
const LETTING_GO: Duration = Duration::from_secs(1);

/// How to serve.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `None` serves plain HTTP/1.1.
    pub tls: Option<Arc<ServerConfig>>,
    /// Of these, the head's size, the times and the numbers of connections and handshakes are applied here.
    pub limits: Limits,
    /// Where connections are counted.
    pub gauges: Arc<Gauges>,
    /// How long requests in flight may take to end after the shutdown; 10s.
    pub grace: Duration,
}

impl Default for Setup {
    fn default() -> Self {
        Self { tls: None, limits: Limits::default(), gauges: Arc::default(), grace: Duration::from_secs(10) }
    }
}

/// A bound socket. Clients can connect from now on; they are answered once it serves.
#[derive(Debug)]
pub struct Listener {
    socket: std::net::TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds; port 0 takes a free one. Needs no runtime.
    ///
    /// # Errors
    /// When the address is in use, not ours, or not allowed: the message says which.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let bound = std::net::TcpListener::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(Self { address: socket.local_addr()?, socket })
        });
        bound.map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::AddrInUse => "the port is in use by another program".to_owned(),
                io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
                io::ErrorKind::PermissionDenied => {
                    "not allowed; ports below 1024 need a privilege".to_owned()
                }
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("can't listen on {address}: {why}"))
        })
    }

    /// The address with the port that was taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` ends, then lets requests in flight end.
    ///
    /// # Errors
    /// When the runtime can't take the socket, before anything is served.
    pub async fn serve<S, F>(self, setup: Setup, service: S, shutdown: impl Future) -> io::Result<()>
    where
        S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::from_std(self.socket)?;
        let limits = Arc::new(setup.limits.clone());
        let (drain, draining) = watch::channel(());
        let most = limits.connections.saturating_add(LEAVING);
        let mut shutdown = pin!(shutdown);
        let mut tasks = JoinSet::new();
        let mut places = Places::new(limits.connections);
        let handshakes = |_: &_| Handshakes::new(limits.handshakes, setup.gauges.clone());
        let mut handshakes = setup.tls.as_ref().map(handshakes);
        let mut failing = false;
        loop {
            let (permit, socket, address) = tokio::select! {
                biased;
                _ = &mut shutdown => break,
                // Ended connections are taken off before the next is accepted, so that the count below is right.
                Some(ended) = tasks.join_next_with_id() => {
                    places.left(ended.map_or_else(|error| error.id(), |(id, ())| id));
                    continue;
                }
                next = next(&listener, handshakes.as_mut(), &mut failing), if tasks.len() < most => next,
            };
            if !places.room(&setup.gauges) {
                setup.gauges.refused.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let watch = Watch::new(limits.header_timeout, limits.idle_timeout);
            let handshake =
                handshakes.as_mut().zip(permit).map(|(all, permit)| all.begin(watch.clone(), permit));
            let connection = Connection {
                peer: Peer { address: SocketAddr::new(address.ip().to_canonical(), address.port()) },
                limits: limits.clone(),
                service: service.clone(),
                watch: watch.clone(),
                drain: draining.clone(),
            };
            let tls = setup.tls.clone().zip(handshake);
            let task = tasks.spawn(live(connection, socket, tls, Counted::new(&setup.gauges)));
            places.came(task.id(), watch);
        }
        drop(listener);
        drain.send_replace(());
        let rest = async { while tasks.join_next().await.is_some() {} };
        if timeout(setup.grace, rest).await.is_err() {
            tracing::warn!(connections = tasks.len(), "connections were still open after the grace time");
        }
        // A worker that a hanging disk keeps does not let go of its task: that one is left.
        let _ = timeout(LETTING_GO, tasks.shutdown()).await;
        Ok(())
    }
}

/// The next connection, once there is room for its handshake.
async fn next(
    listener: &TcpListener,
    handshakes: Option<&mut Handshakes>,
    failing: &mut bool,
) -> (Option<OwnedSemaphorePermit>, TcpStream, SocketAddr) {
    let permit = match handshakes {
        Some(handshakes) => Some(handshakes.room().await),
        None => None,
    };
    let (socket, address) = accept(listener, failing).await;
    (permit, socket, address)
}

/// The next connection. Errors are none of its caller's business: they pass or are waited out, never end the loop.
///
/// `failing` is the caller's, which cancels and repeats this at will: each run of errors is told once.
async fn accept(listener: &TcpListener, failing: &mut bool) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => {
                *failing = false;
                return accepted;
            }
            // The client was gone before we looked.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !std::mem::replace(failing, true) {
                    tracing::warn!(%error, "connections can't be accepted for now");
                }
                sleep(PAUSE).await;
            }
        }
    }
}

async fn live<S, F>(
    connection: Connection<S>,
    socket: TcpStream,
    tls: Option<(Arc<ServerConfig>, Arc<Handshake>)>,
    counted: Counted,
) where
    S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    // An answer must not wait for the client's delayed acknowledgement. Fails only on a socket that is already dead.
    let _ = socket.set_nodelay(true);
    match tls {
        None => connection.plain(socket).await,
        Some((config, handshake)) => {
            if !connection.secure(socket, config, handshake).await {
                counted.0.handshake_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// One open connection in the gauges, however its task ends.
struct Counted(Arc<Gauges>);

impl Counted {
    fn new(gauges: &Arc<Gauges>) -> Self {
        gauges.connections.fetch_add(1, Ordering::Relaxed);
        Self(gauges.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use http_body_util::BodyExt;
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, ServerName};
    use rustls::{ClientConfig, RootCertStore};
    use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Semaphore, oneshot};
    use tokio::task::JoinHandle;
    use tokio_rustls::TlsConnector;

    use super::super::certificate::{Certificate, provider};
    use super::super::selfmade::Authority;
    use super::*;

    const GET: &[u8] = b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n";
    const SHORT: Duration = Duration::from_millis(50);
    const NOW: i64 = 1_800_000_000;

    type Answer = std::pin::Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

    struct Server {
        address: SocketAddr,
        gauges: Arc<Gauges>,
        shutdown: oneshot::Sender<()>,
        task: JoinHandle<io::Result<()>>,
    }

    fn start<S, F>(setup: Setup, service: S) -> Server
    where
        S: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let (address, gauges) = (listener.local_addr(), setup.gauges.clone());
        let (shutdown, end) = oneshot::channel::<()>();
        Server { address, gauges, shutdown, task: tokio::spawn(listener.serve(setup, service, end)) }
    }

    impl Server {
        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        /// Tells the server to end and waits until it has.
        async fn end(self) {
            drop(self.shutdown);
            self.task.await.unwrap().unwrap();
            assert_eq!(self.gauges.connections.load(Ordering::Relaxed), 0);
        }
    }

    async fn echo(request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        assert!(peer.address.ip().is_loopback());
        Response::new(Full::from(format!("{} over {:?}", request.uri().path(), request.version())))
    }

    /// Sends a request and reads until `end` was read.
    async fn ask(stream: &mut (impl AsyncRead + tokio::io::AsyncWrite + Unpin), end: &str) {
        stream.write_all(GET).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(end.as_bytes()) {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", answer.escape_ascii());
        }
    }

    /// What arrives until the server closes; a reset counts as a close.
    async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        String::from_utf8(rest).unwrap()
    }

    /// A server's certificate and a client that trusts nothing but its authority.
    fn trusted() -> (Arc<Certificate>, Authority, ClientConfig) {
        let authority = Authority::in_memory("localhost", NOW).unwrap();
        let certificate = Certificate::new(authority.leaf(&authority.names()).unwrap());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
        let mut client = ClientConfig::builder_with_details(provider(), Arc::new(Fixed))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        // A resumed session shows no certificate.
        client.resumption = rustls::client::Resumption::disabled();
        (certificate, authority, client)
    }

    /// The client's clock; a test that passes today must pass in ten years.
    #[derive(Debug)]
    struct Fixed;

    impl rustls::time_provider::TimeProvider for Fixed {
        fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
            Some(rustls::pki_types::UnixTime::since_unix_epoch(Duration::from_secs(NOW.unsigned_abs())))
        }
    }

    #[tokio::test]
    async fn http1_over_tls_verifies_against_the_authority() {
        let (certificate, authority, client) = trusted();
        let server = start(Setup { tls: Some(certificate.server_config()), ..Setup::default() }, echo);
        let connector = TlsConnector::from(Arc::new(client));
        let name = ServerName::try_from("localhost").unwrap();
        let mut first = connector.connect(name.clone(), server.connect().await).await.unwrap();
        ask(&mut first, "/hello over HTTP/1.1").await;

        certificate.replace(authority.leaf(&["127.0.0.1".to_owned()]).unwrap());
        assert!(
            connector.connect(name, server.connect().await).await.is_err(),
            "the new leaf has no such name"
        );
        ask(&mut first, "/hello over HTTP/1.1").await;
        server.end().await;
        assert_eq!(until_closed(&mut first).await, "");
    }

    #[tokio::test]
    async fn http2_is_chosen_by_alpn_and_drained() {
        let (certificate, _, mut client) = trusted();
        let server = start(Setup { tls: Some(certificate.server_config()), ..Setup::default() }, echo);
        client.alpn_protocols = vec![b"h2".to_vec()];
        let connector = TlsConnector::from(Arc::new(client));
        let stream = connector
            .connect(ServerName::try_from("localhost").unwrap(), server.connect().await)
            .await
            .unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        for _ in 0..3 {
            let request = Request::get("https://localhost/two").body(Full::<Bytes>::default()).unwrap();
            let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap();
            assert_eq!(answer.to_bytes(), "/two over HTTP/2.0");
        }
        server.end().await;
        connection.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn an_idle_http2_connection_is_closed() {
        let (certificate, _, mut client) = trusted();
        let limits = Limits { idle_timeout: SHORT, ..Limits::default() };
        let server =
            start(Setup { tls: Some(certificate.server_config()), limits, ..Setup::default() }, echo);
        client.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let mut stream = connector.connect(name, server.connect().await).await.unwrap();
        // It may already be closed when a slow machine comes to write.
        let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        server.end().await;
    }

    #[tokio::test]
    async fn a_failed_handshake_is_counted() {
        let (certificate, _, _) = trusted();
        let limits = Limits { header_timeout: SHORT, ..Limits::default() };
        let server =
            start(Setup { tls: Some(certificate.server_config()), limits, ..Setup::default() }, echo);
        let (mut plain, mut silent) = (server.connect().await, server.connect().await);
        plain.write_all(GET).await.unwrap();
        let mut alert = Vec::new();
        let _ = plain.read_to_end(&mut alert).await;
        assert_eq!(until_closed(&mut silent).await, "");
        let gauges = server.gauges.clone();
        server.end().await;
        assert_eq!(gauges.handshake_failures.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn past_the_cap_the_new_one_is_closed_while_all_work_and_a_resting_one_otherwise() {
        let (came, may_go, service) = held();
        let limits = Limits { connections: 1, ..Limits::default() };
        let server = start(Setup { limits, ..Setup::default() }, service);
        let mut first = server.connect().await;
        first.write_all(GET).await.unwrap();
        came.acquire().await.unwrap().forget();
        assert_eq!(until_closed(&mut server.connect().await).await, "");
        assert_eq!(server.gauges.refused.load(Ordering::Relaxed), 1);

        may_go.add_permits(3);
        let mut answer = Vec::new();
        while !answer.ends_with(b"HTTP/1.1") || answer.len() < 20 {
            assert_ne!(first.read_buf(&mut answer).await.unwrap(), 0);
        }
        // It rests now, and goes as soon as it has for long enough.
        let next = loop {
            let mut stream = server.connect().await;
            let _ = stream.write_all(b"GET /hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            let answer = until_closed(&mut stream).await;
            if !answer.is_empty() {
                break answer;
            }
        };
        assert!(next.ends_with("/hello over HTTP/1.1"), "{next}");
        assert_eq!(server.gauges.dismissed.load(Ordering::Relaxed), 1);
        assert_eq!(until_closed(&mut first).await, "");
        while server.gauges.connections.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        ask(&mut server.connect().await, "HTTP/1.1").await;
        server.end().await;
    }

    #[tokio::test]
    async fn handshakes_past_the_cap_cost_the_oldest_its_place() {
        let (certificate, _, client) = trusted();
        let limits = Limits { handshakes: 2, ..Limits::default() };
        let server =
            start(Setup { tls: Some(certificate.server_config()), limits, ..Setup::default() }, echo);
        let mut silent = server.connect().await;
        let _others = (server.connect().await, server.connect().await);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(client));
        let mut honest = connector.connect(name, server.connect().await).await.unwrap();
        ask(&mut honest, "/hello over HTTP/1.1").await;
        assert_eq!(until_closed(&mut silent).await, "");
        let gauges = server.gauges.clone();
        assert_eq!(gauges.dropped_handshakes.load(Ordering::Relaxed), 2);
        assert_eq!(gauges.handshake_failures.load(Ordering::Relaxed), 0);
        server.end().await;
        assert_eq!(gauges.handshakes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn half_a_head_is_closed_while_rest_is_allowed() {
        let limits = Limits { header_timeout: SHORT, ..Limits::default() };
        let server = start(Setup { limits, ..Setup::default() }, echo);
        let (mut resting, mut slow) = (server.connect().await, server.connect().await);
        ask(&mut resting, "HTTP/1.1").await;
        slow.write_all(&GET[..20]).await.unwrap();
        assert_eq!(until_closed(&mut slow).await, "");
        // The same on a connection that has served before.
        let mut again = server.connect().await;
        ask(&mut again, "HTTP/1.1").await;
        again.write_all(&GET[..20]).await.unwrap();
        assert_eq!(until_closed(&mut again).await, "");
        ask(&mut resting, "HTTP/1.1").await;
        server.end().await;
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed() {
        let limits = Limits { idle_timeout: SHORT, ..Limits::default() };
        let server = start(Setup { limits, ..Setup::default() }, echo);
        let (mut used, mut silent) = (server.connect().await, server.connect().await);
        ask(&mut used, "HTTP/1.1").await;
        assert_eq!(until_closed(&mut used).await, "");
        assert_eq!(until_closed(&mut silent).await, "");
        server.end().await;
    }

    #[tokio::test]
    async fn an_oversized_head_is_refused() {
        let limits = Limits { head: 8 << 10, ..Limits::default() };
        let server = start(Setup { limits, ..Setup::default() }, echo);
        let mut stream = server.connect().await;
        let head = format!("GET / HTTP/1.1\r\nlong: {}", "x".repeat(8 << 10));
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(until_closed(&mut stream).await.starts_with("HTTP/1.1 431 "));
        server.end().await;
    }

    /// A service that tells when a request has come in, and answers when it may.
    fn held() -> (
        Arc<Semaphore>,
        Arc<Semaphore>,
        impl Fn(Request<Incoming>, Peer) -> Answer + Clone + Send + Sync + 'static,
    ) {
        let (came, may_go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (tell, wait) = (came.clone(), may_go.clone());
        let service = move |request, peer| -> Answer {
            let wait = wait.clone();
            tell.add_permits(1);
            Box::pin(async move {
                wait.acquire().await.unwrap().forget();
                echo(request, peer).await
            })
        };
        (came, may_go, service)
    }

    #[tokio::test]
    async fn a_request_in_flight_at_shutdown_is_answered() {
        let (came, may_go, service) = held();
        let server = start(Setup::default(), service);
        let (mut busy, mut resting) = (server.connect().await, server.connect().await);
        busy.write_all(GET).await.unwrap();
        came.acquire().await.unwrap().forget();
        let address = server.address;
        let end = tokio::spawn(server.end());
        assert_eq!(until_closed(&mut resting).await, "", "a resting connection is closed at once");
        assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
        assert!(!end.is_finished());
        may_go.add_permits(1);
        let answer = until_closed(&mut busy).await;
        assert!(answer.contains("connection: close") && answer.ends_with("/hello over HTTP/1.1"), "{answer}");
        end.await.unwrap();
    }

    #[tokio::test]
    async fn grace_ends() {
        let (came, _may_go, service) = held();
        let server = start(Setup { grace: SHORT, ..Setup::default() }, service);
        let mut stuck = server.connect().await;
        stuck.write_all(GET).await.unwrap();
        came.acquire().await.unwrap().forget();
        server.end().await;
        assert_eq!(until_closed(&mut stuck).await, "");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_request_that_keeps_its_worker_does_not_keep_the_server() {
        let (may_go, kept) = std::sync::mpsc::channel::<()>();
        let (came, kept) = (Arc::new(Semaphore::new(0)), Arc::new(std::sync::Mutex::new(kept)));
        let service = {
            let came = came.clone();
            move |request: Request<Incoming>, peer: Peer| {
                let (came, kept) = (came.clone(), kept.clone());
                async move {
                    came.add_permits(1);
                    // As a write does on a disk that hangs: no other task gets this worker, and nothing can abort it.
                    let _ = kept.lock().unwrap().recv();
                    echo(request, peer).await
                }
            }
        };
        let server = start(Setup { grace: SHORT, ..Setup::default() }, service);
        let mut stuck = server.connect().await;
        stuck.write_all(GET).await.unwrap();
        came.acquire().await.unwrap().forget();
        let Server { shutdown, task, .. } = server;
        drop(shutdown);
        let ended = timeout(Duration::from_secs(20), task).await;
        drop(may_go);
        assert!(ended.is_ok_and(|ended| ended.unwrap().is_ok()), "the server waits for ever");
    }

    #[test]
    fn a_port_in_use_is_told_readably() {
        let first = Listener::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = first.local_addr();
        let error = Listener::bind(address).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert_eq!(
            error.to_string(),
            format!("can't listen on {address}: the port is in use by another program")
        );
        let elsewhere = Listener::bind("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(elsewhere.to_string().ends_with("this machine has no such address"), "{elsewhere}");
    }
}
