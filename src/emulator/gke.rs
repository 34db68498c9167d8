//! Google Kubernetes Engine: an issuer made of names, and a document with members of its own.

use serde_json::json;

pub use super::kubernetes::{Cluster, ServiceAccount, Settings};

use super::kubernetes::Profile;
use crate::clock::Clock;

/// The issuer of the sample's cluster.
pub const ISSUER: &str =
    "https://container.googleapis.com/v1/projects/my--project/locations/europe-west4/clusters/main";

pub(super) fn cluster(settings: Settings, origin: &str, clock: Clock) -> Cluster {
    let profile = Profile {
        prefix: "/gke",
        issuer: ISSUER,
        jwks: "/jwks",
        jwks_type: "application/json",
        // Google's own is not known.
        cache_control: None,
        keys: 1,
        members: json!({
            "claims_supported": ["iss", "sub", "kubernetes.io"],
            // Not the standard's name of this member, but Google's.
            "grant_types": ["urn:kubernetes:grant_type:programmatic_authorization"],
        }),
        longest: i64::MAX,
    };
    Cluster::new(profile, settings, origin, clock)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::decode_header;

    use super::super::tests::{NOW, client, get, members, started, verified};
    use super::*;

    #[tokio::test]
    async fn documents_and_tokens_look_like_gkes() {
        let emulator = started(|settings| settings.gke.issuer = Some(ISSUER.to_owned())).await;
        let (client, gke) = (client(&emulator), emulator.gke());
        let place =
            format!("{}/gke/v1/projects/my--project/locations/europe-west4/clusters/main", emulator.origin());
        let (_, discovery) = get(&client, &gke.discovery_url(), None).await;
        assert_eq!(
            discovery,
            json!({
                "issuer": ISSUER,
                "jwks_uri": format!("{place}/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "claims_supported": ["iss", "sub", "kubernetes.io"],
                "grant_types": ["urn:kubernetes:grant_type:programmatic_authorization"],
            })
        );
        let (_, jwks) = get(&client, &format!("{place}/jwks"), None).await;
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);

        let account =
            ServiceAccount { pod: Some("cart-7c".to_owned()), ..ServiceAccount::new("shop", "cart") };
        let token = gke.assertion(&account, &["api://AzureADTokenExchange"]);
        let header = decode_header(&token).unwrap();
        assert_eq!((header.typ, header.kid.as_deref()), (None, Some(gke.keys()[0].id())));
        let claims = verified(&jwks, &token, "api://AzureADTokenExchange");
        assert_eq!(members(&claims), ["aud", "exp", "iat", "iss", "jti", "kubernetes.io", "nbf", "sub"]);
        assert_eq!((&claims["iss"], &claims["exp"]), (&json!(ISSUER), &json!(NOW + 3600)));
        assert_eq!(members(&claims["kubernetes.io"]), ["namespace", "node", "pod", "serviceaccount"]);
    }
}
