//! What one client may cost, and bytes that are no honest HTTP.

use std::sync::Arc;

use ficus::emulator::{Document, Fault};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::raw::{Raw, head, head_for, length, whole};
use crate::support::*;

fn settings(text: &str) -> Plan {
    Plan { settings: text.to_owned(), ..Plan::default() }
}

/// The path of a token request.
fn path() -> String {
    format!("/{TENANT}/oauth2/v2.0/token")
}

// Sizes

#[test]
fn a_body_over_the_limit_is_413_when_its_length_is_announced() {
    shared(|world| async move {
        let form = world.request().with("padding", "");
        let pad = |size: usize| form.clone().with("padding", &"x".repeat(size - form.body().len()));
        assert_eq!(pad(64 << 10).send(world).await.status, 200);

        // Refused before a byte of it has come.
        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, "Content-Length: 65537\r\n")).await;
        raw.answer().await.unwrap().refused(413, 90013);
    });
}

#[test]
fn a_client_that_sends_far_too_much_still_reads_its_413() {
    shared(|world| async move {
        for size in [(64 << 10) + 1, 256 << 10, 900 << 10] {
            let form = world.request().with("padding", &"x".repeat(size));
            form.send(world).await.refused(413, "invalid_request", 90013);
            let mut raw = Raw::connect(world).await;
            raw.send(whole(&form)).await;
            raw.answer().await.unwrap().refused(413, 90013);
        }
    });
}

#[test]
fn a_body_over_the_limit_is_413_when_it_comes_in_chunks() {
    shared(|world| async move {
        let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
        let form = world.request().with("padding", "");
        let body = form.body();
        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, "Transfer-Encoding: chunked\r\n")).await;
        raw.send(chunk(&body) + &chunk(&"x".repeat((64 << 10) - body.len())) + "0\r\n\r\n").await;
        assert_eq!(raw.answer().await.unwrap().status, 200);

        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, "Transfer-Encoding: chunked\r\n")).await;
        raw.send(chunk(&body) + &chunk(&"x".repeat((64 << 10) - body.len() + 1)) + "0\r\n\r\n").await;
        raw.answer().await.unwrap().refused(413, 90013);
    });
}

#[test]
fn an_assertion_over_the_limit_is_refused_before_it_is_read() {
    shared(|world| async move {
        let (header, mut claims) = world.honest();
        claims["padding"] = "".into();
        let bare = world.sign(&header, &claims).len();
        // Three bytes of claims are four characters of the compact form.
        let padded = |length: usize| {
            let mut claims = claims.clone();
            claims["padding"] = "x".repeat((length - bare) * 3 / 4).into();
            world.sign(&header, &claims)
        };
        let fits = padded(16 << 10);
        assert!(((16 << 10) - 4..=16 << 10).contains(&fits.len()));
        assert_eq!(world.request_with(&fits).send(world).await.status, 200);
        let long = padded((16 << 10) + 8);
        assert!(long.len() > 16 << 10);
        world.request_with(&long).send(world).await.refused(400, "invalid_request", 50027);
    });
}

#[test]
fn a_head_over_the_limit_gets_a_bare_431_and_a_close() {
    shared(|world| async move {
        let form = world.request();
        let with = |size: usize| format!("{}X-Long: {}\r\n", length(&form.body()), "x".repeat(size));
        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, &with(32 << 10)) + &form.body()).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);

        let mut raw = Raw::connect(world).await;
        // One more read may bring more than the limit at once, but not twice as much.
        raw.send(head(&form, &with(128 << 10)) + &form.body()).await;
        // Whoever still sends when the connection closes may miss the answer.
        for answer in raw.answers().await {
            assert_eq!((answer.status, answer.body.len()), (431, 0), "{answer:?}");
        }
    });
}

#[test]
fn a_hundred_headers_are_read_and_one_more_is_a_bare_431() {
    shared(|world| async move {
        let form = world.request();
        // Host, Content-Type and Content-Length are there already.
        let with = |count: usize| {
            let more: String = (3..count).map(|number| format!("X-{number}: y\r\n")).collect();
            length(&form.body()) + &more
        };
        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, &with(100)) + &form.body()).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);

        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, &with(101)) + &form.body()).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (431, 0), "{answer:?}");
        raw.closed().await;
    });
}

// Times

#[test]
fn slow_and_silent_clients_are_ended_while_honest_ones_are_served() {
    own(settings("[limits]\nheader_timeout = \"1s\"\nidle_timeout = \"2s\"\n"), |world| async move {
        let form = world.request();
        // A TLS handshake that never begins, half a head, a head one byte after the other.
        let silent = TcpStream::connect(world.broker.public_address()).await.unwrap();
        let mut half = Raw::connect(&world).await;
        half.send("POST /").await;
        let mut dripping = Raw::connect(&world).await;
        let drip = tokio::spawn(async move {
            for byte in b"POST / HTTP/1.1\r\nX: ".iter().chain(std::iter::repeat_n(&b'x', 1 << 20)) {
                dripping.send([*byte]).await;
                if dripping.is_closed().await {
                    return;
                }
            }
            panic!("a dripping head was never ended");
        });
        // Half a body: here an answer can be given.
        let mut body = Raw::connect(&world).await;
        body.send(head(&form, &length(&form.body())) + "grant_type=").await;
        let mut chunks = Raw::connect(&world).await;
        chunks.send(head(&form, "Transfer-Encoding: chunked\r\n") + "1\r\ng\r\n").await;
        // A connection that has served and rests.
        let mut idle = Raw::connect(&world).await;
        idle.send(whole(&form)).await;
        assert_eq!(idle.answer().await.unwrap().status, 200);

        assert_eq!(world.request().send(&world).await.status, 200);
        for mut slow in [body, chunks] {
            slow.answer().await.unwrap().refused(408, 90013);
            slow.closed().await;
        }
        half.closed().await;
        drip.await.unwrap();
        idle.closed().await;
        silent.readable().await.unwrap();
        assert_eq!(silent.try_read(&mut [0; 1]).unwrap(), 0);
        // On a connection of its own: the client's may be ended for being idle while it sends.
        let mut honest = Raw::connect(&world).await;
        honest.send(whole(&form)).await;
        assert_eq!(honest.answer().await.unwrap().status, 200);
        assert_eq!(world.metric(&refused_series("body_too_slow")).await, 2.0);
    });
}

// Numbers

#[test]
fn a_connection_past_the_cap_is_closed_at_accept_while_all_have_requests_in_flight() {
    let text = "[limits]\nconnections = 3\n[trust]\nrequest_wait = \"30s\"\nfetch_deadline = \"30s\"\n";
    own(settings(text), |world| async move {
        world.emulator.github().set_fault(Document::Jwks, Fault::Hang);
        let mut open = Vec::new();
        for _ in 0..3 {
            let mut raw = Raw::connect(&world).await;
            raw.send(whole(&world.request())).await;
            open.push(raw);
        }
        let busy = || async { (world.metric("ficus_requests_in_flight").await == 3.0).then_some(()) };
        eventually("three requests in flight", busy).await;
        assert!(Raw::try_connect(&world).await.is_err());
        assert_eq!(world.metric("ficus_requests_shed_total{reason=\"connections\"}").await, 1.0);
        assert_eq!(world.metric("ficus_connections").await, 3.0);
        // Who is in stays in.
        world.emulator.github().set_fault(Document::Jwks, None);
        for raw in &mut open {
            assert_eq!(raw.answer().await.unwrap().status, 200);
        }
        open.pop();
        eventually("a freed place", || async {
            let mut raw = Raw::try_connect(&world).await.ok()?;
            raw.send(whole(&world.request())).await;
            (raw.answer().await?.status == 200).then_some(())
        })
        .await;
    });
}

#[test]
fn requests_past_the_cap_are_turned_away_at_once_and_the_admitted_ones_finish() {
    let text = "[limits]\nin_flight = 2\n[trust]\nrequest_wait = \"30s\"\nfetch_deadline = \"30s\"\n";
    own(settings(text), |world| async move {
        let github = world.emulator.github();
        github.set_fault(Document::Jwks, Fault::Hang);
        let mut admitted = JoinSet::new();
        for _ in 0..2 {
            let (world, form) = (Arc::clone(&world), world.request());
            admitted.spawn(async move { form.send(&world).await });
        }
        let in_flight = || async {
            (world.metric("ficus_requests_in_flight").await == 2.0 && github.requests(Document::Jwks) == 1)
                .then_some(())
        };
        eventually("two requests in flight", in_flight).await;

        for shed in 1..=3 {
            let reply = world.request().send(&world).await;
            reply.refused(503, "temporarily_unavailable", 90024);
            assert_eq!(reply.header("retry-after"), "1");
            let series = "ficus_requests_shed_total{reason=\"in_flight\"}";
            assert_eq!(world.metric(series).await, f64::from(shed));
        }
        // A document waits for nothing and takes no place; nor does a request that is still being sent.
        let path = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
        assert_eq!(world.get(&path).await.status, 200);
        assert_eq!(world.get("/metadata/endpoints?api-version=2022-09-01").await.status, 200);
        // What the resource manager answers to callers is work, and takes one, before anything of it is looked at.
        for path in ["/tenants?api-version=2022-12-01", "/subscriptions", "/providers"] {
            let busy = world.get(path).await;
            assert_eq!((busy.status, &busy.body["error"]["code"]), (503, &"ServerBusy".into()), "{path}");
            assert_eq!(busy.header("retry-after"), "1");
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            assert_eq!(world.ops(path).await.0, 200, "{path}");
        }
        assert!(admitted.try_join_next().is_none(), "nobody was admitted for another");

        github.set_fault(Document::Jwks, None);
        while let Some(reply) = admitted.join_next().await {
            reply.unwrap().token();
        }
        assert_eq!(github.requests(Document::Jwks), 1);
        world.request().send(&world).await.token();
        // An answer can be read a moment before its place is given back.
        let empty = || async { (world.metric("ficus_requests_in_flight").await == 0.0).then_some(()) };
        eventually("nothing in flight", empty).await;
    });
}

#[test]
fn who_would_wait_too_long_for_a_processor_is_turned_away_at_once_and_all_others_get_their_tokens() {
    // No token twice, so that each costs a signature.
    own(settings("[limits]\nqueue_time = \"1ms\"\n[tokens]\nreuse = false\n"), |world| async move {
        world.request().send(&world).await.token();
        let mut lanes = Vec::new();
        for _ in 0..256 {
            lanes.push(Raw::connect(&world).await);
        }
        let (mut granted, mut shed) = (0, 0);
        // The first round tells how long one takes.
        for _ in 0..50 {
            let request = whole(&world.request());
            for lane in &mut lanes {
                lane.send(&request).await;
            }
            for path in ["/healthz", "/readyz", "/metrics"] {
                assert_eq!(world.ops(path).await.0, 200, "{path}");
            }
            for lane in &mut lanes {
                let answer = lane.answer().await.unwrap();
                if answer.status == 200 {
                    granted += 1;
                    continue;
                }
                shed += 1;
                answer.refused(503, 90024);
                assert_eq!(
                    (&answer.json()["error"], answer.header("retry-after")),
                    (&"temporarily_unavailable".into(), Some("1"))
                );
            }
            if shed > 0 {
                break;
            }
        }
        assert!(granted > 0 && shed > 0, "{granted} granted, {shed} shed");
        let by = async |reason: &str| {
            world.metric(&format!("ficus_requests_shed_total{{reason=\"{reason}\"}}")).await
        };
        assert_eq!(by("queue_time").await + by("in_flight").await, f64::from(shed));
        assert!(by("queue_time").await > 0.0);
        assert!(world.metric("ficus_stage_duration_seconds_count{stage=\"queue\"}").await > 0.0);
        assert_eq!(world.metric("ficus_requests_waiting").await, 0.0);
        world.request().send(&world).await.token();
    });
}

#[test]
fn requests_that_are_still_being_sent_take_no_place() {
    own(settings("[limits]\nin_flight = 1\n"), |world| async move {
        let form = world.request();
        let mut unfinished = Vec::new();
        for _ in 0..8 {
            let mut raw = Raw::connect(&world).await;
            raw.send(head(&form, &length(&form.body()))).await;
            unfinished.push(raw);
        }
        assert_eq!(world.request().send(&world).await.status, 200);
        for raw in &mut unfinished {
            raw.send(form.body()).await;
            assert_eq!(raw.answer().await.unwrap().status, 200);
        }
    });
}

#[test]
fn who_sends_head_and_body_apart_reads_why_it_was_refused() {
    let text = "[limits]\nin_flight = 1\n[trust]\nrequest_wait = \"30s\"\nfetch_deadline = \"30s\"\n";
    own(settings(text), |world| async move {
        let form = world.request();
        world.emulator.github().set_fault(Document::Jwks, Fault::Hang);
        let mut first = Raw::connect(&world).await;
        first.send(whole(&form)).await;
        let asked = || async { (world.emulator.github().requests(Document::Jwks) == 1).then_some(()) };
        eventually("a request that waits for keys", asked).await;

        let mut shed = Raw::connect(&world).await;
        shed.send(whole(&form)).await;
        shed.answer().await.unwrap().refused(503, 90024);
        world.emulator.github().set_fault(Document::Jwks, None);
        assert_eq!(first.answer().await.unwrap().status, 200);
        // The body comes late, and the connection serves on.
        shed.send(head(&form, &length(&form.body()))).await;
        shed.send(form.body()).await;
        assert_eq!(shed.answer().await.unwrap().status, 200);
        for (line, status, code) in
            [("POST /absent HTTP/1.1", 404, 90023), (&*format!("PUT {} HTTP/1.1", path()), 405, 900561)]
        {
            shed.send(head_for(line, &length(&form.body()))).await;
            shed.answer().await.unwrap().refused(status, code);
            shed.send(form.body()).await;
        }
        shed.send(whole(&form)).await;
        assert_eq!(shed.answer().await.unwrap().status, 200);
    });
}

#[test]
fn a_client_that_goes_away_gives_its_place_back() {
    let text = "[limits]\nin_flight = 1\n[trust]\nrequest_wait = \"30s\"\nfetch_deadline = \"30s\"\n";
    own(settings(text), |world| async move {
        let github = world.emulator.github();
        github.set_fault(Document::Jwks, Fault::Hang);
        let mut raw = Raw::connect(&world).await;
        raw.send(whole(&world.request())).await;
        let asked = || async { (github.requests(Document::Jwks) == 1).then_some(()) };
        eventually("a request that waits for keys", asked).await;
        drop(raw);
        let empty = || async { (world.metric("ficus_requests_in_flight").await == 0.0).then_some(()) };
        eventually("a place given back", empty).await;
        // The fetch that it began goes on and serves the next.
        github.set_fault(Document::Jwks, None);
        world.request().send(&world).await.token();
        assert_eq!(github.requests(Document::Jwks), 1);
    });
}

// Methods and forms of requests

#[test]
fn documents_take_get_alone() {
    shared(|world| async move {
        for path in ["/common/discovery/instance".to_owned(), format!("/{TENANT}/discovery/v2.0/keys")] {
            let url = format!("{}{path}", world.authority);
            let reply = Reply::of(world.client.post(url).send().await.unwrap()).await;
            reply.refused(405, "invalid_request", 900561);
            assert_eq!(reply.header("allow"), "GET");
        }
    });
}

#[test]
fn an_absolute_form_request_line_is_the_same_as_a_path() {
    shared(|world| async move {
        let mut raw = Raw::connect(world).await;
        let absolute = whole(&world.request()).replacen(" /", &format!(" {}/", world.authority), 1);
        raw.send(absolute).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
        // Also where the two name different hosts: neither decides anything.
        let other = whole(&world.request()).replacen(" /", " https://other.example/", 1);
        raw.send(other).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
    });
}

#[test]
fn a_request_line_without_a_path_is_answered_in_json_or_closed() {
    shared(|world| async move {
        for line in ["OPTIONS * HTTP/1.1", "CONNECT other.example:443 HTTP/1.1", "POST / HTTP/1.1"] {
            let mut raw = Raw::connect(world).await;
            raw.send(head_for(line, "Content-Length: 0\r\n")).await;
            raw.answer().await.unwrap().refused(404, 90023);
        }
    });
}

#[test]
fn a_client_that_expects_to_be_told_to_continue_is_told() {
    shared(|world| async move {
        let form = world.request();
        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, &format!("{}Expect: 100-continue\r\n", length(&form.body())))).await;
        assert_eq!(raw.answer().await.unwrap().status, 100);
        raw.send(form.body()).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
    });
}

#[test]
fn a_client_that_expects_to_send_too_much_is_told_not_to() {
    shared(|world| async move {
        let mut raw = Raw::connect(world).await;
        raw.send(head(&world.request(), "Content-Length: 65537\r\nExpect: 100-continue\r\n")).await;
        raw.answer().await.unwrap().refused(413, 90013);
        raw.closed().await;
    });
}

#[test]
fn a_body_that_breaks_off_decides_nothing() {
    shared(|world| async move {
        let form = world.request();
        let mut raw = Raw::connect(world).await;
        raw.send(head(&form, "Transfer-Encoding: chunked\r\n") + "zz\r\n").await;
        raw.answer().await.unwrap().refused(400, 9002313);
        raw.closed().await;
    });
}

fn refused_series(reason: &str) -> String {
    format!("ficus_exchanges_total{{dialect=\"entra_v2\",outcome=\"refused\",reason=\"{reason}\"}}")
}
