//! `ficus audit`: who got what, and who was refused and why, asked of the record.

mod arguments;
mod show;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::output::Pages;
use super::records::{self, Source};
use super::serve::Stop;
use super::{ConfigArgs, Failure, output, runtime};
use crate::audit::reading::{Filter, Fit, Line, Reading, Top};
use crate::clock::Clock;
use arguments::{FilterArgs, TopField};
pub(super) use arguments::{Moment, moment};
use show::{Format, Show};

const SHOWN: &str = "What is shown";

#[derive(Args)]
pub(super) struct AuditArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The log, read with the files that were set aside of it, oldest first; - reads the standard input. Several are read one
    /// after another. Without it, what [audit] path of the configuration names.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Count in place of showing: how often each of these was in the records that fit, most first. Exact as long as they take
    /// no more than 64 MiB; from then on the rarest are forgotten, and by how much counts may be too low is told.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with = "follow", help_heading = SHOWN)]
    top: Option<TopField>,
    /// Only the newest N records; of --top, the first N rows [default: 20; with --follow: 10, unless --since is given].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000), help_heading = SHOWN)]
    limit: Option<u16>,
    /// How to show it.
    #[arg(long, value_enum, default_value = "table", help_heading = SHOWN)]
    format: Format,
    /// Go on with what is recorded from now on, through files that are set aside, until SIGTERM or Ctrl-C.
    #[arg(long, short, help_heading = SHOWN)]
    follow: bool,
}

/// How often a log is looked at that is followed.
const LOOK: Duration = Duration::from_millis(200);
/// Rows of `--top`.
const ROWS: u16 = 20;
/// Records that are shown before those that come.
const BEFORE: u16 = 10;

pub(super) fn run(args: &AuditArgs) -> Result<(), Failure> {
    let asks_config = args.files.is_empty() || args.filter.names_a_domain();
    let config = asks_config.then(|| records::configuration(&args.config)).transpose()?;
    let filter = args.filter.filter(config.as_ref(), Clock::system().now())?;
    let mut sources = records::sources(&args.files, config.as_ref())?;
    sources.iter_mut().for_each(|source| source.begin(filter.since));
    if args.follow {
        return match <[Source; 1]>::try_from(sources) {
            Ok([source]) => follow(source, Answer::new(args, filter)),
            Err(_) => Err(Failure::Usage("--follow takes one log".to_owned())),
        };
    }
    sources.iter().try_for_each(Source::demanded)?;
    let mut answer = Answer::new(args, filter);
    let mut visit = |line: &Line<'_>| answer.take(line);
    let mut reading = Reading::new(&mut visit);
    for source in &mut sources {
        if source.read(&mut reading)?.is_break() || reading.end().is_break() {
            break;
        }
    }
    records::tell_broken(&reading);
    answer.finish()
}

/// Shows what comes until it is told to stop. That may be at any time, also while the standard input gives nothing.
fn follow(source: Source, answer: Answer) -> Result<(), Failure> {
    runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let (done, ended) = tokio::sync::oneshot::channel();
        // A thread of its own, which nobody waits for: a read of the standard input can't be called off.
        std::thread::Builder::new()
            .name("follow".into())
            .spawn(move || done.send(shown_on(source, answer)))?;
        tokio::select! {
            () = stop.requested() => Ok(()),
            ended = ended => ended.unwrap_or(Ok(())),
        }
    })
}

/// Ends with the standard input, with whoever reads stdout, or never.
fn shown_on(mut source: Source, answer: Answer) -> Result<(), Failure> {
    let answer = RefCell::new(answer);
    let mut visit = |line: &Line<'_>| answer.borrow_mut().take(line);
    let mut reading = Reading::new(&mut visit);
    source.tell_absent();
    if let Source::Log(log, _) = &mut source {
        if answer.borrow().filter.since.is_none() {
            log.only_growing();
        }
        if source.read(&mut reading)?.is_break() {
            return answer.into_inner().finish();
        }
    }
    answer.borrow_mut().live();
    let Source::Log(mut log, path) = source else {
        let _ = source.read(&mut reading)?;
        let _ = reading.end();
        records::tell_broken(&reading);
        return answer.into_inner().finish();
    };
    let mut told = 0;
    while answer.borrow().failed.is_none() {
        if reading.broken + reading.cut > told {
            told = reading.broken + reading.cut;
            records::tell_broken(&reading);
        }
        std::thread::sleep(LOOK);
        let _ = log.follow(&mut reading).map_err(|error| records::unreadable(&path, &error))?;
    }
    answer.into_inner().finish()
}

/// What becomes of the records that fit.
struct Answer {
    filter: Filter,
    show: Show,
    top: Option<(String, Top)>,
    /// Rows of `--top`, or records that are kept back until no newer one comes.
    limit: Option<usize>,
    kept: VecDeque<String>,
    /// Whether records are shown as they come.
    live: bool,
    pages: Pages,
    /// Why no more can be shown.
    failed: Option<io::Error>,
    granted: u64,
    refused: u64,
    /// Decisions in sums of which nobody can tell whether they fit.
    unknown: u64,
}

impl Answer {
    fn new(args: &AuditArgs, filter: Filter) -> Self {
        let default = match (args.top, args.follow, filter.since) {
            (Some(_), ..) => Some(ROWS),
            (None, true, None) => Some(BEFORE),
            _ => None,
        };
        let mut answer = Self {
            filter,
            show: Show::new(args.format, output::columns()),
            top: args.top.map(|field| (name(field), Top::of(field.into()))),
            limit: args.limit.or(default).map(usize::from),
            kept: VecDeque::new(),
            live: false,
            pages: Pages::new(),
            failed: None,
            granted: 0,
            refused: 0,
            unknown: 0,
        };
        let head =
            answer.top.as_ref().map_or_else(|| answer.show.head(), |(field, _)| answer.show.top_head(field));
        answer.print(&head);
        answer
    }

    fn take(&mut self, line: &Line<'_>) -> ControlFlow<()> {
        let decisions = line.entry.decisions();
        match self.filter.fit(&line.entry) {
            Fit::No => return ControlFlow::Continue(()),
            Fit::Unknown => {
                self.unknown = self.unknown.saturating_add(decisions);
                return ControlFlow::Continue(());
            }
            Fit::Yes => {}
        }
        let sum = if line.entry.granted() { &mut self.granted } else { &mut self.refused };
        *sum = sum.saturating_add(decisions);
        if let Some((_, top)) = &mut self.top {
            top.add(&line.entry);
            return ControlFlow::Continue(());
        }
        let row = self.show.record(line);
        match self.limit {
            Some(limit) if !self.live => {
                if self.kept.len() == limit {
                    self.kept.pop_front();
                }
                self.kept.push_back(row);
            }
            _ => self.print(&row),
        }
        if self.failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn print(&mut self, text: &str) {
        let written = self.pages.write(text);
        let flushed = written.and_then(|()| if self.live { self.pages.flush() } else { Ok(()) });
        if let Err(error) = flushed {
            self.failed.get_or_insert(error);
        }
    }

    /// What was kept back is shown, and from now on everything at once.
    fn live(&mut self) {
        self.live = true;
        let kept: String = std::mem::take(&mut self.kept).into_iter().collect();
        self.print(&kept);
    }

    /// Shows what is left, and tells what can't be told. A reader that went away is no error of ours.
    fn finish(mut self) -> Result<(), Failure> {
        let followed = self.live;
        self.live();
        if let Some((field, top)) = self.top.take() {
            if top.error() > 0 {
                output::error(&format!(
                    "too many different ones to count each: counts may be too low by up to {}",
                    top.error()
                ));
            }
            for (value, count) in top.most(self.limit.unwrap_or(usize::from(ROWS))) {
                let row = self.show.top(&field, value.as_deref(), count);
                self.print(&row);
            }
        }
        if !followed {
            let foot = self.show.foot(self.granted, self.refused);
            self.print(&foot);
        }
        if self.unknown > 0 {
            output::error(&format!(
                "{} refused decisions were only counted, by identity and reason, since there were more than 100 a second; \
                 whether they fit is not known, and they are left out",
                self.unknown
            ));
        }
        match self.failed.filter(|error| error.kind() != io::ErrorKind::BrokenPipe) {
            Some(error) => Err(Failure::Line(format!("stdout: {error}"))),
            None => Ok(()),
        }
    }
}

fn name(field: TopField) -> String {
    field.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
