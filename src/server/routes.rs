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
    Configuration(&'p str),
    Keys(&'p str),
    Instance,
    ErrorPage,
}

impl<'p> Route<'p> {
    /// Segments are compared as they are sent: no percent-decoding, so that one path has one spelling.
    fn of(path: &'p str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.splitn(6, '/').collect();
        match segments.as_slice() {
            [tenant, "oauth2", "v2.0", "token"] => Some(Self::TokenV2(tenant)),
            ["common", "discovery", "instance"] => Some(Self::Instance),
            [tenant, "v2.0", ".well-known", "openid-configuration"] => Some(Self::Configuration(tenant)),
            [tenant, "discovery", "v2.0", "keys"] => Some(Self::Keys(tenant)),
            ["error"] => Some(Self::ErrorPage),
            _ => None,
        }
    }

    fn accepted(&self) -> &'static str {
        match self {
            Self::TokenV2(_) => "POST",
            Self::Configuration(_) | Self::Keys(_) | Self::Instance | Self::ErrorPage => "GET",
        }
    }

    fn surface(&self) -> Surface {
        match self {
            Self::TokenV2(_) => Surface::Token,
            Self::Configuration(_) | Self::Keys(_) | Self::Instance | Self::ErrorPage => Surface::Discovery,
        }
    }
}

impl Public {
    pub(super) async fn route(
        &self,
        parts: &Parts,
        body: Incoming,
        peer: Peer,
        ids: &Ids,
    ) -> Response<Full<Bytes>> {
        let Some(route) = Route::of(parts.uri.path()) else {
            return self.wire.refusal(&Refusal::Path, Surface::Token, ids);
        };
        // A HEAD is a GET whose body the HTTP layer leaves out.
        let method = if parts.method == Method::HEAD { &Method::GET } else { &parts.method };
        let allowed = if method.as_str() == route.accepted() {
            Ok(())
        } else {
            Err(Refusal::Method { accepted: route.accepted(), received: parts.method.to_string() })
        };
        let (directory, surface) = (self.exchange.directory.load(), route.surface());
        let answer = match (route, allowed) {
            (Route::TokenV2(tenant), allowed) => {
                self.token(tenant, parts, allowed.map(|()| body), (peer, ids)).await
            }
            (_, Err(refusal)) => Err(refusal),
            (Route::Configuration(tenant), Ok(())) => {
                discovery::configuration(&self.wire, &directory, tenant, ids)
            }
            (Route::Keys(tenant), Ok(())) => {
                discovery::keys(&self.wire, (&directory, tenant), &self.exchange.keys, ids)
            }
            (Route::Instance, Ok(())) => {
                instance::discovery(&self.wire, &directory, parts.uri.query().unwrap_or_default(), ids)
            }
            (Route::ErrorPage, Ok(())) => error_page(&self.wire, parts, ids),
        };
        answer.unwrap_or_else(|refusal| self.wire.refusal(&refusal, surface, ids))
    }

    /// A token request, from its bytes to its answer. Every decision goes through the exchange, so that every one is
    /// recorded, also those that a wrong method or an oversized body ends.
    async fn token(
        &self,
        tenant: &str,
        parts: &Parts,
        body: Result<Incoming, Refusal>,
        (peer, ids): (Peer, &Ids),
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let call = Call {
            trace: ids.trace,
            correlation: ids.correlation,
            client: peer.address.ip(),
            dialect: Dialect::EntraV2,
        };
        let request = self.token_request(tenant, parts, body).await;
        let token = self.exchange.exchange(tenant, request, &call).await?;
        Ok(entra::success(&self.wire, &token, ids))
    }

    async fn token_request(
        &self,
        tenant: &str,
        parts: &Parts,
        body: Result<Incoming, Refusal>,
    ) -> Result<TokenRequest, Refusal> {
        let body =
            net::read(body?, self.limits.body, self.limits.header_timeout).await.map_err(
                |error| match error {
                    BodyError::TooLarge => Refusal::BodyTooLarge,
                    BodyError::TooSlow => Refusal::BodyTooSlow,
                    BodyError::Broken => Refusal::Malformed("its body is broken off"),
                },
            )?;
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
            Some(Route::Configuration("COMMON"))
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
