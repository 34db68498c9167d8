//! The spine without HTTP: a broker's parts as `serve` puts them together, an issuer whose keys are given, and assertions.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ficus::audit::Audit;
use ficus::clock::Clock;
use ficus::config::Config;
use ficus::directory::files::Tree;
use ficus::document::Problems;
use ficus::domain::asked::Asked;
use ficus::domain::ids::Guid;
use ficus::domain::refusal::Refusal;
use ficus::domain::resource::Target;
use ficus::exchange::{Call, Exchange, Pace, Remembered, Snapshot, TokenRequest, Used};
use ficus::metrics::{Dialect, Metrics};
use ficus::signing::{Keys, Token};
use ficus::trust::{Issuers, Overrides};
use serde_json::json;
use tempfile::TempDir;

pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub const CLIENT: &str = "aaaaaaaa-0001-4a00-8000-000000000001";
pub const ISSUER: &str = "https://issuer.example";
pub const SUBJECT: &str = "repo:my--org/payments-service:ref:refs/heads/main";
pub const AUDIENCE: &str = "api://AzureADTokenExchange";
pub const RS256: &str = "https://vault.example";
pub const ES256: &str = "api://orders";

/// A key of the issuer's.
pub struct Signer(RsaKeyPair);

impl Signer {
    pub fn new() -> Self {
        Self(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub fn jwks(&self) -> String {
        let key = self.0.public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let (n, e) = (
            key.modulus().big_endian_without_leading_zero(),
            key.exponent().big_endian_without_leading_zero(),
        );
        json!({ "keys": [{ "kty": "RSA", "kid": "k", "alg": "RS256", "use": "sig", "n": number(n), "e": number(e) }] })
            .to_string()
    }

    /// An assertion of the size that GitHub's have; each number gives another one.
    pub fn assertion(&self, number: usize, subject: &str) -> String {
        let now = Clock::system().now();
        let header = json!({ "alg": "RS256", "kid": "k", "typ": "JWT" });
        let claims = json!({
            "iss": ISSUER, "sub": subject, "aud": AUDIENCE, "iat": now, "nbf": now, "exp": now + 3600,
            "jti": format!("00000000-0000-4000-8000-{number:012}"), "ref": "refs/heads/main", "padding": "x".repeat(500),
        });
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Everything that decides, in a folder of its own. Must be made in a tokio runtime.
pub struct Spine {
    pub exchange: Exchange,
    pub signer: Signer,
    _folder: TempDir,
}

impl Spine {
    /// `tokens` is the section of that name.
    pub fn new(tokens: &str) -> Self {
        let (folder, signer) = (TempDir::new().unwrap(), Signer::new());
        let config = configure(folder.path(), &signer, tokens);
        let (problems, clock) = (Problems::default(), Clock::system());
        let directory = Arc::new(config.load_directory(&mut Tree::default(), &problems));
        assert!(!problems.any_error(), "{:?}", problems.into_vec());
        let issuers = Issuers::new([ISSUER].into_iter(), &config.issuers, &config.trust, &Overrides::new());
        let pace = Pace::new(config.limits.per_identity, &directory);
        let exchange = Exchange {
            snapshot: ArcSwap::from_pointee(Snapshot {
                directory,
                issuers,
                pace,
                generation: 1,
                since: clock.now(),
            }),
            keys: Keys::open(&config.keys, clock.now()).unwrap(),
            audit: Audit::open(&config.audit, clock.clone()).unwrap(),
            used: Used::new(config.limits.one_time_entries),
            remembered: Remembered::new(config.tokens),
            metrics: Arc::new(Metrics::new().unwrap()),
            clock,
            assertion_limit: config.limits.assertion,
        };
        Self { exchange, signer, _folder: folder }
    }

    /// What a dialect makes of a request.
    pub fn request(assertion: &str, resource: &str) -> Result<TokenRequest, Refusal> {
        Ok(TokenRequest {
            tenant: TENANT.to_owned(),
            asked: Asked::plainly(CLIENT.to_owned(), Target::from_resource(resource).unwrap()),
            assertion: assertion.to_owned().into(),
        })
    }

    /// One exchange, recorded and measured as `serve` does it.
    pub async fn ask(&self, request: &Result<TokenRequest, Refusal>) -> Result<Token, Refusal> {
        let id = Guid::parse("00000000-0000-4000-8000-000000000001").unwrap();
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let call = Call { trace: id, correlation: id, client, dialect: Dialect::EntraV2 };
        self.exchange.exchange(TENANT, request, &call).await
    }
}

fn configure(folder: &Path, signer: &Signer, tokens: &str) -> Config {
    std::fs::create_dir(folder.join("directory")).unwrap();
    std::fs::write(folder.join("jwks.json"), signer.jwks()).unwrap();
    let resource = |name: &str, client: &str, uri: &str, more: &str| {
        format!(
            "[[resource]]\nname = {name:?}\nclient_id = {client:?}\nidentifier_uris = [{uri:?}]\nscope = \"/apis/{name}\"\n{more}\n\
             [[role_assignment]]\nprincipal_id = \"bbbbbbbb-0001-4a00-8000-000000000001\"\nrole = \"Reader\"\nscope = \"/apis/{name}\"\n"
        )
    };
    let records = format!(
        "[[identity]]\nname = \"id-deploy\"\nkind = \"application\"\nclient_id = {CLIENT:?}\n\
         principal_id = \"bbbbbbbb-0001-4a00-8000-000000000001\"\n\
         [[identity.federated_credential]]\nname = \"main\"\nissuer = {ISSUER:?}\nsubject = {SUBJECT:?}\n{}{}",
        resource("vault", "cccccccc-0001-4a00-8000-000000000001", RS256, ""),
        resource(
            "orders",
            "cccccccc-0002-4a00-8000-000000000002",
            ES256,
            "token_version = 2\nsigning_algorithm = \"ES256\""
        ),
    );
    std::fs::write(folder.join("directory/records.toml"), records).unwrap();
    let text = format!(
        "[[tenant]]\nid = {TENANT:?}\n[directory]\npath = \"directory\"\n[keys]\npath = \"keys\"\ncreate = true\n\
         [audit]\npath = \"audit.jsonl\"\n[trust]\nstate_path = \"issuers\"\n[tokens]\n{tokens}\n\
         [[issuer]]\nurl = {ISSUER:?}\njwks_file = \"jwks.json\"\n"
    );
    let problems = Problems::default();
    let config = Config::read("bench.toml", &text, folder, std::iter::empty(), &problems);
    assert!(!problems.any_error(), "{:?}", problems.into_vec());
    config
}
