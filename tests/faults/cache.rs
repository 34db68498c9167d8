//! K: what is kept of issuers, for how long, and who can disturb it.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::answer::Answer;
use crate::issuer::{Authority, DISCOVERY, Fault, Issuer, KEYS, Leaf, SUBJECT};
use crate::stage::{HASTY, PATIENT, Scene, identity, plan};
use crate::support::*;

const HOUR: i64 = 3600;
const UNKNOWN: u32 = 7_000_272;
const FORGED: u32 = 700_027;

async fn refused(scene: &Scene, form: Form, code: u32) {
    form.send(&scene.world).await.refused(401, "invalid_client", code);
}

/// Sends all of them at once, an honest one beside each, and wants these answers.
async fn flood(scene: &Arc<Scene>, forms: Vec<Form>, code: u32) {
    let mut all = JoinSet::new();
    for form in forms {
        let scene = Arc::clone(scene);
        all.spawn(async move {
            refused(&scene, form, code).await;
            scene.send(0).await.token();
        });
    }
    all.join_all().await;
}

#[test]
fn k_01_floods_fetch_little_and_evict_nothing() {
    RUNTIME.block_on(async {
        let scene = Arc::new(Scene::start(PATIENT, 1).await);
        let (issuer, stranger) = (&scene.issuers[0], Issuer::start(&scene.authority));
        let mut first = JoinSet::new();
        for _ in 0..100 {
            let scene = Arc::clone(&scene);
            first.spawn(async move { scene.send(0).await.token().len() });
        }
        first.join_all().await;
        assert_eq!(scene.fetches(0), 1, "a hundred honest first ones");

        let claims = issuer.claims(scene.now());
        let unknown = |n: usize| scene.form(0, &issuer.sign_as(&format!("made-up-{n}"), &claims));
        flood(&scene, (0..200).map(unknown).collect(), UNKNOWN).await;
        assert_eq!(scene.fetches(0), 2, "unknown keys");
        flood(&scene, vec![scene.form(0, &stranger.sign_as(&issuer.key_id, &claims)); 100], FORGED).await;
        assert_eq!(scene.fetches(0), 3, "bad signatures");
        let untrusted = |n: usize| {
            let mut claims = claims.clone();
            claims["iss"] = json!(format!("{}/{n}", stranger.url));
            scene.form(0, &stranger.sign_as(&stranger.key_id, &claims))
        };
        flood(&scene, (0..200).map(untrusted).collect(), 700_211).await;
        assert_eq!((scene.fetches(0), stranger.server.connections()), (3, 0), "untrusted issuers");
        scene.nothing_else_was_asked(0, "floods");
    });
}

#[test]
fn k_02_keys_of_one_issuer_are_not_anothers() {
    RUNTIME.block_on(async {
        let authority = Authority::new("authority");
        let issuers =
            vec![Issuer::start(&authority), Issuer::start(&authority), Issuer::with_key(&authority, "key-2")];
        let scene = Scene::with(PATIENT, authority, issuers, "").await;
        for round in 0..2 {
            for (index, other, code) in [(0, 1, FORGED), (1, 0, FORGED), (0, 2, UNKNOWN), (2, 0, UNKNOWN)] {
                let (own, other) = (&scene.issuers[index], &scene.issuers[other]);
                scene.send(index).await.token();
                let crossed = other.sign_as(&other.key_id, &own.claims(scene.now()));
                refused(&scene, scene.form(index, &crossed), code).await;
                scene.send(index).await.token();
            }
            assert!((0..3).all(|index| scene.fetches(index) <= 3), "round {round}");
        }
    });
}

#[test]
fn k_03_rotation_is_followed_both_ways() {
    RUNTIME.block_on(async {
        let scene = Scene::start(PATIENT, 1).await;
        let (issuer, next) = (&scene.issuers[0], Issuer::with_key(&scene.authority, "key-2"));
        let new = || scene.form(0, &next.sign_as("key-2", &issuer.claims(scene.now())));
        scene.send(0).await.token();
        issuer.fail(Fault::keys(Answer::ok(issuer.jwks_with(&[next.jwk()]))));
        new().send(&scene.world).await.token();
        scene.send(0).await.token();
        assert_eq!(scene.fetches(0), 2);

        // Its old key goes: from the next set on it is nobody's.
        issuer.fail(Fault::keys(Answer::ok(json!({ "keys": [next.jwk()] }).to_string())));
        scene.pass(HOUR);
        new().send(&scene.world).await.token();
        let gone = || async { Some(scene.send(0).await).filter(|reply| reply.status == 401) };
        eventually("a refusal of the old key", gone).await.refused(401, "invalid_client", UNKNOWN);
        new().send(&scene.world).await.token();
        // And it may come back.
        issuer.heal();
        scene.pass(20);
        scene.send(0).await.token();
    });
}

#[test]
fn k_03_and_k_05_an_outage_stops_only_what_is_unknown() {
    for (settings, fault) in [
        (PATIENT, Fault::discovery(Answer::status(500, &[], "SECRET-WORD"))),
        (PATIENT, Fault::keys(Answer::status(500, &[], "SECRET-WORD"))),
        (PATIENT, Fault::keys(Answer::ok("{\"keys\":[]}"))),
        (PATIENT, Fault::leaf(Leaf::Says(""))),
        (HASTY, Fault::discovery(Answer::hang())),
        (HASTY, Fault::keys(Answer::hang())),
    ] {
        RUNTIME.block_on(async {
            let scene = Scene::start(settings, 1).await;
            let issuer = &scene.issuers[0];
            scene.granted(0, "before the outage").await;
            issuer.fail(fault);
            for hours in [0, 2, 21] {
                scene.pass(hours * HOUR);
                scene.send(0).await.token();
                let foreign = issuer.sign_as("key-2", &issuer.claims(scene.now()));
                refused(&scene, scene.form(0, &foreign), UNKNOWN).await;
                scene.send(0).await.token();
            }
            // For a day and no longer.
            scene.pass(HOUR);
            scene.send(0).await.refused(503, "temporarily_unavailable", 50_166);
            issuer.heal();
            scene.granted(0, "after the outage").await;
        });
    }
}

#[test]
fn k_03_a_herd_of_first_requests_is_one_fetch() {
    RUNTIME.block_on(async {
        let scene = Arc::new(Scene::start(PATIENT, 1).await);
        for fetches in 1..3 {
            let mut herd = JoinSet::new();
            for _ in 0..40 {
                let scene = Arc::clone(&scene);
                herd.spawn(async move { scene.send(0).await.token().len() });
            }
            assert_eq!(herd.join_all().await.len(), 40);
            assert_eq!((scene.fetches(0), scene.issuers[0].server.connections()), (fetches, 2 * fetches));
            scene.forget();
        }
    });
}

#[test]
fn k_03_one_dead_issuer_holds_up_no_other() {
    RUNTIME.block_on(async {
        let scene = Arc::new(Scene::start(PATIENT, 3).await);
        let dead = &scene.issuers[0];
        scene.send(1).await.token();
        dead.fail(Fault::discovery(Answer::hang()));
        let mut waiting = JoinSet::new();
        for _ in 0..20 {
            let scene = Arc::clone(&scene);
            waiting.spawn(async move { scene.send(0).await });
        }
        let waits = || async { (scene.world.metric("ficus_requests_in_flight").await >= 20.0).then_some(()) };
        eventually("requests that wait", waits).await;
        for index in [1, 2] {
            scene.send(index).await.token();
        }
        assert!(waiting.try_join_next().is_none(), "the dead issuer's requests were answered");
        assert_eq!(dead.server.paths(), [DISCOVERY]);
    });
}

/// The row's 10,000 would take minutes, with a handshake for each.
const MANY: usize = 400;

#[test]
fn k_04_what_is_kept_grows_with_records_and_not_with_requests() {
    RUNTIME.block_on(async {
        let authority = Authority::new("authority");
        let issuer = Issuer::start(&authority);
        let url = |n: usize| format!("{}/{n}", issuer.url);
        let urls: Vec<String> = (0..MANY).map(url).collect();
        let mut plan = plan(PATIENT, &authority, &urls);
        for url in &urls {
            let own = format!("url = {url:?}\n");
            plan.issuer = plan.issuer.replace(&own, &format!("{own}jwks_url = \"{}{KEYS}\"\n", issuer.url));
        }
        let world = World::start(plan).await;
        let form = |record: usize, n: usize| {
            let mut claims = issuer.claims(world.clock.now());
            claims["iss"] = json!(url(n));
            let assertion = issuer.sign_as(&issuer.key_id, &claims);
            token_request(&assertion, "https://sql.example/.default").with("client_id", &identity(record))
        };
        // One key each: so many keys are so many sets.
        let kept = || async {
            let (_, text) = world.ops("/metrics").await;
            let keys =
                text.lines().filter_map(|line| line.strip_prefix("ficus_issuer_keys{")?.rsplit_once(' '));
            keys.map(|(_, count)| count.parse::<usize>().unwrap()).sum::<usize>()
        };
        assert_eq!(kept().await, 0);
        for n in 0..MANY {
            form(n, n).send(&world).await.token();
        }
        assert_eq!((kept().await, issuer.server.paths().len()), (MANY, MANY));
        for n in 0..MANY {
            form(n, n).send(&world).await.token();
            form(n, MANY + n).send(&world).await.refused(401, "invalid_client", 700_211);
        }
        assert_eq!((kept().await, issuer.server.paths().len()), (MANY, MANY));

        // With the records goes what was kept of them.
        let records = world.folder.path().join("etc/directory/records.toml");
        let text = std::fs::read_to_string(&records).unwrap();
        let fewer = &text[..text.find("name = \"id-scene-20\"").unwrap()];
        let fewer = &fewer[..fewer.rfind("[[identity]]").unwrap()];
        let generation = world.broker.generation();
        std::fs::write(&records, fewer).unwrap();
        wait_for(|| (world.broker.generation() > generation).then_some(())).await;
        assert_eq!(kept().await, 20);
        form(0, 0).send(&world).await.token();
    });
}

#[test]
fn k_05_what_an_issuer_advises_is_held_to_bounds() {
    RUNTIME.block_on(async {
        let scene = Scene::start(PATIENT, 3).await;
        // In this order: nothing is to be kept, for ten years, and nothing that could be read.
        let advice = ["max-age=0, no-store", "max-age=315360000", "max-age=SECRET-WORD"];
        for (issuer, advice) in scene.issuers.iter().zip(advice) {
            let header = format!("cache-control: {advice}");
            issuer.fail(Fault::keys(Answer::status(200, &[&header], issuer.jwks())));
        }
        let asked = async || {
            for index in 0..3 {
                scene.send(index).await.token();
            }
        };
        let fetched = async |expected: [usize; 3]| {
            let all = || async { [0, 1, 2].map(|index| scene.fetches(index)).eq(&expected).then_some(()) };
            eventually(&format!("{expected:?} fetches"), all).await;
        };
        asked().await;
        // Five minutes are the least, ten what holds without advice, an hour is the most.
        let mut passed = 0;
        for (seconds, expected) in [
            (299, [1, 1, 1]),
            (300, [2, 1, 1]),
            (599, [2, 1, 1]),
            (600, [3, 1, 2]),
            (3599, [4, 1, 3]),
            (3600, [4, 2, 3]),
        ] {
            scene.pass(seconds - passed);
            passed = seconds;
            asked().await;
            fetched(expected).await;
        }
    });
}

#[test]
fn k_06_another_tenants_requests_change_nothing() {
    RUNTIME.block_on(async {
        let authority = Authority::new("authority");
        let issuer = Issuer::start(&authority);
        let (theirs, subject) = ("eeeeeeee-1000-4a00-8000-000000000000", "system:serviceaccount:theirs");
        let records = format!(
            "\n[[identity]]\ntenant = \"fabrikam.example\"\nname = \"id-theirs\"\nkind = \"application\"\n\
             client_id = \"{theirs}\"\nprincipal_id = \"ffffffff-1000-4a00-8000-000000000000\"\n\
             [[identity.federated_credential]]\nname = \"same\"\nissuer = {:?}\nsubject = {subject:?}\n\
             [[resource]]\ntenant = \"fabrikam.example\"\nname = \"Theirs\"\n\
             client_id = \"eeeeeeee-2000-4a00-8000-000000000000\"\n\
             identifier_uris = [\"https://theirs.example\"]\nscope = \"/theirs\"\nassignment_required = false\n",
            issuer.url
        );
        let scene = Scene::with(PATIENT, authority, vec![issuer], &records).await;
        let (issuer, stranger) = (&scene.issuers[0], Issuer::start(&scene.authority));
        let claims = |subject: &str| {
            let mut claims = issuer.claims(scene.now());
            claims["sub"] = json!(subject);
            claims
        };
        let their = |assertion: &str| {
            token_request(assertion, "https://theirs.example/.default").with("client_id", theirs).tenant(OTHER_TENANT)
        };
        scene.send(0).await.token();
        for n in 0..20 {
            let key = format!("made-up-{n}");
            refused(&scene, their(&issuer.sign_as(&key, &claims(subject))), UNKNOWN).await;
            refused(&scene, their(&stranger.sign_as(&issuer.key_id, &claims(subject))), FORGED).await;
            their(&issuer.sign_as(&issuer.key_id, &claims(subject))).send(&scene.world).await.token();
            scene.send(0).await.token();
        }
        // What is signed by the same key is not for both: it is the record that decides.
        for (form, subject) in [(their(&issuer.assertion(scene.now())), SUBJECT), (scene.form(0, &issuer.sign_as(&issuer.key_id, &claims(subject))), subject)] {
            let reply = form.send(&scene.world).await;
            assert_eq!((reply.status, &reply.body["error_codes"]), (401, &json!([700_213])), "{subject}");
        }
        scene.send(0).await.token();
        assert_eq!(scene.fetches(0), 3);
    });
}
