//! An issuer on loopback that publishes one key, and beside it two servers that would be wrong to ask.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::answer::Answer;
use crate::support::AUDIENCE;

pub const DISCOVERY: &str = "/.well-known/openid-configuration";
pub const KEYS: &str = "/keys";
pub const SUBJECT: &str = "system:serviceaccount:payments:deploy";

/// A certificate authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(name, |_| {})
    }

    /// A certificate that is changed before it is signed.
    pub fn leaf_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Leaf::Tls(acceptor(certificate.der().to_vec(), &key))
    }
}

/// A certificate that vouches for itself.
pub fn self_signed(name: &str) -> Leaf {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    Leaf::Tls(acceptor(certificate.der().to_vec(), &key))
}

fn acceptor(certificate: Vec<u8>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.into()], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// What a server proves itself with.
#[derive(Clone)]
pub enum Leaf {
    Tls(TlsAcceptor),
    /// HTTP without TLS.
    Plain,
    /// These bytes, whatever comes, and the end.
    Says(&'static str),
}

/// What a server was asked, and gave.
#[derive(Default)]
struct Seen {
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    taken: AtomicUsize,
}

/// One port of loopback.
pub struct Server {
    pub port: u16,
    leaf: Arc<Mutex<Leaf>>,
    seen: Arc<Seen>,
}

impl Server {
    fn start(leaf: Leaf, answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        // What is in this buffer was not read by anybody, and could not be told from what was.
        socket.set_send_buffer_size(16 << 10).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(128).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (leaf, seen) = (Arc::new(Mutex::new(leaf)), Arc::<Seen>::default());
        tokio::spawn(accept(listener, Arc::clone(&leaf), Arc::clone(&seen), Arc::new(answer)));
        Self { port, leaf, seen }
    }

    /// Paths asked for, in order.
    pub fn paths(&self) -> Vec<String> {
        let heads = self.seen.heads.lock().unwrap();
        heads.iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect()
    }

    /// Heads of requests, in order and in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().iter().map(|head| head.to_lowercase()).collect()
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Bytes of answers that were taken off our hands.
    pub fn taken(&self) -> usize {
        self.seen.taken.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    leaf: Arc<Mutex<Leaf>>,
    seen: Arc<Seen>,
    answer: Arc<impl Fn(&str) -> Answer + Send + Sync + 'static>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let (leaf, seen, answer) = (leaf.lock().unwrap().clone(), Arc::clone(&seen), Arc::clone(&answer));
        tokio::spawn(async move { serve(stream, leaf, &seen, &*answer).await });
    }
}

async fn serve(
    stream: TcpStream,
    leaf: Leaf,
    seen: &Seen,
    answer: &(impl Fn(&str) -> Answer + Sync),
) -> io::Result<()> {
    match leaf {
        Leaf::Tls(acceptor) => one(acceptor.accept(stream).await?, seen, answer).await,
        Leaf::Plain => one(stream, seen, answer).await,
        Leaf::Says(text) => {
            let mut stream = stream;
            // Bytes that were not read would make a reset of the end.
            stream.read_buf(&mut Vec::with_capacity(16 << 10)).await?;
            Answer::bytes(text).send(&mut stream, |_| {}).await
        }
    }
}

async fn one(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    seen: &Seen,
    answer: &(impl Fn(&str) -> Answer + Sync),
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while stream.read_line(&mut head).await? > 2 {}
    let Some(path) = head.split(' ').nth(1).map(str::to_owned) else { return Ok(()) };
    seen.heads.lock().unwrap().push(head);
    let answer = answer(&path);
    answer.send(&mut stream, |bytes| _ = seen.taken.fetch_add(bytes, Ordering::SeqCst)).await
}

/// What is wrong with an issuer.
#[derive(Default, Clone)]
pub struct Fault {
    pub discovery: Option<Answer>,
    pub keys: Option<Answer>,
    pub leaf: Option<Leaf>,
}

impl Fault {
    pub fn discovery(answer: Answer) -> Self {
        Self { discovery: Some(answer), ..Self::default() }
    }

    pub fn keys(answer: Answer) -> Self {
        Self { keys: Some(answer), ..Self::default() }
    }

    pub fn leaf(leaf: Leaf) -> Self {
        Self { leaf: Some(leaf), ..Self::default() }
    }
}

/// An issuer with one key.
pub struct Issuer {
    pub url: String,
    pub server: Server,
    /// Gives the same documents on another port of the same host, which nobody listed.
    pub twin: Server,
    /// Gives them without TLS.
    pub plain: Server,
    sound: Leaf,
    fault: Arc<Mutex<Fault>>,
    key: EcdsaKeyPair,
    pub key_id: String,
}

impl Issuer {
    pub fn start(authority: &Authority) -> Self {
        Self::with_key(authority, "key-1")
    }

    pub fn with_key(authority: &Authority, key_id: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let (leaf, jwk) = (authority.leaf("localhost"), jwk(&key, key_id));
        let fault = Arc::<Mutex<Fault>>::default();
        let server = {
            let (fault, port, jwk) = (Arc::clone(&fault), Arc::new(AtomicUsize::new(0)), jwk.clone());
            let told = Arc::clone(&port);
            let server = Server::start(leaf.clone(), move |path| {
                let origin = format!("https://localhost:{}", told.load(Ordering::SeqCst));
                let fault = fault.lock().unwrap().clone();
                let scripted = match path {
                    DISCOVERY => fault.discovery,
                    KEYS => fault.keys,
                    _ => None,
                };
                scripted.unwrap_or_else(|| honest(path, &origin, &origin, &jwk))
            });
            port.store(usize::from(server.port), Ordering::SeqCst);
            server
        };
        let url = format!("https://localhost:{}", server.port);
        let [twin, plain] = [leaf.clone(), Leaf::Plain].map(|leaf| {
            let (url, jwk) = (url.clone(), jwk.clone());
            Server::start(leaf, move |path| honest(path, &url, &url, &jwk))
        });
        Self { url, server, twin, plain, sound: leaf, fault, key, key_id: key_id.to_owned() }
    }

    pub fn fail(&self, fault: Fault) {
        *self.server.leaf.lock().unwrap() = fault.leaf.clone().unwrap_or_else(|| self.sound.clone());
        *self.fault.lock().unwrap() = fault;
    }

    pub fn heal(&self) {
        self.fail(Fault::default());
    }

    /// Its own discovery document with one member changed; `null` takes it out.
    pub fn document(&self, member: &str, value: Value) -> String {
        let mut document = json!({ "issuer": self.url, "jwks_uri": format!("{}{KEYS}", self.url) });
        match value {
            Value::Null => _ = document.as_object_mut().unwrap().remove(member),
            value => document[member] = value,
        }
        document.to_string()
    }

    pub fn discovery(&self) -> String {
        self.document("claims_supported", json!(["SECRET-WORD"]))
    }

    pub fn jwk(&self) -> Value {
        jwk(&self.key, &self.key_id)
    }

    pub fn jwks(&self) -> String {
        self.jwks_with(&[])
    }

    /// Its key behind these.
    pub fn jwks_with(&self, others: &[Value]) -> String {
        let keys: Vec<Value> = others.iter().cloned().chain([self.jwk()]).collect();
        json!({ "keys": keys, "note": "SECRET-WORD" }).to_string()
    }

    pub fn twin_url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.twin.port)
    }

    pub fn plain_url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.plain.port)
    }

    pub fn claims(&self, now: i64) -> Value {
        json!({ "iss": self.url, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + 300 })
    }

    /// Signs soundly, under this key id.
    pub fn sign_as(&self, key_id: &str, claims: &Value) -> String {
        self.sign_under(&json!({ "typ": "JWT", "alg": "ES256", "kid": key_id }), claims)
    }

    pub fn sign_under(&self, header: &Value, claims: &Value) -> String {
        let coded = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", coded(header), coded(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn assertion(&self, now: i64) -> String {
        self.sign_as(&self.key_id, &self.claims(now))
    }
}

pub fn jwk(key: &EcdsaKeyPair, id: &str) -> Value {
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let coded = |bytes| URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": coded(x), "y": coded(y) })
}

/// What an issuer without faults gives. Its documents are also at places that only a fault leads to.
fn honest(path: &str, issuer: &str, origin: &str, jwk: &Value) -> Answer {
    match path.ends_with(DISCOVERY) {
        true => Answer::ok(json!({ "issuer": issuer, "jwks_uri": format!("{origin}{KEYS}") }).to_string()),
        false => Answer::ok(json!({ "keys": [jwk] }).to_string()),
    }
}
