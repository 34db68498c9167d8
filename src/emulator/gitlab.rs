//! GitLab: documents, key set, and the ID tokens of CI jobs.
//!
//! A real job has no endpoint to ask: its tokens are variables, fixed when it starts. Where a job here gets a fresh one
//! is the emulator's own.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};
use uuid::Builder;

use super::documents::{Document, Documents, Fault};
use super::jobs::{Jobs, TokenRequest};
use super::keys::{IssuerKey, KeySize, KeyStyle};
use super::keyset::KeySet;
use super::server::{Answer, Platform, message};
use crate::clock::{Clock, random};

/// The issuer of gitlab.com.
pub const ISSUER: &str = "https://gitlab.com";

/// Below this path is everything, as on a GitLab with a relative root.
const ROOT: &str = "/gitlab";
const SHA: &str = "714a629c0b401fdce83e847fc9589983fc6f46bc";
/// Which of the three keys signs: the first of the shorter ones.
const SIGNING: usize = 1;

/// How GitLab is emulated.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// What is published as the issuer, such as [`ISSUER`]; `None` is where it really is.
    pub issuer: Option<String>,
    /// Makes all three keys of 2048 bits: the real first one has 4096 and can take seconds, which tests don't have.
    pub small_keys: bool,
}

/// Branch or tag, by its short name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ref {
    /// Also the source branch of a merge request.
    Branch(String),
    /// A tag.
    Tag(String),
}

/// A job of a pipeline. The default runs on the main branch and names no environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// `GROUP/SUBGROUP/PROJECT`.
    pub project_path: String,
    /// What it runs on.
    pub git_ref: Ref,
    /// The environment that the job names.
    pub environment: Option<String>,
    /// Seconds from `iat` to `exp`: the job's timeout.
    pub lifetime: i64,
}

impl Default for Job {
    fn default() -> Self {
        Self {
            project_path: "my--group/catalog-api".to_owned(),
            git_ref: Ref::Branch("main".to_owned()),
            environment: None,
            lifetime: 3600,
        }
    }
}

impl Job {
    /// The `sub`. Nothing is escaped, the environment has no part in it, and the ref is without `refs/heads/`.
    pub fn subject(&self) -> String {
        let (kind, name, _) = self.reference();
        format!("project_path:{}:ref_type:{kind}:ref:{name}", self.project_path)
    }

    /// Kind, short name and full name.
    fn reference(&self) -> (&'static str, &str, String) {
        match &self.git_ref {
            Ref::Branch(name) => ("branch", name, format!("refs/heads/{name}")),
            Ref::Tag(name) => ("tag", name, format!("refs/tags/{name}")),
        }
    }

    /// The claims that follow from the job. Ids and booleans are strings, except for the runner's.
    fn claims(&self, host: &str) -> Value {
        let (kind, name, path) = self.reference();
        let namespace = self.project_path.rsplit_once('/').map_or("", |(namespace, _)| namespace);
        let mut claims = json!({
            "sub": self.subject(),
            "namespace_id": "72",
            "namespace_path": namespace,
            "project_id": "20",
            "project_path": self.project_path,
            "project_visibility": "private",
            "job_project_id": "20",
            "job_project_path": self.project_path,
            "job_namespace_id": "72",
            "job_namespace_path": namespace,
            "user_id": "1",
            "user_login": "sam",
            "user_email": "sam@example.com",
            "user_access_level": "maintainer",
            "groups_direct": [namespace],
            "pipeline_id": "574",
            "pipeline_source": "push",
            "job_id": "302",
            "ref": name,
            "ref_type": kind,
            "ref_path": path,
            "ref_protected": (name == "main").to_string(),
            "runner_id": 1,
            "runner_environment": "gitlab-hosted",
            "sha": SHA,
            "ci_config_ref_uri": format!("{host}/{}//.gitlab-ci.yml@{path}", self.project_path),
            "ci_config_sha": SHA,
        });
        if let Some(environment) = &self.environment {
            claims["environment"] = json!(environment);
            claims["environment_protected"] = json!("false");
            claims["deployment_tier"] = json!("production");
            claims["environment_action"] = json!("start");
        }
        claims
    }
}

/// The emulated platform.
#[derive(Debug)]
pub struct GitLab {
    issuer: String,
    /// Where it really is.
    place: String,
    clock: Clock,
    keys: KeySet,
    documents: Documents,
    jobs: Jobs<Job>,
}

impl GitLab {
    pub(super) fn new(settings: Settings, origin: &str, clock: Clock) -> Self {
        let place = format!("{origin}{ROOT}");
        let first = if settings.small_keys { KeySize::Rsa2048 } else { KeySize::Rsa4096 };
        let sizes = [first, KeySize::Rsa2048, KeySize::Rsa2048];
        let caching = HeaderValue::from_static("max-age=86400, public, must-revalidate, no-transform");
        Self {
            issuer: settings.issuer.unwrap_or_else(|| place.clone()),
            place,
            keys: KeySet::new(sizes.map(|size| (KeyStyle::JwkThumbprint, size)), clock.now()),
            clock,
            documents: Documents::new(Some(caching)),
            jobs: Jobs::default(),
        }
    }

    /// The `iss` of tokens, and the issuer in the document at [`GitLab::discovery_url`].
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Where that issuer's document really is.
    pub fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.place)
    }

    /// Where the key set really is; `/-/jwks` has it too.
    pub fn jwks_url(&self) -> String {
        format!("{}/oauth/discovery/keys", self.place)
    }

    /// The keys as published. The first call makes them.
    pub fn keys(&self) -> &[IssuerKey] {
        self.keys.keys()
    }

    /// Lets a job of this name ask for tokens; one registered before under the name no longer can.
    pub fn register(&self, name: &str, job: Job) -> TokenRequest {
        self.jobs.register(name, job, |name| format!("{}/jobs/{name}/id_token", self.place))
    }

    /// A token of this job. The audience is a string, or an array where the job's file has a list.
    pub fn assertion(&self, job: &Job, audience: impl Into<Value>) -> String {
        let key = &self.keys()[SIGNING];
        key.sign(&key.header(), &self.claims(job, audience))
    }

    /// The claims of such a token, for those who forge one.
    pub fn claims(&self, job: &Job, audience: impl Into<Value>) -> Value {
        let mut claims = job.claims(self.issuer.trim_start_matches("https://"));
        let now = self.clock.now();
        claims["iss"] = json!(self.issuer);
        claims["aud"] = audience.into();
        claims["jti"] = json!(Builder::from_random_bytes(random()).into_uuid().to_string());
        claims["iat"] = json!(now);
        claims["nbf"] = json!(now.saturating_sub(5));
        claims["exp"] = json!(now.saturating_add(job.lifetime));
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

    /// GitLab is also a provider for people's logins, and its document says so.
    fn discovery(&self) -> Answer {
        let oauth = |path: &str| format!("{}/oauth/{path}", self.issuer);
        let document = json!({
            "issuer": self.issuer,
            "authorization_endpoint": oauth("authorize"),
            "token_endpoint": oauth("token"),
            "revocation_endpoint": oauth("revoke"),
            "introspection_endpoint": oauth("introspect"),
            "userinfo_endpoint": oauth("userinfo"),
            "jwks_uri": self.jwks_url(),
            "scopes_supported": ["api", "read_api", "read_user", "openid", "profile", "email"],
            "response_types_supported": ["code"],
            "response_modes_supported": ["query", "fragment", "form_post"],
            "grant_types_supported": ["authorization_code", "client_credentials", "refresh_token"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "claim_types_supported": ["normal"],
            "claims_supported": ["iss", "sub", "aud", "exp", "iat", "name", "nickname", "email", "groups_direct"],
            "code_challenge_methods_supported": ["plain", "S256"],
        });
        self.documents.answer(Document::Discovery, document.to_string().into())
    }

    fn id_token(&self, name: &str, request: &Request<Bytes>) -> Answer {
        let Some(job) = self.jobs.find(name, request.headers()) else {
            return message(StatusCode::UNAUTHORIZED, "the bearer token is not that of this job");
        };
        let query = request.uri().query().unwrap_or_default();
        let mut audiences: Vec<String> = url::form_urlencoded::parse(query.as_bytes())
            .filter_map(|(name, value)| (name == "audience").then(|| value.into_owned()))
            .collect();
        // As `id_tokens` in the job's file: `aud` is required, and stays a string unless it is a list.
        let audience = match audiences.len() {
            0 => return message(StatusCode::BAD_REQUEST, "an ID token needs an audience: add ?audience="),
            1 => json!(audiences.remove(0)),
            _ => json!(audiences),
        };
        Answer::json(StatusCode::OK, json!({ "value": self.assertion(&job, audience) }).to_string())
    }
}

impl Platform for GitLab {
    fn answer(&self, request: &Request<Bytes>) -> Option<Answer> {
        if request.method() != Method::GET {
            return None;
        }
        let path: Vec<_> = request.uri().path().strip_prefix(ROOT)?.split('/').skip(1).collect();
        match path[..] {
            [".well-known", "openid-configuration"] => Some(self.discovery()),
            ["oauth", "discovery", "keys"] | ["-", "jwks"] => {
                Some(self.documents.answer(Document::Jwks, self.keys.document()))
            }
            ["jobs", name, "id_token"] => Some(self.id_token(name, request)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::decode_header;
    use jsonwebtoken::jwk::{JwkSet, ThumbprintHash};

    use super::super::tests::{NOW, client, get, members, started, verified};
    use super::*;

    #[tokio::test]
    async fn documents_look_like_gitlabs() {
        let emulator = started(|settings| settings.gitlab.issuer = Some(ISSUER.to_owned())).await;
        let (client, gitlab) = (client(&emulator), emulator.gitlab());
        let (status, discovery) = get(&client, &gitlab.discovery_url(), None).await;
        assert_eq!((status, &discovery["issuer"]), (200, &json!(ISSUER)));
        assert_eq!(discovery["jwks_uri"], format!("{}/gitlab/oauth/discovery/keys", emulator.origin()));
        assert_eq!(discovery["authorization_endpoint"], "https://gitlab.com/oauth/authorize");

        let (_, jwks) = get(&client, &gitlab.jwks_url(), None).await;
        let alias = format!("{}/gitlab/-/jwks", emulator.origin());
        assert_eq!(get(&client, &alias, None).await.1, jwks);
        for key in jwks["keys"].as_array().unwrap() {
            assert_eq!(members(key), ["alg", "e", "kid", "kty", "n", "use"]);
        }
        let keys: JwkSet = serde_json::from_value(jwks).unwrap();
        let named = keys.keys.iter().map(|key| key.thumbprint(ThumbprintHash::SHA256).unwrap());
        let names: Vec<_> = keys.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect();
        assert_eq!(named.collect::<Vec<_>>(), names);
        let response = client.get(gitlab.jwks_url()).send().await.unwrap();
        let caching = "max-age=86400, public, must-revalidate, no-transform";
        assert_eq!(response.headers()["cache-control"], caching);
        assert_eq!((gitlab.requests(Document::Discovery), gitlab.requests(Document::Jwks)), (1, 3));
    }

    #[test]
    fn the_real_key_set_has_one_long_key() {
        let gitlab = GitLab::new(Settings::default(), "https://localhost", Clock::fixed(NOW));
        let sizes = gitlab.keys().iter().map(|key| key.public_jwk()["n"].as_str().unwrap().len() * 6 / 8 * 8);
        assert_eq!(sizes.collect::<Vec<_>>(), [4096, 2048, 2048]);
    }

    #[tokio::test]
    async fn a_jobs_token_verifies_and_says_what_gitlab_says() {
        let emulator = started(|_| {}).await;
        let (client, gitlab) = (client(&emulator), emulator.gitlab());
        let jwks = get(&client, &gitlab.jwks_url(), None).await.1;
        let job = Job { environment: Some("production".to_owned()), ..Job::default() };
        let request = gitlab.register("deploy", job);
        let url = format!("{}?audience=api%3A%2F%2FAzureADTokenExchange", request.url);
        let (status, answer) = get(&client, &url, Some(&request.token)).await;
        assert_eq!(status, 200);
        let token = answer["value"].as_str().unwrap();
        let header = decode_header(token).unwrap();
        assert_eq!((header.typ.as_deref(), header.x5t), (Some("JWT"), None));
        assert_eq!(header.kid.as_deref(), Some(gitlab.keys()[SIGNING].id()));

        let claims = verified(&jwks, token, "api://AzureADTokenExchange");
        let times = ["nbf", "iat", "exp"].map(|name| claims[name].as_i64().unwrap());
        assert_eq!(times, [NOW - 5, NOW, NOW + 3600]);
        assert_eq!(claims["iss"], format!("{}/gitlab", emulator.origin()));
        assert_eq!(claims["sub"], "project_path:my--group/catalog-api:ref_type:branch:ref:main");
        assert_eq!(claims["aud"], "api://AzureADTokenExchange");
        assert_eq!((&claims["runner_id"], &claims["project_id"]), (&json!(1), &json!("20")));
        assert_eq!((&claims["ref"], &claims["ref_path"]), (&json!("main"), &json!("refs/heads/main")));
        assert_eq!(
            (&claims["environment"], &claims["ref_protected"]),
            (&json!("production"), &json!("true"))
        );

        let (_, list) = get(&client, &format!("{url}&audience=other"), Some(&request.token)).await;
        let claims = verified(&jwks, list["value"].as_str().unwrap(), "other");
        assert_eq!(claims["aud"], json!(["api://AzureADTokenExchange", "other"]));
        assert_eq!(get(&client, &request.url, Some(&request.token)).await.0, 400);
        for bearer in [None, Some("wrong")] {
            assert_eq!(get(&client, &url, bearer).await.0, 401);
        }
    }

    #[test]
    fn subjects_have_short_refs_and_no_environment() {
        let environment = Some("production".to_owned());
        let tag = Job { git_ref: Ref::Tag("v1:a".to_owned()), environment, ..Job::default() };
        assert_eq!(tag.subject(), "project_path:my--group/catalog-api:ref_type:tag:ref:v1:a");
        assert_eq!(tag.claims("gitlab.com")["ref_path"], "refs/tags/v1:a");
        let plain = Job::default().claims("gitlab.com");
        let uri = "gitlab.com/my--group/catalog-api//.gitlab-ci.yml@refs/heads/main";
        assert_eq!((&plain["ci_config_ref_uri"], plain.get("environment")), (&json!(uri), None));
    }
}
