//! What is in force: every key that somebody asked for, as written or by default, as TOML again.
//!
//! It is noted where keys are read, so that there is no second list of them to fall behind.

use super::{Node, Value};

/// Key path, such as `listen.address` or `issuer[0].url`, and its value as TOML, in the order in which they were read.
#[derive(Debug, Default)]
pub(super) struct Effective(Vec<(String, String)>);

impl Effective {
    pub(super) fn note(&mut self, path: String, literal: String) {
        self.0.push((path, literal));
    }

    pub(super) fn to_toml(&self) -> String {
        let split = |path: &str| match path.rsplit_once('.') {
            Some((table, key)) => (table.to_owned(), key.to_owned()),
            None => (String::new(), path.to_owned()),
        };
        // Keys outside any table come first, or TOML would take them into the table before.
        let mut tables: Vec<String> = vec![String::new()];
        for (path, _) in &self.0 {
            let (table, _) = split(path);
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
        let mut text = String::new();
        for table in tables {
            if !table.is_empty() {
                let header = match table.split_once('[') {
                    Some((name, _)) => format!("[[{name}]]"),
                    None => format!("[{table}]"),
                };
                text.push_str(&format!("\n{header}\n"));
            }
            for (path, literal) in &self.0 {
                let (owner, key) = split(path);
                if owner == table {
                    text.push_str(&format!("{key} = {}\n", redacted(&key, literal)));
                }
            }
        }
        text
    }
}

/// No key of ours takes a secret in place; one that was pasted where a name belongs must not be printed again.
fn redacted<'l>(key: &str, literal: &'l str) -> &'l str {
    let user_information = literal.split_once("://").is_some_and(|(_, rest)| {
        rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
    });
    let secret = ["password", "secret"].iter().any(|word| key.contains(word))
        || ["-----BEGIN", "eyJ", "Bearer "].iter().any(|word| literal.contains(word))
        || user_information;
    if secret { "\"***\"" } else { literal }
}

/// A written value; `None` for a table, whose keys are noted one by one.
pub(super) fn literal(node: &Node<'_>) -> Option<String> {
    Some(match &node.value {
        Value::Text(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::List(items) => {
            format!("[{}]", items.iter().map(literal).collect::<Option<Vec<_>>>()?.join(", "))
        }
        Value::Float(_) | Value::Table(_) | Value::Datetime => return None,
    })
}

pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::{Document, Problems};

    #[test]
    fn written_and_default_values_come_back_as_toml_without_secrets() {
        let problems = Problems::with_values();
        let text = "name = \"x\"\n[listen]\nfast = true\n[[tenant]]\nid = \"a\\\"b\"\nproxy = \"https://u:p@h/x\"\n\
                    file = \"eyJhbGciOi\"\n[[tenant]]\nid = \"c\"\n";
        let mut document = Document::parse("f.toml", text, &problems);
        let variables = [("FICUS_LISTEN__PORT".to_owned(), "7".to_owned())];
        document.overlay(variables.into_iter(), &problems);
        let mut root = document.reader(&problems);
        let mut listen = root.section("listen");
        listen.get_or("fast", false);
        listen.get_or("port", 1_u64);
        listen.get_or("idle", std::time::Duration::from_secs(90));
        listen.one_of_or("mode", &[("a", 1), ("b", 2)], 2);
        listen.finish();
        for mut tenant in root.tables("tenant") {
            tenant.get::<String>("id");
            tenant.get::<String>("proxy");
            tenant.get::<String>("file");
            tenant.finish();
        }
        root.get::<String>("name");
        root.finish();
        assert_eq!(
            problems.effective(),
            "name = \"x\"\n\n[listen]\nfast = true\nport = 7\nidle = \"1m 30s\"\nmode = \"b\"\n\n[[tenant]]\n\
             id = 'a\"b'\nproxy = \"***\"\nfile = \"***\"\n\n[[tenant]]\nid = \"c\"\n"
        );
    }
}
