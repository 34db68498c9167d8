//! The proxy of the environment, as curl reads it: which one is asked, and by which variable.

use hyper_util::client::proxy::matcher::Matcher;
use url::Url;

/// Proxies by the environment's rules: the very ones that the HTTP client goes by.
#[derive(Debug)]
pub(super) struct Proxies(Matcher);

impl Proxies {
    pub(super) fn of_environment() -> Self {
        Self(Matcher::from_env())
    }

    /// The proxy for this URL and the variable that names it, in words, without its password; empty where there is none.
    pub(super) fn on_the_way_to(&self, url: &Url) -> String {
        let proxy = url.as_str().parse().ok().and_then(|uri| self.0.intercept(&uri));
        let Some(authority) = proxy.as_ref().and_then(|proxy| proxy.uri().authority()) else {
            return String::new();
        };
        // What stands in front of the host is a password.
        let place = authority.as_str().rsplit('@').next().unwrap_or_default();
        let name = variable(url.scheme()).unwrap_or("the environment");
        let host = url.host_str().unwrap_or_default();
        format!(
            " through the proxy {place} of {name} (hint: is that proxy right? NO_PROXY={host} goes without)"
        )
    }
}

/// The variable that decides: of each pair the first that is set, and the second pair where that one is empty.
fn variable(scheme: &str) -> Option<&'static str> {
    let own = if scheme == "https" { ["HTTPS_PROXY", "https_proxy"] } else { ["HTTP_PROXY", "http_proxy"] };
    let set = |names: [&'static str; 2]| names.into_iter().find(|name| std::env::var_os(name).is_some());
    let full = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set(own).filter(full).or_else(|| set(["ALL_PROXY", "all_proxy"]))
}
