//! Granted answers, looked at by another verifier than the broker's own, with the keys that it publishes.

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Failure;
use crate::client;
use crate::recorder::Sample;
use crate::report::Check;
use crate::scenario::Traffic;
use crate::shape::Shape;
use crate::signer::Algorithm;
use crate::world::{self, TENANT, resource};

/// Seconds that `iat` lies back, for clocks that are behind.
const BACKDATED: i64 = 300;

#[derive(Deserialize)]
struct Granted {
    access_token: String,
}

/// Checks signature and claims of each sample.
pub(crate) async fn check(
    url: &str,
    ca: &[u8],
    (traffic, shape): (&Traffic, &Shape),
    samples: &[Sample],
) -> Result<Check, Failure> {
    let mut keys = Vec::new();
    if !samples.is_empty() {
        let version = if resource(traffic.token).version == "2.0" { "/v2.0" } else { "" };
        let url = format!("{url}/{TENANT}{version}/.well-known/openid-configuration");
        let discovery: Value = serde_json::from_slice(&client::get(&url, Some(ca)).await?.body)?;
        let jwks = discovery["jwks_uri"].as_str().ok_or("the discovery document has no jwks_uri")?;
        let jwks: JwkSet = serde_json::from_slice(&client::get(jwks, Some(ca)).await?.body)?;
        let issuer = discovery["issuer"].as_str().ok_or("the discovery document has no issuer")?.to_owned();
        keys.push((jwks, issuer));
    }
    Ok(each(samples, "claims as configured", &|sample| {
        let (jwks, issuer) = &keys[0];
        let expected =
            Expected { traffic, identity: shape.asked_for(sample.number).0, roles: shape.roles, issuer };
        expected.verify(jwks, &sample.body)
    }))
}

/// Checks that a peer signs as our broker does: what its tokens say is its own affair.
pub(crate) async fn of_a_peer(
    keys: &str,
    ca: &[u8],
    algorithm: Algorithm,
    samples: &[Sample],
) -> Result<Check, Failure> {
    let keys: JwkSet = serde_json::from_slice(&client::get(keys, Some(ca)).await?.body)?;
    let mut validation = Validation::new(algorithm.name().parse()?);
    validation.validate_aud = false;
    Ok(each(samples, "by the peer's keys", &|sample| verify(&keys, &sample.body, &validation).map(drop)))
}

fn each(samples: &[Sample], how: &str, verify: &dyn Fn(&Sample) -> Result<(), Failure>) -> Check {
    let fault = samples
        .iter()
        .find_map(|sample| verify(sample).err().map(|error| format!("token {}: {error}", sample.number)));
    let found = fault.clone().unwrap_or_else(|| format!("{} tokens verified, {how}", samples.len()));
    Check { what: "sampled tokens are sound".to_owned(), holds: fault.is_none(), found }
}

/// The claims of a granted token.
fn verify(keys: &JwkSet, body: &[u8], validation: &Validation) -> Result<Value, Failure> {
    let Granted { access_token } = serde_json::from_slice(body)?;
    let kid = decode_header(&access_token)?.kid.ok_or("no kid")?;
    let key = DecodingKey::from_jwk(keys.find(&kid).ok_or("its key is not published")?)?;
    Ok(decode::<Value>(&access_token, &key, validation)?.claims)
}

/// What one token is to say.
struct Expected<'a> {
    traffic: &'a Traffic,
    identity: usize,
    roles: usize,
    issuer: &'a str,
}

impl Expected<'_> {
    fn verify(&self, keys: &JwkSet, body: &[u8]) -> Result<(), Failure> {
        let (algorithm, resource) = (self.traffic.token.name(), resource(self.traffic.token));
        let mut validation = Validation::new(algorithm.parse()?);
        validation.set_audience(&[resource.uri, resource.client_id]);
        validation.set_issuer(&[self.issuer]);
        validation.validate_nbf = true;
        let claims = verify(keys, body, &validation)?;

        let mut roles: Vec<_> = (0..self.roles).map(|role| json!(format!("Load.Role.{role}"))).collect();
        roles.sort_by_key(Value::to_string);
        let mut said = claims["roles"].clone();
        if let Some(said) = said.as_array_mut() {
            said.sort_by_key(Value::to_string);
        }
        // Who has none has no such claim.
        let roles = if roles.is_empty() { Value::Null } else { json!(roles) };
        let principal = world::principal_id(self.identity);
        let client = if resource.version == "2.0" { "azp" } else { "appid" };
        let expected = [
            ("tid", json!(TENANT), &claims["tid"]),
            ("oid", json!(principal), &claims["oid"]),
            ("sub", json!(principal), &claims["sub"]),
            (client, json!(world::client_id(self.identity)), &claims[client]),
            ("ver", json!(resource.version), &claims["ver"]),
            ("roles", roles, &said),
        ];
        if let Some((name, wanted, found)) = expected.iter().find(|(_, wanted, found)| wanted != *found) {
            return Err(format!("{name} is {found}, not {wanted}").into());
        }
        let life = claims["exp"].as_i64().zip(claims["iat"].as_i64()).map(|(exp, iat)| exp - iat);
        match life {
            Some(life) if life == resource.lifetime + BACKDATED => Ok(()),
            life => Err(format!("lives {life:?} seconds, not {}", resource.lifetime + BACKDATED).into()),
        }
    }
}
