//! ficus: a federated token exchange broker.
//!
//! Read in this order: [`domain`] (what is decided), `exchange` (in which order), `wire` (how it looks from outside).
//! ARCHITECTURE.md has the map.

pub mod clock;
pub mod document;
pub mod domain;
pub mod net;
pub mod trust;
