//! The workload's side: the OIDC token that a platform gives to a job or pod, and its exchange at a broker.
//!
//! In reading order: [`source`] (where the platform's token is), [`assertion`] (what it says, and how it was spoilt on the
//! way), [`exchange`] (asking a broker until it answers), [`hint`] (why a broker may have refused, told from what was
//! presented alone); and [`replica`], for who changes a directory. Nothing here prints, and of the environment only proxies
//! are read: the command line does the rest.

pub mod assertion;
pub mod exchange;
mod github;
pub mod hint;
pub mod http;
pub mod patience;
mod proxy;
pub mod replica;
pub mod source;

use std::fmt;

/// Why there is no token. Never holds a token, nor any part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It was refused, or what is at hand is no good; asking again changes nothing.
    Refused(String),
    /// Somebody else can't be had at the moment.
    Unavailable(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(text) | Self::Unavailable(text)) = self;
        f.write_str(text)
    }
}

/// What others wrote, fit for a terminal and a log: anything but printable ASCII is spelled out.
pub(crate) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, ' '..='~') { c.to_string() } else { c.escape_default().to_string() })
        .collect()
}
