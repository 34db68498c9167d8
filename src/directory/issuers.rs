//! The issuers that the credentials of one file name.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use crate::document::{Reader, Spot};
use crate::domain::rules::{self, Exposure};

/// Few issuers stand in many credentials: each is checked once, and its text is in memory once.
#[derive(Debug, Default)]
pub(super) struct Issuers(BTreeMap<String, Named>);

/// One issuer that keeps the rules of issuers.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) issuer: Arc<str>,
    pub(super) exposure: Exposure,
    /// Every credential's key that names it.
    pub(super) spots: Vec<Spot>,
}

impl Issuers {
    /// Reads a credential's issuer.
    pub(super) fn read(&mut self, reader: &mut Reader<'_>) -> Option<Arc<str>> {
        let named = match self.0.entry(reader.need("issuer")?) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match rules::issuer(new.key()) {
                Ok(exposure) => {
                    let issuer = new.key().as_str().into();
                    new.insert(Named { issuer, exposure, spots: Vec::new() })
                }
                Err(broken) => {
                    reader.problem("issuer", broken.message, broken.hint);
                    return None;
                }
            },
        };
        named.spots.push(reader.spot("issuer"));
        Some(Arc::clone(&named.issuer))
    }

    /// All of them, in the order of their texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Named> {
        self.0.values()
    }
}
