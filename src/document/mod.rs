//! TOML documents with positions, and problems that name a place.
//!
//! Everything a person writes for ficus (`ficus.toml`, the directory's files) is read through a [`Reader`]: it takes
//! the known keys one by one, notes every problem instead of stopping at the first, and at the end reports
//! the keys that nobody asked for. This module does no I/O: texts come in as strings.

mod changes;
mod effective;
mod fields;
mod reader;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

pub use fields::{Field, Size};
pub use reader::Reader;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong in a file, said so that the person who wrote it can put it right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as the caller named it, or the environment variable.
    pub file: String,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Path of the key, such as `listen.address` or `identity[2].name`; empty for the whole file.
    pub key: String,
    /// What is wrong, with the value found and what was expected.
    pub message: String,
    /// What to do about it; may be empty.
    pub hint: String,
    /// A warning lets `serve` start; anything else does not.
    pub warning: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        f.write_str(if self.warning { ": warning: " } else { ": " })?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if !self.hint.is_empty() {
            write!(f, " (hint: {})", self.hint)?;
        }
        Ok(())
    }
}

/// Collects problems while many readers are open on parts of one document, and the values that they gave.
#[derive(Debug, Default)]
pub struct Problems(RefCell<Vec<Problem>>, Option<RefCell<effective::Effective>>);

impl Problems {
    /// Notes one problem.
    pub fn add(&self, problem: Problem) {
        self.0.borrow_mut().push(problem);
    }

    /// Notes a problem of a whole file.
    pub fn file(&self, file: &str, message: impl Into<String>, hint: &str) {
        self.add(Problem {
            file: file.to_owned(),
            line: None,
            key: String::new(),
            message: message.into(),
            hint: hint.to_owned(),
            warning: false,
        });
    }

    /// Whether anything was noted that forbids to go on.
    pub fn any_error(&self) -> bool {
        self.0.borrow().iter().any(|problem| !problem.warning)
    }

    /// Collects every value that is read, too, which for a large directory would take as long as reading it.
    pub fn with_values() -> Self {
        Self(RefCell::default(), Some(RefCell::default()))
    }

    /// Every value that was asked for so far, as written or by default, as TOML; empty unless they are collected.
    pub fn effective(&self) -> String {
        self.1.as_ref().map(|values| values.borrow().to_toml()).unwrap_or_default()
    }

    /// All problems, in the order in which they were noted.
    pub fn into_vec(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Line(usize),
    Variable(String),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    Datetime,
}

#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

pub(crate) type Table = BTreeMap<String, Node>;

/// A parsed document, not yet read.
#[derive(Debug, Clone)]
pub struct Document {
    file: String,
    root: Table,
}

impl Document {
    /// Parses TOML. Syntax errors become problems; what could be read is still there to be checked.
    pub fn parse(file: &str, text: &str, problems: &Problems) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let lines = Lines::of(text);
        for error in errors {
            problems.add(Problem {
                file: file.to_owned(),
                line: error.span().map(|span| lines.at(span.start)),
                key: String::new(),
                message: format!("not valid TOML: {}", error.message().replace('\n', ", ")),
                hint: String::new(),
                warning: false,
            });
        }
        Self { file: file.to_owned(), root: table(root.get_ref(), &lines) }
    }

    /// Overrides single keys by environment variables: `FICUS_LISTEN__ADDRESS` sets `listen.address`.
    ///
    /// A variable that can't name a key here is left out with a warning: Kubernetes injects `FICUS_PORT` and friends
    /// into every pod beside a Service of that name.
    pub fn overlay(&mut self, variables: impl Iterator<Item = (String, String)>, problems: &Problems) {
        for (name, text) in variables {
            let Some(path) = name.strip_prefix("FICUS_") else { continue };
            let path = path.to_ascii_lowercase();
            let node = Node { value: Value::Text(text), place: Place::Variable(name.clone()) };
            if !set(&mut self.root, &path, node) {
                problems.add(Problem {
                    file: name,
                    line: None,
                    key: path.replace("__", "."),
                    message: "names a section, not a single key; ignored".to_owned(),
                    hint: "two underscores separate section and key, as in FICUS_LISTEN__ADDRESS".to_owned(),
                    warning: true,
                });
            }
        }
    }

    /// Starts reading at the root.
    pub fn reader<'a>(self, problems: &'a Problems) -> Reader<'a> {
        Reader::new(self.root, &self.file, String::new(), problems)
    }
}

fn set(table: &mut Table, path: &str, node: Node) -> bool {
    match path.split_once("__") {
        None => {
            let free = !matches!(table.get(path), Some(Node { value: Value::Table(_) | Value::List(_), .. }));
            if free {
                table.insert(path.to_owned(), node);
            }
            free
        }
        Some((section, rest)) => {
            let place = node.place.clone();
            let entry = table
                .entry(section.to_owned())
                .or_insert_with(|| Node { value: Value::Table(Table::new()), place });
            match &mut entry.value {
                Value::Table(inner) => set(inner, rest, node),
                _ => false,
            }
        }
    }
}

/// Line numbers by byte offset.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}

fn table(source: &DeTable<'_>, lines: &Lines) -> Table {
    source
        .iter()
        .map(|(key, value)| {
            let place = Place::Line(lines.at(key.span().start));
            (key.get_ref().to_string(), Node { value: value_of(value.get_ref(), lines), place })
        })
        .collect()
}

fn value_of(source: &DeValue<'_>, lines: &Lines) -> Value {
    match source {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix()).map_or(Value::Float(f64::INFINITY), Value::Integer)
        }
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::List(
            items
                .iter()
                .map(|item| Node {
                    value: value_of(item.get_ref(), lines),
                    place: Place::Line(lines.at(item.span().start)),
                })
                .collect(),
        ),
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
    }
}
