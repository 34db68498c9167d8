//! Azure Kubernetes Service: an issuer that ends in a slash, and keys that rotate, so that there are two.

use serde_json::json;

pub use super::kubernetes::{Cluster, ServiceAccount, Settings};

use super::kubernetes::Profile;
use crate::clock::Clock;

/// The issuer of the sample's cluster: region, tenant, and an id that no other cluster ever has.
pub const ISSUER: &str = "https://westeurope.oic.prod-aks.azure.com/33333333-3333-4333-8333-333333333333/44444444-4444-4444-8444-444444444444/";

pub(super) fn cluster(settings: Settings, origin: &str, clock: Clock) -> Cluster {
    let profile = Profile {
        prefix: "/aks",
        issuer: ISSUER,
        jwks: "/openid/v1/jwks",
        jwks_type: "application/jwk-set+json",
        cache_control: Some("public, max-age=3600"),
        keys: 2,
        members: json!({}),
        // A day.
        longest: 86_400,
    };
    Cluster::new(profile, settings, origin, clock)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use jsonwebtoken::decode_header;
    use serde_json::Value;

    use super::super::tests::{client, get, members, started, verified};
    use super::*;

    #[tokio::test]
    async fn documents_look_like_akss() {
        let emulator = started(|_| {}).await;
        let (client, aks) = (client(&emulator), emulator.aks());
        let place = format!(
            "{}/aks/33333333-3333-4333-8333-333333333333/44444444-4444-4444-8444-444444444444/",
            emulator.origin()
        );
        let (_, discovery) = get(&client, &format!("{place}.well-known/openid-configuration"), None).await;
        assert_eq!(
            discovery,
            json!({
                "issuer": place,
                "jwks_uri": format!("{place}openid/v1/jwks"),
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            })
        );
        let response = client.get(aks.discovery_url()).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/json");
        let response = client.get(aks.jwks_url()).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "application/jwk-set+json");
        assert_eq!(response.headers()["cache-control"], "public, max-age=3600");
        let jwks: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
        for key in jwks["keys"].as_array().unwrap() {
            assert_eq!(members(key), ["alg", "e", "kid", "kty", "n", "use"]);
            assert_eq!(key["kid"], named(key));
        }
    }

    /// The name of a key, worked out from its numbers alone: around them, every such key of 2048 bits has the same DER.
    fn named(key: &Value) -> String {
        const BEFORE: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA";
        assert_eq!(key["e"], "AQAB");
        let mut der = URL_SAFE_NO_PAD.decode(BEFORE).unwrap();
        der.extend(URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap());
        der.extend([2, 3, 1, 0, 1]);
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &der))
    }

    #[tokio::test]
    async fn tokens_keep_the_slash_and_have_no_type() {
        let emulator = started(|settings| settings.aks.issuer = Some(ISSUER.to_owned())).await;
        let (client, aks) = (client(&emulator), emulator.aks());
        assert_eq!(get(&client, &aks.discovery_url(), None).await.1["issuer"], ISSUER);
        let token = aks.assertion(&ServiceAccount::new("shop", "cart"), &["api://AzureADTokenExchange"]);
        assert_eq!(decode_header(&token).unwrap().typ, None);
        let jwks = client.get(aks.jwks_url()).send().await.unwrap().bytes().await.unwrap();
        let jwks = serde_json::from_slice(&jwks).unwrap();
        let claims = verified(&jwks, &token, "api://AzureADTokenExchange");
        assert_eq!(
            (&claims["iss"], &claims["aud"]),
            (&json!(ISSUER), &json!(["api://AzureADTokenExchange"]))
        );
        assert_eq!(claims["kubernetes.io"].get("pod"), None);
    }
}
