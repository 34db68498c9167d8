//! The APIs that tokens are minted for, and how a request names one.

use std::sync::Arc;

use super::ids::Guid;
use super::scope::ScopePath;

/// An API that tokens are minted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// Its name in the directory.
    pub name: String,
    /// `aud` of v2.0 tokens.
    pub client_id: Guid,
    /// What requests may call it.
    pub identifier_uris: Vec<String>,
    /// Where role assignments are looked up.
    pub scope: ScopePath,
    /// The resource decides the version, not the endpoint.
    pub token_version: TokenVersion,
    /// What its tokens are signed with.
    pub signing_algorithm: SigningAlgorithm,
    /// Seconds, 600 to 86400.
    pub token_lifetime: u32,
    /// Whether an identity without any role gets no token.
    pub assignment_required: bool,
}

/// Version of an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenVersion {
    /// `ver` 1.0.
    V1,
    /// `ver` 2.0.
    V2,
}

/// What we sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256, 2048 bit.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl SigningAlgorithm {
    /// The `alg` value.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    /// Both of them; every creation of keys makes one each.
    pub const ALL: [Self; 2] = [Self::Rs256, Self::Es256];
}

/// How a request names a resource. The syntax is checked when it is made; whether the resource exists, much later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By an identifier URI, as presented.
    Uri(String),
    /// By client id.
    Client(Guid),
}

impl Target {
    /// Reads the `scope` of a client-credentials request: exactly one scope, a resource with the literal
    /// `/.default` behind it. Only the last `/.default` goes, so `https://host//.default` asks for `https://host/`.
    /// A bare `.default` means Microsoft Graph, as at Entra (reference: entra-token-service.md section 1.2).
    pub fn from_scope(scope: &str) -> Option<Self> {
        if scope == ".default" {
            return Some(Self::Uri("https://graph.microsoft.com".to_owned()));
        }
        scope.strip_suffix("/.default").and_then(Self::from_resource)
    }

    /// Reads the `resource` of a v1.0 request or of RFC 8693, and the latter's `audience`: a URI or a client id.
    pub fn from_resource(resource: &str) -> Option<Self> {
        // RFC 6749 section 3.3, for a scope's sake: printable ASCII without space, quote and backslash.
        let printable = resource.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
        (printable && !resource.is_empty())
            .then(|| Guid::parse(resource).map_or_else(|| Self::Uri(resource.to_owned()), Self::Client))
    }

    /// `aud` of a v1.0 token: the URI as it was asked for, slash included, or the GUID.
    pub fn audience(&self) -> Arc<str> {
        match self {
            Self::Uri(uri) => uri.as_str().into(),
            Self::Client(id) => id.to_string().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_a_uri_or_a_client_id() {
        let uri = |text: &str| Some(Target::Uri(text.to_owned()));
        for one in ["https://vault.azure.net/", "api://x", "urn:x", "https://x/.default"] {
            assert_eq!(Target::from_resource(one), uri(one));
        }
        let id = "6F0C1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6f";
        assert_eq!(Target::from_resource(id), Guid::parse(id).map(Target::Client));
        for wrong in
            ["", "https://x https://y", " https://x", "https://x\n", "https://x\"", "a\\b", "https://\u{fc}"]
        {
            assert_eq!(Target::from_resource(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn one_resource_with_the_last_default_taken_off() {
        let uri = |text: &str| Some(Target::Uri(text.to_owned()));
        assert_eq!(Target::from_scope("https://vault.azure.net/.default"), uri("https://vault.azure.net"));
        assert_eq!(Target::from_scope("https://vault.azure.net//.default"), uri("https://vault.azure.net/"));
        assert_eq!(Target::from_scope("api://x/.default/.default"), uri("api://x/.default"));
        assert_eq!(Target::from_scope(".default"), uri("https://graph.microsoft.com"));
        let id = "6F0C1d2e-7a41-4b0c-9d3e-1a2b3c4d5e6f";
        assert_eq!(Target::from_scope(&format!("{id}/.default")), Guid::parse(id).map(Target::Client));
        for wrong in [
            "",
            "/.default",
            "https://x",
            "https://x/read",
            "https://x/.Default",
            "https://x.default",
            "https://x/.default https://y/.default",
            "https://x/.default ",
            " https://x/.default",
            "https://x/.default\n",
            "https://x\"/.default",
            "https://\u{fc}/.default",
            "https://x/.default/",
            "openid https://x/.default",
        ] {
            assert_eq!(Target::from_scope(wrong), None, "{wrong:?}");
        }
    }
}
