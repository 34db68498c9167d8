//! Where the token goes, and where it doesn't.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use ficus::emulator::github::Job;
use serde_json::Value;

use super::{Ended, Runner, run};
use crate::support::*;

#[test]
fn each_output_holds_the_token_and_nothing_else_does() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let go = |arguments: &[&str]| run(runner.on_github("outputs", Job::default(), arguments));
        let token = go(&["--output", "token"]).token().to_owned();
        verify(world, &token, VAULT).await;

        let ended = go(&["--output", "json"]);
        let answer: Value = serde_json::from_str(&ended.stdout).unwrap();
        verify(world, answer["access_token"].as_str().unwrap(), VAULT).await;
        assert_eq!(answer["token_type"], "Bearer");
        let (left, until) = (answer["expires_in"].as_i64().unwrap(), answer["expires_on"].as_i64().unwrap());
        assert!(left > 600 && until > left, "{answer}");

        let ended = go(&["--output", "env"]);
        let script = "eval \"$LINES_OF_FICUS\"; sh -c 'echo $ACCESS_TOKEN $ACCESS_TOKEN_EXPIRES_ON'";
        let shell = Command::new("sh").args(["-c", script]).env("LINES_OF_FICUS", &ended.stdout).output();
        let shell = String::from_utf8(shell.unwrap().stdout).unwrap();
        let (token, until) = shell.trim().split_once(' ').unwrap();
        verify(world, token, VAULT).await;
        assert!(until.parse::<i64>().is_ok(), "{until}");
        assert!(go(&["--output", "env:VAULT"]).stdout.starts_with("export VAULT='eyJ"));

        let ended = go(&["--output", "file:token.jwt"]);
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), "", ""));
        let file = runner.path("token.jwt");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        verify(world, &fs::read_to_string(&file).unwrap(), VAULT).await;
        // What stood there before goes only when there is something better, and nothing is left beside it.
        runner.file("token.jwt", "old");
        let mut refused = runner.on_github("outputs", Job::default(), &["--output", "file:token.jwt"]);
        refused.env("AZURE_CLIENT_ID", TENANT);
        run(refused).failed(1);
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(go(&["--output", "file:token.jwt"]).code, Some(0));
        assert_ne!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(fs::read_dir(runner.path("")).unwrap().count(), 2);
        assert!(
            go(&["--output", "file:absent/token.jwt"]).line(1).contains("absent/token.jwt can't be written")
        );
    });
}

#[test]
fn a_step_of_github_gets_a_masked_output_and_its_log_no_token() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let outputs = runner.file("outputs", "earlier=1");
        let mut step = runner.on_github("step", Job::default(), &["--output", "github"]);
        step.env("GITHUB_OUTPUT", &outputs);
        let ended = run(step);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let lines = fs::read_to_string(&outputs).unwrap();
        let lines: Vec<&str> = lines.lines().collect();
        let ["earlier=1", token, until] = lines[..] else { panic!("{lines:?}") };
        let token = token.strip_prefix("access_token=").unwrap();
        verify(world, token, VAULT).await;
        assert!(until.starts_with("expires_on="), "{until}");
        // The one line that shows it is the one that makes the runner hide it.
        assert_eq!(ended.stdout, format!("::add-mask::{token}\n"));
    });
}

#[test]
fn not_even_the_longest_log_holds_a_token() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let assertion = world.assertion();
        let outputs = runner.file("outputs", "");
        let mut step = runner.token(&["--from", "env:PLATFORM_TOKEN", "--output", "github"]);
        step.env("FICUS_LOG", "trace").env("PLATFORM_TOKEN", &assertion).env("GITHUB_OUTPUT", &outputs);
        let ended = run(step);
        assert_eq!(ended.code, Some(0));
        assert!(ended.stderr.contains("localhost"), "nothing was logged: {}", ended.stderr);
        let request = world.emulator.github().register("logged", Job::default());
        let mut asks = runner.token(&["--output", "github"]);
        asks.env("FICUS_LOG", "trace").env("GITHUB_OUTPUT", &outputs);
        asks.env(super::REQUEST_URL, &request.url).env(super::REQUEST_TOKEN, &request.token);
        let asked = run(asks);
        assert_eq!(asked.code, Some(0));
        for Ended { stderr, .. } in [&ended, &asked] {
            // Also not in parts, or as the bytes of a body.
            let signature = assertion.rsplit('.').next().unwrap();
            for secret in ["eyJ", signature, request.token.as_str(), "client_assertion="] {
                assert!(!stderr.contains(secret), "{secret}: {stderr}");
            }
        }
    });
}

#[test]
fn az_is_logged_in_without_the_token_in_an_argument() {
    shared(|world| async move {
        let runner = Runner::new(world);
        // Writes down how it is called; the real one has a test of its own (tests/clients/test_token_az.py).
        let az = runner.file(
            "az",
            "#!/bin/sh\necho \"$* [$AZURE_CORE_INSTANCE_DISCOVERY] [$REQUESTS_CA_BUNDLE]\" >> calls\n\
             case \"$*\" in *@-*) cat > presented;; *register*) exit $(cat registered);; esac\n",
        );
        fs::set_permissions(&az, fs::Permissions::from_mode(0o755)).unwrap();
        let token = world.assertion();
        let path = format!("{}:{}", runner.path("").display(), std::env::var("PATH").unwrap());
        let go = |registered: &str| {
            let _ = fs::remove_file(runner.path("calls"));
            runner.file("registered", registered);
            let mut command = runner.token(&["--from", "stdin", "--output", "az"]);
            command.env("PATH", &path).env("AZURE_CONFIG_DIR", runner.path("azure"));
            let ended = super::fed(command, token.as_bytes());
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
            assert!(ended.stderr.contains("REQUESTS_CA_BUNDLE="), "{}", ended.stderr);
            fs::read_to_string(runner.path("calls")).unwrap()
        };
        let calls = go("0");
        assert_eq!(fs::read_to_string(runner.path("presented")).unwrap(), token);
        let bundle = runner.path("azure/ficus-ca.pem");
        let place = format!(" --only-show-errors [false] [{}]", bundle.display());
        let authority = &world.authority;
        let expected = [
            "config set core.instance_discovery=false".to_owned(),
            format!("cloud register -n ficus --endpoint-resource-manager {authority}"),
            "cloud set -n ficus".to_owned(),
            format!(
                "login --service-principal -u {CLIENT} --tenant {TENANT} --federated-token @- --allow-no-subscriptions"
            ),
        ];
        assert_eq!(calls.lines().collect::<Vec<_>>(), expected.map(|call| call + &place));
        // Our CA, and whatever the system trusts.
        let text = fs::read_to_string(&bundle).unwrap();
        assert!(text.starts_with(&fs::read_to_string(runner.path("ca.pem")).unwrap()));
        let calls = go("1");
        assert!(
            calls.contains(&format!("cloud update -n ficus --endpoint-resource-manager {authority}")),
            "{calls}"
        );

        let mut command = runner.token(&["--from", "stdin", "--output", "az"]);
        command.env("PATH", runner.path("azure"));
        let ended = super::fed(command, token.as_bytes());
        assert!(ended.line(1).contains("install azure-cli"), "{}", ended.stderr);
    });
}

#[test]
fn a_dry_run_shows_claims_and_no_token_and_its_record_accepts_the_token() {
    // An identity that trusts nobody yet.
    // Last, so that what is added behind it is its own.
    let directory = format!(
        "{DIRECTORY}\n[[identity]]\nname = \"id-new\"\nkind = \"application\"\ntenant = \"contoso.example\"\n\
         client_id = \"aaaaaaaa-0009-4a00-8000-000000000009\"\nprincipal_id = \"bbbbbbbb-0001-4a00-8000-000000000009\"\n"
    );
    own(Plan { directory, ..Plan::default() }, |world| async move {
        let runner = Runner::new(&world);
        let job = Job { environment: Some("prod's ${x}".to_owned()), ..Job::default() };
        let request = world.emulator.github().register("dry", job);
        let platform = |mut command: Command| {
            command.env(super::REQUEST_URL, &request.url).env(super::REQUEST_TOKEN, &request.token);
            command
        };
        // No broker, no identity, no resource.
        let ended = run(platform(runner.bare(&["--dry-run", "--ca-file", "ca.pem"])));
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        let text = &ended.stdout;
        assert!(!text.contains("eyJ"), "{text}");
        for said in [
            "issuer ",
            "repository ",
            "my--org/payments-service",
            "event_name ",
            "az identity federated-cred",
        ] {
            assert!(text.contains(said), "{said}: {text}");
        }
        assert!(text.contains("environment:prod's $${x}\""), "{text}");
        assert!(text.contains("environment:prod'\\''s ${x}'"), "{text}");

        let newcomer = || {
            let mut command = platform(runner.asking("https://sql.example/", "ca.pem", &[]));
            command.env("AZURE_CLIENT_ID", "aaaaaaaa-0009-4a00-8000-000000000009");
            run(command)
        };
        assert!(newcomer().failed(1).contains("AADSTS70025"));
        let record =
            text.split("[[identity]]:\n\n").nth(1).unwrap().split("\nthe same with az").next().unwrap();
        let file = "etc/directory/records.toml";
        let before = fs::read_to_string(world.folder.path().join(file)).unwrap();
        world.live(file, &format!("{before}\n{record}")).await;
        verify(&world, newcomer().token(), "https://sql.example/").await;
    });
}
