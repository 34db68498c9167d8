//! What a minted token says (reference: entra-token-service.md section 4).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;

use super::authorize::Grant;
use super::ids::Guid;
use super::resource::TokenVersion;

/// `iat` and `nbf` lie this far back, in seconds, as Entra's do, so that a resource whose clock is slow accepts the token.
const BACKDATE: i64 = 300;

/// The claims of one token. Everything in them comes from the [`Grant`], time and randomness: nothing that the
/// external token said of itself is passed on.
#[derive(Debug, Serialize)]
pub struct TokenClaims<'g> {
    aud: &'g str,
    iss: &'g str,
    iat: i64,
    nbf: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    appid: Option<Guid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    appidacr: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azp: Option<Guid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    azpacr: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idp: Option<&'g str>,
    idtyp: &'static str,
    oid: Guid,
    #[serde(skip_serializing_if = "no_roles")]
    roles: &'g [Arc<str>],
    sub: Guid,
    tid: Guid,
    uti: &'g str,
    ver: &'static str,
    xms_ficinfo: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    xms_mirid: Option<&'g str>,
}

fn no_roles(roles: &&[Arc<str>]) -> bool {
    roles.is_empty()
}

/// How the client proved itself: "2" is a certificate or assertion.
const BY_ASSERTION: &str = "2";

impl<'g> TokenClaims<'g> {
    /// The claims for a grant at a moment.
    pub fn new(grant: &'g Grant, now: i64, uti: &'g str) -> Self {
        let v1 = grant.version == TokenVersion::V1;
        Self {
            aud: &grant.audience,
            iss: &grant.issuer,
            iat: now - BACKDATE,
            nbf: now - BACKDATE,
            exp: now + i64::from(grant.lifetime),
            appid: v1.then_some(grant.client_id),
            appidacr: v1.then_some(BY_ASSERTION),
            azp: (!v1).then_some(grant.client_id),
            azpacr: (!v1).then_some(BY_ASSERTION),
            idp: v1.then_some(&*grant.issuer),
            idtyp: "app",
            oid: grant.principal_id,
            roles: &grant.roles,
            sub: grant.principal_id,
            tid: grant.tenant,
            uti,
            ver: if v1 { "1.0" } else { "2.0" },
            xms_ficinfo: "ficus",
            xms_mirid: grant.managed_identity.as_deref(),
        }
    }
}

impl TokenClaims<'_> {
    /// `nbf`.
    pub fn not_before(&self) -> i64 {
        self.nbf
    }

    /// `exp`.
    pub fn expires(&self) -> i64 {
        self.exp
    }
}

/// The unique token identifier: 128 random bits as 22 characters of base64url.
pub fn unique_token_id(random: [u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}
