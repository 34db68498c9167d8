//! Where things stand in a document. Paths of keys are written out for a problem only: a large directory has many keys
//! and few problems.

use std::fmt::{self, Display};
use std::sync::Arc;

use super::{Problem, Problems};

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Line(usize),
    Variable(String),
}

/// A table: the root of a file, or one below another.
#[derive(Debug)]
pub(super) enum Step {
    File(String),
    Below { above: Arc<Step>, key: &'static str, index: Option<usize> },
}

impl Step {
    pub(super) fn below(above: &Arc<Self>, key: &'static str, index: Option<usize>) -> Arc<Self> {
        Arc::new(Self::Below { above: Arc::clone(above), key, index })
    }

    fn file(&self) -> &str {
        match self {
            Self::File(name) => name,
            Self::Below { above, .. } => above.file(),
        }
    }

    /// The path of a key in this table; an empty key means the table itself.
    pub(super) fn path(&self, key: &str) -> String {
        match (self, key) {
            (Self::File(_), _) => key.to_owned(),
            (_, "") => self.to_string(),
            _ => format!("{self}.{key}"),
        }
    }

    pub(super) fn problem(&self, key: &str, place: Option<&Place>, message: String, hint: String) -> Problem {
        let (file, line) = match place {
            Some(Place::Line(line)) => (self.file().to_owned(), Some(*line)),
            Some(Place::Variable(name)) => (format!("environment variable {name}"), None),
            None => (self.file().to_owned(), None),
        };
        Problem { file, line, key: self.path(key), message, hint, warning: false }
    }
}

impl Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Below { above, key, index } = self else { return Ok(()) };
        f.write_str(&above.path(key))?;
        index.map_or(Ok(()), |index| write!(f, "[{index}]"))
    }
}

/// A key of a table, for problems that show only when its reader is gone: beside the records of other files.
#[derive(Debug, Clone)]
pub struct Spot {
    table: Arc<Step>,
    key: &'static str,
    place: Option<Place>,
}

impl Spot {
    pub(super) fn new(table: &Arc<Step>, key: &'static str, place: Option<&Place>) -> Self {
        Self { table: Arc::clone(table), key, place: place.cloned() }
    }

    /// Notes a problem here.
    pub fn problem(&self, problems: &Problems, message: impl Display, hint: &str) {
        problems.add(self.described(message, hint));
    }

    /// Notes a warning here.
    pub fn warning(&self, problems: &Problems, message: impl Display, hint: &str) {
        problems.add(Problem { warning: true, ..self.described(message, hint) });
    }

    fn described(&self, message: impl Display, hint: &str) -> Problem {
        self.table.problem(self.key, self.place.as_ref(), message.to_string(), hint.to_owned())
    }
}
