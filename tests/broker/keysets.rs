//! The life of an issuer's key set: rotation, floods, outages, restarts.

use std::sync::Arc;

use ficus::emulator::{Document, Fault};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::*;

const HOUR: i64 = 3600;

fn fetches(world: &World) -> u64 {
    world.emulator.github().requests(Document::Jwks)
}

/// The issuer publishes these keys instead of its own.
fn publish(world: &World, keys: &[&Value]) {
    let keys = Fault::Body(json!({ "keys": keys }).to_string().into());
    world.emulator.github().set_fault(Document::Jwks, keys);
}

fn outage(world: &World) {
    for document in [Document::Discovery, Document::Jwks] {
        world.emulator.github().set_fault(document, Fault::Status(StatusCode::INTERNAL_SERVER_ERROR));
    }
}

/// The honest request under the first key.
fn first(world: &World) -> Form {
    let (header, claims) = world.honest();
    world.request_with(&world.sign(&header, &claims))
}

/// The honest token under the second key.
fn second(world: &World) -> String {
    let key = &world.emulator.github().keys()[1];
    key.sign(&key.header(), &world.honest().1)
}

fn pass(world: &World, seconds: i64) {
    world.clock.set(world.clock.now() + seconds);
}

#[test]
fn a_new_key_is_accepted_at_once_and_a_vanished_one_refused_with_the_next_set() {
    own(Plan::default(), |world| async move {
        let github = world.emulator.github();
        publish(&world, &[github.keys()[0].public_jwk()]);
        first(&world).send(&world).await.token();
        assert_eq!(fetches(&world), 1);
        // Rotated: the first request with the new key gets it.
        publish(&world, &[github.keys()[0].public_jwk(), github.keys()[1].public_jwk()]);
        world.request_with(&second(&world)).send(&world).await.token();
        assert_eq!(fetches(&world), 2);

        // The old key goes. Past the soft TTL the set at hand serves once more, while the new one comes.
        publish(&world, &[github.keys()[1].public_jwk()]);
        pass(&world, HOUR);
        world.request_with(&second(&world)).send(&world).await.token();
        let gone = || async { Some(first(&world).send(&world).await).filter(|reply| reply.status == 401) };
        eventually("a refusal of the old key", gone).await.refused(401, "invalid_client", 7000272);
        world.request_with(&second(&world)).send(&world).await.token();
    });
}

#[test]
fn a_key_that_was_replaced_under_its_id_is_accepted_at_once() {
    own(Plan::default(), |world| async move {
        first(&world).send(&world).await.token();
        let [old, new, ..] = world.emulator.github().keys() else { panic!("two keys") };
        let mut replaced = new.public_jwk().clone();
        replaced["kid"] = old.id().into();
        publish(&world, &[&replaced]);
        let (header, claims) = world.honest();
        world.request_with(&new.sign(&header, &claims)).send(&world).await.token();
        assert_eq!(fetches(&world), 2);
        // And the old one is a forgery, which is not asked about for five minutes.
        for _ in 0..100 {
            first(&world).send(&world).await.refused(401, "invalid_client", 700027);
        }
        assert_eq!(fetches(&world), 2);
        pass(&world, 300);
        first(&world).send(&world).await.refused(401, "invalid_client", 700027);
        assert_eq!(fetches(&world), 3);
    });
}

#[test]
fn a_flood_of_unknown_keys_asks_the_issuer_once_and_evicts_nothing() {
    own(Plan::default(), |world| async move {
        first(&world).send(&world).await.token();
        let mut flood = JoinSet::new();
        for number in 0..200 {
            let (mut header, claims) = world.honest();
            header["kid"] = format!("made-up-{number}").into();
            let form = world.request_with(&world.sign(&header, &claims));
            let (world, honest) = (Arc::clone(&world), first(&world));
            flood.spawn(async move {
                form.send(&world).await.refused(401, "invalid_client", 7000272);
                honest.send(&world).await.token();
            });
        }
        flood.join_all().await;
        assert_eq!(fetches(&world), 2);
        // A genuine new key waits for the interval to end, and no longer.
        let (mut header, claims) = world.honest();
        header["kid"] = "made-up".into();
        let stranger = world.request_with(&world.sign(&header, &claims));
        for (seconds, expected) in [(19, 2), (1, 3)] {
            pass(&world, seconds);
            stranger.send(&world).await.refused(401, "invalid_client", 7000272);
            assert_eq!(fetches(&world), expected);
        }
    });
}

#[test]
fn an_outage_after_the_first_use_stops_what_is_unknown_and_after_a_day_everything() {
    own(Plan::default(), |world| async move {
        publish(&world, &[world.emulator.github().keys()[0].public_jwk()]);
        first(&world).send(&world).await.token();
        outage(&world);
        for hours in [0, 1, 22] {
            pass(&world, hours * HOUR);
            first(&world).send(&world).await.token();
            world.request_with(&second(&world)).send(&world).await.refused(401, "invalid_client", 7000272);
        }
        pass(&world, HOUR);
        // Not "invalid": whoever asks again later gets a token.
        first(&world).send(&world).await.refused(503, "temporarily_unavailable", 50166);
        for document in [Document::Discovery, Document::Jwks] {
            world.emulator.github().set_fault(document, None);
        }
        let honest = || async { Some(first(&world).send(&world).await).filter(|r| r.status == 200) };
        eventually("a grant after the outage", honest).await.token();
    });
}

#[test]
fn a_restart_in_an_outage_exchanges_with_the_keys_that_were_kept() {
    RUNTIME.block_on(async {
        let world = World::start(Plan::default()).await;
        first(&world).send(&world).await.token();
        let folder = world.folder.path().join("data/issuers");
        let kept = || async {
            let files = std::fs::read_dir(&folder).ok()?.flatten().map(|file| file.path());
            files.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "json"))
        };
        let file = eventually("a kept key set", kept).await;
        outage(&world);

        let world = world.restarted().await;
        first(&world).send(&world).await.token();
        pass(&world, 24 * HOUR - 1);
        let world = world.restarted().await;
        first(&world).send(&world).await.token();
        pass(&world, 1);
        let world = world.restarted().await;
        first(&world).send(&world).await.refused(503, "temporarily_unavailable", 50166);

        // Damaged, it is as if it were not there; the start is none the worse.
        pass(&world, -24 * HOUR);
        std::fs::write(&file, "{\"keys\":").unwrap();
        let world = world.restarted().await;
        assert_eq!(world.ops("/readyz").await.0, 200);
        first(&world).send(&world).await.refused(503, "temporarily_unavailable", 50166);
    });
}

#[test]
fn keys_are_fetched_before_anybody_asks_and_refreshed_while_they_are_used() {
    RUNTIME.block_on(async {
        let mut world = World::start(Plan::default()).await;
        world.emulator.github().set_fault(Document::Discovery, Fault::Hang);
        world.broker.tend_issuers();
        // Nobody waits for it.
        assert_eq!(world.ops("/readyz").await.0, 200);
        world.emulator.github().set_fault(Document::Discovery, None);
        let until = async |expected| {
            let enough = || async { (fetches(&world) == expected).then_some(()) };
            eventually("a fetch that nobody asked for", enough).await;
        };
        until(1).await;
        first(&world).send(&world).await.token();
        assert_eq!(fetches(&world), 1);
        pass(&world, HOUR);
        until(2).await;
    });
}

#[test]
fn only_issuers_that_are_named_are_fetched_before_anybody_asks_also_when_a_change_names_them() {
    RUNTIME.block_on(async {
        // Its entry alone is no reason to ask it, nor is a credential that is switched off, nor one of such an identity.
        let nobody = DIRECTORY.replace("{issuer}", "https://issuer.invalid");
        let (records, identity) = nobody.split_at(nobody.find("id-off").unwrap());
        let off = [records, identity].map(|part| part.replacen("https://issuer.invalid", "{issuer}", 1));
        let mut world = World::start(Plan { directory: off.concat(), ..Plan::default() }).await;
        world.broker.tend_issuers();
        let issuer = world.emulator.github().issuer();
        assert!(!world.ops("/metrics").await.1.contains(&issuer));
        world.live("etc/directory/records.toml", &world.records()).await;
        let fetched = || async { (fetches(&world) == 1).then_some(()) };
        eventually("a fetch that nobody asked for", fetched).await;
        first(&world).send(&world).await.token();
        // Another change asks nobody anew.
        world.live("etc/directory/records.toml", &world.records().replace("id-off", "id-out")).await;
        first(&world).send(&world).await.token();
        assert_eq!(fetches(&world), 1);
    });
}

#[test]
fn kept_keys_of_an_issuer_that_nobody_names_go_when_nobody_could_use_them() {
    RUNTIME.block_on(async {
        let mut world = World::start(Plan::default()).await;
        let folder = world.folder.path().join("data/issuers");
        let kept = || {
            let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            files.filter(|file| file.path().extension().is_some_and(|extension| extension == "json")).count()
        };
        first(&world).send(&world).await.token();
        eventually("a kept key set", || async { (kept() == 1).then_some(()) }).await;
        let (records, nobody) = (world.records(), DIRECTORY.replace("{issuer}", "https://issuer.invalid"));
        world.live("etc/directory/records.toml", &nobody).await;
        pass(&world, 23 * HOUR);
        world.broker.tend_issuers();
        // Named again in time, it is there, whatever state the issuer is in.
        outage(&world);
        world.live("etc/directory/records.toml", &records).await;
        first(&world).send(&world).await.token();

        world.live("etc/directory/records.toml", &nobody).await;
        pass(&world, 2 * HOUR);
        let mut world = world.restarted().await;
        world.broker.tend_issuers();
        eventually("no kept key set", || async { (kept() == 0).then_some(()) }).await;
    });
}
