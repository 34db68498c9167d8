//! Black-box tests: the real broker on port 0, over TLS, with emulated platforms.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test program has no outside, and panics to fail")]

mod against;
mod arm;
mod audit;
mod caches;
mod cli;
mod dialects;
mod discovery;
mod expect;
mod explain;
mod issuers;
mod keys;
mod keysets;
mod lifecycle;
mod limits;
mod metrics;
mod nearmiss;
mod observe;
mod onetime;
mod openid;
mod platforms;
mod policies;
mod rates;
mod raw;
mod refusals;
mod reload;
mod report;
mod support;
mod token;
mod tokens;
mod wait;
