//! Takes the known keys out of a table and complains about the rest.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::effective::{literal, quoted};
use super::fields::{json, read, shown};
use super::spot::Step;
use super::{Field, Node, Place, Problem, Problems, Spot, Table, Value};

/// Reads one table. Call [`Reader::finish`] when all known keys have been asked for.
#[derive(Debug)]
pub struct Reader<'a> {
    table: Table<'a>,
    step: Arc<Step>,
    /// Of the table itself.
    place: Option<Place>,
    /// Every key that was asked for, and its place if it is there.
    asked: Vec<(&'static str, Option<Place>)>,
    problems: &'a Problems,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        table: Table<'a>,
        step: Arc<Step>,
        place: Option<Place>,
        problems: &'a Problems,
    ) -> Self {
        Self { table, step, place, asked: Vec::new(), problems }
    }

    /// The value of a key, or `None` when it is absent or wrong (then a problem is noted).
    pub fn get<T: Field>(&mut self, key: &'static str) -> Option<T> {
        let node = self.take(key)?;
        let value = read(&node);
        self.note_value(key, || value.as_ref().and_then(Field::written).or_else(|| literal(&node)));
        if value.is_none() {
            self.problem(key, format!("expected {}, found {}", T::EXPECTED, shown(&node)), "");
        }
        value
    }

    /// As [`Reader::get`], with a default for an absent key.
    pub fn get_or<T: Field>(&mut self, key: &'static str, default: T) -> T {
        let absent = !self.table.contains_key(key);
        let value = self.get(key).unwrap_or(default);
        if absent {
            self.note_value(key, || value.written());
        }
        value
    }

    /// As [`Reader::get`], and the key must be there.
    pub fn need<T: Field>(&mut self, key: &'static str) -> Option<T> {
        if !self.table.contains_key(key) {
            self.asked.push((key, None));
            self.problem(key, format!("is missing: expected {}", T::EXPECTED), "");
            return None;
        }
        self.get(key)
    }

    /// A value with bounds; `show` writes them for people.
    pub fn bounded<T: Field + PartialOrd + Copy>(
        &mut self,
        key: &'static str,
        default: T,
        bounds: RangeInclusive<T>,
        show: impl Fn(T) -> String,
    ) -> T {
        let value = self.get_or(key, default);
        if bounds.contains(&value) {
            return value;
        }
        let message = format!(
            "{} is out of range: expected {} to {}",
            show(value),
            show(*bounds.start()),
            show(*bounds.end())
        );
        self.problem(key, message, "");
        default
    }

    /// A value that must be one of a few words.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text: String = self.get(key)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let list: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            self.problem(key, format!("expected one of {}, found {text:?}", list.join(", ")), "");
        }
        found
    }

    /// As [`Reader::one_of`], with a default for an absent key.
    pub fn one_of_or<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
        default: T,
    ) -> T {
        if !self.table.contains_key(key) {
            let word = words.iter().find(|(_, value)| *value == default);
            self.note_value(key, || word.map(|(word, _)| quoted(word)));
        }
        self.one_of(key, words).unwrap_or(default)
    }

    /// As [`Reader::one_of`], and the key must be there.
    pub fn need_one_of<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        if !self.table.contains_key(key) {
            self.need::<String>(key);
            return None;
        }
        self.one_of(key, words)
    }

    /// A list of values; `None` when the key is absent.
    pub fn list<T: Field>(&mut self, key: &'static str) -> Option<Vec<T>> {
        let node = self.take(key)?;
        self.note_value(key, || match node.value {
            Value::List(_) => literal(&node),
            _ => literal(&node).map(|one| format!("[{one}]")),
        });
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            // One variable gives a list of one: the text of a variable takes the key's type.
            Value::Text(_) if matches!(node.place, Place::Variable(_)) => std::slice::from_ref(&node),
            _ => {
                self.problem(key, format!("expected a list of {}, found {}", T::EXPECTED, shown(&node)), "");
                return None;
            }
        };
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            match read(item) {
                Some(value) => values.push(value),
                None => {
                    let message = format!("expected a list of {}, found {} in it", T::EXPECTED, shown(item));
                    self.problem(key, message, "");
                }
            }
        }
        Some(values)
    }

    /// A table of texts, such as tags.
    pub fn texts(&mut self, key: &'static str) -> BTreeMap<String, String> {
        let Some(node) = self.take(key) else { return BTreeMap::new() };
        let Value::Table(table) = node.value else {
            self.problem(key, format!("expected a table of texts, found {}", shown(&node)), "");
            return BTreeMap::new();
        };
        let mut texts = BTreeMap::new();
        for (name, item) in table {
            match item.value {
                Value::Text(text) => drop(texts.insert(name.into_owned(), text.into_owned())),
                _ => self.problem(
                    key,
                    format!("{name}: expected a text in quotes, found {}", shown(&item)),
                    "",
                ),
            }
        }
        texts
    }

    /// A table of anything, as JSON has it; the key must be there.
    pub fn object(&mut self, key: &'static str) -> Option<serde_json::Map<String, serde_json::Value>> {
        let Some(node) = self.take(key) else {
            self.problem(key, "is missing: expected a table", "");
            return None;
        };
        let Value::Table(table) = &node.value else {
            self.problem(key, format!("expected a table, found {}", shown(&node)), "");
            return None;
        };
        let mut object = serde_json::Map::new();
        for (name, item) in table {
            match json(item) {
                Some(value) => drop(object.insert(name.to_string(), value)),
                None => {
                    let hint = "JSON has no dates and no infinite numbers: write seconds since 1970";
                    self.problem(key, format!("{name}: can't be said in JSON"), hint);
                }
            }
        }
        Some(object)
    }

    /// A section; absent counts as empty, so that its defaults apply.
    pub fn section(&mut self, key: &'static str) -> Reader<'a> {
        let table = match self.take(key) {
            Some(Node { value: Value::Table(table), .. }) => table,
            Some(node) => {
                self.misplaced(key, &node, &format!("a section [{key}]"));
                Table::new()
            }
            None => Table::new(),
        };
        Reader::new(table, Step::below(&self.step, key, None), None, self.problems)
    }

    /// The tables of `[[key]]`.
    pub fn tables(&mut self, key: &'static str) -> Vec<Reader<'a>> {
        let items = match self.take(key) {
            Some(Node { value: Value::List(items), .. }) => items,
            Some(node) => {
                self.misplaced(key, &node, &format!("[[{key}]] tables"));
                return Vec::new();
            }
            None => return Vec::new(),
        };
        let mut readers = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item.value {
                Value::Table(table) => {
                    let step = Step::below(&self.step, key, Some(index));
                    readers.push(Reader::new(table, step, Some(item.place), self.problems));
                }
                _ => self.problem(key, format!("expected [[{key}]] tables, found {}", shown(&item)), ""),
            }
        }
        readers
    }

    /// Whether a key that was asked for is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.place_of(key).is_some()
    }

    /// Whether a key is there and holds a table rather than a single value.
    pub fn is_table(&self, key: &str) -> bool {
        matches!(self.table.get(key), Some(Node { value: Value::Table(_), .. }))
    }

    /// Notes a problem of a key that was asked for; an empty key means the table itself.
    pub fn problem(&self, key: &'static str, message: impl Display, hint: &str) {
        self.spot(key).problem(self.problems, message, hint);
    }

    /// Notes a warning.
    pub fn warning(&self, key: &'static str, message: impl Display, hint: &str) {
        self.spot(key).warning(self.problems, message, hint);
    }

    /// Where a key that was asked for is, else the table; an empty key means the table itself.
    pub fn spot(&self, key: &'static str) -> Spot {
        Spot::new(&self.step, key, self.place_of(key).or(self.place.as_ref()))
    }

    /// Reports every key that nobody asked for.
    pub fn finish(self) {
        for (key, node) in &self.table {
            let known: Vec<_> = self.asked.iter().map(|(key, _)| *key).collect();
            let hint = match nearest(key, &known) {
                Some(known) => format!("did you mean {known:?}?"),
                None if known.is_empty() => String::new(),
                None => format!("known keys: {}", known.join(", ")),
            };
            let problem = self.step.problem(key, Some(&node.place), "unknown key".to_owned(), hint);
            self.problems.add(Problem { warning: only_variables(node), ..problem });
        }
    }

    /// Something else stands where a section or tables belong. A variable can't have meant them, so it is only ignored.
    fn misplaced(&self, key: &'static str, node: &Node<'_>, expected: &str) {
        match &node.place {
            Place::Line(_) => self.problem(key, format!("expected {expected}, found {}", shown(node)), ""),
            Place::Variable(_) => {
                let hint = "two underscores separate section and key, as in FICUS_LISTEN__ADDRESS";
                self.warning(key, format!("a variable can't set {expected}; ignored"), hint);
            }
        }
    }

    fn note_value(&self, key: &str, literal: impl FnOnce() -> Option<String>) {
        let Some(values) = &self.problems.1 else { return };
        if let Some(literal) = literal() {
            values.borrow_mut().note(self.step.path(key), literal);
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Node<'a>> {
        let node = self.table.remove(key);
        self.asked.push((key, node.as_ref().map(|node| node.place.clone())));
        node
    }

    fn place_of(&self, key: &str) -> Option<&Place> {
        self.asked.iter().find_map(|(asked, place)| place.as_ref().filter(|_| *asked == key))
    }
}

/// Whether a node came from the environment alone, with everything below it.
fn only_variables(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Table(table) if !table.is_empty() => table.values().all(only_variables),
        _ => matches!(node.place, Place::Variable(_)),
    }
}

fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|word| (distance(key, word), *word))
        .filter(|(d, word)| *d <= 2.min(word.len() / 2))
        .min()
        .map(|(_, word)| word)
}

/// Levenshtein distance; keys are short.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let next = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = next;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Document, Problems};

    fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        let problems = Problems::default();
        let mut document = Document::parse("f.toml", text, &problems);
        document.overlay(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())), &problems);
        let mut reader = document.reader(&problems);
        let mut listen = reader.section("listen");
        listen.get::<std::net::SocketAddr>("address");
        listen.bounded(
            "idle",
            Duration::from_secs(60),
            Duration::from_secs(1)..=Duration::from_secs(600),
            |d| humantime::format_duration(d).to_string(),
        );
        listen.get::<bool>("fast");
        listen.finish();
        for mut tenant in reader.tables("tenant") {
            tenant.need::<String>("id");
            tenant.finish();
        }
        reader.finish();
        problems.into_vec().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_problems_at_once_with_line_and_hint() {
        let text = "[listen]\nadress = \"x\"\naddress = \"nowhere\"\nidle = \"2h\"\n\n[[tenant]]\nname = 1\n";
        assert_eq!(
            problems(text, &[]),
            [
                "f.toml:3: listen.address: expected an address and port such as \"127.0.0.1:8443\", found \"nowhere\"",
                "f.toml:4: listen.idle: 2h is out of range: expected 1s to 10m",
                "f.toml:2: listen.adress: unknown key (hint: did you mean \"address\"?)",
                "f.toml:6: tenant[0].id: is missing: expected a text in quotes",
                "f.toml:7: tenant[0].name: unknown key (hint: known keys: id)",
            ]
        );
    }

    #[test]
    fn variables_override_single_keys_and_take_their_type() {
        assert!(problems("[listen]\nfast = false\n", &[("FICUS_LISTEN__FAST", "true")]).is_empty());
        assert_eq!(
            problems("", &[("FICUS_LISTEN__FAST", "perhaps")]),
            [
                "environment variable FICUS_LISTEN__FAST: listen.fast: expected true or false, found \"perhaps\""
            ]
        );
    }

    #[test]
    fn unknown_variables_only_warn() {
        let found = problems("[listen]\nfast = true\n", &[("FICUS_PORT", "tcp://1"), ("FICUS_LISTEN", "x")]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|line| line.contains("warning")), "{found:?}");
        let found = problems("", &[("FICUS_LISTEN", "x"), ("FICUS_TENANT__ID", "y"), ("FICUS_TENANT", "z")]);
        assert!(found.len() >= 2 && found.iter().all(|line| line.contains("warning")), "{found:?}");
    }

    #[test]
    fn syntax_errors_name_the_line() {
        let found = problems("[listen]\naddress = = 3\n", &[]);
        assert!(found[0].starts_with("f.toml:2: not valid TOML"), "{found:?}");
    }

    #[test]
    fn a_quoted_boolean_in_a_file_is_refused() {
        assert_eq!(problems("[listen]\nfast = \"true\"\n", &[]).len(), 1);
    }
}
