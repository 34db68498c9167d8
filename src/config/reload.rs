//! Reading the configuration again: what is taken over while we run, and what waits for a restart.

use std::path::{Path, PathBuf};

use super::{Config, Origin, Text};
use crate::document::Problems;
use crate::files;
use crate::trust;

/// What a running broker takes over from a changed file.
const LIVE: [&str; 3] = ["tenant", "issuer", "trust"];

impl Config {
    /// Whether it came from a file, which may change.
    pub fn has_file(&self) -> bool {
        self.origin.is_some()
    }

    /// The files that the configuration consists of, directory and TLS aside: its own, and those that entries name.
    pub fn watched_files(&self) -> Vec<PathBuf> {
        let Some(origin) = &self.origin else { return Vec::new() };
        let base = origin.file.parent().unwrap_or(Path::new(""));
        let named = origin.document.texts("issuer", &trust::FILE_KEYS);
        std::iter::once(origin.file.clone()).chain(named.into_iter().map(|name| base.join(name))).collect()
    }

    /// The configuration file and its text when this was read; `None` for what is compiled in.
    pub fn file(&self) -> Option<(&Path, &str)> {
        self.origin.as_ref().map(|origin| (&*origin.file, &*origin.text))
    }

    /// The text of the configuration file now.
    pub fn read_text(&self) -> Option<Text> {
        self.origin.as_ref().map(|origin| files::read_text(&origin.file).map_err(|error| error.to_string()))
    }

    /// Reads another text of the file. The result has the new `[[tenant]]`, `[[issuer]]` and `[trust]`, and every other key as it was
    /// at the start; the paths of those that differ in the file come with it. The whole file is checked all the same:
    /// what would keep the next start from succeeding must show now.
    pub fn again(&self, text: Text, problems: &Problems) -> Option<(Self, Vec<String>)> {
        let origin = self.origin.as_ref()?;
        let fresh = Self::load_text(&origin.file, text, origin.variables.iter().cloned(), problems)?;
        let found = fresh.origin.as_ref()?;
        let waiting = origin.document.differences(&found.document, &LIVE);
        if waiting.is_empty() {
            return Some((fresh, waiting));
        }
        let mut document = origin.document.clone();
        document.adopt(&found.document, &LIVE);
        let base = origin.file.parent().unwrap_or(Path::new(""));
        // Issuers of tenants derive from the public URL, so they are read once more under the one that holds. An entry that
        // can't be read this time would be lost, and with it what it forbids.
        let once_more = Problems::default();
        let config = Self::interpret(document.clone(), base, &once_more);
        if once_more.any_error() && !problems.any_error() {
            once_more.into_vec().into_iter().for_each(|problem| problems.add(problem));
        }
        Some((
            Self { origin: Some(Origin { document, text: found.text.clone(), ..origin.clone() }), ..config },
            waiting,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_issuers_and_trust_are_live_and_all_else_waits() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ficus.toml");
        let write = |port: u16, ttl: &str, ca: &str| {
            let text = format!(
                "public_url = \"https://localhost:{port}\"\n\
                 [[tenant]]\nid = \"11111111-1111-1111-1111-111111111111\"\n[trust]\nsoft_ttl = \"{ttl}\"\n\
                 [[issuer]]\nurl = \"https://a.example\"\n{ca}[limits]\nin_flight = {port}\n"
            );
            std::fs::write(&file, text).unwrap();
        };
        write(1, "10m", "");
        let problems = Problems::default();
        let config = Config::load(&file, std::iter::empty(), &problems).unwrap();
        assert_eq!(config.watched_files(), std::slice::from_ref(&file));
        assert_eq!(config.again(config.read_text().unwrap(), &problems).unwrap().0.trust, config.trust);

        write(2, "20m", "");
        let (again, waiting) = config.again(config.read_text().unwrap(), &problems).unwrap();
        assert!(!problems.any_error());
        assert_eq!(waiting, ["limits.in_flight", "public_url"]);
        assert_eq!(again.trust.soft_ttl.as_secs(), 1200);
        assert_eq!((again.limits.in_flight, again.public_url.as_str()), (1, "https://localhost:1"));
        assert_eq!(again.tenants, config.tenants);
        // The second time, too, it is the start that counts.
        assert_eq!(again.again(again.read_text().unwrap(), &problems).unwrap().1, waiting);

        // A file that can't be read is followed: it may come.
        write(1, "10m", "ca_file = \"ca.pem\"\n");
        let (again, _) = config.again(config.read_text().unwrap(), &problems).unwrap();
        assert!(problems.any_error());
        assert_eq!(again.watched_files(), [file.clone(), folder.path().join("ca.pem")]);
    }
}
