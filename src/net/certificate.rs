//! The certificate that a listener shows, replaceable while it serves.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, ServerConfig};
use rustls::sign::CertifiedKey;
use x509_cert::der::Decode;
use x509_cert::time::{Time, Validity};

use crate::clock::UnixTime;

/// What keeps TLS from being set up, in one line that names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {message} (hint: {hint})")]
pub struct TlsError {
    /// The file or folder, or what was being made when there is none.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl TlsError {
    pub(super) fn new(place: &Path, message: impl fmt::Display, hint: &'static str) -> Self {
        Self { place: place.display().to_string(), message: message.to_string(), hint }
    }
}

/// The current chain and key. Handshakes under way keep the one they began with.
#[derive(Debug)]
pub struct Certificate(ArcSwap<CertifiedKey>);

impl Certificate {
    /// Starts with this chain and key.
    pub fn new(key: CertifiedKey) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(key)))
    }

    /// Shows another chain and key from the next handshake on.
    pub fn replace(&self, key: CertifiedKey) {
        self.0.store(Arc::new(key));
    }

    /// When the leaf that is shown now ends; `None` when it can't be read as RFC 5280 has it, which is for clients to judge.
    pub fn not_after(&self) -> Option<UnixTime> {
        self.validity().map(|validity| *validity.end())
    }

    /// From when until when the leaf that is shown now is valid.
    pub fn validity(&self) -> Option<RangeInclusive<UnixTime>> {
        let key = self.0.load();
        let leaf = x509_cert::Certificate::from_der(key.cert.first()?).ok()?;
        let Validity { not_before, not_after } = leaf.tbs_certificate.validity;
        let time = |time: Time| i64::try_from(time.to_unix_duration().as_secs()).ok();
        Some(time(not_before)?..=time(not_after)?)
    }

    /// TLS 1.2 and 1.3 with this certificate; ALPN offers HTTP/2 before HTTP/1.1.
    ///
    /// # Panics
    /// Never: aws-lc-rs has cipher suites for both versions.
    pub fn server_config(self: &Arc<Self>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// Named at every use, so that TLS never depends on which provider a dependency installed for the process.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Joins chain and key; they must belong together.
pub(super) fn pair(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, rustls::Error> {
    CertifiedKey::from_der(chain, key, &provider())
}
