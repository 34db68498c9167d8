//! P-05: the wall clock is set forward, back, and to 1970, while the broker serves.

use serde_json::json;

use crate::support::*;

const HOUR: i64 = 3600;
const YEAR: i64 = 365 * 24 * HOUR;

/// Honest as of now, whatever now is; and recorded under that time.
async fn granted(world: &World, what: &str) {
    let reply = world.request().send(world).await;
    assert_eq!(reply.status, 200, "{what}: {:?}", reply.body);
    let checked = reply.token().split('.').nth(1).unwrap();
    let claims = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, checked).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let now = world.clock.now();
    assert_eq!((&claims["nbf"], &claims["exp"]), (&json!(now - 300), &json!(now + HOUR)), "{what}");
    let stamp = time::OffsetDateTime::from_unix_timestamp(now).unwrap();
    let stamp = stamp.format(&time::format_description::well_known::Rfc3339).unwrap();
    assert_eq!(world.record(&reply.trace()).await["createdDateTime"], json!(stamp), "{what}");
}

#[test]
fn p_05_a_clock_that_is_set_forward_or_back_stops_nothing() {
    own(Plan::default(), async |world| {
        let start = world.clock.now();
        let old = world.assertion();
        granted(&world, "before").await;
        for (what, now) in [
            ("an hour forward", start + HOUR),
            ("as before", start),
            ("an hour back", start - HOUR),
            ("two days back", start - 48 * HOUR),
            ("two days forward", start + 48 * HOUR),
            ("a year forward", start + YEAR),
            ("as before", start),
        ] {
            world.clock.set(now);
            granted(&world, what).await;
            // What was signed at another time is judged by the clock as it is.
            let reply = world.request_with(&old).send(&world).await;
            let valid = now == start;
            assert_eq!(reply.status, if valid { 200 } else { 401 }, "{what}: {:?}", reply.body);
            assert!(valid || reply.body["error_codes"] == json!([700_024]), "{what}: {:?}", reply.body);
            for page in ["/readyz", "/readyz?verbose", "/metrics", "/healthz"] {
                assert_eq!(world.ops(page).await.0, 200, "{what}: {page}");
            }
            let keys = world.get(&format!("/{TENANT}/discovery/v2.0/keys")).await;
            assert_eq!((keys.status, keys.header("cache-control")), (200, "max-age=3600, private"), "{what}");
        }
    });
}

#[test]
fn p_05_before_2020_nothing_is_minted_and_readiness_says_why() {
    own(Plan::default(), async |world| {
        let start = world.clock.now();
        granted(&world, "before").await;
        for (what, now) in [("1970", 0), ("before 1970", -HOUR), ("the last second of 2019", 1_577_836_799)] {
            world.clock.set(now);
            let reply = world.request().send(&world).await;
            reply.refused(503, "temporarily_unavailable", 90_006);
            assert!(!reply.header("retry-after").is_empty());
            assert_eq!(world.record(&reply.trace()).await["status"]["reason"], "clock_unset", "{what}");
            let (status, text) = world.ops("/readyz").await;
            assert_eq!((status, text.contains("before 2020")), (503, true), "{what}: {text}");
            for page in ["/metrics", "/healthz"] {
                assert_eq!(world.ops(page).await.0, 200, "{what}: {page}");
            }
        }
        world.clock.set(start);
        granted(&world, "afterwards").await;
        assert_eq!(world.ops("/readyz").await.0, 200);
    });
}

#[test]
fn p_05_a_self_made_certificate_follows_the_clock() {
    own(Plan::default(), async |world| {
        let (start, life) = (world.clock.now(), 397 * 24 * HOUR);
        let whole = (life - 96 * HOUR) as f64..=life as f64;
        let left = async || world.metric("ficus_tls_certificate_expiry_seconds").await;
        assert!(whole.contains(&left().await));
        // Nearly ended, ended, and not yet valid.
        for now in [start + life - 24 * HOUR, start + 2 * life, start - 48 * HOUR, start] {
            world.clock.set(now);
            eventually("a new certificate", || async { whole.contains(&left().await).then_some(()) }).await;
            // Clients go by the time of this machine: what is shown at another is theirs to refuse.
            if now == start {
                granted(&world, "with it").await;
            }
        }
    });
}
