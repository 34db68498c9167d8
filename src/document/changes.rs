//! What differs between two documents, whatever their lines, comments and order.

use super::{Document, Node, Table, Value};

/// Two nodes are equal when their values are, wherever they are written.
impl PartialEq for Node<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<'t> Document<'t> {
    /// The paths of all keys whose value differs, but for these keys of the root.
    pub fn differences(&self, other: &Document<'_>, except: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        differences(&self.root, &other.root, "", &mut found);
        found.retain(|path| !except.contains(&path.split('.').next().unwrap_or_default()));
        found
    }

    /// Takes these keys of the root from another document.
    pub fn adopt(&mut self, other: &Self, keys: &[&str]) {
        for key in keys {
            match other.root.get(*key) {
                Some(node) => drop(self.root.insert((*key).to_owned().into(), node.clone())),
                None => drop(self.root.remove(*key)),
            }
        }
    }

    /// The texts under these keys in the tables of `[[list]]`, whether or not anything else there is right.
    pub fn texts(&self, list: &str, keys: &[&str]) -> Vec<&str> {
        let Some(Node { value: Value::List(items), .. }) = self.root.get(list) else { return Vec::new() };
        let mut texts = Vec::new();
        for item in items {
            let Value::Table(table) = &item.value else { continue };
            for node in keys.iter().filter_map(|key| table.get(*key)) {
                if let Value::Text(text) = &node.value {
                    texts.push(&**text);
                }
            }
        }
        texts
    }
}

fn differences(one: &Table<'_>, other: &Table<'_>, path: &str, found: &mut Vec<String>) {
    let none = Table::new();
    let added = other.keys().filter(|key| !one.contains_key(*key));
    for key in one.keys().chain(added) {
        let path = if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match (one.get(key).map(|node| &node.value), other.get(key).map(|node| &node.value)) {
            (Some(Value::Table(one)), Some(Value::Table(other))) => differences(one, other, &path, found),
            (Some(Value::Table(one)), None) => differences(one, &none, &path, found),
            (None, Some(Value::Table(other))) => differences(&none, other, &path, found),
            (one, other) if one != other => found.push(path),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Document, Problems};

    fn parse(text: &str) -> Document<'_> {
        Document::parse("f.toml", text, &Problems::default())
    }

    #[test]
    fn differences_are_named_and_can_be_taken_over() {
        let one = parse("a = 1\n[listen]\nx = 1\ny = [1]\n[[issuer]]\nurl = \"u\"\n[old]\nz = 1\n");
        let other = parse(
            "# changed\n[new]\nk = 1\n[listen]\ny = [1, 2]\nx = 1\n[[issuer]]\nurl = \"v\"\nca_file = \"c\"\n",
        );
        let same = parse("[old]\nz=1\n[listen]\ny = [ 1 ]\nx = 1\n[[issuer]]\nurl = \"u\"\n");
        assert_eq!(one.differences(&same, &[]), ["a"]);
        assert_eq!(one.differences(&other, &[]), ["a", "issuer", "listen.y", "old.z", "new.k"]);
        assert_eq!(one.differences(&other, &["issuer", "a"]), ["listen.y", "old.z", "new.k"]);
        assert_eq!(other.texts("issuer", &["ca_file", "url"]), ["c", "v"]);
        let mut mixed = one.clone();
        mixed.adopt(&other, &["issuer", "old"]);
        assert_eq!(mixed.differences(&other, &[]), ["a", "listen.y", "new.k"]);
        assert_eq!(one.differences(&mixed, &[]), ["issuer", "old.z"]);
    }
}
