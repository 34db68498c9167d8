//! G: keys that must not be trusted, published beside one that is good. The good one stays usable, and alone is.

use ficus::domain::jwk::Skipped;
use ficus::domain::keyset::KeySet;
use serde_json::{Value, json};

use crate::stage::{Keys, Stage, coded, on_stage};

fn skipped(stage: &Stage, jwk: Value) -> Skipped {
    let mut good = Keys::rsa_jwk(&stage.keys.rsa);
    good["kid"] = json!("good");
    let set = json!({ "keys": [jwk, good] }).to_string();
    let (keys, skipped) = KeySet::parse(set.as_bytes()).unwrap();
    assert_eq!((keys.len(), skipped.len()), (1, 1), "{jwk}");
    skipped[0]
}

#[test]
fn g_01_to_g_14_rsa_numbers() {
    on_stage(async |stage: &'static Stage| {
        let number = |bits: usize| {
            let mut bytes = vec![0xff; bits.div_ceil(8)];
            bytes[0] >>= (8 - bits % 8) % 8;
            bytes
        };
        let even = [&number(2040)[..], &[0xfe]].concat();
        for (n, e, what) in [
            (number(512), &[1, 0, 1][..], "512 bits"),
            (number(1024), &[1, 0, 1], "1024 bits"),
            (number(2047), &[1, 0, 1], "2047 bits"),
            (number(8193), &[1, 0, 1], "8193 bits"),
            (number(65_536), &[1, 0, 1], "65 536 bits"),
            (even, &[1, 0, 1], "an even modulus"),
            (number(2048), &[1], "e = 1"),
            (number(2048), &[0], "e = 0"),
            (number(2048), &[], "no e"),
            (number(2048), &[2], "e = 2"),
            (number(2048), &[1, 0, 0], "an even e"),
            (number(2048), &[2, 0, 0, 0, 1], "e above 2^33"),
            (number(2048), &[1, 0, 0, 0, 0, 0, 1], "e of 49 bits"),
            (number(2048), &number(2048), "e as long as the modulus"),
        ] {
            let jwk = json!({ "kty": "RSA", "n": coded(n), "e": coded(e) });
            assert_eq!(skipped(stage, jwk), Skipped::Rsa, "{what}");
        }
        for absent in ["n", "e"] {
            let mut jwk = Keys::rsa_jwk(&stage.keys.rsa);
            jwk.as_object_mut().unwrap().remove(absent);
            assert_eq!(skipped(stage, jwk), Skipped::Malformed);
        }
        // The bounds themselves are inside.
        for (bits, e) in [(2048, &[3][..]), (8192, &[1, 0xff, 0xff, 0xff, 0xff])] {
            let jwk = json!({ "kty": "RSA", "n": coded(number(bits)), "e": coded(e) });
            assert!(KeySet::parse(json!({ "keys": [jwk] }).to_string().as_bytes()).is_ok(), "{bits}");
        }
    });
}

#[test]
fn g_15_to_g_25_what_a_key_is_for() {
    on_stage(async |stage: &'static Stage| {
        let with = |name: &str, value: Value| {
            let mut jwk = Keys::rsa_jwk(&stage.keys.stranger);
            jwk[name] = value;
            skipped(stage, jwk)
        };
        assert_eq!(with("use", json!("enc")), Skipped::Purpose);
        assert_eq!(with("key_ops", json!(["sign"])), Skipped::Purpose);
        assert_eq!(with("key_ops", json!([])), Skipped::Purpose);
        for algorithm in ["none", "HS256", "RSA-OAEP", "ES256", "rs256"] {
            assert_eq!(with("alg", json!(algorithm)), Skipped::Purpose, "{algorithm}");
        }
        for private in ["d", "p", "k"] {
            assert_eq!(with(private, json!("AQ")), Skipped::Secret);
        }
        assert_eq!(skipped(stage, json!({ "kty": "oct", "k": "AQ" })), Skipped::Secret);
        for kind in [json!({}), json!({ "kty": "rsa" }), json!({ "kty": "AKP" })] {
            assert_eq!(skipped(stage, kind), Skipped::UnknownType);
        }
    });
}

#[test]
fn g_26_to_g_36_points_chains_and_names() {
    on_stage(async |stage: &'static Stage| {
        let point = |x: &[u8], y: &[u8]| json!({ "kty": "EC", "crv": "P-256", "x": coded(x), "y": coded(y) });
        for (x, y) in
            [(&[1; 32][..], &[1; 32][..]), (&[0; 32], &[0; 32]), (&[1; 31], &[1; 32]), (&[0; 48], &[0; 48])]
        {
            assert_eq!(skipped(stage, point(x, y)), Skipped::Point);
        }
        let curve = json!({ "kty": "EC", "crv": "secp256k1", "x": "AQ", "y": "AQ" });
        assert_eq!(skipped(stage, curve), Skipped::UnknownType);
        // A certificate is no key.
        let chain = json!({ "kty": "RSA", "x5c": [coded(stage.keys.rsa_spki())] });
        assert_eq!(skipped(stage, chain), Skipped::Malformed);
        for id in [json!(7), json!(null), json!(""), json!("k".repeat(257))] {
            let mut jwk = Keys::rsa_jwk(&stage.keys.stranger);
            jwk["kid"] = id;
            assert_eq!(skipped(stage, jwk), Skipped::Malformed);
        }
    });
}
