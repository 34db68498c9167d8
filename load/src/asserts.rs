//! `p99<20ms`, `open.errors==0`, `cpu_ratio<1.2`: what must hold, and whether it does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One condition on a figure of the report.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Assert {
    /// The figure, as the report calls it.
    pub(crate) figure: String,
    how: How,
    /// In the figure's own unit: milliseconds, microseconds, bytes, or none.
    limit: f64,
    written: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Less,
    AtMost,
    Equal,
    Differs,
    AtLeast,
    More,
}

/// Longer signs first.
const SIGNS: [(&str, How); 6] = [
    ("<=", How::AtMost),
    (">=", How::AtLeast),
    ("==", How::Equal),
    ("!=", How::Differs),
    ("<", How::Less),
    (">", How::More),
];

/// Times are milliseconds, sizes MiB, in the report and here.
const UNITS: [(&str, f64); 7] = [
    ("us", 1e-3),
    ("ms", 1.0),
    ("s", 1e3),
    ("KiB", 1.0 / 1024.0),
    ("MiB", 1.0),
    ("GiB", 1024.0),
    ("%", 0.01),
];

impl Assert {
    pub(crate) fn holds(&self, value: f64) -> bool {
        match self.how {
            How::Less => value < self.limit,
            How::AtMost => value <= self.limit,
            How::Equal => (value - self.limit).abs() < 1e-9,
            How::Differs => (value - self.limit).abs() >= 1e-9,
            How::AtLeast => value >= self.limit,
            How::More => value > self.limit,
        }
    }
}

impl FromStr for Assert {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let wrong = || format!("{written}: write a figure, a sign and a number, as in p99<20ms or errors==0");
        let sign =
            |(at, _)| SIGNS.iter().find(|(sign, _)| written[at..].starts_with(sign)).map(|sign| (at, sign));
        let (at, (sign, how)) = written.char_indices().find_map(sign).ok_or_else(wrong)?;
        let figure = written[..at].trim();
        let value = written[at + sign.len()..].trim();
        let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if figure.is_empty() || !figure.chars().all(known) {
            return Err(wrong());
        }
        let digits =
            value.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-')).unwrap_or(value.len());
        let (number, unit) = (value[..digits].parse::<f64>().map_err(|_| wrong())?, value[digits..].trim());
        let factor = match unit {
            "" => 1.0,
            unit => UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1,
        };
        let limit = number * factor;
        Ok(Self { figure: figure.to_owned(), how: *how, limit, written: written.to_owned() })
    }
}

impl fmt::Display for Assert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl Serialize for Assert {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

impl<'de> Deserialize<'de> for Assert {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(written: &str, figure: &str, holds: &[f64], broken: &[f64]) {
        let assert: Assert = written.parse().unwrap();
        assert_eq!((assert.figure.as_str(), assert.to_string().as_str()), (figure, written));
        for value in holds {
            assert!(assert.holds(*value), "{written} with {value}");
        }
        for value in broken {
            assert!(!assert.holds(*value), "{written} with {value}");
        }
    }

    #[test]
    fn figures_signs_and_units_are_read() {
        check("p99<20ms", "p99", &[19.999], &[20.0, 21.0]);
        check("p99.99 <= 1.5s", "p99.99", &[1500.0], &[1500.1]);
        check("errors==0", "errors", &[0.0], &[1.0, -1.0]);
        check("open.shed!=0", "open.shed", &[1.0], &[0.0]);
        check("cpu_ratio<1.2", "cpu_ratio", &[1.19], &[1.2]);
        check("goodput>=80%", "goodput", &[0.8], &[0.79]);
        check("p50>250us", "p50", &[0.26], &[0.25]);
        check("memory<1GiB", "memory", &[1023.0], &[1024.0]);
    }

    #[test]
    fn what_is_no_assertion_is_refused_with_an_example() {
        for wrong in
            ["", "p99", "p99<", "<20ms", "p99<fast", "p99<20parsecs", "p 99<20ms", "p99=20ms", "p99<1.2.3"]
        {
            let error = wrong.parse::<Assert>().unwrap_err();
            assert!(error.contains("as in p99<20ms"), "{wrong}: {error}");
        }
    }
}
