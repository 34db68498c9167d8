//! As much of Rust as the rules need: tokens, brackets, items, paths.

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A path that code names.
pub(crate) struct Use {
    pub(crate) line: usize,
    pub(crate) path: Vec<String>,
    pub(crate) alias: Option<String>,
}

/// Words, `::`, arrows and single characters; comments and literals are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let opaque = opaque(rest);
        let word = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let pair = ["::", "->", "=>"].iter().any(|pair| rest.starts_with(pair));
        let length = [opaque, word, if pair { 2 } else { 0 }].into_iter().find(|length| *length > 0);
        let length = length.unwrap_or(first.len_utf8());
        if opaque == 0 && !first.is_whitespace() {
            found.push(Token { text: rest[..length].to_owned(), line });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

/// How long the comment or literal is that the text begins with; 0 when it begins with neither.
fn opaque(text: &str) -> usize {
    let through =
        |from: usize, end: &str| text[from..].find(end).map_or(text.len(), |at| from + at + end.len());
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return through(2, "*/");
    }
    if let Some(inner) = text.strip_prefix('\'') {
        // Anything else is a lifetime.
        return match inner.chars().next() {
            Some('\\') => through(3, "'"),
            Some(c) if inner[c.len_utf8()..].starts_with('\'') => c.len_utf8() + 2,
            _ => 0,
        };
    }
    let after =
        ["br", "cr", "r", "b", "c"].iter().find_map(|prefix| text.strip_prefix(prefix)).unwrap_or(text);
    let raw = text[..text.len() - after.len()].ends_with('r');
    let inner = after.trim_start_matches('#');
    let hashes = after.len() - inner.len();
    let start = text.len() - inner.len() + 1;
    match inner.starts_with('"') {
        true if raw => through(start, &format!("\"{}", "#".repeat(hashes))),
        true if hashes == 0 => {
            let mut escaped = false;
            let end = text[start..].find(|c| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            end.map_or(text.len(), |end| start + end + 1)
        }
        _ => 0,
    }
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

pub(crate) fn find(tokens: &[Token], words: &[String]) -> Vec<usize> {
    let fits = |window: &[Token]| window.iter().zip(words).all(|(token, word)| token.text == *word);
    tokens.windows(words.len()).enumerate().filter(|(_, window)| fits(window)).map(|(at, _)| at).collect()
}

/// Where the bracket that opens here is closed.
pub(crate) fn closing(tokens: &[Token], open: usize) -> usize {
    let ends = ["()", "[]", "{}", "<>"].iter().find(|pair| pair.starts_with(&tokens[open].text));
    let end = &ends.expect("a bracket opens here")[1..];
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        depth += i32::from(token.text == tokens[open].text) - i32::from(token.text == end);
        if depth == 0 {
            return at;
        }
    }
    tokens.len() - 1
}

/// The `;` or `}` that ends the item at `start`, or whose signature goes on there.
pub(crate) fn item_end(tokens: &[Token], start: usize) -> usize {
    let mut at = start;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            ";" => return at,
            "{" => return closing(tokens, at),
            "(" | "[" => at = closing(tokens, at) + 1,
            _ => at += 1,
        }
    }
    tokens.len() - 1
}

/// How many pieces the commas make.
pub(crate) fn pieces(tokens: &[Token]) -> usize {
    let (mut at, mut count, mut open) = (0, 0, false);
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "(" | "[" | "{" | "<" => at = closing(tokens, at),
            "," => open = false,
            _ if !open => (count, open) = (count + 1, true),
            _ => {}
        }
        at += 1;
    }
    count
}

/// Takes the tree of paths at `at` apart.
pub(crate) fn tree(tokens: &[Token], at: &mut usize, prefix: &[String], found: &mut Vec<Use>) {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let (mut path, line) = (prefix.to_vec(), tokens[*at].line);
    while is_word(text(*at)) || matches!(text(*at), "*" | "{") {
        if text(*at) == "{" {
            while matches!(text(*at), "{" | ",") && text(*at + 1) != "}" {
                *at += 1;
                tree(tokens, at, &path, found);
            }
            *at += 1 + usize::from(text(*at) == ",");
            return;
        }
        if text(*at) != "self" || path.is_empty() {
            path.push(text(*at).to_owned());
        }
        *at += 1;
        if text(*at) != "::" {
            break;
        }
        *at += 1;
    }
    let alias = (text(*at) == "as").then(|| text(*at + 1).to_owned());
    found.push(Use { line, path, alias });
}
