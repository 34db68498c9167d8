//! The program as people and machines start it.

use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use ficus::emulator::github::Job;
use ficus::emulator::{Emulator, Settings};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::*;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/ficus.toml");

/// The program, with nothing of ours in its environment.
pub fn ficus(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ficus"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FICUS_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// How a command ended that ends by itself.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Checks that a command is refused in one readable line that says these things.
#[track_caller]
fn refused(command: Command, said: &[&str]) {
    let ended = run(command);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    // Log lines are for machines.
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.starts_with('{')).collect();
    assert_eq!(lines.len(), 1, "{}", ended.stderr);
    assert!(lines[0].starts_with("ficus: "), "{}", lines[0]);
    for said in said {
        assert!(lines[0].contains(said), "{said}: {}", lines[0]);
    }
}

/// A configuration in a folder of its own, on free ports.
pub struct Home(TempDir);

impl Home {
    pub fn new() -> Self {
        Self::with(&ficus_toml(""), SMALL)
    }

    pub fn with(config: &str, records: &str) -> Self {
        let home = Self(TempDir::new().unwrap());
        fs::create_dir_all(home.path("etc/directory")).unwrap();
        fs::write(home.path("etc/ficus.toml"), config).unwrap();
        fs::write(home.path("etc/directory/records.toml"), records).unwrap();
        home
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, command: &[&str]) -> Command {
        let file = self.path("etc/ficus.toml");
        ficus(&[command, &["--config", file.to_str().unwrap()]].concat())
    }

    /// Makes the first keys.
    pub fn initialised(self) -> Self {
        let ended = run(self.command(&["keys", "init"]));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        self
    }
}

/// A valid configuration; `listen` is added to its section.
pub fn ficus_toml(listen: &str) -> String {
    format!(
        "public_url = \"https://localhost:8443\"\n[listen]\naddress = \"127.0.0.1:0\"\nops_address = \"127.0.0.1:0\"\n\
         {listen}\n[[tenant]]\nid = \"{TENANT}\"\n"
    )
}

/// A valid directory.
pub const SMALL: &str = "[[identity]]\nname = \"id-one\"\nkind = \"application\"\n\
    client_id = \"aaaaaaaa-0001-4a00-8000-000000000001\"\nprincipal_id = \"bbbbbbbb-0001-4a00-8000-000000000001\"\n\
    [[identity.federated_credential]]\nname = \"main\"\nissuer = \"https://issuer.example\"\nsubject = \"main\"\n";

/// A command that runs until it is told to end. It does not outlive its test.
pub struct Running {
    child: Child,
    output: TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    pub fn start(mut command: Command) -> Self {
        let output = TempDir::new().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let child = command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        Self { child, output }
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(self.output.path().join("stdout")).unwrap()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(self.output.path().join("stderr")).unwrap()
    }

    /// Waits until a look at the command gives something, and fails when the command has ended before.
    pub fn until<T>(&mut self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        for _ in 0..6000 {
            if let Some(found) = look(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "ended before {what}: {} {}", self.stdout(), self.stderr());
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("never: {what}: {} {}", self.stdout(), self.stderr());
    }

    /// Waits for the log line that tells where the listeners are: the public one and the operations'.
    pub fn ready(&mut self) -> (String, String) {
        let line = self.until("ready", |running| {
            let text = running.stderr();
            let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.into_iter().find(|line| line["message"] == "ready")
        });
        let field = |name: &str| line[name].as_str().unwrap().to_owned();
        (field("address"), field("operations"))
    }

    /// Waits for a command that ends by itself.
    pub fn ended(mut self) -> Ended {
        for _ in 0..6000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Ended { code: status.code(), stdout: self.stdout(), stderr: self.stderr() };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end: {}", self.stderr());
    }

    /// Sends a signal and waits for the end.
    pub fn end(mut self, signal: &str) -> (ExitStatus, String) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        for _ in 0..6000 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.stderr());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{signal} did not end it: {}", self.stderr());
    }
}

/// The status line of an operations path.
fn ops(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text.lines().next().unwrap_or_default().to_owned()
}

// check

#[test]
fn check_passes_the_shipped_configuration_and_tells_what_is_in_it() {
    let ended = run(ficus(&["check", "--config", SHIPPED]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let (counts, digest) = ended.stdout.trim_end().split_once('\n').unwrap();
    for noun in ["1 tenant", "identities", "credentials", "resources", "role assignments"] {
        assert!(counts.starts_with("ok: ") && counts.contains(noun), "{noun}: {counts}");
    }
    let digest = digest.strip_prefix("digest ").unwrap();
    assert!(digest.contains(|c: char| c.is_ascii_hexdigit()) && digest.len() >= 64, "{digest}");

    // The digest is of the content: file names and comments are none of it.
    let home = Home::new();
    let check = || run(home.command(&["check"])).stdout;
    let first = check();
    assert!(first.contains("1 tenant, 1 identity, 1 credential, 0 resources, 0 role assignments"), "{first}");
    fs::write(home.path("etc/directory/other.toml"), format!("# a comment\n{SMALL}")).unwrap();
    fs::remove_file(home.path("etc/directory/records.toml")).unwrap();
    assert_eq!(check(), first);
    fs::write(home.path("etc/directory/other.toml"), SMALL.replace("\"main\"", "\"other\"")).unwrap();
    assert_ne!(check(), first);
}

#[test]
fn check_tells_every_problem_with_its_place_and_a_hint() {
    let config = ficus_toml("adress = \"x\"").replace("[listen]", "[limits]\nbody = \"1KB\"\n[listen]");
    let crowd: String = (0..20)
        .map(|number| {
            format!(
                "[[identity.federated_credential]]\nname = \"fic-{number}\"\nissuer = \"https://issuer.example\"\n\
                 subject = \"{number}\"\n"
            )
        })
        .collect();
    let records =
        SMALL.replace("https://issuer.example", "http://issuer.example") + &crowd + "[[nonsense]]\n";
    let home = Home::with(&config, &records);
    let ended = run(home.command(&["check"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    let lines: Vec<&str> = ended.stderr.lines().collect();
    let (config, records) = (home.path("etc/ficus.toml"), home.path("etc/directory/records.toml"));
    for (file, line, key) in [
        (&config, 3, "limits.body"),
        (&config, 7, "listen.adress"),
        (&records, 8, "issuer"),
        (&records, 6, "at most 20"),
        (&records, 90, "nonsense"),
    ] {
        let found = lines.iter().find(|text| text.contains(key) && text.contains(file.to_str().unwrap()));
        let found = found.unwrap_or_else(|| panic!("{key}: {}", ended.stderr));
        assert!(found.starts_with("ficus: "), "{found}");
        assert!(found.contains(&format!("{}:{line}: ", file.display())), "{found}");
        assert!(found.contains("(hint: ") || key == "limits.body", "{found}");
    }
    assert!(lines.last().unwrap().ends_with("problems to put right"), "{}", ended.stderr);
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    let mut command = ficus(&["check", "--config", "/nonexistent/ficus.toml"]);
    let ended = run(ficus(&["serve", "--config", "/nonexistent/ficus.toml"]));
    assert_eq!(ended.code, Some(1));
    command.env("FICUS_CONFIG", "/also/absent.toml");
    let ended = run(command);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("/nonexistent/ficus.toml: can't be read"), "{}", ended.stderr);
    let mut command = ficus(&["check"]);
    command.env("FICUS_CONFIG", SHIPPED);
    assert_eq!(run(command).code, Some(0));
}

#[test]
fn a_wrong_use_exits_2_and_shows_how() {
    for arguments in [
        &["check", "--nonsense"][..],
        &["nonsense"],
        &["serve", "--config"],
        &["keys"],
        &["dev", "--listen", "x"],
    ] {
        let ended = run(ficus(arguments));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ended.stderr.contains("Usage:") || ended.stderr.contains("--help"), "{}", ended.stderr);
    }
}

#[test]
fn help_says_what_each_command_does() {
    for (arguments, said) in [
        (&["--help"][..], "federated token exchange broker"),
        (&["dev", "--help"], "emulated GitHub"),
        (&["serve", "--help"], "until SIGTERM"),
        (&["check", "--help"], "exits 1"),
        (&["audit", "--help"], "* stands for any characters"),
        (&["keys", "--help"], "signing keys"),
        (&["keys", "init", "--help"], "RS256"),
        (&["token", "--help"], "never the token"),
        (&["wait", "--help"], "every replica serves"),
    ] {
        let ended = run(ficus(arguments));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(ended.stdout.contains("Usage: ficus"), "{}", ended.stdout);
        let words: Vec<&str> = ended.stdout.split_whitespace().collect();
        assert!(words.join(" ").contains(said), "{said}: {}", ended.stdout);
        // No option without a word about it.
        let lines: Vec<&str> = ended.stdout.lines().collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with("--")) {
            let next = lines.get(at + 1).is_some_and(|next| next.starts_with("          "));
            assert!(next || line.trim().contains("  "), "{line}");
        }
    }
    let ended = run(ficus(&["--version"]));
    assert_eq!((ended.code, ended.stdout), (Some(0), format!("ficus {}\n", env!("CARGO_PKG_VERSION"))));
}

// serve

#[test]
fn serve_refuses_an_invalid_directory() {
    let home = Home::with(&ficus_toml(""), &SMALL.replace("subject", "subjct")).initialised();
    let ended = run(home.command(&["serve"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("records.toml:") && ended.stderr.contains("subjct"), "{}", ended.stderr);
}

#[test]
fn serve_refuses_an_empty_key_folder_and_names_the_command_that_fills_it() {
    refused(Home::new().command(&["serve"]), &["holds no keys", "ficus keys init", "data/keys"]);
}

#[test]
fn serve_refuses_a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = Home::new().initialised();
    for key in ["FICUS_LISTEN__ADDRESS", "FICUS_LISTEN__OPS_ADDRESS"] {
        let mut command = home.command(&["serve"]);
        command.env(key, &address);
        refused(command, &["can't listen on", &address, "in use"]);
    }
}

#[test]
fn p_04_serve_refuses_a_key_that_others_can_read() {
    let home = Home::new().initialised();
    let keys = fs::read_dir(home.path("data/keys")).unwrap().flatten().map(|entry| entry.path());
    let key = keys.into_iter().find(|path| path.extension().is_some_and(|e| e == "pem")).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let name = key.file_name().unwrap().to_str().unwrap();
    refused(home.command(&["serve"]), &[name, "0644", "chmod 600"]);
}

#[test]
fn serve_without_tls_refuses_to_be_reached_from_other_machines() {
    let config = ficus_toml("tls = \"off\"").replace("127.0.0.1:0\"\nops", "0.0.0.0:0\"\nops");
    let home = Home::with(&config, SMALL).initialised();
    refused(home.command(&["serve"]), &["0.0.0.0:0", "tls", "--allow-remote"]);
    let mut allowed = Running::start(home.command(&["serve", "--allow-remote"]));
    let (_, operations) = allowed.ready();
    assert_eq!(ops(&operations, "/readyz"), "HTTP/1.1 200 OK");
    assert_eq!(allowed.end("-TERM").0.code(), Some(0));
}

#[test]
fn serve_refuses_a_record_that_cannot_be_written() {
    let home = Home::new().initialised();
    let mut command = home.command(&["serve"]);
    command.env("FICUS_AUDIT__PATH", "/proc/nowhere/audit.jsonl");
    refused(command, &["audit log /proc/nowhere/audit.jsonl", "hint: "]);
}

#[test]
fn keys_are_made_once() {
    let home = Home::new();
    let ended = run(home.command(&["keys", "init"]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(
        ended.stdout.starts_with("made 2 keys in ") && ended.stdout.lines().count() == 3,
        "{}",
        ended.stdout
    );
    let manifest = || fs::read(home.path("data/keys/manifest.json")).unwrap();
    let first = manifest();
    refused(home.command(&["keys", "init"]), &["already holds 2 keys", "nothing was changed"]);
    assert_eq!(manifest(), first);
}

#[test]
fn a_broker_becomes_ready_and_ends_at_sigterm_with_everything_recorded() {
    let emulator = RUNTIME.block_on(Emulator::start(Settings::default())).unwrap();
    let issuer = emulator.github().issuer();
    let config = ficus_toml("")
        + "domain = \"contoso.example\"\n[[tenant]]\nid = \"22222222-2222-2222-2222-222222222222\"\n\
           domain = \"fabrikam.example\"\n"
        + &format!(
            "[[issuer]]\nurl = \"{issuer}\"\nca_file = \"emulator.pem\"\nallow_private_network = true\n"
        );
    let home = Home::with(&config, &DIRECTORY.replace("{issuer}", &issuer));
    fs::write(home.path("etc/emulator.pem"), emulator.ca_pem()).unwrap();
    let home = home.initialised();

    let mut broker = Running::start(home.command(&["serve"]));
    let (address, operations) = broker.ready();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ops(&operations, path), "HTTP/1.1 200 OK", "{path}");
    }
    let port = address.rsplit_once(':').unwrap().1;
    let url = format!("https://localhost:{port}/{TENANT}/oauth2/v2.0/token");
    let client = client(Some(&home.path("data/tls/ca.pem")));
    let post = |assertion: &str, scope: &str| {
        let mut body = url::form_urlencoded::Serializer::new(String::new());
        body.extend_pairs([
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT),
            ("scope", scope),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", assertion),
        ]);
        let request = client.post(&url).header("content-type", "application/x-www-form-urlencoded");
        RUNTIME.block_on(async { Reply::of(request.body(body.finish()).send().await.unwrap()).await })
    };
    let assertion = emulator.github().assertion(&Job::default(), AUDIENCE);
    let granted = post(&assertion, "https://vault.example/.default");
    granted.token();
    let refused = post(&assertion, "https://vault.example");
    refused.refused(400, "invalid_scope", 1002012);

    let (status, log) = broker.end("-TERM");
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(TcpStream::connect(&address).is_err() && TcpStream::connect(&operations).is_err());
    let text = fs::read_to_string(home.path("data/audit.jsonl")).unwrap();
    assert!(text.ends_with('\n'));
    let traces: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["traceId"].take()).collect();
    assert_eq!(traces, [granted.trace(), refused.trace()]);
    // Logs hold no token either.
    assert!(!log.contains(&assertion) && !log.contains(granted.token()));
    for line in log.lines().filter(|line| !line.starts_with("ficus: ")) {
        serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("not for machines: {line}"));
    }

    // What was made stays: the same keys and the same CA serve again.
    let ca = fs::read(home.path("data/tls/ca.pem")).unwrap();
    let mut again = Running::start(home.command(&["serve"]));
    again.ready();
    assert_eq!(fs::read(home.path("data/tls/ca.pem")).unwrap(), ca);
    assert_eq!(again.end("-INT").0.code(), Some(0));
}

// Variables

#[test]
fn a_variable_overrides_a_key() {
    let home =
        Home::with(&ficus_toml("").replace("127.0.0.1:0\"\nops", "192.0.2.1:1\"\nops"), SMALL).initialised();
    refused(home.command(&["serve"]), &["can't listen on 192.0.2.1:1"]);
    let mut command = home.command(&["serve"]);
    command.env("FICUS_LISTEN__ADDRESS", "127.0.0.1:0");
    let mut broker = Running::start(command);
    let (address, _) = broker.ready();
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(broker.end("-TERM").0.code(), Some(0));
}

#[test]
fn a_variable_with_a_wrong_value_is_named() {
    let home = Home::new();
    let mut command = home.command(&["check"]);
    command.env("FICUS_LIMITS__BODY", "many");
    let ended = run(command);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""));
    assert!(ended.stderr.contains("FICUS_LIMITS__BODY"), "{}", ended.stderr);
}

#[test]
fn a_variable_that_names_no_key_is_only_a_warning() {
    let home = Home::new();
    let mut command = home.command(&["check"]);
    // What Kubernetes injects beside a Service of our name.
    command.env("FICUS_PORT", "tcp://10.0.0.1:443").env("FICUS_SERVICE_HOST", "10.0.0.1");
    command.env("FICUS_LISTEN__ADRESS", "127.0.0.1:1");
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for name in ["FICUS_PORT", "FICUS_SERVICE_HOST", "FICUS_LISTEN__ADRESS"] {
        let warned = ended.stderr.lines().any(|line| line.contains(name) && line.contains("warning"));
        assert!(warned, "{name}: {}", ended.stderr);
    }
    assert_eq!(ended.stdout, run(home.command(&["check"])).stdout);
}

// dev

/// The lines to paste, each command whole.
fn pasted(text: &str) -> Vec<String> {
    let mut commands = Vec::<String>::new();
    let mut open = false;
    for line in text.lines() {
        if open {
            let command = commands.last_mut().unwrap();
            command.push('\n');
            command.push_str(line);
        } else if line.starts_with("curl ") {
            commands.push(line.to_owned());
        } else {
            continue;
        }
        open = line.ends_with('\\');
    }
    commands
}

fn dev(data: &Path) -> Running {
    let data = data.to_str().unwrap();
    let mut running =
        Running::start(ficus(&["dev", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--data", data]));
    running.until("the whole page", |running| running.stdout().contains("Ctrl-C stops").then_some(()));
    running
}

#[test]
fn dev_shows_an_exchange_and_a_refusal_and_its_lines_work_when_pasted() {
    let home = TempDir::new().unwrap();
    // A name that a shell would trip over.
    let data = home.path().join("it's data");
    let first = dev(&data);
    let text = first.stdout();
    assert!(text.contains("exchanges its token: HTTP 200"), "{text}");
    assert!(text.contains("github-deploy-main"), "{text}");
    assert!(text.contains("on another branch is refused: HTTP 401"), "{text}");
    assert!(text.contains("AADSTS700213"), "{text}");
    let commands = pasted(&text);
    // GitHub's token and its exchange, then a token of each other platform.
    assert_eq!(commands.len(), 5, "{text}");
    for round in 0..2 {
        let mut body = Value::Null;
        for command in &commands[..2] {
            let output = Command::new("bash")
                .args(["-c", &format!("set -o pipefail\n{command}")])
                .env("no_proxy", "localhost")
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{round}: {command}: {error}");
            body = serde_json::from_slice(&output.stdout).unwrap_or_default();
        }
        assert_eq!(body["token_type"], "Bearer", "{body}");
        assert!(body["access_token"].is_string());
    }
    for command in &commands[2..] {
        let output =
            Command::new("bash").args(["-c", command]).env("no_proxy", "localhost").output().unwrap();
        let token = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(token.trim().split('.').count(), 3, "{command}: {token}");
    }
    let described: Value = serde_json::from_slice(&fs::read(data.join("dev.json")).unwrap()).unwrap();
    let operations = described["operations"].as_str().unwrap().strip_prefix("http://").unwrap();
    assert_eq!(ops(operations, "/readyz"), "HTTP/1.1 200 OK");
    for private in ["dev.json", "assertion.jwt"] {
        let mode = fs::metadata(data.join(private)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{private}");
    }
    assert_eq!(first.end("-INT").0.code(), Some(0));
    let audit = fs::read_to_string(data.join("audit.jsonl")).unwrap();
    assert_eq!(audit.lines().count(), 7);

    let authorities = || ["tls/ca.pem", "emulator/ca.pem"].map(|name| fs::read(data.join(name)).unwrap());
    let before = authorities();
    let second = dev(&data);
    assert_eq!(authorities(), before);
    assert_eq!(second.end("-TERM").0.code(), Some(0));
}

#[test]
fn dev_refuses_to_be_reached_from_other_machines() {
    let data = TempDir::new().unwrap();
    let data = data.path().to_str().unwrap();
    let arguments = ["dev", "--listen", "0.0.0.0:0", "--ops", "127.0.0.1:0", "--data", data];
    refused(ficus(&arguments), &["0.0.0.0:0", "--allow-remote"]);
}

#[test]
fn dev_refuses_a_port_in_use_and_says_how_to_take_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = TempDir::new().unwrap();
    let data = data.path().to_str().unwrap();
    let arguments = ["dev", "--listen", &address, "--ops", "127.0.0.1:0", "--data", data];
    refused(ficus(&arguments), &[&address, "in use", "--listen 127.0.0.1:0"]);
}
