//! Kubernetes clusters: documents, key set, and service-account tokens by the TokenRequest API.
//!
//! What a provider of clusters does in its own way is its [`Profile`], in a file of its own.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Builder;

use super::documents::{Document, Documents, Fault};
use super::jobs::{TokenRequest, bearer, new_bearer};
use super::keys::{IssuerKey, KeySize, KeyStyle};
use super::keyset::KeySet;
use super::server::{Answer, Platform};
use crate::clock::{Clock, UnixTime, random};

/// Bounds of `expirationSeconds`.
const SHORTEST: i64 = 600;
const TOO_LONG: i64 = (1 << 32) + 1;
/// What it is when nobody says.
const LIFETIME: i64 = 3600;

/// How a cluster is emulated.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What is published as the issuer; `None` is where it really is.
    pub issuer: Option<String>,
}

/// A service account, perhaps in a pod, and how long its token lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pod that the token is bound to, as those are that a pod finds mounted.
    pub pod: Option<String>,
    /// Seconds from `iat` to `exp`.
    pub lifetime: i64,
}

impl ServiceAccount {
    /// With a token of an hour that is bound to no pod.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned(), pod: None, lifetime: LIFETIME }
    }

    /// The `sub`.
    pub fn subject(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }

    /// The object claim: what the subject says, and ids that a new account of the same name does not share.
    fn claim(&self) -> Value {
        let named = |name: &str| json!({ "name": name, "uid": new_uuid() });
        let mut claim = json!({ "namespace": self.namespace, "serviceaccount": named(&self.name) });
        if let Some(pod) = &self.pod {
            claim["pod"] = named(pod);
            claim["node"] = named("node-pool-1-0");
        }
        claim
    }
}

/// What is a provider's own.
pub(super) struct Profile {
    /// In front of everything on the emulator's server.
    pub(super) prefix: &'static str,
    /// The issuer of the sample.
    pub(super) issuer: &'static str,
    /// The key set's path below the issuer.
    pub(super) jwks: &'static str,
    pub(super) jwks_type: &'static str,
    pub(super) cache_control: Option<&'static str>,
    /// How many keys there are; the first signs.
    pub(super) keys: usize,
    /// Members of the discovery document besides those of every cluster.
    pub(super) members: Value,
    /// Longer tokens are shortened without a word.
    pub(super) longest: i64,
}

/// An emulated cluster, and the part of its API that gives tokens.
#[derive(Debug)]
pub struct Cluster {
    issuer: String,
    origin: String,
    /// The paths of the documents, and what is in front of `NAMESPACE/serviceaccounts/NAME/token`.
    discovery: String,
    jwks: String,
    namespaces: String,
    members: Value,
    longest: i64,
    clock: Clock,
    keys: KeySet,
    documents: Documents,
    /// Of an administrator: it gets tokens of every service account, and every service account exists.
    bearer: String,
}

impl Cluster {
    pub(super) fn new(profile: Profile, settings: Settings, origin: &str, clock: Clock) -> Self {
        let path = |issuer: &str| url::Url::parse(issuer).map_or(String::new(), |url| url.path().to_owned());
        let place =
            format!("{}{}", profile.prefix, path(settings.issuer.as_deref().unwrap_or(profile.issuer)));
        // An issuer that ends in a slash has no second one in front of its documents.
        let below = place.trim_end_matches('/');
        let documents = Documents::new(profile.cache_control.map(HeaderValue::from_static));
        Self {
            discovery: format!("{below}/.well-known/openid-configuration"),
            jwks: format!("{below}{}", profile.jwks),
            namespaces: format!("{}/api/v1/namespaces/", profile.prefix),
            issuer: settings.issuer.unwrap_or_else(|| format!("{origin}{place}")),
            origin: origin.to_owned(),
            members: profile.members,
            longest: profile.longest,
            keys: KeySet::new(vec![(KeyStyle::Kubernetes, KeySize::Rsa2048); profile.keys], clock.now()),
            clock,
            documents: documents.jwks_type(profile.jwks_type),
            bearer: new_bearer(),
        }
    }

    /// The `iss` of tokens, and the issuer in the document at [`Cluster::discovery_url`].
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where that issuer's document really is.
    pub fn discovery_url(&self) -> String {
        format!("{}{}", self.origin, self.discovery)
    }

    /// Where the key set really is.
    pub fn jwks_url(&self) -> String {
        format!("{}{}", self.origin, self.jwks)
    }

    /// The keys as published; the first signs. The first call makes them.
    pub fn keys(&self) -> &[IssuerKey] {
        self.keys.keys()
    }

    /// Where to POST a `TokenRequest` for this service account.
    pub fn token_request(&self, namespace: &str, name: &str) -> TokenRequest {
        let url = format!("{}{}{namespace}/serviceaccounts/{name}/token", self.origin, self.namespaces);
        TokenRequest { url, token: self.bearer.clone() }
    }

    /// A token of this service account.
    pub fn assertion(&self, account: &ServiceAccount, audiences: &[&str]) -> String {
        let key = &self.keys()[0];
        key.sign(&key.header(), &self.claims(account, audiences))
    }

    /// The claims of such a token, for those who forge one.
    pub fn claims(&self, account: &ServiceAccount, audiences: &[&str]) -> Value {
        let now = self.clock.now();
        json!({
            "iss": self.issuer,
            "sub": account.subject(),
            "aud": audiences,
            "iat": now,
            "nbf": now,
            "exp": now.saturating_add(account.lifetime.min(self.longest)),
            "jti": new_uuid(),
            "kubernetes.io": account.claim(),
        })
    }

    /// How often a document was asked for, faults included.
    pub fn requests(&self, document: Document) -> u64 {
        self.documents.requests(document)
    }

    /// Breaks a document until it is mended with `None`.
    pub fn set_fault(&self, document: Document, fault: impl Into<Option<Fault>>) {
        self.documents.set_fault(document, fault.into());
    }

    /// Has no authorization endpoint: nobody logs in to a cluster's issuer.
    fn discovery(&self) -> Answer {
        let mut document = json!({
            "issuer": self.issuer,
            "jwks_uri": self.jwks_url(),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        for (name, value) in self.members.as_object().into_iter().flatten() {
            document[name.as_str()] = value.clone();
        }
        self.documents.answer(Document::Discovery, document.to_string().into())
    }

    /// The TokenRequest API.
    fn create_token(&self, account: ServiceAccount, request: &Request<Bytes>) -> Answer {
        if bearer(request.headers()) != Some(&self.bearer) {
            return failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
        }
        let Ok(asked) = serde_json::from_slice::<Map<String, Value>>(request.body()) else {
            return failure(StatusCode::BAD_REQUEST, "BadRequest", "the body is not a TokenRequest in JSON");
        };
        let spec = asked.get("spec").cloned().unwrap_or_default();
        let lifetime = spec["expirationSeconds"].as_i64().unwrap_or(LIFETIME);
        let broken = match lifetime {
            ..SHORTEST => Some("may not specify a duration less than 10 minutes"),
            TOO_LONG.. => Some("may not specify a duration larger than 2^32 seconds"),
            _ => None,
        };
        if let Some(broken) = broken {
            let text = format!(
                "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: {lifetime}: {broken}"
            );
            return failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &text);
        }
        let mut audiences: Vec<&str> =
            spec["audiences"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if audiences.is_empty() {
            // The audience of the cluster's own API, which goes by the issuer's name.
            audiences.push(&self.issuer);
        }
        let bound = &spec["boundObjectRef"];
        let pod = (bound["kind"] == "Pod").then(|| bound["name"].as_str().map(str::to_owned)).flatten();
        let account = ServiceAccount { pod, lifetime: lifetime.min(self.longest), ..account };
        self.created(&account, &audiences)
    }

    fn created(&self, account: &ServiceAccount, audiences: &[&str]) -> Answer {
        let now = self.clock.now();
        let answer = json!({
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {
                "name": account.name,
                "namespace": account.namespace,
                "creationTimestamp": timestamp(now),
            },
            "spec": { "audiences": audiences, "expirationSeconds": account.lifetime, "boundObjectRef": null },
            "status": {
                "token": self.assertion(account, audiences),
                "expirationTimestamp": timestamp(now.saturating_add(account.lifetime)),
            },
        });
        Answer::json(StatusCode::CREATED, answer.to_string())
    }

    /// The service account whose tokens are asked for at this path.
    fn account(&self, path: &str) -> Option<ServiceAccount> {
        let parts: Vec<_> = path.strip_prefix(&self.namespaces)?.split('/').collect();
        let label = |text: &str| {
            !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        };
        match parts[..] {
            [namespace, "serviceaccounts", name, "token"] if label(namespace) && label(name) => {
                Some(ServiceAccount::new(namespace, name))
            }
            _ => None,
        }
    }
}

impl Platform for Cluster {
    fn answer(&self, request: &Request<Bytes>) -> Option<Answer> {
        let path = request.uri().path();
        match *request.method() {
            Method::GET if path == self.discovery => Some(self.discovery()),
            Method::GET if path == self.jwks => {
                Some(self.documents.answer(Document::Jwks, self.keys.document()))
            }
            Method::POST => self.account(path).map(|account| self.create_token(account, request)),
            _ => None,
        }
    }
}

/// An error as the API server tells it.
fn failure(status: StatusCode, reason: &str, text: &str) -> Answer {
    let body = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": text,
        "reason": reason,
        "code": status.as_u16(),
    });
    Answer::json(status, body.to_string())
}

fn new_uuid() -> String {
    Builder::from_random_bytes(random()).into_uuid().to_string()
}

/// Of 1970 for a clock beyond the calendar.
fn timestamp(at: UnixTime) -> String {
    let at = OffsetDateTime::from_unix_timestamp(at).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    at.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, client, get, post, started, verified};
    use super::*;

    #[tokio::test]
    async fn the_token_request_api_gives_tokens() {
        let emulator = started(|_| {}).await;
        let (client, aks) = (client(&emulator), emulator.aks());
        let jwks = get(&client, &aks.jwks_url(), None).await.1;
        let request = aks.token_request("payments", "payments-service");
        let body = json!({ "spec": { "audiences": ["api://a", "b"], "expirationSeconds": 7200,
            "boundObjectRef": { "kind": "Pod", "apiVersion": "v1", "name": "payments-0" } } });
        let (status, answer) = post(&client, &request, &body.to_string()).await;
        assert_eq!((status, &answer["kind"]), (201, &json!("TokenRequest")));
        assert_eq!(answer["status"]["expirationTimestamp"], timestamp(NOW + 7200));
        let token = answer["status"]["token"].as_str().unwrap();
        let claims = verified(&jwks, token, "b");
        let times = ["nbf", "iat", "exp"].map(|name| claims[name].as_i64().unwrap());
        assert_eq!(times, [NOW, NOW, NOW + 7200]);
        assert_eq!(claims["aud"], json!(["api://a", "b"]));
        assert_eq!(claims["sub"], "system:serviceaccount:payments:payments-service");
        let about = &claims["kubernetes.io"];
        assert_eq!(about["namespace"], "payments");
        assert_eq!(about["serviceaccount"]["name"], "payments-service");
        assert_eq!(about["pod"]["name"], "payments-0");
        assert!(about["node"]["uid"].is_string() && claims["jti"].is_string(), "{claims}");
    }

    #[tokio::test]
    async fn what_is_left_out_has_defaults_and_what_is_wrong_is_told() {
        let emulator = started(|_| {}).await;
        let (client, aks) = (client(&emulator), emulator.aks());
        let request = aks.token_request("any", "account");
        let (_, answer) = post(&client, &request, "{}").await;
        assert_eq!(answer["spec"]["audiences"], json!([aks.issuer()]));
        assert_eq!(answer["status"]["expirationTimestamp"], timestamp(NOW + 3600));
        // A day at most, and nobody is told.
        let (_, answer) = post(&client, &request, r#"{"spec":{"expirationSeconds":90000}}"#).await;
        assert_eq!(answer["status"]["expirationTimestamp"], timestamp(NOW + 86_400));

        for (body, status, reason) in [
            (r#"{"spec":{"expirationSeconds":599}}"#, 422, "Invalid"),
            (r#"{"spec":{"expirationSeconds":4294967297}}"#, 422, "Invalid"),
            ("[]", 400, "BadRequest"),
        ] {
            let (code, answer) = post(&client, &request, body).await;
            assert_eq!(
                (code, &answer["kind"], &answer["reason"]),
                (status, &json!("Status"), &json!(reason))
            );
        }
        let stranger =
            TokenRequest { token: emulator.gke().token_request("any", "account").token, ..request.clone() };
        assert_eq!(post(&client, &stranger, "{}").await.0, 401);
        assert_eq!(get(&client, &request.url, Some(&request.token)).await.0, 404);
        for (namespace, name) in [("Any", "account"), ("any", ""), ("any/more", "account")] {
            assert_eq!(post(&client, &aks.token_request(namespace, name), "{}").await.0, 405);
        }
    }
}
