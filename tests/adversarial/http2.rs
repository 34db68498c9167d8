//! H-07: HTTP/2 frame by frame. Every case shows an honest HTTP/2 request granted before and after.

use crate::frames::*;
use crate::http::honest;
use crate::support::*;

/// Honest requests over both protocols.
async fn up(world: &World) {
    let mut client = Http2::connect(world).await;
    let stream = client.request(&world.request()).await;
    let end = client.end(stream).await;
    assert_eq!(end.status(), 200, "{end:?}");
    assert!(end.json()["access_token"].is_string());
    honest(world).await;
}

/// Sends what this makes, again and again, until the server closes; how often. More than a few thousand is a failure.
async fn until_closed(client: &mut Http2, mut next: impl FnMut(&mut Http2) -> Vec<u8>) -> usize {
    for round in 0..10_000 {
        let bytes = next(client);
        client.send(bytes).await;
        client.settled().await;
        if client.ended {
            return round;
        }
    }
    panic!("the connection is never closed");
}

/// A head whose stream stays open.
fn open(client: &mut Http2, form: &Form) -> (u32, Vec<u8>) {
    let stream = client.open();
    (stream, frame(HEADERS, END_HEADERS, stream, &head(form)))
}

#[test]
fn h_07_rapid_reset_ends_the_connection() {
    shared(|world| async move {
        up(world).await;
        let (form, cancel) = (world.request(), 8_u32.to_be_bytes());
        // All at once: before we have taken the streams on.
        let mut client = Http2::connect(world).await;
        let mut flood = Vec::new();
        for _ in 0..1000 {
            let (stream, head) = open(&mut client, &form);
            flood.extend([head, frame(RST_STREAM, 0, stream, &cancel)].concat());
        }
        client.send(flood).await;
        assert_eq!(client.closed().await, Some(ENHANCE_YOUR_CALM));
        // One after the other: each is taken on before it is reset.
        let mut client = Http2::connect(world).await;
        let mut last = Vec::new();
        let rounds = until_closed(&mut client, |client| {
            let (stream, head) = open(client, &form);
            let reset = std::mem::replace(&mut last, frame(RST_STREAM, 0, stream, &cancel));
            [reset, head].concat()
        })
        .await;
        assert!((100..400).contains(&rounds), "{rounds}");
        up(world).await;
    });
}

#[test]
fn h_07_made_you_reset_ends_the_connection() {
    shared(|world| async move {
        let form = world.request();
        let zero = 0_u32.to_be_bytes();
        let far = 0x7fff_ffff_u32.to_be_bytes();
        type Provoke = fn(u32, &[[u8; 4]; 2]) -> Vec<u8>;
        let cases: [(&str, Provoke); 4] = [
            ("a window that grows by nothing", |stream, [zero, _]| frame(WINDOW_UPDATE, 0, stream, zero)),
            ("a window past its end", |stream, [_, far]| frame(WINDOW_UPDATE, 0, stream, far)),
            ("more than was announced", |stream, _| frame(DATA, END_STREAM, stream, b"12345")),
            ("data behind the end", |stream, _| {
                [frame(DATA, END_STREAM, stream, b"1"), frame(DATA, 0, stream, b"2")].concat()
            }),
        ];
        for (what, provoke) in cases {
            up(world).await;
            let mut client = Http2::connect(world).await;
            let rounds = until_closed(&mut client, |client| {
                let stream = client.open();
                let head = [head(&form), field("content-length", "1")].concat();
                [frame(HEADERS, END_HEADERS, stream, &head), provoke(stream, &[zero, far])].concat()
            })
            .await;
            assert!(rounds <= 1100, "{what}: {rounds}");
        }
        up(world).await;
    });
}

#[test]
fn h_07_a_head_without_end_ends_the_connection() {
    shared(|world| async move {
        up(world).await;
        let form = world.request();
        for (what, part) in [("empty", Vec::new()), ("full", field("x", &"y".repeat(16_000)))] {
            let mut client = Http2::connect(world).await;
            let stream = client.open();
            client.send(frame(HEADERS, 0, stream, &head(&form))).await;
            for _ in 0..1000 {
                client.send(frame(CONTINUATION, 0, stream, &part)).await;
            }
            let code = client.closed().await;
            assert!(code.is_some_and(|code| code != 0), "{what}: {code:?}");
        }
        // In the middle of a head no other frame may come.
        let mut client = Http2::connect(world).await;
        let stream = client.open();
        client.send(frame(HEADERS, 0, stream, &head(&form))).await;
        client.send(frame(PING, 0, 0, b"not now!")).await;
        assert_eq!(client.closed().await, Some(1));
        up(world).await;
    });
}

#[test]
fn h_07_a_head_that_is_too_large_or_has_too_many_fields_is_431() {
    shared(|world| async move {
        let form = world.request();
        let head = head(&form);
        let fields = |count: usize| -> Vec<u8> {
            // The content type is there already.
            (1..count).flat_map(|number| field(&format!("x-{number}"), "y")).collect()
        };
        for (what, more, status) in [
            ("a hundred fields", fields(100), 200),
            ("one more", fields(101), 431),
            ("less than 64 KiB", field("x", &"y".repeat(60 << 10)), 200),
            ("more than 64 KiB", field("x", &"y".repeat(65 << 10)), 431),
        ] {
            up(world).await;
            let mut client = Http2::connect(world).await;
            let stream = client.open();
            let block = [&head[..], &more].concat();
            let mut parts = block.chunks(16 << 10).peekable();
            let mut kind = HEADERS;
            while let Some(part) = parts.next() {
                let flags = if parts.peek().is_none() { END_HEADERS } else { 0 };
                client.send(frame(std::mem::replace(&mut kind, CONTINUATION), flags, stream, part)).await;
            }
            client.send(frame(DATA, END_STREAM, stream, form.body().as_bytes())).await;
            let end = client.end(stream).await;
            assert_eq!(end.status(), status, "{what}: {end:?}");
            // Only this stream was refused.
            let next = client.request(&form).await;
            let end = client.end(next).await;
            assert!(end.json()["access_token"].is_string(), "{what}");
        }
        up(world).await;
    });
}

#[test]
fn h_07_frames_that_carry_nothing_end_the_connection() {
    shared(|world| async move {
        let form = world.request();
        let many = |frame: Vec<u8>| frame.repeat(50);
        let one = 1_u32.to_be_bytes();
        let floods = [
            ("PING", many(frame(PING, 0, 0, b"pingping"))),
            ("PING that is an answer", many(frame(PING, ACK, 0, b"pongpong"))),
            ("SETTINGS", many(frame(SETTINGS, 0, 0, &[]))),
            ("SETTINGS that change", many(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0x40, 0]))),
            ("PRIORITY", many(frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]))),
            ("WINDOW_UPDATE", many(frame(WINDOW_UPDATE, 0, 0, &one))),
            ("unknown frames", many(frame(0xfa, 0, 0, b"?"))),
        ];
        for (what, flood) in floods {
            up(world).await;
            let mut client = Http2::connect(world).await;
            let rounds = until_closed(&mut client, |_| flood.clone()).await;
            assert!(rounds <= 24, "{what}: {rounds}");
        }
        for (what, data) in [("empty DATA", &[][..]), ("DATA of one byte", b"x")] {
            up(world).await;
            let mut client = Http2::connect(world).await;
            let (stream, head) = open(&mut client, &form);
            client.send(head).await;
            let flood = many(frame(DATA, 0, stream, data));
            let rounds = until_closed(&mut client, |_| flood.clone()).await;
            assert!(rounds <= 24, "{what}: {rounds}");
        }
        up(world).await;
    });
}

#[test]
fn h_07_streams_past_the_cap_are_refused_and_the_others_served() {
    shared(|world| async move {
        up(world).await;
        let form = world.request();
        let mut client = Http2::connect(world).await;
        // As many as a client may begin that has not read our settings.
        let mut heads = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..100 {
            let (stream, head) = open(&mut client, &form);
            streams.push(stream);
            heads.extend(head);
        }
        client.send(heads).await;
        client.settled().await;
        for (number, stream) in streams.iter().enumerate() {
            if number < 32 {
                client.send(frame(DATA, END_STREAM, *stream, form.body().as_bytes())).await;
            }
        }
        let mut granted = 0;
        while granted + client.resets.len() < 100 {
            let frame = client.frame().await.expect("the connection goes on");
            granted += usize::from(frame.kind == DATA && frame.flags & END_STREAM != 0);
        }
        assert_eq!(granted, 32);
        let refused: Vec<_> = streams[32..].iter().map(|stream| (*stream, REFUSED_STREAM)).collect();
        assert_eq!(client.resets, refused);
        assert_eq!(client.goaway, None);
        let stream = client.request(&form).await;
        assert!(client.end(stream).await.json()["access_token"].is_string());
        up(world).await;
    });
}

#[test]
fn h_07_windows_and_prefaces_of_abuse_hold_up_nobody() {
    let plan = Plan { settings: "[limits]\nidle_timeout = \"1s\"\n".to_owned(), ..Plan::default() };
    own(plan, |world| async move {
        up(&world).await;
        let form = world.request();
        // An answer that is asked for and never taken.
        let mut closed = Http2::silent(&world).await;
        let nothing = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        closed.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &nothing].concat()).await;
        let stream = closed.request(&form).await;
        // A window past its end, one that grows by nothing, a preface that is none, half of one, none.
        let mut past = Http2::connect(&world).await;
        past.send(frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes())).await;
        let mut grows = Http2::connect(&world).await;
        grows.send(frame(WINDOW_UPDATE, 0, 0, &[0; 4])).await;
        let mut wrong = Http2::silent(&world).await;
        wrong.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut half = Http2::silent(&world).await;
        half.send("PRI * HT").await;
        let mut silent = Http2::silent(&world).await;
        // A head that is begun and never ended.
        let mut begun = Http2::connect(&world).await;
        begun.send(frame(HEADERS, 0, 1, &head(&form))).await;
        up(&world).await;
        assert_eq!(past.closed().await, Some(3));
        assert_eq!(grows.closed().await, Some(1));
        for client in [&mut wrong, &mut half, &mut silent, &mut begun] {
            client.closed().await;
        }
        assert!(matches!(closed.end(stream).await, End::Closed | End::Reset));
        up(&world).await;
    });
}
