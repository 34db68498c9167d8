//! The broker that is put under load: started here, or met elsewhere on this machine. What it says about itself.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ficus::clock::Stopwatch;
use serde::Deserialize;

use crate::Failure;
use crate::client;
use crate::process::{Guarded, Meter};
use crate::world::World;

/// How long a broker may take to be ready; a large directory takes seconds.
const READY: Duration = Duration::from_secs(120);

/// The broker's program: the one that is named, else built as this program was, else the one beside it.
pub(crate) fn program(named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let beside = std::env::current_exe()?.with_file_name("ficus");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        // Both packages, so that the dependencies that we were built from serve the broker, too.
        build.args(["build", "--locked", "-p", "ficus", "-p", "ficus-load", "--bin", "ficus"]);
        build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        if !build.status()?.success() {
            return Err("the broker can't be built".into());
        }
    }
    match beside.is_file() {
        true => Ok(beside),
        false => {
            Err(format!("there is no {}: build it, or name a broker with --broker", beside.display()).into())
        }
    }
}

/// A broker under load.
pub(crate) struct Broker {
    pub(crate) url: String,
    /// Its operations listener, when it is known.
    pub(crate) ops: Option<String>,
    /// The authority of its certificate, as PEM.
    pub(crate) ca: Vec<u8>,
    /// Empty when nobody knows its processes.
    pub(crate) meters: Vec<Meter>,
    /// Its record, when it can be read, and where its end was.
    pub(crate) audit: Option<(PathBuf, u64)>,
    /// From the start of the process until it was ready, in milliseconds.
    pub(crate) ready_ms: Option<f64>,
    child: Option<Guarded>,
}

impl Broker {
    /// Starts one in this world, and waits until it is ready.
    pub(crate) async fn start(program: &Path, world: &World) -> Result<Self, Failure> {
        keys(program, world, &["init"])?;
        let log = File::create(world.folder.join("broker.log"))?;
        let since = Stopwatch::start();
        let mut child = Guarded::start(program, |command| {
            command.arg("serve").arg("--config").arg(world.config_file());
            own_settings_only(command).stdout(Stdio::null()).stderr(log).stdin(Stdio::null());
        })?;
        while !is_ready(&world.ops_url).await {
            let late = if since.elapsed() > READY { Err("it is not ready".into()) } else { child.alive() };
            late.map_err(|error: Failure| {
                format!("the broker: {error}\n{}", last_lines(&world.folder.join("broker.log")))
            })?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(Self {
            url: world.public_url.clone(),
            ops: Some(world.ops_url.clone()),
            ca: fs::read(world.ca_file())?,
            meters: vec![Meter::of(child.pid())?],
            audit: Some((world.audit_file(), 0)),
            ready_ms: Some(since.elapsed().as_secs_f64() * 1e3),
            child: Some(child),
        })
    }

    /// One that runs already.
    pub(crate) fn met(url: &str, ops: Option<String>, ca: Vec<u8>, pids: &[u32]) -> Result<Self, Failure> {
        let meters = pids.iter().map(|pid| Meter::of(*pid)).collect::<Result<_, _>>()?;
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { url, ops, ca, meters, audit: None, ready_ms: None, child: None })
    }

    /// Reads the record from its present end on.
    pub(crate) fn with_audit(mut self, path: PathBuf) -> Result<Self, Failure> {
        let length = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?.len();
        self.audit = Some((path, length));
        Ok(self)
    }

    /// The error when a broker that was started here is gone.
    pub(crate) fn alive(&mut self) -> Result<(), Failure> {
        self.child
            .as_mut()
            .map_or(Ok(()), |child| child.alive().map_err(|error| format!("the broker: {error}").into()))
    }

    /// What it has counted so far.
    pub(crate) async fn counts(&self) -> Result<Option<Counts>, Failure> {
        let Some(ops) = &self.ops else { return Ok(None) };
        let answer = client::get(&format!("{ops}/metrics"), None).await?;
        Ok(Some(Counts::read(&String::from_utf8_lossy(&answer.body))))
    }

    /// What it has recorded since it was met.
    pub(crate) fn recorded(&self) -> Result<Option<Recorded>, Failure> {
        let Some((path, start)) = &self.audit else { return Ok(None) };
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(*start))?;
        Recorded::read(BufReader::new(file)).map(Some)
    }
}

async fn is_ready(ops: &str) -> bool {
    client::get(&format!("{ops}/readyz"), None).await.is_ok_and(|answer| answer.status == 200)
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Nothing of our own environment may change what is measured.
fn own_settings_only(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FICUS_") {
            command.env_remove(name);
        }
    }
    command
}

/// `ficus keys` with these arguments.
pub(crate) fn keys(program: &Path, world: &World, arguments: &[&str]) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.arg("keys").args(arguments).arg("--config").arg(world.config_file()).stdin(Stdio::null());
    let output = own_settings_only(&mut command)
        .output()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("keys {}: {}", arguments[0], String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// From `/metrics`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) granted: u64,
    pub(crate) refused: u64,
    pub(crate) shed: u64,
    /// Changes of the directory that went live.
    pub(crate) reloads: u64,
}

impl Counts {
    fn read(text: &str) -> Self {
        let mut counts = Self::default();
        for line in text.lines() {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let to = match series {
                "ficus_requests_shed_total{reason=\"in_flight\"}"
                | "ficus_requests_shed_total{reason=\"queue_time\"}" => &mut counts.shed,
                "ficus_directory_reload_total{result=\"applied\"}" => &mut counts.reloads,
                _ if !series.starts_with("ficus_exchanges_total{") => continue,
                _ if series.contains("outcome=\"granted\"") => &mut counts.granted,
                _ => &mut counts.refused,
            };
            // The exposition format writes counters as floating point.
            *to += value.parse::<f64>().map_or(0, |value| value as u64);
        }
        counts
    }

    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            granted: self.granted - before.granted,
            refused: self.refused - before.refused,
            shed: self.shed - before.shed,
            reloads: self.reloads - before.reloads,
        }
    }
}

/// From the audit log: decisions by Entra's number, 0 for a grant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Recorded(pub(crate) BTreeMap<u32, u64>);

impl Recorded {
    fn read(lines: impl BufRead) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Line {
            status: Status,
            count: Option<u64>,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Status {
            error_code: u32,
        }
        let mut recorded = Self::default();
        for line in lines.lines() {
            // The newest line may be half written; it is read again later.
            let Ok(line) = serde_json::from_str::<Line>(&line?) else { continue };
            *recorded.0.entry(line.status.error_code).or_default() += line.count.unwrap_or(1);
        }
        Ok(recorded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_added_up_by_outcome() {
        let text = "# HELP x y\nficus_exchanges_total{dialect=\"a\",outcome=\"granted\",reason=\"granted\"} 3\n\
            ficus_exchanges_total{dialect=\"b\",outcome=\"granted\",reason=\"granted\"} 4\n\
            ficus_exchanges_total{dialect=\"a\",outcome=\"refused\",reason=\"shape\"} 5\n\
            ficus_requests_shed_total{reason=\"in_flight\"} 4\nficus_requests_shed_total{reason=\"queue_time\"} 2\n\
            ficus_requests_shed_total{reason=\"connections\"} 9\n\
            ficus_directory_reload_total{result=\"applied\"} 2\n";
        let counts = Counts::read(text);
        assert_eq!(counts, Counts { granted: 7, refused: 5, shed: 6, reloads: 2 });
        let earlier = Counts { granted: 1, ..Counts::default() };
        assert_eq!(counts.since(earlier).granted, 6);
    }

    #[test]
    fn an_aggregate_counts_for_all_that_it_stands_for() {
        let log = "{\"status\":{\"errorCode\":0}}\n{\"status\":{\"errorCode\":0},\"outcome\":\"granted\"}\n\
            {\"status\":{\"errorCode\":700213},\"count\":40}\n{\"status\":{\"errorCode\":700213}}\n{\"status\":{\"err";
        assert_eq!(Recorded::read(log.as_bytes()).unwrap().0, BTreeMap::from([(0, 2), (700_213, 41)]));
    }
}
