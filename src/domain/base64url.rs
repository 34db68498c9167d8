//! base64url as tokens have it (RFC 7515 section 2): no padding, no white space, no other alphabet, no loose bits at the end.
//! By the vector instructions of the processor, where it has them: a token is thousands of letters.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::Simd;
use base64::engine::general_purpose::NO_PAD;

static ENGINE: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(NO_PAD));

/// The bytes that a text stands for; `None` where it is not written exactly so.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    ENGINE.decode(text).ok()
}

/// Appends the text of bytes.
pub fn append(bytes: &[u8], to: &mut String) {
    ENGINE.encode_string(bytes, to);
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_come_back_whatever_their_number() {
        for length in 0..400_u16 {
            let bytes: Vec<u8> = (0..length).map(|at| ((at * 151) >> 3).to_le_bytes()[0]).collect();
            let mut text = "before.".to_owned();
            append(&bytes, &mut text);
            assert_eq!(text, format!("before.{}", URL_SAFE_NO_PAD.encode(&bytes)));
            assert_eq!(decode(&text["before.".len()..]), Some(bytes));
        }
    }

    #[test]
    fn no_byte_is_let_through_or_kept_out_at_any_place_of_a_long_text() {
        let honest = URL_SAFE_NO_PAD.encode([0xa5; 96]);
        for at in 0..honest.len() {
            for byte in 0..=0x7f_u8 {
                let mut text = honest.clone().into_bytes();
                text[at] = byte;
                let text = String::from_utf8(text).unwrap();
                assert_eq!(decode(&text), URL_SAFE_NO_PAD.decode(&text).ok(), "{byte:#x} at {at}");
            }
        }
        let aliens = ["=", "==", "\u{e9}", "\u{410}", "\n"].map(|end| format!("{honest}{end}"));
        assert!(aliens.iter().all(|text| decode(text).is_none()));
    }

    proptest! {
        #[test]
        fn what_is_read_byte_by_byte_is_read_alike(text in "[A-Za-z0-9_-]{0,200}[A-Za-z0-9_=+/. -]{0,3}[A-Za-z0-9_-]{0,90}") {
            prop_assert_eq!(decode(&text), URL_SAFE_NO_PAD.decode(&text).ok());
        }
    }
}
