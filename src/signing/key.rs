//! One signing key: parsed once, its token headers encoded once.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, EllipticCurve, EllipticCurveKeyParameters, EllipticCurveKeyType,
    Jwk, PublicKeyUse, RSAKeyParameters, RSAKeyType, ThumbprintHash,
};
use jsonwebtoken::{Algorithm, Header};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::Serialize;

use super::SigningFailed;
use crate::domain::base64url;
use crate::domain::keyset::KeySet;
use crate::domain::resource::{SigningAlgorithm, TokenVersion};
use crate::secret::Secret;

/// A private key that can sign, and what is published of it.
pub(super) struct SigningKey {
    pair: Pair,
    public: Jwk,
    /// The public half alone, for tokens of ours that come back.
    verifier: Arc<KeySet>,
    id: Arc<str>,
    /// `base64url(header) + "."`, for v1.0 and v2.0 tokens.
    headers: [String; 2],
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

impl SigningKey {
    /// Reads a key file: a PKCS#8 private key and, for RSA, its certificate. The key id follows from the content.
    pub(super) fn from_pem(pem: &[u8], algorithm: SigningAlgorithm) -> Result<Self, &'static str> {
        let private = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|_| "holds no PKCS#8 private key")?;
        let private = Secret::from(private);
        const UNUSABLE: &str = "holds no key that could be verified with";
        let (pair, mut public) = match algorithm {
            SigningAlgorithm::Rs256 => {
                let pair = RsaKeyPair::from_pkcs8(private.secret_pkcs8_der())
                    .map_err(|_| "holds no usable RSA key")?;
                let certificate = CertificateDer::from_pem_slice(pem).map_err(|_| "holds no certificate")?;
                let public = rsa_jwk(&pair, &certificate);
                (Pair::Rsa(Box::new(pair)), public)
            }
            SigningAlgorithm::Es256 => {
                let pair =
                    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, private.secret_pkcs8_der())
                        .map_err(|_| "holds no usable P-256 key")?;
                let public = ec_jwk(pair.public_key().as_ref());
                (Pair::Ecdsa(Box::new(pair)), public)
            }
        };
        let thumbprint = public.common.x509_sha1_fingerprint.clone();
        let id = match &thumbprint {
            Some(x5t) => x5t.clone(),
            None => public.thumbprint(ThumbprintHash::SHA256).map_err(|_| "has no thumbprint")?,
        };
        public.common.key_id = Some(id.clone());
        let headers = [thumbprint, None].map(|x5t| header(algorithm, &id, x5t));
        let verifier = verifier(&public, algorithm).ok_or(UNUSABLE)?;
        Ok(Self { pair, public, verifier: Arc::new(verifier), id: id.into(), headers })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn shared_id(&self) -> &Arc<str> {
        &self.id
    }

    pub(super) fn public(&self) -> &Jwk {
        &self.public
    }

    pub(super) fn verifier(&self) -> &Arc<KeySet> {
        &self.verifier
    }

    pub(super) fn algorithm(&self) -> SigningAlgorithm {
        match self.pair {
            Pair::Rsa(_) => SigningAlgorithm::Rs256,
            Pair::Ecdsa(_) => SigningAlgorithm::Es256,
        }
    }

    /// Makes a compact JWS. An RSA signature that does not verify never leaves aws-lc: a fault of the processor or of memory
    /// while it is made could give the key away to whoever sees it.
    pub(super) fn sign(
        &self,
        version: TokenVersion,
        claims: &impl Serialize,
    ) -> Result<String, SigningFailed> {
        let header = &self.headers[usize::from(version == TokenVersion::V2)];
        let claims = serde_json::to_vec(claims).map_err(|_| SigningFailed)?;
        let mut jwt = String::with_capacity(header.len() + claims.len() * 4 / 3 + 352);
        jwt.push_str(header);
        base64url::append(&claims, &mut jwt);
        let signature = self.pair.sign(jwt.as_bytes())?;
        jwt.push('.');
        base64url::append(&signature, &mut jwt);
        Ok(jwt)
    }
}

impl Pair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningFailed> {
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
                    .map_err(|_| SigningFailed)?;
                Ok(signature)
            }
            Self::Ecdsa(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| SigningFailed)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

/// The header of tokens; `x5t`, where there is one, equals `kid`: passport-azure-ad looks for it among the kids.
fn header(algorithm: SigningAlgorithm, id: &str, x5t: Option<String>) -> String {
    let algorithm = match algorithm {
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Es256 => Algorithm::ES256,
    };
    let header = Header { kid: Some(id.to_owned()), x5t, ..Header::new(algorithm) };
    let json = serde_json::to_vec(&header).unwrap_or_default();
    format!("{}.", URL_SAFE_NO_PAD.encode(json))
}

fn rsa_jwk(pair: &RsaKeyPair, certificate: &CertificateDer<'_>) -> Jwk {
    let public = pair.public_key();
    Jwk {
        common: CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            x509_chain: Some(vec![STANDARD.encode(certificate)]),
            x509_sha1_fingerprint: Some(
                URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate.as_ref()).as_ref()),
            ),
            ..CommonParameters::default()
        },
        algorithm: AlgorithmParameters::RSA(RSAKeyParameters {
            key_type: RSAKeyType::RSA,
            n: URL_SAFE_NO_PAD.encode(public.modulus().big_endian_without_leading_zero()),
            e: URL_SAFE_NO_PAD.encode(public.exponent().big_endian_without_leading_zero()),
        }),
    }
}

/// The key as anybody else has it from our JWKS, bound to its one algorithm.
fn verifier(public: &Jwk, algorithm: SigningAlgorithm) -> Option<KeySet> {
    let mut jwk = serde_json::to_value(public).ok()?;
    jwk.as_object_mut()?.insert("alg".to_owned(), algorithm.name().into());
    let document = serde_json::json!({ "keys": [jwk] }).to_string();
    KeySet::parse(document.as_bytes()).ok().map(|(keys, _)| keys)
}

/// From an uncompressed point: 4, then both coordinates. It says nothing of its `use`: fastapi-azure-auth takes every key
/// that does for an RSA key, and fails.
fn ec_jwk(point: &[u8]) -> Jwk {
    let (x, y) = point[1..].split_at((point.len() - 1) / 2);
    Jwk {
        common: CommonParameters::default(),
        algorithm: AlgorithmParameters::EllipticCurve(EllipticCurveKeyParameters {
            key_type: EllipticCurveKeyType::EC,
            curve: EllipticCurve::P256,
            x: URL_SAFE_NO_PAD.encode(x),
            y: URL_SAFE_NO_PAD.encode(y),
        }),
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};

    use super::super::folder::generate;
    use super::*;

    /// A fault while it signs can't be made here; one of what is signed with can.
    #[test]
    fn b_05_a_damaged_private_key_signs_nothing_wrong() {
        let pem = generate(SigningAlgorithm::Rs256, 1_800_000_000).unwrap();
        let honest = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).unwrap();
        let honest = honest.secret_pkcs8_der();
        let sign = |der: &[u8]| Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(der).ok()?)).sign(b"message").ok();
        let public = RsaKeyPair::from_pkcs8(honest).unwrap().public_key().clone();
        let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).unwrap();
        assert!(public.verify_sig(b"message", &sign(honest).unwrap()).is_ok());
        // The private numbers are the last nine hundred bytes.
        for at in (honest.len() - 900..honest.len()).step_by(29) {
            let mut damaged = honest.to_vec();
            damaged[at] ^= 4;
            let wrong = sign(&damaged).filter(|signature| public.verify_sig(b"message", signature).is_err());
            assert_eq!(wrong, None, "byte {at}");
        }
    }

    #[test]
    fn a_key_shows_its_id_and_nothing_private() {
        for algorithm in SigningAlgorithm::ALL {
            let pem = generate(algorithm, 1_800_000_000).unwrap();
            let key = SigningKey::from_pem(pem.as_bytes(), algorithm).unwrap();
            let shown = format!("SigningKey {{ id: {:?}, algorithm: {algorithm:?}, .. }}", key.id());
            assert_eq!(format!("{key:?}"), shown);
        }
    }
}
