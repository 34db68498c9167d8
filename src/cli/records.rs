//! Which record is read: files that were named, or the configuration's log with what was set aside of it.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::{ConfigArgs, Failure, load, output};
use crate::audit::Destination;
use crate::audit::reading::{Log, Reading};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::document::Problems;

/// Where records come from.
pub(super) enum Source {
    Log(Log, PathBuf),
    /// The standard input.
    Input,
}

/// The configuration, for who reads the record alone: its warnings are for who runs the broker.
pub(super) fn configuration(args: &ConfigArgs) -> Result<Config, Failure> {
    let (config, problems) = load(args, Problems::default())?;
    if problems.any_error() {
        return Err(Failure::Problems(problems.into_vec().into_iter().filter(|one| !one.warning).collect()));
    }
    Ok(config)
}

/// The files that were named, else the configuration's.
pub(super) fn sources(files: &[PathBuf], config: Option<&Config>) -> Result<Vec<Source>, Failure> {
    if !files.is_empty() {
        return files.iter().map(|file| source(file)).collect();
    }
    match config.map(|config| &config.audit.path) {
        Some(Destination::File(path)) => Ok(vec![source(path)?]),
        _ => Err(Failure::Line(
            "[audit] path is \"stdout\", so no file has the record (hint: name a file that it was collected in, or - for the \
             standard input)"
                .to_owned(),
        )),
    }
}

fn source(file: &Path) -> Result<Source, Failure> {
    if file == Path::new("-") {
        return Ok(Source::Input);
    }
    if file.is_dir() {
        return Err(Failure::Line(format!("{}: is a folder (hint: name the file in it)", shown(file))));
    }
    let log = Log::find(file).map_err(|error| unreadable(file, &error))?;
    for strange in log.strange() {
        output::error(&format!("{}: not read (hint: name it as well)", shown(strange)));
    }
    Ok(Source::Log(log, file.to_owned()))
}

impl Source {
    /// Fails when there is nothing to read.
    pub(super) fn demanded(&self) -> Result<(), Failure> {
        match self {
            Self::Log(log, path) if log.is_absent() => Err(Failure::Line(format!(
                "{}: there is no such file, nor one that was set aside of it (hint: [audit] path says where the record is)",
                shown(path)
            ))),
            _ => Ok(()),
        }
    }

    /// Says that there is nothing to read yet.
    pub(super) fn tell_absent(&self) {
        if let Self::Log(log, path) = self
            && log.is_absent()
        {
            output::error(&format!("{}: not there yet; waiting for it", shown(path)));
        }
    }

    /// What will be read, by name.
    pub(super) fn names(&self) -> Vec<String> {
        match self {
            Self::Log(log, _) => log.files().into_iter().map(shown).collect(),
            Self::Input => vec!["the standard input".to_owned()],
        }
    }

    /// Leaves out files that were last written before that time.
    pub(super) fn begin(&mut self, since: Option<UnixTime>) {
        if let (Self::Log(log, _), Some(since)) = (self, since) {
            log.begin(since);
        }
    }

    /// Reads what there is.
    pub(super) fn read(&mut self, reading: &mut Reading<'_>) -> Result<ControlFlow<()>, Failure> {
        match self {
            Self::Log(log, path) => log.read(reading).map_err(|error| unreadable(path, &error)),
            Self::Input => {
                let read = reading.pull(&mut std::io::stdin().lock());
                read.map_err(|error| unreadable(Path::new("the standard input"), &error))
            }
        }
    }
}

/// Says what was left out because it is no record.
pub(super) fn tell_broken(reading: &Reading<'_>) {
    let lines = |count: u64| if count == 1 { "1 line is".to_owned() } else { format!("{count} lines are") };
    if reading.broken > 0 {
        output::error(&format!("{} no audit record and left out", lines(reading.broken)));
    }
    if reading.cut > 0 {
        output::error(
            "the last line is only half there and left out: it is being written, or the broker was killed",
        );
    }
}

pub(super) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => " (hint: only the broker's own user may read its record)",
        _ => "",
    };
    Failure::Line(format!("{}: can't be read: {error}{hint}", shown(path)))
}

fn shown(path: &Path) -> String {
    output::plain(&path.display().to_string())
}
