//! HTTP/2 frame by frame over TLS: for what no client library would send.

use std::pin::pin;

use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use crate::raw::{DEADLINE, connector};
use crate::support::{Form, World};

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const REFUSED_STREAM: u32 = 7;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header field as a literal that enters no table.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        let mut rest = text.len();
        if rest < 127 {
            field.push(u8::try_from(rest).unwrap());
        } else {
            field.push(127);
            rest -= 127;
            while rest >= 128 {
                field.push(u8::try_from(rest % 128).unwrap() | 128);
                rest /= 128;
            }
            field.push(u8::try_from(rest).unwrap());
        }
        field.extend(text.bytes());
    }
    field
}

/// The head of a token request, without the length of its body.
pub fn head(form: &Form) -> Vec<u8> {
    let path = format!("/{}/oauth2/v2.0/token", form.tenant);
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", &path),
        ("content-type", "application/x-www-form-urlencoded"),
    ];
    fields.map(|(name, value)| field(name, value)).concat()
}

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// How a stream ended.
#[derive(Debug)]
pub enum End {
    Answer {
        head: Vec<u8>,
        body: Vec<u8>,
    },
    Reset,
    /// With the connection.
    Closed,
}

impl End {
    /// The three digits of a status that is no more than named by the static table or spelt out.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let Self::Answer { head, .. } = self else { panic!("{self:?}") };
        match head[..] {
            [0x88, ..] => 200,
            [0x8c, ..] => 400,
            [0x48, length, ..] if length & 0x80 == 0 => {
                std::str::from_utf8(&head[2..5]).unwrap().parse().unwrap()
            }
            // Huffman: 0 to 2 are 5 bits, 3 to 9 are 6 that begin with 011001.
            [0x48, _, ..] => {
                let bits = u32::from_be_bytes([head[2], head[3], head[4], 0]);
                let (mut status, mut at) = (0, 0);
                for _ in 0..3 {
                    let five = (bits << at) >> 27;
                    let digit = if five < 3 { five } else { ((bits << at) >> 26) - 0b01_1001 + 3 };
                    at += if five < 3 { 5 } else { 6 };
                    status = status * 10 + digit;
                }
                u16::try_from(status).unwrap()
            }
            _ => panic!("{head:x?}"),
        }
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        let Self::Answer { body, .. } = self else { panic!("{self:?}") };
        serde_json::from_slice(body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// One connection and what was read ahead of it.
pub struct Http2 {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
    next: u32,
    /// The server has closed.
    pub ended: bool,
    /// The code of the last GOAWAY.
    pub goaway: Option<u32>,
    /// Streams that the server has reset, and the code.
    pub resets: Vec<(u32, u32)>,
}

impl Http2 {
    /// With the preface sent.
    pub async fn connect(world: &World) -> Self {
        let mut client = Self::silent(world).await;
        client.send([&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(SETTINGS, 0, 0, &[])].concat()).await;
        client
    }

    /// With nothing sent.
    pub async fn silent(world: &World) -> Self {
        let socket = TcpStream::connect(world.broker.public_address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = connector(world.broker.ca_file().unwrap(), &["h2"]);
        let stream = timeout(DEADLINE, connector.connect(name, socket)).await.expect("in time").unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self { stream, read: Vec::new(), next: 1, ended: false, goaway: None, resets: Vec::new() }
    }

    /// The next stream's number.
    pub fn open(&mut self) -> u32 {
        self.next += 2;
        self.next - 2
    }

    /// Sends, and reads what comes meanwhile: else both ends might wait for each other.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let (mut reading, mut writing) = split(&mut self.stream);
        let mut written = pin!(async {
            let _ = writing.write_all(bytes.as_ref()).await;
            let _ = writing.flush().await;
        });
        let sending = async {
            loop {
                tokio::select! {
                    biased;
                    () = &mut written => return false,
                    read = reading.read_buf(&mut self.read) => if !read.is_ok_and(|count| count > 0) {
                        return true;
                    },
                }
            }
        };
        self.ended |= timeout(DEADLINE, sending).await.expect("what is sent is taken or refused");
    }

    /// A whole request on a stream of its own.
    pub async fn request(&mut self, form: &Form) -> u32 {
        let stream = self.open();
        let head = frame(HEADERS, END_HEADERS, stream, &head(form));
        self.send([head, frame(DATA, END_STREAM, stream, form.body().as_bytes())].concat()).await;
        stream
    }

    /// The next frame; `None` at the end. What is asked of every client is acknowledged.
    pub async fn frame(&mut self) -> Option<Frame> {
        while self.read.len() < 9 || self.read.len() < 9 + self.length() {
            let more = timeout(DEADLINE, self.stream.read_buf(&mut self.read)).await;
            if !more.expect("the server answers or closes").is_ok_and(|count| count > 0) {
                self.ended = true;
                return None;
            }
        }
        let bytes: Vec<u8> = self.read.drain(..9 + self.length()).collect();
        let stream = u32::from_be_bytes(bytes[5..9].try_into().unwrap());
        let frame = Frame { kind: bytes[3], flags: bytes[4], stream, payload: bytes[9..].to_vec() };
        match frame.kind {
            GOAWAY => self.goaway = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap())),
            RST_STREAM => {
                let code = u32::from_be_bytes(frame.payload[..].try_into().unwrap());
                self.resets.push((stream, code));
            }
            SETTINGS if frame.flags & ACK == 0 => self.send(self::frame(SETTINGS, ACK, 0, &[])).await,
            PING if frame.flags & ACK == 0 => self.send(self::frame(PING, ACK, 0, &frame.payload)).await,
            _ => {}
        }
        Some(frame)
    }

    fn length(&self) -> usize {
        u32::from_be_bytes([0, self.read[0], self.read[1], self.read[2]]) as usize
    }

    /// Reads until a stream ends; frames of others are passed over.
    pub async fn end(&mut self, stream: u32) -> End {
        let (mut head, mut body) = (Vec::new(), Vec::new());
        while let Some(frame) = self.frame().await {
            match frame.kind {
                _ if frame.stream != stream => continue,
                HEADERS if head.is_empty() => head = frame.payload,
                DATA => body.extend(frame.payload),
                RST_STREAM => return End::Reset,
                _ => continue,
            }
            if frame.flags & END_STREAM != 0 {
                return End::Answer { head, body };
            }
        }
        End::Closed
    }

    /// Waits until everything sent so far has been read.
    pub async fn settled(&mut self) {
        self.send(frame(PING, 0, 0, b"settled?")).await;
        while let Some(frame) = self.frame().await {
            if frame.kind == PING && frame.payload == b"settled?" {
                return;
            }
        }
    }

    /// Reads until the server closes; the code of its GOAWAY.
    pub async fn closed(&mut self) -> Option<u32> {
        while self.frame().await.is_some() {}
        self.goaway
    }
}
