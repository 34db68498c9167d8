//! What may pass is tried again, for as long as there is time; and what is in the way of a broker.

use std::process::Stdio;

use ficus::emulator::github::Job;
use ficus::emulator::{Document, Fault};
use http::StatusCode;
use serde_json::json;

use super::front::Front;
use super::{Runner, ended, fed, run};
use crate::support::*;

const GRANTED: &str =
    "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"access_token\":\"eyJ.a.b\",\"expires_in\":3599}";
const LATER: &str = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 1\r\nconnection: close\r\n\r\nslow down";
const BROKEN: &str = "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\n\r\n<html>eyJnope</html>";

/// The command, told that this is its broker.
fn at(front: &Front, runner: &Runner<'_>, arguments: &[&str]) -> std::process::Command {
    let mut command = runner.token(&[&["--from", "file:token"], arguments].concat());
    command.env("AZURE_AUTHORITY_HOST", format!("http://localhost:{}", front.port));
    command
}

#[test]
fn an_issuer_that_is_down_for_a_moment_costs_time_and_no_more() {
    own(Plan::default(), |world| async move {
        let runner = Runner::new(&world);
        let github = world.emulator.github();
        github.set_fault(Document::Jwks, Fault::Status(StatusCode::INTERNAL_SERVER_ERROR));
        let ended_early = run(runner.on_github("down", Job::default(), &["--timeout", "2s"]));
        let said = ended_early.failed(69);
        assert!(said.starts_with("the broker gives no token now: AADSTS50166: "), "{said}");

        let mut command = runner.on_github("again", Job::default(), &[]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let before = world.audit().len();
        let child = command.spawn().unwrap();
        wait_for(|| (world.audit().len() > before).then_some(())).await;
        github.set_fault(Document::Jwks, None);
        let child = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
        verify(&world, child.token(), VAULT).await;
    });
}

#[test]
fn a_key_that_was_just_rotated_in_is_waited_for() {
    own(Plan::default(), |world| async move {
        let runner = Runner::new(&world);
        let github = world.emulator.github();
        let keys = github.keys();
        let publish = |keys: &[&serde_json::Value]| {
            github.set_fault(Document::Jwks, Fault::Body(json!({ "keys": keys }).to_string().into()));
        };
        // The broker looks for the new key in vain: its issuer signs with it before it is published.
        publish(&[keys[0].public_jwk()]);
        let (_, claims) = world.honest();
        world.request_with(&keys[0].sign(&keys[0].header(), &claims)).send(&world).await.token();
        runner.file("token", keys[1].sign(&keys[1].header(), &claims));
        let mut command = runner.token(&["--from", "file:token"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        wait_for(|| world.audit().iter().any(|line| line["status"]["errorCode"] == 7_000_272).then_some(()))
            .await;
        publish(&[keys[0].public_jwk(), keys[1].public_jwk()]);
        world.clock.set(world.clock.now() + 21);
        let child = tokio::task::spawn_blocking(move || ended(child)).await.unwrap();
        verify(&world, child.token(), VAULT).await;
    });
}

#[test]
fn what_may_pass_is_tried_again_and_what_stays_is_not() {
    shared(|world| async move {
        let runner = Runner::new(world);
        runner.file("token", world.assertion());
        let front = Front::answering(&["", BROKEN, LATER, GRANTED]);
        let granted = run(at(&front, &runner, &[]));
        assert_eq!(granted.token(), "eyJ.a.b");
        let heard = front.heard();
        assert_eq!(heard.len(), 4);
        assert!(heard.iter().all(|request| request.contains("client_assertion=eyJ")));
        assert!(
            heard[0].starts_with(&format!("POST /{TENANT}/oauth2/v2.0/token HTTP/1.1\r\n")),
            "{}",
            heard[0]
        );

        for (answer, words) in [
            (
                "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n<html>",
                &["404", "not as a broker does"][..],
            ),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<html>eyJ", &["200", "not as a broker does"]),
            (
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"access_token\":\"\",\"expires_in\":1}",
                &["no token"],
            ),
            (
                "HTTP/1.1 302 Found\r\nlocation: https://evil.example/x\r\nconnection: close\r\n\r\n",
                &["https://evil.example/x", "no redirects"],
            ),
        ] {
            let front = Front::answering(&[answer]);
            let refused = run(at(&front, &runner, &[]));
            let line = refused.line(1);
            assert!(words.iter().all(|word| line.contains(word)), "{line}");
            assert_eq!(front.heard().len(), 1);
        }
    });
}

#[test]
fn githubs_endpoint_is_tried_again_too_and_asked_as_its_own_toolkit_asks() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let answer = json!({ "count": 1, "value": world.assertion() });
        let front = Front::answering(&[
            "",
            BROKEN,
            &LATER.replace("retry-after: 1", "retry-after: 0"),
            &format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{answer}"),
        ]);
        let mut step = runner.token(&[]);
        let url = format!("http://localhost:{}//idtoken?api-version=2.0", front.port);
        step.env(super::REQUEST_URL, url).env(super::REQUEST_TOKEN, "secret-of-the-job");
        verify(world, run(step).token(), VAULT).await;
        let heard = front.heard();
        assert_eq!(heard.len(), 4);
        for request in heard {
            let line = "GET //idtoken?api-version=2.0&audience=api%3A%2F%2FAzureADTokenExchange HTTP/1.1\r\n";
            assert!(request.starts_with(line), "{request}");
            assert!(request.contains("\r\nauthorization: Bearer secret-of-the-job\r\n"), "{request}");
        }
    });
}

#[test]
fn the_time_is_kept_and_a_long_pause_not_begun() {
    shared(|world| async move {
        let runner = Runner::new(world);
        runner.file("token", world.assertion());
        let front = Front::answering(&[BROKEN]);
        let given_up = run(at(&front, &runner, &["--timeout", "3s"]));
        let line = given_up.line(69);
        assert!(line.contains("it answers 502"), "{line}");
        assert!(front.heard().len() > 1);
        let front = Front::answering(&[&LATER.replace("retry-after: 1", "retry-after: 600")]);
        let given_up = run(at(&front, &runner, &[]));
        assert!(given_up.line(69).contains("it answers 429"), "{}", given_up.stderr);
        assert_eq!(front.heard().len(), 1);
    });
}

#[test]
fn a_broker_that_is_down_is_told_in_one_line() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let token = world.assertion();
        for (authority, words) in [
            ("https://localhost:1", &["https://localhost:1", "refused"][..]),
            ("https://sts.invalid", &["https://sts.invalid"]),
        ] {
            let mut command = runner.token(&["--from", "stdin", "--timeout", "1s"]);
            command.env("AZURE_AUTHORITY_HOST", authority);
            let down = fed(command, token.as_bytes());
            let line = down.line(69);
            assert!(words.iter().all(|word| line.contains(word)) && !line.contains("proxy"), "{line}");
        }
    });
}

#[test]
fn the_environments_proxy_is_gone_through_and_named_where_it_fails() {
    shared(|world| async move {
        let runner = Runner::new(world);
        let token = world.assertion();
        let with = |variables: &[(&str, &str)]| {
            let mut command = runner.token(&["--from", "stdin", "--timeout", "1s"]);
            command.envs(variables.iter().copied());
            fed(command, token.as_bytes())
        };
        let proxy = Front::tunnelling();
        let mut command = runner.token(&["--from", "stdin"]);
        command.env("https_proxy", format!("http://127.0.0.1:{}", proxy.port));
        fed(command, token.as_bytes()).token();
        let [request] = &proxy.heard()[..] else { panic!("{:?}", proxy.heard()) };
        let place = world.authority.strip_prefix("https://").unwrap();
        assert!(request.starts_with(&format!("CONNECT {place} ")), "{request}");

        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
            let failed = with(&[(name, "http://user:hunter2@127.0.0.1:1")]);
            let line = failed.line(69);
            assert!(line.contains(&format!("through the proxy 127.0.0.1:1 of {name}")), "{line}");
            assert!(line.contains("NO_PROXY=localhost") && !line.contains("hunter2"), "{line}");
        }
        with(&[("HTTPS_PROXY", "http://127.0.0.1:1"), ("NO_PROXY", "localhost")]).token();
        // Plain HTTP goes another way.
        with(&[("HTTP_PROXY", "http://127.0.0.1:1")]).token();
        let front = Front::answering(&["HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"]);
        let failed = with(&[("HTTPS_PROXY", &format!("http://127.0.0.1:{}", front.port))]);
        assert!(failed.line(69).contains("of HTTPS_PROXY"), "{}", failed.stderr);
    });
}
