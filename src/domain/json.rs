//! Strict reading of JSON objects that strangers wrote: token headers and claims, issuers' documents and keys.
//!
//! serde's maps keep the last of two equal members and skip unknown values unread; both have been attacks
//! (threat catalogue J-08). Here a repeated member, known or not, refuses the whole object.

use std::borrow::Cow;
use std::fmt;

use memchr::{memchr, memchr2_iter};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Deepest nesting that is read; real tokens stay below 5.
const MAX_DEPTH: usize = 32;

/// The members of one JSON object, values still as text.
#[derive(Debug)]
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// Why a text is not an object that we read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes are not UTF-8 throughout.
    #[error("not valid UTF-8")]
    Utf8,
    /// Not JSON, or not a JSON object, or something behind it.
    #[error("not a JSON object")]
    Syntax,
    /// More than 32 levels of nesting.
    #[error("nested too deep")]
    Depth,
    /// Two members of one name, also when one of them is written with an escape.
    #[error("a member occurs twice")]
    Duplicate,
}

impl<'a> Members<'a> {
    /// Reads one object. The whole text is checked for UTF-8 and depth, the top level for repeated names.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::Utf8)?;
        // Every level takes a bracket, and tokens do not hold so many, texts in them included.
        let may_be_deep = memchr2_iter(b'{', b'[', bytes).nth(MAX_DEPTH).is_some();
        if may_be_deep && depth(text) > MAX_DEPTH {
            return Err(Fault::Depth);
        }
        let members: Self = serde_json::from_str(text).map_err(|_| Fault::Syntax)?;
        let mut names: Vec<&str> = members.0.iter().map(|(name, _)| name.as_ref()).collect();
        // Any order puts equal ones side by side. By length first, most are told apart without being read.
        names.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Fault::Duplicate);
        }
        Ok(members)
    }

    /// The value of a member, `None` when there is none. `null` is a value: it is not the same as absent.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(member, _)| member == name).map(|(_, value)| *value)
    }

    /// A member that, when present, must be a JSON string.
    pub fn text(&self, name: &str) -> Result<Option<String>, Mistyped> {
        self.get(name).map(text).transpose()
    }

    /// A member that, when present, must be of type `T`.
    pub fn typed<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, Mistyped> {
        self.get(name).map(|value| serde_json::from_str(value.get()).map_err(|_| Mistyped)).transpose()
    }
}

/// A value that must be a JSON string. Where it has no escapes it is what stands between its quotes: everything else was
/// looked at when the object was read.
pub fn text(value: &RawValue) -> Result<String, Mistyped> {
    let quoted = value.get().strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or(Mistyped)?;
    match memchr(b'\\', quoted.as_bytes()) {
        None => Ok(quoted.to_owned()),
        Some(_) => serde_json::from_str(value.get()).map_err(|_| Mistyped),
    }
}

/// A member is there, but of another type than its definition says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mistyped;

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key()? {
            members.push((name, map.next_value()?));
        }
        Ok(Members(members))
    }
}

/// A member's name: borrowed unless it was written with escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member name")
            }

            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }

            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// Deepest nesting of brackets outside strings. Not recursive: a token may hold thousands of brackets.
fn depth(text: &str) -> usize {
    let (mut deepest, mut level, mut quoted, mut escaped) = (0, 0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                level += 1;
                deepest = deepest.max(level);
            }
            b'}' | b']' if !quoted => level = level.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(text: &[u8]) -> Fault {
        Members::read(text).expect_err("must be refused")
    }

    #[test]
    fn repeated_members_are_refused_known_or_not_and_however_written() {
        assert_eq!(fault(br#"{"sub":"a","sub":"b"}"#), Fault::Duplicate);
        assert_eq!(fault(br#"{"x":1,"x":1}"#), Fault::Duplicate);
        assert_eq!(fault(br#"{"sub":"a","s\u0075b":"b"}"#), Fault::Duplicate);
        assert!(Members::read(br#"{"x":{"y":1,"y":2},"sub":"a","Sub":"b"}"#).is_ok());
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        for text in [
            "",
            "[]",
            "null",
            "\"x\"",
            "{} {}",
            "{}x",
            "{,}",
            "{\"a\":1,}",
            "{'a':1}",
            "\u{feff}{}",
            "{\"a\":NaN}",
        ] {
            assert_eq!(fault(text.as_bytes()), Fault::Syntax, "{text}");
        }
        assert_eq!(fault(b"{\"a\":\"\xff\"}"), Fault::Utf8);
    }

    #[test]
    fn depth_is_bounded_without_recursion() {
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert!(Members::read(nested(31).as_bytes()).is_ok());
        assert_eq!(fault(nested(32).as_bytes()), Fault::Depth);
        assert_eq!(fault(nested(100_000).as_bytes()), Fault::Depth);
        // Many brackets, and no depth.
        assert!(Members::read(format!("{{\"a\":[{}0]}}", "[],".repeat(1000)).as_bytes()).is_ok());
        assert!(Members::read(br#"{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[["}"#).is_ok());
    }

    #[test]
    fn null_is_not_absent() {
        let members = Members::read(br#"{"exp":null,"sub":"\u0061"}"#).unwrap();
        assert_eq!(members.text("exp"), Err(Mistyped));
        assert_eq!(members.text("iat"), Ok(None));
        assert_eq!(members.text("sub"), Ok(Some("a".to_owned())));
    }

    #[test]
    fn texts_are_read_with_escapes_and_without_alike() {
        for (written, read) in [
            (r#""""#, Some("")),
            (r#""a\u0062\n\"""#, Some("ab\n\"")),
            (r#" "\\" "#, Some("\\")),
            ("\"\u{e9}\u{1f600}\"", Some("\u{e9}\u{1f600}")),
            (r#""\ud83d\ude00""#, Some("\u{1f600}")),
            (r#""\ud83d""#, None),
            (r#"["a"]"#, None),
            ("7", None),
            ("null", None),
        ] {
            let object = format!("{{\"a\":{written}}}");
            let found = Members::read(object.as_bytes()).unwrap().text("a");
            assert_eq!(found, read.map(|read| Some(read.to_owned())).ok_or(Mistyped), "{written}");
        }
        for broken in ["\"\u{1}\"", "\"\n\"", r#""\x""#, r#""\u12""#, r#""a\""#] {
            assert_eq!(fault(format!("{{\"a\":{broken}}}").as_bytes()), Fault::Syntax, "{broken}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Members::read(&bytes);
        }

        #[test]
        fn one_more_member_of_any_name_is_read_back(name in "[a-z\"\\\\\u{e9}]{1,8}", value in any::<i64>()) {
            let text = serde_json::json!({ name.clone(): value }).to_string();
            let members = Members::read(text.as_bytes()).unwrap();
            prop_assert_eq!(members.typed::<i64>(&name), Ok(Some(value)));
        }
    }
}
