//! The pure heart: what an assertion is, when it is true, whom it fits, what is minted for it.
//!
//! In reading order: [`assertion`] (bytes in), [`verify`] (is it true?), [`matching`] (whom does it fit?),
//! [`authorize`] (what may they have?), [`token`] (what we say). [`refusal`] lists every way to say no. Beside them
//! [`bearer`]: our own tokens, presented to us.
//!
//! Deliberately absent: I/O, `async`, clocks, randomness. Time and random bytes are arguments.

pub mod algorithm;
pub mod asked;
pub mod assertion;
pub mod authorize;
pub mod base64url;
pub mod bearer;
pub mod credential;
pub mod digest;
pub mod directory;
pub mod expectation;
pub mod ids;
pub mod json;
pub mod jwk;
pub mod keyset;
pub mod matching;
pub mod nearmiss;
pub mod onetime;
pub mod past;
pub mod policy;
pub mod proof;
pub mod reason;
pub mod refusal;
pub mod resource;
pub mod rules;
pub mod scope;
pub mod tenant;
pub mod token;
pub mod verdict;
pub mod verify;
mod whereabouts;

#[cfg(test)]
mod vectors;
