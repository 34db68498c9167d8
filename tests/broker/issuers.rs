//! Issuers at fault, what is asked of them, and how they are kept apart.

use std::io::ErrorKind;
use std::sync::Arc;

use ficus::emulator::github::Job;
use ficus::emulator::{Document, Emulator, Fault, IssuerKey, KeyStyle, Settings};
use http::{HeaderValue, StatusCode};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::*;

const SUBJECT: &str = "repo:my--org/payments-service:ref:refs/heads/main";
/// Of an identity that names other issuers only.
const ELSEWHERE: &str = "aaaaaaaa-0009-4a00-8000-000000000009";

fn requests(world: &World) -> (u64, u64) {
    let github = world.emulator.github();
    (github.requests(Document::Discovery), github.requests(Document::Jwks))
}

/// A plan with one more identity.
fn with_identity(client: &str, credentials: &[(&str, &str)]) -> Plan {
    let principal = client.replace('a', "b");
    let mut directory = format!(
        "{DIRECTORY}\n[[identity]]\ntenant = \"contoso.example\"\nname = \"id-extra\"\nkind = \"application\"\n\
         client_id = \"{client}\"\nprincipal_id = \"{principal}\"\n"
    );
    for (name, issuer) in credentials {
        directory.push_str(&format!(
            "[[identity.federated_credential]]\nname = \"{name}\"\nissuer = \"{issuer}\"\nsubject = \"{SUBJECT}\"\n"
        ));
    }
    directory.push_str(&format!(
        "[[role_assignment]]\ntenant = \"contoso.example\"\nprincipal_id = \"{principal}\"\nrole = \"Reader\"\n\
         scope = \"/subscriptions/s\"\n"
    ));
    Plan { directory, ..Plan::default() }
}

/// Checks that a fault of the issuer is told as such, that its cause is for the operator alone, that nothing is minted,
/// and that the honest request works once the fault is gone.
fn fault(plan: Plan, document: Document, fault: impl Into<Fault>, cause: &str) {
    let (fault, cause) = (fault.into(), cause.to_owned());
    own(plan, |world| async move {
        world.emulator.github().set_fault(document, fault);
        let reply = world.request().send(&world).await;
        reply.refused(503, "temporarily_unavailable", 50166);
        let seconds: u32 = reply.header("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
        // The issuer is what the caller presented itself; nothing else tells the fault.
        let text = reply.text().split(" Trace ID: ").next().unwrap().to_owned();
        let issuer = world.emulator.github().issuer();
        let expected = format!("AADSTS50166: Request to External OIDC endpoint failed. Issuer: '{issuer}'.");
        assert_eq!(text, expected);
        assert!(!reply.body.to_string().contains(&cause), "{:?}", reply.body);

        let record = world.record(&reply.trace()).await;
        assert_eq!(record["status"]["additionalDetails"], cause);
        assert_eq!(record["status"]["reason"], "issuer_unavailable");
        assert_eq!((&record["verified"], &record["outcome"]), (&json!(false), &json!("refused")));
        assert!(record.get("uniqueTokenIdentifier").is_none());

        world.emulator.github().set_fault(document, None);
        let honest = || async { Some(world.request().send(&world).await).filter(|r| r.status == 200) };
        eventually("a grant after the fault", honest).await.token();
    });
}

const BOTH: [(Document, &str); 2] =
    [(Document::Discovery, "discovery document"), (Document::Jwks, "key set")];

#[test]
fn an_issuer_that_has_lost_its_documents_is_503() {
    for (document, name) in BOTH {
        let cause = format!("{name}: the server answered with status 404");
        fault(Plan::default(), document, Fault::Status(StatusCode::NOT_FOUND), &cause);
    }
}

#[test]
fn an_issuer_that_fails_is_503() {
    for (document, name) in BOTH {
        let cause = format!("{name}: the server answered with status 500");
        fault(Plan::default(), document, Fault::Status(StatusCode::INTERNAL_SERVER_ERROR), &cause);
    }
}

#[test]
fn an_issuer_that_shows_a_page_is_503() {
    let page = || Fault::Body("<!doctype html><title>Down for maintenance</title>".into());
    fault(Plan::default(), Document::Discovery, page(), "discovery document: not a JSON object");
    fault(Plan::default(), Document::Jwks, page(), "key set: not a JWK set");
}

#[test]
fn an_issuer_without_keys_is_503() {
    let keys = |text: &'static str| Fault::Body(text.into());
    fault(Plan::default(), Document::Jwks, keys("{\"keys\":[]}"), "key set: holds no usable key");
    fault(Plan::default(), Document::Jwks, keys("[]"), "key set: not a JWK set");
}

#[test]
fn an_issuer_that_names_another_is_503() {
    let document = "{\"issuer\":\"https://other.example\",\"jwks_uri\":\"https://other.example/keys\"}";
    let cause = "discovery document: its issuer is not, byte for byte, the one asked for";
    fault(Plan::default(), Document::Discovery, Fault::Body(document.into()), cause);
}

#[test]
fn an_issuer_that_redirects_is_503_and_not_followed() {
    // To a place where the very document would be had.
    own(Plan::default(), |elsewhere| async move {
        let github = elsewhere.emulator.github();
        let (discovery, jwks) = (github.discovery_url(), github.jwks_url());
        for ((document, name), place) in BOTH.into_iter().zip([discovery, jwks]) {
            let cause = format!("{name}: the server answered with status 302");
            let redirect = Fault::Redirect(HeaderValue::from_str(&place).unwrap());
            tokio::task::spawn_blocking(move || fault(Plan::default(), document, redirect, &cause))
                .await
                .unwrap();
        }
        assert_eq!(requests(&elsewhere), (0, 0));
    });
}

#[test]
fn an_issuer_that_does_not_answer_is_503() {
    let waiting = |text: &str| Plan { settings: format!("[trust]\n{text}\n"), ..Plan::default() };
    // The request gives up first: the fetch goes on.
    for (document, _) in BOTH {
        let plan = waiting("request_wait = \"100ms\"\nfetch_deadline = \"30s\"");
        fault(plan, document, Fault::Hang, "the keys are still being fetched");
    }
    // The fetch gives up first.
    for (document, name) in BOTH {
        let plan = waiting("request_wait = \"30s\"\nfetch_deadline = \"500ms\"");
        fault(plan, document, Fault::Hang, &format!("{name}: it did not arrive in time"));
    }
}

#[test]
fn an_issuer_that_nobody_answers_for_is_503() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let issuer = format!("https://localhost:{}", nobody.local_addr().unwrap().port());
    let plan = Plan {
        issuer: format!(
            "[[issuer]]\nurl = \"{issuer}\"\nallow_private_network = true\nca_file = \"../emulator.pem\""
        ),
        ..with_identity(ELSEWHERE, &[("gone", &issuer)])
    };
    drop(nobody);
    own(plan, |world| async move {
        let (header, mut claims) = world.honest();
        claims["iss"] = issuer.into();
        let form = world.request_with(&world.sign(&header, &claims)).with("client_id", ELSEWHERE);
        let reply = form.send(&world).await;
        reply.refused(503, "temporarily_unavailable", 50166);
        let details = world.record(&reply.trace()).await["status"]["additionalDetails"].clone();
        assert_eq!(details, "discovery document: the connection failed: connection refused");
        // One dead issuer stops no other.
        world.request().send(&world).await.token();
    });
}

#[test]
fn once_fetched_keys_outlive_their_issuer() {
    own(Plan::default(), |world| async move {
        world.request().send(&world).await.token();
        for (document, _) in BOTH {
            world.emulator.github().set_fault(document, Fault::Status(StatusCode::INTERNAL_SERVER_ERROR));
        }
        world.request().send(&world).await.token();
    });
}

// What is asked

#[test]
fn no_issuer_is_asked_that_no_credential_of_the_asked_identity_names() {
    // Counts whoever comes: an address that only tokens name.
    let trap = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let trap_url = format!("https://localhost:{}", trap.local_addr().unwrap().port());
    own(with_identity(ELSEWHERE, &[("other", "https://issuer.invalid")]), |world| async move {
        let honest = world.assertion();
        let (header, claims) = world.honest();
        let with_header = |name: &str, value: serde_json::Value| {
            let mut header = header.clone();
            header[name] = value;
            world.sign(&header, &claims)
        };
        let without_key_id = {
            let mut header = header.clone();
            header.as_object_mut().unwrap().remove("kid");
            world.sign(&header, &claims)
        };
        let of_issuer = |issuer: &str| {
            let mut claims = claims.clone();
            claims["iss"] = issuer.into();
            world.sign(&header, &claims)
        };
        let request = |assertion: &str| world.request_with(assertion);
        let identity = |client: &str| world.request().with("client_id", client);
        for (what, form, code) in [
            ("an identity that names others", identity(ELSEWHERE), 700211),
            ("a disabled identity", identity("aaaaaaaa-0002-4a00-8000-000000000002"), 7000112),
            ("a disabled credential", identity("aaaaaaaa-0003-4a00-8000-000000000003"), 70025),
            ("an unknown identity", identity("aaaaaaaa-0000-4a00-8000-00000000000a"), 700016),
            ("another tenant", world.request().tenant(OTHER_TENANT), 700016),
            ("half a token", request(&honest[..honest.len() / 2]), 50027),
            ("no signature part", request(honest.rsplit_once('.').unwrap().0), 50027),
            ("alg none", request(&with_header("alg", "none".into())), 5002738),
            ("alg HS256", request(&with_header("alg", "HS256".into())), 5002738),
            ("crit", request(&with_header("crit", json!(["exp"]))), 50027),
            ("another typ", request(&with_header("typ", "at+jwt".into())), 5002727),
            ("no kid", request(&without_key_id), 5002723),
            ("an issuer's address", request(&of_issuer(&trap_url)), 700211),
            (
                "an issuer with a slash more",
                request(&of_issuer(&format!("{}/", world.emulator.origin()))),
                700211,
            ),
            ("a resource's form", world.request().with("scope", "https://vault.example"), 1002012),
        ] {
            let reply = form.send(&world).await;
            assert_eq!(reply.body["error_codes"], json!([code]), "{what}: {:?}", reply.body);
            assert_eq!(requests(&world), (0, 0), "{what}");
        }
        for (name, value) in [
            ("jku", json!(format!("{trap_url}/keys"))),
            ("x5u", json!(format!("{trap_url}/chain"))),
            ("jwk", world.emulator.github().keys()[1].public_jwk().clone()),
        ] {
            request(&with_header(name, value)).send(&world).await;
        }
        for (name, value) in [("iss", &trap_url), ("request_uri", &trap_url), ("jwks_uri", &trap_url)] {
            world.request().with(name, value).send(&world).await.token();
        }
        assert_eq!(requests(&world), (1, 1));
        assert_eq!(trap.accept().unwrap_err().kind(), ErrorKind::WouldBlock, "somebody called");
    });
}

#[test]
fn fifty_exchanges_ask_the_issuer_once() {
    own(Plan::default(), |world| async move {
        for _ in 0..50 {
            world.request().send(&world).await.token();
        }
        assert_eq!(requests(&world), (1, 1));
    });
}

#[test]
fn forty_first_requests_at_once_ask_the_issuer_once() {
    own(Plan::default(), |world| async move {
        let mut all = JoinSet::new();
        for _ in 0..40 {
            let (world, form) = (Arc::clone(&world), world.request());
            all.spawn(async move { form.send(&world).await.token().to_owned() });
        }
        assert_eq!(all.join_all().await.len(), 40);
        assert_eq!(requests(&world), (1, 1));
    });
}

#[test]
fn forty_first_requests_at_once_share_one_failure() {
    let plan = Plan {
        settings: "[trust]\nrequest_wait = \"30s\"\nfetch_deadline = \"30s\"\n".into(),
        ..Plan::default()
    };
    own(plan, |world| async move {
        let github = world.emulator.github();
        // All of them come before the first can fail.
        github.set_fault(Document::Discovery, Fault::Hang);
        github.set_fault(Document::Jwks, Fault::Status(StatusCode::INTERNAL_SERVER_ERROR));
        let mut all = JoinSet::new();
        for _ in 0..40 {
            let (world, form) = (Arc::clone(&world), world.request());
            all.spawn(async move { form.send(&world).await.status });
        }
        let waiting = || async { (world.metric("ficus_requests_in_flight").await == 40.0).then_some(()) };
        eventually("forty requests that wait", waiting).await;
        github.set_fault(Document::Discovery, None);
        assert!(all.join_all().await.iter().all(|status| *status == 503));
        assert_eq!(requests(&world), (1, 1));
    });
}

#[test]
fn a_key_that_the_issuer_does_not_publish_is_unknown() {
    own(Plan::default(), |world| async move {
        world.request().send(&world).await.token();
        let (_, claims) = world.honest();
        let key = IssuerKey::rsa(KeyStyle::Uuid, world.clock.now());
        let stranger = key.sign(&key.header(), &claims);
        let reply = world.request_with(&stranger).send(&world).await;
        reply.refused(401, "invalid_client", 7000272);
        assert!(reply.text().contains(key.id()), "{}", reply.text());
        // Under a published name it is a forgery.
        let forged = key.sign(&world.honest().0, &claims);
        world.request_with(&forged).send(&world).await.refused(401, "invalid_client", 700027);
        world.request().send(&world).await.token();
    });
}

// Several issuers

#[test]
fn equal_key_ids_of_two_issuers_are_two_keys() {
    RUNTIME.block_on(async {
        let other = Emulator::start(Settings::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("other.pem");
        std::fs::write(&ca_file, other.ca_pem()).unwrap();
        let (issuer, both) = (other.github().issuer(), "aaaaaaaa-0008-4a00-8000-000000000008");
        let plan = Plan {
            issuer: format!(
                "[[issuer]]\nurl = \"{issuer}\"\nca_file = \"{}\"\nallow_private_network = true",
                ca_file.display()
            ),
            ..with_identity(both, &[("first", "{issuer}"), ("second", &issuer)])
        };
        let world = World::start(plan).await;

        // The other issuer publishes its key under the first one's name.
        let (ours, theirs) = (&world.emulator.github().keys()[0], &other.github().keys()[0]);
        let mut published = theirs.public_jwk().clone();
        published["kid"] = ours.id().into();
        let keys = json!({ "keys": [published] }).to_string();
        other.github().set_fault(Document::Jwks, Fault::Body(keys.into()));

        let header = ours.header();
        let claims = |issuer: &str| {
            let mut claims = world.emulator.github().claims(&Job::default(), AUDIENCE);
            claims["iss"] = issuer.into();
            claims
        };
        let (first, second) = (claims(&world.emulator.github().issuer()), claims(&issuer));
        let request = |assertion: String| world.request_with(&assertion).with("client_id", both);
        for round in 0..2 {
            for (own, crossed, claims) in [(ours, theirs, &first), (theirs, ours, &second)] {
                request(crossed.sign(&header, claims)).send(&world).await.refused(
                    401,
                    "invalid_client",
                    700027,
                );
                let reply = request(own.sign(&header, claims)).send(&world).await;
                assert_eq!(reply.status, 200, "round {round}: {:?}", reply.body);
            }
        }
        // A name that only the other issuer knows.
        let key = &other.github().keys()[1];
        request(key.sign(&key.header(), &first)).send(&world).await.refused(401, "invalid_client", 7000272);
        // Each doubt was looked into once, at the issuer that it is about: a bad signature of both (not on the very first
        // request, which had just waited), then an unknown key of the first.
        assert_eq!(other.github().requests(Document::Jwks), 2);
        assert_eq!(requests(&world), (3, 3));
    });
}

#[test]
fn one_hanging_issuer_holds_up_no_other() {
    RUNTIME.block_on(async {
        let other = Emulator::start(Settings::default()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("other.pem");
        std::fs::write(&ca_file, other.ca_pem()).unwrap();
        let (issuer, both) = (other.github().issuer(), "aaaaaaaa-0008-4a00-8000-000000000008");
        let plan = Plan {
            settings: "[trust]\nrequest_wait = \"30s\"\nfetch_deadline = \"30s\"\n".into(),
            issuer: format!(
                "[[issuer]]\nurl = \"{issuer}\"\nca_file = \"{}\"\nallow_private_network = true",
                ca_file.display()
            ),
            ..with_identity(both, &[("first", "{issuer}"), ("second", &issuer)])
        };
        let world = Arc::new(World::start(plan).await);
        other.github().set_fault(Document::Discovery, Fault::Hang);
        let assertion = other.github().assertion(&Job::default(), AUDIENCE);
        let waiting = tokio::spawn({
            let (world, form) = (Arc::clone(&world), world.request_with(&assertion).with("client_id", both));
            async move { form.send(&world).await }
        });
        let asked = || async { (other.github().requests(Document::Discovery) == 1).then_some(()) };
        eventually("a request that waits for keys", asked).await;
        world.request().with("client_id", both).send(&world).await.token();
        assert!(!waiting.is_finished());
        other.github().set_fault(Document::Discovery, None);
        waiting.await.unwrap().token();
    });
}
