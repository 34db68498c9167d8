//! What a scripted issuer sends, and how.

use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncWrite, AsyncWriteExt};

/// An answer, part by part. The connection ends behind it.
#[derive(Clone)]
pub struct Answer(Vec<Part>);

#[derive(Clone)]
enum Part {
    Bytes(Vec<u8>),
    /// So many spaces, which may stand in front of any JSON.
    Spaces(usize),
    /// One byte after another, with a pause in front of each.
    Drip(Vec<u8>, Duration),
    /// Nothing more, and no end.
    Hang,
}

impl Answer {
    pub fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::status(200, &["content-type: application/json"], body)
    }

    /// With the length of the body behind these headers.
    pub fn status(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Self {
        let length = format!("content-length: {}", body.as_ref().len());
        Self::head(status, &[headers, &[&length]].concat()).then(body)
    }

    /// A head alone. Every one has a header that no answer of ours may tell of.
    pub fn head(status: u16, headers: &[&str]) -> Self {
        let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let line = format!("HTTP/1.1 {status} {}", reason.unwrap_or_default());
        let lines = [&[line.as_str(), "x-told: SECRET-WORD", "connection: close"], headers].concat();
        Self::bytes(format!("{}\r\n\r\n", lines.join("\r\n")))
    }

    pub fn redirect(status: u16, to: &str) -> Self {
        Self::status(status, &[&format!("location: {to}")], "SECRET-WORD")
    }

    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self(vec![Part::Bytes(bytes.as_ref().to_vec())])
    }

    pub fn hang() -> Self {
        Self(vec![Part::Hang])
    }

    pub fn then(self, bytes: impl AsRef<[u8]>) -> Self {
        self.and(Part::Bytes(bytes.as_ref().to_vec()))
    }

    pub fn then_spaces(self, count: usize) -> Self {
        self.and(Part::Spaces(count))
    }

    pub fn then_drip(self, bytes: impl AsRef<[u8]>, pause: Duration) -> Self {
        self.and(Part::Drip(bytes.as_ref().to_vec(), pause))
    }

    pub fn then_hang(self) -> Self {
        self.and(Part::Hang)
    }

    fn and(mut self, part: Part) -> Self {
        self.0.push(part);
        self
    }

    /// Sends it, and tells of every byte that was taken.
    pub async fn send(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        taken: impl Fn(usize),
    ) -> std::io::Result<()> {
        let spaces = vec![b' '; 16 << 10];
        for part in &self.0 {
            match part {
                Part::Bytes(bytes) => write(to, bytes, &taken).await?,
                Part::Spaces(count) => {
                    let mut left = *count;
                    while left > 0 {
                        let some = left.min(spaces.len());
                        write(to, &spaces[..some], &taken).await?;
                        left -= some;
                    }
                }
                Part::Drip(bytes, pause) => {
                    for byte in bytes {
                        tokio::time::sleep(*pause).await;
                        write(to, &[*byte], &taken).await?;
                    }
                }
                Part::Hang => std::future::pending().await,
            }
        }
        to.shutdown().await
    }
}

async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    taken: &impl Fn(usize),
) -> std::io::Result<()> {
    for bytes in bytes.chunks(16 << 10) {
        to.write_all(bytes).await?;
        to.flush().await?;
        taken(bytes.len());
    }
    Ok(())
}

/// What unpacks to so many spaces and then the content (RFC 1951, RFC 1952).
pub fn gzip(spaces: usize, content: &[u8]) -> Vec<u8> {
    let mut packed = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut bits = Bits::default();
    // A block with fixed codes: one space, then runs of 258 bytes of distance 1.
    let runs = spaces / 258;
    bits.put(0b010, 3);
    bits.put_code(0x30 + u32::from(b' '), 8);
    for _ in 0..runs {
        bits.put_code(0b1100_0101, 8);
        bits.put_code(0, 5);
    }
    bits.put_code(0, 7);
    // The last block holds the content as it is.
    bits.put(0b001, 3);
    packed.extend(bits.finish());
    let length = u16::try_from(content.len()).unwrap();
    packed.extend(length.to_le_bytes());
    packed.extend((!length).to_le_bytes());
    packed.extend(content);
    let unpacked: Vec<u8> = [&vec![b' '; runs * 258 + 1], content].concat();
    packed.extend(crc32(&unpacked).to_le_bytes());
    packed.extend(u32::try_from(unpacked.len()).unwrap().to_le_bytes());
    packed
}

#[derive(Default)]
struct Bits(Vec<u8>, u32);

impl Bits {
    /// The lowest bit first.
    fn put(&mut self, value: u32, count: u32) {
        for bit in 0..count {
            if self.1 == 0 {
                self.0.push(0);
            }
            let last = self.0.last_mut().unwrap();
            *last |= u8::try_from(value >> bit & 1).unwrap() << self.1;
            self.1 = (self.1 + 1) % 8;
        }
    }

    /// Codes have their highest bit first.
    fn put_code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    fn finish(self) -> Vec<u8> {
        self.0
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}
