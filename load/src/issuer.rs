//! The emulated issuer: discovery document and key set over TLS, rotatable and breakable. Its keys sign the assertions.

use std::collections::HashMap;
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

/// The keys of one issuer, by algorithm.
type Signers = [[Signer; EDITIONS]; 2];

/// A running server with one issuer or several: the first at its root, the others below it, each with documents of its own
/// and keys of its own names. It ends when this is dropped.
pub(crate) struct Issuer {
    url: String,
    ca_pem: String,
    signers: Vec<Signers>,
    state: Arc<State>,
    /// `None` when another process serves the folder's documents.
    stop: Option<oneshot::Sender<()>>,
}

impl Issuer {
    /// With keys, authority and port of this folder, which are made when it has none, and so many issuers. Where the port is in use, the
    /// folder's issuer is taken to be served by another process already.
    pub(crate) fn start(folder: &Path, issuers: usize) -> Result<Self, Failure> {
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
        let first = [signers(folder, Algorithm::Rs256)?, signers(folder, Algorithm::Es256)?];
        let others = (1..issuers).map(|number| of_other_names(&first, number)).collect::<Vec<_>>();
        let signers: Vec<_> = [first].into_iter().chain(others).collect();
        let state = Arc::<State>::default();
        fs::write(folder.join("jwks.json"), key_set(&signers[0], 1))?;
        let documents = Arc::new(Documents::of(&url, &signers, state.clone()));
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

    /// Of the issuer of this number.
    pub(crate) fn url(&self, issuer: usize) -> String {
        format!("{}{}", self.url, path(issuer))
    }

    /// Of all issuers.
    pub(crate) fn urls(&self) -> impl Iterator<Item = String> {
        (0..self.signers.len()).map(|issuer| self.url(issuer))
    }

    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// What signs for this issuer in this edition.
    pub(crate) fn signer(&self, issuer: usize, algorithm: Algorithm, edition: usize) -> &Signer {
        &self.signers[issuer][algorithm as usize][edition.min(EDITIONS - 1)]
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

/// The documents by path and edition, rendered once.
struct Documents {
    rendered: HashMap<String, [Bytes; EDITIONS]>,
    state: Arc<State>,
}

impl Documents {
    fn of(url: &str, signers: &[Signers], state: Arc<State>) -> Self {
        let mut rendered = HashMap::new();
        for (issuer, signers) in signers.iter().enumerate() {
            let (path, keys) = (path(issuer), format!("{}/keys", path(issuer)));
            let discovery: Bytes = json!({
                "issuer": format!("{url}{path}"),
                "jwks_uri": format!("{url}{keys}"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            })
            .to_string()
            .into();
            rendered
                .insert(format!("{path}/.well-known/openid-configuration"), [discovery.clone(), discovery]);
            rendered.insert(keys, [key_set(signers, 1), key_set(signers, EDITIONS)]);
        }
        Self { rendered, state }
    }

    fn answer(&self, path: &str) -> Response<Full<Bytes>> {
        self.state.fetches.fetch_add(1, Ordering::Relaxed);
        let (status, body) = match self.rendered.get(path) {
            _ if self.state.is_down.load(Ordering::Acquire) => {
                (StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"{}"))
            }
            Some(editions) => (StatusCode::OK, editions[self.state.edition.load(Ordering::Acquire)].clone()),
            None => (StatusCode::NOT_FOUND, Bytes::from_static(b"{}")),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let json = header::HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

/// Below the server's root.
fn path(issuer: usize) -> String {
    if issuer == 0 { String::new() } else { format!("/issuers/{issuer}") }
}

/// The same keys for another issuer, which are other keys to whoever checks: making hundreds would take minutes.
fn of_other_names(first: &Signers, issuer: usize) -> Signers {
    first
        .each_ref()
        .map(|kind| kind.each_ref().map(|signer| signer.renamed(format!("{}-{issuer}", signer.kid()))))
}

fn key_set(signers: &Signers, editions: usize) -> Bytes {
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
        let first = Issuer::start(folder.path(), 1).unwrap();
        let jwk = first.signer(0, Algorithm::Es256, 1).jwk();
        let second = Issuer::start(folder.path(), 1).unwrap();
        assert_eq!([first.is_served_here(), second.is_served_here()], [true, false]);
        assert_eq!((second.url(0), second.ca_pem()), (first.url(0), first.ca_pem()));
        assert_eq!(second.signer(0, Algorithm::Es256, 1).jwk(), jwk);
        assert_ne!(second.signer(0, Algorithm::Es256, 0).jwk(), jwk);
        let published = fs::read_to_string(folder.path().join("jwks.json")).unwrap();
        assert!(published.contains("load-RS256-1") && !published.contains("load-RS256-2"), "{published}");
    }

    #[tokio::test]
    async fn each_issuer_has_a_url_and_documents_and_key_names_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let issuer = Issuer::start(folder.path(), 3).unwrap();
        let documents = Documents::of(&issuer.url, &issuer.signers, Arc::default());
        for (number, url) in issuer.urls().enumerate() {
            let path = path(number);
            assert_eq!(url, format!("{}{path}", issuer.url));
            let [discovery, _] = &documents.rendered[&format!("{path}/.well-known/openid-configuration")];
            let discovery: serde_json::Value = serde_json::from_slice(discovery).unwrap();
            assert_eq!(
                (&discovery["issuer"], &discovery["jwks_uri"]),
                (&json!(url), &json!(format!("{url}/keys")))
            );
            let [keys, both] = &documents.rendered[&format!("{path}/keys")];
            let has = |keys: &Bytes, edition| {
                let kid = format!("\"{}\"", issuer.signer(number, Algorithm::Rs256, edition).kid());
                String::from_utf8_lossy(keys).contains(&kid)
            };
            assert_eq!([has(keys, 0), has(keys, 1), has(both, 1)], [true, false, true], "{path}");
            let other = &documents.rendered[&format!("{}/keys", super::path((number + 1) % 3))][0];
            assert!(!has(other, 0), "{path}");
        }
        assert_eq!(documents.rendered.len(), 6);
    }
}
