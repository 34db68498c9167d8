//! The keys of the emulated issuer, parsed once: a pool of twenty thousand assertions takes seconds, not a minute.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Failure;

/// What signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "ES256")]
    Es256,
}

impl Algorithm {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }
}

enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(Box<EcdsaKeyPair>),
}

/// A private key with its name.
pub(crate) struct Signer {
    pair: Arc<Pair>,
    kid: String,
}

impl Signer {
    /// A new key.
    pub(crate) fn generate(algorithm: Algorithm, kid: String) -> Result<Self, Failure> {
        let pkcs8 = match algorithm {
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048)?;
                AsDer::<Pkcs8V1Der<'_>>::as_der(&pair)?.as_ref().to_vec()
            }
            Algorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?.to_pkcs8v1()?.as_ref().to_vec()
            }
        };
        Self::from_pkcs8(algorithm, kid, &pkcs8)
    }

    /// A kept key.
    pub(crate) fn from_pkcs8(algorithm: Algorithm, kid: String, pkcs8: &[u8]) -> Result<Self, Failure> {
        let pair = match algorithm {
            Algorithm::Rs256 => Pair::Rsa(Box::new(RsaKeyPair::from_pkcs8(pkcs8)?)),
            Algorithm::Es256 => {
                Pair::Ecdsa(Box::new(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)?))
            }
        };
        Ok(Self { pair: Arc::new(pair), kid })
    }

    /// The same key by another name.
    pub(crate) fn renamed(&self, kid: String) -> Self {
        Self { pair: self.pair.clone(), kid }
    }

    /// The private key, to be kept.
    pub(crate) fn to_pkcs8(&self) -> Result<Vec<u8>, Failure> {
        Ok(match &*self.pair {
            Pair::Rsa(pair) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**pair)?.as_ref().to_vec(),
            Pair::Ecdsa(pair) => pair.to_pkcs8v1()?.as_ref().to_vec(),
        })
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match *self.pair {
            Pair::Rsa(_) => Algorithm::Rs256,
            Pair::Ecdsa(_) => Algorithm::Es256,
        }
    }

    /// What the key set shows.
    pub(crate) fn jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &*self.pair {
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                let n = text(public.modulus().big_endian_without_leading_zero());
                let e = text(public.exponent().big_endian_without_leading_zero());
                json!({ "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": n, "e": e })
            }
            Pair::Ecdsa(pair) => {
                // 0x04, x, y.
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                let (x, y) = (text(x), text(y));
                json!({ "kty": "EC", "use": "sig", "alg": "ES256", "kid": self.kid, "crv": "P-256", "x": x, "y": y })
            }
        }
    }

    /// The signature of a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)?;
                Ok(signature)
            }
            Pair::Ecdsa(pair) => Ok(pair.sign(&SystemRandom::new(), message)?.as_ref().to_vec()),
        }
    }

    /// What checks its signatures, parsed.
    pub(crate) fn verifier(&self) -> Result<ParsedPublicKey, Failure> {
        Ok(match &*self.pair {
            Pair::Rsa(pair) => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())?,
            Pair::Ecdsa(pair) => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())?,
        })
    }

    /// A compact JWS.
    pub(crate) fn token(&self, claims: &Value) -> Result<String, Failure> {
        let mut token = self.unsigned(&self.kid, claims);
        let signature = self.sign(token.as_bytes())?;
        append(&mut token, &signature);
        Ok(token)
    }

    /// The same with any key id and any bytes for a signature.
    pub(crate) fn forged(&self, kid: &str, claims: &Value, signature: &[u8]) -> String {
        let mut token = self.unsigned(kid, claims);
        append(&mut token, signature);
        token
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    fn unsigned(&self, kid: &str, claims: &Value) -> String {
        let header = json!({ "alg": self.algorithm().name(), "kid": kid, "typ": "JWT" });
        format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header.to_string()),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        )
    }
}

fn append(token: &mut String, signature: &[u8]) {
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, token);
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{DecodingKey, Validation, decode};

    use super::*;

    #[test]
    fn tokens_verify_with_the_published_key_also_after_they_were_kept() {
        for algorithm in [Algorithm::Rs256, Algorithm::Es256] {
            let made = Signer::generate(algorithm, "k".to_owned()).unwrap();
            let kept = Signer::from_pkcs8(algorithm, "k".to_owned(), &made.to_pkcs8().unwrap()).unwrap();
            let claims = json!({ "exp": 4_000_000_000_u64, "aud": "a" });
            let jwk: Jwk = serde_json::from_value(made.jwk()).unwrap();
            let mut validation = Validation::new(algorithm.name().parse().unwrap());
            validation.set_audience(&["a"]);
            let key = DecodingKey::from_jwk(&jwk).unwrap();
            decode::<Value>(kept.token(&claims).unwrap(), &key, &validation).unwrap();
            let forged = kept.forged("k", &claims, &[1; 64]);
            decode::<Value>(forged, &key, &validation).unwrap_err();
            let signature = kept.sign(b"m").unwrap();
            made.verifier().unwrap().verify_sig(b"m", &signature).unwrap();
        }
    }
}
