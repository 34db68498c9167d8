//! Hands the token over. Only `token`, `json` and `env` print it, since that is what they are for.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use zeroize::Zeroizing;

use super::super::{Failure, absolute, output};
use super::usage;
use crate::client::exchange::Granted;
use crate::client::source::Variables;
use crate::clock::UnixTime;
use crate::files;

/// Where GitHub's runner reads a step's outputs from.
const GITHUB_OUTPUT: &str = "GITHUB_OUTPUT";

/// Where a token goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Output {
    Token,
    Json,
    /// Lines for `eval`, with this name.
    Env(String),
    GitHub,
    File(PathBuf),
    Az,
}

pub(super) fn is_variable(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    first && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Output {
    /// Whether it can be used here, before anybody is asked for a token.
    pub(super) fn check(&self, variable: Variables<'_>) -> Result<(), Failure> {
        match self {
            Self::GitHub if variable(GITHUB_OUTPUT).is_none() => Err(usage(
                "--output github: GITHUB_OUTPUT is not set (hint: that is for steps of GitHub Actions; elsewhere \
                 --output token, env or file:PATH)",
            )),
            _ => Ok(()),
        }
    }

    pub(super) fn write(
        &self,
        granted: &Granted,
        now: UnixTime,
        variable: Variables<'_>,
    ) -> Result<(), Failure> {
        let (token, expires_in) = (granted.token.as_str(), granted.expires_in);
        let expires_on = now.saturating_add(expires_in);
        // It goes between the quotes of shells and the lines of files.
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._~+/=".contains(c));
        if token.is_empty() || token.contains(odd) {
            return Err(Failure::Line("what the broker gave is no token".to_owned()));
        }
        let text = match self {
            Self::Json => {
                let answer = json!({
                    "access_token": token, "token_type": "Bearer", "expires_in": expires_in, "expires_on": expires_on,
                });
                format!("{answer}\n")
            }
            Self::Env(name) => {
                format!("export {name}='{token}'\nexport {name}_EXPIRES_ON='{expires_on}'\n")
            }
            Self::GitHub => {
                // The runner takes this line out of the log, and the token out of every later one.
                output::print(&Zeroizing::new(format!("::add-mask::{token}\n")));
                let lines = Zeroizing::new(format!("access_token={token}\nexpires_on={expires_on}\n"));
                let file = PathBuf::from(variable(GITHUB_OUTPUT).unwrap_or_default());
                return append(&file, &lines).map_err(|error| failed(&file, &error));
            }
            Self::File(path) => {
                // Its folder is flushed, so it has to have a name.
                return files::write(&absolute(path), token.as_bytes(), files::PRIVATE)
                    .map_err(|error| failed(path, &error));
            }
            Self::Token | Self::Az => format!("{token}\n"),
        };
        output::print(&Zeroizing::new(text));
        Ok(())
    }
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Line(format!("{} can't be written: {error}", path.display()))
}

/// Behind what is there, on lines of its own whether or not the last one was ended.
fn append(path: &Path, lines: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let separator = if last == [b'\n'] { "" } else { "\n" };
    file.write_all(Zeroizing::new(format!("{separator}{lines}")).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_of_a_step_have_lines_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        for (before, after) in [("", "a=b\n"), ("x=y\n", "x=y\na=b\n"), ("x=y", "x=y\na=b\n")] {
            let path = folder.path().join("output");
            std::fs::write(&path, before).unwrap();
            append(&path, "a=b\n").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), after);
        }
    }

    #[test]
    fn names_of_variables() {
        assert!(["A", "_a1", "ACCESS_TOKEN"].into_iter().all(is_variable));
        assert!(!["", "1a", "a b", "a=b", "a'"].into_iter().any(is_variable));
    }
}
