//! What goes wrong between the platform and us: one clear line, the right exit code, and nothing of the token in it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use ficus::emulator::github::Job;

use super::{REQUEST_TOKEN, REQUEST_URL, Runner, fed, run};
use crate::support::*;

#[test]
fn a_job_without_the_permission_is_told_the_lines_to_add() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let mut job = runner.token(&[]);
        job.env("GITHUB_ACTIONS", "true");
        let ended = run(job);
        assert!(ended.failed(1).contains("\npermissions:\n  id-token: write\n"), "{}", ended.stderr);
        let mut job = runner.token(&["--audience", "api://other"]);
        job.env("GITLAB_CI", "true");
        let ended = run(job);
        let lines = "\nid_tokens:\n  FICUS_ID_TOKEN:\n    aud: api://other\n";
        assert!(ended.failed(1).contains(lines), "{}", ended.stderr);
        let mut pod = runner.token(&[]);
        pod.env("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        let ended = run(pod);
        let said = ended.failed(1);
        assert!(
            said.contains("serviceAccountToken:") && said.contains("audience: api://AzureADToken"),
            "{said}"
        );
    });
}

#[test]
fn what_is_no_token_is_told_with_its_likely_cause() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let token = world.assertion();
        let (body, _) = token.rsplit_once('.').unwrap();
        for (content, words) in [
            (String::new(), &["is empty"][..]),
            (" \r\n".to_owned(), &["is empty"]),
            (format!("\"{token}\""), &["quotes"]),
            (format!("Bearer {token}"), &["Bearer"]),
            (format!("{{\"count\":1,\"value\":\"{token}\"}}"), &["JSON", "jq -r .value"]),
            (format!("\u{feff}{token}"), &["byte order mark"]),
            (token.replacen('.', ".\n", 1), &["white space within"]),
            (body.to_owned(), &["2 parts", "whole"]),
            (format!("{token}="), &["not a JWT", "base64url"]),
            ("null".to_owned(), &["jq"]),
            ("$FICUS_ID_TOKEN".to_owned(), &["not its value"]),
            ("a".repeat((64 << 10) + 1), &["64 KiB"]),
        ] {
            let ended = fed(runner.token(&["--from", "stdin"]), content.as_bytes());
            let line = ended.line(1);
            assert!(line.starts_with("the standard input ") || line.contains("larger"), "{line}");
            assert!(words.iter().all(|word| line.contains(word)), "{words:?}: {line}");
        }
        // What brokers take off, we do.
        for content in [format!("{token}\n"), format!(" \t{token}\r\n\n")] {
            fed(runner.token(&["--from", "stdin"]), content.as_bytes()).token();
        }
        let utf16: Vec<u8> = token.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut marked = vec![0xff, 0xfe];
        marked.extend(utf16);
        assert!(fed(runner.token(&["--from", "stdin"]), &marked).line(1).contains("UTF-16"));
    });
}

#[test]
fn the_token_to_ask_with_is_told_from_the_answer() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let mut job = runner.on_github("asks-with-itself", Job::default(), &[]);
        job.args(["--from", &format!("env:{REQUEST_TOKEN}")]);
        let ended = run(job);
        let line = ended.line(1);
        assert!(line.contains(REQUEST_TOKEN) && line.contains("`value`"), "{line}");
        // On GitHub it is a JWT itself, of the runners' own issuer.
        let (header, mut claims) = world.honest();
        claims["iss"] = "https://vstoken.actions.githubusercontent.com".into();
        let ended = fed(runner.token(&["--from", "stdin"]), world.sign(&header, &claims).as_bytes());
        assert!(ended.line(1).contains("`value`"), "{}", ended.stderr);
    });
}

#[test]
fn sources_that_give_nothing_are_told() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let locked = runner.file("locked", "x");
        std::fs::set_permissions(&locked, Permissions::from_mode(0o000)).unwrap();
        // Whoever runs tests as root may read everything.
        let root = std::fs::read(&locked).is_ok();
        for (from, words) in [
            ("file:absent", &["absent can't be read", "No such file"][..]),
            ("file:.", &["can't be read", "directory"]),
            ("file:locked", if root { &["locked is not a JWT"] } else { &["Permission denied"] }),
            ("kubernetes:absent", &["absent can't be read"]),
            ("env:ABSENT", &["ABSENT is not set"]),
            ("exec:exit 7", &["exit code 7"]),
            ("exec:/absent/command", &["exit code 127"]),
            ("exec:true", &["is empty"]),
            ("exec:kill -9 $$", &["was killed"]),
            ("exec:yes", &["64 KiB"]),
        ] {
            let ended = run(runner.token(&["--from", from]));
            let said = ended.failed_last(1);
            assert!(words.iter().all(|word| said.contains(word)), "{from}: {}", ended.stderr);
        }
        let ended = run(runner.token(&["--timeout", "1s", "--from", "exec:sleep 600; echo"]));
        assert!(ended.line(1).contains("did not end within 1 s"), "{}", ended.stderr);
    });
}

#[test]
fn githubs_endpoint_that_refuses_is_told() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let mut job = runner.on_github("refused", Job::default(), &[]);
        job.env(REQUEST_TOKEN, "of-another-job");
        let ended = run(job);
        let line = ended.line(1);
        assert!(line.contains("401") && !line.contains("of-another-job"), "{line}");
        for (url, words, code) in [
            ("https://localhost:1/x?a=1", &["https://localhost:1", "refused"][..], 69),
            ("http://sts.example/x", &["not an https URL"], 1),
            ("nonsense", &["not an https URL"], 1),
            (&format!("{}/nothing", world.emulator.origin()), &["404"], 1),
            (&world.emulator.github().jwks_url(), &["no JSON with a `value`"], 1),
        ] {
            let mut job = runner.on_github("refused", Job::default(), &["--timeout", "1s"]);
            job.env(REQUEST_URL, url);
            let ended = run(job);
            let line = ended.line(code);
            assert!(words.iter().all(|word| line.contains(word)), "{url}: {line}");
        }
        run(runner.on_github("refused", Job::default(), &[])).token();
    });
}

#[test]
fn certificates_that_are_not_trusted_and_files_without_any_are_told() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let token = world.assertion();
        let with = |ca: &str| fed(runner.asking(VAULT, ca, &["--from", "stdin"]), token.as_bytes());
        // A CA that is sound, and of somebody else.
        std::fs::copy(world.folder.path().join("emulator.pem"), runner.path("other.pem")).unwrap();
        let ended = with("other.pem");
        let line = ended.line(1);
        assert!(line.contains("no authority that is trusted here") && line.contains("--ca-file"), "{line}");
        runner.file("empty.pem", "");
        assert!(with("empty.pem").line(1).contains("--ca-file empty.pem: there is no certificate"));
        assert!(with("absent.pem").line(1).contains("--ca-file absent.pem: can't be read"));
        with("ca.pem").token();
    });
}
