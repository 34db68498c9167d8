//! `ficus wait`: a change has reached every replica, or the reason why not.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use super::{ConfigArgs, Failure, UNAVAILABLE, load, output, settle};
use crate::client::replica::{Answer, Place, Replica, Replicas, Serving};
use crate::clock::{Stopwatch, random};
use crate::directory::files::Tree;
use crate::document::Problems;

/// The time that may be given.
const TIMES: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);
/// Between two rounds, and as much again at most, so that many pipelines don't ask in step.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Args)]
#[command(group(ArgGroup::new("what").required(true).args(["digest", "config"])))]
pub(super) struct WaitArgs {
    /// The digest to wait for, whole, as `ficus check` prints it.
    #[arg(long, value_name = "DIGEST", value_parser = whole_digest)]
    digest: Option<String>,
    /// In its place the configuration file whose directory is to be served: the digest is worked out as `ficus check`
    /// does it, with the FICUS_ variables of this environment.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The operations listeners to ask, as in http://127.0.0.1:9464; may be repeated. Every address of a name is a replica
    /// (a headless Service of Kubernetes), looked up anew each time; localhost is one.
    #[arg(long, value_name = "URL", required = true, num_args = 1..)]
    ops: Vec<Place>,
    /// CAs to trust beside the system's, in PEM, where a proxy in front of the listeners speaks https.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// How long to wait: 1s to 1h. It may take 3 s more, where the last answer is slow.
    #[arg(long, default_value = "60s", value_name = "DURATION")]
    timeout: humantime::Duration,
    /// Print the outcome as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &WaitArgs) -> Result<(), Failure> {
    let timeout: Duration = args.timeout.into();
    if !TIMES.contains(&timeout) {
        output::error("--timeout is between 1s and 1h");
        return Err(Failure::Code(2));
    }
    let digest = match (&args.digest, &args.config) {
        (Some(digest), _) => digest.clone(),
        (None, config) => local_digest(config.clone().unwrap_or_default())?,
    };
    let authorities = args.ca_file.as_ref().map(std::fs::read).transpose().map_err(|error| error.to_string());
    let replicas = authorities.and_then(|pem| Replicas::new(pem.as_deref())).map_err(|why| {
        let file = args.ca_file.as_ref().map(|file| format!("--ca-file {}: ", file.display()));
        Failure::Line(format!("{}{why}", file.unwrap_or_default()))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(wait(args, &digest, replicas, timeout))
}

/// A digest is SHA-256 in hex. A part of one could be another's.
fn whole_digest(text: &str) -> Result<String, String> {
    let whole = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if whole { Ok(text.to_owned()) } else { Err("a digest has 64 digits, 0 to 9 and a to f".to_owned()) }
}

fn local_digest(config: PathBuf) -> Result<String, Failure> {
    let (config, problems) = load(&ConfigArgs { config }, Problems::default())?;
    let directory = config.load_directory(&mut Tree::default(), &problems);
    settle(problems)?;
    Ok(directory.digest().to_owned())
}

async fn wait(
    args: &WaitArgs,
    digest: &str,
    mut replicas: Replicas,
    timeout: Duration,
) -> Result<(), Failure> {
    let watch = Stopwatch::start();
    let mut seen = BTreeMap::new();
    loop {
        let now = replicas.ask(&args.ops).await;
        let outcome = Outcome { digest, took: watch.elapsed(), replicas: &now };
        outcome.tell_changes(&seen);
        let pause = PAUSE + PAUSE.mul_f64(f64::from(random::<1>()[0]) / 255.0);
        if outcome.all_serve() || outcome.took + pause >= timeout {
            return outcome.conclude(args.json);
        }
        seen = now;
        tokio::time::sleep(pause).await;
    }
}

/// What all replicas said in one round.
struct Outcome<'a> {
    digest: &'a str,
    /// Since the start of waiting.
    took: Duration,
    replicas: &'a BTreeMap<Replica, Answer>,
}

impl Outcome<'_> {
    /// Whoever has refused a change serves it only in part: what the digest does not name, such as an issuer's keys in a file,
    /// may be in what was refused.
    fn serves(&self, answer: &Answer) -> bool {
        matches!(answer, Answer::Serves(serving) if serving.digest == self.digest && !serving.refuses())
    }

    fn all_serve(&self) -> bool {
        self.replicas.values().all(|answer| self.serves(answer))
    }

    /// One line for each replica that says something else than before, and what is not well there.
    fn tell_changes(&self, before: &BTreeMap<Replica, Answer>) {
        for (replica, answer) in
            self.replicas.iter().filter(|(replica, now)| before.get(replica) != Some(now))
        {
            self.tell(replica, answer);
        }
        for gone in before.keys().filter(|replica| !self.replicas.contains_key(replica)) {
            output::error(&format!("{gone}: its name has this address no more"));
        }
    }

    fn tell(&self, replica: &Replica, answer: &Answer) {
        match answer {
            Answer::Silent(why) => output::error(&format!("{replica}: {why}")),
            Answer::Serves(Serving { digest, generation, notes }) => {
                let what = match *digest == self.digest {
                    true if self.serves(answer) => "serves it",
                    true => "serves it, but has refused a change",
                    false => "still serves another",
                };
                output::error(&format!("{replica}: {what}: {digest}, generation {generation}"));
                notes.iter().for_each(|note| output::error(&format!("  {note}")));
            }
        }
    }

    /// Says how it ended. That a replica has something else outweighs that another can't be had.
    fn conclude(&self, as_json: bool) -> Result<(), Failure> {
        let (digest, seconds) = (self.digest, self.took.as_secs_f64());
        if as_json {
            output::print(&format!("{:#}\n", self.json()));
        }
        let count = self.replicas.len();
        let lacking: Vec<_> = self.replicas.iter().filter(|(_, answer)| !self.serves(answer)).collect();
        if lacking.is_empty() {
            if !as_json {
                let who = if count == 1 { "1 replica serves" } else { &format!("{count} replicas serve") };
                output::print(&format!("{who} {digest}, after {seconds:.3} s\n"));
            }
            return Ok(());
        }
        output::error(&format!("after {seconds:.1} s {} of {count} don't serve {digest}:", lacking.len()));
        lacking.iter().for_each(|(replica, answer)| self.tell(replica, answer));
        let silent = lacking.iter().all(|(_, answer)| matches!(answer, Answer::Silent(_)));
        Err(Failure::Code(if silent { UNAVAILABLE } else { 1 }))
    }

    fn json(&self) -> Value {
        let replica = |(replica, answer): (&Replica, &Answer)| {
            let mut entry = json!({
                "url": replica.place.to_string(),
                "address": replica.address.map(|address| address.ip().to_string()),
                "serves": self.serves(answer),
            });
            match answer {
                Answer::Serves(Serving { digest, generation, notes }) => {
                    entry["digest"] = digest.as_str().into();
                    entry["generation"] = (*generation).into();
                    entry["notes"] = notes.as_slice().into();
                }
                Answer::Silent(why) => entry["error"] = why.as_str().into(),
            }
            entry
        };
        json!({
            "digest": self.digest,
            "served": self.all_serve(),
            "seconds": self.took.as_secs_f64(),
            "replicas": self.replicas.iter().map(replica).collect::<Vec<_>>(),
        })
    }
}
