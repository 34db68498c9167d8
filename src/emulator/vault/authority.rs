//! What the vault knows of its authority: the discovery documents and the keys that they name, fetched over TLS.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::CACHE_CONTROL;
use jsonwebtoken::jwk::Jwk;
use reqwest::{Client, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::Tenant;
use super::judge::Trusted;
use crate::clock::Stopwatch;

/// Each version of tokens has a document of its own, here below the authority.
const DOCUMENTS: [(&str, &str); 2] =
    [("1.0", "/.well-known/openid-configuration"), ("2.0", "/v2.0/.well-known/openid-configuration")];
/// Time for one document, and its largest size.
const PATIENCE: Duration = Duration::from_secs(5);
const DOCUMENT: usize = 512 << 10;
/// An unknown key makes us ask again, but nobody can make us ask without a pause.
const COOLDOWN: Duration = Duration::from_secs(5);
/// How long keys are good when the authority doesn't say, and at most.
const LIFETIME: Duration = Duration::from_secs(3600);

/// Why the authority's documents could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The certificates that it should be known by are none.
    #[error("no CA to know the authority by: {0}")]
    Roots(String),
    /// It gave no document, or none that is any use.
    #[error("{url}: {cause}")]
    Document {
        /// What was asked for.
        url: String,
        /// What came.
        cause: String,
    },
}

/// The authority as it was last seen.
#[derive(Debug)]
pub(super) struct Authority {
    url: String,
    client: Client,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    trusted: Arc<Trusted>,
    lifetime: Duration,
    fetched: Stopwatch,
    /// Good or not.
    asked: Stopwatch,
}

impl Seen {
    fn now((trusted, lifetime): (Trusted, Duration)) -> Self {
        Self { trusted: Arc::new(trusted), lifetime, fetched: Stopwatch::start(), asked: Stopwatch::start() }
    }
}

impl Authority {
    /// Fetches everything for the first time.
    pub(super) async fn reach(tenant: &Tenant, ca: &[u8]) -> Result<Self, TrustError> {
        let client = client(ca)?;
        let url = tenant.url().to_owned();
        let seen = Mutex::new(Seen::now(fetch(&client, &url).await?));
        Ok(Self { url, client, seen })
    }

    /// What to judge a token by that names this key: the newest that can be had when the key is not known or what is known
    /// has aged. If it can't be had, what is known stays.
    pub(super) async fn trusted(&self, key: &str) -> Arc<Trusted> {
        // Those who come meanwhile wait, and find what was fetched.
        let mut seen = self.seen.lock().await;
        let wanting = !seen.trusted.keys.contains_key(key) || seen.fetched.elapsed() >= seen.lifetime;
        if wanting && seen.asked.elapsed() >= COOLDOWN {
            match fetch(&self.client, &self.url).await {
                Ok(fetched) => *seen = Seen::now(fetched),
                Err(error) => {
                    tracing::warn!(%error, "the authority's keys can't be had anew; the last ones stay");
                    seen.asked = Stopwatch::start();
                }
            }
        }
        seen.trusted.clone()
    }
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

/// Both documents and the keys that they name, and how long the keys are good.
async fn fetch(client: &Client, authority: &str) -> Result<(Trusted, Duration), TrustError> {
    let (mut issuers, mut keys, mut lifetime) = (Vec::new(), HashMap::new(), LIFETIME);
    for (version, path) in DOCUMENTS {
        let (document, _): (Discovery, _) = get(client, &format!("{authority}{path}")).await?;
        let (set, age): (KeySet, _) = get(client, &document.jwks_uri).await?;
        // One by one: a key of a kind that the library doesn't know is no reason to do without the others.
        for key in set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()) {
            if let Some(id) = key.common.key_id.clone() {
                keys.insert(id, key);
            }
        }
        lifetime = lifetime.min(age.unwrap_or(LIFETIME));
        issuers.push((version, document.issuer));
    }
    Ok((Trusted { issuers, keys }, lifetime))
}

/// A JSON document, and how long it may be kept.
async fn get<T: for<'de> Deserialize<'de>>(
    client: &Client,
    url: &str,
) -> Result<(T, Option<Duration>), TrustError> {
    let failed = |cause: String| TrustError::Document { url: url.to_owned(), cause };
    let mut response = client.get(url).send().await.map_err(|error| failed(root(&error)))?;
    if response.status() != StatusCode::OK {
        return Err(failed(format!("status {}", response.status())));
    }
    let control = response.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok());
    let age = control.and_then(max_age);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(root(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() > DOCUMENT {
            return Err(failed(format!("more than {DOCUMENT} bytes")));
        }
    }
    let document = serde_json::from_slice(&body).map_err(|error| failed(error.to_string()))?;
    Ok((document, age))
}

/// `max-age` of a Cache-Control.
fn max_age(control: &str) -> Option<Duration> {
    let mut directives = control.split(',').map(str::trim);
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// The innermost cause: what wraps it says no more than "error sending request".
fn root(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", PATIENCE.as_secs());
    }
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A client that trusts these CAs and nothing else.
fn client(ca: &[u8]) -> Result<Client, TrustError> {
    let wrong = |error: &dyn Error| TrustError::Roots(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(TrustError::Roots("there is no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .https_only(true)
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_keys_may_be_kept() {
        assert_eq!(max_age("public, max-age=60, immutable"), Some(Duration::from_secs(60)));
        for absent in ["", "no-store", "max-age=", "max-age=-1", "s-maxage=60"] {
            assert_eq!(max_age(absent), None, "{absent}");
        }
    }

    #[test]
    fn files_without_certificates_are_told() {
        for wrong in ["", "nonsense", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(matches!(client(wrong.as_bytes()), Err(TrustError::Roots(_))), "{wrong}");
        }
    }
}
