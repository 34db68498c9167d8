//! Which path is what.

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::Public;
use crate::domain::refusal::Refusal;
use crate::exchange::{Call, TokenRequest};
use crate::metrics::Dialect;
use crate::net::{self, BodyError, Peer};
use crate::wire::{Ids, Surface, discovery, entra, error_page, instance};

/// A path that is served.
enum Route<'p> {
    TokenV2(&'p str),
    Document(Document<'p>),
}

/// What can be read.
enum Document<'p> {
    Configuration(&'p str),
    Keys(&'p str),
    Instance,
    ErrorPage,
}

impl<'p> Route<'p> {
    /// Segments are compared as they are sent: no percent-decoding, so that one path has one spelling.
    fn of(path: &'p str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.splitn(6, '/').collect();
        Some(match segments.as_slice() {
            [tenant, "oauth2", "v2.0", "token"] => Self::TokenV2(tenant),
            ["common", "discovery", "instance"] => Self::Document(Document::Instance),
            [tenant, "v2.0", ".well-known", "openid-configuration"] => {
                Self::Document(Document::Configuration(tenant))
            }
            [tenant, "discovery", "v2.0", "keys"] => Self::Document(Document::Keys(tenant)),
            ["error"] => Self::Document(Document::ErrorPage),
            _ => return None,
        })
    }
}

/// A HEAD is a GET whose body the HTTP layer leaves out.
fn check_method(parts: &Parts, accepted: &'static str) -> Result<(), Refusal> {
    let method = if parts.method == Method::HEAD { "GET" } else { parts.method.as_str() };
    if method == accepted {
        return Ok(());
    }
    Err(Refusal::Method { accepted, received: parts.method.to_string() })
}

impl Public {
    pub(super) async fn route(
        &self,
        parts: &Parts,
        body: &mut Incoming,
        peer: Peer,
        ids: &Ids,
    ) -> Response<Full<Bytes>> {
        let Some(route) = Route::of(parts.uri.path()) else {
            return self.wire.refusal(&Refusal::Path, Surface::Token, ids);
        };
        match route {
            Route::TokenV2(tenant) => {
                let request = self.token_request(tenant, parts, body).await;
                let answer = self.token(tenant, request, peer, ids).await;
                answer.unwrap_or_else(|refusal| self.wire.refusal(&refusal, Surface::Token, ids))
            }
            Route::Document(_) if parts.method == Method::OPTIONS => self.wire.preflight(ids),
            Route::Document(document) => {
                let answer = check_method(parts, "GET").and_then(|()| self.document(&document, parts, ids));
                answer.unwrap_or_else(|refusal| self.wire.refusal(&refusal, Surface::Discovery, ids))
            }
        }
    }

    fn document(
        &self,
        document: &Document<'_>,
        parts: &Parts,
        ids: &Ids,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let snapshot = self.exchange.snapshot.load();
        let directory = &*snapshot.directory;
        match *document {
            Document::Configuration(tenant) => discovery::configuration(&self.wire, directory, tenant, ids),
            Document::Keys(tenant) => {
                discovery::keys(&self.wire, (directory, tenant), &self.exchange.keys, ids)
            }
            Document::Instance => {
                instance::discovery(&self.wire, directory, parts.uri.query().unwrap_or_default(), ids)
            }
            Document::ErrorPage => error_page(&self.wire, parts, ids),
        }
    }

    /// Answers a token request. Every decision goes through the exchange, so that every one is recorded, also those that
    /// a wrong method or an oversized body ends.
    async fn token(
        &self,
        tenant: &str,
        request: Result<TokenRequest, Refusal>,
        peer: Peer,
        ids: &Ids,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let call = Call {
            trace: ids.trace,
            correlation: ids.correlation,
            client: peer.address.ip(),
            dialect: Dialect::EntraV2,
        };
        let _admitted = self.admit()?;
        let token = self.exchange.exchange(tenant, request, &call).await?;
        Ok(entra::success(&self.wire, &token, ids))
    }

    async fn token_request(
        &self,
        tenant: &str,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<TokenRequest, Refusal> {
        check_method(parts, "POST")?;
        let read = net::read(body, self.limits.body, self.limits.header_timeout).await;
        let body = read.map_err(|error| match error {
            BodyError::TooLarge => Refusal::BodyTooLarge,
            BodyError::TooSlow => Refusal::BodyTooSlow,
            BodyError::Broken => Refusal::Malformed("its body is broken off"),
        })?;
        entra::parse(tenant, parts, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        assert!(matches!(Route::of("/t/oauth2/v2.0/token"), Some(Route::TokenV2("t"))));
        assert!(matches!(
            Route::of("/COMMON/v2.0/.well-known/openid-configuration"),
            Some(Route::Document(Document::Configuration("COMMON")))
        ));
        for wrong in [
            "",
            "/",
            "//",
            "/t/oauth2/v2.0/token/",
            "//t/oauth2/v2.0/token",
            "/t/oauth2/v2.0/Token",
            "/t/%6fauth2/v2.0/token",
            "/t/./oauth2/v2.0/token",
            "/t/x/../oauth2/v2.0/token",
            "/t/oauth2/v2.0/token/a/b/c",
            "t/oauth2/v2.0/token",
        ] {
            assert!(Route::of(wrong).is_none(), "{wrong}");
        }
    }
}
