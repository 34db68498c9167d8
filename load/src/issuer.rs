//! The emulated issuer: discovery document and key set over TLS, rotatable and breakable. Its keys sign the assertions.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use ficus::clock::Clock;
use ficus::net::{Authority, Certificate, Listener, Peer, Setup, authority};
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::oneshot;

use crate::Failure;
use crate::signer::{Algorithm, Signer};

/// Keys of each algorithm: the first signs, and the second after a rotation.
pub(crate) const EDITIONS: usize = 2;

/// The file with the port.
const PORT: &str = "port";

/// What the issuer publishes at the moment.
#[derive(Debug, Default)]
struct State {
    edition: AtomicUsize,
    is_down: AtomicBool,
    fetches: AtomicUsize,
}

/// A running issuer. It ends when this is dropped.
pub(crate) struct Issuer {
    url: String,
    ca_pem: String,
    signers: [[Signer; EDITIONS]; 2],
    state: Arc<State>,
    /// `None` when another process serves the folder's documents.
    stop: Option<oneshot::Sender<()>>,
}

impl Issuer {
    /// With keys, authority and port of this folder, which are made when it has none. Where the port is in use, the
    /// folder's issuer is taken to be served by another process already.
    pub(crate) fn start(folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder)?;
        let authority: Authority = authority(folder, "localhost", Clock::system().now())?;
        let tls = Certificate::new(authority.leaf(&authority.names())?).server_config();
        let kept = fs::read_to_string(folder.join(PORT)).ok().and_then(|port| port.trim().parse().ok());
        let (port, listener) = match (kept, Listener::bind((Ipv4Addr::LOCALHOST, kept.unwrap_or(0)).into())) {
            (_, Ok(listener)) => (listener.local_addr().port(), Some(listener)),
            (Some(kept), Err(error)) if error.kind() == io::ErrorKind::AddrInUse => (kept, None),
            (_, Err(error)) => return Err(error.into()),
        };
        fs::write(folder.join(PORT), port.to_string())?;
        let url = format!("https://localhost:{port}");
        let signers = [signers(folder, Algorithm::Rs256)?, signers(folder, Algorithm::Es256)?];
        let state = Arc::<State>::default();
        let documents = Arc::new(Documents {
            discovery: json!({
                "issuer": url,
                "jwks_uri": format!("{url}/keys"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            })
            .to_string()
            .into(),
            keys: [key_set(&signers, 1), key_set(&signers, EDITIONS)],
            state: state.clone(),
        });
        fs::write(folder.join("jwks.json"), &documents.keys[0])?;
        let service = move |request: Request<Incoming>, _: Peer| {
            let answer = documents.answer(request.uri().path());
            async move { answer }
        };
        let stop = listener.map(|listener| {
            let (stop, stopped) = oneshot::channel();
            tokio::spawn(listener.serve(Setup { tls: Some(tls), ..Setup::default() }, service, stopped));
            stop
        });
        Ok(Self { url, ca_pem: authority.pem().to_owned(), signers, state, stop })
    }

    /// Whether its documents are ours to change.
    pub(crate) fn is_served_here(&self) -> bool {
        self.stop.is_some()
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// What signs in this edition.
    pub(crate) fn signer(&self, algorithm: Algorithm, edition: usize) -> &Signer {
        &self.signers[algorithm as usize][edition.min(EDITIONS - 1)]
    }

    /// Publishes the second keys beside the first.
    pub(crate) fn rotate(&self) {
        self.state.edition.store(1, Ordering::Release);
    }

    /// Answers 503 from now on, or the documents again.
    pub(crate) fn set_down(&self, is_down: bool) {
        self.state.is_down.store(is_down, Ordering::Release);
    }

    /// Documents that were asked for.
    pub(crate) fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::Relaxed)
    }
}

/// The documents, rendered once.
struct Documents {
    discovery: Bytes,
    keys: [Bytes; EDITIONS],
    state: Arc<State>,
}

impl Documents {
    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        self.state.fetches.fetch_add(1, Ordering::Relaxed);
        let (status, body) = match path {
            _ if self.state.is_down.load(Ordering::Acquire) => {
                (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"{}"))
            }
            "/.well-known/openid-configuration" => (StatusCode::OK, self.discovery.clone()),
            "/keys" => (StatusCode::OK, self.keys[self.state.edition.load(Ordering::Acquire)].clone()),
            _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"{}")),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

fn key_set(signers: &[[Signer; EDITIONS]; 2], editions: usize) -> Bytes {
    let keys: Vec<_> = signers.iter().flat_map(|kind| &kind[..editions]).map(Signer::jwk).collect();
    json!({ "keys": keys }).to_string().into()
}

fn signers(folder: &Path, algorithm: Algorithm) -> Result<[Signer; EDITIONS], Failure> {
    Ok([signer(folder, algorithm, 1)?, signer(folder, algorithm, 2)?])
}

fn signer(folder: &Path, algorithm: Algorithm, number: usize) -> Result<Signer, Failure> {
    let kid = format!("load-{}-{number}", algorithm.name());
    let path = folder.join(format!("{kid}.der"));
    if let Ok(kept) = fs::read(&path) {
        return Signer::from_pkcs8(algorithm, kid, &kept);
    }
    let signer = Signer::generate(algorithm, kid)?;
    ficus::files::write(&path, &signer.to_pkcs8()?, ficus::files::PRIVATE)?;
    Ok(signer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_keeps_keys_and_authority() {
        let folder = tempfile::tempdir().unwrap();
        let first = Issuer::start(folder.path()).unwrap();
        let jwk = first.signer(Algorithm::Es256, 1).jwk();
        let second = Issuer::start(folder.path()).unwrap();
        assert_eq!([first.is_served_here(), second.is_served_here()], [true, false]);
        assert_eq!((second.url(), second.ca_pem()), (first.url(), first.ca_pem()));
        assert_eq!(second.signer(Algorithm::Es256, 1).jwk(), jwk);
        assert_ne!(second.signer(Algorithm::Es256, 0).jwk(), jwk);
        let published = fs::read_to_string(folder.path().join("jwks.json")).unwrap();
        assert!(published.contains("load-RS256-1") && !published.contains("load-RS256-2"), "{published}");
    }
}
