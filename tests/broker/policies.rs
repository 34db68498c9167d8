//! What an issuer's entry may demand or allow, each held both ways: a valid token, then the same with one thing changed.
//!
//! The issuers have inline key sets (`jwks_file`) and names that resolve nowhere: a grant proves that nothing was fetched.

use std::fmt::Write;
use std::sync::LazyLock;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RsaEncoding};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::jwk::Jwk;
use serde_json::{Value, json};

use crate::support::*;

const IDENTITY: &str = "aaaaaaaa-0009-4a00-8000-000000000009";
const SUBJECT: &str = "system:serviceaccount:payments:deploy";
/// Every algorithm that an entry must list, and the id of the key that signs it.
const OPT_IN: [(&str, &str); 7] = [
    ("RS384", "rsa"),
    ("RS512", "rsa"),
    ("PS256", "rsa"),
    ("PS384", "rsa"),
    ("PS512", "rsa"),
    ("ES512", "p521"),
    ("EdDSA", "ed25519"),
];
const STANDARD: [(&str, &str); 3] = [("RS256", "rsa"), ("ES256", "p256"), ("ES384", "p384")];

/// Issuers beside those of one algorithm each: name, key set, and what their entry says.
const ISSUERS: [(&str, &str, &str); 8] = [
    ("standard", "all", ""),
    ("only-rs256", "all", "algorithms = [\"RS256\"]"),
    ("without-kid", "all", "require_kid = false"),
    ("twins", "twins", "require_kid = false"),
    ("many", "all", "multiple_audiences = true"),
    ("strict", "all", "leeway = \"0s\""),
    ("lenient", "all", "leeway = \"5m\""),
    ("short", "all", "max_token_lifetime = \"10m\""),
];

/// One key of every family.
struct Keys {
    rsa: RsaKeyPair,
    rsa_jwk: Value,
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    p521: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

impl Keys {
    fn new() -> Self {
        let pair =
            rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let private = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        let jwk = Jwk::from_encoding_key(&private, jsonwebtoken::Algorithm::RS256).unwrap();
        let jwk = serde_json::to_value(jwk).unwrap();
        let curve = |algorithm| EcdsaKeyPair::generate(algorithm).unwrap();
        Self {
            rsa: RsaKeyPair::from_pkcs8(&pair.serialize_der()).unwrap(),
            // Without `alg`, which would bind it to one algorithm.
            rsa_jwk: json!({ "kty": "RSA", "n": jwk["n"], "e": jwk["e"] }),
            p256: curve(ecdsa("ES256")),
            p384: curve(ecdsa("ES384")),
            p521: curve(ecdsa("ES512")),
            ed25519: Ed25519KeyPair::generate().unwrap(),
        }
    }

    fn jwks(&self, set: &str) -> Value {
        let named = |mut jwk: Value, id: &str| {
            jwk["kid"] = json!(id);
            jwk
        };
        if set == "twins" {
            return json!({ "keys": [named(self.rsa_jwk.clone(), "one"), named(self.rsa_jwk.clone(), "two")] });
        }
        let curve = |name: &str, key: &EcdsaKeyPair| {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({ "kty": "EC", "crv": name, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) })
        };
        let edwards = URL_SAFE_NO_PAD.encode(self.ed25519.public_key());
        json!({ "keys": [
            named(self.rsa_jwk.clone(), "rsa"),
            named(curve("P-256", &self.p256), "p256"),
            named(curve("P-384", &self.p384), "p384"),
            named(curve("P-521", &self.p521), "p521"),
            named(json!({ "kty": "OKP", "crv": "Ed25519", "x": edwards }), "ed25519"),
        ] })
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        let elliptic = |key: &EcdsaKeyPair| key.sign(&random, message).unwrap().as_ref().to_vec();
        let padding: &dyn RsaEncoding = match algorithm {
            "ES256" => return elliptic(&self.p256),
            "ES384" => return elliptic(&self.p384),
            "ES512" => return elliptic(&self.p521),
            "EdDSA" => return self.ed25519.sign(message).as_ref().to_vec(),
            "RS256" => &signature::RSA_PKCS1_SHA256,
            "RS384" => &signature::RSA_PKCS1_SHA384,
            "RS512" => &signature::RSA_PKCS1_SHA512,
            "PS256" => &signature::RSA_PSS_SHA256,
            "PS384" => &signature::RSA_PSS_SHA384,
            "PS512" => &signature::RSA_PSS_SHA512,
            other => panic!("{other}"),
        };
        let mut signed = vec![0; self.rsa.public_modulus_len()];
        self.rsa.sign(padding, &random, message, &mut signed).unwrap();
        signed
    }
}

fn ecdsa(algorithm: &str) -> &'static EcdsaSigningAlgorithm {
    match algorithm {
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        "ES384" => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
    }
}

struct Policies {
    world: World,
    keys: Keys,
}

static POLICIES: LazyLock<Policies> = LazyLock::new(|| {
    let (keys, folder) = (Keys::new(), tempfile::tempdir().unwrap());
    for set in ["all", "twins"] {
        std::fs::write(folder.path().join(set), keys.jwks(set).to_string()).unwrap();
    }
    let own = OPT_IN.map(|(algorithm, _)| {
        (algorithm.to_ascii_lowercase(), "all", format!("algorithms = [\"{algorithm}\"]"))
    });
    let others = ISSUERS.map(|(name, set, entry)| (name.to_owned(), set, entry.to_owned()));
    let (mut settings, mut directory) = (String::new(), DIRECTORY.to_owned());
    write!(
        directory,
        "[[identity]]\ntenant = \"contoso.example\"\nname = \"id-policies\"\nkind = \"application\"\n\
         client_id = \"{IDENTITY}\"\nprincipal_id = \"bbbbbbbb-0009-4a00-8000-000000000009\"\n"
    )
    .unwrap();
    for (name, set, entry) in own.iter().chain(&others) {
        let (issuer, file) = (format!("https://{name}.example"), folder.path().join(set));
        writeln!(settings, "[[issuer]]\nurl = {issuer:?}\njwks_file = {file:?}\n{entry}").unwrap();
        writeln!(
            directory,
            "[[identity.federated_credential]]\nname = {name:?}\nissuer = {issuer:?}\nsubject = {SUBJECT:?}"
        )
        .unwrap();
    }
    // The key sets are read once, before the folder goes away.
    let world = RUNTIME.block_on(World::start(Plan { settings, directory, ..Plan::default() }));
    Policies { world, keys }
});

impl Policies {
    /// A valid token of an issuer: header and claims, to be changed.
    fn token(&self, issuer: &str, algorithm: &str, key: &str) -> (Value, Value) {
        let now = self.world.clock.now();
        let header = json!({ "typ": "JWT", "alg": algorithm, "kid": key });
        let claims = json!({
            "iss": format!("https://{issuer}.example"), "sub": SUBJECT, "aud": AUDIENCE,
            "iat": now, "exp": now + 300,
        });
        (header, claims)
    }

    /// Signs as the header's `alg` says, and exchanges.
    async fn exchange(&self, header: &Value, claims: &Value) -> Reply {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.keys.sign(header["alg"].as_str().unwrap(), message.as_bytes());
        let assertion = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        self.world
            .request_with(&assertion)
            .with("client_id", IDENTITY)
            .with("scope", "https://sql.example/.default")
            .send(&self.world)
            .await
    }

    /// Exchanges a valid token of an issuer after one change of its claims.
    async fn with(&self, issuer: &str, change: impl FnOnce(&mut Value)) -> Reply {
        let (header, mut claims) = self.token(issuer, "RS256", "rsa");
        change(&mut claims);
        self.exchange(&header, &claims).await
    }
}

fn run<F: Future>(test: impl FnOnce(&'static Policies) -> F) -> F::Output {
    let policies = &*POLICIES;
    RUNTIME.block_on(test(policies))
}

#[test]
fn an_algorithm_counts_only_where_it_is_listed() {
    run(async |p: &'static Policies| {
        for (algorithm, key) in OPT_IN {
            let (header, claims) = p.token(&algorithm.to_ascii_lowercase(), algorithm, key);
            p.exchange(&header, &claims).await.token();
            let (header, claims) = p.token("standard", algorithm, key);
            p.exchange(&header, &claims).await.refused(401, "invalid_client", 5_002_738);
        }
        for (algorithm, key) in STANDARD {
            let (header, claims) = p.token("standard", algorithm, key);
            p.exchange(&header, &claims).await.token();
            // A list replaces the defaults.
            let (header, claims) = p.token("eddsa", algorithm, key);
            p.exchange(&header, &claims).await.refused(401, "invalid_client", 5_002_738);
            let (header, claims) = p.token("only-rs256", algorithm, key);
            let reply = p.exchange(&header, &claims).await;
            if algorithm == "RS256" {
                reply.token();
            } else {
                reply.refused(401, "invalid_client", 5_002_738);
            }
        }
    });
}

#[test]
fn a_key_speaks_for_its_own_family_only() {
    run(async |p: &'static Policies| {
        for (algorithm, own) in OPT_IN.into_iter().chain(STANDARD) {
            let issuer = match STANDARD.contains(&(algorithm, own)) {
                true => "standard".to_owned(),
                false => algorithm.to_ascii_lowercase(),
            };
            for key in ["rsa", "p256", "p384", "p521", "ed25519"].into_iter().filter(|key| *key != own) {
                let (header, claims) = p.token(&issuer, algorithm, key);
                p.exchange(&header, &claims).await.refused(401, "invalid_client", 700_027);
            }
            let (header, claims) = p.token(&issuer, algorithm, "unpublished");
            p.exchange(&header, &claims).await.refused(401, "invalid_client", 7_000_272);
        }
    });
}

#[test]
fn a_token_without_kid_needs_leave_and_exactly_one_fitting_key() {
    run(async |p: &'static Policies| {
        let without = |issuer: &str| {
            let (mut header, claims) = p.token(issuer, "RS256", "rsa");
            header.as_object_mut().unwrap().remove("kid");
            (header, claims)
        };
        let (header, claims) = without("standard");
        p.exchange(&header, &claims).await.refused(401, "invalid_client", 5_002_723);
        let (header, claims) = without("without-kid");
        p.exchange(&header, &claims).await.token();
        let (header, claims) = without("twins");
        p.exchange(&header, &claims).await.refused(401, "invalid_client", 7_000_272);
        let (header, claims) = p.token("twins", "RS256", "two");
        p.exchange(&header, &claims).await.token();
    });
}

#[test]
fn one_of_several_audiences_matches_only_with_leave() {
    run(async |p: &'static Policies| {
        for (issuer, audiences, code) in [
            ("standard", json!([AUDIENCE]), None),
            ("standard", json!(["https://other.example", AUDIENCE]), Some(700_212)),
            ("standard", json!([AUDIENCE, AUDIENCE]), Some(700_212)),
            ("many", json!(AUDIENCE), None),
            ("many", json!(["https://other.example", AUDIENCE]), None),
            ("many", json!(["https://other.example", "API://AzureADTokenExchange"]), Some(700_212)),
            ("many", json!(["https://other.example", ""]), Some(90_014)),
        ] {
            let reply = p.with(issuer, |claims| claims["aud"] = audiences.clone()).await;
            match code {
                None => drop(reply.token()),
                Some(90_014) => drop(reply.refused(400, "invalid_request", 90_014)),
                Some(code) => drop(reply.refused(401, "invalid_client", code)),
            }
        }
    });
}

#[test]
fn leeway_is_the_issuers_own_to_the_second() {
    run(async |p: &'static Policies| {
        let now = p.world.clock.now();
        for (issuer, leeway) in [("strict", 0), ("standard", 60), ("lenient", 300)] {
            for (claim, last) in [("exp", 1 - leeway), ("nbf", leeway), ("iat", leeway)] {
                let beyond = if claim == "exp" { last - 1 } else { last + 1 };
                let set = |offset: i64| {
                    move |claims: &mut Value| {
                        claims["iat"] = json!(now - 400);
                        claims["exp"] = json!(now + 400);
                        claims[claim] = json!(now + offset);
                    }
                };
                p.with(issuer, set(last)).await.token();
                p.with(issuer, set(beyond)).await.refused(401, "invalid_client", 700_024);
            }
        }
    });
}

#[test]
fn lifetime_is_the_issuers_own_to_the_second() {
    run(async |p: &'static Policies| {
        let now = p.world.clock.now();
        for (issuer, longest) in [("short", 600), ("standard", 25 * 3600)] {
            p.with(issuer, |claims| claims["exp"] = json!(now + longest)).await.token();
            let reply = p.with(issuer, |claims| claims["exp"] = json!(now + longest + 1)).await;
            reply.refused(401, "invalid_client", 70_023);
        }
    });
}
