//! Whether a token is good here, as any API in Rust would find out: with `jsonwebtoken` and the authority's keys.

use std::collections::HashMap;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

/// What the authority's documents say.
#[derive(Debug)]
pub(super) struct Trusted {
    /// The issuer of tokens of each version.
    pub(super) issuers: Vec<(&'static str, String)>,
    /// Usable keys by id.
    pub(super) keys: HashMap<String, Jwk>,
}

/// What is asked of a token besides.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) audience: String,
    pub(super) tenant: String,
    pub(super) role: String,
}

/// Who presented a good token, and whether that is enough.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) application: String,
    pub(super) principal: String,
    pub(super) issuer: String,
    pub(super) has_role: bool,
}

/// What is wrong with a token. Nothing of the token is in it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Flaw {
    // The first four are what the real service says; the others have no code, since those are not documented.
    #[error("AKV10000: Request is missing a Bearer or PoP token.")]
    Absent,
    #[error("AKV10022: Invalid audience. Expected {0}.")]
    Audience(String),
    #[error("AKV10032: Invalid issuer. Expected one of {0}.")]
    Issuer(String),
    #[error("AKV10046: Unable to resolve the key used for signature validation.")]
    Key,
    #[error("The token is not a JWT in compact form.")]
    Form,
    #[error("The token's algorithm is neither RS256 nor ES256, or not its key's.")]
    Algorithm,
    #[error("The token's header demands what is not understood here (crit).")]
    Critical,
    #[error("The token's signature does not hold.")]
    Signature,
    #[error("The token has expired.")]
    Expired,
    #[error("The token is not valid yet.")]
    Early,
    #[error("The token's tenant is not {0}.")]
    Tenant(String),
    #[error(
        "A claim that is needed is missing or of another type: aud, iss, exp, nbf, tid, ver, oid, roles."
    )]
    Claims,
}

/// Read only when the signature has been found good. Twice the same member is an error, and so is an array for `aud`.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(rename = "aud")]
    _audience: String,
    tid: String,
    ver: String,
    oid: String,
    /// v1.0 tokens have this one.
    appid: Option<String>,
    /// v2.0 tokens have this one.
    azp: Option<String>,
    #[serde(default)]
    roles: Vec<String>,
}

/// The id of the key that a token says it is signed with, once its header is fit to be looked at.
pub(super) fn key_id(token: &str) -> Result<String, Flaw> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        // An algorithm that the library has never heard of, `none` among them, fails in its JSON.
        ErrorKind::InvalidAlgorithmName | ErrorKind::Json(_) => Flaw::Algorithm,
        _ => Flaw::Form,
    })?;
    if !matches!(header.alg, Algorithm::RS256 | Algorithm::ES256) {
        return Err(Flaw::Algorithm);
    }
    // The library knows the member and passes over it.
    if header.crit.is_some() {
        return Err(Flaw::Critical);
    }
    header.kid.ok_or(Flaw::Key)
}

/// Checks everything but the role, and looks the role up.
pub(super) fn judge(token: &str, trusted: &Trusted, rules: &Rules) -> Result<Caller, Flaw> {
    let key = trusted.keys.get(&key_id(token)?).ok_or(Flaw::Key)?;
    // The key decides, not the header: `decode` refuses a token that says otherwise.
    let algorithm = match key.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(_) => Algorithm::ES256,
        _ => return Err(Flaw::Key),
    };
    let key = DecodingKey::from_jwk(key).map_err(|_| Flaw::Key)?;
    let mut validation = Validation::new(algorithm);
    // Nobody's clock is late: the broker's tokens begin five minutes before they are made.
    validation.leeway = 0;
    validation.validate_nbf = true;
    validation.set_required_spec_claims(&["aud", "exp", "iss", "nbf"]);
    validation.set_audience(&[&rules.audience]);
    validation.iss = Some(trusted.issuers.iter().map(|(_, issuer)| issuer.clone()).collect());
    let claims = decode::<Claims>(token, &key, &validation)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Flaw::Signature,
            ErrorKind::InvalidAlgorithm => Flaw::Algorithm,
            ErrorKind::ExpiredSignature => Flaw::Expired,
            ErrorKind::ImmatureSignature => Flaw::Early,
            ErrorKind::InvalidAudience => Flaw::Audience(rules.audience.clone()),
            ErrorKind::InvalidIssuer => issuer(trusted),
            ErrorKind::Json(_) | ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
                Flaw::Claims
            }
            _ => Flaw::Form,
        })?
        .claims;
    // An issuer for each version, and each version has its issuer.
    if !trusted.issuers.iter().any(|(version, issuer)| *version == claims.ver && *issuer == claims.iss) {
        return Err(issuer(trusted));
    }
    // An authority signs for all its tenants with the same keys.
    if claims.tid != rules.tenant {
        return Err(Flaw::Tenant(rules.tenant.clone()));
    }
    Ok(Caller {
        application: claims.appid.or(claims.azp).ok_or(Flaw::Claims)?,
        principal: claims.oid,
        issuer: claims.iss,
        has_role: claims.roles.contains(&rules.role),
    })
}

fn issuer(trusted: &Trusted) -> Flaw {
    let issuers: Vec<_> = trusted.issuers.iter().map(|(_, issuer)| issuer.as_str()).collect();
    Flaw::Issuer(issuers.join(", "))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use jsonwebtoken::jwk::PublicKeyUse;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use serde_json::{Value, json};

    use super::super::super::keys::{IssuerKey, KeyStyle};
    use super::*;
    use crate::clock::Clock;

    const TENANT: &str = "11111111-1111-1111-1111-111111111111";
    const V1: &str = "https://sts.example/11111111-1111-1111-1111-111111111111/";
    const V2: &str = "https://sts.example/11111111-1111-1111-1111-111111111111/v2.0";

    static RSA: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::rsa(KeyStyle::Thumbprint, 0));
    static OTHER: LazyLock<IssuerKey> = LazyLock::new(|| IssuerKey::rsa(KeyStyle::Thumbprint, 0));
    static CURVE: LazyLock<(EncodingKey, Jwk)> = LazyLock::new(|| {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let private = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        let mut public = Jwk::from_encoding_key(&private, Algorithm::ES256).unwrap();
        public.common.key_id = Some("curve".to_owned());
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        (private, public)
    });

    fn trusted() -> Trusted {
        let rsa: Jwk = serde_json::from_value(RSA.public_jwk().clone()).unwrap();
        let keys = [(RSA.id().to_owned(), rsa), ("curve".to_owned(), CURVE.1.clone())];
        Trusted { issuers: vec![("1.0", V1.to_owned()), ("2.0", V2.to_owned())], keys: keys.into() }
    }

    fn rules() -> Rules {
        Rules {
            audience: "https://vault.azure.net".to_owned(),
            tenant: TENANT.to_owned(),
            role: "Key Vault Secrets User".to_owned(),
        }
    }

    /// The claims of a good v1.0 token, as the broker mints it.
    fn good() -> Value {
        let now = Clock::system().now();
        json!({
            "aud": "https://vault.azure.net", "iss": V1, "iat": now - 300, "nbf": now - 300, "exp": now + 3600,
            "appid": "application", "oid": "principal", "sub": "principal", "tid": TENANT, "ver": "1.0",
            "roles": ["Key Vault Secrets User", "Storage Blob Data Contributor"],
        })
    }

    fn of(header: &Value, claims: &Value) -> Result<Caller, Flaw> {
        judge(&RSA.sign(header, claims), &trusted(), &rules())
    }

    /// What becomes of the good token when one claim is another (`null` takes it out).
    fn with(name: &str, value: Value) -> Result<Caller, Flaw> {
        let mut claims = good();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        of(&RSA.header(), &claims)
    }

    /// The same for the header.
    fn with_header(name: &str, value: Value) -> Result<Caller, Flaw> {
        let mut header = RSA.header();
        match value {
            Value::Null => drop(header.as_object_mut().unwrap().remove(name)),
            value => header[name] = value,
        }
        of(&header, &good())
    }

    fn allowed() -> Result<Caller, Flaw> {
        let (application, principal) = ("application".to_owned(), "principal".to_owned());
        Ok(Caller { application, principal, issuer: V1.to_owned(), has_role: true })
    }

    fn without_role() -> Result<Caller, Flaw> {
        allowed().map(|caller| Caller { has_role: false, ..caller })
    }

    #[test]
    fn a_good_token_is_good_and_the_role_decides() {
        assert_eq!(of(&RSA.header(), &good()), allowed());
        assert_eq!(with("roles", Value::Null), without_role());
        assert_eq!(with("roles", json!([])), without_role());
        for near in ["Key Vault Secrets Officer", "key vault secrets user", "Key Vault Secrets User "] {
            assert_eq!(with("roles", json!([near])), without_role(), "{near}");
        }
        assert_eq!(with("roles", json!("Key Vault Secrets User")), Err(Flaw::Claims));
    }

    #[test]
    fn v2_tokens_on_a_curve_are_as_good() {
        let mut claims = good();
        claims["iss"] = json!(V2);
        claims["ver"] = json!("2.0");
        claims["azp"] = claims["appid"].take();
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("curve".to_owned());
        let token = encode(&header, &claims, &CURVE.0).unwrap();
        let caller = judge(&token, &trusted(), &rules());
        assert_eq!(caller, allowed().map(|caller| Caller { issuer: V2.to_owned(), ..caller }));
    }

    #[test]
    fn times_hold_to_the_second() {
        let now = Clock::system().now();
        assert_eq!(with("exp", json!(now + 30)), allowed());
        assert_eq!(with("exp", json!(now - 1)), Err(Flaw::Expired));
        assert_eq!(with("nbf", json!(now)), allowed());
        assert_eq!(with("nbf", json!(now + 30)), Err(Flaw::Early));
        for name in ["exp", "nbf"] {
            assert_eq!(with(name, Value::Null), Err(Flaw::Claims), "{name}");
            assert_eq!(with(name, json!("soon")), Err(Flaw::Claims), "{name}");
        }
    }

    #[test]
    fn the_audience_is_the_resource_byte_for_byte() {
        for other in ["https://vault.azure.net/", "https://Vault.azure.net", "https://storage.azure.com", ""]
        {
            assert_eq!(with("aud", json!(other)), Err(Flaw::Audience(rules().audience)), "{other}");
        }
        for other in [Value::Null, json!(["https://vault.azure.net"]), json!(1)] {
            assert_eq!(with("aud", other.clone()), Err(Flaw::Claims), "{other}");
        }
    }

    #[test]
    fn issuer_and_version_belong_together_and_the_tenant_is_ours() {
        let issuer = || Err(Flaw::Issuer(format!("{V1}, {V2}")));
        for other in [V2, V1.trim_end_matches('/'), "https://sts.example/", ""] {
            assert_eq!(with("iss", json!(other)), issuer(), "{other}");
        }
        assert_eq!(with("ver", json!("2.0")), issuer());
        assert_eq!(with("ver", json!("3.0")), issuer());
        let other = TENANT.replace('1', "2");
        assert_eq!(with("tid", json!(other)), Err(Flaw::Tenant(TENANT.to_owned())));
        for name in ["iss", "ver", "tid", "oid", "appid"] {
            assert_eq!(with(name, Value::Null), Err(Flaw::Claims), "{name}");
        }
    }

    #[test]
    fn headers_that_promise_something_else_are_refused() {
        for other in ["none", "HS256", "RS512", "PS256", "ES384"] {
            assert_eq!(with_header("alg", json!(other)), Err(Flaw::Algorithm), "{other}");
        }
        // Allowed here, but not what this key is for.
        assert_eq!(with_header("alg", json!("ES256")), Err(Flaw::Algorithm));
        assert_eq!(with_header("crit", json!(["exp"])), Err(Flaw::Critical));
        assert_eq!(with_header("kid", Value::Null), Err(Flaw::Key));
        assert_eq!(with_header("kid", json!(OTHER.id())), Err(Flaw::Key));
        assert_eq!(with_header("typ", Value::Null), allowed());
    }

    #[test]
    fn signatures_of_other_keys_and_changed_claims_are_refused() {
        let token = OTHER.sign(&RSA.header(), &good());
        assert_eq!(judge(&token, &trusted(), &rules()), Err(Flaw::Signature));

        let mut richer = good();
        richer["oid"] = json!("somebody else");
        let (token, other) = (RSA.sign(&RSA.header(), &good()), RSA.sign(&RSA.header(), &richer));
        let (_, signature) = token.rsplit_once('.').unwrap();
        let (message, _) = other.rsplit_once('.').unwrap();
        let forged = format!("{message}.{signature}");
        assert_eq!(judge(&forged, &trusted(), &rules()), Err(Flaw::Signature));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for garbage in ["", "garbage", "a.b", "a.b.c", "e30.e30.", "....", "\u{0}"] {
            assert!(matches!(key_id(garbage), Err(Flaw::Form | Flaw::Algorithm)), "{garbage:?}");
        }
        let claims = good().to_string();
        let twice = format!("{},\"tid\":\"{TENANT}\"}}", claims.trim_end_matches('}'));
        assert_eq!(
            judge(&RSA.sign_raw(&RSA.header().to_string(), &twice), &trusted(), &rules()),
            Err(Flaw::Claims)
        );
    }
}
