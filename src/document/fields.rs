//! The kinds of values that settings and records have.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::effective::quoted;
use super::{Node, Place, Value};

/// A type that one TOML value can be read into.
pub trait Field: Sized {
    /// What a person should have written, with an example.
    const EXPECTED: &'static str;

    /// Reads a text; `None` when it is not of this type.
    fn from_text(text: &str) -> Option<Self>;

    /// Reads an integer, for the types that TOML writes as one.
    fn from_integer(_: i64) -> Option<Self> {
        None
    }

    /// Reads a boolean, for the one type that TOML writes as one.
    fn from_bool(_: bool) -> Option<Self> {
        None
    }

    /// As it would be written, for types that settings have defaults of.
    fn written(&self) -> Option<String> {
        None
    }

    /// Whether TOML writes this type as a quoted text; an environment variable always may.
    const QUOTED: bool = true;
}

pub(crate) fn read<T: Field>(node: &Node<'_>) -> Option<T> {
    match &node.value {
        Value::Text(text) if T::QUOTED || matches!(node.place, Place::Variable(_)) => T::from_text(text),
        Value::Integer(number) => T::from_integer(*number),
        Value::Bool(flag) => T::from_bool(*flag),
        _ => None,
    }
}

/// The same value in JSON, which has no dates.
pub(crate) fn json(node: &Node<'_>) -> Option<serde_json::Value> {
    match &node.value {
        Value::Text(text) => Some(text.as_ref().into()),
        Value::Integer(number) => Some((*number).into()),
        Value::Float(number) => serde_json::Number::from_f64(*number).map(Into::into),
        Value::Bool(flag) => Some((*flag).into()),
        Value::List(items) => items.iter().map(json).collect::<Option<Vec<_>>>().map(Into::into),
        Value::Table(table) => {
            let members = table.iter().map(|(name, item)| Some((name.to_string(), json(item)?)));
            members.collect::<Option<serde_json::Map<_, _>>>().map(Into::into)
        }
        Value::Datetime => None,
    }
}

/// How a found value is shown in a problem: texts are cut, tables and lists only named.
pub(crate) fn shown(node: &Node<'_>) -> String {
    match &node.value {
        Value::Text(text) if text.chars().count() > 80 => {
            format!("{:?}", text.chars().take(80).chain("…".chars()).collect::<String>())
        }
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::List(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
        Value::Datetime => "a date".to_owned(),
    }
}

impl Field for String {
    const EXPECTED: &'static str = "a text in quotes";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn written(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Field for PathBuf {
    const EXPECTED: &'static str = "a path in quotes";

    fn from_text(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self::from(text))
    }

    fn written(&self) -> Option<String> {
        Some(quoted(&self.display().to_string()))
    }
}

impl Field for SocketAddr {
    const EXPECTED: &'static str = "an address and port such as \"127.0.0.1:8443\"";

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn written(&self) -> Option<String> {
        Some(quoted(&self.to_string()))
    }
}

impl Field for bool {
    const EXPECTED: &'static str = "true or false";
    const QUOTED: bool = false;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_bool(flag: bool) -> Option<Self> {
        Some(flag)
    }

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Field for u64 {
    const EXPECTED: &'static str = "a whole number";
    const QUOTED: bool = false;

    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn from_integer(number: i64) -> Option<Self> {
        number.try_into().ok()
    }

    fn written(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Field for Duration {
    const EXPECTED: &'static str = "a duration such as \"30s\", \"10m\" or \"24h\"";

    fn from_text(text: &str) -> Option<Self> {
        humantime::parse_duration(text).ok()
    }

    fn written(&self) -> Option<String> {
        Some(quoted(&humantime::format_duration(*self).to_string()))
    }
}

/// A number of bytes, written as `"64KiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

impl Field for Size {
    const EXPECTED: &'static str = "a size such as \"512B\", \"64KiB\" or \"1MiB\"";

    fn from_text(text: &str) -> Option<Self> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let factor = match text[digits.len()..].trim() {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return None,
        };
        digits.parse::<usize>().ok()?.checked_mul(factor).map(Size)
    }

    fn written(&self) -> Option<String> {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        let unit = units.iter().find(|(factor, _)| self.0 > 0 && self.0.is_multiple_of(*factor));
        Some(unit.map_or_else(
            || quoted(&format!("{}B", self.0)),
            |(factor, name)| quoted(&format!("{}{name}", self.0 / factor)),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_need_a_unit() {
        assert_eq!(Size::from_text("64KiB"), Some(Size(65536)));
        assert_eq!(Size::from_text("2 MiB"), Some(Size(2 << 20)));
        for wrong in ["64", "64KB", "KiB", "-1KiB", "1.5MiB", "", "99999999999999999999B"] {
            assert_eq!(Size::from_text(wrong), None, "{wrong}");
        }
    }
}
