//! H-03 to H-06: methods, broken messages, smuggling, the many and the slow, over HTTP/1.1.

use std::sync::Arc;

use ficus::emulator::{Document, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::frames::Http2;
use crate::raw::{Raw, head, head_for, length, whole};
use crate::support::*;

fn limits(text: &str) -> Plan {
    Plan { settings: format!("[limits]\n{text}"), ..Plan::default() }
}

/// The honest request on a connection of its own.
pub async fn honest(world: &World) {
    assert!(is_granted(world).await, "the honest request is granted");
}

async fn is_granted(world: &World) -> bool {
    let Ok(mut raw) = Raw::try_connect(world).await else { return false };
    raw.send(whole(&world.request())).await;
    raw.answer().await.is_some_and(|answer| answer.status == 200 && answer.json()["access_token"].is_string())
}

fn shed(reason: &str) -> String {
    format!("ficus_requests_shed_total{{reason=\"{reason}\"}}")
}

#[test]
fn h_03_the_token_path_takes_post_alone() {
    shared(|world| async move {
        for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "BREW"] {
            honest(world).await;
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
        honest(world).await;
    });
}

#[test]
fn h_04_bytes_that_are_no_http_get_a_bare_4xx_or_nothing_and_a_close() {
    shared(|world| async move {
        let form = world.request();
        let body = form.body();
        let n = body.len();
        let valid = whole(&form);
        let lines = |lines: &str| head(&form, lines) + &body;
        let chunked = |rest: &str| head(&form, "Transfer-Encoding: chunked\r\n") + rest;
        let many: String = (0..10_000).map(|number| format!("X-{number}: y\r\n")).collect();
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
            ("the encoding that is none", lines("Transfer-Encoding: identity\r\n")),
            ("an encoding that ends unchunked", lines("Transfer-Encoding: chunked, identity\r\n")),
            ("HTTP/9.9", valid.replace("HTTP/1.1", "HTTP/9.9")),
            ("a NUL in the path", valid.replace("/token", "/to\0ken")),
            ("a space in the path", valid.replace("/token", "/to ken")),
            ("garbage", "\u{16}\u{3}\u{1}garbage\r\n\r\n".to_owned() + &valid),
            ("a header of 1 MiB", lines(&format!("X: {}\r\nContent-Length: {n}\r\n", "x".repeat(1 << 20)))),
            ("10000 headers", lines(&format!("{many}Content-Length: {n}\r\n"))),
            ("an address of 1 MiB", valid.replace("/token", &format!("/token?{}", "x".repeat(1 << 20)))),
        ] {
            honest(world).await;
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
        // These have an honest head: there is an answer with a body.
        for (what, bytes) in [
            ("a chunk of 2^64 bytes", chunked("10000000000000000\r\n")),
            ("a chunk of less than nothing", chunked("-1\r\n")),
            ("a chunk of no number", chunked("zz\r\n")),
            ("a chunk that is longer than it says", chunked(&format!("1\r\n{body}\r\n0\r\n\r\n"))),
        ] {
            honest(world).await;
            let mut raw = Raw::connect(world).await;
            raw.send(bytes + &valid).await;
            let answers = raw.answers().await;
            assert_eq!(answers.len(), 1, "{what}: {answers:?}");
            answers[0].refused(400, 9002313);
        }
        honest(world).await;
    });
}

#[test]
fn h_04_garbage_in_place_of_tls_is_closed() {
    shared(|world| async move {
        for bytes in ["GET / HTTP/1.1\r\n\r\n", "\0\0\0\0\0\0\0\0"] {
            honest(world).await;
            let mut socket = TcpStream::connect(world.broker.public_address()).await.unwrap();
            socket.write_all(bytes.as_bytes()).await.unwrap();
            let mut alert = Vec::new();
            let _ = socket.read_to_end(&mut alert).await;
            assert!(!alert.starts_with(b"HTTP"), "{}", alert.escape_ascii());
        }
        honest(world).await;
    });
}

#[test]
fn h_05_a_request_hidden_in_another_is_never_answered() {
    shared(|world| async move {
        let form = world.request();
        let path = format!("/{TENANT}/oauth2/v2.0/token");
        let hidden = "GET /hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let both = |lines: &str| head(&form, lines) + "0\r\n\r\n" + hidden;
        let n = 5 + hidden.len();
        for (what, bytes) in [
            ("length, then chunked", both(&format!("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n"))),
            ("chunked, then length", both(&format!("Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n"))),
            ("chunked in capitals", both(&format!("Content-Length: {n}\r\nTRANSFER-ENCODING: CHUNKED\r\n"))),
            ("a GET with a body", head_for(&format!("GET {path} HTTP/1.1"), &length(hidden)) + hidden),
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
            honest(world).await;
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
        honest(world).await;
    });
}

#[test]
fn h_05_a_length_beside_chunks_closes_the_connection() {
    shared(|world| async move {
        let form = world.request();
        let body = form.body();
        let (given, chunked) = (length(&body), "Transfer-Encoding: chunked\r\n");
        for lines in [format!("{given}{chunked}"), format!("{chunked}{given}")] {
            honest(world).await;
            let mut raw = Raw::connect(world).await;
            raw.send(head(&form, &lines) + &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
            raw.send(whole(&form)).await;
            assert!(raw.answers().await.len() <= 1);
        }
        honest(world).await;
    });
}

#[test]
fn h_05_pipelined_requests_hostile_ones_among_them_are_each_answered_in_their_order() {
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
fn h_06_the_many_and_the_slow_hold_up_nobody() {
    own(Plan::default(), |world| async move {
        honest(&world).await;
        let form = world.request();
        let mut held = Vec::new();
        for _ in 0..300 {
            held.push(Raw::connect(&world).await);
        }
        for _ in 0..200 {
            let mut raw = Raw::connect(&world).await;
            raw.send("POST /").await;
            held.push(raw);
        }
        honest(&world).await;
        for _ in 0..200 {
            let mut raw = Raw::connect(&world).await;
            raw.send(head(&form, &length(&form.body())) + "grant_type=").await;
            held.push(raw);
        }
        honest(&world).await;
        // Those that send without end are told so when they have sent too much.
        let chunk = format!("2000\r\n{}\r\n", "x".repeat(8 << 10));
        for _ in 0..100 {
            let mut raw = Raw::connect(&world).await;
            raw.send(head(&form, "Transfer-Encoding: chunked\r\n") + &chunk.repeat(9)).await;
            raw.answer().await.unwrap().refused(413, 90013);
            held.push(raw);
        }
        honest(&world).await;
        for reason in ["connections", "resting_connections", "handshakes", "in_flight", "bodies"] {
            assert_eq!(world.metric(&shed(reason)).await, 0.0, "{reason}");
        }
    });
}

#[test]
fn h_06_who_rests_longest_makes_room_for_the_next() {
    own(limits("connections = 8\n"), |world| async move {
        honest(&world).await;
        // Silent ones, half heads, silent HTTP/2: an hour of any of them is worth less than one honest request.
        let mut flood = Vec::new();
        for _ in 0..4 {
            flood.push(Raw::connect(&world).await);
        }
        for raw in &mut flood[2..] {
            raw.send("POST /").await;
        }
        let _silent = (Http2::connect(&world).await, Http2::connect(&world).await);
        // One that works is none of them.
        world.emulator.github().set_fault(Document::Jwks, Fault::Hang);
        let mut busy = Raw::connect(&world).await;
        let (header, claims) = world.honest();
        let mut unknown = header.clone();
        unknown["kid"] = "unknown".into();
        busy.send(whole(&world.request_with(&world.sign(&unknown, &claims)))).await;
        let full = || async { (world.metric("ficus_connections").await >= 7.0).then_some(()) };
        eventually("a flood", full).await;
        for round in 1..=12 {
            eventually("an honest request", || async { is_granted(&world).await.then_some(()) }).await;
            flood.push(loop {
                if let Ok(raw) = Raw::try_connect(&world).await {
                    break raw;
                }
            });
            // Who is dismissed takes a moment to leave.
            let within = || async { (world.metric("ficus_connections").await <= 8.0).then_some(()) };
            eventually(&format!("eight connections in round {round}"), within).await;
        }
        assert!(world.metric(&shed("resting_connections")).await > 0.0);
        // The first ones are gone, who works is not.
        for raw in &mut flood[..2] {
            raw.closed().await;
        }
        world.emulator.github().set_fault(Document::Jwks, None);
        assert!(busy.answer().await.is_some());
        drop(flood);
        eventually("an honest request", || async { is_granted(&world).await.then_some(()) }).await;
    });
}

#[test]
fn h_06_unfinished_handshakes_keep_nobody_out() {
    own(limits("handshakes = 4\n"), |world| async move {
        honest(&world).await;
        let flood = Arc::clone(&world);
        let flooding = tokio::spawn(async move {
            let mut held = Vec::new();
            for number in 0..16 {
                let mut socket = TcpStream::connect(flood.broker.public_address()).await.unwrap();
                // Some begin and don't go on.
                if number % 2 == 0 {
                    let _ = socket.write_all(b"\x16\x03\x01\x02\x00\x01").await;
                }
                held.push(socket);
            }
            held
        });
        let mut held = flooding.await.unwrap();
        for _ in 0..4 {
            honest(&world).await;
        }
        assert!(world.metric("ficus_tls_handshakes").await <= 4.0);
        assert!(world.metric(&shed("handshakes")).await >= 8.0);
        // The oldest was the first to go.
        assert_eq!(held[1].read_to_end(&mut Vec::new()).await.unwrap_or(0), 0);
        drop(held);
        let none = || async { (world.metric("ficus_tls_handshakes").await == 0.0).then_some(()) };
        eventually("no unfinished handshake", none).await;
        honest(&world).await;
    });
}

#[test]
fn h_06_unfinished_bodies_share_a_budget_that_whole_ones_do_not_need() {
    own(limits("body = \"512KiB\"\nbodies = \"1MiB\"\n"), |world| async move {
        honest(&world).await;
        let form = world.request().with("padding", &"x".repeat(500 << 10));
        let (body, held) = (form.body(), "ficus_body_bytes");
        let mut halves = Vec::new();
        for part in [480, 480] {
            let mut raw = Raw::connect(&world).await;
            raw.send(head(&form, &length(&body)) + &body[..part << 10]).await;
            halves.push((raw, part << 10));
        }
        let arrived = || async { (world.metric(held).await == f64::from(960 << 10)).then_some(()) };
        eventually("two halves", arrived).await;

        let mut third = Raw::connect(&world).await;
        third.send(head(&form, &length(&body)) + &body[..480 << 10]).await;
        let answer = third.answer().await.unwrap();
        answer.refused(503, 90024);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(world.metric(&shed("bodies")).await, 1.0);
        // Honest ones come whole.
        honest(&world).await;
        assert_eq!(world.metric(held).await, f64::from(960 << 10));
        // Who was admitted ends as if nothing had been; who goes away gives back what it held.
        let ((mut first, sent), gone) = (halves.remove(0), halves.remove(0));
        first.send(&body[sent..]).await;
        assert_eq!(first.answer().await.unwrap().status, 200);
        drop(gone);
        let empty = || async { (world.metric(held).await == 0.0).then_some(()) };
        eventually("nothing held", empty).await;
        third.send(&body[480 << 10..]).await;
        let mut raw = Raw::connect(&world).await;
        let (begin, end) = body.split_at(480 << 10);
        raw.send(head(&form, &length(&body)) + begin).await;
        raw.send(end).await;
        assert_eq!(raw.answer().await.unwrap().status, 200);
        honest(&world).await;
    });
}
