//! Where records come from, and how they become a [`Directory`](crate::domain::directory::Directory).
//!
//! One source for now: a tree of TOML files. What a file says by itself is read once ([`Content`]); [`compile`](compile())
//! holds the rules between records, so that every source keeps the same ones.

mod compile;
mod content;
mod expectations;
pub mod files;
mod issuers;
mod parallel;
mod records;
mod tenant;

use std::collections::HashSet;

use crate::domain::ids::Guid;
use crate::domain::policy::IssuerPolicy;

pub use compile::{compile, expectations};
pub use content::Content;
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

impl Surroundings {
    /// The tenant that a record belongs to: the one it names, or the only one there is.
    fn tenant(&self, name: Option<&str>) -> Option<usize> {
        let Some(name) = name else { return (self.tenants.len() == 1).then_some(0) };
        let guid = Guid::parse(name);
        let named = |tenant: &TenantEntry| {
            Some(tenant.id) == guid || tenant.domain.as_deref() == Some(&name.to_ascii_lowercase())
        };
        self.tenants.iter().position(named)
    }
}
