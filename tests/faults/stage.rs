//! A broker that trusts scripted issuers, and the course of every case: honest, one fault, honest again.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::issuer::{Authority, DISCOVERY, Fault, Issuer, KEYS, SUBJECT};
use crate::support::*;

const HOUR: i64 = 3600;
/// Most credentials of an identity.
const CREDENTIALS: usize = 20;

/// Time enough that a loaded machine never meets a deadline that is not the case's own.
pub const PATIENT: &str =
    "[trust]\nconnect_timeout = \"10s\"\nfetch_deadline = \"30s\"\nrequest_wait = \"30s\"\n";
/// A deadline that a case is meant to meet.
pub const HASTY: &str = "[trust]\nfetch_deadline = \"1s\"\nrequest_wait = \"30s\"\n";

/// A broker, and the issuers that its directory names.
pub struct Scene {
    pub world: World,
    pub issuers: Vec<Issuer>,
    pub authority: Authority,
}

/// The identity whose credentials name an issuer.
pub fn identity(index: usize) -> String {
    format!("aaaaaaaa-1000-4a00-8000-{:012}", index / CREDENTIALS)
}

impl Scene {
    pub async fn start(settings: &str, count: usize) -> Self {
        let authority = Authority::new("authority");
        let issuers: Vec<Issuer> = (0..count).map(|_| Issuer::start(&authority)).collect();
        Self::with(settings, authority, issuers, "").await
    }

    /// With further records.
    pub async fn with(settings: &str, authority: Authority, issuers: Vec<Issuer>, records: &str) -> Self {
        let urls: Vec<_> = issuers.iter().map(|issuer| issuer.url.clone()).collect();
        let mut plan = plan(settings, &authority, &urls);
        plan.directory.push_str(records);
        Self { world: World::start(plan).await, issuers, authority }
    }

    /// A request of the identity that names an issuer.
    pub fn form(&self, index: usize, assertion: &str) -> Form {
        token_request(assertion, "https://sql.example/.default").with("client_id", &identity(index))
    }

    pub fn honest(&self, index: usize) -> Form {
        self.form(index, &self.issuers[index].assertion(self.world.clock.now()))
    }

    pub async fn send(&self, index: usize) -> Reply {
        self.honest(index).send(&self.world).await
    }

    /// Retried, since an issuer that has failed is left alone for a moment.
    pub async fn granted(&self, index: usize, what: &str) {
        let honest = || async { Some(self.send(index).await).filter(|reply| reply.status == 200) };
        eventually(&format!("a grant: {what}"), honest).await.token();
    }

    /// How often an issuer was asked for its keys.
    pub fn fetches(&self, index: usize) -> usize {
        self.issuers[index].server.paths().iter().filter(|path| *path == KEYS).count()
    }

    pub fn now(&self) -> i64 {
        self.world.clock.now()
    }

    pub fn pass(&self, seconds: i64) {
        self.world.clock.set(self.world.clock.now() + seconds);
    }

    /// No keys are at hand from here on: the next request waits for a fetch.
    pub fn forget(&self) {
        self.pass(24 * HOUR);
    }

    /// Nobody but its own server was asked for an issuer, and that only for its documents.
    pub fn nothing_else_was_asked(&self, index: usize, what: &str) {
        let issuer = &self.issuers[index];
        assert_eq!((issuer.twin.connections(), issuer.plain.connections()), (0, 0), "{what}");
        assert!(issuer.server.paths().iter().all(|path| [DISCOVERY, KEYS].contains(&&**path)), "{what}");
    }
}

/// A plan with an entry and a credential for each of these issuers.
pub fn plan(settings: &str, authority: &Authority, urls: &[String]) -> Plan {
    let pem = authority.pem();
    let (mut directory, mut entries) = (DIRECTORY.to_owned(), String::new());
    for (index, url) in urls.iter().enumerate() {
        if index % CREDENTIALS == 0 {
            let client = identity(index);
            directory.push_str(&format!(
                "\n[[identity]]\ntenant = \"contoso.example\"\nname = \"id-scene-{index}\"\nkind = \"application\"\n\
                 client_id = \"{client}\"\nprincipal_id = \"{}\"\n",
                client.replace("aaaaaaaa", "bbbbbbbb")
            ));
        }
        directory.push_str(&format!(
            "[[identity.federated_credential]]\nname = \"issuer-{index}\"\nissuer = {url:?}\nsubject = {SUBJECT:?}\n"
        ));
        entries.push_str(&format!(
            "[[issuer]]\nurl = {url:?}\nca_file = \"../scene.pem\"\nallow_private_network = true\n"
        ));
    }
    let files = vec![("scene.pem".to_owned(), pem)];
    Plan { settings: settings.to_owned(), issuer: entries, directory, files, ..Plan::default() }
}

type Make = Box<dyn Fn(&Issuer, &Authority) -> Fault + Send + Sync>;

/// What an issuer does, and what the audit record says of it; nothing where it must be accepted.
pub struct Case {
    name: String,
    fault: Make,
    cause: Option<String>,
}

pub fn case(
    name: &str,
    fault: impl Fn(&Issuer, &Authority) -> Fault + Send + Sync + 'static,
    cause: &str,
) -> Case {
    Case { name: name.to_owned(), fault: Box::new(fault), cause: Some(cause.to_owned()) }
}

/// A case that must be accepted.
pub fn control(name: &str, fault: impl Fn(&Issuer, &Authority) -> Fault + Send + Sync + 'static) -> Case {
    Case { name: name.to_owned(), fault: Box::new(fault), cause: None }
}

/// Which of both documents is at fault.
#[derive(Clone, Copy)]
pub struct Which {
    pub fault: fn(Answer) -> Fault,
    pub path: &'static str,
    step: &'static str,
    pub good: fn(&Issuer) -> String,
    /// What is said of a body that is none.
    pub malformed: &'static str,
    pub too_deep: &'static str,
    pub no_text: &'static str,
}

impl Which {
    pub const DISCOVERY: Self = Self {
        fault: Fault::discovery,
        path: DISCOVERY,
        step: "discovery document",
        good: Issuer::discovery,
        malformed: "not a JSON object",
        too_deep: "nested too deep",
        no_text: "not valid UTF-8",
    };
    pub const KEYS: Self = Self {
        fault: Fault::keys,
        path: KEYS,
        step: "key set",
        good: Issuer::jwks,
        malformed: "not a JWK set",
        too_deep: "not a JWK set",
        no_text: "not a JWK set",
    };

    /// A case of this document.
    pub fn case(
        self,
        name: &str,
        answer: impl Fn(&Issuer) -> Answer + Send + Sync + 'static,
        cause: &str,
    ) -> Case {
        case(name, move |issuer, _| (self.fault)(answer(issuer)), &format!("{}: {cause}", self.step))
    }

    pub fn control(self, name: &str, answer: impl Fn(&Issuer) -> Answer + Send + Sync + 'static) -> Case {
        control(name, move |issuer, _| (self.fault)(answer(issuer)))
    }
}

/// Plays cases side by side, each with an issuer of its own.
pub fn play(settings: &str, cases: Vec<Case>) {
    RUNTIME.block_on(async {
        let scene = Scene::start(settings, cases.len()).await;
        let stage = Arc::new((scene, cases));
        each(&stage, |stage, index| async move { stage.0.granted(index, &stage.1[index].name).await }).await;
        stage.0.forget();
        each(&stage, |stage, index| async move { at_fault(&stage.0, &stage.1[index], index).await }).await;
        each(&stage, |stage, index| async move {
            let (scene, case) = (&stage.0, &stage.1[index]);
            scene.issuers[index].heal();
            scene.granted(index, &case.name).await;
            scene.nothing_else_was_asked(index, &case.name);
        })
        .await;
    });
}

type Stage = Arc<(Scene, Vec<Case>)>;

async fn each<F: Future<Output = ()> + Send + 'static>(stage: &Stage, step: impl Fn(Stage, usize) -> F) {
    let mut all = JoinSet::new();
    for index in 0..stage.1.len() {
        all.spawn(step(Arc::clone(stage), index));
    }
    let mut failed = Vec::new();
    while let Some(done) = all.join_next().await {
        // Said by the test itself: what its tasks say may be shown beside another test.
        failed.extend(done.err().map(|error| *error.into_panic().downcast::<String>().unwrap()));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

async fn at_fault(scene: &Scene, case: &Case, index: usize) {
    let issuer = &scene.issuers[index];
    let before = (issuer.server.paths().len(), issuer.server.connections());
    issuer.fail((case.fault)(issuer, &scene.authority));
    let reply = scene.send(index).await;
    bounded(scene, index, before, &case.name);
    match &case.cause {
        Some(cause) => refused(&scene.world, &reply, &issuer.url, (&case.name, cause)).await,
        None => _ = reply.token(),
    }
}

/// One fetch asks for two documents at most, over a connection each, and reads no more of them than it may.
fn bounded(scene: &Scene, index: usize, (paths, connections): (usize, usize), what: &str) {
    let server = &scene.issuers[index].server;
    let asked = &server.paths()[paths..];
    assert!(
        [DISCOVERY, KEYS].starts_with(&asked.iter().map(String::as_str).collect::<Vec<_>>()),
        "{what}: {asked:?}"
    );
    assert!(server.connections() - connections <= 2, "{what}");
    // 576 KiB, and what is in the buffers of two sockets.
    assert!(server.taken() < 2 << 20, "{what}: {} bytes", server.taken());
}

/// S-07: the caller learns that its issuer failed and no more, the operator the step and the kind of fault.
async fn refused(world: &World, reply: &Reply, issuer: &str, (what, cause): (&str, &str)) {
    assert_eq!(reply.status, 503, "{what}: {:?}", reply.body);
    reply.refused(503, "temporarily_unavailable", 50166);
    let seconds: u32 = reply.header("retry-after").parse().unwrap();
    assert!((1..=30).contains(&seconds), "{what}: {seconds}");
    let text = reply.text().split(" Trace ID: ").next().unwrap();
    let expected = format!("AADSTS50166: Request to External OIDC endpoint failed. Issuer: '{issuer}'.");
    assert_eq!(text, expected, "{what}");
    let record = world.record(&reply.trace()).await;
    assert_eq!(record["status"]["additionalDetails"], cause, "{what}");
    let answer = format!("{:?} {}", reply.headers, reply.body);
    assert!(!answer.contains("127.0.0.1") && !answer.contains("[::1]"), "{what}: {answer}");
    assert!(!format!("{answer} {record}").contains("SECRET-WORD"), "{what}: {answer} {record}");
}
