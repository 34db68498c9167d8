//! `public_url` and the `[listen]` section.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use url::Url;

use crate::document::Reader;
use crate::domain::rules::{Exposure, exposure};
use crate::net::TlsSettings;

/// Where we listen, and with what certificate.
#[derive(Debug, Clone)]
pub struct ListenSettings {
    /// The public listener.
    pub address: SocketAddr,
    /// Its TLS.
    pub tls: TlsSettings,
    /// The operations listener: plain HTTP, for `/metrics` and health.
    pub ops_address: SocketAddr,
}

impl ListenSettings {
    pub(super) fn read(mut reader: Reader<'_>, base: &Path) -> Self {
        let settings = Self {
            address: reader.get_or("address", SocketAddr::from(([127, 0, 0, 1], 8443))),
            tls: tls(&mut reader, base),
            ops_address: reader.get_or("ops_address", SocketAddr::from(([127, 0, 0, 1], 9464))),
        };
        if settings.address.port() != 0 && settings.address == settings.ops_address {
            reader.problem("ops_address", "is the same as address", "each listener needs its own");
        }
        reader.finish();
        settings
    }

    /// Whether others than this machine can reach the public listener.
    pub fn is_remote(&self) -> bool {
        !self.address.ip().is_loopback()
    }
}

/// `"self-made"`, `"off"` or `{ cert, key }`.
fn tls(reader: &mut Reader<'_>, base: &Path) -> TlsSettings {
    let self_made = TlsSettings::SelfMade { folder: base.join("../data/tls") };
    if !reader.is_table("tls") {
        let word = reader.get_or("tls", "self-made".to_owned());
        return match word.as_str() {
            "self-made" => self_made,
            "off" => TlsSettings::Off,
            other => {
                let hint = "or { cert = \"tls/cert.pem\", key = \"tls/key.pem\" }";
                reader.problem("tls", format!("expected \"self-made\" or \"off\", found {other:?}"), hint);
                self_made
            }
        };
    }
    let mut files = reader.section("tls");
    let (cert, key) = (files.need::<PathBuf>("cert"), files.need::<PathBuf>("key"));
    files.finish();
    match (cert, key) {
        (Some(cert), Some(key)) => TlsSettings::Files { cert: base.join(cert), key: base.join(key) },
        _ => self_made,
    }
}

/// The authority, in the one spelling that URLs are published in.
pub(super) fn public_url(root: &mut Reader<'_>, listen: &ListenSettings) -> String {
    let text = root.get_or("public_url", "https://localhost:8443".to_owned());
    let hint = "scheme, host and port alone, as in https://sts.contoso.example";
    let Ok(url) = Url::parse(&text) else {
        root.problem("public_url", format!("{text:?} is not a URL"), hint);
        return text;
    };
    // The parser lower-cases hosts, drops default ports and adds a slash: only the last is not a change.
    let authority = url.as_str().strip_suffix('/').is_some_and(|whole| whole == text);
    if !authority || !url.username().is_empty() || !matches!(url.scheme(), "https" | "http") {
        root.problem("public_url", format!("{text:?} is not an authority in its normal form"), hint);
    }
    let plain = url.scheme() == "http" && !matches!(listen.tls, TlsSettings::Off);
    let local = exposure(&url) == Exposure::Private
        && url.host_str().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host));
    if plain && !local {
        let hint = "clients refuse an authority without https; behind a proxy set listen.tls = \"off\"";
        root.problem("public_url", format!("{text:?} is http"), hint);
    }
    text
}
