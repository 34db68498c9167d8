//! One HTTPS server on loopback for all platforms.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use rustls::ServerConfig;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::clock::Clock;
use crate::net::{Authority, Bodies, Certificate, Listener, Peer, Setup, TlsError, authority, read};

/// Requests in flight at the end are only those that hang on purpose.
const GRACE: Duration = Duration::from_millis(100);
/// Bytes of a request's body, and the time for it. Nobody but our own side asks here.
const BODY: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(10);

/// Why an emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The port can't be had.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// There is no authority.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// One platform: the paths that it knows.
pub(super) trait Platform: Send + Sync {
    /// `None` when this platform has nothing at the path, or nothing for the method. May block: keys are made when
    /// they are first needed.
    fn answer(&self, request: &Request<Bytes>) -> Option<Answer>;
}

/// What a client gets.
pub(super) enum Answer {
    Send(Response<Full<Bytes>>),
    /// Nothing for now, while the connection stays open.
    Later(Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>),
}

impl Answer {
    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::Send(json_response(status, body.into()))
    }
}

/// JSON of this status.
pub(super) fn json_response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A bound port and what TLS needs.
pub(super) struct Server {
    listener: Listener,
    tls: Arc<ServerConfig>,
    ca_pem: String,
}

impl Server {
    pub(super) fn bind(port: u16, folder: Option<&Path>) -> Result<Self, StartError> {
        let listener = Listener::bind((Ipv4Addr::LOCALHOST, port).into())?;
        // Clients judge certificates by their own clock, however far the emulated time has been moved.
        let now = Clock::system().now();
        let authority = match folder {
            Some(folder) => authority(folder, "localhost", now)?,
            None => Authority::in_memory("localhost", now)?,
        };
        let tls = Certificate::new(authority.leaf(&authority.names())?).server_config();
        Ok(Self { listener, tls, ca_pem: authority.pem().to_owned() })
    }

    pub(super) fn host_port(&self) -> String {
        format!("localhost:{}", self.listener.local_addr().port())
    }

    pub(super) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Answers from the first platform that knows the path.
    pub(super) fn serve(self, platforms: Vec<Arc<dyn Platform>>) -> Running {
        let platforms: Arc<[_]> = platforms.into();
        let service = move |request: Request<Incoming>, _: Peer| {
            let platforms = platforms.clone();
            async move {
                let (head, body) = request.into_parts();
                let Ok(body) = read(body, BODY, BODY_TIME, &Bodies::new(BODY)).await else {
                    return json_response(StatusCode::BAD_REQUEST, Bytes::from_static(b"{}"));
                };
                let request = Request::from_parts(head, body);
                match spawn_blocking(move || answer(&platforms, &request)).await {
                    Ok(Answer::Send(response)) => response,
                    Ok(Answer::Later(response)) => response.await,
                    Err(_) => json_response(StatusCode::INTERNAL_SERVER_ERROR, Bytes::from_static(b"{}")),
                }
            }
        };
        let setup = Setup { tls: Some(self.tls), grace: GRACE, ..Setup::default() };
        let (stop, stopped) = oneshot::channel();
        Running { stop, task: tokio::spawn(self.listener.serve(setup, service, stopped)) }
    }
}

fn answer(platforms: &[Arc<dyn Platform>], request: &Request<Bytes>) -> Answer {
    let known = platforms.iter().find_map(|platform| platform.answer(request));
    known.unwrap_or_else(|| match *request.method() {
        Method::GET => message(StatusCode::NOT_FOUND, "there is nothing at this path"),
        _ => message(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here"),
    })
}

/// An error as JSON.
pub(super) fn message(status: StatusCode, text: &str) -> Answer {
    Answer::json(status, json!({ "message": text }).to_string())
}

/// The serving task, which ends when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
}

impl Running {
    pub(super) async fn end(self) {
        drop(self.stop);
        // Whatever became of the task, it no longer serves.
        let _ = self.task.await;
    }
}
