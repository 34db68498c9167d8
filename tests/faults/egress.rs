//! S: what can make the broker connect to something, and what its answers tell of it.

use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use ficus::config::Config;
use ficus::directory::files::Tree;
use ficus::document::Problems;
use serde_json::{Value, json};

use crate::answer::Answer;
use crate::issuer::{Fault, Issuer, KEYS, Leaf, SUBJECT};
use crate::stage::{HASTY, PATIENT, Scene, identity};
use crate::support::*;

/// A port that is open, and that nobody has reason to connect to.
struct Trap(TcpListener);

impl Trap {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://localhost:{}", self.0.local_addr().unwrap().port())
    }

    fn is_untouched(&self) {
        assert_eq!(self.0.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody called");
    }
}

#[test]
fn s_01_nothing_in_a_token_is_an_address() {
    RUNTIME.block_on(async {
        let scene = Scene::start(PATIENT, 1).await;
        let (issuer, stranger, silent) = (&scene.issuers[0], Issuer::start(&scene.authority), Trap::new());
        scene.send(0).await.token();
        let asked = issuer.server.connections();
        for name in [
            stranger.url.clone(),
            format!("{}/", issuer.url),
            format!("{}/../x", issuer.url),
            format!("{}/.", issuer.url),
            format!("{}/%2e%2e/x", issuer.url),
            format!("{}#{}", stranger.url, issuer.url),
            format!("{}@localhost:{}", issuer.url, stranger.server.port),
            format!("{}?{}", stranger.url, issuer.url),
            issuer.url.replace("localhost", "127.0.0.1"),
            issuer.url.replace("https", "http"),
            issuer.plain_url(""),
            issuer.twin_url(""),
            silent.url("https"),
            "https://169.254.169.254".to_owned(),
            "file:///proc/self/environ".to_owned(),
            format!("data:application/json,{}", stranger.jwks()),
        ] {
            let mut claims = stranger.claims(scene.now());
            claims["iss"] = json!(name);
            for signer in [&stranger, issuer] {
                let form = scene.form(0, &signer.sign_as(&signer.key_id, &claims));
                form.send(&scene.world).await.refused(401, "invalid_client", 700_211);
            }
        }
        for (member, value) in [
            ("jku", json!(format!("{}{KEYS}", stranger.url))),
            ("jku", json!(format!("{}@localhost:{}{KEYS}", issuer.url, stranger.server.port))),
            ("x5u", json!(stranger.url)),
            ("jwk", stranger.jwk()),
            ("iss", json!(stranger.url)),
        ] {
            let mut header = json!({ "typ": "JWT", "alg": "ES256", "kid": issuer.key_id });
            header[member] = value;
            let reply = scene
                .form(0, &stranger.sign_under(&header, &issuer.claims(scene.now())))
                .send(&scene.world)
                .await;
            reply.refused(401, "invalid_client", 700_027);
        }
        for parameter in ["iss", "issuer", "jwks_uri", "request_uri", "discovery_url", "redirect_uri"] {
            scene.honest(0).with(parameter, &stranger.url).send(&scene.world).await.token();
        }
        assert_eq!((stranger.server.connections(), stranger.twin.connections()), (0, 0));
        // One bad signature was worth a fetch; it went where the record says.
        assert_eq!((scene.fetches(0), issuer.server.connections()), (2, asked + 2));
        scene.nothing_else_was_asked(0, "tokens");
        silent.is_untouched();
    });
}

/// Why the scene's records would be refused when one of them has this issuer.
fn problems(folder: &Path, issuer: &str) -> Vec<String> {
    let (problems, file) = (Problems::default(), folder.join("etc/ficus.toml"));
    let config = Config::load(&file, std::iter::empty(), &problems).unwrap();
    let records = folder.join("etc/directory/records.toml");
    let text = std::fs::read_to_string(&records).unwrap();
    let more = format!(
        "[[identity]]\ntenant = \"contoso.example\"\nname = \"id-more\"\nkind = \"application\"\n\
         client_id = \"{}\"\nprincipal_id = \"dddddddd-2000-4a00-8000-000000000000\"\n\
         [[identity.federated_credential]]\nname = \"more\"\nissuer = {issuer:?}\nsubject = {SUBJECT:?}\n",
        identity(0).replace("1000", "2000")
    );
    std::fs::write(folder.join("etc/directory/more.toml"), more).unwrap();
    config.load_directory(&mut Tree::default(), &problems);
    std::fs::remove_file(folder.join("etc/directory/more.toml")).unwrap();
    assert_eq!(std::fs::read_to_string(records).unwrap(), text);
    problems.into_vec().iter().filter(|problem| !problem.warning).map(ToString::to_string).collect()
}

#[test]
fn s_02_records_take_no_issuer_that_is_not_fetched_as_it_is_written() {
    RUNTIME.block_on(async {
        let scene = Scene::start(PATIENT, 1).await;
        scene.send(0).await.token();
        let folder = scene.world.folder.path();
        for good in ["https://issuer.example", "https://issuer.example/", "https://issuer.example:8443/a/b"] {
            assert_eq!(problems(folder, good), Vec::<String>::new(), "{good}");
        }
        for wrong in [
            "",
            "issuer.example",
            "//issuer.example",
            "http://issuer.example",
            "file:///etc/passwd",
            "data:application/json,{}",
            "https://",
            "https:///x",
            "https://u@issuer.example",
            "https://u:p@issuer.example",
            "https://issuer.example?x",
            "https://issuer.example#x",
            "https://ISSUER.example",
            "https://issuer.example:443",
            "https://issuer.example/a/../b",
            "https://issuer.example\\x",
            " https://issuer.example",
            "https://issuer.example\n",
            // Inside a network, without an entry that opens it.
            "https://127.0.0.1",
            "https://127.1",
            "https://0x7f000001",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://10.0.0.1",
            "https://169.254.169.254",
            "https://[::1]",
            "https://[::ffff:127.0.0.1]",
            "https://[fd00:ec2::254]",
            "https://localhost",
            "https://localhost:1",
            "https://kubernetes",
            "https://metadata.google.internal",
            "https://printer.local",
        ] {
            let found = problems(folder, wrong);
            assert!(
                !found.is_empty() && found.iter().all(|problem| problem.contains("more.toml")),
                "{wrong}: {found:?}"
            );
        }
        scene.send(0).await.token();
    });
}

#[test]
fn s_03_a_name_that_leads_nowhere_is_looked_up_and_no_more() {
    RUNTIME.block_on(async {
        let scene = Scene::start(PATIENT, 1).await;
        let mut claims = scene.issuers[0].claims(scene.now());
        (claims["iss"], claims["sub"]) = (json!("https://issuer.invalid"), json!("anything"));
        let assertion = scene.issuers[0].sign_as("key-1", &claims);
        let form = token_request(&assertion, "https://sql.example/.default");
        form.send(&scene.world).await.refused(503, "temporarily_unavailable", 50_166);
        scene.send(0).await.token();
    });
}

/// This program runs one of its tests with proxies in its environment.
#[test]
fn s_06_proxies_of_the_environment_are_not_heeded() {
    let trap = Trap::new();
    let proxies = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "transport::f_36_to_f_50_requests_offer_nothing_that_answers_could_abuse"])
        .envs(proxies.map(|name| (name, trap.url("http"))))
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && told.contains("1 passed"), "{told}");
    trap.is_untouched();
}

#[test]
fn s_07_every_fault_of_an_issuer_gets_the_same_answer() {
    RUNTIME.block_on(async {
        let mut answers: Vec<(&str, Value)> = Vec::new();
        let scene = Scene::start(HASTY, 1).await;
        let issuer = &scene.issuers[0];
        let leads = |to: &str| Fault::discovery(Answer::ok(issuer.document("jwks_uri", json!(to))));
        for (what, fault) in [
            ("a shut port", Fault::leaf(Leaf::Says(""))),
            ("a port that speaks", Fault::leaf(Leaf::Says("220 SECRET-WORD"))),
            ("a port that is silent", Fault::discovery(Answer::hang())),
            (
                "a server that refuses",
                Fault::discovery(Answer::status(401, &["www-authenticate: SECRET-WORD"], "SECRET-WORD")),
            ),
            ("a page", Fault::discovery(Answer::ok("SECRET-WORD"))),
            ("keys that are none", Fault::keys(Answer::ok("SECRET-WORD"))),
            ("an inner address", leads(&issuer.twin_url(KEYS))),
            ("an inner address where nobody is", leads("https://127.0.0.1:9/keys")),
            ("a forbidden address", leads("https://169.254.169.254/")),
        ] {
            scene.granted(0, what).await;
            scene.forget();
            issuer.fail(fault);
            let reply = scene.send(0).await;
            reply.refused(503, "temporarily_unavailable", 50_166);
            let mut body = reply.body.clone();
            for own in ["trace_id", "correlation_id", "timestamp"] {
                body.as_object_mut().unwrap().remove(own);
            }
            body["error_description"] = json!(reply.text().split(" Trace ID: ").next());
            body["retry-after"] = json!(reply.header("retry-after"));
            answers.push((what, body));
            issuer.heal();
        }
        for (what, answer) in &answers[1..] {
            assert_eq!(answer, &answers[0].1, "{what}");
        }
        scene.granted(0, "after all").await;
    });
}
