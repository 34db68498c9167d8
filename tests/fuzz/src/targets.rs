//! What is fuzzed: the readers of everything that strangers write. Each takes any bytes, must neither panic nor recurse
//! without end, and agrees with an independent reading wherever it accepts. What it gives back is a name for how the input
//! was taken, by which the fuzzer knows inputs of a new kind.

use std::sync::{Arc, LazyLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ficus::directory::{Content, Surroundings, TenantEntry, compile};
use ficus::document::Problems;
use ficus::domain::assertion::{Compact, UnverifiedAssertion};
use ficus::domain::ids::Guid;
use ficus::domain::json::Members;
use ficus::domain::keyset::KeySet;
use ficus::domain::policy::IssuerPolicy;
use ficus::wire::{Endpoint, TokenCall};
use serde_json::Value;

/// A reader, the folder of its seeds, and words that inputs are made of.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]) -> String,
    /// Only the fuzzer needs them.
    #[allow(dead_code, reason = "tests replay inputs and make none")]
    pub words: &'static [&'static str],
}

pub const ALL: [Target; 5] = [
    Target {
        name: "assertion",
        run: assertion,
        words: &[
            "\"alg\":",
            "\"kid\":",
            "\"typ\":",
            "\"crit\":",
            "\"b64\":",
            "\"iss\":",
            "\"sub\":",
            "\"aud\":",
            "\"exp\":",
            "\"iat\":",
            "\"nbf\":",
            "\"jti\":",
            "\"JWT\"",
            "\"RS256\"",
            "null",
            "[]",
            "{}",
            "1e400",
            "-1",
            "\\u0073",
            "\"\"",
            ".",
            "=",
            "9007199254740993",
        ],
    },
    Target {
        name: "jwks",
        run: jwks,
        words: &[
            "\"keys\":",
            "\"kty\":",
            "\"RSA\"",
            "\"EC\"",
            "\"OKP\"",
            "\"oct\"",
            "\"crv\":",
            "\"P-256\"",
            "\"Ed25519\"",
            "\"n\":",
            "\"e\":",
            "\"x\":",
            "\"y\":",
            "\"d\":",
            "\"use\":",
            "\"enc\"",
            "\"key_ops\":",
            "\"verify\"",
            "\"alg\":",
            "\"kid\":",
            "\"AQAB\"",
            "\"AQ\"",
            "\"\"",
            "null",
            "[]",
            "{}",
        ],
    },
    Target {
        name: "form",
        run: form,
        words: &[
            "&",
            "=",
            "%",
            "%00",
            "%26",
            "%3D",
            "%C3%A9",
            "+",
            ";",
            "grant_type=",
            "client_id=",
            "scope=",
            "client_assertion=",
            "client_assertion_type=",
            "subject_token=",
            "audience=",
            "resource=",
            "client_secret=",
            "actor_token=",
            "client_credentials",
            ".default",
            "%2F.default",
        ],
    },
    Target {
        name: "directory",
        run: directory,
        words: &[
            "[[identity]]\n",
            "[[identity.federated_credential]]\n",
            "[[resource]]\n",
            "[[role_assignment]]\n",
            "name = ",
            "issuer = ",
            "subject = ",
            "audiences = [",
            "enabled = false\n",
            "client_id = ",
            "tenant = ",
            "scope = ",
            "\"",
            "'''",
            "\"\"\"",
            "[",
            "]",
            "{",
            "}",
            "1979-05-27",
            "0x7f",
            "nan",
            "\\u00e9",
            "#",
            "a.b.c = 1\n",
            "_",
        ],
    },
    Target {
        name: "discovery",
        run: discovery,
        words: &[
            "\"issuer\":",
            "\"jwks_uri\":",
            "\"https://",
            "null",
            "[]",
            "{}",
            "\\u0069",
            "\\ud800",
            "\u{feff}",
            "1e400",
            "@",
            "#",
            "?",
        ],
    },
];

/// When the seeds' token is valid.
const NOW: i64 = 1_790_000_100;
/// The issuer of the seeds.
const ISSUER: &str = "https://issuer.example";
/// The only token that was ever signed with the seeds' key, whose private half is gone.
const SOUND: &str = include_str!("../seeds/assertion/sound");
static KEYS: LazyLock<Arc<KeySet>> = LazyLock::new(|| {
    Arc::new(KeySet::parse(include_bytes!("../seeds/jwks/own")).expect("the seed is a key set").0)
});

fn assertion(bytes: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(bytes) else { return "not text".to_owned() };
    let read = match Compact::new(text, 16 << 10).and_then(UnverifiedAssertion::parse) {
        Ok(read) => read,
        Err(refusal) => return format!("{:?} {}", refusal.reason(), refusal_text(&refusal)),
    };
    let parts: Vec<Vec<u8>> = text
        .split('.')
        .map(|part| {
            let bytes = URL_SAFE_NO_PAD.decode(part).expect("what is accepted is base64url");
            assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), part, "of two spellings one is refused");
            bytes
        })
        .collect();
    let [header, claims, _] = &parts[..] else { panic!("{} parts", parts.len()) };
    let said = read.hearsay();
    // Numbers that no reader can hold are let through where nobody looks.
    if let (Ok(header), Ok(claims)) =
        (serde_json::from_slice::<Value>(header), serde_json::from_slice::<Value>(claims))
    {
        assert!(header.get("crit").is_none() && header.get("b64").is_none());
        assert_eq!(header["alg"].as_str().unwrap_or_default(), said.algorithm);
        for (name, said) in [("iss", &said.issuer), ("sub", &said.subject), ("jti", &said.jwt_id)] {
            assert_eq!(
                claims[name].as_str().filter(|text| !text.is_empty() || name == "jti"),
                said.as_deref()
            );
        }
        for (name, said) in [("exp", said.expires), ("iat", said.issued_at), ("nbf", said.not_before)] {
            assert_eq!(claims.get(name).is_some(), said.is_some(), "{name} is not taken for absent");
        }
    }
    let policy = IssuerPolicy::standard(ISSUER);
    let verdict = read.admit(&policy).and_then(|candidate| candidate.verify(&KEYS, None, NOW).map(|_| ()));
    match verdict {
        Ok(()) => {
            assert_eq!(text, SOUND, "a forgery");
            "verified".to_owned()
        }
        Err(refusal) => format!("{:?}", refusal.reason()),
    }
}

/// Refusals of one reason differ in their text, where it is ours.
fn refusal_text(refusal: &ficus::domain::refusal::Refusal) -> &'static str {
    match refusal {
        ficus::domain::refusal::Refusal::AssertionMalformed(text) => text,
        _ => "",
    }
}

fn jwks(bytes: &[u8]) -> String {
    let (set, skipped) = match KeySet::parse(bytes) {
        Ok(read) => read,
        Err(unusable) => return format!("{unusable:?}"),
    };
    assert!(!set.is_empty() && set.len() <= 256);
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let published = value["keys"].as_array().map_or(0, Vec::len);
        assert_eq!(set.len() + skipped.len(), published, "every key is used or skipped");
    }
    let kinds: std::collections::BTreeSet<String> =
        skipped.iter().map(|skipped| format!("{skipped:?}")).collect();
    format!("{} {kinds:?}", set.len())
}

fn form(bytes: &[u8]) -> String {
    let request = http::Request::post("/").header("content-type", "application/x-www-form-urlencoded");
    let (parts, ()) = request.body(()).expect("it is a constant").into_parts();
    [Endpoint::V2, Endpoint::V1]
        .map(|endpoint| {
            let call = TokenCall::read(endpoint, "contoso.example", &parts, bytes);
            match &call.request {
                Ok(request) => {
                    let fields: Vec<_> = url::form_urlencoded::parse(bytes).collect();
                    for (name, _) in &fields {
                        let times = fields.iter().filter(|(other, _)| other == name).count();
                        assert!(
                            times == 1 || (times == 2 && name == "audience"),
                            "{name} occurs {times} times"
                        );
                    }
                    let assertion = fields.iter().find(|(name, value)| {
                        matches!(&**name, "client_assertion" | "subject_token") && !value.is_empty()
                    });
                    let (_, sent) = assertion.expect("nothing is asked without an assertion");
                    assert_eq!(sent.trim_matches([' ', '\t', '\r', '\n']), &*request.assertion);
                    assert!(!fields.iter().any(|(name, value)| {
                        matches!(&**name, "client_secret" | "actor_token") && !value.is_empty()
                    }));
                    format!("{:?}", call.dialect())
                }
                Err(refusal) => format!("{:?} {:?}", call.dialect(), refusal.reason()),
            }
        })
        .join(", ")
}

fn directory(bytes: &[u8]) -> String {
    // Files that are no text are refused before they are parsed.
    let Ok(text) = std::str::from_utf8(bytes) else { return "not text".to_owned() };
    let content = Content::read("fuzz.toml", text);
    let tenant = Guid::parse("11111111-1111-1111-1111-111111111111").expect("it is a constant");
    let tenants =
        vec![TenantEntry::standard(tenant, Some("contoso.example".to_owned()), "https://localhost:8443")];
    let problems = Problems::default();
    let snapshot = compile([&content], &Surroundings { tenants, ..Surroundings::default() }, &problems);
    assert_eq!(snapshot.digest().to_string().len(), 64);
    let lines = text.lines().count().max(1) + 1;
    let problems = problems.into_vec();
    for problem in &problems {
        assert!(problem.line.is_none_or(|line| (1..=lines).contains(&line)), "{problem}");
    }
    let kinds: std::collections::BTreeSet<String> = problems
        .iter()
        // What is quoted is the input's.
        .map(|problem| {
            problem.message.split(['"', '`', '\'']).next().unwrap_or_default().chars().take(24).collect()
        })
        .collect();
    format!("{kinds:?}")
}

/// The two members that `trust` reads of the document, as it reads them.
fn discovery(bytes: &[u8]) -> String {
    let members = match Members::read(bytes) {
        Ok(members) => members,
        Err(fault) => return format!("{fault:?}"),
    };
    let value = serde_json::from_slice::<Value>(bytes).ok();
    ["issuer", "jwks_uri"]
        .map(|name| {
            let read = members.text(name);
            if let Some(value) = &value {
                let expected = value.get(name).map(|value| value.as_str());
                match &read {
                    Ok(text) => assert_eq!(text.as_deref(), expected.flatten()),
                    Err(_) => assert_eq!(expected, Some(None), "a string is read"),
                }
            }
            format!("{:?}", read.map(|text| text.is_some()))
        })
        .join(", ")
}
