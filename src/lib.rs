//! ficus: a federated token exchange broker.
//!
//! Read in this order: [`domain`] (what is decided), [`exchange`] (in which order), [`wire`] (how it looks from outside).
//! ARCHITECTURE.md has the map.

pub mod audit;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod directory;
pub mod document;
pub mod domain;
pub mod emulator;
pub mod exchange;
pub mod files;
pub mod metrics;
pub mod net;
pub mod secret;
pub mod server;
pub mod signing;
pub mod trust;
pub mod wire;
