//! A "no" of the broker: what was presented, what its record is found by, and what is probably the matter.

use ficus::emulator::github::Job;

use super::{Ended, Runner, fed, run};
use crate::support::*;

/// The refusal is told with this code and hint, what was presented and an id that the record has; it was not tried again.
async fn told(world: &World, ended: &Ended, code: u32, words: &[&str]) {
    let said = ended.failed(1);
    assert!(said.starts_with(&format!("the broker refuses: AADSTS{code}: ")), "{said}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.contains(&format!("presented issuer    {}", world.emulator.github().issuer())), "{said}");
    let id = said.lines().find_map(|line| line.trim().strip_prefix("correlation id")).unwrap().trim();
    assert!(is_guid(id), "{id}");
    let lines = || world.audit().into_iter().filter(|line| line["correlationId"] == id).collect::<Vec<_>>();
    let record = wait_for(|| lines().pop()).await;
    let digest = &record["assertion"]["digest"];
    let tries = world.audit().into_iter().filter(|line| line["assertion"]["digest"] == *digest).count();
    assert_eq!(tries, 1, "{said}");
}

#[test]
fn a_refusal_tells_what_was_presented_and_the_likely_cause() {
    own(Plan::default(), |world| async move {
        let runner = Runner::new(&world);
        let honest = |name: &str| runner.on_github(name, Job::default(), &[]);
        run(honest("before")).token();

        let production = Job { environment: Some("production".to_owned()), ..Job::default() };
        let ended = run(runner.on_github("environment", production, &[]));
        told(
            &world,
            &ended,
            700_213,
            &[
                "presented subject   repo:my--org/payments-service:environment:production",
                "the job names an environment",
            ],
        )
        .await;
        let ended = run(runner.on_github("audience", Job::default(), &["--audience", "api://other"]));
        told(&world, &ended, 700_212, &["presented audience  api://other", "api://AzureADTokenExchange"])
            .await;
        let old = Job { lifetime: -600, ..Job::default() };
        let ended = run(runner.on_github("old", old, &[]));
        told(&world, &ended, 700_024, &["right before it is used"]).await;
        let mut unknown = honest("client");
        unknown.env("AZURE_CLIENT_ID", PRINCIPAL);
        told(&world, &run(unknown), 700_016, &[PRINCIPAL, "not its principal id"]).await;
        let ended = run(runner.asking("https://absent.example", "ca.pem", &["--from", "exec:cat token"]));
        ended.failed_last(1);
        runner.file("token", world.assertion());
        let ended = run(runner.asking("https://absent.example", "ca.pem", &["--from", "file:token"]));
        told(&world, &ended, 500_011, &["https://absent.example"]).await;
        let (header, claims) = world.honest();
        let token = world.sign(&header, &claims);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
        let ended = fed(runner.token(&["--from", "stdin"]), forged.as_bytes());
        // The last character of a signature has loose bits, so that some can't be read backwards.
        if !ended.stderr.contains("base64url") {
            told(&world, &ended, 700_027, &["changed or cut off"]).await;
        }
        run(honest("after")).token();
    });
}

#[test]
fn a_clock_that_is_behind_is_named() {
    // The broker's clock is two hours ahead of ours, and the platform's goes with it.
    let clock = ficus::clock::Clock::fixed(ficus::clock::Clock::system().now() + 7200);
    own(Plan { clock: Some(clock), ..Plan::default() }, |world| async move {
        let runner = Runner::new(&world);
        run(runner.on_github("right", Job::default(), &[])).token();
        let ended = run(runner.on_github("old", Job { lifetime: -600, ..Job::default() }, &[]));
        let said = ended.failed(1);
        assert!(
            said.contains("AADSTS700024") && said.contains("clock is 7") && said.contains("behind"),
            "{said}"
        );
    });
}
