//! How near two texts are that are not equal.

use std::borrow::Cow;

/// How a presented value relates to a configured one, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The same bytes. Nothing else ever matches.
    Equal,
    /// The same but for white space around it.
    Whitespace,
    /// The same but for slashes at the end.
    Slash,
    /// The same but for upper and lower case.
    Case,
    /// The same once percent-decoded.
    PercentEncoding,
    /// The same but for `https://` or `http://`.
    Scheme,
    /// The same thing, written in another form.
    Form,
    /// Looks the same: foreign letters, invisible characters.
    Lookalike,
    /// Of the same family; one part differs.
    Sibling,
    /// Anything else.
    Different,
}

impl Class {
    /// As the audit record and `explain` have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Equal => "EQUAL",
            Self::Whitespace => "WHITESPACE",
            Self::Slash => "SLASH",
            Self::Case => "CASE",
            Self::PercentEncoding => "PERCENT-ENCODING",
            Self::Scheme => "SCHEME",
            Self::Form => "FORM",
            Self::Lookalike => "LOOKALIKE",
            Self::Sibling => "SIBLING",
            Self::Different => "DIFFERENT",
        }
    }
}

/// Longest text that is compared for more than equality, in bytes.
pub(super) const LONGEST: usize = 600;

/// Whether two texts are spellings of one, and how they differ then.
pub(super) fn spelling(presented: &str, configured: &str) -> Option<Class> {
    let (p, c) = (presented, configured);
    if p == c {
        return Some(Class::Equal);
    }
    if p.len() > LONGEST || c.len() > LONGEST {
        return None;
    }
    let mut ways = WAYS.iter().filter(|(way, _)| way(p) == way(c));
    ways.next().map(|(_, class)| *class)
}

/// Takes away what two texts may differ in.
type Way = fn(&str) -> Cow<'_, str>;

const WAYS: [(Way, Class); 6] = [
    (|text| text.trim().into(), Class::Whitespace),
    (|text| text.trim_end_matches('/').into(), Class::Slash),
    (|text| text.to_lowercase().into(), Class::Case),
    (percent_decoded, Class::PercentEncoding),
    (|text| without_scheme(text).into(), Class::Scheme),
    (|text| skeleton(text).into(), Class::Lookalike),
];

/// What remains behind `https://` or `http://`.
pub(super) fn without_scheme(text: &str) -> &str {
    text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text)
}

/// Decodes every `%` with two hexadecimal digits; anything else stays as it is.
pub(super) fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return text.into();
    }
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let digit_at = |at: usize| bytes.get(at).copied().and_then(digit);
        match digit_at(at + 1).zip(digit_at(at + 2)) {
            Some((high, low)) if *byte == b'%' => {
                decoded.push(high << 4 | low);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned().into()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// What an eye makes of a text: letters of other alphabets, digits and dashes by what they look like, without what can't
/// be seen.
fn skeleton(text: &str) -> String {
    text.chars().filter_map(seen_as).collect()
}

fn seen_as(c: char) -> Option<char> {
    Some(match c {
        '\u{ad}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => {
            return None;
        }
        // Full-width forms of the printable ASCII characters.
        '\u{ff01}'..='\u{ff5e}' => return seen_as(char::from_u32(c as u32 - 0xfee0)?),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => ' ',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2236}' | '\u{a789}' => ':',
        '0' | 'O' | '\u{41e}' | '\u{39f}' | '\u{43e}' | '\u{3bf}' => 'o',
        '1' | 'I' | '|' | '\u{406}' | '\u{4c0}' | '\u{399}' | '\u{4cf}' => 'l',
        '\u{430}' | '\u{3b1}' => 'a',
        '\u{435}' => 'e',
        '\u{440}' | '\u{3c1}' => 'p',
        '\u{441}' | '\u{3f2}' => 'c',
        '\u{443}' | '\u{3b3}' => 'y',
        '\u{445}' | '\u{3c7}' => 'x',
        '\u{456}' | '\u{3b9}' => 'i',
        '\u{458}' => 'j',
        '\u{455}' => 's',
        '\u{4bb}' => 'h',
        '\u{501}' => 'd',
        '\u{261}' => 'g',
        '\u{3bd}' => 'v',
        '\u{3ba}' | '\u{43a}' => 'k',
        '\u{410}' | '\u{391}' => 'A',
        '\u{412}' | '\u{392}' => 'B',
        '\u{421}' => 'C',
        '\u{415}' | '\u{395}' => 'E',
        '\u{41d}' | '\u{397}' => 'H',
        '\u{41a}' | '\u{39a}' => 'K',
        '\u{41c}' | '\u{39c}' => 'M',
        '\u{420}' | '\u{3a1}' => 'P',
        '\u{422}' | '\u{3a4}' => 'T',
        '\u{425}' | '\u{3a7}' => 'X',
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_spelling_has_its_class() {
        for (presented, configured, class) in [
            ("https://a/b", "https://a/b", Some(Class::Equal)),
            ("x\n", "x", Some(Class::Whitespace)),
            ("https://a", "https://a//", Some(Class::Slash)),
            ("Octo", "octo", Some(Class::Case)),
            ("ÄPFEL", "äpfel", Some(Class::Case)),
            ("a%3Ab", "a:b", Some(Class::PercentEncoding)),
            ("a:b", "a%3ab", Some(Class::PercentEncoding)),
            ("gitlab.com", "https://gitlab.com", Some(Class::Scheme)),
            ("http://a", "https://a", Some(Class::Scheme)),
            ("m\u{430}in", "main", Some(Class::Lookalike)),
            ("ma\u{200b}in", "main", Some(Class::Lookalike)),
            ("release-1", "release-l", Some(Class::Lookalike)),
            ("\u{ff4d}ain", "main", Some(Class::Lookalike)),
            ("main", "master", None),
            ("%zz", "%25zz", Some(Class::PercentEncoding)),
            ("%", "%2", None),
        ] {
            assert_eq!(spelling(presented, configured), class, "{presented:?} {configured:?}");
        }
    }

    #[test]
    fn long_texts_are_compared_for_equality_alone() {
        let long = "a".repeat(LONGEST + 1);
        assert_eq!(spelling(&long, &long), Some(Class::Equal));
        assert_eq!(spelling(&long, &long.to_uppercase()), None);
        assert_eq!(spelling(&long[1..], &long[1..].to_uppercase()), Some(Class::Case));
    }
}
