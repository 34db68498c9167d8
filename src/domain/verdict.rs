//! What a token with these claims would get: the checks of serving in their order, with the signature and the times taken for
//! granted. Nothing can be granted here: no match comes of it, and no grant.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::assertion::{Compact, UnverifiedAssertion};
use super::authorize::suppose;
use super::credential::Credential;
use super::directory::Directory;
use super::matching;
use super::nearmiss::{self, Case, NearMiss, Said};
use super::refusal::{Reason, Refusal};
use super::resource::Target;

/// When it is asked, in seconds since 1970. The token has just been issued, whatever the claims say of times.
const NOW: i64 = 0;
/// The shortest life, so that no limit of lifetimes is in the way.
const EXPIRES: i64 = 1;

/// What a token says, written as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    issuer: String,
    json: String,
}

impl Claims {
    /// These claims; those of times are replaced.
    pub fn new(mut claims: Map<String, Value>) -> Self {
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default().to_owned();
        claims.remove("nbf");
        claims.extend([("iat".to_owned(), NOW.into()), ("exp".to_owned(), EXPIRES.into())]);
        Self { issuer, json: Value::Object(claims).to_string() }
    }

    /// What a token says that a credential is for.
    pub fn of(credential: &Credential) -> Self {
        let claims = [
            ("iss", &*credential.issuer),
            ("sub", credential.subject.as_str()),
            ("aud", credential.audience.as_str()),
        ];
        Self::new(claims.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }

    /// `iss`; empty without one.
    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `sub`, if it is a text.
    pub(super) fn subject(&self) -> Option<String> {
        self.json()["sub"].as_str().map(str::to_owned)
    }

    /// The claims, without those of times.
    pub fn json(&self) -> Value {
        let mut claims: Map<String, Value> = serde_json::from_str(&self.json).unwrap_or_default();
        claims.retain(|name, _| !["iat", "exp"].contains(&name.as_str()));
        claims.into()
    }

    /// A token without a signature, with an algorithm that its issuer may use.
    fn token(&self, directory: &Directory) -> String {
        let algorithm = directory.policy(&self.issuer).and_then(|policy| policy.algorithms.first());
        let header = json!({ "alg": algorithm.map_or("RS256", |algorithm| algorithm.name()), "kid": "-" });
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", encode(&header.to_string()), encode(&self.json))
    }
}

/// Who asks for what, with which token.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The tenant, by id or domain.
    pub tenant: &'a str,
    /// The identity, by client id.
    pub client: &'a str,
    /// What the token says.
    pub claims: &'a Claims,
    /// The resource; without one, roles are not looked at.
    pub target: Option<&'a Target>,
}

impl Question<'_> {
    /// The credential that would grant, or why nothing does: the sequence of `Exchange::decide` short of the mint.
    pub fn verdict<'d>(&self, directory: &'d Directory) -> Result<&'d Credential, Refusal> {
        let token = self.claims.token(directory);
        let tenant = directory.tenant(self.tenant)?;
        let identity = tenant.identity(self.client, self.tenant)?;
        let assertion = UnverifiedAssertion::parse(Compact::new(&token, usize::MAX)?)?;
        let policy = directory.trusted((identity, self.client), assertion.unverified_issuer()?)?;
        let candidate = assertion.admit(policy)?;
        let claims = candidate.without_signature(NOW)?;
        let credential = matching::fitting(identity, &claims)?;
        match self.target {
            Some(target) => suppose((tenant, identity), target, self.tenant).map(|_| credential),
            None => Ok(credential),
        }
    }

    /// Why it was refused, as the record of a broker would have it.
    pub fn near<'d>(&self, directory: &'d Directory, reason: Reason) -> Option<NearMiss<'d>> {
        let token = self.claims.token(directory);
        let assertion = Compact::new(&token, usize::MAX).and_then(UnverifiedAssertion::parse);
        let said = assertion.map(|assertion| Said::from(assertion.hearsay())).unwrap_or_default();
        let tenant = directory.tenant(self.tenant).ok();
        let identity = tenant.and_then(|tenant| tenant.named(self.client));
        let client = self.client;
        nearmiss::investigate(&Case { directory, tenant, identity, client, said: &said, reason, now: NOW })
    }
}
