//! The two documents that every issuer publishes: counted, and breakable on demand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};

use super::server::{Answer, json_response};

/// A published document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Document {
    /// `/.well-known/openid-configuration`, wherever it is served.
    Discovery,
    /// The key set.
    Jwks,
}

/// What a document's readers get instead of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This status and an empty object.
    Status(StatusCode),
    /// Status 200 and this body.
    Body(Bytes),
    /// No answer at all, on a connection that stays open.
    Hang,
}

/// The documents of one issuer.
#[derive(Debug)]
pub(super) struct Documents {
    cache_control: Option<HeaderValue>,
    jwks_type: HeaderValue,
    discovery: Published,
    jwks: Published,
}

#[derive(Debug, Default)]
struct Published {
    requests: AtomicU64,
    fault: ArcSwapOption<Fault>,
}

impl Documents {
    pub(super) fn new(cache_control: Option<HeaderValue>) -> Self {
        let jwks_type = HeaderValue::from_static("application/json");
        Self { cache_control, jwks_type, discovery: Published::default(), jwks: Published::default() }
    }

    /// With another content type of the key set.
    pub(super) fn jwks_type(self, jwks_type: &'static str) -> Self {
        Self { jwks_type: HeaderValue::from_static(jwks_type), ..self }
    }

    /// Counts the request and answers it: with the document, unless there is a fault.
    pub(super) fn answer(&self, document: Document, body: Bytes) -> Answer {
        let published = self.published(document);
        published.requests.fetch_add(1, Ordering::Relaxed);
        let body = match published.fault.load().as_deref() {
            None => body,
            Some(Fault::Body(other)) => other.clone(),
            Some(Fault::Status(status)) => return Answer::json(*status, "{}"),
            Some(Fault::Hang) => return Answer::Hang,
        };
        let mut response = json_response(StatusCode::OK, body);
        if document == Document::Jwks {
            response.headers_mut().insert(CONTENT_TYPE, self.jwks_type.clone());
        }
        if let Some(value) = &self.cache_control {
            response.headers_mut().insert(CACHE_CONTROL, value.clone());
        }
        Answer::Send(response)
    }

    pub(super) fn requests(&self, document: Document) -> u64 {
        self.published(document).requests.load(Ordering::Relaxed)
    }

    pub(super) fn set_fault(&self, document: Document, fault: Option<Fault>) {
        self.published(document).fault.store(fault.map(Arc::new));
    }

    fn published(&self, document: Document) -> &Published {
        match document {
            Document::Discovery => &self.discovery,
            Document::Jwks => &self.jwks,
        }
    }
}
