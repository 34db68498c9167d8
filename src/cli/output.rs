//! The only place that prints.

use std::io::Write;

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
