//! Black-box tests: the real broker on port 0, over TLS, with an emulated GitHub.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test program has no outside, and panics to fail")]

mod discovery;
mod openid;
mod refusals;
mod reload;
mod support;
mod tokens;
