//! The least that a server can do: hyper reads a request whole and answers with so many bytes. Run as a child, so that its
//! processor time can be told from ours.

use std::convert::Infallible;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;

use aws_lc_rs::signature::ParsedPublicKey;
use bytes::Bytes;
use ficus::clock::Clock;
use ficus::net::{Authority, Certificate};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::Failure;
use crate::process::{Guarded, Meter};
use crate::show;
use crate::signer::{Algorithm, Signer};

/// The command that serves.
pub(crate) const ECHO: &str = "echo";

/// In a path, in the place of an algorithm.
pub(crate) const NOTHING: &str = "-";

/// The longest answer.
const MOST: usize = 1 << 20;

/// Where a child listens, as it says on its first line.
#[derive(Debug, Serialize, Deserialize)]
struct Served {
    tls: u16,
    plain: u16,
    ca: String,
}

/// A child that echoes. It ends when this is dropped.
pub(crate) struct Echo {
    served: Served,
    pub(crate) meter: Meter,
    _child: Guarded,
}

impl Echo {
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut child = Guarded::start(&std::env::current_exe()?, |command| {
            command.arg(ECHO).stdout(Stdio::piped()).stdin(Stdio::null());
        })?;
        let mut line = String::new();
        let stdout = child.stdout().ok_or("the echo has no output")?;
        BufReader::new(stdout).read_line(&mut line)?;
        let served =
            serde_json::from_str(&line).map_err(|error| format!("the echo did not start: {error}"))?;
        Ok(Self { served, meter: Meter::of(child.pid())?, _child: child })
    }

    pub(crate) fn ca(&self) -> &[u8] {
        self.served.ca.as_bytes()
    }

    /// Where it answers with so many bytes.
    pub(crate) fn url(&self, with_tls: bool, bytes: usize) -> String {
        match with_tls {
            true => format!("https://localhost:{}/{bytes}", self.served.tls),
            false => format!("http://localhost:{}/{bytes}", self.served.plain),
        }
    }
}

/// What is checked and signed for a request that asks for it; messages are as long as tokens.
struct Bench(Vec<(Signer, ParsedPublicKey, Vec<u8>)>);

const MESSAGE: [u8; 1400] = [b'x'; 1400];

impl Bench {
    fn new() -> Result<Self, Failure> {
        let prepared = [Algorithm::Rs256, Algorithm::Es256].map(|algorithm| {
            let signer = Signer::generate(algorithm, algorithm.name().to_owned())?;
            let (verifier, signature) = (signer.verifier()?, signer.sign(&MESSAGE)?);
            Ok((signer, verifier, signature))
        });
        prepared.into_iter().collect::<Result<_, Failure>>().map(Self)
    }

    /// `/BYTES/VERIFY/SIGN`: how many bytes to answer, once the work is done. Who names no algorithm gets none.
    fn work(&self, path: &str) -> Result<usize, Failure> {
        let mut segments = path.split('/').skip(1);
        let bytes = segments.next().and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let mut of =
            || segments.next().and_then(|name| self.0.iter().find(|(signer, ..)| signer.kid() == name));
        if let Some((_, verifier, signature)) = of() {
            verifier.verify_sig(&MESSAGE, signature)?;
        }
        if let Some((signer, ..)) = of() {
            signer.sign(&MESSAGE)?;
        }
        Ok(bytes)
    }
}

/// Serves until it is ended. The runtime is like the broker's.
pub(crate) fn serve() -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let authority = Authority::in_memory("localhost", Clock::system().now())?;
        let tls = Certificate::new(authority.leaf(&authority.names())?).server_config();
        let (secure, plain) =
            (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let served = Served {
            tls: secure.local_addr()?.port(),
            plain: plain.local_addr()?.port(),
            ca: authority.pem().to_owned(),
        };
        show::line(&serde_json::to_string(&served)?);
        let acceptor = TlsAcceptor::from(tls);
        tokio::try_join!(accept(secure, Some(acceptor)), accept(plain, None))?;
        Ok(())
    })
}

/// What requests are answered with.
type With = (Bytes, Arc<Bench>);

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>) -> Result<(), Failure> {
    // What an answer is cut from; nothing is allocated for it.
    let filler = Bytes::from(vec![b'x'; MOST]);
    let (tls, bench) = (Arc::new(tls), Arc::new(Bench::new()?));
    loop {
        let (socket, _) = listener.accept().await?;
        let (tls, with) = (tls.clone(), (filler.clone(), bench.clone()));
        tokio::spawn(async move { converse(socket, &tls, with).await });
    }
}

/// How a connection ends is the client's business.
async fn converse(socket: TcpStream, tls: &Option<TlsAcceptor>, with: With) {
    let _ = socket.set_nodelay(true);
    let Some(tls) = tls else { return one(socket, with).await };
    let Ok(stream) = tls.accept(socket).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let service = service_fn(move |request| answer(request, with.clone()));
        let _ =
            http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
    } else {
        one(stream, with).await;
    }
}

async fn one(stream: impl AsyncRead + AsyncWrite + Unpin, with: With) {
    let service = service_fn(move |request| answer(request, with.clone()));
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(
    request: Request<Incoming>,
    (filler, bench): With,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    // Whatever was sent is read, as a broker has to.
    let _ = request.into_body().collect().await;
    let mut response = Response::default();
    match bench.work(&path) {
        Ok(bytes) => *response.body_mut() = Full::new(filler.slice(..bytes.min(MOST))),
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_what_the_path_names() {
        let bench = Bench::new().unwrap();
        for path in ["/12", "/12/-/-", "/12/RS256/ES256", "/12/-/RS256", "/12/ES256/-"] {
            assert_eq!(bench.work(path).unwrap(), 12, "{path}");
        }
        let mut forged = Bench::new().unwrap();
        forged.0.iter_mut().for_each(|(_, _, signature)| signature[0] ^= 1);
        assert!(
            forged.work("/12/RS256/-").is_err() && forged.work("/12/ES256/-").is_err(),
            "nothing was checked"
        );
        assert!(forged.work("/12/-/RS256").is_ok());
    }
}
