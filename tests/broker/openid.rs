//! The `openidconnect` crate as a client that has never heard of us.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openidconnect::core::{CoreJsonWebKey, CoreJwsSigningAlgorithm, CoreProviderMetadata};
use openidconnect::{DiscoveryError, HttpRequest, HttpResponse, IssuerUrl, JsonWebKey};
use serde_json::Value;

use crate::support::*;

async fn fetch(client: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, reqwest::Error> {
    let response = client.execute(request.try_into()?).await?;
    let mut answer = HttpResponse::new(Vec::new());
    (*answer.status_mut(), *answer.headers_mut()) = (response.status(), response.headers().clone());
    *answer.body_mut() = response.bytes().await?.to_vec();
    Ok(answer)
}

async fn discover(world: &'static World, issuer: String) -> Result<CoreProviderMetadata, String> {
    let http = |request| fetch(&world.client, request);
    CoreProviderMetadata::discover_async(IssuerUrl::new(issuer).unwrap(), &http).await.map_err(|error| {
        match error {
            DiscoveryError::Validation(why) => why,
            other => panic!("{other:?}"),
        }
    })
}

/// The key that the token's header names, and whether it holds the signature under an algorithm.
fn holds(metadata: &CoreProviderMetadata, token: &str, algorithm: &CoreJwsSigningAlgorithm) -> bool {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    let named =
        |key: &&CoreJsonWebKey| key.key_id().is_some_and(|id| **id == header["kid"].as_str().unwrap());
    let key = metadata.jwks().keys().iter().find(named).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    key.verify_signature(algorithm, message.as_bytes(), &signature).is_ok()
}

#[test]
fn it_discovers_us_and_its_keys_hold_our_signatures() {
    shared(|world| async move {
        let issuer = format!("{}/{TENANT}/v2.0", world.authority);
        let metadata = discover(world, issuer.clone()).await.unwrap();
        assert_eq!(metadata.issuer().as_str(), issuer);
        assert_eq!(metadata.token_endpoint().unwrap().as_str(), world.token_url(TENANT));
        let (rsa, ec) =
            (CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256, CoreJwsSigningAlgorithm::EcdsaP256Sha256);
        assert_eq!(*metadata.id_token_signing_alg_values_supported(), [rsa.clone(), ec.clone()]);
        for (resource, algorithm, other) in [(VAULT, &rsa, &ec), (API, &ec, &rsa)] {
            let reply = world.request().with("scope", &format!("{resource}/.default")).send(world).await;
            assert!(holds(&metadata, reply.token(), algorithm), "{resource}");
            assert!(!holds(&metadata, reply.token(), other), "{resource}: the key is of one algorithm");
            let changed = reply.token().replacen('.', ".e30", 1);
            assert!(!holds(&metadata, &changed, algorithm), "{resource}: other claims");
        }
    });
}

#[test]
fn by_domain_it_finds_another_issuer_than_it_asked_for_and_says_so() {
    shared(|world| async move {
        let why = discover(world, format!("{}/contoso.example/v2.0", world.authority)).await.unwrap_err();
        assert!(why.contains(TENANT), "{why}");
    });
}
