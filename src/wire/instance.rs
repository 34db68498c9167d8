//! Instance discovery (reference: entra-token-service.md section 3.3): tells MSAL that this host is an authority.
//! MSAL asks Microsoft's host by default; a client that is re-pointed by DNS or told to asks here.

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::json;
use url::{Url, form_urlencoded};

use super::discovery::host;
use super::response::{Ids, Wire};
use crate::domain::directory::Directory;
use crate::domain::refusal::Refusal;

/// An authority may be remembered for a day.
const MAX_AGE: u64 = 86_400;

/// Answers `GET /common/discovery/instance?authorization_endpoint=…&api-version=…`.
pub fn discovery(
    wire: &Wire,
    directory: &Directory,
    query: &str,
    ids: &Ids,
) -> Result<Response<Full<Bytes>>, Refusal> {
    let parameter =
        |name: &str| form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, v)| v);
    let endpoint = parameter("authorization_endpoint").ok_or(Refusal::InstanceUnknown)?;
    let endpoint = Url::parse(&endpoint).map_err(|_| Refusal::InstanceUnknown)?;
    let ours = Url::parse(&wire.public_url).map_err(|_| Refusal::InstanceUnknown)?;
    if !same_host(&endpoint, &ours) {
        return Err(Refusal::InstanceUnknown);
    }
    let tenant = endpoint.path_segments().and_then(|mut segments| segments.next()).unwrap_or_default();
    let segment = match directory.tenant(tenant) {
        Ok(tenant) => tenant.id.to_string(),
        Err(Refusal::TenantAbsent) if !tenant.eq_ignore_ascii_case("consumers") => {
            tenant.to_ascii_lowercase()
        }
        Err(refusal) => return Err(refusal),
    };
    let host = host(&wire.public_url);
    let mut body = json!({
        "tenant_discovery_endpoint": format!("{}/{segment}/v2.0/.well-known/openid-configuration", wire.public_url),
        "api-version": "1.1",
        "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
    });
    // Version 1.0, with which MSAL Python asks, has no metadata.
    if parameter("api-version").as_deref() == Some("1.0") {
        body =
            json!({ "tenant_discovery_endpoint": body["tenant_discovery_endpoint"], "api-version": "1.0" });
    }
    Ok(wire.document(&body, MAX_AGE, ids))
}

/// Whether an endpoint is on our host, without a port too: MSAL Python leaves the authority's port out of what it asks.
fn same_host(endpoint: &Url, ours: &Url) -> bool {
    endpoint.scheme() == ours.scheme()
        && endpoint.host() == ours.host()
        && endpoint.port().is_none_or(|port| Some(port) == ours.port_or_known_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_host_is_known_with_its_port_and_without() {
        let known = |endpoint: &str, ours: &str| {
            same_host(&Url::parse(endpoint).unwrap(), &Url::parse(ours).unwrap())
        };
        let ours = "https://sts.example:8443";
        assert!(known("https://sts.example:8443/t/oauth2/v2.0/authorize", ours));
        assert!(known("https://STS.example/t/oauth2/v2.0/authorize", ours));
        assert!(known("https://sts.example:443/t", "https://sts.example"));
        for other in ["https://sts.example:9443/t", "http://sts.example:8443/t", "https://sts.example.org/t"]
        {
            assert!(!known(other, ours), "{other}");
        }
    }
}
