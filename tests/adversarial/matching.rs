//! M: issuer, subject and audience are equal to a record's, or nothing is granted; soundly signed by the record's issuer.

use ficus::emulator::Document;
use serde_json::{Value, json};

use crate::stage::{ISSUER, SUBJECT, Stage, on_stage};
use crate::support::*;

/// A text as people, files and lenient matchers confuse it with others.
fn one_off(honest: &str) -> Vec<(&'static str, String)> {
    let last = honest.len() - 1;
    let (front, end) = honest.split_at(last);
    let first_letter = |change: fn(char) -> String| {
        let at = honest.rfind(|letter: char| letter.is_ascii_lowercase()).unwrap();
        format!("{}{}{}", &honest[..at], change(honest[at..].chars().next().unwrap()), &honest[at + 1..])
    };
    let swapped = |from: &str, to: &str| honest.replacen(from, to, 1);
    let mut changed = vec![
        ("upper case", honest.to_uppercase()),
        ("lower case", honest.to_lowercase()),
        ("one letter's case", first_letter(|letter| letter.to_ascii_uppercase().to_string())),
        ("slash behind", format!("{honest}/")),
        ("space behind", format!("{honest} ")),
        ("newline behind", format!("{honest}\n")),
        ("CR LF behind", format!("{honest}\r\n")),
        ("tab behind", format!("{honest}\t")),
        ("NUL behind", format!("{honest}\0")),
        ("NUL and more behind", format!("{honest}\0.example")),
        ("no-break space behind", format!("{honest}\u{a0}")),
        ("space in front", format!(" {honest}")),
        ("newline in front", format!("\n{honest}")),
        ("byte order mark in front", format!("\u{feff}{honest}")),
        ("prefix", front.to_owned()),
        ("suffix", honest[1..].to_owned()),
        ("one more behind", format!("{honest}{end}")),
        ("one more in front", format!("{}{honest}", &honest[..1])),
        ("another last one", format!("{front}_")),
        ("twice", format!("{honest}{honest}")),
        ("twice in a list", format!("{honest},{honest}")),
        ("quoted", format!("\"{honest}\"")),
        ("percent-encoded letter", first_letter(|letter| format!("%{:02x}", letter as u32))),
        ("percent-encoded colon", swapped(":", "%3A")),
        ("full-width colon", swapped(":", "\u{ff1a}")),
        ("homoglyph", swapped("e", "\u{435}")),
        ("homoglyph", swapped("a", "\u{430}")),
        ("long s", swapped("s", "\u{17f}")),
        ("full-width letter", swapped("e", "\u{ff45}")),
        ("combining mark", swapped("e", "e\u{301}")),
        ("zero-width space inside", format!("{front}\u{200b}{end}")),
        ("zero-width joiner behind", format!("{honest}\u{200d}")),
        ("soft hyphen inside", format!("{front}\u{ad}{end}")),
        ("writing direction in front", format!("\u{202e}{honest}")),
        ("star", "*".into()),
        ("star behind", format!("{honest}*")),
        ("star for the end", format!("{}*", &honest[..honest.len() / 2])),
        ("pattern", ".*".into()),
        ("anchored pattern", format!("^{honest}$")),
        ("one of any kind", format!("{front}?")),
        ("SQL pattern", format!("{}%", &honest[..honest.len() / 2])),
    ];
    changed.retain(|(_, text)| text != honest);
    assert!(changed.len() >= 32);
    changed
}

/// Everything that has to do with fetching, as the broker counts it.
async fn fetches(stage: &Stage) -> Vec<String> {
    let (_, text) = stage.world.ops("/metrics").await;
    text.lines().filter(|line| line.starts_with("ficus_issuer_fetches_total")).map(str::to_owned).collect()
}

async fn none_matches(stage: &Stage, claim: &str, honest: &str, code: u32) {
    let before = fetches(stage).await;
    for (what, text) in one_off(honest) {
        let token = stage.with_claims(|claims| claims[claim] = json!(text));
        stage.refused(&format!("{claim}: {what}"), &token, &[code]).await;
    }
    assert_eq!(fetches(stage).await, before);
}

#[test]
fn m_01_an_issuer_that_is_one_character_off() {
    on_stage(async |stage: &'static Stage| none_matches(stage, "iss", ISSUER, 700_211).await);
}

#[test]
fn m_02_a_subject_that_is_one_character_off() {
    on_stage(async |stage: &'static Stage| none_matches(stage, "sub", SUBJECT, 700_213).await);
}

#[test]
fn m_03_an_audience_that_is_one_character_off() {
    on_stage(async |stage: &'static Stage| {
        none_matches(stage, "aud", AUDIENCE, 700_212).await;
        // The same inside the one list that may stand for a text.
        for (what, text) in one_off(AUDIENCE) {
            let token = stage.with_claims(|claims| claims["aud"] = json!([text]));
            stage.refused(&format!("in a list: {what}"), &token, &[700_212]).await;
        }
    });
}

/// Other ways to write `https://host` or `https://host:port`, which URL libraries take for the same, or for a part of it.
fn spelled(host: &str, port: Option<u16>) -> Vec<(&'static str, String)> {
    let colon = port.map(|port| format!(":{port}")).unwrap_or_default();
    let authority = format!("{host}{colon}");
    let capital = format!("{}{}", host[..1].to_uppercase(), &host[1..]);
    vec![
        ("host in upper case", format!("https://{}{colon}", host.to_uppercase())),
        ("one letter of the host in upper case", format!("https://{capital}{colon}")),
        ("scheme in upper case", format!("HTTPS://{authority}")),
        ("http", format!("http://{authority}")),
        ("another scheme", format!("ftp://{authority}")),
        ("no scheme", format!("//{authority}")),
        ("no scheme, no slashes", authority.clone()),
        ("one slash", format!("https:/{authority}")),
        ("backslashes", format!("https:\\\\{authority}")),
        ("dot behind the host", format!("https://{host}.{colon}")),
        ("user name of another host", format!("https://{authority}@evil.example")),
        ("with a user name", format!("https://user@{authority}")),
        ("with an empty user name", format!("https://@{authority}")),
        ("slash behind", format!("https://{authority}/")),
        ("double slash behind", format!("https://{authority}//")),
        ("dot segment", format!("https://{authority}/.")),
        ("dot segments", format!("https://{authority}/x/..")),
        ("empty query", format!("https://{authority}?")),
        ("query", format!("https://{authority}?a=b")),
        ("empty fragment", format!("https://{authority}#")),
        ("fragment", format!("https://{authority}#a")),
        ("percent-encoded host", format!("https://%{:02x}{}{colon}", host.as_bytes()[0], &host[1..])),
        ("tab in the host", format!("https://{}\t{}{colon}", &host[..1], &host[1..])),
        ("soft hyphen in the host", format!("https://{}\u{ad}{}{colon}", &host[..1], &host[1..])),
        ("punycode of itself", format!("https://xn--{host}-{colon}")),
        ("its discovery document", format!("https://{authority}/.well-known/openid-configuration")),
        ("the word http", "http".to_owned()),
    ]
}

#[test]
fn m_04_an_issuer_spelled_another_way() {
    on_stage(async |stage: &'static Stage| {
        let before = fetches(stage).await;
        let host = ISSUER.strip_prefix("https://").unwrap();
        let mut cases = spelled(host, None);
        cases.extend([
            ("default port", format!("{ISSUER}:443")),
            ("default port with a zero", format!("{ISSUER}:0443")),
            ("empty port", format!("{ISSUER}:")),
            ("full-width dot", ISSUER.replace('.', "\u{3002}")),
        ]);
        for (what, text) in cases {
            let token = stage.with_claims(|claims| claims["iss"] = json!(text));
            stage.refused(what, &token, &[700_211]).await;
        }
        assert_eq!(fetches(stage).await, before);
    });
}

/// The same of an issuer that listens on this machine, where every spelling would reach it.
#[test]
fn m_04_an_issuer_on_loopback_spelled_as_an_address() {
    own(Plan::default(), async |world| {
        let issuer = world.emulator.github().issuer();
        let (host, port) = issuer.strip_prefix("https://").unwrap().rsplit_once(':').unwrap();
        let mut cases = spelled(host, Some(port.parse().unwrap()));
        let addresses = [
            "127.0.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "127.1",
            "0177.0.0.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "\u{ff11}27.0.0.1",
            "localhost.localdomain",
            "0",
        ];
        cases.extend(addresses.map(|address| ("address", format!("https://{address}:{port}"))));
        cases.push(("no port", format!("https://{host}")));
        cases.push(("port with a zero", format!("https://{host}:0{port}")));

        let github = world.emulator.github();
        let asked = || [Document::Discovery, Document::Jwks].map(|document| github.requests(document));
        let (header, claims) = world.honest();
        let send = async |claims: &Value| world.request_with(&world.sign(&header, claims)).send(&world).await;
        send(&claims).await.token();
        let before = asked();
        for (what, text) in cases {
            let mut other = claims.clone();
            other["iss"] = json!(text);
            let reply = send(&other).await;
            assert_eq!(reply.body["error_codes"], json!([700_211]), "{what}: {:?}", reply.body);
            reply.refused(401, "invalid_client", 700_211);
            send(&claims).await.token();
        }
        assert_eq!(asked(), before);
    });
}
