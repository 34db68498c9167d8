//! A token while it is ours to look after.

use zeroize::{Zeroize, Zeroizing};

/// A token. It has no `Debug`, `Display` or `Clone`, so that none gets into a log by accident, and is overwritten when it
/// is dropped. (What libraries copy on its way through TLS and HTTP is not.)
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Takes bytes over; `None` when they are not text.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        match String::from_utf8(bytes) {
            Ok(text) => Some(Self::new(text)),
            Err(error) => {
                error.into_bytes().zeroize();
                None
            }
        }
    }

    /// The token itself. Look twice at what is done with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
