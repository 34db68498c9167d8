//! Black-box tests: the real broker on port 0, over TLS, with an emulated GitHub.

mod refusals;
mod support;
