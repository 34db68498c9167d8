//! Something in front of a broker: a balancer that answers by itself for a while, or a proxy. Plain HTTP on loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Answers each connection with the next of these texts, then closes it; an empty one is closed without an answer. The
/// last one stays.
pub struct Front {
    pub port: u16,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Front {
    pub fn answering(answers: &[&str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (answers, hears): (Vec<String>, _) =
            (answers.iter().map(|&a| a.to_owned()).collect(), heard.clone());
        std::thread::spawn(move || {
            for (at, socket) in listener.incoming().enumerate() {
                let mut socket = socket.unwrap();
                hears.lock().unwrap().push(request(&mut socket));
                let _ = socket.write_all(answers[at.min(answers.len() - 1)].as_bytes());
            }
        });
        Self { port, heard }
    }

    /// A proxy that takes CONNECT.
    pub fn tunnelling() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = heard.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let mut near = socket.unwrap();
                let head = request(&mut near);
                let place = head.split(' ').nth(1).unwrap().replace("localhost", "127.0.0.1");
                hears.lock().unwrap().push(head);
                let mut far = TcpStream::connect(place).unwrap();
                near.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                std::thread::spawn(move || std::io::copy(&mut far, &mut near));
            }
        });
        Self { port, heard }
    }

    /// The requests so far.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

/// A request, with its body where it announces one.
fn request(socket: &mut TcpStream) -> String {
    let (mut text, mut chunk) = (String::new(), [0; 4096]);
    loop {
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return text;
            }
        }
        match socket.read(&mut chunk) {
            Ok(0) | Err(_) => return text,
            Ok(read) => text.push_str(std::str::from_utf8(&chunk[..read]).unwrap()),
        }
    }
}
