//! The keys of one platform and the set in which it publishes them.

use std::panic::resume_unwind;
use std::sync::OnceLock;
use std::thread;

use bytes::Bytes;
use serde_json::json;

use super::keys::{IssuerKey, KeySize, KeyStyle};
use crate::clock::UnixTime;

/// Keys that are made when they are first needed, side by side because each takes long: who never asks a platform does
/// not wait for it.
#[derive(Debug)]
pub(super) struct KeySet {
    shapes: Vec<(KeyStyle, KeySize)>,
    now: UnixTime,
    made: OnceLock<(Vec<IssuerKey>, Bytes)>,
}

impl KeySet {
    pub(super) fn new(shapes: impl Into<Vec<(KeyStyle, KeySize)>>, now: UnixTime) -> Self {
        Self { shapes: shapes.into(), now, made: OnceLock::new() }
    }

    /// The keys as published. The first call blocks while they are made.
    pub(super) fn keys(&self) -> &[IssuerKey] {
        &self.made().0
    }

    /// The document.
    pub(super) fn document(&self) -> Bytes {
        self.made().1.clone()
    }

    fn made(&self) -> &(Vec<IssuerKey>, Bytes) {
        self.made.get_or_init(|| {
            let keys: Vec<_> = thread::scope(|scope| {
                let make = |&(style, size)| scope.spawn(move || IssuerKey::rsa_of(style, size, self.now));
                let making: Vec<_> = self.shapes.iter().map(make).collect();
                making
                    .into_iter()
                    .map(|key| key.join().unwrap_or_else(|panic| resume_unwind(panic)))
                    .collect()
            });
            let public: Vec<_> = keys.iter().map(IssuerKey::public_jwk).collect();
            let document = json!({ "keys": public }).to_string().into();
            (keys, document)
        })
    }
}
