//! The record, the operations listener, outages of our own, and the end.

use std::sync::Arc;

use ficus::emulator::{Document, Fault};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::*;

/// One series of decisions.
fn refused(reason: &str) -> String {
    format!("ficus_exchanges_total{{dialect=\"entra_v2\",outcome=\"refused\",reason=\"{reason}\"}}")
}

const GRANTED: &str = "ficus_exchanges_total{dialect=\"entra_v2\",outcome=\"granted\",reason=\"granted\"}";

/// The line of a request that is in the file now, without waiting.
fn line(world: &World, trace: &str) -> Option<Value> {
    world.audit().into_iter().find(|line| line["traceId"] == trace)
}

fn claims(jwt: &str) -> Value {
    use base64::Engine;
    let part = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn audit_text(world: &World) -> String {
    std::fs::read_to_string(world.folder.path().join("data/audit.jsonl")).unwrap()
}

// The record

#[test]
fn a_grants_line_is_in_the_file_before_its_token_arrives() {
    shared(|world| async move {
        for _ in 0..20 {
            let reply = world.request().send(world).await;
            reply.token();
            assert!(line(world, &reply.trace()).is_some(), "no line yet");
        }
    });
}

#[test]
fn the_line_of_a_grant_says_who_got_what_and_why() {
    shared(|world| async move {
        let correlation = "0a0b0c0d-1111-4222-8333-444455556666";
        let (header, said) = world.honest();
        let form = world
            .request_with(&world.sign(&header, &said))
            .tenant("CONTOSO.example")
            .header("client-request-id", correlation);
        let reply = form.send(world).await;
        let minted = claims(reply.token());
        let line = line(world, &reply.trace()).unwrap();

        assert_eq!(line["correlationId"], correlation);
        assert_eq!(line["traceId"], reply.header("x-ms-request-id"));
        assert_eq!((&line["outcome"], &line["verified"]), (&json!("granted"), &json!(true)));
        assert_eq!(line["status"], json!({ "errorCode": 0 }));
        assert_eq!(line["tenantId"], TENANT);
        assert_eq!((&line["identityName"], &line["appId"]), (&json!("id-deploy"), &json!(CLIENT)));
        assert_eq!(line["servicePrincipalId"], PRINCIPAL);
        assert_eq!(line["resource"], VAULT);
        assert_eq!(line["federatedCredentialName"], "main-branch");
        for (field, claim) in [("issuer", "iss"), ("subject", "sub"), ("audience", "aud"), ("jwtId", "jti")] {
            assert_eq!(line["assertion"][field], said[claim], "{field}");
        }
        assert_eq!(line["assertion"]["keyId"], header["kid"]);
        assert_eq!(line["assertion"]["digest"].as_str().unwrap().len(), 64);
        assert_eq!((&line["roles"], &line["uniqueTokenIdentifier"]), (&minted["roles"], &minted["uti"]));
        assert_eq!((&line["ipAddress"], &line["dialect"]), (&json!("127.0.0.1"), &json!("entra_v2")));
        assert_eq!(line["directoryDigest"], world.broker.directory().digest());
        assert!(line["durationMicros"].is_u64() && line["createdDateTime"].as_str().unwrap().ends_with('Z'));
    });
}

#[test]
fn the_line_of_a_refusal_tells_hearsay_from_fact() {
    shared(|world| async move {
        let (header, claims) = world.honest();
        let forged = world.emulator.github().keys()[1].sign(&header, &claims);
        let unmatched = {
            let mut claims = claims.clone();
            claims["sub"] = "repo:my--org/payments-service:ref:refs/heads/other".into();
            world.sign(&header, &claims)
        };
        for (form, code, reason, verified) in [
            (world.request_with(&forged), 700027, "signature", false),
            (world.request_with(&unmatched), 700213, "subject_unmatched", true),
            (world.request().without("grant_type"), 900144, "missing_parameter", false),
        ] {
            let reply = form.send(world).await;
            let line = world.record(&reply.trace()).await;
            assert_eq!(line["status"]["errorCode"], code, "{line}");
            assert_eq!((&line["status"]["reason"], &line["verified"]), (&json!(reason), &json!(verified)));
            assert_eq!((&line["outcome"], &reply.body["error_codes"]), (&json!("refused"), &json!([code])));
            assert_eq!(line["correlationId"], reply.body["correlation_id"]);
            assert!(line.get("uniqueTokenIdentifier").is_none() && line.get("roles").is_none(), "{line}");
            assert!(line.get("federatedCredentialName").is_none(), "{line}");
        }
    });
}

#[test]
fn no_token_and_no_signature_is_ever_in_the_record() {
    own(Plan::default(), |world| async move {
        let assertion = world.assertion();
        let granted = world.request_with(&assertion).send(&world).await;
        let minted = granted.token().to_owned();
        // Refused early and late, with the token also where it does not belong.
        let mut secrets = vec![assertion.clone(), minted];
        // Short enough for any field of the record.
        let short = world.sign(&world.honest().0, &json!({}));
        assert!(short.len() < 600);
        secrets.push(short.clone());
        for form in [
            world.request().with("client_id", &assertion),
            world.request().with("client_id", &short),
            world.request().tenant(&short),
            world.request().with("scope", &format!("api://{short}/.default")),
            world.request_with(&world.sign(&world.honest().0, &json!({ "iss": &short, "jti": &short }))),
            world.request().with("scope", "api://absent/.default"),
            world.request().with("grant_type", "x"),
            world.request_with(&format!("{assertion}x")),
            world.request_with(&format!("{assertion}.x")),
        ] {
            let (_, sent) = form.fields.iter().find(|(name, _)| name == "client_assertion").unwrap();
            secrets.push(sent.clone());
            let reply = form.send(&world).await;
            assert!((400..500).contains(&reply.status), "{:?}", reply.body);
            world.record(&reply.trace()).await;
        }
        let text = audit_text(&world);
        assert_eq!(text.lines().count(), 10);
        for secret in secrets {
            let signature = secret.split('.').nth(2).unwrap();
            assert!(!text.contains(signature), "a signature is in the record");
        }
    });
}

// The operations listener

#[test]
fn every_decision_is_counted_and_recorded_once() {
    own(Plan::default(), |world| async move {
        let kinds = [
            (world.request(), GRANTED.to_owned(), 3),
            (world.request().without("scope"), refused("missing_parameter"), 2),
            (world.request().tenant("absent.example"), refused("tenant_unknown"), 1),
            (
                world.request().with("client_id", CLIENT.replace('a', "e").as_str()),
                refused("client_unknown"),
                4,
            ),
            (world.request().with("scope", "api://absent/.default"), refused("resource_unknown"), 2),
        ];
        let mut total = 0;
        for (form, _, times) in &kinds {
            for _ in 0..*times {
                let reply = form.send(&world).await;
                world.record(&reply.trace()).await;
                total += 1;
            }
        }
        let got = world.client.get(world.token_url(TENANT)).send().await.unwrap();
        assert_eq!(got.status(), 405);
        total += 1;
        for (_, series, times) in kinds {
            assert_eq!(world.metric(&series).await, f64::from(times), "{series}");
        }
        assert_eq!(world.metric(&refused("method")).await, 1.0);
        let (_, text) = world.ops("/metrics").await;
        let sum = |prefix: &str| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(prefix));
            lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
        };
        assert_eq!(sum("ficus_exchanges_total"), f64::from(total));
        assert_eq!(sum("ficus_exchange_duration_seconds_count"), f64::from(total));
        let written =
            || async { (world.metric("ficus_audit_records_total").await == f64::from(total)).then_some(()) };
        eventually("every line", written).await;
        assert_eq!(Ok(world.audit().len()), usize::try_from(total));
    });
}

#[test]
fn the_operations_listener_tells_health_and_metrics_and_nothing_else() {
    shared(|world| async move {
        assert_eq!(world.ops("/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(world.ops("/readyz").await, (200, "ready\n".to_owned()));
        world.request().send(world).await.token();
        let (status, text) = world.ops("/metrics").await;
        assert_eq!(status, 200);
        for family in [
            "ficus_exchanges_total",
            "ficus_exchange_duration_seconds",
            "ficus_requests_in_flight",
            "ficus_requests_shed_total",
            "ficus_connections",
            "ficus_audit_records_total",
            "ficus_audit_queue_length",
            "ficus_build_info",
            "process_resident_memory_bytes",
        ] {
            assert!(
                text.contains(&format!("\n# TYPE {family} "))
                    || text.starts_with(&format!("# HELP {family} ")),
                "{family}"
            );
            assert!(text.contains(&format!("# HELP {family} ")), "{family}");
        }
        // Nothing that a request brought may become a label.
        world.request().tenant("label.example").send(world).await;
        assert!(!world.ops("/metrics").await.1.contains("label.example"));
        assert_eq!(world.ops(&format!("/{TENANT}/oauth2/v2.0/token")).await.0, 404);
        let url = format!("http://{}/metrics", world.broker.ops_address());
        assert_eq!(world.client.post(url).send().await.unwrap().status(), 405);
    });
}

#[test]
fn operations_are_not_on_the_public_listener() {
    shared(|world| async move {
        for path in ["/metrics", "/healthz", "/readyz", "/metadata/identity/oauth2/token"] {
            world.get(path).await.refused(404, "invalid_request", 90023);
        }
    });
}

// Outages

#[test]
fn nothing_is_granted_that_cannot_be_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let settings = format!("[audit]\npath = \"{}\"\n", path.display());
    own(Plan { settings, ..Plan::default() }, |world| async move {
        assert_eq!(world.ops("/readyz").await.0, 200, "nobody knows yet");
        for count in 1..=3 {
            let reply = world.request().send(&world).await;
            reply.refused(503, "temporarily_unavailable", 90033);
            assert!((1..=30).contains(&reply.header("retry-after").parse::<u32>().unwrap()));
            assert_eq!(world.metric(&refused("audit_unavailable")).await, f64::from(count));
        }
        let (status, text) = world.ops("/readyz").await;
        assert_eq!((status, text.contains("audit")), (503, true), "{text}");
        assert_eq!(world.ops("/healthz").await.0, 200, "a restart would not help");
        assert_eq!(world.metric(GRANTED).await, 0.0);
        assert_eq!(world.metric("ficus_audit_records_total").await, 0.0);
        // Refusals need no line to leave.
        world.request().without("scope").send(&world).await.refused(400, "invalid_request", 900144);

        // A disk with room again: the next grant is recorded, and so is what could not be.
        std::fs::remove_file(&path).unwrap();
        let reply = world.request().send(&world).await;
        reply.token();
        assert_eq!(world.ops("/readyz").await, (200, "ready\n".to_owned()));
        world.clock.set(world.clock.now() + 1);
        let sum = || async {
            let text = std::fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let (granted, missed): (Vec<_>, Vec<_>) = lines.partition(|line| line["outcome"] == "granted");
            assert_eq!(granted.len(), 1);
            assert_eq!(granted[0]["traceId"], reply.trace());
            let missed = missed.iter().filter(|line| line["status"]["errorCode"] == 90033);
            (missed.map(|line| line["count"].as_u64().unwrap()).sum::<u64>() == 3).then_some(())
        };
        eventually("what could not be recorded", sum).await;
    });
}

// The end

#[test]
fn p_08_a_request_in_flight_at_the_end_is_answered_and_recorded() {
    let settings = "[trust]\nrequest_wait = \"30s\"\nfetch_deadline = \"30s\"\n".to_owned();
    RUNTIME.block_on(async {
        let world = World::start(Plan { settings, ..Plan::default() }).await;
        let github = world.emulator.github();
        github.set_fault(Document::Jwks, Fault::Hang);
        let waiting = world
            .client
            .post(world.token_url(TENANT))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(world.request().body())
            .send();
        let waiting = tokio::spawn(waiting);
        let asked = || async { (github.requests(Document::Jwks) == 1).then_some(()) };
        eventually("a request that waits for keys", asked).await;

        let (public, ops) = (world.broker.public_address(), world.broker.ops_address());
        let World { broker, emulator, folder, .. } = world;
        let stopping = tokio::spawn(broker.stop());
        let closed = || async { TcpStream::connect(public).await.is_err().then_some(()) };
        eventually("a closed listener", closed).await;
        assert!(!waiting.is_finished() && !stopping.is_finished());
        assert!(TcpStream::connect(ops).await.is_ok(), "operators see the end");

        emulator.github().set_fault(Document::Jwks, None);
        let reply = Reply::of(waiting.await.unwrap().unwrap()).await;
        reply.token();
        stopping.await.unwrap();
        assert!(TcpStream::connect(ops).await.is_err());
        let text = std::fs::read_to_string(folder.path().join("data/audit.jsonl")).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!((&lines[0]["traceId"], &lines[0]["outcome"]), (&json!(reply.trace()), &json!("granted")));
    });
}

#[test]
fn what_waits_to_be_recorded_at_the_end_is_recorded() {
    RUNTIME.block_on(async {
        let world = Arc::new(World::start(Plan::default()).await);
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let (world, form) = (Arc::clone(&world), world.request().without("scope"));
            all.spawn(async move { form.send(&world).await.trace() });
        }
        let mut traces = all.join_all().await;
        let World { broker, folder, client, .. } = Arc::into_inner(world).unwrap();
        drop(client);
        broker.stop().await;
        let text = std::fs::read_to_string(folder.path().join("data/audit.jsonl")).unwrap();
        let line =
            |line: &str| serde_json::from_str::<Value>(line).unwrap()["traceId"].as_str().unwrap().to_owned();
        let mut recorded: Vec<_> = text.lines().map(line).collect();
        traces.sort_unstable();
        recorded.sort_unstable();
        assert_eq!(recorded, traces);
    });
}
