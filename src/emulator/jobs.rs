//! Jobs that may ask for tokens, each with a bearer token of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::clock::random;
use crate::domain::digest::hex;

/// Where a workload asks for its token, and what it shows there. GitHub's jobs find the two in
/// `ACTIONS_ID_TOKEN_REQUEST_URL` (has a query, so that `&audience=` follows) and `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The address.
    pub url: String,
    /// The bearer token.
    pub token: String,
}

/// Jobs and their bearer tokens, by name as the path has it.
#[derive(Debug)]
pub(super) struct Jobs<J>(Mutex<BTreeMap<String, (J, String)>>);

impl<J> Default for Jobs<J> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<J: Clone> Jobs<J> {
    /// Lets a job of this name ask at the URL that follows from it; one registered before under the name no longer can.
    pub(super) fn register(&self, name: &str, job: J, url: impl FnOnce(&str) -> String) -> TokenRequest {
        // Kept as it appears in the path, so that any name is found again without decoding.
        let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
        let request = TokenRequest { url: url(&name), token: new_bearer() };
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.insert(name, (job, request.token.clone()));
        request
    }

    /// The job of this name, when the request bears its token.
    pub(super) fn find(&self, name: &str, headers: &HeaderMap) -> Option<J> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (job, token) = jobs.get(name)?;
        (bearer(headers)? == token).then(|| job.clone())
    }
}

/// A bearer token that nobody can guess.
pub(super) fn new_bearer() -> String {
    hex(&random::<32>())
}

/// The bearer token that a request shows.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
