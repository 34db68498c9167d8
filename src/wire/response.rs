//! Ids and headers that every answer shares.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, EXPIRES, HeaderName, HeaderValue, PRAGMA, RETRY_AFTER, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::aadsts::{self, Rendered, Surface};
use crate::clock::{Clock, random_id};
use crate::domain::ids::Guid;
use crate::domain::refusal::Refusal;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");

/// Headers of an answer, those of the HTTP layer included.
const HEADERS: usize = 12;

/// The two ids of a request: ours, and the caller's.
#[derive(Debug, Clone, Copy)]
pub struct Ids {
    /// `x-ms-request-id` and `trace_id`.
    pub trace: Guid,
    /// `correlation_id`: the caller's `client-request-id` when that is a GUID, else fresh.
    pub correlation: Guid,
    echo: bool,
}

impl Ids {
    /// From a request's headers.
    pub fn of(request: &Parts) -> Self {
        let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
        let fresh = || Guid::from_random(random_id());
        Self {
            trace: fresh(),
            correlation: header("client-request-id").and_then(Guid::parse).unwrap_or_else(fresh),
            echo: header("return-client-request-id").is_some_and(|value| value.eq_ignore_ascii_case("true")),
        }
    }
}

/// What the body of every error says.
#[derive(Serialize)]
struct ErrorBody {
    error: &'static str,
    error_description: String,
    error_codes: [u32; 1],
    timestamp: String,
    trace_id: String,
    correlation_id: String,
    error_uri: String,
}

fn error_body(rendered: &Rendered, code: u32, ids: &Ids, wire: &Wire) -> ErrorBody {
    let stamp = aadsts::stamp(wire.clock.now());
    let (trace, correlation) = (ids.trace, ids.correlation);
    ErrorBody {
        error: rendered.error,
        error_description: format!(
            "AADSTS{code}: {} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}",
            rendered.text
        ),
        error_codes: [code],
        timestamp: stamp,
        trace_id: trace.to_string(),
        correlation_id: correlation.to_string(),
        error_uri: format!("{}/error?code={code}", wire.public_url),
    }
}

/// What rendering needs to know of this broker.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The authority: scheme, host and port, no path. Every URL that we publish begins with it.
    pub public_url: String,
    /// Time stamps of errors.
    pub clock: Clock,
    /// `max-age` of our JWKS, in seconds.
    pub jwks_max_age: u64,
    /// Whether the authority is this machine alone. Then no browser is told to use https only: it would for every other
    /// program on localhost too.
    pub is_local: bool,
}

impl Wire {
    /// Renders a refusal.
    pub fn refusal(&self, refusal: &Refusal, surface: Surface, ids: &Ids) -> Response<Full<Bytes>> {
        let rendered = aadsts::render(refusal, surface);
        let body = error_body(&rendered, refusal.reason().code(), ids, self);
        let mut response = self.json(rendered.status, &body, ids);
        if let Some(seconds) = rendered.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Refusal::Method { accepted, .. } = refusal {
            response.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static(accepted));
        }
        response
    }

    /// An answer that nobody may keep.
    pub(super) fn json(&self, status: StatusCode, body: &impl Serialize, ids: &Ids) -> Response<Full<Bytes>> {
        self.json_text(status, to_bytes(body), ids)
    }

    /// The same of text that is JSON already.
    pub(super) fn json_text(
        &self,
        status: StatusCode,
        body: impl Into<Bytes>,
        ids: &Ids,
    ) -> Response<Full<Bytes>> {
        let mut response = self.answer(status, body.into(), "application/json; charset=utf-8", ids);
        forbid_caching(&mut response);
        response
    }

    /// A page for people that nobody may keep: its URL has a JSON form too.
    pub(super) fn page(&self, html: String, ids: &Ids) -> Response<Full<Bytes>> {
        let mut response = self.answer(StatusCode::OK, html.into(), "text/html; charset=utf-8", ids);
        forbid_caching(&mut response);
        response.headers_mut().insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
        );
        response
    }

    /// A public document.
    pub(super) fn document(&self, body: &impl Serialize, max_age: u64, ids: &Ids) -> Response<Full<Bytes>> {
        let mut response =
            self.answer(StatusCode::OK, to_bytes(body), "application/json; charset=utf-8", ids);
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::from_str(&format!("max-age={max_age}, private")) {
            headers.insert(CACHE_CONTROL, value);
        }
        cross_origin(headers);
        response
    }

    /// Our keys.
    pub fn jwks(&self, keys: &serde_json::Value, ids: &Ids) -> Response<Full<Bytes>> {
        self.document(keys, self.jwks_max_age, ids)
    }

    /// Tells a browser's page that it may read our documents.
    pub fn preflight(&self, ids: &Ids) -> Response<Full<Bytes>> {
        let mut response =
            self.answer(StatusCode::NO_CONTENT, Bytes::new(), "application/json; charset=utf-8", ids);
        cross_origin(response.headers_mut());
        response
    }

    /// Any answer, with the headers that all share.
    fn answer(
        &self,
        status: StatusCode,
        body: Bytes,
        content_type: &'static str,
        ids: &Ids,
    ) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        // For all that any answer has: else they move as they become more.
        headers.reserve(HEADERS);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if !self.is_local {
            let https_only = HeaderValue::from_static("max-age=31536000; includeSubDomains");
            headers.insert(STRICT_TRANSPORT_SECURITY, https_only);
        }
        headers.insert(REQUEST_ID, guid(ids.trace));
        if ids.echo {
            headers.insert(CLIENT_REQUEST_ID, guid(ids.correlation));
        }
        response
    }
}

fn cross_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, OPTIONS"));
}

fn forbid_caching(response: &mut Response<Full<Bytes>>) {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(EXPIRES, HeaderValue::from_static("-1"));
}

fn guid(id: Guid) -> HeaderValue {
    HeaderValue::from_str(&id.to_string()).unwrap_or(HeaderValue::from_static(""))
}

/// Room for most answers: a text that grows is copied each time.
const ROOM: usize = 2048;

fn to_bytes(body: &impl Serialize) -> Bytes {
    let mut bytes = Vec::with_capacity(ROOM);
    match serde_json::to_writer(&mut bytes, body) {
        Ok(()) => bytes.into(),
        Err(_) => Bytes::new(),
    }
}
