//! Request bodies, bounded in size and time.

use std::pin::pin;
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
}

/// Reads a whole body of at most `limit` bytes within `deadline`.
///
/// An announced length above the limit is refused before a byte is read, and so before a client that asked
/// `Expect: 100-continue` is told to send. Trailers are ignored.
///
/// # Errors
/// When the body is too large, too slow or broken.
pub async fn read<B>(body: B, limit: usize, deadline: Duration) -> Result<Bytes, BodyError>
where
    B: Body<Data = Bytes>,
{
    if body.size_hint().lower() > u64::try_from(limit).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLarge);
    }
    timeout(deadline, collect(body, limit)).await.unwrap_or(Err(BodyError::TooSlow))
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

async fn collect<B: Body<Data = Bytes>>(body: B, limit: usize) -> Result<Bytes, BodyError> {
    let mut body = pin!(body);
    // Nearly every body is one chunk, and that chunk is handed on as it is; only a second one makes a copy.
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(chunk) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if chunk.len() > limit - whole.len() - joined.len() {
            return Err(BodyError::TooLarge);
        }
        if whole.is_empty() && joined.is_empty() {
            whole = chunk;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&chunk);
        }
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
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
        read(Chunks(chunks.iter().copied().collect(), end), limit, SOON).await
    }

    #[tokio::test]
    async fn one_chunk_is_not_copied() {
        let chunk = Bytes::from(vec![7; 100]);
        let whole = read(Full::new(chunk.clone()), 100, SOON).await.unwrap();
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
        assert_eq!(read(announced, 4, SOON).await, Err(BodyError::TooLarge));
    }

    #[tokio::test(start_paused = true)]
    async fn broken_and_endless_bodies_end() {
        assert_eq!(of(&[b"a"], End::Broken, 4).await, Err(BodyError::Broken));
        assert_eq!(of(&[b"a"], End::Never, 4).await, Err(BodyError::TooSlow));
    }
}
