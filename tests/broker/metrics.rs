//! What operators can measure.

use std::collections::BTreeSet;

use ficus::emulator::{Document, Fault};
use http::StatusCode;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::*;

/// Every metric of ours with its type, as the README lists them.
const ALL: [(&str, &str); 31] = [
    ("ficus_exchanges_total", "counter"),
    ("ficus_exchange_duration_seconds", "histogram"),
    ("ficus_stage_duration_seconds", "histogram"),
    ("ficus_cache_requests_total", "counter"),
    ("ficus_issuer_fetches_total", "counter"),
    ("ficus_issuer_keys", "gauge"),
    ("ficus_issuer_keys_age_seconds", "gauge"),
    ("ficus_signing_key_age_seconds", "gauge"),
    ("ficus_directory_generation", "gauge"),
    ("ficus_directory_info", "gauge"),
    ("ficus_directory_objects", "gauge"),
    ("ficus_directory_reload_total", "counter"),
    ("ficus_restless_files", "gauge"),
    ("ficus_refusal_causes_total", "counter"),
    ("ficus_observed_matches_total", "counter"),
    ("ficus_credentials_per_identity_max", "gauge"),
    ("ficus_audit_records_total", "counter"),
    ("ficus_audit_queue_length", "gauge"),
    ("ficus_one_time_entries", "gauge"),
    ("ficus_tls_certificate_expiry_seconds", "gauge"),
    ("ficus_tls_handshake_failures_total", "counter"),
    ("ficus_connections", "gauge"),
    ("ficus_tls_handshakes", "gauge"),
    ("ficus_body_bytes", "gauge"),
    ("ficus_requests_in_flight", "gauge"),
    ("ficus_requests_waiting", "gauge"),
    ("ficus_requests_shed_total", "counter"),
    ("ficus_build_info", "counter"),
    ("process_cpu_seconds_total", "counter"),
    ("process_open_fds", "gauge"),
    ("process_resident_memory_bytes", "gauge"),
];

const STAGES: [&str; 6] = ["parse", "keys", "verify", "match", "mint", "audit"];

async fn text(world: &World) -> String {
    world.ops("/metrics").await.1
}

/// Names and labels without values.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

fn fetches(world: &World, result: &str) -> String {
    let issuer = world.emulator.github().issuer();
    format!("ficus_issuer_fetches_total{{issuer=\"{issuer}\",result=\"{result}\"}}")
}

fn of_issuer(world: &World, name: &str) -> String {
    format!("ficus_{name}{{issuer=\"{}\"}}", world.emulator.github().issuer())
}

fn stage(name: &str, part: &str) -> String {
    format!("ficus_stage_duration_seconds_{part}{{stage=\"{name}\"}}")
}

#[test]
fn every_metric_is_there_after_one_exchange_and_in_the_readme() {
    own(Plan::default(), |world| async move {
        world.request().send(&world).await.token();
        let text = text(&world).await;
        let readme = include_str!("../../README.md");
        for (name, kind) in ALL {
            assert!(text.contains(&format!("# TYPE {name} {kind}\n")), "{name} in {text}");
            assert!(text.contains(&format!("\n{name}")), "no series of {name}");
            let listed = name.strip_prefix("ficus_").unwrap_or("process_");
            assert!(readme.contains(&format!("| `{listed}")), "{listed} is not in the README");
        }
        let ours = text.lines().filter(|line| line.starts_with("# TYPE ficus_")).count();
        assert_eq!(ours, ALL.iter().filter(|(name, _)| name.starts_with("ficus_")).count());
        for name in STAGES {
            assert_eq!(world.metric(&stage(name, "count")).await, 1.0, "{name}");
        }
        // Nobody had to wait.
        assert_eq!(world.metric(&stage("queue", "count")).await, 0.0);
        let mut parts = 0.0;
        for name in STAGES {
            parts += world.metric(&stage(name, "sum")).await;
        }
        let whole = world.metric("ficus_exchange_duration_seconds_sum{outcome=\"granted\"}").await;
        assert!(0.0 < parts && parts <= whole, "{parts} of {whole}");
    });
}

#[test]
fn a_refusal_counts_up_to_the_stage_that_it_ends() {
    own(Plan::default(), |world| async move {
        let (header, claims) = world.honest();
        let forged = world.emulator.github().keys()[1].sign(&header, &claims);
        world.request_with(&forged).send(&world).await.refused(401, "invalid_client", 700027);
        // The dialect's refusals come before the first stage.
        world.request().without("scope").send(&world).await;
        // The second `keys`: are there newer ones?
        for (name, count) in STAGES.into_iter().zip([1.0, 2.0, 1.0, 0.0, 0.0, 0.0]) {
            assert_eq!(world.metric(&stage(name, "count")).await, count, "{name}");
        }
    });
}

#[test]
fn fetches_are_counted_by_their_end_and_keys_grow_old() {
    own(Plan::default(), |world| async move {
        let (success, failure) = (fetches(&world, "success"), fetches(&world, "failure"));
        assert_eq!((world.metric(&success).await, world.metric(&failure).await), (0.0, 0.0));
        assert_eq!(world.metric(&of_issuer(&world, "issuer_keys")).await, 0.0);
        let age = of_issuer(&world, "issuer_keys_age_seconds");
        assert!(!series(&text(&world).await).contains(&age), "nothing was fetched");

        for _ in 0..3 {
            world.request().send(&world).await.token();
        }
        assert_eq!((world.metric(&success).await, world.metric(&failure).await), (1.0, 0.0));
        for (result, count) in [("miss", 1.0), ("hit", 2.0)] {
            let requests = format!("ficus_cache_requests_total{{cache=\"issuer_keys\",result=\"{result}\"}}");
            assert_eq!(world.metric(&requests).await, count, "{result}");
        }
        let keys = world.metric(&of_issuer(&world, "issuer_keys")).await;
        assert!(keys >= 1.0, "{keys}");
        assert_eq!(world.metric(&age).await, 0.0);

        // Past the lifetime of the keys, with an issuer that fails: what is at hand stays and is seen to be old.
        world.emulator.github().set_fault(Document::Jwks, Fault::Status(StatusCode::NOT_FOUND));
        world.clock.set(world.clock.now() + 700);
        world.request().send(&world).await.token();
        let failed = || async { (world.metric(&failure).await == 1.0).then_some(()) };
        eventually("a refresh that fails", failed).await;
        assert_eq!(world.metric(&success).await, 1.0);
        assert_eq!(world.metric(&of_issuer(&world, "issuer_keys")).await, keys);
        assert_eq!(world.metric(&age).await, 700.0);
    });
}

#[test]
fn no_request_makes_a_series_and_no_label_has_its_text() {
    own(Plan::default(), |world| async move {
        world.request().send(&world).await.token();
        let before = series(&text(&world).await);
        let mark = "zebra";
        let (mut header, mut claims) = world.honest();
        header["kid"] = mark.into();
        claims["sub"] = mark.into();
        let strange = world.sign(&header, &claims);
        claims["iss"] = format!("https://{mark}.example").into();
        for number in 0..20 {
            let named = format!("{mark}{number}");
            for form in [
                world.request().tenant(&format!("{named}.example")),
                world.request().with("client_id", &named),
                world.request().with("scope", &format!("api://{named}/.default")),
                world.request().with("grant_type", &named),
                world.request().header("client-request-id", &named),
                world.request().header("user-agent", &named),
                world.request_with(&strange),
                world.request_with(&world.sign(&world.honest().0, &claims)),
                world.request_with(&named),
            ] {
                form.send(&world).await;
            }
            let path = format!("{}/{named}", world.authority);
            world.client.get(path).send().await.unwrap();
        }
        let after = series(&text(&world).await);
        assert_eq!(before, after);
        assert!(after.iter().all(|series| !series.contains(mark)), "{after:#?}");
    });
}

#[test]
fn an_issuer_that_is_dropped_leaves_no_series() {
    let elsewhere = "https://elsewhere.example";
    let more = format!(
        "{DIRECTORY}\n[[identity]]\ntenant = \"contoso.example\"\nname = \"id-extra\"\nkind = \"application\"\n\
         client_id = \"aaaaaaaa-0009-4a00-8000-000000000009\"\n\
         principal_id = \"bbbbbbbb-0009-4a00-8000-000000000009\"\n\
         [[identity.federated_credential]]\nname = \"extra\"\nissuer = \"{elsewhere}\"\nsubject = \"s\"\n"
    );
    own(Plan { directory: more, ..Plan::default() }, |world| async move {
        assert!(text(&world).await.contains(&format!("issuer_keys{{issuer=\"{elsewhere}\"}} 0\n")));
        world.request().send(&world).await.token();
        let records = world.folder.path().join("etc/directory/records.toml");
        let issuer = world.emulator.github().issuer();
        std::fs::write(records, DIRECTORY.replace("{issuer}", &issuer)).unwrap();
        let live = || async { (world.broker.generation() > 1).then_some(()) };
        eventually("a change that is live", live).await;
        assert!(!text(&world).await.contains(elsewhere));
        assert_eq!(world.metric(&fetches(&world, "success")).await, 1.0, "who stays keeps its count");
    });
}

#[test]
fn the_certificate_that_is_shown_is_measured_also_after_a_change() {
    const YEAR: i64 = 365 * 24 * 3600;
    own(Plan::default(), |world| async move {
        let expiry = world.metric("ficus_tls_certificate_expiry_seconds").await;
        assert_eq!(expiry, f64::from(396 * 24 * 3600), "a self-made leaf began a day ago");
    });
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let end = |years: i64| {
        let now = ficus::clock::Clock::system().now();
        time::OffsetDateTime::from_unix_timestamp(now + years * YEAR).unwrap()
    };
    let make = |years: i64| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = end(years);
        let key_pair = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key_pair).unwrap();
        std::fs::write(&key, key_pair.serialize_pem()).unwrap();
        std::fs::write(&cert, made.pem()).unwrap();
    };
    make(1);
    let issuer = format!("[listen.tls]\ncert = {cert:?}\nkey = {key:?}\n");
    RUNTIME.block_on(async {
        let world = World::start(Plan { issuer, ca: Some(cert.clone()), ..Plan::default() }).await;
        let years = || async {
            (world.metric("ficus_tls_certificate_expiry_seconds").await / f64::from(365 * 24 * 3600)).round()
        };
        assert_eq!(years().await, 1.0);
        make(3);
        eventually("the next certificate", || async { (years().await == 3.0).then_some(()) }).await;
        // And time goes by.
        world.clock.set(world.clock.now() + 2 * YEAR);
        assert_eq!(years().await, 1.0);
    });
}

#[test]
fn failed_handshakes_are_counted() {
    own(Plan::default(), |world| async move {
        let name = "ficus_tls_handshake_failures_total";
        assert_eq!(world.metric(name).await, 0.0);
        let mut stranger = TcpStream::connect(world.broker.public_address()).await.unwrap();
        stranger.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let counted = || async { (world.metric(name).await == 1.0).then_some(()) };
        eventually("a handshake that failed", counted).await;
    });
}
