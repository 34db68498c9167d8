//! Which path is what.

use std::net::IpAddr;
use std::pin::pin;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use http_body_util::Full;
use hyper::body::Incoming;

use super::Public;
use crate::domain::refusal::{Outage, Refusal};
use crate::exchange::Call;
use crate::net::{self, BodyError, Peer};
use crate::signing::Token;
use crate::wire::discovery::Version;
use crate::wire::{Endpoint, Ids, Surface, TokenCall, arm, discovery, error_page, instance};

/// A path that is served.
enum Route<'p> {
    Token(Endpoint, &'p str),
    Document(Document<'p>),
    Arm(arm::Asked<'p>),
}

/// What can be read.
enum Document<'p> {
    Configuration(Version, &'p str),
    Keys(Version, &'p str),
    Instance,
    ErrorPage,
}

impl<'p> Route<'p> {
    /// Segments are compared as they are sent: no percent-decoding, so that one path has one spelling.
    fn of(path: &'p str) -> Option<Self> {
        let segments: Vec<&str> = path.strip_prefix('/')?.splitn(6, '/').collect();
        Some(match segments.as_slice() {
            [tenant, "oauth2", "v2.0", "token"] => Self::Token(Endpoint::V2, tenant),
            [tenant, "oauth2", "token"] => Self::Token(Endpoint::V1, tenant),
            ["common", "discovery", "instance"] => Self::Document(Document::Instance),
            // RFC 8414 section 3.1 has the issuer's path behind the well-known one.
            [tenant, "v2.0", ".well-known", "openid-configuration"]
            | [".well-known", "oauth-authorization-server", tenant, "v2.0"] => {
                Self::Document(Document::Configuration(Version::V2, tenant))
            }
            [tenant, ".well-known", "openid-configuration"] => {
                Self::Document(Document::Configuration(Version::V1, tenant))
            }
            [tenant, "discovery", "v2.0", "keys"] => Self::Document(Document::Keys(Version::V2, tenant)),
            [tenant, "discovery", "keys"] => Self::Document(Document::Keys(Version::V1, tenant)),
            ["error"] => Self::Document(Document::ErrorPage),
            _ => return arm::Asked::of(path).map(Self::Arm),
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
            Route::Token(endpoint, tenant) => {
                let client = self.client(parts, peer);
                let call = match self.token_body(parts, body, client).await {
                    Ok(body) => TokenCall::read(endpoint, tenant, parts, &body),
                    Err(refusal) => TokenCall::unread(endpoint, refusal),
                };
                let decision = self.token(tenant, &call, client, ids).await;
                call.answer(&self.wire, decision, ids)
            }
            Route::Arm(asked) => {
                // The description of the cloud is a document like the others, and takes no place.
                let admit = || self.charge(self.client(parts, peer)).and_then(|()| self.admit());
                let _admitted = match (asked != arm::Asked::Endpoints).then(admit).transpose() {
                    Ok(admitted) => admitted,
                    Err(Refusal::AddressRate(seconds)) => return arm::throttled(&self.wire, seconds, ids),
                    Err(_) => return arm::busy(&self.wire, ids),
                };
                let snapshot = self.exchange.snapshot.load();
                let records = (&*snapshot.directory, &self.exchange.keys);
                arm::answer(&self.wire, records, (parts, asked), ids)
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
            Document::Configuration(version, tenant) => {
                discovery::configuration(&self.wire, directory, (version, tenant), ids)
            }
            Document::Keys(version, tenant) => {
                let jwks = discovery::keys(&self.wire, directory, (version, tenant), &self.exchange.keys)?;
                Ok(self.wire.jwks(&jwks, ids))
            }
            Document::Instance => {
                instance::discovery(&self.wire, directory, parts.uri.query().unwrap_or_default(), ids)
            }
            Document::ErrorPage => error_page(&self.wire, parts, ids),
        }
    }

    /// The client's address, behind the proxies that are trusted.
    fn client(&self, parts: &Parts, peer: Peer) -> IpAddr {
        self.limits.trusted_proxies.client(peer.address.ip(), &parts.headers)
    }

    /// Answers a token request. Every decision goes through the exchange, so that every one is recorded, also those that
    /// a wrong method or an oversized body ends.
    async fn token(
        &self,
        tenant: &str,
        asked: &TokenCall,
        client: IpAddr,
        ids: &Ids,
    ) -> Result<Token, Refusal> {
        let call = Call { trace: ids.trace, correlation: ids.correlation, client, dialect: asked.dialect() };
        let _admitted = self.admit()?;
        let turn = self.turn().await?;
        turn.spend(pin!(self.exchange.exchange(tenant, &asked.request, &call))).await
    }

    async fn token_body(&self, parts: &Parts, body: &mut Incoming, client: IpAddr) -> Result<Bytes, Refusal> {
        self.charge(client)?;
        check_method(parts, "POST")?;
        let read = net::read(body, self.limits.body, self.limits.header_timeout, &self.bodies).await;
        read.map_err(|error| match error {
            BodyError::TooLarge => Refusal::BodyTooLarge,
            BodyError::TooSlow => Refusal::BodyTooSlow,
            BodyError::Broken => Refusal::Malformed("its body is broken off"),
            BodyError::Shed => Refusal::Unavailable(Outage::Overloaded),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        assert!(matches!(Route::of("/t/oauth2/v2.0/token"), Some(Route::Token(Endpoint::V2, "t"))));
        assert!(matches!(Route::of("/t/oauth2/token"), Some(Route::Token(Endpoint::V1, "t"))));
        assert!(matches!(
            Route::of("/COMMON/v2.0/.well-known/openid-configuration"),
            Some(Route::Document(Document::Configuration(Version::V2, "COMMON")))
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
