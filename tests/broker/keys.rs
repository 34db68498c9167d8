//! Our signing keys: their life by time over replicas, changes under traffic, and the commands.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ficus::clock::Clock;
use ficus::emulator::{Emulator, Settings};
use jsonwebtoken::jwk::JwkSet;
use serde_json::Value;

use crate::support::*;

const DAY: i64 = 86_400;
/// After its successor signs: the longest token, and five minutes.
const KEPT: i64 = DAY + 300;

/// Asks again until there is something; fails when it takes too long.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let asking = async {
        loop {
            ticks.tick().await;
            if let Some(found) = look().await {
                return found;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), asking)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn jwks(client: &reqwest::Client, authority: &str) -> JwkSet {
    let url = format!("{authority}/{TENANT}/discovery/v2.0/keys");
    serde_json::from_slice(&client.get(url).send().await.unwrap().bytes().await.unwrap()).unwrap()
}

fn kids(keys: &JwkSet) -> BTreeSet<String> {
    keys.keys.iter().map(|key| key.common.key_id.clone().unwrap()).collect()
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    serde_json::from_slice::<Value>(&header).unwrap()["kid"].as_str().unwrap().to_owned()
}

/// Checks the signature alone: tests that move the clock mint tokens of other times.
#[track_caller]
fn signed_by_one_of(keys: &JwkSet, token: &str) {
    let kid = kid(token);
    let key = keys.find(&kid).unwrap_or_else(|| panic!("{kid} is not published in {:?}", kids(keys)));
    let rsa = matches!(key.algorithm, jsonwebtoken::jwk::AlgorithmParameters::RSA(_));
    let algorithm = if rsa { jsonwebtoken::Algorithm::RS256 } else { jsonwebtoken::Algorithm::ES256 };
    let (message, signature) = token.rsplit_once('.').unwrap();
    let key = jsonwebtoken::DecodingKey::from_jwk(key).unwrap();
    assert!(jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, algorithm).unwrap());
}

/// Two brokers in this process, on one folder and one clock that stands still.
struct Pair([World; 2], PathBuf);

impl Pair {
    async fn start() -> Self {
        let first = World::start(Plan::default()).await;
        let folder = first.folder.path().join("data/keys");
        let plan = Plan {
            keys: format!("path = \"{}\"\n", folder.display()),
            clock: Some(first.clock.clone()),
            ..Plan::default()
        };
        let second = World::start(plan).await;
        Self([first, second], folder)
    }

    /// Waits until both publish this many keys, and the same.
    async fn publishes(&self, count: usize) -> BTreeSet<String> {
        eventually(&format!("{count} keys"), || async {
            let [a, b] = [&self.0[0], &self.0[1]].map(|world| jwks(&world.client, &world.authority));
            let (a, b) = (kids(&a.await), kids(&b.await));
            (a == b && a.len() == count).then_some(a)
        })
        .await
    }

    /// Tokens of both algorithms from both brokers, after a check against what both publish; and who signed them.
    async fn mint(&self) -> BTreeSet<String> {
        let mut signers = BTreeSet::new();
        for world in &self.0 {
            for scope in ["https://vault.example/.default", "api://orders/.default"] {
                let reply = world.request().with("scope", scope).send(world).await;
                for publisher in &self.0 {
                    signed_by_one_of(&jwks(&publisher.client, &publisher.authority).await, reply.token());
                }
                signers.insert(kid(reply.token()));
            }
        }
        signers
    }

    fn files(&self) -> usize {
        let entries = std::fs::read_dir(&self.1).unwrap().flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "pem")).count()
    }
}

#[test]
fn keys_are_announced_sign_and_retire_by_time_over_two_brokers() {
    RUNTIME.block_on(async {
        let pair = Pair::start().await;
        let (clock, start) = (pair.0[0].clock.clone(), pair.0[0].clock.now());
        let old = pair.publishes(2).await;
        assert_eq!(pair.mint().await, old);
        clock.set(start + 29 * DAY - 1);
        assert_eq!(pair.mint().await, old);

        // Announced by one of them; not signing for a day.
        clock.set(start + 29 * DAY);
        let both = pair.publishes(4).await;
        let new: BTreeSet<_> = both.difference(&old).cloned().collect();
        assert_eq!(pair.mint().await, old);
        let switch = start + 30 * DAY;
        clock.set(switch - 1);
        assert_eq!(pair.mint().await, old);
        let longest = pair.0[0].request().with("scope", "api://graph/.default").send(&pair.0[0]).await;
        assert_eq!(longest.body["expires_in"], DAY - 1);
        let series = |kid: &str, state: &str| {
            format!("ficus_signing_key_age_seconds{{kid=\"{kid}\",state=\"{state}\"}}")
        };
        let newest = new.first().unwrap();
        assert_eq!(pair.0[1].metric(&series(newest, "announced")).await, (DAY - 1) as f64);

        clock.set(switch);
        assert_eq!(pair.mint().await, new);
        assert_eq!(pair.0[1].metric(&series(newest, "signing")).await, DAY as f64);
        // The old keys stay until the last token under them has expired, and longer by what an API may allow.
        for now in [switch + DAY - 1, switch + KEPT - 1] {
            clock.set(now);
            assert_eq!(pair.publishes(4).await, both);
            signed_by_one_of(&jwks(&pair.0[1].client, &pair.0[1].authority).await, longest.token());
            assert_eq!(pair.mint().await, new);
        }
        clock.set(switch + KEPT);
        assert_eq!(pair.publishes(2).await, new);
        eventually("the old keys' files are removed", || async { (pair.files() == 2).then_some(()) }).await;
        assert_eq!(pair.mint().await, new);
    });
}

#[test]
fn a_revoked_key_is_gone_from_the_next_jwks_and_the_next_token() {
    RUNTIME.block_on(async {
        let pair = Pair::start().await;
        let old = pair.publishes(2).await;
        let revoked = kid(pair.0[0].request().send(&pair.0[0]).await.token());
        let new = ficus::signing::revoke(&pair.1, &revoked, &pair.0[0].clock).unwrap().unwrap();
        let left: BTreeSet<_> = old.into_iter().filter(|kid| *kid != revoked).chain([new]).collect();
        eventually("both follow", || async { (pair.publishes(2).await == left).then_some(()) }).await;
        assert_eq!(pair.mint().await, left);
        assert_eq!(pair.files(), 2);
    });
}

#[test]
fn a_broken_manifest_leaves_the_last_good_keys_and_a_broker_that_may_not_write_follows() {
    RUNTIME.block_on(async {
        let pair = Pair::start().await;
        let old = pair.publishes(2).await;
        let manifest = pair.1.join("manifest.json");
        let good = std::fs::read_to_string(&manifest).unwrap();

        // The second reads a copy that names a key of which there is no file.
        std::fs::write(&manifest, good.replace(".pem", ".gone.pem")).unwrap();
        pair.0[0].clock.set(pair.0[0].clock.now() + 29 * DAY);
        let lock = pair.1.join("lock");
        std::fs::remove_file(&lock).unwrap();
        // Nobody can open a folder for writing, whatever rights this test has.
        std::fs::create_dir(&lock).unwrap();
        let mut looks = tokio::time::interval(Duration::from_millis(700));
        for _ in 0..3 {
            looks.tick().await;
            assert_eq!(pair.publishes(2).await, old);
            assert_eq!(pair.mint().await, old);
        }
        // What is announced elsewhere comes as one new manifest.
        let elsewhere = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(&pair.1).unwrap().flatten().filter(|entry| entry.path().is_file()) {
            std::fs::copy(entry.path(), elsewhere.path().join(entry.file_name())).unwrap();
        }
        std::fs::write(elsewhere.path().join("manifest.json"), good).unwrap();
        let pace = ficus::signing::Pace::Announced(DAY);
        ficus::signing::rotate(elsewhere.path(), pace, &pair.0[0].clock).unwrap();
        for entry in std::fs::read_dir(elsewhere.path()).unwrap().flatten() {
            let name = entry.file_name();
            if name.to_string_lossy().ends_with(".pem") {
                std::fs::copy(entry.path(), pair.1.join(name)).unwrap();
            }
        }
        std::fs::rename(elsewhere.path().join("manifest.json"), &manifest)
            .or_else(|_| std::fs::copy(elsewhere.path().join("manifest.json"), &manifest).map(drop))
            .unwrap();
        assert!(pair.publishes(4).await.is_superset(&old));
        assert_eq!(pair.mint().await, old);
    });
}

// ---- The program ----

fn ficus(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ficus"));
    command.arg("keys").args(arguments).arg("--config").arg(config).output().unwrap()
}

#[track_caller]
fn ok(config: &Path, arguments: &[&str]) -> String {
    let output = ficus(config, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The one line on stderr of a command that exits with 1.
#[track_caller]
fn refused(config: &Path, arguments: &[&str]) -> String {
    let output = ficus(config, arguments);
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len(), line.lines().count()), (Some(1), 0, 1), "{line}");
    line
}

fn listed(config: &Path) -> Vec<Value> {
    let text = ok(config, &["list", "--json"]);
    serde_json::from_str::<Value>(&text).unwrap()["keys"].as_array().unwrap().clone()
}

fn states(config: &Path) -> Vec<String> {
    listed(config).iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_commands_tell_what_they_did() {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("ficus.toml");
    std::fs::write(&config, format!("[[tenant]]\nid = \"{TENANT}\"\n[keys]\npath = \"keys\"\n")).unwrap();
    assert!(refused(&config, &["list"]).contains("ficus keys init"));
    assert!(ok(&config, &["init"]).starts_with("made 2 keys"));
    assert!(refused(&config, &["init"]).contains("already holds 2 keys"));
    assert_eq!(states(&config), ["signing", "signing"]);

    assert!(ok(&config, &["rotate"]).starts_with("made 2 keys; they sign from 2"));
    assert!(ok(&config, &["rotate"]).starts_with("nothing to do"));
    assert_eq!(states(&config), ["signing", "signing", "announced", "announced"]);
    let table = ok(&config, &["list"]);
    assert_eq!(table.lines().count(), 5);
    assert!(table.starts_with("KID ") && table.contains(" LEAVES JWKS AT\n"), "{table}");

    let signing = listed(&config)[0]["kid"].as_str().unwrap().to_owned();
    assert!(ok(&config, &["revoke", &signing]).contains("now "));
    assert_eq!(states(&config), ["signing", "announced", "announced", "signing"]);
    for unknown in ["-abc", "--abc", "-hVabc", "abc"] {
        let line = refused(&config, &["revoke", unknown]);
        assert!(line.contains(&format!("{unknown:?}")), "{line}");
        assert!(listed(&config).iter().all(|key| line.contains(key["kid"].as_str().unwrap())), "{line}");
    }
    assert!(ok(&config, &["rotate", "--now"]).starts_with("made 2 keys"));

    let mut files = std::fs::read_dir(home.path().join("keys")).unwrap().flatten();
    let key = files.find(|entry| entry.file_name().to_string_lossy().ends_with(".pem")).unwrap().path();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    for command in ["list", "init"] {
        assert!(refused(&config, &[command]).contains("0644"), "{command}");
    }
    assert_eq!(ficus(&config, &["revoke"]).status.code(), Some(2));
}

/// A real `ficus serve`, ended with the test.
struct Server(Child, String, reqwest::Client);

impl Server {
    fn start(home: &Path, number: usize, emulator: &Emulator) -> Self {
        let folder = home.join(format!("broker{number}/etc"));
        std::fs::create_dir_all(folder.join("directory")).unwrap();
        let issuer = emulator.github().issuer();
        let records = DIRECTORY.replace("{issuer}", &issuer);
        std::fs::write(folder.join("directory/records.toml"), records).unwrap();
        let text = format!(
            "public_url = \"https://localhost:8443\"\n\
             [listen]\naddress = \"127.0.0.1:0\"\nops_address = \"127.0.0.1:0\"\n\
             [[tenant]]\nid = \"{TENANT}\"\ndomain = \"contoso.example\"\n\
             [[tenant]]\nid = \"{OTHER_TENANT}\"\ndomain = \"fabrikam.example\"\n\
             [keys]\npath = \"{keys}\"\ncreate = true\n\
             [[issuer]]\nurl = \"{issuer}\"\nca_file = \"{ca}\"\nallow_private_network = true\n",
            keys = home.join("keys").display(),
            ca = home.join("emulator.pem").display(),
        );
        let config = folder.join("ficus.toml");
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ficus"));
        command.args(["serve", "--log", "info", "--config"]).arg(&config);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let ready = lines.by_ref().find_map(|line| {
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            (line["message"] == "ready").then(|| line["address"].as_str().unwrap().to_owned())
        });
        let address = ready.expect("the broker gets ready");
        // What is not read would block it in the end.
        std::thread::spawn(move || lines.for_each(drop));
        let authority = format!("https://localhost:{}", address.rsplit(':').next().unwrap());
        let ca = home.join(format!("broker{number}/data/tls/ca.pem"));
        Self(child, authority, client(Some(&ca)))
    }

    async fn mint(&self, form: &Form) -> String {
        let url = format!("{}/{TENANT}/oauth2/v2.0/token", self.1);
        let request = self.2.post(url).header("content-type", "application/x-www-form-urlencoded");
        Reply::of(request.body(form.body()).send().await.unwrap()).await.token().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn every_token_verifies_everywhere_while_keys_are_rotated_in_a_hurry() {
    RUNTIME.block_on(async {
        let home = tempfile::tempdir().unwrap();
        let emulator =
            Emulator::start(Settings { clock: Clock::system(), ..Settings::default() }).await.unwrap();
        std::fs::write(home.path().join("emulator.pem"), emulator.ca_pem()).unwrap();
        let servers = [1, 2].map(|number| Server::start(home.path(), number, &emulator));
        let config = home.path().join("broker1/etc/ficus.toml");
        let forms = ["https://vault.example/.default", "api://orders/.default"]
            .map(|scope| token_request(&emulator.github().assertion(&Default::default(), AUDIENCE), scope));

        let (done, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        let traffic = |from: usize| {
            let (servers, forms, done, count) = (&servers, &forms, &done, &count);
            async move {
                let mut signers = BTreeSet::new();
                while !done.load(Ordering::Relaxed) {
                    for form in forms {
                        let token = servers[from].mint(form).await;
                        for publisher in servers {
                            signed_by_one_of(&jwks(&publisher.2, &publisher.1).await, &token);
                        }
                        signers.insert(kid(&token));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                }
                signers
            }
        };
        let rotations = async {
            for _ in 0..3 {
                let before = kid(&servers[1].mint(&forms[0]).await);
                ok(&config, &["rotate", "--now"]);
                eventually("the new key signs", || async {
                    (kid(&servers[1].mint(&forms[0]).await) != before).then_some(())
                })
                .await;
            }
            done.store(true, Ordering::Relaxed);
        };
        let (first, second, ()) = tokio::join!(traffic(0), traffic(1), rotations);
        let signers: BTreeSet<_> = first.union(&second).collect();
        assert!(signers.len() >= 7, "{signers:?}");
        assert_eq!(kids(&jwks(&servers[0].2, &servers[0].1).await).len(), 8);
        assert!(count.load(Ordering::Relaxed) > 100, "{count:?} tokens are no traffic");
    });
}
