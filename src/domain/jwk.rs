//! One published key: from a JWK (RFC 7517) to verifiers that were parsed once.

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, ParsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::assertion::MAX_KEY_ID;
use super::json::{Members, Mistyped};

/// A key of an issuer, ready to verify with every algorithm it is fit for.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: Option<String>,
    pub(super) verifiers: Vec<(Algorithm, ParsedPublicKey)>,
}

/// Why a key of a set is not used; the rest of the set stays usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Skipped {
    /// Not a JSON object, a member twice or of a wrong type.
    #[error("not a well-formed JWK")]
    Malformed,
    /// A kind of key that we do not know.
    #[error("unknown key type or curve")]
    UnknownType,
    /// `use`, `key_ops` or `alg` say that it is not for verifying signatures.
    #[error("not for verifying signatures")]
    Purpose,
    /// A secret key, or the private half of one, published for all to see.
    #[error("a private or symmetric key")]
    Secret,
    /// Outside 2048..8192 bits, or an exponent that is even, below 3 or above 2^33.
    #[error("unfit RSA numbers")]
    Rsa,
    /// Coordinates of a wrong length, or a point that is not on the curve.
    #[error("not a point of its curve")]
    Point,
    /// The set already has as many keys, or as many of this id, as are kept.
    #[error("one too many")]
    Surplus,
}

impl From<Mistyped> for Skipped {
    fn from(_: Mistyped) -> Self {
        Self::Malformed
    }
}

const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

impl Key {
    /// Reads one JWK. `x5c`, `x5t` and `x5u` are never looked at: trust comes from where the set was fetched.
    pub(super) fn read(jwk: &str) -> Result<Self, Skipped> {
        let members = Members::read(jwk.as_bytes()).map_err(|_| Skipped::Malformed)?;
        if PRIVATE_MEMBERS.iter().any(|name| members.get(name).is_some()) {
            return Err(Skipped::Secret);
        }
        let id = members.text("kid")?;
        if id.as_ref().is_some_and(|id| id.is_empty() || id.len() > MAX_KEY_ID) {
            return Err(Skipped::Malformed);
        }
        check_purpose(&members)?;
        // An empty `alg` stands for none (SPIRE writes it for key types it does not know).
        let declared = members.text("alg")?.filter(|name| !name.is_empty());
        let mut verifiers = match members.text("kty")?.as_deref() {
            Some("RSA") => rsa(&members, declared.as_deref())?,
            Some("EC") => elliptic(&members)?,
            Some("OKP") => edwards(&members)?,
            Some("oct") => return Err(Skipped::Secret),
            _ => return Err(Skipped::UnknownType),
        };
        verifiers.retain(|(algorithm, _)| declared.as_deref().is_none_or(|name| name == algorithm.name()));
        if verifiers.is_empty() {
            return Err(Skipped::Purpose);
        }
        Ok(Self { id, verifiers })
    }
}

fn check_purpose(members: &Members<'_>) -> Result<(), Skipped> {
    let purpose = members.text("use")?;
    let operations: Option<Vec<String>> = members.typed("key_ops")?;
    let signs = purpose.is_none_or(|purpose| purpose == "sig");
    let verifies = operations.is_none_or(|list| list.iter().any(|operation| operation == "verify"));
    if signs && verifies { Ok(()) } else { Err(Skipped::Purpose) }
}

fn bytes(members: &Members<'_>, name: &str) -> Result<Vec<u8>, Skipped> {
    let text = members.text(name)?.ok_or(Skipped::Malformed)?;
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Skipped::Malformed)
}

fn rsa(members: &Members<'_>, declared: Option<&str>) -> Result<Vec<(Algorithm, ParsedPublicKey)>, Skipped> {
    // Jenkins publishes n with a leading zero octet.
    let modulus = without_leading_zeros(bytes(members, "n")?);
    let exponent = without_leading_zeros(bytes(members, "e")?);
    let bits = modulus.len() * 8 - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let odd = modulus.last().is_some_and(|byte| byte % 2 == 1);
    if !odd || !(2048..=8192).contains(&bits) || exponent.len() > 5 {
        return Err(Skipped::Rsa);
    }
    // Exponents above 2^33 only burn CPU (CVE-2023-6237).
    let value = exponent.iter().fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    if value % 2 == 0 || !(3..1 << 33).contains(&value) {
        return Err(Skipped::Rsa);
    }
    let components = PublicKeyComponents { n: modulus.as_slice(), e: exponent.as_slice() };
    Algorithm::ALL
        .into_iter()
        // Each is parsed for itself, which for a set of large keys adds up.
        .filter(|algorithm| declared.is_none_or(|name| name == algorithm.name()))
        .filter_map(|algorithm| Some((algorithm, algorithm.rsa()?)))
        .map(|(algorithm, parameters)| {
            let key = components.to_parsed_public_key(parameters).map_err(|_| Skipped::Rsa)?;
            Ok((algorithm, key))
        })
        .collect()
}

fn elliptic(members: &Members<'_>) -> Result<Vec<(Algorithm, ParsedPublicKey)>, Skipped> {
    let curve = members.text("crv")?.ok_or(Skipped::Malformed)?;
    let (algorithm, verifier, length) = Algorithm::of_curve(&curve).ok_or(Skipped::UnknownType)?;
    let (x, y) = (bytes(members, "x")?, bytes(members, "y")?);
    if x.len() != length || y.len() != length {
        return Err(Skipped::Point);
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    let key = ParsedPublicKey::new(verifier, point).map_err(|_| Skipped::Point)?;
    Ok(vec![(algorithm, key)])
}

fn edwards(members: &Members<'_>) -> Result<Vec<(Algorithm, ParsedPublicKey)>, Skipped> {
    if members.text("crv")?.as_deref() != Some("Ed25519") {
        return Err(Skipped::UnknownType);
    }
    let point = bytes(members, "x")?;
    let key = ParsedPublicKey::new(&signature::ED25519, point).map_err(|_| Skipped::Point)?;
    Ok(vec![(Algorithm::EdDsa, key)])
}

fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}
