//! The cheapest client there is: hyper's connections, used directly. It shares the processor with what it measures.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::Failure;

/// A job that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is no answer, in a word that is counted.
pub(crate) type Broken = &'static str;

/// How connections to one server are made.
#[derive(Clone)]
pub(crate) struct Dialer {
    address: SocketAddr,
    name: ServerName<'static>,
    tls: Option<TlsConnector>,
    is_http2: bool,
}

/// One connection that is kept.
pub(crate) enum Wire {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// The whole answer to one request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `Retry-After`, in seconds.
    pub(crate) retry_after: Option<u32>,
    pub(crate) body: Bytes,
}

/// A request without its body, put together once.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
}

impl Ask {
    /// Of a form, to this URL.
    pub(crate) fn post(url: &str, http: usize) -> Result<Self, Failure> {
        let mut ask = Self::get(url, http)?;
        ask.method = Method::POST;
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        ask.headers.insert(CONTENT_TYPE, form);
        Ok(ask)
    }

    /// Of a document.
    pub(crate) fn get(url: &str, http: usize) -> Result<Self, Failure> {
        let whole: Uri = url.parse()?;
        let mut headers = HeaderMap::new();
        let uri = if http == 2 {
            whole
        } else {
            let authority = whole.authority().ok_or("a URL without a host")?.as_str();
            headers.insert(HOST, authority.parse()?);
            whole.path_and_query().map_or("/", |path| path.as_str()).parse()?
        };
        Ok(Self { method: Method::GET, uri, headers })
    }

    fn with(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

impl Dialer {
    /// For the server of this URL, on this machine. `ca` is what it must be vouched for by, as PEM.
    pub(crate) fn new(url: &str, ca: Option<&[u8]>, http: usize) -> Result<Self, Failure> {
        let parsed = Url::parse(url)?;
        let host = parsed.host_str().ok_or_else(|| format!("{url} has no host"))?.to_owned();
        let port = parsed.port_or_known_default().ok_or_else(|| format!("{url} has no port"))?;
        let mut addresses = (host.trim_matches(['[', ']']), port).to_socket_addrs()?;
        let address = addresses.find(|address| address.ip().is_loopback() && address.is_ipv4());
        let address = address
            .ok_or_else(|| format!("{url} is not on this machine: only loopback is put under load"))?;
        let tls =
            (parsed.scheme() == "https").then(|| connector(ca.unwrap_or_default(), http)).transpose()?;
        if tls.is_none() && http == 2 {
            return Err("HTTP/2 needs TLS".into());
        }
        Ok(Self { address, name: ServerName::try_from(host)?, tls, is_http2: http == 2 })
    }

    /// A new connection, with a whole handshake.
    pub(crate) async fn dial(&self) -> Result<Wire, Broken> {
        timeout(PATIENCE, self.dial_patiently()).await.unwrap_or(Err("connecting took too long"))
    }

    /// A connection that is closed as soon as it is there.
    pub(crate) async fn shake_hands(&self) -> Result<(), Broken> {
        let socket = self.connect().await?;
        let Some(tls) = &self.tls else { return Ok(()) };
        let mut stream = tls.connect(self.name.clone(), socket).await.map_err(|_| "handshake failed")?;
        // In order, or the server would be told of an error.
        tokio::io::AsyncWriteExt::shutdown(&mut stream).await.map_err(|_| "closing failed")
    }

    async fn dial_patiently(&self) -> Result<Wire, Broken> {
        let socket = self.connect().await?;
        match &self.tls {
            None => self.speak(socket).await,
            Some(tls) => {
                let stream = tls.connect(self.name.clone(), socket).await.map_err(|_| "handshake failed")?;
                self.speak(stream).await
            }
        }
    }

    async fn connect(&self) -> Result<TcpStream, Broken> {
        let socket = TcpStream::connect(self.address).await.map_err(|_| "connecting failed")?;
        socket.set_nodelay(true).map_err(|_| "connecting failed")?;
        Ok(socket)
    }

    async fn speak<S>(&self, stream: S) -> Result<Wire, Broken>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        if self.is_http2 {
            let (send, connection) =
                http2::handshake(TokioExecutor::new(), io).await.map_err(|_| "HTTP/2 failed")?;
            tokio::spawn(connection);
            return Ok(Wire::Two(send));
        }
        let (send, connection) = http1::handshake(io).await.map_err(|_| "HTTP/1.1 failed")?;
        tokio::spawn(connection);
        Ok(Wire::One(send))
    }
}

impl Wire {
    /// Whether it can take another request.
    pub(crate) fn is_closed(&self) -> bool {
        match self {
            Self::One(send) => send.is_closed(),
            Self::Two(send) => send.is_closed(),
        }
    }

    /// Another user of the same connection, where there can be several.
    pub(crate) fn share(&self) -> Option<Self> {
        match self {
            Self::One(_) => None,
            Self::Two(send) => Some(Self::Two(send.clone())),
        }
    }

    /// Asks, and reads the whole answer.
    pub(crate) async fn ask(&mut self, ask: &Ask, body: Bytes) -> Result<Answer, Broken> {
        let request = ask.with(body);
        let asking = async {
            let response = match self {
                Self::One(send) => {
                    send.ready().await.map_err(|_| "connection closed")?;
                    send.send_request(request).await
                }
                Self::Two(send) => {
                    send.ready().await.map_err(|_| "connection closed")?;
                    send.send_request(request).await
                }
            };
            Answer::read(response.map_err(|_| "no answer")?).await
        };
        timeout(PATIENCE, asking).await.unwrap_or(Err("no answer in time"))
    }
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Result<Self, Broken> {
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = body.collect().await.map_err(|_| "answer broke off")?.to_bytes();
        Ok(Self { status: head.status.as_u16(), retry_after, body })
    }

    /// The number of Entra's error; 0 for anything else.
    pub(crate) fn code(&self) -> u32 {
        const MARK: &[u8] = b"\"error_codes\":[";
        let at = self.body.windows(MARK.len()).position(|window| window == MARK);
        let digits = at.map_or(&[][..], |at| &self.body[at + MARK.len()..]);
        digits
            .iter()
            .take_while(|digit| digit.is_ascii_digit())
            .take(9)
            .fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'))
    }
}

/// Trusts this authority alone, and remembers no session: every handshake is a whole one.
fn connector(ca: &[u8], http: usize) -> Result<TlsConnector, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![if http == 2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Asks once, on a connection of its own.
pub(crate) async fn get(url: &str, ca: Option<&[u8]>) -> Result<Answer, Failure> {
    let mut wire = Dialer::new(url, ca, 1)?.dial().await?;
    Ok(wire.ask(&Ask::get(url, 1)?, Bytes::new()).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_put_under_load() {
        assert!(Dialer::new("http://127.0.0.1:1", None, 1).is_ok());
        assert!(
            Dialer::new("http://[::1]:1", None, 1).is_err_and(|error| error.to_string().contains("loopback"))
        );
        let error = Dialer::new("http://192.0.2.1:80", None, 1).err().unwrap();
        assert!(error.to_string().contains("only loopback"), "{error}");
    }

    #[test]
    fn a_refusal_is_known_by_its_number() {
        let code = |body: &'static str| Answer { status: 401, retry_after: None, body: body.into() }.code();
        assert_eq!(code(r#"{"error":"invalid_client","error_codes":[700213],"trace_id":"1"}"#), 700_213);
        assert_eq!([code("{}"), code(r#"{"error_codes":["#), code("")], [0, 0, 0]);
    }
}
