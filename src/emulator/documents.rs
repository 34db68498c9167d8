//! The two documents that every issuer publishes: counted, and breakable on demand.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::watch;

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
    /// Status 302 to this place.
    Redirect(HeaderValue),
    /// No answer, on a connection that stays open, until this fault is taken away.
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
    fault: watch::Sender<Option<Fault>>,
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
        // A copy, so that no answer is made while the fault is locked.
        let fault = published.fault.borrow().clone();
        let answer = match &fault {
            Some(Fault::Body(other)) => self.document(document, other.clone()),
            Some(Fault::Status(status)) => return Answer::json(*status, "{}"),
            Some(Fault::Redirect(place)) => {
                let mut response = json_response(StatusCode::FOUND, Bytes::from_static(b"{}"));
                response.headers_mut().insert(LOCATION, place.clone());
                response
            }
            Some(Fault::Hang) | None => self.document(document, body),
        };
        if fault == Some(Fault::Hang) {
            let mut fault = published.fault.subscribe();
            return Answer::Later(Box::pin(async move {
                // Without its sender there is nobody left who could mend it.
                let _ = fault.wait_for(|fault| *fault != Some(Fault::Hang)).await;
                answer
            }));
        }
        Answer::Send(answer)
    }

    fn document(&self, document: Document, body: Bytes) -> Response<Full<Bytes>> {
        let mut response = json_response(StatusCode::OK, body);
        if document == Document::Jwks {
            response.headers_mut().insert(CONTENT_TYPE, self.jwks_type.clone());
        }
        if let Some(value) = &self.cache_control {
            response.headers_mut().insert(CACHE_CONTROL, value.clone());
        }
        response
    }

    pub(super) fn requests(&self, document: Document) -> u64 {
        self.published(document).requests.load(Ordering::Relaxed)
    }

    pub(super) fn set_fault(&self, document: Document, fault: Option<Fault>) {
        self.published(document).fault.send_replace(fault);
    }

    fn published(&self, document: Document) -> &Published {
        match document {
            Document::Discovery => &self.discovery,
            Document::Jwks => &self.jwks,
        }
    }
}
