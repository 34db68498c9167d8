//! A broker and an emulated issuer, put together as `ficus serve` does it, and a client that changes one thing of a
//! valid request.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ficus::cli::broker::{Broker, Listeners, Parts};
use ficus::clock::Clock;
use ficus::config::Config;
use ficus::directory::files::Tree;
use ficus::document::Problems;
use ficus::emulator::github::Job;
use ficus::emulator::{Emulator, Settings};
use ficus::trust::Overrides;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub const TENANT: &str = "11111111-1111-1111-1111-111111111111";
pub const OTHER_TENANT: &str = "22222222-2222-2222-2222-222222222222";
pub const CLIENT: &str = "aaaaaaaa-0001-4a00-8000-000000000001";
pub const PRINCIPAL: &str = "bbbbbbbb-0001-4a00-8000-000000000001";
pub const AUDIENCE: &str = "api://AzureADTokenExchange";
/// v1.0, RS256.
pub const VAULT: &str = "https://vault.example";
/// v2.0, ES256.
pub const API: &str = "api://orders";
pub const API_CLIENT: &str = "cccccccc-0002-4a00-8000-000000000002";
pub const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// One runtime for all tests of this program: servers of a shared world must outlive the test that started them.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| runtime("tester"));
/// One for all brokers: by the names of threads `watch.rs` tells what a broker connects to from what its callers do.
static BROKERS: LazyLock<Runtime> = LazyLock::new(|| runtime("broker"));

fn runtime(name: &str) -> Runtime {
    tokio::runtime::Builder::new_multi_thread().thread_name(name).enable_all().build().unwrap()
}

fn start(listeners: Listeners, parts: Parts) -> Broker {
    parts.directory.named_issuers().into_iter().for_each(listed);
    let _brokers = BROKERS.enter();
    Broker::start(listeners, parts).unwrap()
}

/// Names a file to `watch.rs`: of every URL that the configuration lists as an issuer's.
pub const LISTED: &str = "FICUS_TEST_LISTED";

/// Tells `watch.rs` that brokers may connect to this URL's host and port.
pub fn listed(url: &str) {
    let Some(file) = std::env::var_os(LISTED) else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    // At once, since tests are many.
    file.write_all(format!("{url}\n").as_bytes()).unwrap();
}

static SHARED: LazyLock<World> = LazyLock::new(|| RUNTIME.block_on(World::start(Plan::default())));

/// Runs a test on the world that all tests share; it must not change what others see.
pub fn shared<F: Future>(test: impl FnOnce(&'static World) -> F) -> F::Output {
    let world = &*SHARED;
    RUNTIME.block_on(test(world))
}

/// A tenant of the wide world, whose GUID has letters.
pub const LETTERS: &str = "abcdefab-1234-4abc-8def-abcdefabcdef";
/// A tenant of the wide world that sets its tokens' issuers.
pub const CUSTOM: &str = "dddddddd-0000-4ddd-8ddd-dddddddddddd";
pub const CUSTOM_V1: &str = "https://sts.custom.example/tenants/d/";
pub const CUSTOM_V2: &str = "https://login.custom.example/tenants/d/v2.0";

static WIDE: LazyLock<World> = LazyLock::new(|| {
    let tenants = format!(
        "[[tenant]]\nid = \"{}\"\ndomain = \"adatum.EXAMPLE\"\n\
         [[tenant]]\nid = \"{CUSTOM}\"\nissuer_v1 = \"{CUSTOM_V1}\"\nissuer_v2 = \"{CUSTOM_V2}\"\n",
        LETTERS.to_ascii_uppercase()
    );
    let directory = format!("{DIRECTORY}\n{}", include_str!("wide.toml"));
    RUNTIME.block_on(World::start(Plan { issuer: tenants, directory, ..Plan::default() }))
});

/// Runs a test on a second shared world: the first with two more tenants, and with records for the finer points of
/// tokens. It must not change what others see.
pub fn wide<F: Future>(test: impl FnOnce(&'static World) -> F) -> F::Output {
    let world = &*WIDE;
    RUNTIME.block_on(test(world))
}

/// Runs a test on a world of its own, which it may break.
pub fn own<F: Future>(plan: Plan, test: impl FnOnce(Arc<World>) -> F) -> F::Output {
    RUNTIME.block_on(async { test(Arc::new(World::start(plan).await)).await })
}

/// What a world is made of. `{issuer}` in the directory stands for the emulated GitHub's issuer, `{gitlab}`, `{gke}` and
/// `{aks}` for those of the other platforms.
pub struct Plan {
    /// Added to the configuration file, in front of the tables.
    pub settings: String,
    /// Added to the emulated GitHub's `[[issuer]]` entry.
    pub issuer: String,
    /// The directory.
    pub directory: String,
    /// Added to `[keys]`.
    pub keys: String,
    /// Further files, beside the configuration's folder.
    pub files: Vec<(String, String)>,
    /// A clock to share; else one that stands still.
    pub clock: Option<Clock>,
    /// What clients trust, when the broker's certificate is not self-made.
    pub ca: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        let (settings, issuer, keys, files) = Default::default();
        Self { settings, issuer, directory: DIRECTORY.to_owned(), keys, files, clock: None, ca: None }
    }
}

pub const DIRECTORY: &str = include_str!("directory.toml");

pub struct World {
    pub folder: TempDir,
    pub broker: Broker,
    pub emulator: Emulator,
    pub clock: Clock,
    pub client: reqwest::Client,
    pub authority: String,
}

impl World {
    pub async fn start(plan: Plan) -> Self {
        let folder = TempDir::new().unwrap();
        // Stands still, so that answers with times in them can be compared whole.
        let clock = plan.clock.clone().unwrap_or_else(|| Clock::fixed(Clock::system().now()));
        let mut settings = Settings { clock: clock.clone(), ..Settings::default() };
        settings.gitlab.small_keys = true;
        let emulator = Emulator::start(settings).await.unwrap();
        std::fs::write(folder.path().join("emulator.pem"), emulator.ca_pem()).unwrap();
        for (name, text) in &plan.files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("etc/directory")).unwrap();
        let directory = with_issuers(&plan.directory, &emulator);
        std::fs::write(folder.path().join("etc/directory/records.toml"), directory).unwrap();

        let (problems, file) = (Problems::default(), folder.path().join("etc/ficus.toml"));
        let mut config = config(&file, &plan, &emulator, 0, &problems);
        let listeners = Listeners::bind(&config.listen).unwrap();
        let port = listeners.public_address().port();
        if config.public_url.ends_with(":0") {
            config = self::config(&file, &plan, &emulator, port, &problems);
        }
        let mut tree = Tree::default();
        let directory = config.load_directory(&mut tree, &problems);
        let failed = problems.any_error();
        assert!(!failed, "{:#?}", problems.into_vec());
        let parts = Parts { config, tree, directory, overrides: Overrides::new(), clock: clock.clone() };
        let broker = self::start(listeners, parts);
        let client = client(broker.ca_file().or(plan.ca.as_ref()).map(|path| path.as_path()));
        Self { authority: broker.public_url().to_owned(), folder, broker, emulator, clock, client }
    }

    /// Stops the broker and starts it anew, on the same port and from the same files.
    pub async fn restarted(self) -> Self {
        let Self { folder, broker, emulator, clock, client, authority } = self;
        let port = broker.public_address().port();
        broker.stop().await;
        let file = folder.path().join("etc/ficus.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let address = format!("\naddress = \"127.0.0.1:{port}\"");
        std::fs::write(&file, text.replacen("\naddress = \"127.0.0.1:0\"", &address, 1)).unwrap();
        let (problems, mut tree) = (Problems::default(), Tree::default());
        let config = Config::load(&file, std::iter::empty(), &problems).unwrap();
        let listeners = Listeners::bind(&config.listen).unwrap();
        let directory = config.load_directory(&mut tree, &problems);
        let parts = Parts { config, tree, directory, overrides: Overrides::new(), clock: clock.clone() };
        let broker = self::start(listeners, parts);
        Self { folder, broker, emulator, clock, client, authority }
    }

    /// The honest token of a job on the main branch.
    pub fn assertion(&self) -> String {
        self.emulator.github().assertion(&Job::default(), AUDIENCE)
    }

    /// Header and claims of that token, to be changed.
    pub fn honest(&self) -> (Value, Value) {
        let github = self.emulator.github();
        (github.keys()[0].header(), github.claims(&Job::default(), AUDIENCE))
    }

    /// Signs soundly, with the key that the honest header names.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.emulator.github().keys()[0].sign(header, claims)
    }

    /// A valid request for the vault.
    pub fn request(&self) -> Form {
        self.request_with(&self.assertion())
    }

    /// The same with another assertion.
    pub fn request_with(&self, assertion: &str) -> Form {
        token_request(assertion, "https://vault.example/.default")
    }

    pub fn token_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/token", self.authority)
    }

    pub fn token_url_v1(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/token", self.authority)
    }

    /// Every audit line so far.
    pub fn audit(&self) -> Vec<Value> {
        // While the log is set aside there is none, until the next line is written.
        let text = match std::fs::read_to_string(self.folder.path().join("data/audit.jsonl")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            text => text.unwrap(),
        };
        // A reader may see the newest line half written; a line is there when its end is.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The audit line of one request. A refusal's line may come a moment after its answer.
    pub async fn record(&self, trace: &str) -> Value {
        wait_for(|| self.audit().into_iter().find(|line| line["traceId"] == trace)).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.client.get(format!("{}{path}", self.authority)).send().await.unwrap()).await
    }

    /// Asks the operations listener.
    pub async fn ops(&self, path: &str) -> (u16, String) {
        let url = format!("http://{}{path}", self.broker.ops_address());
        let response = self.client.get(url).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// One number from /metrics.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.ops("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(&format!("{series} ")));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
            .unwrap_or_else(|| panic!("no {series} in {text}"))
    }
}

fn config(file: &Path, plan: &Plan, emulator: &Emulator, port: u16, problems: &Problems) -> Config {
    let text = format!(
        "public_url = \"https://localhost:{port}\"\n{settings}\n\
         [listen]\naddress = \"127.0.0.1:0\"\nops_address = \"127.0.0.1:0\"\n\
         [[tenant]]\nid = \"{TENANT}\"\ndomain = \"Contoso.example\"\n\
         [[tenant]]\nid = \"{OTHER_TENANT}\"\ndomain = \"fabrikam.example\"\n\
         [keys]\ncreate = true\n{keys}\
         [[issuer]]\nurl = \"{issuer}\"\nca_file = \"../emulator.pem\"\nallow_private_network = true\n{extra}\n",
        settings = unhurried(&plan.settings),
        keys = plan.keys,
        issuer = emulator.github().issuer(),
        extra = with_issuers(&plan.issuer, emulator),
    );
    std::fs::write(file, text).unwrap();
    Config::load(file, std::iter::empty(), problems).unwrap()
}

/// Brokers of tests are not optimised and share the machine with all other tests: nobody is to be turned away for that, unless a
/// test is about it.
fn unhurried(settings: &str) -> String {
    const TIME: &str = "[limits]\nqueue_time = \"10s\"\n";
    if settings.contains("queue_time") {
        settings.to_owned()
    } else if settings.contains("[limits]\n") {
        settings.replacen("[limits]\n", TIME, 1)
    } else {
        format!("{settings}\n{TIME}")
    }
}

/// The text with the emulator's issuers in their places.
fn with_issuers(text: &str, emulator: &Emulator) -> String {
    text.replace("{issuer}", &emulator.github().issuer())
        .replace("{gitlab}", emulator.gitlab().issuer())
        .replace("{gke}", emulator.gke().issuer())
        .replace("{aks}", emulator.aks().issuer())
}

/// A client that trusts one CA and nothing else.
pub fn client(ca_file: Option<&Path>) -> reqwest::Client {
    client_builder(ca_file).build().unwrap()
}

/// The same, for what else is special about it.
pub fn client_builder(ca_file: Option<&Path>) -> reqwest::ClientBuilder {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file.unwrap()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy()
}

/// Waits until there is something; the test's own time limit ends it.
pub async fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

/// Asks again and again until there is something; after a minute the test has failed.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(60), looking).await;
    found.unwrap_or_else(|_| panic!("not within a minute: {what}"))
}

/// A valid request.
pub fn token_request(assertion: &str, scope: &str) -> Form {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT),
        ("scope", scope),
        ("client_assertion_type", JWT_BEARER),
        ("client_assertion", assertion),
    ];
    Form {
        tenant: TENANT.to_owned(),
        fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        headers: Vec::new(),
    }
}

/// A token request that can be changed in one place.
#[derive(Clone)]
pub struct Form {
    pub tenant: String,
    pub fields: Vec<(String, String)>,
    pub headers: Vec<(String, String)>,
}

impl Form {
    pub fn tenant(mut self, tenant: &str) -> Self {
        self.tenant = tenant.to_owned();
        self
    }

    /// Sets a field; one that is there is replaced.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(field, _)| field != name);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn body(&self) -> String {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(&self.fields).finish()
    }

    pub async fn send(&self, world: &World) -> Reply {
        self.send_in(world, Dialect::V2).await
    }
}

/// How a request is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    V2,
    V1,
    Rfc8693,
}

pub const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
pub const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";

impl Form {
    /// The same request in another dialect. What has no counterpart there becomes a fault of the same kind.
    pub fn in_dialect(&self, dialect: Dialect) -> Self {
        let put = |name: &str, value: &str| match (dialect, name) {
            (Dialect::V1 | Dialect::Rfc8693, "scope") => {
                ("resource", value.strip_suffix("/.default").unwrap_or("not one").to_owned())
            }
            (Dialect::Rfc8693, "client_assertion") => ("subject_token", value.to_owned()),
            (Dialect::Rfc8693, "client_assertion_type") => {
                ("subject_token_type", value.replace(JWT_BEARER, JWT_TYPE))
            }
            (Dialect::Rfc8693, "grant_type") => {
                ("grant_type", value.replace("client_credentials", TOKEN_EXCHANGE))
            }
            _ => ("", value.to_owned()),
        };
        let fields = self.fields.iter().map(|(name, value)| {
            let (other, value) = put(name, value);
            (if other.is_empty() { name.clone() } else { other.to_owned() }, value)
        });
        Self { fields: fields.collect(), ..self.clone() }
    }

    pub async fn send_in(&self, world: &World, dialect: Dialect) -> Reply {
        self.send_to(world, dialect, "").await
    }

    /// With a query string behind the path.
    pub async fn send_to(&self, world: &World, dialect: Dialect, query: &str) -> Reply {
        let url = match dialect {
            Dialect::V1 => world.token_url_v1(&self.tenant),
            Dialect::V2 | Dialect::Rfc8693 => world.token_url(&self.tenant),
        };
        let mut request = world
            .client
            .post(format!("{url}{query}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(self.in_dialect(dialect).body());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Reply::of(request.send().await.unwrap()).await
    }
}

/// Status, headers and JSON of an answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub body: Value,
}

impl Reply {
    pub async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| panic!("{status}: {:?}", bytes));
        Self { status, headers, body }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn trace(&self) -> String {
        self.header("x-ms-request-id").to_owned()
    }

    pub fn text(&self) -> &str {
        self.body["error_description"].as_str().unwrap_or_default()
    }

    pub fn token(&self) -> &str {
        assert_eq!(self.status, 200, "{:?}", self.body);
        self.body["access_token"].as_str().unwrap()
    }

    /// Checks everything that all refusals share, and the code of this one.
    #[track_caller]
    pub fn refused(&self, status: u16, error: &str, code: u32) -> &Self {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(error)), "{:?}", self.body);
        assert_eq!(self.body["error_codes"], serde_json::json!([code]), "{:?}", self.body);
        assert!(self.text().starts_with(&format!("AADSTS{code}: ")), "{}", self.text());
        assert!(self.text().is_ascii() && !self.text().contains(['"', '\\', '\r', '\n']), "{}", self.text());
        assert_eq!(self.body["trace_id"], self.header("x-ms-request-id"));
        assert_eq!(self.header("content-type"), "application/json; charset=utf-8");
        assert_eq!(self.header("cache-control"), "no-store, no-cache");
        assert!(self.body.get("access_token").is_none());
        let error_uri = self.body["error_uri"].as_str().unwrap();
        assert!(error_uri.ends_with(&format!("/error?code={code}")), "{error_uri}");
        self
    }
}

/// A client of the same trust that offers HTTP/2 alone.
pub fn http2_client(world: &World) -> reqwest::Client {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(world.broker.ca_file().unwrap()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

/// Both JSON texts of a token whose signature, times, issuer and audience have been checked.
#[derive(Debug)]
pub struct Checked {
    pub header: Value,
    pub claims: Value,
}

/// Checks a token as an API does that knows nothing but this authority: from the tenant's discovery document to its
/// keys, to the one that the token names.
pub async fn verify(world: &World, token: &str, audience: &str) -> Checked {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, _] = parts[..] else { panic!("no compact JWS: {token}") };
    let read = |part| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let (header, claims): (Value, Value) = (read(header), read(claims));

    let tenant = claims["tid"].as_str().unwrap();
    let document = world.get(&format!("/{tenant}/v2.0/.well-known/openid-configuration")).await.body;
    let issuer = match (claims["ver"].as_str().unwrap(), tenant) {
        ("2.0", _) => document["issuer"].as_str().unwrap().to_owned(),
        (_, CUSTOM) => CUSTOM_V1.to_owned(),
        _ => format!("{}/{tenant}/", world.authority),
    };
    let keys = world.client.get(document["jwks_uri"].as_str().unwrap()).send().await.unwrap();
    let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_slice(&keys.bytes().await.unwrap()).unwrap();
    let key = keys.find(header["kid"].as_str().unwrap()).expect("the key is published");
    // The key decides about the algorithm, not the token.
    let algorithm = match key.algorithm {
        jsonwebtoken::jwk::AlgorithmParameters::RSA(_) => jsonwebtoken::Algorithm::RS256,
        _ => jsonwebtoken::Algorithm::ES256,
    };
    let mut rules = jsonwebtoken::Validation::new(algorithm);
    rules.set_issuer(&[issuer]);
    rules.set_audience(&[audience]);
    rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    rules.validate_nbf = true;
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    let checked = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap();
    assert_eq!(checked.claims, claims);
    Checked { header, claims }
}

/// A GUID as we write it.
pub fn is_guid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    groups == [8, 4, 4, 4, 12] && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-'))
}
