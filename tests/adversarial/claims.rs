//! C: claims, signed by the right key of the right issuer.

use serde_json::{Value, json};

use crate::stage::{ISSUER, SUBJECT, Stage, on_stage};
use crate::support::{AUDIENCE, TENANT};

/// Not a JWT that we read; a claim that is missing; a credential of no such issuer.
const FORM: u32 = 50_027;
const ABSENT: u32 = 90_014;
const TIME: u32 = 700_024;

fn set(stage: &Stage, name: &str, value: Value) -> String {
    stage.with_claims(|claims| claims[name] = value)
}

#[test]
fn c_01_claims_missing_and_mistyped() {
    on_stage(async |stage: &'static Stage| {
        for (name, code) in
            [("iss", ABSENT), ("sub", 700_022), ("aud", ABSENT), ("exp", ABSENT), ("iat", ABSENT)]
        {
            let without = stage.with_claims(|claims| drop(claims.as_object_mut().unwrap().remove(name)));
            stage.refused(name, &without, &[code]).await;
            for mistyped in [json!(null), json!({}), json!(true)] {
                stage.refused(name, &set(stage, name, mistyped), &[FORM]).await;
            }
        }
        for (name, code) in [("iss", ABSENT), ("sub", 700_022), ("aud", ABSENT)] {
            stage.refused(name, &set(stage, name, json!("")), &[code]).await;
            stage.refused(name, &set(stage, name, json!(0)), &[FORM]).await;
        }
        stage.refused("iss in a list", &set(stage, "iss", json!([ISSUER])), &[FORM]).await;
        stage.refused("sub in a list", &set(stage, "sub", json!([SUBJECT])), &[FORM]).await;
    });
}

#[test]
fn c_02_times_of_every_kind() {
    on_stage(async |stage: &'static Stage| {
        let now = stage.world.clock.now();
        for (name, times) in [
            ("exp", &[now - 900, now - 86_400, 0][..]),
            ("nbf", &[now + 900, 1 << 53]),
            ("iat", &[now + 3600]),
        ] {
            for time in times {
                stage.refused(name, &set(stage, name, json!(time)), &[TIME]).await;
            }
        }
        let ten_years = now + 10 * 365 * 86_400;
        stage.refused("exp in ten years", &set(stage, "exp", json!(ten_years)), &[70_023]).await;
        for name in ["exp", "nbf", "iat"] {
            for text in [
                format!("\"{now}\""),
                "\"4102444800\"".into(),
                "\"soon\"".into(),
                "\"2100-01-01T00:00:00Z\"".into(),
                "null".into(),
                "true".into(),
                format!("[{now}]"),
                "{}".into(),
                "-1".into(),
                "1e400".into(),
                "1e309".into(),
                "NaN".into(),
                "18446744073709551616".into(),
                "9".repeat(30),
            ] {
                stage.refused(&format!("{name} {text}"), &stage.with_claim(name, &text), &[FORM]).await;
            }
        }
    });
}

#[test]
fn c_03_audiences() {
    on_stage(async |stage: &'static Stage| {
        let endpoint = stage.world.token_url(TENANT);
        for (value, code) in [
            (json!([]), ABSENT),
            (json!([""]), ABSENT),
            (json!(["api://other"]), 700_212),
            (json!([1]), FORM),
            (json!([AUDIENCE, 1]), FORM),
            (json!([[AUDIENCE]]), FORM),
            (json!(format!("{AUDIENCE},api://other")), 700_212),
            (json!(format!("{AUDIENCE} api://other")), 700_212),
            (json!("aaaaaaaa-0009-4a00-8000-000000000009"), 700_212),
            (json!(endpoint), 700_212),
            (json!([AUDIENCE, "api://other"]), 700_212),
            (json!([AUDIENCE, AUDIENCE]), 700_212),
        ] {
            stage.refused(&value.to_string(), &set(stage, "aud", value.clone()), &[code]).await;
        }
        stage.granted("one in a list", &set(stage, "aud", json!([AUDIENCE]))).await;
    });
}

#[test]
fn c_04_tokens_of_other_kinds() {
    on_stage(async |stage: &'static Stage| {
        for kind in
            ["dpop+jwt", "at+jwt", "logout+jwt", "secevent+jwt", "application/jwt", "JWT\u{0}", "JOSE"]
        {
            let token = stage.with_header(|header| header["typ"] = json!(kind));
            stage.refused(kind, &token, &[5_002_727]).await;
        }
        let mut claims = stage.claims();
        claims["events"] = json!({ "http://schemas.openid.net/event/backchannel-logout": {} });
        let header = json!({ "typ": "logout+jwt", "alg": "RS256", "kid": "rsa" });
        stage.refused("logout", &stage.sound(header, claims), &[5_002_727]).await;
    });
}
