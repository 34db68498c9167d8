//! ficus: a federated token exchange broker.

pub mod audit;
pub mod clock;
pub mod document;
pub mod net;
