//! Our own access tokens, presented to us: who calls the resource manager.
//!
//! A token that was minted for another API, that has ended, or whose identity is gone opens nothing. The checks of form,
//! signature and times are those of assertions ([`super::assertion`], [`super::verify`]), with our keys as the issuer's.
//! The other way about there is nothing: a [`Caller`] can't be matched, and so no token of ours can be exchanged.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::assertion::{Compact, UnverifiedAssertion};
use super::directory::Directory;
use super::ids::Guid;
use super::json::Members;
use super::keyset::KeySet;
use super::policy::IssuerPolicy;
use super::refusal::Refusal;
use super::resource::Target;
use super::tenant::Tenant;

/// Longest token, in bytes. Ours are shorter than 3 KiB unless an identity has very many roles.
const MAX_TOKEN: usize = 32 << 10;
/// What SDKs call the resource manager, whatever address it has (reference: azure-clients.md section 5).
const WELL_KNOWN: [&str; 2] = ["https://management.azure.com", "https://management.core.windows.net"];

/// Who presented a token of ours that is valid now: an enabled identity. Comes only from [`caller`].
#[derive(Debug)]
pub struct Caller<'d> {
    tenant: &'d Tenant,
    principal: Guid,
}

impl<'d> Caller<'d> {
    /// Its tenant.
    pub fn tenant(&self) -> &'d Tenant {
        self.tenant
    }

    /// The id that role assignments name.
    pub fn principal(&self) -> Guid {
        self.principal
    }
}

/// Why a token opens nothing. Before the signature holds there is one answer for everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Not a token that a key of ours signed, or not an access token.
    Invalid,
    /// It has ended.
    Expired {
        /// Its `exp`.
        expires: i64,
        /// When it was presented.
        now: i64,
    },
    /// It is for another API.
    Audience {
        /// Whose it is.
        tenant: Guid,
        /// Its `aud`.
        audience: String,
    },
    /// Its tenant is gone, or has another issuer now.
    Tenant {
        /// Its `iss`.
        issuer: String,
    },
    /// Its identity is gone or switched off.
    Identity {
        /// Where it was.
        tenant: Guid,
        /// Its `oid`.
        principal: Guid,
    },
}

/// The names of the resource manager at this origin, without their final slashes: a v1.0 token has one of them in `aud`,
/// with or without a slash.
pub fn resource_managers(origin: &str) -> [&str; 3] {
    let [first, second] = WELL_KNOWN;
    [first, second, origin]
}

/// Finds out who calls. `key` gives the published key of an id: a token under a key that is gone from our JWKS is no
/// better here than at any other API.
pub fn caller<'d>(
    token: &str,
    origin: &str,
    directory: &'d Directory,
    key: impl FnOnce(&str) -> Option<Arc<KeySet>>,
    now: i64,
) -> Result<Caller<'d>, Denied> {
    let claims = Claims::verified(token, key, now)?;
    let tenant = directory
        .tenant(&claims.tenant.to_string())
        .ok()
        .filter(|tenant| claims.issuer == *claims.issuer_of(tenant))
        .ok_or_else(|| Denied::Tenant { issuer: claims.issuer.clone() })?;
    if !is_resource_manager(tenant, &claims.audience, origin) {
        return Err(Denied::Audience { tenant: tenant.id, audience: claims.audience });
    }
    let identity = tenant.identity(&claims.client, "").ok();
    match identity.filter(|identity| identity.principal_id == claims.principal) {
        Some(_) => Ok(Caller { tenant, principal: claims.principal }),
        None => Err(Denied::Identity { tenant: tenant.id, principal: claims.principal }),
    }
}

/// Whether an audience is the resource manager: by one of its names, or by the id of the tenant's resource that has one.
fn is_resource_manager(tenant: &Tenant, audience: &str, origin: &str) -> bool {
    let names = resource_managers(origin);
    let bare = audience.strip_suffix('/').unwrap_or(audience);
    let owner = |name: &str| tenant.resource(&Target::Uri(name.to_owned()));
    names.contains(&bare)
        || Guid::parse(audience)
            .is_some_and(|id| names.iter().any(|name| owner(name).is_some_and(|owner| owner.client_id == id)))
}

/// What a token of ours says, once it is known to be one.
struct Claims {
    issuer: String,
    audience: String,
    tenant: Guid,
    principal: Guid,
    client: String,
    is_v1: bool,
}

impl Claims {
    fn verified(
        token: &str,
        key: impl FnOnce(&str) -> Option<Arc<KeySet>>,
        now: i64,
    ) -> Result<Self, Denied> {
        // No leeway: our clock made the token. It has no audience to match, since ours is looked at below.
        let policy = IssuerPolicy {
            algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
            leeway: std::time::Duration::ZERO,
            ..IssuerPolicy::standard("")
        };
        let assertion = Compact::new(token, MAX_TOKEN).and_then(UnverifiedAssertion::parse);
        let candidate = assertion.and_then(|read| read.admit(&policy)).map_err(|_| Denied::Invalid)?;
        let key_id = candidate.assertion.parts.header.key_id.as_deref().unwrap_or_default();
        let keys = key(key_id).ok_or(Denied::Invalid)?;
        let verified = candidate.verify(&keys, None, now).map_err(|refusal| match refusal {
            Refusal::Time { expires, .. } if expires <= now => Denied::Expired { expires, now },
            _ => Denied::Invalid,
        })?;
        let [audience] = verified.claims().audiences() else { return Err(Denied::Invalid) };
        let (issuer, audience) = (verified.claims().issuer().to_owned(), audience.clone());
        Self::read(token, issuer, audience).ok_or(Denied::Invalid)
    }

    /// The members that only our tokens have.
    fn read(token: &str, issuer: String, audience: String) -> Option<Self> {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
        let members = Members::read(&claims).ok()?;
        let text = |name: &str| members.text(name).ok().flatten();
        let is_v1 = match text("ver")?.as_str() {
            "1.0" => true,
            "2.0" => false,
            _ => return None,
        };
        Some(Self {
            issuer,
            audience,
            tenant: Guid::parse(&text("tid")?)?,
            principal: Guid::parse(&text("oid")?)?,
            client: text(if is_v1 { "appid" } else { "azp" })?,
            is_v1,
        })
    }

    fn issuer_of<'t>(&self, tenant: &'t Tenant) -> &'t str {
        if self.is_v1 { &tenant.issuer_v1 } else { &tenant.issuer_v2 }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::credential::{Identity, IdentityKind};
    use crate::domain::resource::{Resource, SigningAlgorithm, TokenVersion};
    use crate::domain::scope::ScopePath;

    const ORIGIN: &str = "https://sts.example:8443";
    const TENANT: &str = "11111111-1111-1111-1111-111111111111";
    const CLIENT: &str = "aaaaaaaa-0001-4a00-8000-000000000001";
    const PRINCIPAL: &str = "bbbbbbbb-0001-4a00-8000-000000000001";
    const MANAGER: &str = "cccccccc-0001-4a00-8000-000000000001";
    const NOW: i64 = 1_000_000;

    static PAIR: LazyLock<EcdsaKeyPair> =
        LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());

    fn guid(text: &str) -> Guid {
        Guid::parse(text).unwrap()
    }

    fn keys(kid: &str) -> Option<Arc<KeySet>> {
        let (x, y) = PAIR.public_key().as_ref()[1..].split_at(32);
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "kid": "k",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        let document = json!({ "keys": [jwk] }).to_string();
        (kid == "k").then(|| Arc::new(KeySet::parse(document.as_bytes()).unwrap().0))
    }

    fn sign(header: &Value, claims: &Value) -> String {
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let input = format!("{header}.{claims}");
        let signature = PAIR.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn header() -> Value {
        json!({ "typ": "JWT", "alg": "ES256", "kid": "k" })
    }

    /// The claims of a valid v1.0 token.
    fn claims() -> Value {
        json!({
            "aud": "https://management.azure.com", "iss": format!("{ORIGIN}/{TENANT}/"),
            "iat": NOW - 300, "nbf": NOW - 300, "exp": NOW + 1, "appid": CLIENT, "oid": PRINCIPAL,
            "sub": PRINCIPAL, "tid": TENANT, "ver": "1.0",
        })
    }

    fn directory(enabled: bool) -> Directory {
        let issuers = (format!("{ORIGIN}/{TENANT}/").into(), format!("{ORIGIN}/{TENANT}/v2.0").into());
        let mut tenant = Tenant::new(guid(TENANT), None, issuers);
        assert!(tenant.add_identity(Arc::new(Identity {
            name: "id".into(),
            client_id: guid(CLIENT),
            principal_id: guid(PRINCIPAL),
            resource_id: None,
            kind: IdentityKind::Application,
            enabled,
            location: None,
            tags: Default::default(),
            credentials: Vec::new(),
        })));
        let manager = Resource {
            name: "arm".into(),
            client_id: guid(MANAGER),
            identifier_uris: vec!["https://management.core.windows.net/".into()],
            scope: ScopePath::parse("/arm").unwrap(),
            token_version: TokenVersion::V2,
            signing_algorithm: SigningAlgorithm::Es256,
            token_lifetime: 3600,
            assignment_required: false,
        };
        tenant.add_resource(manager).unwrap();
        Directory::new(vec![tenant], Vec::new())
    }

    /// Who a token's bearer is, or why it is nobody.
    fn ask(directory: &Directory, token: &str) -> Result<Guid, Denied> {
        caller(token, ORIGIN, directory, keys, NOW).map(|caller| caller.principal())
    }

    /// The valid token with one claim changed, or taken away.
    fn with(name: &str, value: Value) -> String {
        let mut claims = claims();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        sign(&header(), &claims)
    }

    #[test]
    fn tokens_for_the_resource_manager_by_any_of_its_names() {
        let directory = directory(true);
        for name in [ORIGIN, "https://management.azure.com", "https://management.core.windows.net"] {
            for audience in [name.to_owned(), format!("{name}/")] {
                assert_eq!(ask(&directory, &with("aud", json!(audience))), Ok(guid(PRINCIPAL)), "{audience}");
            }
        }
        assert_eq!(ask(&directory, &with("aud", json!(MANAGER))), Ok(guid(PRINCIPAL)));
        let mut v2 = claims();
        v2["ver"] = json!("2.0");
        v2["iss"] = json!(format!("{ORIGIN}/{TENANT}/v2.0"));
        v2["azp"] = v2["appid"].take();
        assert_eq!(ask(&directory, &sign(&header(), &v2)), Ok(guid(PRINCIPAL)));
    }

    #[test]
    fn another_audience_opens_nothing() {
        let directory = directory(true);
        for audience in [
            "https://vault.azure.net",
            "https://management.azure.com//",
            "https://management.azure.com.example",
            "https://Management.azure.com",
            "https://sts.example",
            CLIENT,
            "",
        ] {
            let denied = ask(&directory, &with("aud", json!(audience))).unwrap_err();
            let expected = Denied::Audience { tenant: guid(TENANT), audience: audience.to_owned() };
            assert_eq!(denied, if audience.is_empty() { Denied::Invalid } else { expected });
        }
        let two = json!(["https://management.azure.com", ORIGIN]);
        assert_eq!(ask(&directory, &with("aud", two)), Err(Denied::Invalid));
    }

    #[test]
    fn what_is_no_token_of_ours_opens_nothing() {
        let directory = directory(true);
        let good = sign(&header(), &claims());
        assert!(ask(&directory, &good).is_ok());
        let (input, _) = good.rsplit_once('.').unwrap();
        let other = sign(&header(), &json!({}));
        for wrong in [
            String::new(),
            "opaque".to_owned(),
            format!("{input}."),
            format!("{input}.{}", other.rsplit_once('.').unwrap().1),
            good.clone() + "x",
            " ".to_owned() + &good,
            with("x", json!("x".repeat(MAX_TOKEN))),
        ] {
            assert_eq!(ask(&directory, &wrong), Err(Denied::Invalid), "{wrong:.60}");
        }
        for (name, value) in [
            ("kid", json!("gone")),
            ("kid", Value::Null),
            ("kid", json!("")),
            ("alg", json!("none")),
            ("alg", json!("HS256")),
            ("alg", json!("ES384")),
            ("alg", json!("RS256")),
            ("typ", json!("at+jwt")),
            ("crit", json!(["exp"])),
        ] {
            let mut header = header();
            header[name] = value;
            assert_eq!(ask(&directory, &sign(&header, &claims())), Err(Denied::Invalid), "{header}");
        }
        for name in ["aud", "iss", "iat", "exp", "appid", "oid", "sub", "tid", "ver"] {
            assert_eq!(ask(&directory, &with(name, Value::Null)), Err(Denied::Invalid), "{name}");
            assert_eq!(ask(&directory, &with(name, json!([7]))), Err(Denied::Invalid), "{name}");
        }
        assert_eq!(ask(&directory, &with("ver", json!("3.0"))), Err(Denied::Invalid));
        assert_eq!(ask(&directory, &with("nbf", json!(NOW + 1))), Err(Denied::Invalid));
    }

    #[test]
    fn times_hold_to_the_second() {
        let directory = directory(true);
        let expired = Err(Denied::Expired { expires: NOW, now: NOW });
        assert_eq!(ask(&directory, &with("exp", json!(NOW))), expired);
        assert!(ask(&directory, &with("nbf", json!(NOW))).is_ok());
    }

    #[test]
    fn tenant_issuer_and_version_belong_together() {
        let directory = directory(true);
        let own = format!("{ORIGIN}/{TENANT}/");
        let v2 = format!("{ORIGIN}/{TENANT}/v2.0");
        for issuer in [v2.as_str(), "https://sts.example:8443/", "https://issuer.example"] {
            let denied = Denied::Tenant { issuer: issuer.to_owned() };
            assert_eq!(ask(&directory, &with("iss", json!(issuer))), Err(denied));
        }
        for tenant in ["22222222-2222-2222-2222-222222222222", "00000000-0000-0000-0000-000000000000"] {
            let denied = Denied::Tenant { issuer: own.clone() };
            assert_eq!(ask(&directory, &with("tid", json!(tenant))), Err(denied));
        }
        assert_eq!(ask(&directory, &with("tid", json!("common"))), Err(Denied::Invalid));
    }

    #[test]
    fn the_identity_must_be_there_still() {
        let denied = |principal| Err(Denied::Identity { tenant: guid(TENANT), principal: guid(principal) });
        let good = sign(&header(), &claims());
        assert_eq!(ask(&directory(false), &good), denied(PRINCIPAL));
        assert_eq!(ask(&directory(true), &with("oid", json!(CLIENT))), denied(CLIENT));
        assert_eq!(ask(&directory(true), &with("appid", json!(PRINCIPAL))), denied(PRINCIPAL));
    }
}
