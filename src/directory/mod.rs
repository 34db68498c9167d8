//! Where records come from, and how they become a [`Directory`](crate::domain::directory::Directory).
//!
//! One source for now: a tree of TOML files. A source gives texts or records; [`compile`](compile()) holds the rules,
//! so that every source keeps the same ones.

mod compile;
pub mod files;
mod records;
mod tenant;

use std::collections::HashSet;

use crate::domain::policy::IssuerPolicy;

pub use compile::compile;
pub use tenant::TenantEntry;

/// What the records are checked against: things that the configuration file says.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// All tenants.
    pub tenants: Vec<TenantEntry>,
    /// Policies of the issuers that have an entry of their own.
    pub policies: Vec<IssuerPolicy>,
    /// Issuers whose entry allows private networks: only they may have an IP address or localhost as their host.
    pub private_issuers: HashSet<String>,
}
