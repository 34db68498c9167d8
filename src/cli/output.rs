//! The only place that prints.

use std::io::{self, BufWriter, Stdout, Write};

use crate::audit::drives_terminals;
use crate::document::Problem;

/// Prints to stdout; a reader that went away is no error of ours.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    let _ = std::io::stdout().lock().flush();
}

/// Whether somebody looks at stdout who can see colours, and has not said that they don't want any (no-color.org).
pub(super) fn takes_colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::IsTerminal::is_terminal(&std::io::stdout()) && !refused
}

/// Prints in large pieces what may be long, and tells when nobody reads any more.
pub(super) struct Pages(BufWriter<Stdout>);

impl Pages {
    pub(super) fn new() -> Self {
        Self(BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    pub(super) fn write(&mut self, text: &str) -> io::Result<()> {
        self.0.write_all(text.as_bytes())
    }

    /// Brings what has been written so far to whoever reads it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// How many columns the terminal has, where stdout is one.
pub(super) fn columns() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Strangers chose these characters: what a terminal would act on, or two letters that look the same, are spelled out.
pub(super) fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, ' '..='~') { c.to_string() } else { c.escape_default().to_string() })
        .collect()
}

/// JSON whose strings spell out what would drive a terminal: the same to whoever parses it.
pub(super) fn as_it_is(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // In JSON they stand between values alone.
            '\n' => safe.push(c),
            '\0'..' ' => safe.push(' '),
            c if drives_terminals(c) => safe.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => safe.push(c),
        }
    }
    safe
}

/// One line on stderr.
pub(super) fn error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "ficus: {line}");
}

/// Every problem on a line of its own, then how many there are.
pub(super) fn problems(problems: &[Problem]) {
    for problem in problems {
        error(&problem.to_string());
    }
    let errors = problems.iter().filter(|problem| !problem.warning).count();
    if errors > 0 {
        error(&format!("{errors} problem{} to put right", if errors == 1 { "" } else { "s" }));
    }
}
