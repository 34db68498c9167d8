//! Issuers that fail, rotate and lie: the threat catalogue's rows S, F, T and K, by their ids, over real TLS on loopback.
//!
//! What is hidden behind every fault is valid, so that following, waiting or reading on would end in a grant.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test program has no outside, and panics to fail")]

mod answer;
mod cache;
mod documents;
mod egress;
mod issuer;
mod keysets;
mod stage;
#[allow(dead_code, reason = "shared with the black-box tests, which use all of it")]
#[path = "../broker/support.rs"]
mod support;
mod tls;
mod transport;
#[path = "../broker/watch.rs"]
mod watch;
