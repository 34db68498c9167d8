//! Black-box tests: the real broker on port 0, over TLS, with an emulated GitHub.

#![allow(unreachable_pub, reason = "a test program has no outside")]

mod refusals;
mod support;
