//! F-60 to F-80: key sets that are at fault, and what of them can still be used.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::documents::{bodies, redirects, statuses};
use crate::issuer::{Fault, Issuer};
use crate::stage::{HASTY, PATIENT, Which, control, play};
use crate::transport::{breaks, delays, sizes};

#[test]
fn f_60_to_f_80_key_sets_that_are_none() {
    let which = Which::KEYS;
    play(PATIENT, statuses(which));
    play(PATIENT, redirects(which));
    let mut cases = bodies(which);
    for (name, body, cause) in [
        ("no keys", "{\"keys\":[]}", "holds no usable key"),
        ("keys absent", "{}", "not a JWK set"),
        ("keys null", "{\"keys\":null}", "not a JWK set"),
        ("keys an object", "{\"keys\":{}}", "not a JWK set"),
        ("a key that is none", "{\"keys\":[7]}", "holds no usable key"),
        ("a certificate", "{\"keys\":[{\"kty\":\"RSA\",\"x5c\":[\"AQAB\"]}]}", "holds no usable key"),
    ] {
        cases.push(which.case(name, move |_| Answer::ok(body), cause));
    }
    let deep = |issuer: &Issuer| {
        Answer::ok(issuer.jwks().replacen(
            '{',
            &format!("{{\"x\":{}1{},", "[".repeat(40_000), "]".repeat(40_000)),
            1,
        ))
    };
    cases.push(which.case("40,000 deep inside", deep, "not a JWK set"));
    play(PATIENT, cases);
}

#[test]
fn f_60_to_f_80_how_the_key_set_comes() {
    play(PATIENT, sizes(Which::KEYS, 524_288));
    play(PATIENT, breaks(Which::KEYS));
    play(HASTY, delays(Which::KEYS));
}

fn beside(issuer: &Issuer, others: &[Value]) -> Fault {
    Fault::keys(Answer::ok(issuer.jwks_with(others)))
}

/// One key of its own that is not the issuer's.
fn other(name: &str) -> Value {
    json!({ "kty": "AKP", "alg": "ML-DSA-65", "kid": name, "pub": "AQAB" })
}

#[test]
fn f_79_and_f_80_a_good_key_among_others_is_used() {
    const TOO_LARGE: &str = "it is larger than 524288 bytes";
    let mut cases = vec![
        control("its key alone", |i, _| beside(i, &[])),
        control("beside a kind that nobody knows", |i, _| beside(i, &[other("x")])),
        control("beside crippled ones", |i, _| {
            let mut point = i.jwk();
            point["x"] = json!("AQ");
            beside(
                i,
                &[json!(7), json!(null), json!({}), json!({ "kty": "RSA", "n": "AQ", "e": "AQAB" }), point],
            )
        }),
        control("beside a secret one", |i, _| beside(i, &[json!({ "kty": "oct", "kid": "s", "k": "AQAB" })])),
        control("beside one for encryption of the same name", |i, _| {
            let mut key = i.jwk();
            key["use"] = json!("enc");
            beside(i, &[key])
        }),
        control("behind 255 others", |i, _| beside(i, &vec![other("x"); 255])),
        Which::KEYS.case("10,000 keys", |i| Answer::ok(i.jwks_with(&vec![other("x"); 10_000])), TOO_LARGE),
        // Those behind the 256th are not looked at.
        Which::KEYS.case(
            "behind 256 others",
            |i| Answer::ok(i.jwks_with(&vec![other("x"); 256])),
            "holds no usable key",
        ),
    ];
    cases.push(control("in front of 1,000", |i, _| {
        let keys: Vec<Value> = std::iter::once(i.jwk()).chain(vec![other("x"); 1000]).collect();
        Fault::keys(Answer::ok(json!({ "keys": keys }).to_string()))
    }));
    play(PATIENT, cases);
}
