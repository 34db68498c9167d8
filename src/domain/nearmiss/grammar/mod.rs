//! What platforms' subjects are made of, so that the part that differs has a name.

pub(super) mod components;
pub(super) mod github;
pub(super) mod kubernetes;
