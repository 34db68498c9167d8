//! Request bodies, bounded in size and time.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::time::timeout;

/// Why a body could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Announced or turned out to be longer than the limit.
    #[error("the body is too large")]
    TooLarge,
    /// Did not end before the deadline.
    #[error("the body came too slowly")]
    TooSlow,
    /// The connection failed, or the framing was wrong.
    #[error("the body broke off")]
    Broken,
    /// All unfinished bodies together are too large.
    #[error("there is no room for the body")]
    Shed,
}

/// What all bodies that have begun and not ended hold in memory, bounded: a slow sender's bytes are paid for by everybody.
#[derive(Debug)]
pub struct Bodies {
    budget: usize,
    held: AtomicUsize,
    shed: AtomicU64,
}

impl Bodies {
    /// With a budget in bytes.
    pub fn new(budget: usize) -> Self {
        Self { budget, held: AtomicUsize::new(0), shed: AtomicU64::new(0) }
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Bodies that were given up for want of room.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }
}

/// What one body holds, given back when it is dropped.
struct Held<'b>(&'b Bodies, usize);

impl Held<'_> {
    fn take(&mut self, bytes: usize) -> Result<(), BodyError> {
        self.1 += bytes;
        // Counted first, looked at second: two bodies can't both take the last room.
        if self.0.held.fetch_add(bytes, Ordering::Relaxed) + bytes <= self.0.budget {
            return Ok(());
        }
        self.0.shed.fetch_add(1, Ordering::Relaxed);
        Err(BodyError::Shed)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// Reads a whole body of at most `limit` bytes within `deadline`.
///
/// An announced length above the limit is refused before a byte is read, and so before a client that asked
/// `Expect: 100-continue` is told to send. Trailers are ignored. A body that comes whole is not counted among the unfinished.
///
/// # Errors
/// When the body is too large, too slow or broken, or there is no room for it.
pub async fn read<B>(body: B, limit: usize, deadline: Duration, bodies: &Bodies) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
{
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge);
    }
    timeout(deadline, collect(body, limit, bodies)).await.unwrap_or(Err(BodyError::TooSlow))
}

/// The most that is read of a body only to be thrown away.
const DISCARDED: usize = 1 << 20;

/// Reads the rest of a refused body and throws it away, up to 1 MiB. It may go on beside the answer.
pub async fn discard<B: Body<Data = Bytes>>(body: B, deadline: Duration) {
    let mut body = pin!(body);
    let mut left = DISCARDED;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let read = frame.data_ref().map_or(0, Bytes::len);
            if read > left {
                break;
            }
            left -= read;
        }
    };
    // Late or not, nothing depends on it.
    let _ = timeout(deadline, reading).await;
}

async fn collect<B: Body<Data = Bytes>>(body: B, limit: usize, bodies: &Bodies) -> Result<Bytes, BodyError> {
    let mut body = pin!(body);
    let (mut joined, mut held) = (BytesMut::new(), Held(bodies, 0));
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if chunk.len() > limit - joined.len() {
            return Err(BodyError::TooLarge);
        }
        // Nearly every body is one chunk, and that chunk is handed on as it is. Of any other a copy is kept: a few bytes
        // must not keep alive the buffer that they were read into.
        if joined.is_empty() && body.is_end_stream() {
            return Ok(chunk);
        }
        held.take(chunk.len())?;
        joined.extend_from_slice(&chunk);
    }
    Ok(joined.freeze())
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use http_body_util::Full;
    use hyper::body::Frame;

    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    /// A body of unknown length; after its chunks it ends, breaks or hangs.
    struct Chunks(VecDeque<&'static [u8]>, End);

    #[derive(Clone, Copy)]
    enum End {
        Clean,
        Broken,
        Never,
    }

    impl Body for Chunks {
        type Data = Bytes;
        type Error = ();

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, ()>>> {
            match (self.0.pop_front(), self.1) {
                (Some(chunk), _) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(chunk))))),
                (None, End::Clean) => Poll::Ready(None),
                (None, End::Broken) => Poll::Ready(Some(Err(()))),
                (None, End::Never) => Poll::Pending,
            }
        }
    }

    async fn of(chunks: &[&'static [u8]], end: End, limit: usize) -> Result<Bytes, BodyError> {
        read(Chunks(chunks.iter().copied().collect(), end), limit, SOON, &Bodies::new(1 << 20)).await
    }

    #[tokio::test]
    async fn one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![7; 100]);
        let whole = read(Full::new(chunk.clone()), 100, SOON, &Bodies::new(0)).await.unwrap();
        assert_eq!(whole.as_ptr(), chunk.as_ptr());
    }

    #[tokio::test]
    async fn chunks_are_joined_up_to_the_limit_and_no_further() {
        assert_eq!(of(&[b"ab", b"", b"c", b"d"], End::Clean, 4).await.unwrap(), "abcd");
        assert_eq!(of(&[b"ab", b"cd", b"e"], End::Never, 4).await, Err(BodyError::TooLarge));
        assert_eq!(of(&[b"abcde"], End::Never, 4).await, Err(BodyError::TooLarge));
        assert_eq!(of(&[], End::Clean, 0).await.unwrap(), "");
    }

    #[tokio::test]
    async fn an_announced_length_is_refused_unread() {
        let announced = Full::new(Bytes::from_static(b"abcde"));
        assert_eq!(read(announced, 4, SOON, &Bodies::new(0)).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn broken_and_endless_bodies_end() {
        assert_eq!(of(&[b"a"], End::Broken, 4).await, Err(BodyError::Broken));
        assert_eq!(of(&[b"a"], End::Never, 4).await, Err(BodyError::TooSlow));
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_bodies_share_a_budget_and_give_it_back_on_every_way_out() {
        let bodies = Bodies::new(4);
        let body = |chunks: &[&'static [u8]], end| Chunks(chunks.iter().copied().collect(), end);
        let mut waiting = Box::pin(read(body(&[b"abc"], End::Never), 8, SOON, &bodies));
        assert!(timeout(SOON / 2, waiting.as_mut()).await.is_err());
        assert_eq!(bodies.held(), 3);
        assert_eq!(read(body(&[b"d"], End::Clean), 8, SOON, &bodies).await.unwrap(), "d");
        assert_eq!(read(body(&[b"d", b"e"], End::Clean), 8, SOON, &bodies).await, Err(BodyError::Shed));
        // What comes whole needs no room.
        assert_eq!(read(Full::new(Bytes::from_static(b"defgh")), 8, SOON, &bodies).await.unwrap(), "defgh");
        assert_eq!((bodies.held(), bodies.shed()), (3, 1));
        // Too slow, gone away, broken off, too large.
        assert_eq!(waiting.await, Err(BodyError::TooSlow));
        assert_eq!(bodies.held(), 0);
        let mut dropped = Box::pin(read(body(&[b"abc"], End::Never), 8, SOON, &bodies));
        assert!(timeout(SOON / 2, dropped.as_mut()).await.is_err());
        drop(dropped);
        assert_eq!(bodies.held(), 0);
        assert_eq!(read(body(&[b"abc"], End::Broken), 8, SOON, &bodies).await, Err(BodyError::Broken));
        assert_eq!(read(body(&[b"abc", b"d"], End::Never), 3, SOON, &bodies).await, Err(BodyError::TooLarge));
        assert_eq!(bodies.held(), 0);
        assert_eq!(read(body(&[b"abc", b"d"], End::Clean), 8, SOON, &bodies).await.unwrap(), "abcd");
    }
}
