//! A broker that trusts one issuer whose keys are ours, and everything that an attacker may write in its name.
//!
//! The issuer's entry accepts every algorithm, so that a refusal is never owed to a short list. Its key set is a file and its
//! name resolves nowhere: a grant proves that nothing was fetched.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaEncoding};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::*;

const IDENTITY: &str = "aaaaaaaa-0009-4a00-8000-000000000009";
pub const ISSUER: &str = "https://adversary.example";
pub const SUBJECT: &str = "system:serviceaccount:payments:deploy";

pub struct Stage {
    pub world: World,
    pub keys: Keys,
}

/// What the issuer signs with.
pub struct Keys {
    pub rsa: RsaKeyPair,
    pub p256: EcdsaKeyPair,
    /// The same key, for signatures as DER.
    pub p256_der: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    pub ed25519: Ed25519KeyPair,
    /// Of nobody.
    pub stranger: RsaKeyPair,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    let file = folder.path().join("jwks.json");
    std::fs::write(&file, keys.jwks().to_string()).unwrap();
    let settings = format!(
        "[[issuer]]\nurl = {ISSUER:?}\njwks_file = {file:?}\n\
         algorithms = [\"RS256\", \"RS384\", \"RS512\", \"PS256\", \"PS384\", \"PS512\", \"ES256\", \"ES384\", \"ES512\", \"EdDSA\"]\n"
    );
    let directory = format!(
        "{DIRECTORY}\n[[identity]]\ntenant = \"contoso.example\"\nname = \"id-adversary\"\nkind = \"application\"\n\
         client_id = \"{IDENTITY}\"\nprincipal_id = \"bbbbbbbb-0009-4a00-8000-000000000009\"\n\
         [[identity.federated_credential]]\nname = \"only\"\nissuer = {ISSUER:?}\nsubject = {SUBJECT:?}\n"
    );
    // The key set is read once, before the folder goes away.
    let world = RUNTIME.block_on(World::start(Plan { settings, directory, ..Plan::default() }));
    Stage { world, keys }
});

/// Runs a test on the stage that all tests share.
pub fn on_stage<F: Future>(test: impl FnOnce(&'static Stage) -> F) -> F::Output {
    let stage = &*STAGE;
    RUNTIME.block_on(test(stage))
}

pub fn coded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa() -> RsaKeyPair {
    let pair = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    RsaKeyPair::from_pkcs8(&pair.serialize_der()).unwrap()
}

impl Keys {
    fn new() -> Self {
        let p256 = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let document = p256.to_pkcs8v1().unwrap();
        Self {
            rsa: rsa(),
            p256_der: EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, document.as_ref())
                .unwrap(),
            p256,
            p384: EcdsaKeyPair::generate(&signature::ECDSA_P384_SHA384_FIXED_SIGNING).unwrap(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
            stranger: rsa(),
        }
    }

    pub fn rsa_jwk(key: &RsaKeyPair) -> Value {
        let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
        json!({ "kty": "RSA", "n": coded(n.big_endian_without_leading_zero()), "e": coded(e.big_endian_without_leading_zero()) })
    }

    fn jwks(&self) -> Value {
        let with = |mut jwk: Value, members: Value| {
            jwk.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            jwk
        };
        let curve = |name: &str, key: &EcdsaKeyPair| {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({ "kty": "EC", "crv": name, "x": coded(x), "y": coded(y) })
        };
        let edwards = json!({ "kty": "OKP", "crv": "Ed25519", "x": coded(self.ed25519.public_key()) });
        json!({ "keys": [
            with(Self::rsa_jwk(&self.rsa), json!({ "kid": "rsa", "alg": "RS256", "use": "sig" })),
            with(Self::rsa_jwk(&self.rsa), json!({ "kid": "any", "use": "sig" })),
            with(Self::rsa_jwk(&self.rsa), json!({ "kid": "enc", "use": "enc" })),
            with(curve("P-256", &self.p256), json!({ "kid": "p256" })),
            with(curve("P-384", &self.p384), json!({ "kid": "p384" })),
            with(edwards, json!({ "kid": "ed25519" })),
        ] })
    }

    /// The RSA key's signature of an algorithm.
    pub fn rsa_signature(key: &RsaKeyPair, algorithm: &str, message: &str) -> Vec<u8> {
        let padding: &dyn RsaEncoding = match algorithm {
            "RS256" => &signature::RSA_PKCS1_SHA256,
            "RS384" => &signature::RSA_PKCS1_SHA384,
            "RS512" => &signature::RSA_PKCS1_SHA512,
            "PS256" => &signature::RSA_PSS_SHA256,
            other => panic!("{other}"),
        };
        let mut signed = vec![0; key.public_modulus_len()];
        key.sign(padding, &SystemRandom::new(), message.as_bytes(), &mut signed).unwrap();
        signed
    }

    pub fn elliptic(key: &EcdsaKeyPair, message: &str) -> Vec<u8> {
        key.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec()
    }

    /// SubjectPublicKeyInfo of the RSA key.
    pub fn rsa_spki(&self) -> Vec<u8> {
        AsDer::as_der(self.rsa.public_key()).unwrap().as_ref().to_vec()
    }
}

impl Stage {
    pub fn header(&self) -> Value {
        json!({ "typ": "JWT", "alg": "RS256", "kid": "rsa" })
    }

    pub fn claims(&self) -> Value {
        let now = self.world.clock.now();
        json!({ "iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": now, "exp": now + 300 })
    }

    /// Header and claims as a signing input.
    pub fn message(&self, header: impl ToString, claims: impl ToString) -> String {
        format!("{}.{}", coded(header.to_string()), coded(claims.to_string()))
    }

    /// Soundly signed by the RSA key as RS256, whatever the texts say.
    pub fn sound(&self, header: impl ToString, claims: impl ToString) -> String {
        self.signed(&self.message(header, claims))
    }

    /// The same for any signing input.
    pub fn signed(&self, message: &str) -> String {
        format!("{message}.{}", coded(Keys::rsa_signature(&self.keys.rsa, "RS256", message)))
    }

    /// With one member of the header changed.
    pub fn with_header(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut header = self.header();
        change(&mut header);
        self.sound(header, self.claims())
    }

    /// With the claims changed.
    pub fn with_claims(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut claims = self.claims();
        change(&mut claims);
        self.sound(self.header(), claims)
    }

    /// The claims with one of them, which is left out of the rest, written as it is.
    pub fn with_claim(&self, name: &str, text: &str) -> String {
        let mut claims = self.claims();
        claims.as_object_mut().unwrap().remove(name);
        let rest = claims.to_string();
        self.sound(self.header(), format!("{{\"{name}\":{text},{}", &rest[1..]))
    }

    pub async fn send(&self, assertion: &str) -> Reply {
        token_request(assertion, "https://sql.example/.default")
            .with("client_id", IDENTITY)
            .send(&self.world)
            .await
    }

    pub async fn granted(&self, what: &str, assertion: &str) {
        let reply = self.send(assertion).await;
        assert_eq!(reply.status, 200, "{what}: {:?}", reply.body);
    }

    /// An honest token is granted, this one is refused with one of these codes and says nothing, the honest one is granted.
    pub async fn refused(&self, what: &str, assertion: &str, codes: &[u32]) {
        self.granted("before", &self.sound(self.header(), self.claims())).await;
        let reply = self.send(assertion).await;
        let code = reply.body["error_codes"][0].as_u64().and_then(|code| u32::try_from(code).ok());
        assert!(code.is_some_and(|code| codes.contains(&code)), "{what}: {} {:?}", reply.status, reply.body);
        // The classes of the catalogue: R-OAUTH, 413 among them.
        assert!((400..500).contains(&reply.status), "{what}: {}", reply.status);
        let error = reply.body["error"].as_str().unwrap();
        reply.refused(reply.status, error, code.unwrap());
        assert!(matches!(error, "invalid_request" | "invalid_client"), "{what}: {error}");
        assert!(
            assertion.len() < 20 || !reply.body.to_string().contains(assertion),
            "{what}: the assertion is echoed"
        );
        self.granted("after", &self.sound(self.header(), self.claims())).await;
    }

    pub async fn all_refused(&self, codes: &[u32], cases: &[(&str, String)]) {
        for (what, assertion) in cases {
            self.refused(what, assertion, codes).await;
        }
    }
}
