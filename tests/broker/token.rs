//! `ficus token` as jobs and pods start it: the real program, in an environment in which there is nothing but what their
//! platform sets, against a broker and emulated platforms.

mod front;
mod inputs;
mod outputs;
mod refusals;
mod retries;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ficus::emulator::github::Job;
use ficus::emulator::{ServiceAccount, gitlab};
use tempfile::TempDir;

use crate::platforms::plan;
use crate::support::*;

const REQUEST_URL: &str = "ACTIONS_ID_TOKEN_REQUEST_URL";
const REQUEST_TOKEN: &str = "ACTIONS_ID_TOKEN_REQUEST_TOKEN";

/// Where a job runs.
pub struct Runner<'w> {
    world: &'w World,
    folder: TempDir,
}

impl<'w> Runner<'w> {
    pub fn new(world: &'w World) -> Self {
        let folder = TempDir::new().unwrap();
        // As on a machine on which the CAs of broker and platform are known.
        let mut authorities = fs::read(world.folder.path().join("emulator.pem")).unwrap();
        authorities.extend(fs::read(world.broker.ca_file().unwrap()).unwrap());
        fs::write(folder.path().join("ca.pem"), authorities).unwrap();
        Self { world, folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `ficus token`, with a broker, an identity and a resource, and no platform.
    pub fn token(&self, arguments: &[&str]) -> Command {
        self.asking(VAULT, "ca.pem", arguments)
    }

    /// The same for another resource, or with another file of CAs.
    pub fn asking(&self, resource: &str, ca: &str, arguments: &[&str]) -> Command {
        let mut command = self.bare(&["--resource", resource, "--ca-file", ca]);
        command.args(arguments);
        command
            .env("AZURE_AUTHORITY_HOST", &self.world.authority)
            .env("AZURE_TENANT_ID", TENANT)
            .env("AZURE_CLIENT_ID", CLIENT);
        command
    }

    /// The same without all that.
    pub fn bare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ficus"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.arg("token").args(arguments);
        command
    }

    /// The same in a step of GitHub Actions that may ask for tokens.
    pub fn on_github(&self, name: &str, job: Job, arguments: &[&str]) -> Command {
        let request = self.world.emulator.github().register(name, job);
        let mut command = self.token(arguments);
        command.env("GITHUB_ACTIONS", "true").env(REQUEST_URL, request.url).env(REQUEST_TOKEN, request.token);
        command
    }

    /// Saves a file of the job.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// How it ended.
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn run(command: Command) -> Ended {
    fed(command, b"")
}

/// With something on its standard input.
pub fn fed(mut command: Command, input: &[u8]) -> Ended {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who doesn't read it may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input);
    ended(child)
}

pub fn ended(child: std::process::Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Ended {
    /// The token that was printed; nothing else was.
    #[track_caller]
    pub fn token(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stderr);
        let token = self.stdout.strip_suffix('\n').unwrap();
        assert!(token.starts_with("eyJ") && token.split('.').count() == 3, "{token}");
        token
    }

    /// What it said when it failed with this code. Nothing was printed, and no JWT was shown.
    #[track_caller]
    pub fn failed(&self, code: i32) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{}", self.stderr);
        assert!(!self.stderr.contains("eyJ"), "{}", self.stderr);
        self.stderr.strip_prefix("ficus: ").unwrap_or_else(|| panic!("not said by us: {}", self.stderr))
    }

    /// The same of the last line: a command that was asked may have said something before.
    #[track_caller]
    pub fn failed_last(&self, code: i32) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{}", self.stderr);
        self.stderr.lines().last().and_then(|line| line.strip_prefix("ficus: ")).unwrap_or_default()
    }

    /// The same, said in one line.
    #[track_caller]
    pub fn line(&self, code: i32) -> &str {
        let said = self.failed(code);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    }
}

#[test]
fn every_source_gives_its_token_and_the_platforms_are_found_by_themselves() {
    own(plan(), |world| async move {
        let (runner, emulator) = (Runner::new(&world), &world.emulator);
        let check = async |command: Command| {
            let token = run(command).token().to_owned();
            let checked = verify(&world, &token, VAULT).await;
            assert_eq!(checked.claims["appid"], CLIENT);
        };
        check(runner.on_github("main", Job::default(), &[])).await;
        check(runner.on_github("main", Job::default(), &["--from", "github"])).await;

        let token = emulator.gitlab().assertion(&gitlab::Job::default(), AUDIENCE);
        let mut job = runner.token(&[]);
        job.env("GITLAB_CI", "true").env("FICUS_ID_TOKEN", &token);
        check(job).await;
        let mut job = runner.token(&["--from", "gitlab:BROKER_TOKEN"]);
        job.env("GITLAB_CI", "true").env("BROKER_TOKEN", &token).env("FICUS_ID_TOKEN", "another");
        check(job).await;

        let account = ServiceAccount::new("payments", "payments-service");
        let token = emulator.aks().assertion(&account, &[AUDIENCE]);
        let file = runner.file("azure-identity-token", &token);
        let mut pod = runner.token(&[]);
        pod.env("KUBERNETES_SERVICE_HOST", "10.0.0.1").env("AZURE_FEDERATED_TOKEN_FILE", &file);
        check(pod).await;
        check(runner.token(&["--from", "kubernetes:azure-identity-token"])).await;
        check(runner.token(&["--from", "file:azure-identity-token"])).await;
        check(runner.token(&["--from", "exec:cat azure-identity-token; echo"])).await;
        let mut job = runner.token(&["--from", "env:THE_TOKEN"]);
        job.env("THE_TOKEN", format!("{token}\n"));
        check(job).await;
        let piped = fed(runner.token(&["--from", "stdin"]), token.as_bytes());
        verify(&world, piped.token(), VAULT).await;
    });
}

#[test]
fn a_job_on_a_machine_with_an_identity_acts_as_itself_or_not_at_all() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let file = runner.file("token", world.assertion());
        let mut pod = runner.token(&[]);
        pod.env("AZURE_FEDERATED_TOKEN_FILE", &file).env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        run(pod).token();
        let mut runner_in_pod = runner.token(&[]);
        runner_in_pod.env("AZURE_FEDERATED_TOKEN_FILE", &file).env("GITHUB_ACTIONS", "true");
        assert!(run(runner_in_pod).failed(1).contains("id-token: write"));
    });
}

#[test]
fn what_is_missing_is_told_before_anybody_is_asked() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let ended = run(runner.bare(&[]));
        let line = ended.line(2);
        for name in ["AZURE_AUTHORITY_HOST", "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "--resource or --scope"] {
            assert!(line.contains(name), "{name}: {line}");
        }
        // A variable that is there and empty, as of an input that was not given.
        let mut command = runner.token(&["--from", "stdin"]);
        command.env("AZURE_TENANT_ID", "");
        let ended = run(command);
        let line = ended.line(2);
        assert!(line.contains("AZURE_TENANT_ID") && !line.contains("AZURE_CLIENT_ID"), "{line}");
        assert!(run(runner.token(&[])).line(2).contains("--from github"));
        for (arguments, word) in [
            (&["--authority", "http://sts.example"][..], "not https"),
            (&["--authority", "https://sts.example/tenant"], "more than scheme"),
            (&["--tenant", "a/b"], "neither a GUID nor a domain"),
            (&["--timeout", "11m"], "between 1s and 10m"),
            (&["--output", "github"], "GITHUB_OUTPUT"),
        ] {
            let ended = run(runner.token(&[&["--from", "stdin"], arguments].concat()));
            assert!(ended.line(2).contains(word), "{word}: {}", ended.stderr);
        }
        for arguments in [
            &["--from", "azure"][..],
            &["--output", "nowhere"],
            &["--output", "env:a b"],
            &["--scope", "x/.default"],
            &["--dry-run", "--output", "token"],
        ] {
            let ended = run(runner.token(arguments));
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.stderr);
        }
    });
}
