//! P-06: descriptors run out. The broker is the real program, because only a process of its own can be held to a number.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::net::TcpStream;

use crate::audit::{Home, Server};
use crate::support::*;

/// Processor time that a process has taken, in seconds.
fn processor_time(process: Pid) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap();
    // Behind the name, which may have spaces in it, fields 3 and so on; 14 and 15 are user and system time in ticks.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = fields[11..=12].iter().map(|ticks| ticks.parse::<u32>().unwrap()).sum();
    f64::from(ticks) / 100.0
}

/// A client that has no connection yet.
fn stranger(home: &Home) -> reqwest::Client {
    client(Some(&home.folder.path().join("data/tls/ca.pem")))
}

#[test]
fn p_06_with_64_descriptors_a_flood_of_connections_keeps_nobody_out() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        // No time limit comes to help.
        let before = "export FICUS_LIMITS__HEADER_TIMEOUT=5m FICUS_LIMITS__IDLE_TIMEOUT=1h; ulimit -n 64;";
        let mut server = Server::start_after(before, home.folder.path());
        server.post(&home.form()).await.unwrap().token();
        let address = format!("127.0.0.1:{}", url::Url::parse(&server.url).unwrap().port().unwrap());
        let mut flood = Vec::new();
        for _ in 0..200 {
            flood.push(TcpStream::connect(&address).await.unwrap());
        }
        let mut known = Vec::new();
        for _ in 0..3 {
            // The one before keeps its connection: a newcomer has to be given another's place.
            known.push(std::mem::replace(&mut server.client, stranger(&home)));
            eventually("an honest request", || async {
                (server.post(&home.form()).await?.status == 200).then_some(())
            })
            .await;
            assert_eq!(server.readiness().await, 200);
        }
        drop(flood);
        server.post(&home.form()).await.unwrap().token();
    });
}

#[test]
fn p_06_without_descriptors_nothing_spins_and_nothing_that_is_at_hand_stops() {
    RUNTIME.block_on(async {
        let home = Home::new().await;
        let server = Server::start(home.folder.path());
        server.post(&home.form()).await.unwrap().token();
        assert_eq!(server.readiness().await, 200);
        // What is open stays open, and nothing else can be opened: the numbers up to 2 are taken.
        let limit = |current| {
            let maximum = getrlimit(Resource::Nofile).maximum;
            prlimit(Some(server.process()), Resource::Nofile, Rlimit { current, maximum }).unwrap();
        };
        limit(Some(3));
        let (form, late) = (home.form(), stranger(&home));
        let waiting = tokio::spawn({
            let (url, form) = (server.url.clone(), form.clone());
            async move {
                let request = late.post(url).header("content-type", "application/x-www-form-urlencoded");
                Reply::of(request.body(form.body()).send().await.unwrap()).await
            }
        });
        let told = || async {
            server.log.lock().unwrap().contains("connections can't be accepted for now").then_some(())
        };
        eventually("a line in the log", told).await;
        // A window to measure in: a loop that spins takes all of it.
        let before = processor_time(server.process());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let taken = processor_time(server.process()) - before;
        assert!(taken < 0.25, "{taken} s of processor time in a second");
        // Over connections that are there, all goes on: keys and record are at hand. So do operators.
        server.post(&form).await.unwrap().token();
        server.post(&form.clone().with("client_assertion", "a.b.c")).await.unwrap().refused(
            400,
            "invalid_request",
            50027,
        );
        assert_eq!(server.readiness().await, 200);
        // A record that has to be opened anew, as after its rotation, takes no grants until it can be.
        let record = home.folder.path().join("data/audit.jsonl");
        fs::rename(&record, record.with_extension("aside")).unwrap();
        server.post(&form).await.unwrap().refused(503, "temporarily_unavailable", 90033);
        assert_eq!(server.readiness().await, 503);
        fs::rename(record.with_extension("aside"), &record).unwrap();
        eventually("a grant", || async { (server.post(&form).await?.status == 200).then_some(()) }).await;
        assert!(!waiting.is_finished());
        let lines = server.log.lock().unwrap().lines().count();
        assert!(lines < 20, "{}", server.log.lock().unwrap());

        limit(getrlimit(Resource::Nofile).current);
        waiting.await.unwrap().token();
        server.post(&form).await.unwrap().token();
    });
}
