//! Faithful external issuers on loopback, for `ficus dev`, for tests and for load.
//!
//! An [`Emulator`] is one HTTPS server with an authority of its own: GitHub at its root, the others below `/gitlab`, `/gke`
//! and `/aks`. Each platform is a file that knows its documents, its claims and the way a job gets its token; the
//! platforms share [`IssuerKey`], the counted and breakable documents, and the server. The issuer that a platform publishes and the origin where it listens are two things: a broker can
//! trust the real issuer's name and fetch its documents here.
//!
//! [`vault`] stands at the other end: an API that accepts what a broker mints, a server of its own.
//!
//! Deliberately absent: anything of the broker's. The emulator signs and encodes with other code than the broker
//! verifies with, so that a mistake can't cancel itself out.

pub mod aks;
mod documents;
pub mod github;
pub mod gitlab;
pub mod gke;
mod jobs;
mod keys;
mod keyset;
mod kubernetes;
mod server;
pub mod vault;

use std::path::PathBuf;
use std::sync::Arc;

pub use documents::{Document, Fault};
pub use jobs::TokenRequest;
pub use keys::{IssuerKey, KeySize, KeyStyle};
pub use kubernetes::{Cluster, ServiceAccount};
pub use server::StartError;

use crate::clock::Clock;
use github::GitHub;
use gitlab::GitLab;
use server::{Running, Server};

/// What to emulate, and where. The default takes a free port and keeps nothing on disk.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The loopback port; 0 takes a free one.
    pub port: u16,
    /// The folder of the authority, so that clients need trust it only once; `None` makes one that is gone with the
    /// process.
    pub folder: Option<PathBuf>,
    /// The time that tokens tell.
    pub clock: Clock,
    /// GitHub Actions.
    pub github: github::Settings,
    /// GitLab CI.
    pub gitlab: gitlab::Settings,
    /// A cluster of Google Kubernetes Engine.
    pub gke: gke::Settings,
    /// A cluster of Azure Kubernetes Service.
    pub aks: aks::Settings,
}

impl Settings {
    /// With every platform under its real issuer's name.
    #[must_use]
    pub fn real_issuers(mut self) -> Self {
        self.github.issuer = Some(github::ISSUER.to_owned());
        self.gitlab.issuer = Some(gitlab::ISSUER.to_owned());
        self.gke.issuer = Some(gke::ISSUER.to_owned());
        self.aks.issuer = Some(aks::ISSUER.to_owned());
        self
    }
}

/// A running server and its platforms. It ends when this is dropped; [`Emulator::shutdown`] also waits for the end.
#[derive(Debug)]
pub struct Emulator {
    host_port: String,
    ca_pem: String,
    github: Arc<GitHub>,
    gitlab: Arc<GitLab>,
    gke: Arc<Cluster>,
    aks: Arc<Cluster>,
    running: Running,
}

impl Emulator {
    /// Binds and serves in a task of its own. A platform's keys are made when it is first asked for something.
    ///
    /// # Errors
    /// When the port is in use, or the folder can't keep an authority.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let server = Server::bind(settings.port, settings.folder.as_deref())?;
        let (host_port, ca_pem) = (server.host_port(), server.ca_pem().to_owned());
        let (origin, clock) = (format!("https://{host_port}"), settings.clock);
        let gitlab = Arc::new(GitLab::new(settings.gitlab, &origin, clock.clone()));
        let gke = Arc::new(gke::cluster(settings.gke, &origin, clock.clone()));
        let aks = Arc::new(aks::cluster(settings.aks, &origin, clock.clone()));
        let github = Arc::new(GitHub::new(settings.github, origin, clock));
        // GitHub last: any first segment of a path may be a slug of an enterprise.
        let running = server.serve(vec![gitlab.clone(), gke.clone(), aks.clone(), github.clone()]);
        Ok(Self { host_port, ca_pem, github, gitlab, gke, aks, running })
    }

    /// Makes all keys in the background, so that nobody waits for them later.
    pub fn prepare_keys(&self) {
        let (github, gitlab) = (self.github.clone(), self.gitlab.clone());
        let (gke, aks) = (self.gke.clone(), self.aks.clone());
        // A plain thread, since the runtime would not end before a task of its own does. The slowest come last.
        std::thread::spawn(move || {
            github.keys();
            gke.keys();
            aks.keys();
            gitlab.keys();
        });
    }

    /// `localhost:PORT`.
    pub fn host_port(&self) -> &str {
        &self.host_port
    }

    /// `https://localhost:PORT`.
    pub fn origin(&self) -> String {
        format!("https://{}", self.host_port)
    }

    /// The certificate that clients must trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// GitHub Actions.
    pub fn github(&self) -> &GitHub {
        &self.github
    }

    /// GitLab CI.
    pub fn gitlab(&self) -> &GitLab {
        &self.gitlab
    }

    /// A cluster of Google Kubernetes Engine.
    pub fn gke(&self) -> &Cluster {
        &self.gke
    }

    /// A cluster of Azure Kubernetes Service.
    pub fn aks(&self) -> &Cluster {
        &self.aks
    }

    /// Ends, and waits until the port is free.
    pub async fn shutdown(self) {
        self.running.end().await;
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, RootCertStore};
    use serde_json::Value;

    use super::*;

    pub(super) const NOW: i64 = 1_790_000_600;

    /// An emulator whose clock stands still, after a change of its settings.
    pub(super) async fn started(change: impl FnOnce(&mut Settings)) -> Emulator {
        let mut settings = Settings { clock: Clock::fixed(NOW), ..Settings::default() };
        settings.gitlab.small_keys = true;
        change(&mut settings);
        Emulator::start(settings).await.unwrap()
    }

    /// The claims, once the signature holds against the key that the header names.
    pub(super) fn verified(keys: &Value, token: &str, audience: &str) -> Value {
        let keys: JwkSet = serde_json::from_value(keys.clone()).unwrap();
        let kid = decode_header(token).unwrap().kid.unwrap();
        let mut validation = Validation::new(Algorithm::RS256);
        validation.set_audience(&[audience]);
        // The token's clock stands still.
        validation.validate_exp = false;
        let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
        decode::<Value>(token, &key, &validation).unwrap().claims
    }

    /// The names of an object's members, sorted.
    pub(super) fn members(object: &Value) -> Vec<&str> {
        let mut names: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Status and JSON of the answer to a POST of JSON.
    pub(super) async fn post(client: &reqwest::Client, request: &TokenRequest, body: &str) -> (u16, Value) {
        let posted = client.post(&request.url).bearer_auth(&request.token).body(body.to_owned());
        let response = posted.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    /// A client that trusts nothing but this emulator's authority.
    pub(super) fn client(emulator: &Emulator) -> reqwest::Client {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
    }

    /// Status and JSON of an answer.
    pub(super) async fn get(client: &reqwest::Client, url: &str, bearer: Option<&str>) -> (u16, Value) {
        let mut request = client.get(url);
        if let Some(bearer) = bearer {
            request = request.header("authorization", format!("Bearer {bearer}"));
        }
        let response = request.send().await.unwrap();
        let media_type = response.headers()["content-type"].to_str().unwrap();
        assert!(matches!(media_type, "application/json" | "application/jwk-set+json"), "{media_type}");
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap())
    }

    #[tokio::test]
    async fn unknown_paths_are_told_in_json_and_other_methods_refused() {
        let emulator = Emulator::start(Settings::default()).await.unwrap();
        let client = client(&emulator);
        for path in ["/", "/.well-known", "/jobs/absent/idtoken", "//.well-known/openid-configuration"] {
            let (status, body) = get(&client, &format!("{}{path}", emulator.origin()), None).await;
            assert_eq!(status, if path.starts_with("/jobs") { 401 } else { 404 }, "{path}");
            assert!(body["message"].is_string(), "{body}");
        }
        let posted = client.post(emulator.github().discovery_url()).send().await.unwrap();
        assert_eq!(posted.status(), 405);
        assert_eq!(emulator.github().requests(Document::Discovery), 0);
    }

    #[tokio::test]
    async fn the_end_frees_the_port_and_a_folder_keeps_the_authority() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { folder: Some(folder.path().into()), ..Settings::default() };
        let first = Emulator::start(settings.clone()).await.unwrap();
        let (pem, port) =
            (first.ca_pem().to_owned(), first.host_port()["localhost:".len()..].parse().unwrap());

        let taken = Emulator::start(Settings { port, ..settings.clone() }).await.unwrap_err();
        assert!(taken.to_string().contains("the port is in use"), "{taken}");

        assert_eq!(get(&client(&first), &first.github().discovery_url(), None).await.0, 200);
        first.shutdown().await;
        let second = Emulator::start(Settings { port, ..settings }).await.unwrap();
        assert_eq!(second.ca_pem(), pem);
        assert_eq!(get(&client(&second), &second.github().discovery_url(), None).await.0, 200);
    }
}
