//! Faithful external issuers on loopback, for `ficus dev`, for tests and for load.
//!
//! An [`Emulator`] is one HTTPS server with an authority of its own. Each platform is a file that knows its documents,
//! its claims and the way a job gets its token; the platforms share [`IssuerKey`], the counted and breakable documents,
//! and the server. The issuer that a platform publishes and the origin where it listens are two things: a broker can
//! trust the real issuer's name and fetch its documents here.
//!
//! Deliberately absent: anything of the broker's. The emulator signs and encodes with other code than the broker
//! verifies with, so that a mistake can't cancel itself out.

mod documents;
pub mod github;
mod keys;
mod server;

use std::path::PathBuf;
use std::sync::Arc;

pub use documents::{Document, Fault};
pub use keys::{IssuerKey, KeyStyle};
pub use server::StartError;

use crate::clock::Clock;
use github::GitHub;
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
}

/// A running server and its platforms. It ends when this is dropped; [`Emulator::shutdown`] also waits for the end.
#[derive(Debug)]
pub struct Emulator {
    host_port: String,
    ca_pem: String,
    github: Arc<GitHub>,
    running: Running,
}

impl Emulator {
    /// Makes keys, binds and serves in a task of its own.
    ///
    /// # Errors
    /// When the port is in use, or the folder can't keep an authority.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        let server = Server::bind(settings.port, settings.folder.as_deref())?;
        let (host_port, ca_pem) = (server.host_port(), server.ca_pem().to_owned());
        let origin = format!("https://{host_port}");
        let github = Arc::new(GitHub::new(settings.github, origin, settings.clock).await);
        let running = server.serve(vec![github.clone()]);
        Ok(Self { host_port, ca_pem, github, running })
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

    /// Ends, and waits until the port is free.
    pub async fn shutdown(self) {
        self.running.end().await;
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, RootCertStore};
    use serde_json::Value;

    use super::*;

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
        assert_eq!(response.headers()["content-type"], "application/json");
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
