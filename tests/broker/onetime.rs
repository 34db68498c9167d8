//! Assertions that are good for one token only, and limits of credentials: each test first shows what is granted.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::*;

const ONCE: &str = "repo:my--org/payments-service:environment:once";
const SHORT: &str = "repo:my--org/payments-service:environment:short";
const DIALECTS: [Dialect; 3] = [Dialect::V2, Dialect::V1, Dialect::Rfc8693];
const ENTRIES: &str = "ficus_one_time_entries";

/// Every assertion of the emulated GitHub is good for one token.
fn once() -> Plan {
    Plan { issuer: "jti_once = true\n".to_owned(), ..Plan::default() }
}

impl World {
    /// An honest token after one change of its claims.
    fn changed(&self, change: impl FnOnce(&mut Value)) -> String {
        let (header, mut claims) = self.honest();
        change(&mut claims);
        self.sign(&header, &claims)
    }
}

#[track_caller]
fn replayed(reply: &Reply, dialect: Dialect) {
    match dialect {
        Dialect::Rfc8693 => reply.refused(400, "invalid_request", 50_013),
        _ => reply.refused(401, "invalid_client", 50_013),
    };
}

#[test]
fn one_assertion_gets_one_token_whatever_the_dialect_and_the_resource() {
    own(once(), |world| async move {
        for first in DIALECTS {
            let form = world.request();
            form.send_in(&world, first).await.token();
            for dialect in DIALECTS {
                replayed(&form.send_in(&world, dialect).await, dialect);
                let other = form.clone().with("scope", "api://orders/.default");
                replayed(&other.send_in(&world, dialect).await, dialect);
            }
        }
        assert_eq!(world.metric(ENTRIES).await, 3.0);

        let reply =
            world.request_with(&world.changed(|claims| claims["jti"] = json!("same"))).send(&world).await;
        reply.token();
        let again =
            world.request_with(&world.changed(|claims| claims["jti"] = json!("same"))).send(&world).await;
        let line = world.record(&again.trace()).await;
        assert_eq!(line["status"]["reason"], "replayed", "{line}");
        assert_eq!(
            (&line["verified"], &line["federatedCredentialName"]),
            (&json!(true), &json!("main-branch"))
        );
    });
}

#[test]
fn a_credential_may_demand_it_alone() {
    shared(|world| async move {
        let form = world.request();
        form.send(world).await.token();
        form.send(world).await.token();
        let form = world.request_with(&world.changed(|claims| claims["sub"] = json!(ONCE)));
        form.send(world).await.token();
        replayed(&form.send(world).await, Dialect::V2);
    });
}

#[test]
fn the_id_decides_and_without_one_the_whole_text() {
    own(once(), |world| async move {
        let send = async |change: fn(&mut Value)| {
            let assertion = world.changed(change);
            world.request_with(&assertion).send(&world).await
        };
        let absent = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove("jti"));
        send(|claims| claims["jti"] = json!("a")).await.token();
        // Another text under the same id is the same assertion.
        let other = send(|claims| {
            claims["jti"] = json!("a");
            claims["run_id"] = json!("other");
        });
        replayed(&other.await, Dialect::V2);
        send(|claims| claims["jti"] = json!("b")).await.token();
        send(absent).await.token();
        replayed(&send(absent).await, Dialect::V2);
        // An empty id is none.
        send(|claims| claims["jti"] = json!("")).await.token();
        let other = send(|claims| {
            claims["jti"] = json!("");
            claims["run_id"] = json!("other");
        });
        other.await.token();
    });
}

#[test]
fn of_fifty_at_once_one_gets_the_token() {
    own(once(), |world| async move {
        // Keys first: they shall all come to the same point together.
        world.request().send(&world).await.token();
        let form = world.request();
        let mut all = JoinSet::new();
        for at in 0..50 {
            let (world, form) = (Arc::clone(&world), form.clone());
            all.spawn(async move { (DIALECTS[at % 3], form.send_in(&world, DIALECTS[at % 3]).await) });
        }
        let (granted, refused): (Vec<_>, Vec<_>) =
            all.join_all().await.into_iter().partition(|(_, reply)| reply.status == 200);
        assert_eq!(granted.len(), 1);
        refused.iter().for_each(|(dialect, reply)| replayed(reply, *dialect));
        assert_eq!(world.metric(ENTRIES).await, 2.0);
    });
}

#[test]
fn a_request_that_gets_no_token_uses_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let settings = format!("[audit]\npath = \"{}\"\n", path.display());
    own(Plan { settings, ..once() }, |world| async move {
        let form = world.request();
        let absent = form.clone().with("scope", "https://absent.example/.default");
        absent.send(&world).await.refused(401, "invalid_resource", 500_011);
        for _ in 0..3 {
            form.send(&world).await.refused(503, "temporarily_unavailable", 90_033);
        }
        assert_eq!(world.metric(ENTRIES).await, 0.0);
        std::fs::remove_file(&path).unwrap();
        form.send(&world).await.token();
        replayed(&form.send(&world).await, Dialect::V2);
        // What is refused for another cause is refused for that.
        absent.send(&world).await.refused(401, "invalid_resource", 500_011);
    });
}

#[test]
fn a_full_table_refuses_and_forgets_none_that_could_come_again() {
    let settings = "[limits]\none_time_entries = 2\n".to_owned();
    own(Plan { settings, ..once() }, |world| async move {
        let used = [world.request(), world.request()];
        for form in &used {
            form.send(&world).await.token();
        }
        let form = world.request();
        for dialect in DIALECTS {
            let reply = form.send_in(&world, dialect).await;
            reply.refused(503, "temporarily_unavailable", 90_024);
            assert_eq!(reply.header("retry-after"), "30");
        }
        for form in &used {
            replayed(&form.send(&world).await, Dialect::V2);
        }
        // When those have expired there is room, for who is not refused for their age.
        world.clock.set(world.clock.now() + 24 * 3600);
        form.send(&world).await.refused(401, "invalid_client", 700_024);
        world.request().send(&world).await.token();
    });
}

#[test]
fn it_is_remembered_for_as_long_as_it_could_be_accepted() {
    own(once(), |world| async move {
        let now = world.clock.now();
        let form = world.request_with(&world.changed(|claims| claims["exp"] = json!(now + 300)));
        form.send(&world).await.token();
        world.clock.set(now + 359);
        // Others make it forget what it may.
        world.request().send(&world).await.token();
        replayed(&form.send(&world).await, Dialect::V2);
        world.clock.set(now + 360);
        form.send(&world).await.refused(401, "invalid_client", 700_024);
        // Long forgotten; a clock that is set back does not bring it back.
        world.clock.set(now + 3600);
        for _ in 0..200 {
            world.request().send(&world).await.token();
        }
        world.clock.set(now);
        replayed(&form.send(&world).await, Dialect::V2);
    });
}

#[test]
fn a_reload_forgets_nothing() {
    own(once(), |world| async move {
        let form = world.request();
        form.send(&world).await.token();
        let records = world.records().replace("id-bare", "id-other");
        world.live("etc/directory/records.toml", &records).await;
        replayed(&form.send(&world).await, Dialect::V2);
        world.request().send(&world).await.token();
    });
}

#[test]
fn a_credential_may_want_younger_assertions_and_tells_only_who_fits() {
    shared(|world| async move {
        let now = world.clock.now();
        let aged = |sub: &str, aud: &str, lifetime: i64| {
            let assertion = world.changed(|claims| {
                claims["sub"] = json!(sub);
                claims["aud"] = json!(aud);
                claims["iat"] = json!(now);
                claims["exp"] = json!(now + lifetime);
            });
            world.request_with(&assertion)
        };
        aged(SHORT, AUDIENCE, 600).send(world).await.token();
        let reply = aged(SHORT, AUDIENCE, 601).send(world).await;
        reply.refused(401, "invalid_client", 70_023);
        let line = world.record(&reply.trace()).await;
        assert_eq!(line["federatedCredentialName"], "short-lived", "{line}");
        // Others of the same issuer and identity are not held to it.
        aged("repo:my--org/payments-service:ref:refs/heads/main", AUDIENCE, 601).send(world).await.token();
        // Nor does who does not fit learn of it.
        aged(SHORT, "api://other", 601).send(world).await.refused(401, "invalid_client", 700_212);
        // It is told before whether a resource exists.
        let absent = aged(SHORT, AUDIENCE, 601).with("scope", "https://absent.example/.default");
        absent.send(world).await.refused(401, "invalid_client", 70_023);
        // The issuer's own limit holds beside it.
        aged(SHORT, AUDIENCE, 25 * 3600 + 1).send(world).await.refused(401, "invalid_client", 70_023);
    });
}
