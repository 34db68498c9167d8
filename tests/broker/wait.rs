//! `ficus wait` with brokers that are processes of their own, each with its own copy of the files.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::cli::{Ended, Home, Running, SMALL, ficus, ficus_toml, run};

struct Replica {
    home: Home,
    running: Running,
    url: String,
    public: String,
}

impl Replica {
    fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// All have the same settings, but for where they listen.
    fn at(ops: &str) -> Self {
        let home = Home::with(&ficus_toml(""), SMALL).initialised();
        let mut command = home.command(&["serve"]);
        command.env("FICUS_LISTEN__OPS_ADDRESS", ops);
        let mut running = Running::start(command);
        let (public, ops) = running.ready();
        Self { home, running, url: format!("http://{ops}"), public }
    }

    /// Replaces the records.
    fn change(&self, records: &str) {
        let path = self.home.path("etc/directory/records.toml");
        fs::write(path.with_extension("new"), records).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    fn digest(&self) -> String {
        let ended = run(self.home.command(&["check"]));
        ended.stdout.trim_end().rsplit(' ').next().unwrap().to_owned()
    }
}

fn wait(what: [&str; 2], ops: &[&str], more: &[&str]) -> Command {
    ficus(&[&["wait"], &what[..], &["--ops"], ops, more].concat())
}

/// Says that one replica lacks it, and what of that one.
fn lacks(ended: &Ended, url: &str, said: &str) {
    let (_, summary) = ended.stderr.split_once(" don't serve ").unwrap_or_else(|| panic!("{}", ended.stderr));
    assert!(summary.contains(&format!("{url}: ")) && summary.contains(said), "{said}: {}", ended.stderr);
}

fn changed() -> String {
    SMALL.replace("id-one", "id-other")
}

#[test]
fn a_change_is_waited_for_until_every_replica_serves_it() {
    let (first, second) = (Replica::start(), Replica::start());
    let (before, ops) = (first.digest(), [first.url.as_str(), second.url.as_str()]);
    let ended = run(wait(["--digest", &before], &ops, &[]));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with(&format!("2 replicas serve {before}, after 0.")), "{}", ended.stdout);

    first.change(&changed());
    let digest = first.digest();
    assert_ne!(digest, before);
    assert_eq!(run(wait(["--digest", &digest], &ops[..1], &[])).code, Some(0));
    let ended = run(wait(["--digest", &digest], &ops, &["--timeout", "1s"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    lacks(&ended, &second.url, &format!("still serves another: {before}, generation 1"));
    assert!(!ended.stderr.split_once(" don't serve ").unwrap().1.contains(&first.url), "{}", ended.stderr);

    // By the files instead, while the second replica has not got them.
    let config = first.home.path("etc/ficus.toml");
    let mut waiting = Running::start(wait(["--config", config.to_str().unwrap()], &ops, &["--json"]));
    waiting.until("the second is asked", |waiting| waiting.stderr().contains("still serves").then_some(()));
    second.change(&changed());
    let outcome = waiting.ended();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    // Once for each change.
    assert_eq!(outcome.stderr.lines().count(), 3, "{}", outcome.stderr);
    let report: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&report["digest"], &report["served"]), (&digest.clone().into(), &true.into()));
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{report}");
    for replica in report["replicas"].as_array().unwrap() {
        assert_eq!(
            (&replica["digest"], &replica["generation"]),
            (&digest.clone().into(), &2.into()),
            "{report}"
        );
    }
}

#[test]
fn a_replica_that_refuses_the_change_is_named_with_its_reasons() {
    let (first, second) = (Replica::start(), Replica::start());
    first.change(&changed());
    second.change(&changed().replace("subject", "subjct"));
    let digest = first.digest();
    let ops = [first.url.as_str(), second.url.as_str()];
    let waiting = wait(["--digest", &digest], &ops, &["--timeout", "1h"]);
    let mut waiting = Running::start(waiting);
    // It says so at once, and goes on: the change may be mended.
    waiting.until("it is refused", |waiting| waiting.stderr().contains("refused change of").then_some(()));
    let ended = run(wait(["--digest", &digest], &ops, &["--timeout", "1s"]));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    lacks(&ended, &second.url, "records.toml:9: identity[0].federated_credential[0].subjct: unknown key");
    second.change(&changed());
    assert_eq!(waiting.ended().code, Some(0));
    // Whatever it is that is refused later: what the digest does not name may be in it.
    second.change(&changed().replace("subject", "subjct"));
    let ended = loop {
        let ended = run(wait(["--digest", &digest], &ops, &["--timeout", "1s"]));
        if ended.code != Some(0) {
            break ended;
        }
    };
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    lacks(&ended, &second.url, "serves it, but has refused a change");
}

#[test]
fn a_replica_that_can_t_be_reached_is_69_unless_another_has_something_else() {
    let (first, gone) = (Replica::start(), Replica::start());
    let (digest, url) = (first.digest(), gone.url.clone());
    let [serving, silent] = [first.url.as_str(), url.as_str()];
    gone.running.end("-TERM");
    let ended = run(wait(["--digest", &digest], &[serving, silent], &["--timeout", "1s", "--json"]));
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    lacks(&ended, silent, "refused");
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["served"], false);
    let serves: Vec<_> = report["replicas"].as_array().unwrap().iter().map(|one| &one["serves"]).collect();
    assert!(serves.contains(&&true.into()) && serves.contains(&&false.into()), "{report}");

    let ended = run(wait(["--digest", &"0".repeat(64)], &[serving, silent], &["--timeout", "1s"]));
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let ended = run(wait(["--digest", &digest], &["http://nothing.invalid:1"], &["--timeout", "1s"]));
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    lacks(&ended, "http://nothing.invalid:1", "name");
}

#[test]
fn what_is_no_operations_listener_is_told_and_https_is_checked() {
    let replica = Replica::start();
    let url = format!("https://localhost:{}", replica.public.rsplit(':').next().unwrap());
    let ca = replica.home.path("data/tls/ca.pem");
    let digest = replica.digest();
    // A machine may be too busy to answer in time; that is not what this is about.
    let ask = |more: &[&str]| loop {
        let ended = run(wait(["--digest", &digest], &[&url], &[&["--timeout", "1s"], more].concat()));
        if !ended.stderr.contains("no answer within") {
            break ended;
        }
    };
    let ended = ask(&["--ca-file", ca.to_str().unwrap()]);
    assert_eq!(ended.code, Some(69), "{}", ended.stderr);
    lacks(&ended, &url, "404 without a digest");
    lacks(&ask(&[]), &url, "signed by no authority that is trusted here");
    let ended = ask(&["--ca-file", "/nonexistent"]);
    assert!(ended.code == Some(1) && ended.stderr.contains("/nonexistent"), "{}", ended.stderr);
}

#[test]
fn a_wrong_use_of_wait_exits_2() {
    let (digest, ops) = ("0".repeat(64), ["--ops", "http://127.0.0.1:1"]);
    let config = ["--config", "x"];
    for arguments in [
        &[&["--digest", &digest[1..]], &ops[..]].concat(),
        &[&["--digest", &digest.replace('0', "A")], &ops[..]].concat(),
        &[&["--digest", &digest], &ops[..], &config].concat(),
        &ops.to_vec(),
        &vec!["--digest", &digest],
        &[&["--digest", &digest], &ops[..], &["--timeout", "0s"]].concat(),
        &[&["--digest", &digest], &["--ops", "127.0.0.1:1"][..]].concat(),
    ] {
        let ended = run(ficus(&[&["wait"], &arguments[..]].concat()));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.stderr);
    }
}

#[test]
fn every_address_of_a_name_is_a_replica() {
    if Command::new("bwrap").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "bwrap is missing");
        println!("skipped: bwrap is missing (Debian and Ubuntu: apt install bubblewrap)");
        return;
    }
    let first = Replica::start();
    let port = first.url.rsplit(':').next().unwrap();
    let second = Replica::at(&format!("127.0.0.2:{port}"));
    let hosts = first.home.path("hosts");
    let names = |addresses: &[&str]| {
        let lines = addresses.iter().map(|address| format!("{address} replicas.example\n"));
        fs::write(&hosts, lines.collect::<String>()).unwrap();
    };
    let url = format!("http://replicas.example:{port}");
    let wait = |digest: &str, timeout| {
        let program = wait(["--digest", digest], &[&url], &["--timeout", timeout]);
        let mut command = Command::new("bwrap");
        command.args(["--bind", "/", "/", "--dev-bind", "/dev", "/dev", "--ro-bind"]).arg(&hosts);
        command.arg("/etc/hosts").arg(program.get_program()).args(program.get_args());
        command
    };
    names(&["127.0.0.1", "127.0.0.2"]);
    let ended = run(wait(&first.digest(), "60s"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("2 replicas serve "), "{}", ended.stdout);
    second.change(&changed());
    let mut waiting = Running::start(wait(&second.digest(), "1h"));
    waiting.until("both are asked", |waiting| {
        let told = waiting.stderr();
        let first = told.contains(&format!("{url} (127.0.0.1): still serves another"));
        (first && told.contains(&format!("{url} (127.0.0.2): serves it"))).then_some(())
    });
    // A replica that is gone is waited for no more.
    names(&["127.0.0.2"]);
    let ended = waiting.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("(127.0.0.1): its name has this address no more"), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("1 replica serves "), "{}", ended.stdout);
}
