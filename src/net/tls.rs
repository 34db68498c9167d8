//! Where the server's certificate comes from: the `tls` key of `[listen]`.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::certificate::{TlsError, pair};
use super::selfmade::authority;
use crate::clock::UnixTime;

/// The three ways to serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSettings {
    /// A leaf under an authority of our own, which is kept in this folder.
    SelfMade {
        /// Holds `ca.pem` for clients and `ca-key.pem`, which stays here.
        folder: PathBuf,
    },
    /// PEM files that someone else looks after; both may be the same file.
    Files {
        /// The chain, leaf first.
        cert: PathBuf,
        /// The leaf's private key: PKCS #8, PKCS #1 or SEC 1.
        key: PathBuf,
    },
    /// Plain HTTP/1.1, behind a proxy that ends TLS.
    Off,
}

impl TlsSettings {
    /// The chain and key to show now; `None` when TLS is off. Called again, it reads the files again.
    ///
    /// # Errors
    /// When a file is missing or unfit, or no authority can be kept in the folder.
    pub fn load(&self, host: &str, now: UnixTime) -> Result<Option<CertifiedKey>, TlsError> {
        match self {
            Self::SelfMade { folder } => {
                let authority = authority(folder, host, now)?;
                authority.leaf(&authority.names()).map(Some)
            }
            Self::Files { cert, key } => files(cert, key).map(Some),
            Self::Off => Ok(None),
        }
    }
}

fn files(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    const CHAIN: &str = "a PEM file with the server's certificate first, then its intermediates";
    const KEY: &str = "a PEM file with one unencrypted private key";
    let chain: Vec<_> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| unreadable(cert, &error, "certificate", CHAIN))?;
    if chain.is_empty() {
        return Err(unreadable(cert, &pem::Error::NoItemsFound, "certificate", CHAIN));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error, "private key", KEY))?;
    pair(chain, secret).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => TlsError::new(
            key,
            format!("the private key does not belong to the first certificate in {}", cert.display()),
            CHAIN,
        ),
        other => TlsError::new(key, other, KEY),
    })
}

fn unreadable(file: &Path, error: &pem::Error, wanted: &str, hint: &'static str) -> TlsError {
    match error {
        pem::Error::NoItemsFound => TlsError::new(file, format!("holds no {wanted}"), hint),
        pem::Error::Io(error) => TlsError::new(file, format!("can't be read: {error}"), hint),
        other => TlsError::new(file, format!("is not valid PEM: {other}"), hint),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::KeyPair;

    use super::*;

    /// A self-signed certificate and its key as PEM; which one does not matter here.
    fn material() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn load(cert: &Path, key: &Path) -> Result<Option<CertifiedKey>, String> {
        let settings = TlsSettings::Files { cert: cert.into(), key: key.into() };
        settings.load("localhost", 0).map_err(|error| error.to_string())
    }

    #[test]
    fn chain_and_key_may_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let both = folder.path().join("both.pem");
        let (cert, key) = material();
        for text in [format!("{cert}{key}"), format!("{key}{cert}")] {
            fs::write(&both, text).unwrap();
            assert_eq!(load(&both, &both).unwrap().unwrap().cert.len(), 1);
        }
    }

    #[test]
    fn what_is_wrong_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let (good_cert, good_key) = material();
        let foreign = KeyPair::generate().unwrap().serialize_pem();
        let cases = [
            (None, None, "cert.pem: can't be read"),
            (Some("nothing"), Some(good_key.as_str()), "cert.pem: holds no certificate"),
            (Some(&good_cert), None, "key.pem: can't be read"),
            (Some(&good_cert), Some(good_cert.as_str()), "key.pem: holds no private key"),
            (Some(&good_cert), Some(&foreign), "key.pem: the private key does not belong"),
        ];
        for (cert_text, key_text, expected) in cases {
            for (path, text) in [(&cert, cert_text), (&key, key_text)] {
                match text {
                    Some(text) => fs::write(path, text).unwrap(),
                    None => drop(fs::remove_file(path)),
                }
            }
            let message = load(&cert, &key).unwrap_err();
            assert!(message.contains(expected) && message.contains("(hint: "), "{message}");
        }
    }

    #[test]
    fn off_has_no_certificate() {
        assert!(TlsSettings::Off.load("localhost", 0).unwrap().is_none());
    }
}
