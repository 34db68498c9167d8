//! B: what we mint, and the keys that we mint it with.

use std::collections::HashSet;
use std::process::Stdio;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ficus::clock::{Clock, random};
use ficus::domain::token::unique_token_id;
use ficus::signing;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::audit::{Home, Server, ficus};
use crate::support::*;

#[test]
fn b_01_nothing_of_the_external_token_is_passed_on() {
    own(Plan::default(), async |world| {
        let (header, honest) = world.honest();
        let mut loaded = honest.clone();
        let extra = json!({
            "roles": ["Owner"], "scp": "user_impersonation", "tid": OTHER_TENANT, "groups": ["admins"],
            "act": { "sub": "someone" }, "oid": CLIENT, "azp": "x", "appid": "x", "azpacr": "0", "appidacr": "0",
            "uti": "AAAAAAAAAAAAAAAAAAAAAA", "ver": "9.9", "idtyp": "user", "idp": "https://evil.example/",
            "wids": ["62e90394-69f5-4237-9190-012177145e10"], "xms_mirid": "/evil", "xms_ficinfo": "evil",
            "xms_cc": ["cp1"], "upn": "a@b.example", "name": "n", "cnf": { "jkt": "x" }, "nonce": "n",
            "acr": "1", "amr": ["pwd"], "may_act": { "sub": "x" }, "authorization_details": [],
        });
        loaded.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        for (resource, audience) in [(VAULT, VAULT), (API, API_CLIENT)] {
            let scope = format!("{resource}/.default");
            let minted = async |claims: &Value| {
                let form = world.request_with(&world.sign(&header, claims)).with("scope", &scope);
                let mut checked = verify(&world, form.send(&world).await.token(), audience).await;
                // Random in each.
                assert_ne!(checked.claims.as_object_mut().unwrap().remove("uti"), Some(extra["uti"].clone()));
                (checked.header, checked.claims)
            };
            let plain = minted(&honest).await;
            assert_eq!(minted(&loaded).await, plain);
            assert_eq!(minted(&honest).await, plain);
        }
    });
}

#[test]
fn b_02_a_token_is_what_it_should_be() {
    own(Plan::default(), async |world| {
        let now = world.clock.now();
        for (resource, audience, alg, life) in
            [(VAULT, VAULT, "RS256", 3600), (API, API_CLIENT, "ES256", 1800)]
        {
            let reply = world.request().with("scope", &format!("{resource}/.default")).send(&world).await;
            // By a verifier that is not ours, on the published keys.
            let checked = verify(&world, reply.token(), audience).await;
            // Entra's clients look for `JWT`, not for RFC 9068's `at+jwt`.
            assert_eq!((&checked.header["alg"], &checked.header["typ"]), (&json!(alg), &json!("JWT")));
            let time = |name: &str| checked.claims[name].as_i64().unwrap();
            assert_eq!((time("iat"), time("nbf"), time("exp")), (now - 300, now - 300, now + life));
            assert_eq!(reply.body["expires_in"], life - 1);
        }
    });
}

/// Every bit of them changes: none is a counter, a time or a constant. And none comes twice.
fn are_random(ids: &[String]) {
    let bytes = ids.iter().map(|id| URL_SAFE_NO_PAD.decode(id).unwrap());
    let bytes: Vec<[u8; 16]> = bytes.map(|id| id.try_into().unwrap()).collect();
    for bit in 0..128 {
        let set = bytes.iter().filter(|id| id[bit / 8] >> (bit % 8) & 1 == 1).count();
        assert!((ids.len() * 2 / 5..ids.len() * 3 / 5).contains(&set), "bit {bit} is set in {set} of them");
    }
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn b_02_of_ten_thousand_tokens_none_has_the_id_of_another() {
    const CLIENTS: usize = 4;
    own(Plan::default(), async |world| {
        let mut tasks = JoinSet::new();
        for _ in 0..CLIENTS {
            let world = world.clone();
            tasks.spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..1_000 / CLIENTS {
                    let reply = world.request().with("scope", &format!("{API}/.default")).send(&world).await;
                    let claims = URL_SAFE_NO_PAD.decode(reply.token().split('.').nth(1).unwrap()).unwrap();
                    let claims: Value = serde_json::from_slice(&claims).unwrap();
                    ids.push(claims["uti"].as_str().unwrap().to_owned());
                }
                ids
            });
        }
        are_random(&tasks.join_all().await.concat());
        // As many as the row asks for, made as the spine makes them.
        are_random(&(0..10_000).map(|_| unique_token_id(random())).collect::<Vec<_>>());
    });
}

/// Every member name in a document, at any depth.
fn names(value: &Value, found: &mut HashSet<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            names(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn b_03_key_sets_have_public_members_only_and_ids_that_follow_from_them() {
    own(Plan::default(), async |world| {
        for tenant in [TENANT, OTHER_TENANT, "common", "organizations"] {
            for path in ["discovery/v2.0/keys", "discovery/keys"] {
                let document = world.get(&format!("/{tenant}/{path}")).await.body;
                let mut found = HashSet::new();
                names(&document, &mut found);
                let public = ["keys", "kty", "use", "kid", "x5t", "n", "e", "x5c", "issuer", "crv", "x", "y"];
                let odd: Vec<_> = found.iter().filter(|name| !public.contains(&name.as_str())).collect();
                assert!(odd.is_empty() && found.len() >= 11, "{odd:?} in {document}");
                for key in document["keys"].as_array().unwrap() {
                    let expected = match key["kty"].as_str().unwrap() {
                        "RSA" => {
                            let certificate = STANDARD.decode(key["x5c"][0].as_str().unwrap()).unwrap();
                            URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate))
                        }
                        _ => {
                            let members =
                                ["crv", "kty", "x", "y"].map(|name| format!("\"{name}\":{}", key[name]));
                            URL_SAFE_NO_PAD
                                .encode(digest(&SHA256, format!("{{{}}}", members.join(",")).as_bytes()))
                        }
                    };
                    assert_eq!(key["kid"], expected);
                }
            }
        }
    });
}

/// A broker follows; whoever rotates is killed, each time at another moment of it.
#[test]
fn b_04_killed_in_the_middle_of_a_rotation_no_token_is_signed_by_an_unpublished_key() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let server = Server::start(home.folder.path());
        let folder = home.folder.path().join("data/keys");
        let files = || std::fs::read_dir(&folder).unwrap().count();
        let published = async || -> HashSet<String> {
            let url = server.url.replace("oauth2/v2.0/token", "discovery/v2.0/keys");
            let keys = Reply::of(server.client.get(url).send().await.unwrap()).await.body;
            keys["keys"]
                .as_array()
                .unwrap()
                .iter()
                .map(|key| key["kid"].as_str().unwrap().to_owned())
                .collect()
        };
        let signed_by_a_published_key = async || {
            for scope in ["https://vault.example/.default", "api://orders/.default"] {
                let reply = server.post(&home.form().with("scope", scope)).await.unwrap();
                let header = URL_SAFE_NO_PAD.decode(reply.token().split('.').next().unwrap()).unwrap();
                let header: Value = serde_json::from_slice(&header).unwrap();
                let kid = header["kid"].as_str().unwrap().to_owned();
                assert!(published().await.contains(&kid), "{kid}");
            }
        };
        let first = published().await;
        let (mut killed, mut done) = (0, 0);
        // A rotation may be over before its files are seen: then the next one is tried.
        for round in 0..30 {
            if round >= 6 && killed >= 2 {
                break;
            }
            let before = files();
            let mut rotating = ficus("", home.folder.path());
            rotating.args(["keys", "rotate", "--now"]).stdout(Stdio::null()).stderr(Stdio::null());
            let mut rotating = rotating.spawn().unwrap();
            // The first at once, the others when this many files more are there, temporary ones among them.
            let exited = loop {
                if let Some(status) = rotating.try_wait().unwrap() {
                    break status;
                }
                if files() >= before + round % 6 {
                    let _ = kill_process(Pid::from_child(&rotating), Signal::KILL);
                    break rotating.wait().unwrap();
                }
            };
            *if exited.success() { &mut done } else { &mut killed } += 1;
            signed_by_a_published_key().await;
            // What the folder holds is whole: it is what a broker would start from.
            let listed = signing::list(&folder, Clock::system().now()).unwrap();
            let listed: HashSet<String> = listed.into_iter().map(|key| key.kid).collect();
            assert!(first.is_subset(&listed), "{listed:?}");
            eventually("what the folder lists is published", || async {
                (published().await == listed).then_some(())
            })
            .await;
        }
        assert!(killed >= 2, "{killed} were killed, {done} were not");
        let said = server.log.lock().unwrap().clone();
        assert!(!said.contains("\"ERROR\""), "no state of the folder was one to complain of: {said}");
        drop(server);
        let server = Server::start(home.folder.path());
        server.post(&home.form()).await.unwrap().token();
    });
}
