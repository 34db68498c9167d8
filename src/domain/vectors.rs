//! Wycheproof's vectors through the code that serves: each key is published as a JWK, read as an issuer's set is read, and
//! asked as an assertion's signature is checked.

use std::fmt::Debug;
use std::rc::Rc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use wycheproof::{TestResult, ecdsa, eddsa, rsa_pkcs1_verify as pkcs1, rsa_pss_verify as pss};

use super::algorithm::Algorithm::{
    self, EdDsa, Es256, Es384, Es512, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512,
};
use super::keyset::KeySet;
use super::verify::signed_by_one;

const KEY_ID: &str = "k";

/// What may go either way by its author, and is refused here: an RSA block whose digest algorithm lacks its NULL
/// (RFC 8017 appendix A.2.4 wants it in what is made; the expected block is compared whole).
const REFUSED_BY_US: &str = "[MissingNull]";

/// One vector: a key, and a signature that does or does not hold under it.
struct Vector {
    keys: Rc<KeySet>,
    message: Vec<u8>,
    signature: Vec<u8>,
    result: TestResult,
    what: String,
}

/// A set that publishes one key. It does not say its algorithm, so that the kind of key alone has to.
fn published(mut jwk: Value) -> Rc<KeySet> {
    jwk["kid"] = KEY_ID.into();
    let (keys, skipped) = KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).unwrap();
    assert!(skipped.is_empty());
    keys.into()
}

fn coded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The vectors of one file, whose families differ in type and not in shape.
macro_rules! vectors {
    ($family:ident, $name:expr, $jwk:expr) => {{
        let mut all = Vec::new();
        for group in $family::TestSet::load($name).unwrap().test_groups {
            let keys = published($jwk(&group.key));
            all.extend(group.tests.into_iter().map(|test| Vector {
                keys: Rc::clone(&keys),
                message: test.msg.to_vec(),
                signature: test.sig.to_vec(),
                result: test.result,
                what: format!("{:?} {} {:?}", $name, test.tc_id, test.flags),
            }));
        }
        all
    }};
}

fn rsa(name: pkcs1::TestName) -> Vec<Vector> {
    vectors!(pkcs1, name, |key: &wycheproof::RsaPublic| {
        json!({ "kty": "RSA", "n": coded(&key.n), "e": coded(&key.e) })
    })
}

fn rsa_pss(name: pss::TestName) -> Vec<Vector> {
    vectors!(pss, name, |key: &wycheproof::RsaPublic| {
        json!({ "kty": "RSA", "n": coded(&key.n), "e": coded(&key.e) })
    })
}

fn curve(name: ecdsa::TestName, curve: &str) -> Vec<Vector> {
    vectors!(ecdsa, name, |key: &wycheproof::EcdsaPublic| {
        // A byte that says "uncompressed", then both coordinates.
        let (x, y) = key.key[1..].split_at(key.key.len() / 2);
        json!({ "kty": "EC", "crv": curve, "x": coded(x), "y": coded(y) })
    })
}

fn edwards() -> Vec<Vector> {
    vectors!(eddsa, eddsa::TestName::Ed25519, |key: &wycheproof::EddsaPublic| {
        json!({ "kty": "OKP", "crv": "Ed25519", "x": coded(&key.pk) })
    })
}

fn accepted(vector: &Vector, algorithm: Algorithm) -> bool {
    let candidates = vector.keys.candidates(Some(KEY_ID), algorithm).unwrap();
    signed_by_one(&candidates, &vector.message, &vector.signature)
}

/// Every vector of the file has the result that it names, and what is sound is so under one algorithm only.
#[track_caller]
fn holds(vectors: Vec<Vector>, algorithm: Algorithm) {
    assert!(vectors.iter().any(|vector| vector.result == TestResult::Valid));
    for vector in vectors {
        let expected = match vector.result {
            TestResult::Valid => true,
            TestResult::Invalid => false,
            TestResult::Acceptable => {
                assert!(vector.what.ends_with(REFUSED_BY_US), "not decided: {}", vector.what);
                false
            }
        };
        assert_eq!(accepted(&vector, algorithm), expected, "{algorithm:?} {}", vector.what);
        for other in Algorithm::ALL.into_iter().filter(|other| expected && *other != algorithm) {
            assert!(!accepted(&vector, other), "{other:?} {}", vector.what);
        }
    }
}

/// What is sound by another algorithm, which we do not have, is sound by none of ours. What that algorithm refuses proves
/// nothing here: its vectors of a wrong hash may have the hash of ours.
fn foreign(vectors: Vec<Vector>) {
    let sound: Vec<_> = vectors.iter().filter(|vector| vector.result == TestResult::Valid).collect();
    assert!(!sound.is_empty());
    for vector in sound {
        for algorithm in Algorithm::ALL {
            assert!(!accepted(vector, algorithm), "{algorithm:?} {}", vector.what);
        }
    }
}

fn each<N: Debug + Copy>(
    files: impl IntoIterator<Item = (N, Algorithm)>,
    load: impl Fn(N, Algorithm) -> Vec<Vector>,
) {
    files.into_iter().for_each(|(name, algorithm)| holds(load(name, algorithm), algorithm));
}

#[test]
fn rsa_pkcs1() {
    use pkcs1::TestName as Name;
    let files = [
        (Name::Rsa2048Sha256, Rs256),
        (Name::Rsa3072Sha256, Rs256),
        (Name::Rsa4096Sha256, Rs256),
        (Name::Rsa8192Sha256, Rs256),
        (Name::Rsa2048Sha384, Rs384),
        (Name::Rsa3072Sha384, Rs384),
        (Name::Rsa4096Sha384, Rs384),
        (Name::Rsa8192Sha384, Rs384),
        (Name::Rsa2048Sha512, Rs512),
        (Name::Rsa3072Sha512, Rs512),
        (Name::Rsa4096Sha512, Rs512),
        (Name::Rsa8192Sha512, Rs512),
    ];
    each(files, |name, _| rsa(name));
    for name in [Name::Rsa2048Sha224, Name::Rsa2048Sha512_256, Name::Rsa2048Sha3_256, Name::Rsa3072Sha3_384] {
        foreign(rsa(name));
    }
}

/// The salt is as long as the digest (RFC 7518 section 3.5).
#[test]
fn rsa_with_a_salt() {
    use pss::TestName as Name;
    let files = [
        (Name::RsaPss2048Sha256Mgf1SaltLen32, Ps256),
        (Name::RsaPss3072Sha256Mgf1SaltLen32, Ps256),
        (Name::RsaPss4096Sha256Mgf1SaltLen32, Ps256),
        (Name::RsaPss2048Sha384Mgf1SaltLen48, Ps384),
        (Name::RsaPss4096Sha384Mgf1SaltLen48, Ps384),
        (Name::RsaPss4096Sha512Mgf1SaltLen64, Ps512),
    ];
    each(files, |name, _| rsa_pss(name));
    for name in [
        Name::RsaPss2048Sha256Mgf1SaltLen0,
        Name::RsaPss2048Sha256Mgf1Sha1_20,
        Name::RsaPss2048Sha1Mgf1SaltLen20,
        Name::RsaPss2048Sha512_256Mgf1SaltLen32,
        Name::RsaPss4096Sha512Mgf1SaltLen32,
    ] {
        foreign(rsa_pss(name));
    }
}

/// JWS has r and s side by side (RFC 7518 section 3.4), which Wycheproof calls P1363; as DER they are worth nothing.
#[test]
fn elliptic_curves() {
    use ecdsa::TestName as Name;
    let of = |algorithm| match algorithm {
        Es256 => "P-256",
        Es384 => "P-384",
        _ => "P-521",
    };
    let files = [
        (Name::EcdsaSecp256r1Sha256P1363, Es256),
        (Name::EcdsaSecp384r1Sha384P1363, Es384),
        (Name::EcdsaSecp521r1Sha512P1363, Es512),
    ];
    each(files, |name, algorithm| curve(name, of(algorithm)));
    for (name, algorithm) in [
        (Name::EcdsaSecp256r1Sha256, Es256),
        (Name::EcdsaSecp384r1Sha384, Es384),
        (Name::EcdsaSecp521r1Sha512, Es512),
        (Name::EcdsaSecp256r1Sha512P1363, Es256),
        (Name::EcdsaSecp384r1Sha512P1363, Es384),
        (Name::EcdsaSecp521r1Shake256P1363, Es512),
    ] {
        foreign(curve(name, of(algorithm)));
    }
}

#[test]
fn ed25519() {
    holds(edwards(), EdDsa);
}
