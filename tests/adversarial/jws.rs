//! J: JWS and JWT parsing. Unless a case says otherwise the token is honest in all other respects.

use std::io::ErrorKind;
use std::net::TcpListener;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::stage::{ISSUER, Keys, Stage, coded, on_stage};

const FORM: u32 = 50_027;
const ALGORITHM: u32 = 5_002_738;
const NO_KEY_ID: u32 = 5_002_723;
const UNKNOWN_KEY: u32 = 7_000_272;
const SIGNATURE: u32 = 700_027;
const TOO_LARGE: u32 = 90_013;
const ABSENT: u32 = 7_000_216;

fn named(name: &'static str, token: String) -> (&'static str, String) {
    (name, token)
}

#[test]
fn j_01_alg_none_and_its_spellings() {
    on_stage(async |stage: &'static Stage| {
        for name in ["none", "None", "NONE", "nOnE", "", "none ", "\u{0}none"] {
            let mut header = stage.header();
            header["alg"] = json!(name);
            let message = stage.message(&header, stage.claims());
            stage.refused(name, &format!("{message}."), &[ALGORITHM]).await;
            stage.refused(name, &stage.signed(&message), &[ALGORITHM]).await;
            stage.refused(name, &message, &[FORM]).await;
        }
        let without = stage.with_header(|header| drop(header.as_object_mut().unwrap().remove("alg")));
        stage.refused("missing", &without, &[ALGORITHM]).await;
        stage.refused("null", &stage.with_header(|header| header["alg"] = json!(null)), &[FORM]).await;
        let list = stage.with_header(|header| header["alg"] = json!(["RS256"]));
        stage.refused("list", &list, &[FORM]).await;
    });
}

/// Text armour of a DER document.
fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[test]
fn j_02_hmac_with_a_public_value_as_secret() {
    on_stage(async |stage: &'static Stage| {
        let spki = stage.keys.rsa_spki();
        // The key itself follows its kind, a bit string and a zero byte.
        let pkcs1 = &spki[24..];
        let jwk = Keys::rsa_jwk(&stage.keys.rsa);
        let armoured = pem("PUBLIC KEY", &spki);
        let secrets = [
            ("PEM", armoured.clone().into_bytes()),
            ("PEM without its last newline", armoured.trim_end().as_bytes().to_vec()),
            ("PKCS#1 PEM", pem("RSA PUBLIC KEY", pkcs1).into_bytes()),
            ("DER", spki.clone()),
            ("PKCS#1", pkcs1.to_vec()),
            ("modulus", jwk["n"].as_str().unwrap().as_bytes().to_vec()),
            ("JWK", jwk.to_string().into_bytes()),
            ("key id", b"rsa".to_vec()),
            ("nothing", Vec::new()),
        ];
        for (name, secret) in &secrets {
            for (algorithm, hash) in
                [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
            {
                for key in ["rsa", "p256", "aaaaaaaa-0009-4a00-8000-000000000009"] {
                    let header = json!({ "typ": "JWT", "alg": algorithm, "kid": key });
                    let message = stage.message(header, stage.claims());
                    let tag = hmac::sign(&hmac::Key::new(hash, secret), message.as_bytes());
                    stage.refused(name, &format!("{message}.{}", coded(tag)), &[ALGORITHM]).await;
                }
            }
            // The same bytes under a name that is known.
            let message = stage.message(stage.header(), stage.claims());
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
            stage.refused(name, &format!("{message}.{}", coded(tag)), &[SIGNATURE]).await;
        }
    });
}

#[test]
fn j_03_algorithm_and_key_do_not_belong_together() {
    on_stage(async |stage: &'static Stage| {
        let message = |algorithm: &str, key: &str| {
            stage.message(json!({ "alg": algorithm, "kid": key }), stage.claims())
        };
        let by_rsa = |signed_as: &str, algorithm: &str, key: &str| {
            let message = message(algorithm, key);
            format!("{message}.{}", coded(Keys::rsa_signature(&stage.keys.rsa, signed_as, &message)))
        };
        // The same key without `alg` takes them, so nothing but the JWK's `alg` is in the way.
        for algorithm in ["RS384", "RS512", "PS256"] {
            stage.granted(algorithm, &by_rsa(algorithm, algorithm, "any")).await;
            stage.refused(algorithm, &by_rsa(algorithm, algorithm, "rsa"), &[SIGNATURE]).await;
        }
        stage.refused("use enc", &by_rsa("RS256", "RS256", "enc"), &[UNKNOWN_KEY]).await;
        for (algorithm, key) in [("ES256", "rsa"), ("EdDSA", "rsa"), ("RS256", "p256"), ("ES512", "p256")] {
            stage.refused(algorithm, &by_rsa("RS256", algorithm, key), &[SIGNATURE]).await;
        }
        for algorithm in ["rs256", "RS256 ", " RS256", "RSA256", "SHA256withRSA", "RS256\u{0}", "ES256K"] {
            stage.refused(algorithm, &by_rsa("RS256", algorithm, "rsa"), &[ALGORITHM]).await;
        }
        let elliptic = |algorithm: &str, key: &str, signature: &dyn Fn(&str) -> Vec<u8>| {
            let message = message(algorithm, key);
            format!("{message}.{}", coded(signature(&message)))
        };
        let (fixed, der) = (&stage.keys.p256, &stage.keys.p256_der);
        stage.granted("ES256", &elliptic("ES256", "p256", &|m| Keys::elliptic(fixed, m))).await;
        let wrong_curve = elliptic("ES256", "p384", &|m| Keys::elliptic(fixed, m));
        stage.refused("another curve", &wrong_curve, &[SIGNATURE]).await;
        let as_der = elliptic("ES256", "p256", &|m| Keys::elliptic(der, m));
        stage.refused("as DER", &as_der, &[SIGNATURE]).await;
    });
}

#[test]
fn j_04_key_ids() {
    on_stage(async |stage: &'static Stage| {
        let with = |key: Value| stage.with_header(|header| header["kid"] = key);
        let foreign = |header: &Value| {
            let message = stage.message(header, stage.claims());
            let signature = Keys::rsa_signature(&stage.keys.stranger, "RS256", &message);
            format!("{message}.{}", coded(signature))
        };
        stage.refused("foreign key", &foreign(&stage.header()), &[SIGNATURE]).await;
        for header in [json!({ "alg": "RS256" }), json!({ "alg": "RS256", "kid": "" })] {
            stage.refused("no key id", &foreign(&header), &[NO_KEY_ID]).await;
        }
        for key in [
            "unknown",
            "RSA",
            "rsa ",
            "rsa\u{0}",
            "../../../../dev/null",
            "/etc/passwd",
            "x' UNION SELECT 'k';--",
            "rsa|id",
            "*",
        ] {
            stage.refused(key, &with(json!(key)), &[UNKNOWN_KEY]).await;
        }
        stage.refused("number", &with(json!(0)), &[FORM]).await;
        stage.refused("null", &with(json!(null)), &[FORM]).await;
        stage.refused("257 bytes", &with(json!("k".repeat(257))), &[FORM]).await;
        stage.refused("100 KB", &with(json!("k".repeat(100_000))), &[TOO_LARGE]).await;
        for twice in [
            r#"{"alg":"RS256","kid":"rsa","kid":"p256"}"#,
            r#"{"alg":"RS256","kid":"p256","kid":"rsa"}"#,
            r#"{"alg":"RS256","kid":"rsa","k\u0069d":"rsa"}"#,
        ] {
            stage.refused("twice", &stage.sound(twice, stage.claims()), &[FORM]).await;
        }
        // A forged line stays inside the string of the line that tells of it.
        let forged = "rsa\r\n{\"outcome\":\"granted\",\"traceId\":\"forged\"}\n";
        let reply = stage.send(&with(json!(forged))).await;
        reply.refused(401, "invalid_client", UNKNOWN_KEY);
        let line = stage.world.record(&reply.trace()).await;
        assert_eq!(line["assertion"]["keyId"], forged);
        assert!(stage.world.audit().iter().all(|line| line["traceId"] != "forged"));
    });
}

#[test]
fn j_05_the_token_brings_its_own_key() {
    on_stage(async |stage: &'static Stage| {
        let attacker = TcpListener::bind("127.0.0.1:0").unwrap();
        attacker.set_nonblocking(true).unwrap();
        let place = format!("https://{}/jwks", attacker.local_addr().unwrap());
        let mut jwk = Keys::rsa_jwk(&stage.keys.stranger);
        for key in ["rsa", "stranger"] {
            jwk["kid"] = json!(key);
            for (member, value) in [
                ("jwk", jwk.clone()),
                ("jku", json!(place)),
                ("jku", json!(format!("{ISSUER}@{place}"))),
                ("x5u", json!(place)),
                ("x5c", json!([STANDARD.encode(stage.keys.rsa_spki())])),
            ] {
                let mut header = stage.header();
                header["kid"] = json!(key);
                header[member] = value;
                let mut claims = stage.claims();
                claims["jwks"] = json!({ "keys": [jwk] });
                claims["jwks_uri"] = json!(place);
                let message = stage.message(header, claims);
                let signature = Keys::rsa_signature(&stage.keys.stranger, "RS256", &message);
                let token = format!("{message}.{}", coded(signature));
                stage.refused(member, &token, &[SIGNATURE, UNKNOWN_KEY]).await;
            }
        }
        // Every request has been answered, so whoever wanted to come has been here.
        assert_eq!(attacker.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    });
}

#[test]
fn j_06_crit_and_b64() {
    on_stage(async |stage: &'static Stage| {
        for (name, members) in [
            ("unknown and present", json!({ "crit": ["x"], "x": 1 })),
            ("registered claim", json!({ "crit": ["exp"], "exp": 1 })),
            ("empty", json!({ "crit": [] })),
            ("string", json!({ "crit": "exp" })),
            ("null", json!({ "crit": null })),
            ("alg", json!({ "crit": ["alg"] })),
            ("b64", json!({ "crit": ["b64"], "b64": false })),
            ("b64 alone", json!({ "b64": false })),
            ("b64 as usual", json!({ "crit": ["b64"], "b64": true })),
        ] {
            let token = stage.with_header(|header| {
                header.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            });
            stage.refused(name, &token, &[FORM]).await;
        }
        // Unencoded, as b64 has it: the claims as they are, signed as they are.
        let mut header = stage.header();
        header["crit"] = json!(["b64"]);
        header["b64"] = json!(false);
        let message = format!("{}.{}", coded(header.to_string()), stage.claims());
        stage.refused("unencoded", &stage.signed(&message), &[FORM]).await;
    });
}

#[test]
fn j_07_shapes_that_are_no_compact_jws() {
    on_stage(async |stage: &'static Stage| {
        let good = stage.sound(stage.header(), stage.claims());
        let parts: Vec<&str> = good.split('.').collect();
        let jwe = |header: Value| {
            format!("{}.{}.{}.{}.{}", coded(header.to_string()), parts[1], parts[1], parts[2], parts[2])
        };
        let flattened = json!({ "protected": parts[0], "payload": parts[1], "signature": parts[2] });
        let general =
            json!({ "payload": parts[1], "signatures": [{ "protected": parts[0], "signature": parts[2] }] });
        let nested = stage.sound(json!({ "typ": "JWT", "cty": "JWT", "alg": "RS256", "kid": "rsa" }), &good);
        // One stored block of a deflate stream, which needs no compressor.
        let claims = stage.claims().to_string();
        let length = u16::try_from(claims.len()).unwrap();
        let stored = [&[1][..], &length.to_le_bytes(), &(!length).to_le_bytes(), claims.as_bytes()].concat();
        let zip = coded(json!({ "alg": "RS256", "kid": "rsa", "zip": "DEF" }).to_string());
        let cases = [
            named("one dot", ".".into()),
            named("dots", "..".into()),
            named("four dots", "....".into()),
            named("no dot", parts.concat()),
            named("two parts", parts[..2].join(".")),
            named("four parts", format!("{good}.{}", parts[2])),
            named("five parts", format!("{good}..")),
            named("six parts", format!("{good}.{good}")),
            named("JWE", jwe(json!({ "alg": "RSA-OAEP", "enc": "A256GCM" }))),
            named("direct", jwe(json!({ "alg": "dir", "enc": "A256GCM" }))),
            named(
                "PBES2",
                jwe(json!({ "alg": "PBES2-HS256+A128KW", "enc": "A128CBC-HS256", "p2c": 2_000_000_000 })),
            ),
            named("zip", stage.signed(&format!("{zip}.{}", coded(stored)))),
            named("nested", nested),
            named("flattened", flattened.to_string()),
            named("general", general.to_string()),
            named("two, a space", format!("{good} {good}")),
            named("two, a comma", format!("{good},{good}")),
            named("Bearer", format!("Bearer {good}")),
            named("quotes", format!("\"{good}\"")),
            named("BOM", format!("\u{feff}{good}")),
            named("no-break space", format!("{good}\u{a0}")),
            named("newline inside", good.replacen('.', "\n.", 1)),
        ];
        stage.all_refused(&[FORM], &cases).await;
        stage.refused("empty", "", &[ABSENT]).await;
        stage.refused("blank", " \n", &[ABSENT, FORM]).await;
        stage.refused("100 000 dots", &".".repeat(100_000), &[TOO_LARGE]).await;
        stage.refused("10 000 dots", &".".repeat(10_000), &[FORM]).await;
        // A token file's newline is what SDKs send.
        stage.granted("white space around", &format!(" \t{good}\r\n")).await;
    });
}

#[test]
fn j_08_json_inside_the_token() {
    on_stage(async |stage: &'static Stage| {
        let claims = stage.claims().to_string();
        let sound = |claims: String| stage.sound(stage.header(), claims);
        for (name, other) in
            [("sub", "\"x\""), ("iss", "\"x\""), ("aud", "\"x\""), ("exp", "1"), ("unknown", "1")]
        {
            let escaped = format!("\\u00{:x}{}", name.as_bytes()[0], &name[1..]);
            let claims =
                if name == "unknown" { claims.replacen('{', "{\"unknown\":1,", 1) } else { claims.clone() };
            for twice in [name, &escaped] {
                let first = claims.replacen('{', &format!("{{\"{twice}\":{other},"), 1);
                let last = format!("{},\"{twice}\":{other}}}", claims.strip_suffix('}').unwrap());
                stage.refused(name, &sound(first), &[FORM]).await;
                stage.refused(name, &sound(last), &[FORM]).await;
            }
        }
        for header in
            [r#"{"alg":"RS256","alg":"none","kid":"rsa"}"#, r#"{"alg":"none","alg":"RS256","kid":"rsa"}"#]
        {
            stage.refused("alg twice", &stage.sound(header, &claims), &[FORM]).await;
        }
        let more = |text: &str| claims.replacen('{', &format!("{{{text},"), 1);
        for text in [
            format!("{claims}{claims}"),
            format!("{claims}x"),
            format!("\u{feff}{claims}"),
            format!("/**/{claims}"),
            claims.replacen('}', ",}", 1),
            claims.replace('"', "'"),
            claims.replacen("\"iss\"", "iss", 1),
            more("\"x\":NaN"),
            format!("[{claims}]"),
            json!(claims).to_string(),
            "null".into(),
            String::new(),
            more(&format!("\"x\":{}{}", "[".repeat(5000), "]".repeat(5000))),
        ] {
            stage.refused(&format!("{text:.60}"), &sound(text), &[FORM]).await;
        }
        let mut bytes = more("\"x\":\"?\"").into_bytes();
        let at = bytes.iter().position(|byte| *byte == b'?').unwrap();
        bytes[at] = 0xff;
        let message = format!("{}.{}", coded(stage.header().to_string()), coded(&bytes));
        stage.refused("not UTF-8 in an unknown claim", &stage.signed(&message), &[FORM]).await;
        stage.refused("empty object", &sound("{}".into()), &[90_014]).await;
        let upper = claims.replacen("\"sub\"", "\"Sub\"", 1);
        stage.refused("Sub", &sound(upper), &[700_022]).await;
        let upper = claims.replacen("\"iss\"", "\"ISS\"", 1);
        stage.refused("ISS", &sound(upper), &[90_014]).await;
        // Large and odd where nobody looks: either answer, in time.
        for unread in
            [format!("\"x\":{}", "9".repeat(9000)), "\"x\":1e400".into(), "\"x\":\"\\ud800\"".into()]
        {
            let status = stage.send(&sound(more(&unread))).await.status;
            assert!(matches!(status, 200 | 400), "{unread:.20}: {status}");
        }
    });
}

/// The part with a bit set that the alphabet has room for and no byte uses.
fn loose(part: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    assert_ne!(part.len() % 4, 0, "no unused bits");
    let (start, last) = part.split_at(part.len() - 1);
    let value = ALPHABET.iter().position(|letter| *letter == last.as_bytes()[0]).unwrap();
    format!("{start}{}", char::from(ALPHABET[value | 1]))
}

#[test]
fn j_09_base64url() {
    on_stage(async |stage: &'static Stage| {
        // Spaces make both texts end in the middle of a group of three bytes.
        let ragged = |text: String| if text.len().is_multiple_of(3) { format!("{text} ") } else { text };
        let (header, claims) = (ragged(stage.header().to_string()), ragged(stage.claims().to_string()));
        let good = stage.sound(&header, &claims);
        stage.granted("ragged", &good).await;
        let parts: Vec<&str> = good.split('.').collect();
        let [header, claims, signature] = parts[..] else { unreachable!() };
        // What is changed in front of the signature is signed as it is changed.
        let signed = |header: &str, claims: &str| stage.signed(&format!("{header}.{claims}"));
        let padded = |part: &str| format!("{part}{}", &"==="[..(4 - part.len() % 4) % 4]);
        let plain = json!({ "alg": "RS256", "kid": "rsa", "x": "???>>>" }).to_string();
        assert!(STANDARD.encode(&plain).contains(['+', '/']));
        let in_the_middle = |part: &str, what: &str| format!("{}{what}{}", &part[..8], &part[8..]);
        let mut cases = vec![
            named("padded header", signed(&padded(header), claims)),
            named("padded claims", signed(header, &padded(claims))),
            named("padded signature", format!("{header}.{claims}.{}", padded(signature))),
            named("= behind", format!("{good}=")),
            named("plain alphabet", signed(STANDARD.encode(&plain).trim_end_matches('='), claims)),
            named("loose header", signed(&loose(header), claims)),
            named("loose claims", signed(header, &loose(claims))),
            named("loose signature", format!("{header}.{claims}.{}", loose(signature))),
            named("one letter too many", format!("{good}AAA")),
        ];
        for what in [" ", "\n", "\r\n", "!", "\u{0}", "%2E", "\u{e9}"] {
            cases.push(named("inside the header", signed(&in_the_middle(header, what), claims)));
            cases.push(named("inside the claims", signed(header, &in_the_middle(claims, what))));
            cases.push(named(
                "inside the signature",
                format!("{header}.{claims}.{}", in_the_middle(signature, what)),
            ));
        }
        stage.all_refused(&[FORM], &cases[..8]).await;
        // Four more letters are four more letters of a signature: well formed, and too long.
        stage.all_refused(&[FORM, SIGNATURE], &cases[8..9]).await;
        stage.all_refused(&[FORM], &cases[9..]).await;
    });
}

#[test]
fn j_10_signature_bytes() {
    on_stage(async |stage: &'static Stage| {
        let good = stage.sound(stage.header(), stage.claims());
        let (message, text) = good.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(text).unwrap();
        let modulus = URL_SAFE_NO_PAD.decode(Keys::rsa_jwk(&stage.keys.rsa)["n"].as_str().unwrap()).unwrap();
        // s + n, one byte longer where it has to be.
        let mut sum = [&[0][..], &signature].concat();
        let mut carry = 0;
        for (digit, add) in sum.iter_mut().rev().zip(modulus.iter().rev().chain([&0])) {
            let value = u16::from(*digit) + u16::from(*add) + carry;
            (*digit, carry) = (value.to_le_bytes()[0], value >> 8);
        }
        let flipped = |at: usize| {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            changed
        };
        let cases = [
            vec![],
            vec![0],
            signature[1..].to_vec(),
            signature[..255].to_vec(),
            [&[0][..], &signature].concat(),
            [&signature[..], &[0]].concat(),
            flipped(0),
            flipped(128),
            flipped(255),
            vec![0; 256],
            vec![0xff; 256],
            modulus.clone(),
            if sum[0] == 0 { sum[1..].to_vec() } else { sum },
            [&signature[..], &signature].concat(),
        ];
        for (at, bytes) in cases.iter().enumerate() {
            stage.refused(&format!("RSA {at}"), &format!("{message}.{}", coded(bytes)), &[SIGNATURE]).await;
        }
        // Another text under a sound signature.
        let other = stage.with_claims(|claims| claims["jti"] = json!("other"));
        let other = other.rsplit_once('.').unwrap().0;
        stage.refused("other claims", &format!("{other}.{text}"), &[SIGNATURE]).await;
        let header = stage.message(json!({ "kid": "rsa", "alg": "RS256" }), stage.claims());
        stage.refused("other header", &format!("{header}.{text}"), &[SIGNATURE]).await;
    });
}

#[test]
fn j_10_signature_bytes_of_curves() {
    // The order of P-256.
    const ORDER: [u64; 4] =
        [0xffff_ffff_0000_0000, 0xffff_ffff_ffff_ffff, 0xbce6_faad_a717_9e84, 0xf3b9_cac2_fc63_2551];
    on_stage(async |stage: &'static Stage| {
        let order: Vec<u8> = ORDER.iter().flat_map(|word| word.to_be_bytes()).collect();
        let message = stage.message(json!({ "alg": "ES256", "kid": "p256" }), stage.claims());
        let signature = Keys::elliptic(&stage.keys.p256, &message);
        stage.granted("ES256", &format!("{message}.{}", coded(&signature))).await;
        let (r, s) = signature.split_at(32);
        let zero = [0; 32];
        for (name, bytes) in [
            ("r = s = 0", [zero, zero].concat()),
            ("r = 0", [&zero, s].concat()),
            ("s = 0", [r, &zero].concat()),
            ("r = s = n", [&order[..], &order].concat()),
            ("63", signature[..63].to_vec()),
            ("65", [&signature[..], &[0]].concat()),
            ("65, in front", [&[0][..], &signature].concat()),
            ("DER", Keys::elliptic(&stage.keys.p256_der, &message)),
            ("nothing", vec![]),
            ("s, r", [s, r].concat()),
        ] {
            stage.refused(name, &format!("{message}.{}", coded(bytes)), &[SIGNATURE]).await;
        }
        // n - s is as sound as s: nothing may hang on the text of a signature, and nothing does.
        let mut twin = order.clone();
        let mut borrow = 0_i16;
        for (digit, less) in twin.iter_mut().rev().zip(s.iter().rev()) {
            let value = i16::from(*digit) - i16::from(*less) - borrow;
            borrow = i16::from(value < 0);
            *digit = value.to_le_bytes()[0];
        }
        let status = stage.send(&format!("{message}.{}", coded([r, &twin].concat()))).await.status;
        assert!(matches!(status, 200 | 401), "{status}");

        let message = stage.message(json!({ "alg": "EdDSA", "kid": "ed25519" }), stage.claims());
        let signature = stage.keys.ed25519.sign(message.as_bytes()).as_ref().to_vec();
        stage.granted("EdDSA", &format!("{message}.{}", coded(&signature))).await;
        for bytes in [vec![0; 64], [&signature[..32], &zero].concat(), [&zero, &signature[32..]].concat()] {
            stage.refused("EdDSA", &format!("{message}.{}", coded(bytes)), &[SIGNATURE]).await;
        }
    });
}

/// Blocks that are wrong inside are among Wycheproof's vectors (`domain/vectors.rs`); these are sound by another rule.
#[test]
fn j_11_blocks_of_another_digest_or_padding() {
    on_stage(async |stage: &'static Stage| {
        for key in ["rsa", "any"] {
            for signed_as in ["RS384", "RS512", "PS256"] {
                let message = stage.message(json!({ "alg": "RS256", "kid": key }), stage.claims());
                let signature = coded(Keys::rsa_signature(&stage.keys.rsa, signed_as, &message));
                stage.refused(signed_as, &format!("{message}.{signature}"), &[SIGNATURE]).await;
            }
        }
    });
}

#[test]
fn j_12_sizes() {
    on_stage(async |stage: &'static Stage| {
        let padded = |size: usize| stage.with_claims(|claims| claims["padding"] = json!("x".repeat(size)));
        stage.granted("6 KB", &padded(6 << 10)).await;
        stage.refused("20 KB", &padded(20 << 10), &[FORM]).await;
        for size in [65 << 10, 256 << 10] {
            stage.refused("claims", &padded(size), &[TOO_LARGE]).await;
            let header = stage.with_header(|header| header["padding"] = json!("x".repeat(size)));
            stage.refused("header", &header, &[TOO_LARGE]).await;
            let good = stage.sound(stage.header(), stage.claims());
            stage.refused("signature", &format!("{good}{}", "A".repeat(size)), &[TOO_LARGE]).await;
        }
    });
}
