//! F-36 to F-50: how answers come, or don't.

use std::time::Duration;

use crate::answer::{Answer, gzip};
use crate::issuer::{DISCOVERY, Issuer};
use crate::stage::{Case, HASTY, PATIENT, Scene, Which, play};
use crate::support::*;

/// 48 MiB: a lot of what nobody may read.
const FLOOD: usize = 48 << 20;

#[test]
fn f_36_to_f_50_how_the_discovery_document_comes() {
    play(PATIENT, sizes(Which::DISCOVERY, 65_536));
    play(PATIENT, breaks(Which::DISCOVERY));
    play(HASTY, delays(Which::DISCOVERY));
}

pub fn sizes(which: Which, cap: usize) -> Vec<Case> {
    let (good, larger) = (which.good, format!("it is larger than {cap} bytes"));
    let packed = |spaces: usize| {
        move |issuer: &Issuer| {
            Answer::status(200, &["content-encoding: gzip"], gzip(spaces, good(issuer).as_bytes()))
        }
    };
    vec![
        which.case(
            "48 MiB of white space in front",
            move |issuer| {
                let good = good(issuer);
                let length = format!("content-length: {}", FLOOD + good.len());
                Answer::head(200, &[&length]).then_spaces(FLOOD).then(good)
            },
            &larger,
        ),
        which.case(
            "the same in chunks",
            move |issuer| {
                let good = good(issuer);
                Answer::head(200, &["transfer-encoding: chunked"])
                    .then(format!("{FLOOD:x}\r\n"))
                    .then_spaces(FLOOD)
                    .then(format!("\r\n{:x}\r\n{good}\r\n0\r\n\r\n", good.len()))
            },
            &larger,
        ),
        which.case(
            "the same until the end of the connection",
            move |issuer| Answer::head(200, &[]).then_spaces(FLOOD).then(good(issuer)),
            &larger,
        ),
        which.case(
            "one byte too many",
            move |issuer| {
                let good = good(issuer);
                Answer::ok(format!("{}{good}", " ".repeat(cap + 1 - good.len())))
            },
            &larger,
        ),
        which.control("as long as may be", move |issuer| {
            let good = good(issuer);
            Answer::ok(format!("{}{good}", " ".repeat(cap - good.len())))
        }),
        // Nothing is unpacked, so there is nothing to be bombed.
        which.case("packed", packed(0), which.no_text),
        which.case("packed, 4 MiB", packed(4 << 20), which.no_text),
        which.case(
            "an announced length that is a lie",
            |_| Answer::head(200, &["content-length: 9223372036854775807"]).then("{}"),
            &larger,
        ),
    ]
}

pub fn breaks(which: Which) -> Vec<Case> {
    let good = which.good;
    let framed = move |name: &str, headers: &'static [&'static str], cause: &str| {
        which.case(name, move |issuer| Answer::head(200, headers).then(good(issuer)), cause)
    };
    let http = "the HTTP exchange failed";
    let ended = "the connection failed: unexpected end of file";
    vec![
        which.case(
            "closed before the announced end",
            move |issuer| {
                let good = good(issuer);
                Answer::head(200, &[&format!("content-length: {}", good.len() + 1)]).then(good)
            },
            ended,
        ),
        which.case(
            "closed before the last chunk",
            move |issuer| {
                let good = good(issuer);
                let head = Answer::head(200, &["transfer-encoding: chunked"]);
                head.then(format!("{:x}\r\n{good}\r\n", good.len()))
            },
            ended,
        ),
        which.case("closed without a word", |_| Answer::bytes(""), http),
        which.case("closed in the head", |_| Answer::bytes("HTTP/1.1 200 OK\r\ncontent-"), http),
        which.case("not HTTP", |_| Answer::bytes("SECRET-WORD\r\n\r\n"), http),
        which.case(
            "another version",
            |issuer| Answer::bytes(format!("HTTP/9.9 200 OK\r\n\r\n{}", issuer.jwks())),
            http,
        ),
        which.case("HTTP/2", |_| Answer::bytes("\0\0\x12\x04\0\0\0\0\0"), http),
        framed("two lengths", &["content-length: 5", "content-length: 6"], http),
        framed("a length that is no number", &["content-length: +5"], http),
        framed(
            "chunks that are none",
            &["transfer-encoding: chunked"],
            "the connection failed: invalid input parameter",
        ),
        which.case(
            "a head without end",
            |_| Answer::head(200, &[&format!("x: {}", "a".repeat(1 << 20))]),
            http,
        ),
        which.case(
            "1,000 headers",
            |_| Answer::bytes(format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1000))),
            http,
        ),
        which.case(
            "to speak something else",
            |_| Answer::head(101, &["upgrade: websocket"]),
            "the server answered with status 101",
        ),
        which.control("told to go on first", move |issuer| {
            let good = good(issuer);
            let head =
                format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: {}\r\n", good.len());
            Answer::bytes(format!("{head}connection: close\r\n\r\n{good}"))
        }),
    ]
}

/// Under one deadline over everything, not one for each read.
pub fn delays(which: Which) -> Vec<Case> {
    let good = which.good;
    let late = "it did not arrive in time";
    vec![
        which.case("no answer", |_| Answer::hang(), late),
        which.case("no body", |_| Answer::head(200, &["content-length: 9"]).then_hang(), late),
        which.case("no end", move |issuer| Answer::head(200, &[]).then(good(issuer)).then_hang(), late),
        which.case(
            "a byte each 250 ms",
            move |issuer| {
                let good = good(issuer);
                let head = Answer::head(200, &[&format!("content-length: {}", good.len())]);
                head.then_drip(good, Duration::from_millis(250))
            },
            late,
        ),
        which.case(
            "a head of a byte each 50 ms",
            move |issuer| {
                let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n{}", "a".repeat(500), good(issuer));
                Answer::bytes("").then_drip(head, Duration::from_millis(50))
            },
            late,
        ),
        which.case(
            "told to go on for ever",
            |_| {
                Answer::bytes("")
                    .then_drip("HTTP/1.1 100 Continue\r\n\r\n".repeat(100), Duration::from_millis(20))
            },
            late,
        ),
    ]
}

#[test]
fn f_36_to_f_50_requests_offer_nothing_that_answers_could_abuse() {
    RUNTIME.block_on(async {
        let scene = Scene::start(PATIENT, 1).await;
        scene.granted(0, "honest").await;
        let heads = scene.issuers[0].server.heads();
        assert_eq!(heads.len(), 2);
        assert!(heads[0].starts_with(&format!("get {DISCOVERY} http/1.1\r\n")), "{heads:?}");
        for head in heads {
            let names: Vec<_> =
                head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
            assert!(names.iter().all(|name| ["accept", "user-agent", "host"].contains(name)), "{names:?}");
        }
    });
}
