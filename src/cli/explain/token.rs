//! Reads the token, and tells the usual mistakes of copying apart.

use std::io::Read;
use std::path::Path;

use super::super::Failure;
use crate::secret::Secret;

/// Far above the largest limit of a broker; more is no token.
const LARGEST: u64 = 4 << 20;

pub(super) fn read(file: &Path) -> Result<Secret<String>, Failure> {
    let failed = |why: String| Failure::Line(format!("{}: {why}", file.display()));
    let mut bytes = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(LARGEST).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|open| open.take(LARGEST).read_to_end(&mut bytes))
    };
    read.map_err(|error| failed(format!("can't be read: {error}")))?;
    String::from_utf8(bytes)
        .map(Secret::from)
        .map_err(|_| failed("is not text (hint: a token is ASCII; was it saved as UTF-16?)".to_owned()))
}

/// The compact form, with the white space around it taken off as the broker does. An error never holds the text itself.
pub(super) fn check(text: &str) -> Result<&str, String> {
    let token = text.trim_matches([' ', '\t', '\r', '\n']);
    let parts = token.split('.').count();
    let lower = token.get(..7).unwrap_or_default().to_ascii_lowercase();
    let mistake = match token.chars().next() {
        None => "is empty (hint: did the command that fetched the token fail?)".to_owned(),
        Some('\u{feff}') => "begins with a byte order mark (hint: save it as UTF-8 without one)".to_owned(),
        Some('"' | '\'') => "has quotes around the token (hint: jq -r prints none)".to_owned(),
        Some('{' | '[') => {
            "holds JSON, not a token (hint: take its member with the token out, for example with \
                            jq -r .value or jq -r .status.token)"
                .to_owned()
        }
        _ if lower == "bearer " => "begins with `Bearer ` (hint: leave that out)".to_owned(),
        _ if parts == 5 => {
            "holds an encrypted token (JWE); only signed ones (JWS) can be exchanged".to_owned()
        }
        _ if parts != 3 => {
            format!(
                "is not a JWT: it has {parts} parts between dots, not 3 (hint: is it whole, and the right file?)"
            )
        }
        _ if token.contains(char::is_whitespace) => {
            "has white space within the token (hint: was it wrapped into lines?)".to_owned()
        }
        _ => return Ok(token),
    };
    Err(mistake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_told_in_a_line_without_the_token() {
        assert_eq!(check(" e30.e30.c2ln\r\n"), Ok("e30.e30.c2ln"));
        for (text, word) in [
            ("", "empty"),
            (" \n", "empty"),
            ("\"e30.e30.c2ln\"", "quotes"),
            ("'e30.e30.c2ln'", "quotes"),
            ("{\"value\":\"e30.e30.c2ln\"}", "JSON"),
            ("Bearer e30.e30.c2ln", "Bearer"),
            ("bearer e30.e30.c2ln", "Bearer"),
            ("\u{feff}e30.e30.c2ln", "byte order mark"),
            ("e30.e30", "not a JWT"),
            ("e30.a.b.c.c2ln", "encrypted"),
            ("e30.e\n30.c2ln", "white space"),
            ("ghs_secret", "not a JWT"),
        ] {
            let why = check(text).unwrap_err();
            assert!(why.contains(word) && !why.contains('\n'), "{text:?}: {why}");
            assert!(!why.contains("c2ln") && !why.contains("ghs_"), "{why}");
        }
    }
}
