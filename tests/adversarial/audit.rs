//! The audit record when the world fails: killed at any instant, a disk that is full, a folder that takes nothing.
//!
//! The broker is the real program here, because only a process of its own can be killed or held to a file size.

use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use ficus::clock::Clock;
use ficus::emulator::{Emulator, Settings};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::*;

/// A folder that brokers are started on, one after another.
pub struct Home {
    pub folder: TempDir,
    pub emulator: Emulator,
}

impl Home {
    pub async fn new() -> Self {
        let (folder, settings) =
            (TempDir::new().unwrap(), Settings { clock: Clock::system(), ..Settings::default() });
        let emulator = Emulator::start(settings).await.unwrap();
        let issuer = emulator.github().issuer();
        // Both are named by the records.
        [&*issuer, "https://issuer.invalid"].into_iter().for_each(listed);
        fs::write(folder.path().join("emulator.pem"), emulator.ca_pem()).unwrap();
        fs::create_dir_all(folder.path().join("etc/directory")).unwrap();
        let records = DIRECTORY.replace("{issuer}", &issuer);
        fs::write(folder.path().join("etc/directory/records.toml"), records).unwrap();
        let config = format!(
            "public_url = \"https://localhost:8443\"\n\
             [listen]\naddress = \"127.0.0.1:0\"\nops_address = \"127.0.0.1:0\"\n\
             [[tenant]]\nid = \"{TENANT}\"\ndomain = \"contoso.example\"\n\
             [[tenant]]\nid = \"{OTHER_TENANT}\"\ndomain = \"fabrikam.example\"\n\
             [keys]\ncreate = true\n\
             [[issuer]]\nurl = \"{issuer}\"\nca_file = \"../emulator.pem\"\nallow_private_network = true\n"
        );
        fs::write(folder.path().join("etc/ficus.toml"), config).unwrap();
        Self { folder, emulator }
    }

    pub fn audit(&self) -> PathBuf {
        self.folder.path().join("data/audit.jsonl")
    }

    pub fn form(&self) -> Form {
        let assertion = self.emulator.github().assertion(&Default::default(), AUDIENCE);
        token_request(&assertion, "https://vault.example/.default")
    }
}

/// The program, with nothing of ours in its environment. A shell in front of it does what only a process can do to itself.
pub fn ficus(before: &str, home: &Path) -> Command {
    let mut command = Command::new("sh");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FICUS_")) {
        command.env_remove(name);
    }
    command.env("FICUS_CONFIG", home.join("etc/ficus.toml")).stdin(Stdio::null());
    command.args(["-c", &format!("{before} exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_ficus")]);
    command
}

/// A running `ficus serve`, ended with the test.
pub struct Server {
    child: Child,
    pub url: String,
    pub ops: String,
    pub client: reqwest::Client,
    /// What it said before it was ready.
    said: Vec<Value>,
    /// And since.
    pub log: Arc<Mutex<String>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start(home: &Path) -> Self {
        Self::start_with(("", "info"), home)
    }

    /// In a process to which the shell has done something first.
    pub fn start_after(before: &str, home: &Path) -> Self {
        Self::start_with((before, "info"), home)
    }

    /// That logs at this level.
    pub fn start_at(level: &str, home: &Path) -> Self {
        Self::start_with(("", level), home)
    }

    fn start_with((before, level): (&str, &str), home: &Path) -> Self {
        let mut command = ficus(before, home);
        let mut child = command
            .args(["serve", "--log", level])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said: Vec<Value> = Vec::new();
        for line in lines.by_ref() {
            said.push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
            if said.last().unwrap()["message"] == "ready" {
                break;
            }
        }
        let ready = said.last().filter(|line| line["message"] == "ready");
        let ready = ready.unwrap_or_else(|| panic!("not ready: {said:?}"));
        let field = |name: &str| ready[name].as_str().unwrap().to_owned();
        let (address, ops) = (field("address"), field("operations"));
        // What is not read would block it in the end.
        let log = Arc::new(Mutex::new(String::new()));
        let later = Arc::clone(&log);
        std::thread::spawn(move || lines.for_each(|line| *later.lock().unwrap() += &(line + "\n")));
        let port = address.rsplit(':').next().unwrap();
        let url = format!("https://localhost:{port}/{TENANT}/oauth2/v2.0/token");
        let client = client(Some(&home.join("data/tls/ca.pem")));
        Self { child, url, ops: format!("http://{ops}/readyz"), client, said, log }
    }

    /// `None` when the connection broke off: then nothing was received.
    pub async fn post(&self, form: &Form) -> Option<Reply> {
        let request = self.client.post(&self.url).header("content-type", "application/x-www-form-urlencoded");
        let response = request.body(form.body()).send().await.ok()?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.ok()?;
        Some(Reply { status, headers, body: serde_json::from_slice(&bytes).unwrap() })
    }

    pub async fn readiness(&self) -> u16 {
        self.client.get(&self.ops).send().await.unwrap().status().as_u16()
    }

    pub fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// The address space that it has, in bytes.
    fn addresses(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let size = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
        size.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() << 10
    }

    /// The largest file that it may write from now on.
    fn may_write(&self, size: Option<u64>) {
        let limit = Rlimit { current: size, maximum: getrlimit(Resource::Fsize).maximum };
        prlimit(Some(self.process()), Resource::Fsize, limit).unwrap();
    }
}

/// Every line of the log that is one; the others are what a kill may leave, and at most one for each.
pub fn lines(path: &Path, kills: usize) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    let read: Vec<Result<Value, _>> = text.lines().map(serde_json::from_str).collect();
    let broken = read.iter().filter(|line| line.is_err()).count();
    assert!(broken <= kills, "{broken} broken lines after {kills} kills");
    read.into_iter().flatten().collect()
}

pub fn granted(path: &Path, kills: usize) -> Vec<String> {
    let granted = lines(path, kills).into_iter().filter(|line| line["outcome"] == "granted");
    granted.map(|line| line["traceId"].as_str().unwrap().to_owned()).collect()
}

type Traces = Arc<Mutex<HashSet<String>>>;

/// Grants and garbage, each client on its own, until the connection is gone. Notes which grants were received.
fn load(home: &Home, server: &Arc<Server>, received: &Traces) -> JoinSet<()> {
    let mut load = JoinSet::new();
    for client in 0..6 {
        let honest = client < 4;
        let form = if honest { home.form() } else { home.form().with("client_assertion", "a.b.c") };
        let (server, received) = (Arc::clone(server), Arc::clone(received));
        load.spawn(async move {
            while let Some(reply) = server.post(&form).await {
                assert_eq!(reply.status, if honest { 200 } else { 400 }, "{:?}", reply.body);
                if honest {
                    received.lock().unwrap().insert(reply.trace());
                }
            }
        });
    }
    load
}

#[track_caller]
fn all_recorded(home: &Home, received: &Traces, ends: usize) {
    let recorded: HashSet<String> = granted(&home.audit(), ends).into_iter().collect();
    let missing: Vec<_> = received.lock().unwrap().difference(&recorded).cloned().collect();
    assert!(missing.is_empty(), "after {ends} ends: {missing:?}");
}

#[test]
fn killed_at_any_instant_every_grant_that_was_received_is_recorded() {
    const ROUNDS: usize = 8;
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let received = Arc::new(Mutex::new(HashSet::new()));
        for round in 0..ROUNDS {
            let server = Arc::new(Server::start(home.folder.path()));
            let faults: Vec<_> = server.said.iter().filter(|line| line["level"] == "ERROR").collect();
            assert!(faults.is_empty(), "round {round}: {faults:?}");
            assert_eq!(server.readiness().await, 200);
            let load = load(&home, &server, &received);
            // At another moment of the load each time: so many grants have been received, others are under way.
            let enough = received.lock().unwrap().len() + 1 + round * 3;
            let grown = || async { (received.lock().unwrap().len() >= enough).then_some(()) };
            eventually("load", grown).await;
            kill_process(server.process(), Signal::KILL).unwrap();
            load.join_all().await;
            all_recorded(&home, &received, round + 1);
        }
        // A half-written line, as a kill in the middle of a write leaves it, is ended and does not swallow the next.
        fs::write(home.audit(), [&fs::read(home.audit()).unwrap()[..], b"{\"outcome\":\"gran"].concat())
            .unwrap();
        let server = Server::start(home.folder.path());
        assert!(server.said.iter().any(|line| line.to_string().contains("ends with a part of a line")));
        let last = server.post(&home.form()).await.unwrap();
        last.token();
        let all = granted(&home.audit(), ROUNDS + 1);
        assert_eq!(all.last(), Some(&last.trace()));
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len(), "none is there twice");
    });
}

/// Clients of which each keeps a connection take what memory there is.
#[test]
fn without_memory_the_process_aborts_and_every_grant_that_was_received_is_recorded() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let received = Traces::default();
        // The allocator reserves a gigabyte of addresses at the start, which would be counted as used.
        let server = Server::start_after("export MIMALLOC_ARENA_RESERVE=32MiB;", home.folder.path());
        let mut server = Arc::new(server);
        let load = load(&home, &server, &received);
        eventually("load", || async { (received.lock().unwrap().len() > 20).then_some(()) }).await;
        let limit = Rlimit { current: Some(server.addresses()), maximum: getrlimit(Resource::As).maximum };
        prlimit(Some(server.process()), Resource::As, limit).unwrap();
        let mut clients = Vec::new();
        loop {
            let client = client(Some(&home.folder.path().join("data/tls/ca.pem")));
            if client.get(&server.url).send().await.is_err() {
                break;
            }
            clients.push(client);
        }
        load.join_all().await;
        let status = Arc::get_mut(&mut server).unwrap().wait();
        assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()), "{status}");
        all_recorded(&home, &received, 1);
        let server = Server::start(home.folder.path());
        server.post(&home.form()).await.unwrap().token();
    });
}

/// The sum of what could not be recorded when it happened.
fn missed(path: &Path) -> u64 {
    let missed = lines(path, 0).into_iter().filter(|line| line["status"]["errorCode"] == 90033);
    missed.map(|line| line["count"].as_u64().unwrap_or(1)).sum()
}

/// While the record takes nothing there are no grants and refusals only; afterwards all is as before, and what was missed
/// is counted.
async fn outage(home: &Home, server: &Server, begin: impl FnOnce(), end: impl FnOnce()) {
    let path = home.audit();
    let first = server.post(&home.form()).await.unwrap();
    first.token();
    begin();
    for _ in 0..3 {
        let reply = server.post(&home.form()).await.unwrap();
        reply.refused(503, "temporarily_unavailable", 90033);
        assert_eq!(server.readiness().await, 503);
        let garbage = server.post(&home.form().with("client_assertion", "a.b.c")).await.unwrap();
        garbage.refused(400, "invalid_request", 50027);
    }
    end();
    let last = eventually("a grant", || async {
        let reply = server.post(&home.form()).await.unwrap();
        (reply.status == 200).then_some(reply)
    })
    .await;
    last.token();
    assert_eq!(server.readiness().await, 200);
    // Nothing of what failed is left but its count.
    let told = || async { (missed(&path) >= 3).then_some(()) };
    eventually("what could not be recorded", told).await;
    assert_eq!(granted(&path, 0), [first.trace(), last.trace()]);
}

#[test]
fn a_full_disk_stops_grants_and_nothing_else_until_there_is_room() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let server = Server::start(home.folder.path());
        let path = home.audit();
        // Room for a part of a line: the write breaks off in the middle of it.
        let full = || server.may_write(Some(fs::metadata(&path).unwrap().len() + 100));
        outage(&home, &server, full, || server.may_write(None)).await;
    });
}

/// What a mount that has become read-only does to the log, without the right to mount: it can't be opened for writing.
#[test]
fn a_log_that_cannot_be_opened_stops_grants_until_it_can() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let server = Server::start(home.folder.path());
        let (path, aside) = (home.audit(), home.audit().with_extension("aside"));
        let begin = || {
            fs::rename(&path, &aside).unwrap();
            fs::create_dir(&path).unwrap();
        };
        let end = || {
            fs::remove_dir(&path).unwrap();
            fs::rename(&aside, &path).unwrap();
        };
        outage(&home, &server, begin, end).await;
    });
}

#[test]
fn keys_that_cannot_be_written_leave_the_old_ones() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let server = Server::start(home.folder.path());
        let keys = |before: &str, command: &[&str]| {
            let output = ficus(before, home.folder.path()).arg("keys").args(command).output().unwrap();
            let text = |bytes| String::from_utf8(bytes).unwrap();
            (output.status.code(), text(output.stdout), text(output.stderr))
        };
        let names = |text: String| -> Vec<String> {
            text.lines().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
        };
        let (code, before, _) = keys("", &["list"]);
        assert_eq!(code, Some(0));
        let files = || {
            let names = fs::read_dir(home.folder.path().join("data/keys")).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let held = files();
        for size in [0, 1] {
            let (code, _, stderr) = keys(&format!("trap '' XFSZ; ulimit -f {size};"), &["rotate", "--now"]);
            assert_eq!(code, Some(1), "{stderr}");
            assert!(stderr.starts_with("ficus: "), "{stderr}");
            assert_eq!(names(keys("", &["list"]).1), names(before.clone()));
            server.post(&home.form()).await.unwrap().token();
        }
        assert_eq!(files(), held, "nothing half-written is left");
        let (code, _, stderr) = keys("", &["rotate", "--now"]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(names(keys("", &["list"]).1).len() > names(before).len());
        server.post(&home.form()).await.unwrap().token();
    });
}

#[test]
fn a_flood_of_garbage_stops_no_grant_and_is_counted_exactly() {
    const CLIENTS: u64 = 8;
    const EACH: u64 = 100;
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let server = Arc::new(Server::start(home.folder.path()));
        let mut flood = JoinSet::new();
        for _ in 0..CLIENTS {
            let (server, form) = (Arc::clone(&server), home.form().with("client_assertion", "not.a.token"));
            flood.spawn(async move {
                for _ in 0..EACH {
                    server.post(&form).await.unwrap().refused(400, "invalid_request", 50027);
                }
            });
        }
        let mut received = Vec::new();
        while !flood.is_empty() {
            let reply = server.post(&home.form()).await.unwrap();
            reply.token();
            received.push(reply.trace());
            while let Some(ended) = flood.try_join_next() {
                ended.unwrap();
            }
        }
        assert_eq!(granted(&home.audit(), 0), received);
        let told = || async {
            let garbage =
                lines(&home.audit(), 0).into_iter().filter(|line| line["status"]["errorCode"] == 50027);
            let counts = garbage.map(|line| line["count"].as_u64().unwrap_or(1));
            (counts.sum::<u64>() == CLIENTS * EACH).then_some(())
        };
        eventually("every refusal, by itself or counted", told).await;
    });
}
