//! TOML documents with positions, and problems that name a place.
//!
//! Everything a person writes for ficus (`ficus.toml`, the directory's files) is read through a [`Reader`]: it takes
//! the known keys one by one, notes every problem instead of stopping at the first, and at the end reports
//! the keys that nobody asked for. This module does no I/O: texts come in as strings.

mod changes;
mod effective;
mod fields;
mod reader;
mod spot;

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use fields::{Field, Size};
pub use reader::Reader;
pub(crate) use spot::Place;
pub use spot::Spot;
use spot::Step;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

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

/// Texts are those of the file wherever it writes them as they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'t> {
    Text(Cow<'t, str>),
    Integer(i64),
    Float(f64),
    Bool(bool),
    List(Vec<Node<'t>>),
    Table(Table<'t>),
    Datetime,
}

#[derive(Debug, Clone)]
pub(crate) struct Node<'t> {
    pub(crate) value: Value<'t>,
    pub(crate) place: Place,
}

pub(crate) type Table<'t> = BTreeMap<Cow<'t, str>, Node<'t>>;

/// A parsed document, not yet read.
#[derive(Debug, Clone)]
pub struct Document<'t> {
    file: String,
    root: Table<'t>,
}

impl<'t> Document<'t> {
    /// Parses TOML. Syntax errors become problems; what could be read is still there to be checked.
    pub fn parse(file: &str, text: &'t str, problems: &Problems) -> Self {
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
        Self { file: file.to_owned(), root: table(root.into_inner(), &lines) }
    }

    /// Makes it independent of the text.
    pub fn into_owned(self) -> Document<'static> {
        Document { file: self.file, root: owned(self.root) }
    }

    /// Overrides single keys by environment variables: `FICUS_LISTEN__ADDRESS` sets `listen.address`.
    ///
    /// A variable that can't name a key here is left out with a warning: Kubernetes injects `FICUS_PORT` and friends
    /// into every pod beside a Service of that name.
    pub fn overlay(&mut self, variables: impl Iterator<Item = (String, String)>, problems: &Problems) {
        for (name, text) in variables {
            let Some(path) = name.strip_prefix("FICUS_") else { continue };
            let path = path.to_ascii_lowercase();
            let node = Node { value: Value::Text(text.into()), place: Place::Variable(name.clone()) };
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
    pub fn reader<'a>(self, problems: &'a Problems) -> Reader<'a>
    where
        't: 'a,
    {
        Reader::new(self.root, Arc::new(Step::File(self.file)), None, problems)
    }
}

fn set<'t>(table: &mut Table<'t>, path: &str, node: Node<'t>) -> bool {
    match path.split_once("__") {
        None => {
            let free = !matches!(table.get(path), Some(Node { value: Value::Table(_) | Value::List(_), .. }));
            if free {
                table.insert(path.to_owned().into(), node);
            }
            free
        }
        Some((section, rest)) => {
            let place = node.place.clone();
            let entry = table
                .entry(section.to_owned().into())
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

fn table<'t>(source: DeTable<'t>, lines: &Lines) -> Table<'t> {
    let node = |(key, value): (Spanned<DeString<'t>>, Spanned<DeValue<'t>>)| {
        let place = Place::Line(lines.at(key.span().start));
        (key.into_inner(), Node { value: value_of(value.into_inner(), lines), place })
    };
    source.into_iter().map(node).collect()
}

fn value_of<'t>(source: DeValue<'t>, lines: &Lines) -> Value<'t> {
    match source {
        DeValue::String(text) => Value::Text(text),
        DeValue::Integer(number) => {
            let digits = number.as_str().replace('_', "");
            i64::from_str_radix(&digits, number.radix()).map_or(Value::Float(f64::INFINITY), Value::Integer)
        }
        DeValue::Float(number) => Value::Float(number.as_str().replace('_', "").parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => {
            let node = |item: Spanned<DeValue<'t>>| {
                let place = Place::Line(lines.at(item.span().start));
                Node { value: value_of(item.into_inner(), lines), place }
            };
            Value::List(items.into_iter().map(node).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, lines)),
    }
}

fn owned(table: Table<'_>) -> Table<'static> {
    table.into_iter().map(|(key, node)| (key.into_owned().into(), node.into_owned())).collect()
}

impl Node<'_> {
    fn into_owned(self) -> Node<'static> {
        let value = match self.value {
            Value::Text(text) => Value::Text(text.into_owned().into()),
            Value::List(items) => Value::List(items.into_iter().map(Node::into_owned).collect()),
            Value::Table(table) => Value::Table(owned(table)),
            Value::Integer(number) => Value::Integer(number),
            Value::Float(number) => Value::Float(number),
            Value::Bool(flag) => Value::Bool(flag),
            Value::Datetime => Value::Datetime,
        };
        Node { value, place: self.place }
    }
}
