//! The threat catalogue's rows, by their ids. Every case begins with an honest token that is granted, changes one thing, and
//! ends with the honest token again.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test program has no outside, and panics to fail")]

mod audit;
mod claims;
mod clock;
mod frames;
mod http;
mod http2;
mod jws;
mod keys;
mod matching;
mod minting;
mod oauth;
mod operations;
#[allow(dead_code, reason = "shared with the black-box tests, which use all of it")]
#[path = "../broker/raw.rs"]
mod raw;
mod replay;
mod scarcity;
mod stage;
#[allow(dead_code, reason = "shared with the black-box tests, which use all of it")]
#[path = "../broker/support.rs"]
mod support;
#[path = "../broker/watch.rs"]
mod watch;
