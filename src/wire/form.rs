//! `application/x-www-form-urlencoded`, strictly: what can be read in two ways is refused, not repaired.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};

/// The parameters of one form; without `Debug`, because one of them is a token. Parameters without a value count as absent
/// (RFC 6749 section 3.2).
#[derive(Default)]
pub(super) struct Form<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// A percent sign without two hex digits, or bytes that are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BrokenEncoding;

impl<'a> Form<'a> {
    /// Reads a body.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, BrokenEncoding> {
        let mut pairs = Vec::with_capacity(8);
        let ends = memchr_iter(b'&', body).chain([body.len()]);
        let whole = ends.scan(0, |begin, end| Some(&body[std::mem::replace(begin, end + 1)..end]));
        for pair in whole.filter(|pair| !pair.is_empty()) {
            let (name, value) = match memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            pairs.push((decode(name)?, decode(value)?));
        }
        Ok(Self(pairs))
    }

    /// Whether some name occurs more than once, the one that may occur twice more than twice.
    pub(super) fn repeats(&self, twice: Option<&str>) -> bool {
        let mut names: Vec<&str> = self.0.iter().map(|(name, _)| name.as_ref()).collect();
        names.sort_unstable();
        names.chunk_by(|a, b| a == b).any(|same| same.len() > 1 + usize::from(same.first().copied() == twice))
    }

    /// The value of a parameter that is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a parameter, less those that are empty.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_ref())
    }
}

/// Decodes one name or value.
pub(super) fn decode(text: &[u8]) -> Result<Cow<'_, str>, BrokenEncoding> {
    if memchr2(b'%', b'+', text).is_none() {
        return std::str::from_utf8(text).map(Cow::Borrowed).map_err(|_| BrokenEncoding);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr2(b'%', b'+', rest) {
        let (plain, tail) = (&rest[..at], &rest[at + 1..]);
        bytes.extend_from_slice(plain);
        (rest, _) = match rest[at] {
            b'+' => (tail, bytes.push(b' ')),
            _ => {
                let (high, low) = (tail.first().and_then(digit), tail.get(1).and_then(digit));
                let (Some(high), Some(low)) = (high, low) else { return Err(BrokenEncoding) };
                (&tail[2..], bytes.push(high << 4 | low))
            }
        };
    }
    bytes.extend_from_slice(rest);
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| BrokenEncoding)
}

fn digit(byte: &u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_once_values_decoded_empty_is_absent() {
        let form = Form::parse(b"a=1&&b=x%20y+z%C3%A9&c=&d&%61b=2&e=a;b=c").ok().unwrap();
        assert_eq!(form.get("a"), Some("1"));
        assert_eq!(form.get("b"), Some("x y z\u{e9}"));
        assert_eq!((form.get("c"), form.get("d"), form.get("ab")), (None, None, Some("2")));
        assert_eq!(form.get("e"), Some("a;b=c"));
        for broken in [&b"a=%"[..], b"a=%z1", b"a=%1", b"%=1", b"a=%ff", b"a=\xff"] {
            assert_eq!(Form::parse(broken).err(), Some(BrokenEncoding), "{broken:?}");
        }
        assert!(Form::parse(&b"&".repeat(100_000)).is_ok());
    }

    #[test]
    fn one_name_may_occur_twice_and_no_other() {
        let repeats = |body: &'static str, twice| Form::parse(body.as_bytes()).ok().unwrap().repeats(twice);
        for repeated in ["a=1&a=1", "b=1&a=1&%61=2", "a&a", "a=&a="] {
            assert!(repeats(repeated, None) && repeats(repeated, Some("b")), "{repeated}");
            assert!(!repeats(repeated, Some("a")), "{repeated}");
        }
        assert!(repeats("a=1&a=2&a=3", Some("a")));
        assert!(!repeats("a=1&b=1&c", None));
        let form = Form::parse(b"a=1&b=2&a=&a=3").ok().unwrap();
        assert_eq!(form.all("a").collect::<Vec<_>>(), ["1", "3"]);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(name in "[a-z]{1,9}", value in "\\PC{1,40}") {
            let body: String = url::form_urlencoded::Serializer::new(String::new()).append_pair(&name, &value).finish();
            let form = Form::parse(body.as_bytes()).ok().unwrap();
            prop_assert_eq!(form.get(&name), Some(value.as_str()));
        }

        #[test]
        fn never_panics(body in any::<Vec<u8>>()) {
            let _ = Form::parse(&body);
        }
    }
}
