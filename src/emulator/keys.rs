//! The keys of an issuer. They sign whatever they are given: refusing it is the broker's work.

use std::fmt;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, PublicKeyData, RsaKeySize};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Builder;

use crate::clock::{UnixTime, random};
use crate::domain::digest::hex;

/// How a key is named, and whether a certificate is published with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStyle {
    /// A lower-case UUID and no certificate.
    Uuid,
    /// A lower-case UUID, with a certificate of ten years.
    UuidWithCertificate,
    /// The certificate's SHA-1 thumbprint in upper-case hex, with that certificate of two years.
    Thumbprint,
    /// The RFC 7638 thumbprint of the key itself, and no certificate.
    JwkThumbprint,
    /// The SHA-256 of the key as DER, and no certificate. Its tokens' headers have no `typ`.
    Kubernetes,
}

/// How long a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeySize {
    /// 2048 bits: a good part of a second at worst.
    Rsa2048,
    /// 4096 bits: several seconds at worst.
    Rsa4096,
}

/// A private key, its name, and what is published of it.
pub struct IssuerKey {
    id: String,
    typ: Option<&'static str>,
    x5t: Option<String>,
    algorithm: Algorithm,
    private: EncodingKey,
    public: Value,
}

impl fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuerKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl IssuerKey {
    /// A new RSA key of 2048 bits that signs RS256. Takes a good part of a second at worst.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn rsa(style: KeyStyle, now: UnixTime) -> Self {
        Self::rsa_of(style, KeySize::Rsa2048, now)
    }

    /// The same of another size.
    ///
    /// # Panics
    /// When the operating system has no randomness to give.
    pub fn rsa_of(style: KeyStyle, size: KeySize, now: UnixTime) -> Self {
        let size = match size {
            KeySize::Rsa2048 => RsaKeySize::_2048,
            KeySize::Rsa4096 => RsaKeySize::_4096,
        };
        let pair = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).expect("RSA keys can be made");
        let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).expect("the key is RSA");
        let certificate = match style {
            KeyStyle::Uuid | KeyStyle::JwkThumbprint | KeyStyle::Kubernetes => None,
            KeyStyle::UuidWithCertificate => Some(certificate(&pair, now, Duration::days(3650))),
            KeyStyle::Thumbprint => Some(certificate(&pair, now, Duration::days(730))),
        };
        let sha1 = certificate.as_deref().map(|der| digest(&SHA1_FOR_LEGACY_USE_ONLY, der));
        let x5t = sha1.map(|sha1| URL_SAFE_NO_PAD.encode(sha1));

        let mut public = Jwk::from_encoding_key(&private, Algorithm::RS256).expect("the key is RSA");
        let id = match (style, &sha1) {
            (KeyStyle::Thumbprint, Some(sha1)) => hex(sha1.as_ref()).to_uppercase(),
            (KeyStyle::JwkThumbprint, _) => {
                public.thumbprint(ThumbprintHash::SHA256).expect("an RSA key has a thumbprint")
            }
            (KeyStyle::Kubernetes, _) => {
                URL_SAFE_NO_PAD.encode(digest(&SHA256, &pair.subject_public_key_info()))
            }
            // GitHub's are version 5: derived, not random.
            _ => Builder::from_sha1_bytes(random()).into_uuid().to_string(),
        };
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        public.common.key_id = Some(id.clone());
        public.common.x509_chain = certificate.map(|der| vec![STANDARD.encode(der)]);
        public.common.x509_sha1_fingerprint = x5t.clone();
        let public = serde_json::to_value(public).expect("a JWK is JSON");
        let typ = (style != KeyStyle::Kubernetes).then_some("JWT");
        Self { id, typ, x5t, algorithm: Algorithm::RS256, private, public }
    }

    /// The `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the key set shows.
    pub fn public_jwk(&self) -> &Value {
        &self.public
    }

    /// The header of honest tokens; `x5t` only with a certificate.
    pub fn header(&self) -> Value {
        let mut header = json!({ "alg": self.algorithm, "kid": self.id });
        if let Some(typ) = self.typ {
            header["typ"] = json!(typ);
        }
        if let Some(x5t) = &self.x5t {
            header["x5t"] = json!(x5t);
        }
        header
    }

    /// Signs exactly this header and these claims, with the key's own algorithm whatever the header says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_raw(&header.to_string(), &claims.to_string())
    }

    /// As [`IssuerKey::sign`], for what no JSON value can hold, such as duplicate members.
    ///
    /// # Panics
    /// Never: the key was made for its algorithm.
    pub fn sign_raw(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = crypto::sign(message.as_bytes(), &self.private, self.algorithm)
            .expect("the key fits its algorithm");
        format!("{message}.{signature}")
    }
}

/// A self-signed certificate as DER. Nobody may build trust on it; it is published, and may name the key.
fn certificate(pair: &KeyPair, now: UnixTime, life: Duration) -> Vec<u8> {
    // A clock beyond the calendar gets a certificate of 1970, which is as good as any.
    let now = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut params = CertificateParams::default();
    params.not_before = now.saturating_sub(Duration::days(30));
    params.not_after = params.not_before.saturating_add(life);
    params.distinguished_name.push(DnType::CommonName, "emulated issuer");
    params.self_signed(pair).expect("the certificate has nothing unusual").der().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(part: &str) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn header_and_claims_are_signed_as_they_are() {
        let key = IssuerKey::rsa(KeyStyle::Uuid, 1_790_000_000);
        let (header, claims) = (r#"{"alg":"none","alg":"HS256"}"#, "not JSON at all");
        let forged = key.sign_raw(header, claims);
        let parts: Vec<_> = forged.split('.').collect();
        assert_eq!((decoded(parts[0]).as_str(), decoded(parts[1]).as_str()), (header, claims));

        let public: Jwk = serde_json::from_value(key.public_jwk().clone()).unwrap();
        let public = jsonwebtoken::DecodingKey::from_jwk(&public).unwrap();
        let message = format!("{}.{}", parts[0], parts[1]);
        assert!(crypto::verify(parts[2], message.as_bytes(), &public, Algorithm::RS256).unwrap());
    }

    #[test]
    fn a_thumbprint_names_its_certificate() {
        let key = IssuerKey::rsa(KeyStyle::Thumbprint, 1_790_000_000);
        let jwk = key.public_jwk();
        let der = STANDARD.decode(jwk["x5c"][0].as_str().unwrap()).unwrap();
        let sha1 = digest(&SHA1_FOR_LEGACY_USE_ONLY, &der);
        assert_eq!(key.id(), hex(sha1.as_ref()).to_uppercase());
        assert_eq!(jwk["x5t"], URL_SAFE_NO_PAD.encode(sha1));
        assert_eq!(key.header()["x5t"], jwk["x5t"]);
        assert!(!format!("{key:?}").contains("private"));
    }

    #[test]
    fn a_clock_beyond_the_calendar_still_makes_keys() {
        assert_eq!(IssuerKey::rsa(KeyStyle::Thumbprint, i64::MAX).id().len(), 40);
    }
}
