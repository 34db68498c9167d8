//! TLS servers on loopback that answer as they are told, and a DNS that answers as it is told.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::egress::{Egress, PrivateHosts, Roots};
use super::entry::{IssuerEntry, read_all};
use super::resolver::{Lookup, System};
use crate::document::{Document, Problems};

/// One key that can be used: the P-256 key of RFC 7517 appendix A.1.
pub(super) const GOOD_KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1",
    "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// A certificate authority of one test.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        Self::named("authority")
    }

    pub(super) fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(super) fn leaf(&self, name: &str) -> Leaf {
        self.sign(CertificateParams::new([name.to_owned()]).unwrap())
    }

    pub(super) fn expired_leaf(&self, name: &str) -> Leaf {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> Leaf {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        Leaf::Tls(TlsAcceptor::from(Arc::new(config)))
    }
}

/// What a server proves itself with.
#[derive(Clone)]
pub(super) enum Leaf {
    Tls(TlsAcceptor),
    Plain,
}

/// A request as the server sees it.
pub(super) struct Request<'a> {
    pub(super) path: &'a str,
    pub(super) authorization: Option<&'a str>,
    /// The version that the client has already.
    pub(super) condition: Option<&'a str>,
    pub(super) port: u16,
}

impl Request<'_> {
    pub(super) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }
}

/// The bytes of an answer, and how they come.
#[derive(Clone)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    drip: bool,
    gate: Option<Arc<Semaphore>>,
}

impl Reply {
    pub(super) fn ok(body: &str) -> Self {
        Self::of(&["HTTP/1.1 200 OK", "content-type: application/json"], body.as_bytes())
    }

    /// Adds the length of the body to the head.
    pub(super) fn of(head: &[&str], body: &[u8]) -> Self {
        let length = format!("content-length: {}", body.len());
        Self::bare(&[head, &[&length]].concat(), body)
    }

    /// The connection is closed after every answer, so a body without a length ends there.
    pub(super) fn bare(head: &[&str], body: &[u8]) -> Self {
        let mut bytes = head.join("\r\n").into_bytes();
        bytes.extend_from_slice(b"\r\nconnection: close\r\n\r\n");
        bytes.extend_from_slice(body);
        Self { bytes, drip: false, gate: None }
    }

    /// White space without end, a byte at a time.
    pub(super) fn drip() -> Self {
        Self { drip: true, ..Self::bare(&["HTTP/1.1 200 OK"], b"") }
    }

    /// Waits for a permit.
    pub(super) fn behind(self, gate: &Arc<Semaphore>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..self }
    }
}

/// A server on 127.0.0.1.
pub(super) struct Server {
    pub(super) port: u16,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    paths: Mutex<Vec<String>>,
}

impl Server {
    pub(super) async fn start(
        leaf: Leaf,
        respond: impl Fn(Request<'_>) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (seen, respond) = (Arc::<Seen>::default(), Arc::new(respond));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (leaf, seen, respond) = (leaf.clone(), Arc::clone(&shared), Arc::clone(&respond));
                tokio::spawn(serve(
                    stream,
                    leaf,
                    async move |path: &str, authorization: Option<&str>, condition: Option<&str>| {
                        seen.paths.lock().unwrap().push(path.to_owned());
                        respond(Request { path, authorization, condition, port })
                    },
                ));
            }
        });
        Self { port, seen }
    }

    /// A port that nobody listens on.
    pub(super) async fn shut() -> u16 {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    /// Paths asked for, in order.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.paths.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

async fn serve(
    stream: TcpStream,
    leaf: Leaf,
    respond: impl AsyncFn(&str, Option<&str>, Option<&str>) -> Reply,
) -> io::Result<()> {
    match leaf {
        Leaf::Tls(acceptor) => answer(acceptor.accept(stream).await?, respond).await,
        Leaf::Plain => {
            let mut stream = stream;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await
        }
    }
}

async fn answer(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    respond: impl AsyncFn(&str, Option<&str>, Option<&str>) -> Reply,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line);
    }
    let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    let header = |name: &str| lines.iter().find_map(|line| line.trim_end().strip_prefix(name));
    let condition = header("if-none-match: ").or_else(|| header("if-modified-since: "));
    let reply = respond(path, header("authorization: "), condition).await;
    if let Some(gate) = reply.gate {
        gate.acquire().await.unwrap().forget();
    }
    stream.write_all(&reply.bytes).await?;
    stream.flush().await?;
    if !reply.drip {
        return stream.shutdown().await;
    }
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    loop {
        pace.tick().await;
        stream.write_all(b" ").await?;
        stream.flush().await?;
    }
}

/// An egress that may reach one server.
pub(super) struct World {
    pub(super) egress: Egress<System>,
    pub(super) deadline: Duration,
}

impl World {
    pub(super) fn of(authority: &Authority, server: &Server) -> Self {
        let mut hosts = PrivateHosts::default();
        hosts.add(&format!("127.0.0.1:{}", server.port)).unwrap();
        let roots = Arc::new(Roots::own(&[authority.certificate()]));
        let egress = Egress::new(roots, hosts, Duration::from_secs(5), Arc::new(System));
        Self { egress, deadline: Duration::from_secs(10) }
    }
}

/// A DNS that gives these answers one after the other, then none.
pub(super) struct Scripted {
    answers: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Scripted {
    pub(super) fn new(answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        Self { answers: answers.iter().map(parse).collect(), asked: AtomicUsize::new(0) }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Lookup for Scripted {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.answers.get(turn).cloned().unwrap_or_default())
    }
}

/// The entries of a file, and its problems.
pub(super) fn read_entries(text: &str, base: &Path) -> (Vec<IssuerEntry>, Vec<String>) {
    let problems = Problems::default();
    let mut reader = Document::parse("f.toml", text, &problems).reader(&problems);
    let entries = read_all(reader.tables("issuer"), base);
    reader.finish();
    (entries, problems.into_vec().iter().map(ToString::to_string).collect())
}

/// One entry without problems.
pub(super) fn entry(text: &str) -> IssuerEntry {
    let (mut entries, problems) = read_entries(&format!("[[issuer]]\n{text}"), Path::new("/nowhere"));
    assert!(problems.is_empty(), "{problems:?}");
    entries.remove(0)
}
