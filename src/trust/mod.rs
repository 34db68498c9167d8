//! How external issuers' keys are had: which issuers, over which network, from which documents, kept how long.
//!
//! In reading order: [`IssuerEntry`] (what is configured), `address` and `egress` (what may be connected to),
//! `documents` (discovery, then keys), `freshness` (how long a set is good for), `holdings` and `flight` (one
//! issuer: the set at hand, the one fetch at a time), `state` (sets on disk), [`Issuers`] (all of them).
//!
//! Only issuers that the directory names are ever fetched; nothing that a token says becomes an address.

mod address;
mod bearer;
mod documents;
mod egress;
mod entry;
mod fault;
mod flight;
mod freshness;
mod holdings;
mod issuers;
mod resolver;
mod settings;
mod state;
#[cfg(test)]
mod testing;

pub use bearer::Bearer;
pub use egress::PrivateHosts;
pub use entry::{FILE_KEYS, IssuerEntry, Source, read_all};
pub use fault::{Cause, Fault, Unavailable};
pub use flight::Held;
pub use issuers::{Issuers, Overrides};
pub use settings::TrustSettings;
