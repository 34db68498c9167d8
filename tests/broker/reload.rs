//! Files that change under a running broker: what goes live, what is refused, and what is taken away.
//!
//! Nothing here sleeps: every step waits for a condition, and requests go over connections that are warm.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ficus::clock::Stopwatch;
use ficus::emulator::github::Job;
use ficus::emulator::{Emulator, Settings};

use crate::support::*;

impl World {
    pub fn records(&self) -> String {
        DIRECTORY.replace("{issuer}", &self.emulator.github().issuer())
    }

    fn config(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("etc/ficus.toml")).unwrap()
    }

    /// Writes beside and renames, as is safe.
    pub fn replace(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        let beside = path.with_extension("new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(beside, path).unwrap();
    }

    /// Replaces a file and waits until the change is live.
    pub async fn live(&self, name: &str, text: &str) {
        let before = self.broker.generation();
        self.replace(name, text);
        self.past(before).await;
    }

    pub async fn past(&self, generation: u64) {
        wait_for(|| (self.broker.generation() > generation).then_some(())).await;
    }

    /// What `/readyz?verbose` says, once it says this.
    pub async fn told(&self, what: &str) -> String {
        loop {
            let (status, text) = self.ops("/readyz?verbose").await;
            assert_eq!(status, 200);
            if text.contains(what) {
                return text;
            }
        }
    }
}

const RECORDS: &str = "etc/directory/records.toml";
const CONFIG: &str = "etc/ficus.toml";

fn world<F: Future>(test: impl FnOnce(World) -> F) -> F::Output {
    RUNTIME.block_on(async { test(World::start(Plan::default()).await).await })
}

/// Records without what stands between two marks; the second stays.
fn without(text: &str, from: &str, to: &str) -> String {
    let start = text.find(from).unwrap();
    let end = text[start + from.len()..].find(to).map_or(text.len(), |at| start + from.len() + at);
    format!("{}{}", &text[..start], &text[end..])
}

#[test]
fn a_renamed_file_is_live_and_named_by_digest_and_generation() {
    world(|world| async move {
        let digest = world.broker.directory().digest().to_owned();
        assert!(world.told("generation 1\n").await.contains(&digest));
        assert_eq!(world.metric("ficus_directory_objects{kind=\"identity\"}").await, 5.0);
        world.live(RECORDS, &without(&world.records(), "[[identity]]", "[[identity]]")).await;
        let reply = world.request().send(&world).await;
        reply.refused(401, "unauthorized_client", 700_016);
        let now = world.broker.directory().digest().to_owned();
        assert_ne!(now, digest);
        assert_eq!(world.record(&reply.trace()).await["directoryDigest"], now);
        assert!(world.told("generation 2\n").await.contains(&now));
        for (series, value) in [
            ("ficus_directory_generation".to_owned(), 2.0),
            (format!("ficus_directory_info{{digest=\"{now}\"}}"), 1.0),
            ("ficus_directory_objects{kind=\"identity\"}".to_owned(), 4.0),
            ("ficus_directory_objects{kind=\"tenant\"}".to_owned(), 2.0),
            ("ficus_directory_reload_total{result=\"applied\"}".to_owned(), 1.0),
            ("ficus_directory_reload_total{result=\"refused\"}".to_owned(), 0.0),
            ("ficus_credentials_per_identity_max".to_owned(), 3.0),
        ] {
            assert_eq!(world.metric(&series).await, value, "{series}");
        }
        world.broker.stop().await;
    });
}

#[test]
fn a_half_written_file_is_never_live() {
    world(|world| async move {
        let path = world.folder.path().join(RECORDS);
        let (whole, mut seed) = (world.records(), 0x9e37_79b9_u64);
        for round in 0..4 {
            let text = whole.replace("id-roleless", &format!("id-roleless-{round}"));
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let cut = usize::try_from(seed >> 33).unwrap() % text.len();
            let (generation, digest) =
                (world.broker.generation(), world.broker.directory().digest().to_owned());
            std::fs::write(&path, &text.as_bytes()[..cut]).unwrap();
            assert_eq!(world.broker.directory().digest(), digest);
            std::fs::write(&path, &text).unwrap();
            world.past(generation).await;
            assert_eq!(world.broker.generation(), generation + 1, "cut at {cut}");
            world.request().send(&world).await.token();
        }
        assert_eq!(world.metric("ficus_directory_reload_total{result=\"refused\"}").await, 0.0);
    });
}

#[test]
fn an_invalid_change_is_refused_whole_shown_and_mended() {
    world(|world| async move {
        world.request().send(&world).await.token();
        let (good, digest) = (world.records(), world.broker.directory().digest().to_owned());
        // One file takes the identity away, another is broken: nothing of it counts.
        world.replace("etc/directory/more.toml", "[[identity]]\nname = \"x\"\nkin = 1\n");
        world.replace(RECORDS, &without(&good, "[[identity]]", "[[identity]]"));
        let text = world.told("refused change of ").await;
        for part in ["ready\n", &digest, "more.toml:3: identity[0].kin: unknown key", "identity[0].client_id"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        world.request().send(&world).await.token();
        assert_eq!(world.metric("ficus_directory_reload_total{result=\"refused\"}").await, 1.0);
        assert_eq!(world.broker.generation(), 1);

        std::fs::remove_file(world.folder.path().join("etc/directory/more.toml")).unwrap();
        world.past(1).await;
        world.request().send(&world).await.refused(401, "unauthorized_client", 700_016);
        world.live(RECORDS, &good).await;
        assert!(!world.told("generation 3\n").await.contains("refused"));
        world.request().send(&world).await.token();

        // A folder that is gone is no empty directory.
        let folder = world.folder.path().join("etc/directory");
        std::fs::rename(&folder, folder.with_extension("away")).unwrap();
        world.told("can't be read").await;
        world.request().send(&world).await.token();
        std::fs::rename(folder.with_extension("away"), &folder).unwrap();
        while world.ops("/readyz?verbose").await.1.contains("refused") {}
        assert_eq!(world.broker.generation(), 3);

        world.replace(CONFIG, &format!("{}\n[trust]\nsoft_ttl = \"1s\"\n", world.config()));
        assert!(world.told("refused change of ").await.contains("trust.soft_ttl"));
    });
}

fn assignment(letter: char, number: usize) -> String {
    format!(
        "[[role_assignment]]\ntenant = \"contoso.example\"\nprincipal_id = \"{PRINCIPAL}\"\n\
         role = \"{letter}-{number}\"\nscope = \"/apis/orders\"\n"
    )
}

/// Two files that always change together, swapped as Kubernetes swaps a ConfigMap.
fn swap(folder: &Path, number: usize) {
    let version = format!("..2026_{number}");
    std::fs::create_dir(folder.join(&version)).unwrap();
    for letter in ['a', 'b'] {
        let file = folder.join(&version).join(format!("{letter}.toml"));
        std::fs::write(file, assignment(letter, number)).unwrap();
    }
    let beside = folder.join("..data_tmp");
    std::os::unix::fs::symlink(&version, &beside).unwrap();
    std::fs::rename(beside, folder.join("..data")).unwrap();
}

/// The names that the directory has, which lead to what was swapped in last.
fn link(folder: &Path) {
    for letter in ['a', 'b'] {
        let name = format!("{letter}.toml");
        std::os::unix::fs::symlink(Path::new("..data").join(&name), folder.join(&name)).unwrap();
    }
}

/// A token has the roles of one generation.
fn unmixed(claims: &serde_json::Value) {
    let roles = claims["roles"].as_array().unwrap().iter();
    let numbers: Vec<_> = roles.map(|role| role.as_str().unwrap()[2..].to_owned()).collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{claims}");
}

#[test]
fn a_thousand_swaps_under_traffic_fail_no_exchange_and_mix_no_generations() {
    world(|world| async move {
        let folder = world.folder.path().join("etc/directory");
        let records = world.records().replace(
            "role = \"Orders.Read.All\"\nscope = \"/apis/orders\"",
            "role = \"Other\"\nscope = \"/other\"",
        );
        world.live(RECORDS, &records).await;
        let generation = world.broker.generation();
        swap(&folder, 0);
        link(&folder);
        world.past(generation).await;

        let (world, done, granted) =
            (Arc::new(world), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let traffic = (0..2).map(|_| {
            let (world, done, granted) = (world.clone(), done.clone(), granted.clone());
            tokio::spawn(async move {
                let form = world.request().with("scope", &format!("{API}/.default"));
                while !done.load(Ordering::Relaxed) {
                    let reply = form.send(&world).await;
                    unmixed(&claims_of(reply.token()));
                    granted.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        let traffic: Vec<_> = traffic.collect();
        let mut number = 0;
        for _ in 0..25 {
            let generation = world.broker.generation();
            for _ in 0..40 {
                number += 1;
                swap(&folder, number);
                std::fs::remove_dir_all(folder.join(format!("..2026_{}", number - 1))).unwrap();
            }
            world.past(generation).await;
        }
        done.store(true, Ordering::Relaxed);
        for task in traffic {
            task.await.unwrap();
        }
        println!(
            "{number} swaps, {} generations, {} exchanges",
            world.broker.generation(),
            granted.load(Ordering::Relaxed)
        );
        assert_eq!(world.metric("ficus_directory_reload_total{result=\"refused\"}").await, 0.0);
    });
}

fn claims_of(token: &str) -> serde_json::Value {
    use base64::Engine;
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

/// Goes on writing, every 50 ms, until it is dropped.
struct Writer(tokio::task::JoinHandle<()>);

impl Writer {
    fn start(mut write: impl FnMut(usize) + Send + 'static) -> Self {
        Self(tokio::spawn(async move {
            let mut pace = tokio::time::interval(std::time::Duration::from_millis(50));
            for number in 0.. {
                pace.tick().await;
                write(number);
            }
        }))
    }

    async fn stop(self) {
        self.0.abort();
        assert!(self.0.await.unwrap_err().is_cancelled());
    }
}

const HELD: &str = "ficus_restless_files{state=\"held\"}";
const REPLACED: &str = "ficus_restless_files{state=\"replaced\"}";

fn off(records: &str) -> String {
    records.replacen("name = \"id-deploy\"", "name = \"id-deploy\"\nenabled = false", 1)
}

#[test]
fn a_file_that_is_written_all_the_time_is_shown_and_holds_no_kill_switch_back() {
    world(|world| async move {
        world.request().send(&world).await.token();
        let restless = world.folder.path().join("etc/directory/restless.toml");
        let (path, shown) = (restless.clone(), restless.display().to_string());
        let writer = Writer::start(move |number| {
            std::fs::write(&path, format!("# {}\n", "x".repeat(number % 50))).unwrap();
        });
        wait_for(|| restless.exists().then_some(())).await;
        world.live(RECORDS, &off(&world.records())).await;
        world.request().send(&world).await.refused(401, "unauthorized_client", 7_000_112);
        let text = world.told("never rests: it counts as it was read last, since 2").await;
        assert!(text.contains(&format!("{shown} never rests")) && !text.contains("records.toml"), "{text}");
        assert_eq!((world.metric(HELD).await, world.metric(REPLACED).await), (1.0, 0.0));

        // In the configuration, too, and the way back.
        world.live(RECORDS, &world.records()).await;
        world.request().send(&world).await.token();
        let (config, entry) = (world.config(), "allow_private_network = true");
        world.live(CONFIG, &config.replacen(entry, &format!("{entry}\nenabled = false"), 1)).await;
        world.request().send(&world).await.refused(401, "invalid_client", 700_211);
        world.live(CONFIG, &config).await;

        // What never rested goes live when it does.
        writer.stop().await;
        while world.ops("/readyz?verbose").await.1.contains("restless.toml") {}
        assert_eq!((world.metric(HELD).await, world.metric(REPLACED).await), (0.0, 0.0));
        let last = off(&world.records()).replacen("id-deploy", "id-other", 1);
        world.live(RECORDS, &last).await;
        world.request().send(&world).await.refused(401, "unauthorized_client", 7_000_112);
    });
}

#[test]
fn a_configuration_that_is_written_all_the_time_holds_no_kill_switch_back() {
    world(|world| async move {
        let (path, text) = (world.folder.path().join(CONFIG), world.config());
        let writer = Writer::start(move |number| {
            // Cut off in front of the issuers, and whole.
            let cut = if number % 2 == 0 { text.find("[[issuer]]").unwrap() } else { text.len() };
            std::fs::write(&path, &text[..cut]).unwrap();
        });
        world.told("ficus.toml never rests").await;
        world.request().send(&world).await.token();
        world.live(RECORDS, &off(&world.records())).await;
        world.request().send(&world).await.refused(401, "unauthorized_client", 7_000_112);
        writer.stop().await;
    });
}

#[test]
fn of_a_file_that_is_written_all_the_time_no_half_is_ever_live() {
    world(|world| async move {
        world.live(RECORDS, &off(&world.records())).await;
        world.request().send(&world).await.refused(401, "unauthorized_client", 7_000_112);
        // Without its last key the record would be on again.
        let (path, whole) = (world.folder.path().join(RECORDS), off(&world.records()));
        let cut_off = whole.replacen("enabled = false", "", 1);
        let writer = Writer::start(move |number| {
            std::fs::write(&path, if number % 2 == 0 { &cut_off } else { &whole }).unwrap();
        });
        world.told("records.toml never rests").await;
        // Others come and go, so that the directory is compiled again and again.
        for number in 0..4 {
            world.live("etc/directory/other.toml", &assignment('o', number)).await;
            world.request().send(&world).await.refused(401, "unauthorized_client", 7_000_112);
        }
        writer.stop().await;
    });
}

#[test]
fn files_that_are_swapped_all_the_time_are_live_late_and_never_mixed() {
    world(|world| async move {
        let folder = world.folder.path().join("etc/directory");
        let records = world.records().replace(
            "role = \"Orders.Read.All\"\nscope = \"/apis/orders\"",
            "role = \"Other\"\nscope = \"/other\"",
        );
        world.live(RECORDS, &records).await;
        let generation = world.broker.generation();
        swap(&folder, 0);
        link(&folder);
        world.past(generation).await;
        let swapped = folder.clone();
        let writer = Writer::start(move |number| {
            swap(&swapped, number + 1);
            std::fs::remove_dir_all(swapped.join(format!("..2026_{number}"))).unwrap();
        });
        let form = world.request().with("scope", &format!("{API}/.default"));
        for _ in 0..4 {
            world.past(world.broker.generation()).await;
            unmixed(&claims_of(form.send(&world).await.token()));
        }
        let text = world.told("is replaced all the time").await;
        assert!(text.contains("a.toml is replaced") && text.contains("b.toml is replaced"), "{text}");
        assert_eq!((world.metric(HELD).await, world.metric(REPLACED).await), (0.0, 2.0));
        // So is a kill switch, in a file that is changed once.
        let off = off(&records);
        world.replace(RECORDS, &off);
        while form.send(&world).await.status == 200 {}
        form.send(&world).await.refused(401, "unauthorized_client", 7_000_112);
        assert_eq!(world.metric("ficus_directory_reload_total{result=\"refused\"}").await, 0.0);
        writer.stop().await;
    });
}

#[test]
fn what_is_taken_away_is_gone_on_the_next_request() {
    world(|world| async move {
        let good = world.records();
        let first = |from: &str, to: &str| good.replacen(from, to, 1);
        let main = "name = \"main-branch\"";
        let client = "unauthorized_client";
        let switches = [
            (first("name = \"id-deploy\"", "name = \"id-deploy\"\nenabled = false"), client, 7_000_112),
            (first(main, &format!("{main}\n  enabled = false")), "invalid_client", 700_213),
            (
                without(&good, &format!("[[identity.federated_credential]]\n  {main}"), "#"),
                "invalid_client",
                700_213,
            ),
            (without(&good, "[[role_assignment]]", "never there"), "access_denied", 501_051),
            (without(&good, "[[identity]]", "[[identity]]"), client, 700_016),
        ];
        for (records, error, code) in switches {
            world.request().send(&world).await.token();
            world.live(RECORDS, &records).await;
            let reply = world.request().send(&world).await;
            if code != 501_051 {
                reply.refused(401, error, code);
            }
            assert_eq!(reply.body["error_codes"], serde_json::json!([code]));
            world.live(RECORDS, &good).await;
        }
        world.request().send(&world).await.token();

        let config = world.config();
        let entry = "allow_private_network = true";
        world.live(CONFIG, &config.replacen(entry, &format!("{entry}\nenabled = false"), 1)).await;
        world.request().send(&world).await.refused(401, "invalid_client", 700_211);
        world.live(CONFIG, &config).await;
        world.request().send(&world).await.token();
    });
}

#[test]
fn the_time_from_rename_to_the_first_refusal_is_below_a_second_or_so() {
    world(|world| async move {
        let good = world.records();
        let off = good.replacen("name = \"id-deploy\"", "name = \"id-deploy\"\nenabled = false", 1);
        let form = world.request();
        let mut times = Vec::new();
        for _ in 0..10 {
            form.send(&world).await.token();
            let renamed = Stopwatch::start();
            world.replace(RECORDS, &off);
            while form.send(&world).await.status == 200 {}
            times.push(renamed.elapsed());
            world.live(RECORDS, &good).await;
        }
        times.sort();
        println!("from rename to the first refusal: median {:?}, longest {:?}", times[5], times[9]);
        assert!(times[5].as_secs() < 5, "{times:?}");
    });
}

#[test]
fn a_rebuilt_cluster_takes_over_an_identity() {
    world(|world| async move {
        let green =
            Emulator::start(Settings { clock: world.clock.clone(), ..Settings::default() }).await.unwrap();
        let before = verify(&world, world.request().send(&world).await.token(), VAULT).await.claims;
        world.replace("green.pem", green.ca_pem());
        let entry = format!(
            "{}\n[[issuer]]\nurl = \"{}\"\nca_file = \"../green.pem\"\nallow_private_network = true\n",
            world.config(),
            green.github().issuer()
        );
        world.live(CONFIG, &entry).await;
        let new = world.request_with(&green.github().assertion(&Job::default(), AUDIENCE));
        new.send(&world).await.refused(401, "invalid_client", 700_211);

        let (old_issuer, new_issuer) = (world.emulator.github().issuer(), green.github().issuer());
        world.live(RECORDS, &world.records().replace(&old_issuer, &new_issuer)).await;
        world.request().send(&world).await.refused(401, "invalid_client", 700_211);
        let after = verify(&world, new.send(&world).await.token(), VAULT).await.claims;
        for claim in ["oid", "sub", "roles", "appid"] {
            assert_eq!(after[claim], before[claim], "{claim}");
        }
    });
}

#[test]
fn another_ca_file_takes_effect_and_a_broken_one_does_not() {
    world(|world| async move {
        let stranger = Emulator::start(Settings::default()).await.unwrap();
        world.request().send(&world).await.token();
        world.live("emulator.pem", stranger.ca_pem()).await;
        world.request().send(&world).await.refused(503, "temporarily_unavailable", 50_166);
        world.live("emulator.pem", world.emulator.ca_pem()).await;
        world.request().send(&world).await.token();
        world.replace("emulator.pem", "broken");
        assert!(world.told("refused change of ").await.contains("issuer[0].ca_file"));
        world.request().send(&world).await.token();
    });
}

#[test]
fn what_needs_a_restart_is_named_and_ignored() {
    world(|world| async move {
        let config = world.config().replacen(
            "public_url = \"https://localhost",
            "public_url = \"https://127.0.0.1",
            1,
        );
        world.replace(CONFIG, &config.replacen("[limits]\n", "[limits]\nassertion = \"1KiB\"\n", 1));
        let text = world.told("waiting for a restart").await;
        assert!(text.contains("waiting for a restart: limits.assertion, public_url\n"), "{text}");
        let token = world.request().send(&world).await.token().to_owned();
        verify(&world, &token, VAULT).await;
        assert_eq!(world.broker.generation(), 1);
    });
}

#[test]
fn a_new_certificate_is_shown_and_a_broken_pair_is_not() {
    RUNTIME.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (first, second) = (make(), make());
        std::fs::write(&cert, first.cert.pem()).unwrap();
        std::fs::write(&key, first.signing_key.serialize_pem()).unwrap();
        let issuer = format!("[listen.tls]\ncert = {cert:?}\nkey = {key:?}\n");
        let world = World::start(Plan { issuer, ca: Some(cert.clone()), ..Plan::default() }).await;
        world.request().send(&world).await.token();

        // The key follows later: until then the pair does not fit, and the one before is shown.
        std::fs::write(&cert, second.cert.pem()).unwrap();
        let text = world.told("refused change of the certificate").await;
        assert!(text.contains("does not belong"), "{text}");
        world.request().send(&world).await.token();
        std::fs::write(&key, second.signing_key.serialize_pem()).unwrap();
        while world.ops("/readyz?verbose").await.1.contains("refused") {}
        let keys = format!("{}/{TENANT}/discovery/v2.0/keys", world.authority);
        assert_eq!(client(Some(&cert)).get(keys).send().await.unwrap().status(), 200);
    });
}
