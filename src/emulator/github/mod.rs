//! GitHub Actions: documents, key set, and the endpoint where a job asks for its token.

mod job;

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};
use uuid::Builder;

pub use job::{Event, Job, SubjectStyle};

use super::documents::{Document, Documents, Fault};
use super::jobs::{Jobs, TokenRequest};
use super::keys::{IssuerKey, KeySize, KeyStyle};
use super::keyset::KeySet;
use super::server::{Answer, Platform, message};
use crate::clock::{Clock, random};

/// The issuer of github.com.
pub const ISSUER: &str = "https://token.actions.githubusercontent.com";

/// GitHub's four keys, in the order in which they are published.
const STYLES: [KeyStyle; 4] =
    [KeyStyle::Uuid, KeyStyle::UuidWithCertificate, KeyStyle::Thumbprint, KeyStyle::Thumbprint];

/// The keys that are seen to sign, in turn: those named by a UUID.
const SIGNING: usize = 2;

/// How GitHub is emulated.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What is published as the issuer, such as [`ISSUER`]; `None` is the origin that really listens.
    pub issuer: Option<String>,
    /// The enterprise whose issuer has its slug as a path.
    pub slug: Option<String>,
    /// `Cache-Control` of the documents; GitHub's own is not known.
    pub cache_control: Option<HeaderValue>,
}

/// The emulated platform.
#[derive(Debug)]
pub struct GitHub {
    root: String,
    slug: Option<String>,
    origin: String,
    clock: Clock,
    keys: KeySet,
    documents: Documents,
    jobs: Jobs<Job>,
    minted: AtomicUsize,
}

impl GitHub {
    pub(super) fn new(settings: Settings, origin: String, clock: Clock) -> Self {
        Self {
            root: settings.issuer.unwrap_or_else(|| origin.clone()),
            slug: settings.slug,
            origin,
            keys: KeySet::new(STYLES.map(|style| (style, KeySize::Rsa2048)), clock.now()),
            clock,
            documents: Documents::new(settings.cache_control),
            jobs: Jobs::default(),
            minted: AtomicUsize::new(0),
        }
    }

    /// The `iss` of tokens, and the issuer in the document at [`GitHub::discovery_url`].
    pub fn issuer(&self) -> String {
        below(&self.root, self.slug.as_deref())
    }

    /// Where that issuer's document really is.
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", below(&self.origin, self.slug.as_deref()))
    }

    /// Where the key set really is: slug or not, at the root.
    pub fn jwks_url(&self) -> String {
        format!("{}/.well-known/jwks", self.origin)
    }

    /// The keys as published: a UUID without certificate, one with, two thumbprints.
    pub fn keys(&self) -> &[IssuerKey] {
        self.keys.keys()
    }

    /// Lets a job of this name ask for tokens; one registered before under the name no longer can.
    pub fn register(&self, name: &str, job: Job) -> TokenRequest {
        self.jobs.register(name, job, |name| format!("{}/jobs/{name}/idtoken?api-version=2.0", self.origin))
    }

    /// A token of this job, as its request would get it.
    pub fn assertion(&self, job: &Job, audience: &str) -> String {
        let key = &self.keys()[self.minted.fetch_add(1, Ordering::Relaxed) % SIGNING];
        key.sign(&key.header(), &self.claims(job, audience))
    }

    /// The claims of such a token, for those who forge one.
    pub fn claims(&self, job: &Job, audience: &str) -> Value {
        let mut claims = job.claims();
        claims["iss"] = json!(self.issuer());
        claims["aud"] = json!(audience);
        claims["jti"] = json!(Builder::from_random_bytes(random()).into_uuid().to_string());
        job::times(&mut claims, self.clock.now(), job.lifetime);
        claims
    }

    /// How often a document was asked for, faults included.
    pub fn requests(&self, document: Document) -> u64 {
        self.documents.requests(document)
    }

    /// Breaks a document until it is mended with `None`.
    pub fn set_fault(&self, document: Document, fault: impl Into<Option<Fault>>) {
        self.documents.set_fault(document, fault.into());
    }

    /// Has no authorization endpoint, as GitHub's has none. Any slug has one: GitHub does not check that it exists.
    fn discovery(&self, slug: Option<&str>) -> Answer {
        let document = json!({
            "issuer": below(&self.root, slug),
            "jwks_uri": self.jwks_url(),
            "subject_types_supported": ["public", "pairwise"],
            "response_types_supported": ["id_token"],
            "claims_supported": job::CLAIMS.split_ascii_whitespace().collect::<Vec<_>>(),
            "id_token_signing_alg_values_supported": ["RS256"],
            "scopes_supported": ["openid"],
        });
        self.documents.answer(Document::Discovery, document.to_string().into())
    }

    fn id_token(&self, name: &str, request: &Request<Bytes>) -> Answer {
        let Some(job) = self.jobs.find(name, request.headers()) else {
            return message(StatusCode::UNAUTHORIZED, "the bearer token is not that of this job");
        };
        let query = request.uri().query().unwrap_or_default();
        let audience = url::form_urlencoded::parse(query.as_bytes())
            .find_map(|(name, value)| (name == "audience").then(|| value.into_owned()))
            .unwrap_or_else(|| job.default_audience());
        let value = self.assertion(&job, &audience);
        Answer::json(StatusCode::OK, json!({ "count": value.len(), "value": value }).to_string())
    }
}

impl Platform for GitHub {
    fn answer(&self, request: &Request<Bytes>) -> Option<Answer> {
        if request.method() != Method::GET {
            return None;
        }
        let path: Vec<_> = request.uri().path().split('/').skip(1).collect();
        match path[..] {
            [".well-known", "openid-configuration"] => Some(self.discovery(None)),
            [".well-known", "jwks"] => Some(self.documents.answer(Document::Jwks, self.keys.document())),
            [slug, ".well-known", "openid-configuration"] if !slug.is_empty() => {
                Some(self.discovery(Some(slug)))
            }
            ["jobs", name, "idtoken"] => Some(self.id_token(name, request)),
            _ => None,
        }
    }
}

fn below(base: &str, slug: Option<&str>) -> String {
    slug.map_or_else(|| base.to_owned(), |slug| format!("{base}/{slug}"))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use jsonwebtoken::decode_header;
    use tokio::time::timeout;

    use super::super::Emulator;
    use super::super::tests::{self, NOW, client, get, verified};
    use super::*;

    async fn started(settings: Settings) -> (Emulator, reqwest::Client) {
        let emulator = tests::started(|all| all.github = settings).await;
        let client = client(&emulator);
        (emulator, client)
    }

    #[tokio::test]
    async fn documents_look_like_githubs() {
        let (emulator, client) =
            started(Settings { issuer: Some(ISSUER.to_owned()), ..Settings::default() }).await;
        let github = emulator.github();
        let (status, discovery) = get(&client, &github.discovery_url(), None).await;
        assert_eq!((status, &discovery["issuer"]), (200, &json!(ISSUER)));
        assert_eq!(discovery["jwks_uri"], format!("{}/.well-known/jwks", emulator.origin()));
        let members: Vec<_> = discovery.as_object().unwrap().keys().collect();
        assert_eq!(
            members,
            [
                "claims_supported",
                "id_token_signing_alg_values_supported",
                "issuer",
                "jwks_uri",
                "response_types_supported",
                "scopes_supported",
                "subject_types_supported",
            ]
        );

        let (status, jwks) = get(&client, discovery["jwks_uri"].as_str().unwrap(), None).await;
        assert_eq!(status, 200);
        let keys = jwks["keys"].as_array().unwrap();
        let shapes: Vec<_> = keys
            .iter()
            .map(|key| {
                let kid = key["kid"].as_str().unwrap();
                assert_eq!(
                    (&key["kty"], &key["alg"], &key["use"]),
                    (&json!("RSA"), &json!("RS256"), &json!("sig"))
                );
                assert_eq!((&key["e"], key["n"].as_str().unwrap().len()), (&json!("AQAB"), 342));
                let upper = kid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F'));
                let lower = kid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
                assert_eq!(key.get("x5c").is_some(), key.get("x5t").is_some());
                (kid.len(), upper, lower, key.get("x5c").is_some())
            })
            .collect();
        let (plain, certified, hex) =
            ((36, false, true, false), (36, false, true, true), (40, true, false, true));
        assert_eq!(shapes, [plain, certified, hex, hex]);
        assert_eq!((github.requests(Document::Discovery), github.requests(Document::Jwks)), (1, 1));
    }

    #[tokio::test]
    async fn assertions_verify_and_tell_the_emulated_time() {
        let (emulator, client) = started(Settings::default()).await;
        let github = emulator.github();
        let jwks = get(&client, &github.jwks_url(), None).await.1;
        let job = Job { environment: Some("Production:V1".to_owned()), lifetime: 21_600, ..Job::default() };
        let tokens = [0, 1, 2].map(|_| github.assertion(&job, "api://AzureADTokenExchange"));

        let claims = tokens.each_ref().map(|token| verified(&jwks, token, "api://AzureADTokenExchange"));
        assert_eq!(claims[0]["iss"], emulator.origin());
        assert_eq!(claims[0]["aud"], "api://AzureADTokenExchange");
        assert_eq!(claims[0]["sub"], "repo:my--org/payments-service:environment:Production%3AV1");
        let times = ["nbf", "iat", "exp"].map(|name| claims[0][name].as_i64().unwrap());
        assert_eq!(times, [NOW - 600, NOW, NOW + 21_600]);
        assert_ne!(claims[0]["jti"], claims[1]["jti"]);
        let names: Vec<_> = job::CLAIMS.split_ascii_whitespace().collect();
        let undeclared = claims[0].as_object().unwrap().keys().find(|name| !names.contains(&name.as_str()));
        assert_eq!((undeclared, claims[0].as_object().unwrap().len()), (None, names.len()));

        let headers = tokens.each_ref().map(|token| decode_header(token).unwrap());
        assert_eq!(headers.each_ref().map(|header| header.x5t.is_some()), [false, true, false]);
        assert_eq!(headers[1].kid.as_deref(), Some(github.keys()[1].id()));
        assert_eq!(headers[1].typ.as_deref(), Some("JWT"));
    }

    #[tokio::test]
    async fn a_job_asks_with_its_own_bearer_token() {
        let (emulator, client) = started(Settings::default()).await;
        let github = emulator.github();
        let jwks = get(&client, &github.jwks_url(), None).await.1;
        let job = github.register("deploy / eu", Job::default());
        let other = github.register("other", Job::default());
        assert!(job.url.ends_with("/idtoken?api-version=2.0"), "{}", job.url);

        let asked = format!("{}&audience=api%3A%2F%2FAzureADTokenExchange%2Fa%20b", job.url);
        let (status, answer) = get(&client, &asked, Some(&job.token)).await;
        let value = answer["value"].as_str().unwrap();
        assert_eq!((status, answer["count"].as_u64()), (200, u64::try_from(value.len()).ok()));
        verified(&jwks, value, "api://AzureADTokenExchange/a b");

        let (_, answer) = get(&client, &job.url, Some(&job.token)).await;
        verified(&jwks, answer["value"].as_str().unwrap(), "https://github.com/my--org");

        for bearer in [None, Some(""), Some("wrong"), Some(other.token.as_str())] {
            let (status, answer) = get(&client, &asked, bearer).await;
            assert_eq!((status, answer.get("value")), (401, None));
        }
        let again = github.register("deploy / eu", Job::default());
        assert_eq!(get(&client, &asked, Some(&job.token)).await.0, 401);
        assert_eq!(get(&client, &asked, Some(&again.token)).await.0, 200);
    }

    #[tokio::test]
    async fn a_slug_has_a_document_and_no_keys() {
        let settings = Settings {
            issuer: Some(ISSUER.to_owned()),
            slug: Some("octo".to_owned()),
            cache_control: Some(HeaderValue::from_static("max-age=60")),
        };
        let (emulator, client) = started(settings).await;
        let github = emulator.github();
        assert_eq!(github.issuer(), format!("{ISSUER}/octo"));
        assert_eq!(github.claims(&Job::default(), "any")["iss"], github.issuer());
        for (slug, issuer) in
            [("/octo", github.issuer()), ("/any", format!("{ISSUER}/any")), ("", ISSUER.to_owned())]
        {
            let url = format!("{}{slug}/.well-known/openid-configuration", emulator.origin());
            let (status, discovery) = get(&client, &url, None).await;
            assert_eq!((status, &discovery["issuer"]), (200, &json!(issuer)));
            assert_eq!(discovery["jwks_uri"], github.jwks_url());
        }
        assert_eq!(get(&client, &format!("{}/octo/.well-known/jwks", emulator.origin()), None).await.0, 404);
        let response = client.get(github.discovery_url()).send().await.unwrap();
        assert_eq!(response.headers()["cache-control"], "max-age=60");
    }

    #[tokio::test]
    async fn documents_break_and_mend() {
        let (emulator, client) = started(Settings::default()).await;
        let github = emulator.github();
        let (discovery, jwks) = (github.discovery_url(), github.jwks_url());

        github.set_fault(Document::Jwks, Fault::Status(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(get(&client, &jwks, None).await.0, 503);
        assert_eq!(get(&client, &discovery, None).await.0, 200);

        github.set_fault(Document::Jwks, Fault::Body(Bytes::from_static(br#"{"keys":[]}"#)));
        assert_eq!(get(&client, &jwks, None).await, (200, json!({ "keys": [] })));

        github.set_fault(Document::Jwks, Fault::Hang);
        let mut hanging = pin!(get(&client, &jwks, None));
        // It has arrived once it is counted, and gets no answer for a while after.
        while github.requests(Document::Jwks) < 3 {
            assert!(timeout(Duration::from_millis(1), hanging.as_mut()).await.is_err());
        }
        assert!(timeout(Duration::from_millis(50), hanging.as_mut()).await.is_err());

        github.set_fault(Document::Jwks, None);
        assert_eq!(hanging.await.1["keys"].as_array().unwrap().len(), 4);
        assert_eq!(get(&client, &jwks, None).await.1["keys"].as_array().unwrap().len(), 4);
        assert_eq!((github.requests(Document::Discovery), github.requests(Document::Jwks)), (1, 4));
    }
}
