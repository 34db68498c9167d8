//! What nobody may see: private keys, and tokens that are good elsewhere.

use std::fmt;
use std::ops::{Deref, DerefMut};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::{Zeroize, optimization_barrier};

/// Text or bytes that are overwritten when they are dropped. `Debug` does not show them, and there is neither `Display` nor
/// `Serialize`: no log, panic or answer can hold one unless somebody takes the content out for it.
#[derive(Clone, Default)]
pub struct Secret<T: Wipe>(T);

/// Content that can be overwritten, with all the room that it has.
pub trait Wipe: Zeroize {
    /// Overwrites it.
    fn wipe(&mut self) {
        self.zeroize();
    }
}

impl Wipe for KeyPair {}
impl Wipe for PrivateKeyDer<'static> {}
impl Wipe for PrivatePkcs8KeyDer<'static> {}

/// With zeros, all of its room at once: `zeroize` goes byte by byte, which takes ten times as long for a token.
impl Wipe for Vec<u8> {
    fn wipe(&mut self) {
        self.clear();
        self.resize(self.capacity(), 0);
        // Nobody reads the zeros: without this, the compiler may leave them out.
        optimization_barrier(self.as_slice());
    }
}

impl Wipe for String {
    fn wipe(&mut self) {
        std::mem::take(self).into_bytes().wipe();
    }
}

impl<T: Wipe> From<T> for Secret<T> {
    fn from(content: T) -> Self {
        Self(content)
    }
}

impl<T: Wipe> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

impl<T: Wipe> Deref for Secret<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Wipe> DerefMut for Secret<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Wipe> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What comes before the first token that a text holds: people paste tokens where names belong. A compact JWS or JWE begins
/// with a JSON object in base64url. Meant for short texts.
pub fn before_token(text: &str) -> Option<&str> {
    // The second letter of an object's is one of these, whatever follows its brace, and of a name's it hardly ever is.
    let may =
        |at: &usize| matches!(text.as_bytes().get(at + 1), Some(b'w'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    let begins = |at: &usize| {
        let header = text[*at..].split('.').next().unwrap_or_default();
        // Whole bytes only: how the last letters end is for who reads tokens.
        let whole = header.get(..header.len() / 4 * 4).unwrap_or_default();
        let object = || URL_SAFE_NO_PAD.decode(whole).is_ok_and(|bytes| bytes.starts_with(b"{"));
        header.len() >= 8 && at + header.len() < text.len() && object()
    };
    text.match_indices('e').map(|(at, _)| at).filter(may).find(begins).map(|at| &text[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_and_never_shown() {
        let secret = Secret::from("s3cret".to_owned());
        assert_eq!((secret.len(), secret.as_str()), (6, "s3cret"));
        let error: Result<(), _> = Err(Some(secret.clone()));
        assert_eq!(format!("{secret:?} {secret:#?} {error:?}"), "*** *** Err(Some(***))");
    }

    #[test]
    fn all_the_room_of_bytes_is_overwritten() {
        let mut bytes = Vec::with_capacity(100);
        bytes.extend(b"s3cret");
        bytes.wipe();
        assert_eq!(bytes, vec![0; bytes.capacity()]);
    }

    #[test]
    fn whatever_follows_the_brace_is_an_object() {
        for byte in 0..=u8::MAX {
            let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode([b'{', byte, b' ', b' ', b' ', b'}']));
            assert_eq!(before_token(&token), Some(""), "{byte}");
        }
    }

    #[test]
    fn tokens_are_found_wherever_they_are_and_however_they_begin() {
        for header in ["{\"alg\":\"RS256\"}", "{ \"alg\": 1 }", "{\n\"alg\":1}", "{\t\"a\": {}}"] {
            let token = format!("{}.e30.c2ln", URL_SAFE_NO_PAD.encode(header));
            for before in ["", "api://", "é", "Bearer ", "name", "e.e."] {
                let text = format!("{before}{token}/x");
                assert_eq!(before_token(&text), Some(before), "{header}");
            }
        }
        for kept in [
            "",
            "e",
            "repo:a/b:ref:refs/heads/eyJ.x",
            "https://a.b.c",
            "eyewear.example",
            "eyJhbGciOiJSUzI1NiJ9",
        ] {
            assert_eq!(before_token(kept), None, "{kept}");
        }
    }
}
