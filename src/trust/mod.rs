//! How external issuers' keys are had: which issuers, over which network, from which documents, kept how long.
//!
//! In reading order: [`IssuerEntry`] (what is configured), `address` and `egress` (what may be connected to),
//! `documents` (discovery, then keys), [`Issuers`] (one cached key set per issuer, one fetch at a time).
//!
//! Only issuers that the directory names are ever fetched; nothing that a token says becomes an address.

mod address;
mod bearer;
mod documents;
mod egress;
mod entry;
mod fault;
mod issuers;
mod resolver;
mod settings;
#[cfg(test)]
mod testing;

pub use bearer::Bearer;
pub use egress::PrivateHosts;
pub use entry::{FILE_KEYS, IssuerEntry, Source, read_all};
pub use fault::{Cause, Fault, Unavailable};
pub use issuers::{Issuers, Overrides};
pub use settings::TrustSettings;
