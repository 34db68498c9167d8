//! `ficus audit` as a program, on the record that a real broker writes.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::*;

fn command(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ficus"));
    command.arg("audit").args(arguments).env("FICUS_CONFIG", world.folder.path().join("etc/ficus.toml"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, stdout and stderr.
fn ended(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn run(world: &World, arguments: &[&str]) -> (i32, String, String) {
    ended(command(world, arguments).output().unwrap())
}

/// What a question is answered with, when all is well.
#[track_caller]
fn asked(world: &World, arguments: &[&str]) -> String {
    let (code, out, err) = run(world, arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    out
}

#[track_caller]
fn traces(world: &World, arguments: &[&str]) -> Vec<String> {
    let lines = asked(world, &[arguments, &["--format", "json"]].concat());
    let read = |line| serde_json::from_str::<Value>(line).unwrap();
    lines.lines().map(|line| read(line)["traceId"].as_str().unwrap().to_owned()).collect()
}

/// The honest token with other claims.
fn with(world: &World, changes: &[(&str, Value)]) -> String {
    let (header, mut claims) = world.honest();
    changes.iter().for_each(|(claim, value)| claims[claim] = value.clone());
    world.sign(&header, &claims)
}

fn forged(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..])
}

/// Sends it, and waits until it is recorded.
async fn sent(world: &World, form: Form) -> String {
    let trace = form.send(world).await.trace();
    world.record(&trace).await;
    trace
}

#[test]
fn who_got_what_is_found_by_everything_that_is_recorded() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let main = "repo:my--org/payments-service:ref:refs/heads/main";
        let correlation = "0a1b2c3d-0000-4000-8000-00000000000a";
        let form = w.request_with(&with(w, &[("run_id", json!("77")), ("check_run_id", json!("78"))]));
        let vault = sent(w, form.header("client-request-id", correlation)).await;
        let api = sent(w, w.request().with("scope", &format!("{API}/.default"))).await;
        let branch = sent(w, w.request_with(&with(w, &[("sub", json!(format!("{main}x")))]))).await;
        let forged = sent(w, w.request_with(&forged(&with(w, &[("run_id", json!("77"))])))).await;
        let unknown = sent(w, w.request().with("client_id", OTHER_TENANT)).await;
        let uti = w.record(&vault).await["uniqueTokenIdentifier"].as_str().unwrap().to_owned();
        let [all, grants] = [vec![&vault, &api, &branch, &forged, &unknown], vec![&vault, &api]];
        let now = w.clock.now();
        let time = |seconds: i64| {
            time::OffsetDateTime::from_unix_timestamp(seconds)
                .unwrap()
                .format(&time::format_description::well_known::Rfc3339)
                .unwrap()
        };
        let (now, later) = (time(now), time(now + 1));
        for (arguments, found) in [
            (&[][..], &all[..]),
            // Signed by nobody, a run's number is not that run's.
            (&["--run", "77"], &[&vault]),
            (&["--run", "78", "--outcome", "grant"], &[&vault]),
            (&["--run", "7*"], &[&vault]),
            (&["--run", "10203040506"], &[&api, &branch]),
            (&["--outcome", "grant"], &grants),
            (&["--outcome", "refusal"], &[&branch, &forged, &unknown]),
            (&["--outcome", "grant", "--resource", VAULT], &[&vault]),
            (&["--resource", VAULT, "--resource", API, "--verified"], &[&vault, &api, &branch]),
            (&["--subject", main], &[&vault, &api, &forged]),
            (&["--subject", "*x"], &[&branch]),
            (&["--repository", "My--Org/Payments-Service"], &[&vault, &api, &branch, &forged]),
            (&["--repository", "my--org/payments"], &[]),
            (&["--issuer", &w.emulator.github().issuer(), "--verified"], &[&vault, &api, &branch]),
            (&["--identity", "id-deploy", "--credential", "main-branch"], &grants),
            (&["--identity", &CLIENT.to_uppercase()], &[&vault, &api, &branch, &forged]),
            (&["--tenant", "Contoso.example"], &all),
            (&["--tenant", "fabrikam.example"], &[]),
            (&["--code", "AADSTS700213"], &[&branch]),
            (&["--code", "700213", "--code", "700016"], &[&branch, &unknown]),
            (&["--reason", "signature"], &[&forged]),
            (&["--cause", "s-gh-*"], &[&branch]),
            (&["--uti", &uti], &[&vault]),
            (&["--correlation-id", correlation], &[&vault]),
            (&["--correlation-id", "0A1B2C3D*"], &[&vault]),
            (&["--trace-id", &api], &[&api]),
            (&["--client", "127.0.0.0/8"], &all),
            (&["--client", "192.0.2.7"], &[]),
            (&["--since", &now, "--until", &later], &all),
            (&["--until", &now], &[]),
            (&["--since", &later], &[]),
            (&["--limit", "2"], &[&forged, &unknown]),
        ] {
            assert_eq!(traces(w, arguments).iter().collect::<Vec<_>>(), found, "{arguments:?}");
        }
        assert!(traces(w, &["--since", "1h"]).len() == 5 && traces(w, &["--until", "1h"]).is_empty());

        let top = asked(w, &["--top", "subjects", "--outcome", "grant", "--format", "csv"]);
        let wanted = format!(
            "\"decisions\",\"granted\",\"verified\",\"subjects\"\r\n\"2\",\"2\",\"2\",\"{main}\"\r\n"
        );
        assert_eq!(top, wanted);
        let top = asked(w, &["--top", "codes", "--limit", "1", "--format", "json"]);
        let row: Value = serde_json::from_str(&top).unwrap();
        assert_eq!(row, json!({ "decisions": 2, "granted": 2, "verified": 2, "codes": null }));
        // The table has what the record has, and JSON is the record.
        let table = asked(w, &["--run", "77"]);
        assert!(
            table.contains(&format!("granted {uti}  ")) && table.ends_with("\n1 granted, 0 refused\n"),
            "{table}"
        );
        let line = asked(w, &["--run", "77", "--format", "json"]);
        assert!(
            fs::read_to_string(w.folder.path().join("data/audit.jsonl")).unwrap().contains(&line),
            "{line}"
        );
    });
}

#[test]
fn it_needs_no_keys_and_makes_nothing() {
    own(Plan::default(), |world| async move {
        let trace = sent(&world, world.request()).await;
        let keys = world.folder.path().join("nowhere");
        let mut command = command(&world, &["--format", "json"]);
        let (code, out, err) = ended(command.env("FICUS_KEYS__PATH", &keys).output().unwrap());
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains(&trace) && !keys.exists());
    });
}

#[test]
fn refusals_that_were_only_counted_count_and_what_they_lack_is_told() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let form = w.request_with(&forged(&w.assertion()));
        for _ in 0..130 {
            form.send(w).await.refused(401, "invalid_client", 700_027);
        }
        // One that waits still would count for the next second.
        let taken = || async { (w.metric("ficus_audit_queue_length").await == 0.0).then_some(()) };
        eventually("all are counted", taken).await;
        w.clock.set(w.clock.now() + 1);
        sent(w, w.request()).await;
        let sum = || w.audit().into_iter().find(|line| line["count"] == 30);
        wait_for(sum).await;
        for field in ["codes", "reasons", "identities"] {
            let top = asked(w, &["--top", field, "--outcome", "refusal", "--format", "json"]);
            let row: Value = serde_json::from_str(&top).unwrap();
            assert_eq!((&row["decisions"], &row["verified"]), (&json!(130), &json!(0)), "{row}");
        }
        assert!(asked(w, &["--code", "700027", "--limit", "1"]).ends_with("\n0 granted, 130 refused\n"));
        let (code, out, err) = run(w, &["--subject", "repo:*", "--outcome", "refusal"]);
        assert!(code == 0 && out.ends_with("\n0 granted, 100 refused\n"), "{out}");
        assert!(
            err.starts_with("ficus: 30 refused decisions were only counted") && err.lines().count() == 1,
            "{err}"
        );
    });
}

#[test]
fn no_text_of_a_stranger_drives_the_terminal_or_the_spreadsheet_of_who_reads_it() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let subjects = [
            "\u{1b}[2J\u{1b}]0;x\u{7}",
            "a\r\nb",
            "\u{202e}x\u{9b}",
            "=cmd|'/c calc'!A1",
            "@SUM(1)",
            "m\u{430}in",
        ];
        for subject in subjects {
            sent(w, w.request_with(&with(w, &[("sub", json!(subject)), ("jti", json!(subject))]))).await;
        }
        let allowed = |c: char| !c.is_control() || c == '\n';
        for format in ["table", "json", "csv"] {
            for more in [&[][..], &["--top", "subjects"]] {
                let text = asked(w, &[&["--format", format], more].concat()).replace("\r\n", "\n");
                assert!(text.chars().all(allowed) && !text.contains('\u{202e}'), "{text:?}");
                let head = match (format, more) {
                    ("json", _) => 0,
                    ("table", []) => 3,
                    ("table", _) => 3,
                    _ => 1,
                };
                assert_eq!(text.lines().count(), subjects.len() + head, "{text}");
            }
        }
        let csv = asked(w, &["--format", "csv"]);
        assert!(csv.contains(",\"'=cmd|'/c calc'!A1\",") && csv.contains(",\"'@SUM(1)\","), "{csv}");
        // Whoever parses it has what was presented.
        let json = asked(w, &["--format", "json", "--limit", "6"]);
        let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(first["assertion"]["subject"], subjects[0]);
    });
}

#[test]
fn what_is_no_record_is_told_and_left_out() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let trace = sent(w, w.request()).await;
        let log = fs::read_to_string(w.folder.path().join("data/audit.jsonl")).unwrap();
        let file = w.folder.path().join("collected.jsonl");
        let file = file.to_str().unwrap();
        let half = &log[..log.len() / 2];
        for (text, said) in [
            (log.clone(), &[][..]),
            (format!("{log}{half}"), &["the last line is only half there"]),
            (format!("{half}\n{log}"), &["1 line is no audit record"]),
            (
                format!("{{\"level\":\"INFO\"}}\nready\n{log}{half}"),
                &["2 lines are no audit record", "only half"],
            ),
        ] {
            fs::write(file, &text).unwrap();
            let mut piped = command(w, &["-", "--format", "json"]).stdin(Stdio::piped()).spawn().unwrap();
            piped.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
            for output in [command(w, &[file, "--format", "json"]).output(), piped.wait_with_output()] {
                let (code, out, err) = ended(output.unwrap());
                assert!(code == 0 && out.lines().count() == 1 && out.contains(&trace), "{out}{err}");
                let said = said.iter().zip(err.lines()).all(|(said, line)| line.contains(said))
                    && err.lines().count() == said.len();
                assert!(said, "{err}");
            }
        }
    });
}

#[test]
fn bad_questions_are_refused_in_a_line() {
    shared(async |w: &'static World| {
        let folder = w.folder.path().to_str().unwrap();
        for (arguments, code, said) in [
            (&["--since", "yesterday"][..], 2, "2h or 7d"),
            (&["--since", "1h", "--until", "2h"], 2, "--since is not before --until"),
            (&["--code", "S-CASE"], 2, "a number such as 700213"),
            (&["--client", "example.org"], 2, "192.0.2.0/24"),
            (&["--outcome", "maybe"], 2, "grant, refusal"),
            (&["--top", "colours"], 2, "subjects"),
            (&["--top", "codes", "--follow"], 2, "cannot be used with"),
            (&["--limit", "0"], 2, "1..=1000"),
            (&["--follow", "-", "x"], 2, "one log"),
            (&["/nowhere/audit.jsonl"], 1, "there is no such file"),
            (&[folder], 1, "is a folder"),
            (&["--config", "/nowhere/ficus.toml"], 1, "--config"),
        ] {
            let (ended, out, err) = run(w, arguments);
            assert!(
                ended == code && out.is_empty() && err.contains(said),
                "{arguments:?}: {ended} {out}{err}"
            );
        }
        let mut command = command(w, &[]);
        let (code, _, err) = ended(command.env("FICUS_AUDIT__PATH", "stdout").output().unwrap());
        assert!(
            code == 1 && err.contains("name a file") && err.contains("- for the standard input"),
            "{err}"
        );
        assert_eq!(run(w, &["--identity", "nobody"]).0, 0, "nothing found is an answer");
    });
}

/// A running `ficus audit`, ended with the test.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A refusal whose record is long.
fn long(world: &World, number: usize) -> Form {
    let filler = "\u{1}".repeat(590);
    let claims = [("sub", json!(format!("{number}{filler}"))), ("jti", json!(filler))];
    world.request_with(&with(world, &claims))
}

#[test]
fn a_log_is_read_and_followed_through_rotation_and_renaming_and_nothing_is_missed_or_repeated() {
    let settings = "audit = { rotate_size = \"1MiB\" }".to_owned();
    own(Plan { settings, ..Plan::default() }, |world| async move {
        let w = &*world;
        let log = w.folder.path().join("data/audit.jsonl");
        let aside = || {
            let names = fs::read_dir(log.parent().unwrap()).unwrap();
            names
                .filter(|name| {
                    name.as_ref().unwrap().file_name().to_str().unwrap().starts_with("audit.jsonl.2")
                })
                .count()
        };
        let mut expected = Vec::new();
        let mut fill = async |files: usize| {
            while aside() < files {
                expected.push(sent(w, long(w, expected.len())).await);
            }
        };
        fill(1).await;
        let mut child =
            Follower(command(w, &["-f", "--since", "2020-01-01", "--format", "json"]).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let mut seen = Vec::new();
        let mut see = |expected: &[String]| {
            while seen.len() < expected.len() {
                let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                seen.push(line["traceId"].as_str().unwrap().to_owned());
            }
            assert_eq!(seen, expected);
        };
        fill(2).await;
        see(&expected);
        // Somebody else moves it; the broker makes a new one with its next record.
        fs::rename(&log, log.with_file_name("moved")).unwrap();
        for number in 0..5 {
            expected.push(sent(w, long(w, number)).await);
        }
        see(&expected);
        kill_process(Pid::from_child(&child.0), Signal::TERM).unwrap();
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
        let (mut rest, mut err) = (String::new(), String::new());
        lines.for_each(|line| rest += &line.unwrap());
        child.0.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((rest.as_str(), err.as_str()), ("", ""));
        // All that has the log's name is read, and the moved file can be named.
        let moved = log.with_file_name("moved");
        let files = [moved.to_str().unwrap(), log.to_str().unwrap()];
        let mut all = traces(w, &files);
        all.sort();
        expected.sort();
        assert_eq!(all, expected);
    });
}

#[test]
fn following_begins_with_the_newest_and_ends_with_its_reader() {
    own(Plan::default(), |world| async move {
        let w = &*world;
        let mut before = Vec::new();
        for _ in 0..12 {
            before.push(sent(w, w.request()).await);
        }
        let mut child = Follower(command(w, &["--follow", "--format", "json"]).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        for trace in &before[2..] {
            assert!(lines.next().unwrap().unwrap().contains(trace.as_str()));
        }
        let next = sent(w, w.request()).await;
        assert!(lines.next().unwrap().unwrap().contains(&next));
        drop(lines);
        sent(w, w.request()).await;
        assert_eq!(child.0.wait().unwrap().code(), Some(0));

        // What others collected comes by the standard input, and is shown before its end.
        let mut child =
            Follower(command(w, &["-f", "-", "--format", "json"]).stdin(Stdio::piped()).spawn().unwrap());
        let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let text = fs::read_to_string(Path::new(&w.folder.path().join("data/audit.jsonl"))).unwrap();
        child.0.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
        for trace in before {
            assert!(lines.next().unwrap().unwrap().contains(&trace));
        }
        kill_process(Pid::from_child(&child.0), Signal::INT).unwrap();
        assert_eq!(child.0.wait().unwrap().code(), Some(0));
    });
}

#[test]
fn the_sessions_in_the_readme_are_what_it_answers() {
    let directory = DIRECTORY
        .replace("https://vault.example", "https://vault.azure.net")
        .replace("environment:short", "environment:production");
    own(Plan { directory, ..Plan::default() }, |world| async move {
        let w = &*world;
        let branch = json!("repo:my--org/payments-service:ref:refs/heads/feature/login");
        let production = json!("repo:my--org/payments-service:environment:production");
        for claims in [&[][..], &[], &[("sub", branch)], &[("sub", production), ("run_id", json!("7"))]] {
            sent(w, token_request(&with(w, claims), "https://vault.azure.net/.default")).await;
        }
        let readme = include_str!("../../README.md");
        let (_, session) = readme.split_once("```console\n$ ficus audit ").unwrap();
        let (session, _) = session.split_once("```").unwrap();
        let steps: Vec<_> = session.split("$ ficus audit ").collect();
        assert_eq!(steps.len(), 3);
        for step in steps {
            let (arguments, output) = step.split_once('\n').unwrap();
            assert_eq!(
                asked(w, &arguments.split(' ').collect::<Vec<_>>()),
                output.to_owned() + &foot(output)
            );
        }
    });
}

/// What is below a table: the sum of its columns.
fn foot(table: &str) -> String {
    let rows = table.lines().skip(1).map(|row| {
        let mut numbers = row.split_whitespace().map_while(|word| word.parse::<u64>().ok());
        (numbers.next().unwrap(), numbers.next().unwrap())
    });
    let (all, granted) = rows.fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
    format!("\n{granted} granted, {} refused\n", all - granted)
}
