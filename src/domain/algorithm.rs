//! Signature algorithms of assertions (RFC 7518 section 3.1, RFC 8037). There is no HMAC and no `none` to be confused with.

use aws_lc_rs::signature::{self, EcdsaVerificationAlgorithm, RsaParameters};

use crate::document::Field;

/// An asymmetric JWS algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "named as in RFC 7518")]
pub enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    /// Every algorithm that an issuer's entry may list.
    pub const ALL: [Self; 10] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
    ];

    /// What an issuer may use unless its entry says otherwise: what the platforms really sign with
    /// (reference: oidc-issuers.md section 1).
    pub const DEFAULT: [Self; 3] = [Self::Rs256, Self::Es256, Self::Es384];

    /// The `alg` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Looks an `alg` value up, byte for byte: `rs256` is no algorithm.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The verifier of an RSA algorithm; moduli of 2048 to 8192 bits.
    pub(crate) fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa => None,
        }
    }

    /// The one algorithm of an elliptic curve, its verifier, and the length of a coordinate in bytes.
    pub(crate) fn of_curve(curve: &str) -> Option<(Self, &'static EcdsaVerificationAlgorithm, usize)> {
        match curve {
            "P-256" => Some((Self::Es256, &signature::ECDSA_P256_SHA256_FIXED, 32)),
            "P-384" => Some((Self::Es384, &signature::ECDSA_P384_SHA384_FIXED, 48)),
            "P-521" => Some((Self::Es512, &signature::ECDSA_P521_SHA512_FIXED, 66)),
            _ => None,
        }
    }
}

impl Field for Algorithm {
    const EXPECTED: &'static str =
        "algorithms among RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA";

    fn from_text(text: &str) -> Option<Self> {
        Self::from_name(text)
    }
}
