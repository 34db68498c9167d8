//! HTTP/1.1 byte by byte over TLS: for what no client library would send.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{Form, World};

/// After this long a test that waits has failed.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// One connection and what was read ahead of it.
pub struct Raw {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

/// An answer as it was on the wire.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// Checks status and code of a refusal in Entra's shape.
    #[track_caller]
    pub fn refused(&self, status: u16, code: u32) -> &Self {
        let body = self.json();
        assert_eq!((self.status, &body["error_codes"][0]), (status, &code.into()), "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(body["trace_id"].as_str(), self.header("x-ms-request-id"));
        self
    }
}

impl Raw {
    pub async fn connect(world: &World) -> Self {
        Self::try_connect(world).await.unwrap()
    }

    /// Fails when the server closes instead of shaking hands.
    pub async fn try_connect(world: &World) -> std::io::Result<Self> {
        let socket = TcpStream::connect(world.broker.public_address()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let handshake = connector(world.broker.ca_file().unwrap(), &[]).connect(name, socket);
        let stream = timeout(DEADLINE, handshake).await.expect("the handshake ends")?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Sends; a server that has already closed is found out by who reads.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let sending = async {
            let _ = self.stream.write_all(bytes.as_ref()).await;
            let _ = self.stream.flush().await;
        };
        timeout(DEADLINE, sending).await.expect("what is sent is taken or refused");
        self
    }

    /// The next answer, an interim one too; `None` when the server has closed.
    pub async fn answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.more().await {
                assert!(self.read.is_empty(), "half an answer: {}", self.read.escape_ascii());
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head["HTTP/1.1 ".len()..][..3].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more().await, "the body broke off: {answer:?}");
        }
        answer.body = self.read.drain(..length).collect();
        Some(answer)
    }

    /// Every answer until the server closes.
    pub async fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        while let Some(answer) = self.answer().await {
            answers.push(answer);
        }
        answers
    }

    /// Waits until the server closes without another byte.
    pub async fn closed(&mut self) {
        assert!(!self.more().await && self.read.is_empty(), "{}", self.read.escape_ascii());
    }

    /// Looks for a moment whether the server has closed.
    pub async fn is_closed(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.read);
        match timeout(Duration::from_millis(20), reading).await {
            Ok(read) => read.map_or(true, |count| count == 0),
            Err(_) => false,
        }
    }

    /// Reads on; false at the end. A reset is an end, too.
    async fn more(&mut self) -> bool {
        let reading = self.stream.read_buf(&mut self.read);
        timeout(DEADLINE, reading).await.expect("the server answers or closes").is_ok_and(|count| count > 0)
    }
}

/// What shakes hands with who is under this authority, and offers these protocols.
pub fn connector(ca_file: &Path, protocols: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config).into()
}

/// A token request in the wire's own form, with these lines in place of its `Content-Length`.
pub fn head(form: &Form, lines: &str) -> String {
    head_for(&format!("POST /{}/oauth2/v2.0/token HTTP/1.1", form.tenant), lines)
}

pub fn head_for(request_line: &str, lines: &str) -> String {
    format!(
        "{request_line}\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n{lines}\r\n"
    )
}

/// A whole valid request.
pub fn whole(form: &Form) -> String {
    let body = form.body();
    head(form, &length(&body)) + &body
}

/// The `Content-Length` line of a body.
pub fn length(body: &str) -> String {
    format!("Content-Length: {}\r\n", body.len())
}
