//! Names to addresses that may be connected to.
//!
//! The check sits inside the resolver, between look-up and connect: what is checked is what is connected to, and a name
//! that answers differently the next time (DNS rebinding) is checked the next time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::{Class, class};

/// Looks names up; tests script it.
pub(super) trait Lookup: Send + Sync + 'static {
    /// All addresses of a name.
    fn addresses(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}

/// The system's resolver.
#[derive(Debug)]
pub(super) struct System;

impl Lookup for System {
    async fn addresses(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

/// Which addresses a client may connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    /// Those of the internet.
    Open,
    /// Those inside a network too: for hosts and ports that an entry names.
    Private,
}

impl Route {
    /// Whether this address may be connected to.
    pub(super) fn permits(self, ip: IpAddr) -> bool {
        match class(ip) {
            Class::Public => true,
            Class::Private => self == Self::Private,
            Class::Forbidden => false,
        }
    }
}

/// Why a name gave no address to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unresolved {
    #[error("the name does not resolve")]
    Failed,
    #[error("none of the name's addresses may be connected to")]
    NotPermitted,
}

/// A resolver that hands out permitted addresses only.
pub(super) struct GuardedResolver<L> {
    pub(super) lookup: Arc<L>,
    pub(super) route: Route,
}

impl<L: Lookup> Resolve for GuardedResolver<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let (lookup, route) = (Arc::clone(&self.lookup), self.route);
        Box::pin(async move {
            let mut found = lookup.addresses(name.as_str()).await.map_err(|_| Unresolved::Failed)?;
            if found.is_empty() {
                return Err(Unresolved::Failed.into());
            }
            found.retain(|ip| route.permits(*ip));
            if found.is_empty() {
                return Err(Unresolved::NotPermitted.into());
            }
            // Port 0: the client puts in the port of the URL.
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::address::tests::{FORBIDDEN, PRIVATE};
    use super::super::testing::Scripted;
    use super::*;

    async fn resolve(resolver: &GuardedResolver<Scripted>) -> Result<Vec<String>, Unresolved> {
        match resolver.resolve("issuer.example".parse().unwrap()).await {
            Ok(addresses) => Ok(addresses.map(|address| address.ip().to_string()).collect()),
            Err(error) => Err(*error.downcast().unwrap()),
        }
    }

    fn guarded(route: Route, answers: &[&[&str]]) -> GuardedResolver<Scripted> {
        GuardedResolver { lookup: Arc::new(Scripted::new(answers)), route }
    }

    #[tokio::test]
    async fn names_of_inner_addresses_are_refused() {
        for address in PRIVATE {
            assert_eq!(resolve(&guarded(Route::Open, &[&[address]])).await, Err(Unresolved::NotPermitted));
            assert!(resolve(&guarded(Route::Private, &[&[address]])).await.is_ok(), "{address}");
        }
        for address in FORBIDDEN {
            for route in [Route::Open, Route::Private] {
                let refused = resolve(&guarded(route, &[&[address]])).await;
                assert_eq!(refused, Err(Unresolved::NotPermitted), "{address}");
            }
        }
    }

    #[tokio::test]
    async fn s_04_of_several_answers_only_the_permitted_are_used() {
        let mixed: &[&str] =
            &["127.0.0.1", "8.8.8.8", "169.254.169.254", "::ffff:10.0.0.1", "2606:4700::1111"];
        let open = resolve(&guarded(Route::Open, &[mixed])).await;
        assert_eq!(open, Ok(vec!["8.8.8.8".to_owned(), "2606:4700::1111".to_owned()]));
        let private = resolve(&guarded(Route::Private, &[mixed])).await;
        assert_eq!(private.unwrap(), ["127.0.0.1", "8.8.8.8", "2606:4700::1111"]);
    }

    #[tokio::test]
    async fn s_04_every_look_up_is_checked_anew() {
        let rebinding = guarded(Route::Open, &[&["8.8.8.8"], &["127.0.0.1"]]);
        assert_eq!(resolve(&rebinding).await, Ok(vec!["8.8.8.8".to_owned()]));
        assert_eq!(resolve(&rebinding).await, Err(Unresolved::NotPermitted));
        assert_eq!(resolve(&guarded(Route::Open, &[&[]])).await, Err(Unresolved::Failed));
    }
}
