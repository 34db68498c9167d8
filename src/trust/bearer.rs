//! The token that some issuers ask of those who read their keys, such as the API servers of Kubernetes.

use std::io;
use std::path::PathBuf;

use reqwest::header::HeaderValue;
use url::{Origin, Url};

use crate::secret::Secret;

/// Tokens are about 1 KiB; a larger file is something else.
const MAX_TOKEN: u64 = 64 << 10;

/// A token file, and the origins that may see what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    file: PathBuf,
    /// Those of the entry's own URLs. Where a document's `jwks_uri` points is decided by the remote side, which must not
    /// thereby decide who gets our token.
    origins: Vec<Origin>,
}

impl Bearer {
    pub(super) fn new(file: PathBuf, urls: impl IntoIterator<Item = Url>) -> Self {
        Self { file, origins: urls.into_iter().map(|url| url.origin()).collect() }
    }

    pub(super) fn is_for(&self, url: &Url) -> bool {
        self.origins.contains(&url.origin())
    }

    /// The header's value, read anew each time: platforms replace the file before the token in it expires. No error
    /// tells of the content.
    pub(super) fn read(&self) -> io::Result<HeaderValue> {
        use io::Read;
        let file = std::fs::File::open(&self.file)?;
        // Room for all of it: a text that grows leaves copies behind.
        let room = usize::try_from(file.metadata()?.len().min(MAX_TOKEN)).unwrap_or(0) + 64;
        let mut text = Secret::from(String::with_capacity(room));
        file.take(MAX_TOKEN).read_to_string(&mut text)?;
        let token = text.trim();
        let header = Secret::from(["Bearer ", token].concat());
        let value = (!token.is_empty()).then(|| HeaderValue::from_str(&header).ok());
        let mut value = value.flatten().ok_or_else(|| io::Error::other("it holds no token"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
