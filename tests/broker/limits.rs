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
fn a_connection_past_the_cap_is_closed_at_accept_and_places_come_back() {
    own(settings("[limits]\nconnections = 3\n"), |world| async move {
        let mut open = Vec::new();
        for _ in 0..3 {
            open.push(Raw::connect(&world).await);
        }
        assert!(Raw::try_connect(&world).await.is_err());
        assert_eq!(world.metric("ficus_requests_shed_total{reason=\"connections\"}").await, 1.0);
        assert_eq!(world.metric("ficus_connections").await, 3.0);
        // Who is in stays in.
        for raw in &mut open {
            raw.send(whole(&world.request())).await;
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

// Bytes

#[test]
fn bytes_that_are_no_http_get_a_bare_4xx_or_nothing_and_a_close() {
    shared(|world| async move {
        let form = world.request();
        let body = form.body();
        let n = body.len();
        let valid = whole(&form);
        let lines = |lines: &str| head(&form, lines) + &body;
        for (what, bytes) in [
            ("a length with a sign", lines(&format!("Content-Length: +{n}\r\n"))),
            ("a negative length", lines("Content-Length: -1\r\n")),
            ("a length in hex", lines(&format!("Content-Length: {n:#x}\r\n"))),
            ("a length of 2^64", lines("Content-Length: 18446744073709551616\r\n")),
            ("two lengths", lines(&format!("Content-Length: {n}\r\nContent-Length: {}\r\n", n + 1))),
            ("two lengths in one", lines(&format!("Content-Length: {n}, {}\r\n", n + 1))),
            ("a space before the colon", lines(&format!("Content-Length : {n}\r\n"))),
            ("a folded line", lines(&format!("X: y\r\n z\r\nContent-Length: {n}\r\n"))),
            ("a NUL in a header", lines(&format!("X: a\0b\r\nContent-Length: {n}\r\n"))),
            ("an unknown encoding", lines("Transfer-Encoding: xchunked\r\n")),
            ("an encoding that ends unchunked", lines("Transfer-Encoding: chunked, identity\r\n")),
            ("HTTP/9.9", valid.replace("HTTP/1.1", "HTTP/9.9")),
            ("a NUL in the path", valid.replace("/token", "/to\0ken")),
            ("a space in the path", valid.replace("/token", "/to ken")),
            ("garbage", "\u{16}\u{3}\u{1}garbage\r\n\r\n".to_owned() + &valid),
        ] {
            let mut raw = Raw::connect(world).await;
            // What follows is honest: it must not be answered either.
            raw.send(bytes + &valid).await;
            let answers = raw.answers().await;
            assert!(answers.len() <= 1, "{what}: {answers:?}");
            for answer in answers {
                assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
                assert!(answer.body.is_empty(), "{what}: {answer:?}");
            }
        }
    });
}

#[test]
fn a_request_hidden_in_another_is_never_answered() {
    shared(|world| async move {
        let form = world.request();
        let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let both = |lines: &str| head(&form, lines) + "0\r\n\r\n" + hidden;
        let n = 5 + hidden.len();
        for (what, bytes) in [
            ("length, then chunked", both(&format!("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n"))),
            ("chunked, then length", both(&format!("Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n"))),
            ("chunked in capitals", both(&format!("Content-Length: {n}\r\nTRANSFER-ENCODING: CHUNKED\r\n"))),
            ("a GET with a body", head_for(&format!("GET {} HTTP/1.1", path()), &length(hidden)) + hidden),
            (
                "a GET of a document with a body",
                head_for("GET /common/discovery/instance HTTP/1.1", &length(hidden)) + hidden,
            ),
            ("a path that is not there", head_for("POST /absent HTTP/1.1", &length(hidden)) + hidden),
            (
                "a chunk that is longer than it says",
                head(&form, "Transfer-Encoding: chunked\r\n") + "1\r\n" + hidden + "\r\n0\r\n\r\n",
            ),
            (
                "a chunk of 2^64 bytes",
                head(&form, "Transfer-Encoding: chunked\r\n") + "10000000000000000\r\n" + hidden,
            ),
            (
                "a chunk of less than nothing",
                head(&form, "Transfer-Encoding: chunked\r\n") + "-1\r\n" + hidden,
            ),
            ("lines that end bare", head(&form, "Transfer-Encoding: chunked\r\n") + "0\n\n" + hidden),
        ] {
            let mut raw = Raw::connect(world).await;
            raw.send(bytes).await;
            let first = raw.answer().await;
            assert!(first.is_none_or(|answer| (400..500).contains(&answer.status)), "{what}");
            // If the connection goes on, the next honest request is the next to be answered.
            raw.send(whole(&form).replace("HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n")).await;
            for answer in raw.answers().await {
                assert_eq!(answer.status, 200, "{what}: {answer:?}");
            }
        }
    });
}

#[test]
fn a_length_beside_chunks_closes_the_connection() {
    shared(|world| async move {
        let form = world.request();
        let body = form.body();
        let mut raw = Raw::connect(world).await;
        let lines = format!("{}Transfer-Encoding: chunked\r\n", length(&body));
        raw.send(head(&form, &lines) + &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
        raw.send(whole(&form)).await;
        assert!(raw.answers().await.len() <= 1);
    });
}

#[test]
fn garbage_in_place_of_tls_is_closed() {
    shared(|world| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        for bytes in ["GET / HTTP/1.1\r\n\r\n", "\0\0\0\0\0\0\0\0"] {
            let mut socket = TcpStream::connect(world.broker.public_address()).await.unwrap();
            socket.write_all(bytes.as_bytes()).await.unwrap();
            let mut alert = Vec::new();
            let _ = socket.read_to_end(&mut alert).await;
            assert!(!alert.starts_with(b"HTTP"), "{}", alert.escape_ascii());
        }
        world.request().send(world).await.token();
    });
}

// Methods and forms of requests

#[test]
fn the_token_path_takes_post_alone() {
    shared(|world| async move {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "BREW"] {
            let mut raw = Raw::connect(world).await;
            raw.send(whole(&world.request()).replacen("POST", method, 1)).await;
            let answer = raw.answer().await.unwrap();
            answer.refused(405, 900561);
            assert_eq!(answer.header("allow"), Some("POST"), "{method}");
            let text = answer.json()["error_description"].as_str().unwrap().to_owned();
            assert!(text.contains(&format!("Received a {method} request.")), "{text}");
        }
        let head = world.client.head(world.token_url(TENANT)).send().await.unwrap();
        assert_eq!((head.status().as_u16(), &head.headers()["allow"]), (405, &"POST".parse().unwrap()));
        assert!(head.bytes().await.unwrap().is_empty());
    });
}

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
fn pipelined_requests_are_each_answered_in_their_order() {
    shared(|world| async move {
        let mut raw = Raw::connect(world).await;
        let get = "GET /common/absent HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let wrong = whole(&world.request().without("grant_type"));
        raw.send(whole(&world.request()) + get + &wrong + &whole(&world.request())).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
        raw.answer().await.unwrap().refused(404, 90023);
        raw.answer().await.unwrap().refused(400, 900144);
        assert_eq!(raw.answer().await.unwrap().status, 200);
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
