//! Counts the frames of an HTTP/2 client, and ends the connection of one that sends next to nothing but overhead.
//!
//! The library bounds what such a client makes us remember, but not how long it may go on: streams that are opened and
//! reset as soon as we have taken them on (CVE-2023-44487), PING, SETTINGS, PRIORITY, WINDOW_UPDATE and unknown frames
//! (CVE-2019-9512, -9513, -9515), and bodies that come byte by byte are free of any limit there.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client sends before its first frame, in bytes.
const PREFACE: usize = 24;
/// The head of a frame in bytes: a length of three, the type, flags, the stream.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
/// A DATA frame of fewer bytes is overhead, unless it ends its stream.
const SMALL: usize = 64;

/// Resets that are free; beyond them there may be one for every two requests. Honest clients give up rarely, but a proxy
/// may do so for many at once.
const RESETS: usize = 128;
/// Frames that carry nothing and are free, and how many more there may be for each request. Honest clients send two or
/// three with a request, and a PING now and then.
const OVERHEAD: usize = 1024;
const OVERHEAD_PER_REQUEST: usize = 16;

/// A stream that fails once the other end has sent too many frames of no use.
#[derive(Debug)]
pub(super) struct Frames<S> {
    stream: S,
    /// Bytes that are passed over until the next frame begins.
    pass: usize,
    head: [u8; HEAD],
    /// How much of the head has come.
    come: usize,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    requests: usize,
    resets: usize,
    overhead: usize,
}

impl<S> Frames<S> {
    pub(super) fn of(stream: S) -> Self {
        Self { stream, pass: PREFACE, head: [0; HEAD], come: 0, counts: Counts::default() }
    }

    fn received(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let passed = self.pass.min(bytes.len());
            self.pass -= passed;
            bytes = &bytes[passed..];
            let more = (HEAD - self.come).min(bytes.len());
            self.head[self.come..self.come + more].copy_from_slice(&bytes[..more]);
            self.come += more;
            bytes = &bytes[more..];
            if self.come == HEAD {
                let [first, second, third, kind, flags, ..] = self.head;
                self.pass = u32::from_be_bytes([0, first, second, third]) as usize;
                self.come = 0;
                self.counts.frame(kind, self.pass < SMALL && flags & END_STREAM == 0)?;
            }
        }
        Ok(())
    }
}

impl Counts {
    /// Small is a frame of next to nothing that is not the last of its stream.
    fn frame(&mut self, kind: u8, small: bool) -> io::Result<()> {
        match kind {
            HEADERS => self.requests += 1,
            DATA if !small => {}
            // The library bounds these.
            CONTINUATION => {}
            RST_STREAM => self.resets += 1,
            _ => self.overhead += 1,
        }
        let abuse = self.resets > RESETS + self.requests / 2
            || self.overhead > OVERHEAD + OVERHEAD_PER_REQUEST * self.requests;
        if abuse { Err(io::ErrorKind::InvalidData.into()) } else { Ok(()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.received(&buffer.filled()[before..])?;
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, 0, 0, 0, 0, 1];
        frame.resize(HEAD + usize::from(length), kind);
        frame
    }

    /// How many of these frames are let through after the preface, when they come in pieces of this size.
    fn passed(frames: &[Vec<u8>], size: usize) -> usize {
        let mut stream = Frames::of(());
        let bytes = [&[0xff; PREFACE][..], &frames.concat()].concat();
        let mut read = 0;
        for piece in bytes.chunks(size) {
            if stream.received(piece).is_err() {
                break;
            }
            read += piece.len();
        }
        let mut end = PREFACE;
        frames
            .iter()
            .take_while(|frame| (end + frame.len() <= read).then(|| end += frame.len()).is_some())
            .count()
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let pings = vec![frame(PING, 8); 2 * OVERHEAD];
        let resets: Vec<_> = (0..RESETS).flat_map(|_| [frame(HEADERS, 90), frame(RST_STREAM, 4)]).collect();
        for size in [1, 2, 9, 23, 100] {
            let through = passed(&pings, size);
            assert!(through <= OVERHEAD && through + 100 / 17 >= OVERHEAD, "{through}");
            // What looks like a frame inside another is none.
            let small = u8::try_from(SMALL).unwrap();
            let data: Vec<_> = (0..4 * OVERHEAD).map(|_| frame(DATA, small)).collect();
            assert_eq!(passed(&data, size), data.len());
            assert_eq!(passed(&resets, size), resets.len());
            let drops = vec![frame(DATA, small - 1); 2 * OVERHEAD];
            assert!(passed(&drops, size) <= OVERHEAD);
        }
    }

    #[test]
    fn resets_and_overhead_may_grow_with_requests_alone() {
        let count = |kinds: &[u8]| {
            let mut counts = Counts::default();
            let frames = kinds.iter().cycle().take(100_000);
            frames.map(|kind| counts.frame(*kind, false)).take_while(Result::is_ok).count()
        };
        assert_eq!(count(&[HEADERS, DATA, PING, PING, PING]), 100_000);
        assert_eq!(count(&[HEADERS, HEADERS, RST_STREAM]), 100_000);
        assert_eq!(count(&[HEADERS, RST_STREAM]), 4 * RESETS + 1);
        assert_eq!(count(&[PING]), OVERHEAD);
    }
}
