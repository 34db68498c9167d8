//! ficus: a federated token exchange broker.

pub mod clock;
pub mod document;
pub mod net;
