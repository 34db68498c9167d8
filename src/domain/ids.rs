//! GUIDs, in the one form that we read: 8-4-4-4-12 hexadecimal digits, without regard to case.

use std::fmt;

use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::document::Field;

/// Letters of a GUID.
const TEXT: usize = 36;

/// A tenant, client or principal id. Written in lower case wherever we publish it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(Uuid);

impl Guid {
    /// Reads the hyphenated form alone: braces, URN and bare digits, which UUID parsers take too, are not GUIDs
    /// to Entra and would give one identity several names.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == TEXT).then(|| Uuid::try_parse(text).ok()).flatten().map(Self)
    }

    /// Whether all digits are zero; such a GUID names nothing.
    pub fn is_nil(self) -> bool {
        self.0.is_nil()
    }

    /// A random (version 4) GUID from random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0.as_hyphenated().encode_lower(&mut [0; TEXT]))
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Guid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut [0; TEXT]))
    }
}

impl Field for Guid {
    const EXPECTED: &'static str = "a GUID such as \"6f0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6f\"";

    fn from_text(text: &str) -> Option<Self> {
        Self::parse(text).filter(|guid| !guid.is_nil())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_read() {
        let text = "6F0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6f";
        assert_eq!(Guid::parse(text).unwrap().to_string(), text.to_ascii_lowercase());
        for wrong in [
            "{6f0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6f}",
            "urn:uuid:6f0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6f",
            "6f0c1d2e7a414b0c9d3e1a2b3c4d5e6f",
            "6f0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6g",
            "6f0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6",
            " 6f0c1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6",
            "6f0c1d2e07a41-4b0c-9d3e-1a2b3c4d5e6f",
            "",
        ] {
            assert!(Guid::parse(wrong).is_none(), "{wrong}");
        }
    }
}
