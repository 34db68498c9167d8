//! Reads the token; its usual mistakes are told apart as `ficus token` tells them.

use std::io::Read;
use std::path::Path;

use super::super::Failure;
pub(super) use crate::client::assertion::check;
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
