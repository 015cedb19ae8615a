//! A tokenizer, not a compiler: it knows comments, literals, `use` trees and `#[cfg(test)]`, which
//! is enough to see which module names which.

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Ident(String),
    PathSeparator,
    Punct(char),
    /// As it is written in the source, with its quotes.
    Literal(String),
}

/// A path in the code of a module. Paths into this crate begin with `crate`.
#[derive(Debug)]
pub struct NamedPath {
    pub parts: Vec<String>,
    /// It stands in a `use` declaration, so its last part is a name in the module.
    pub imported: bool,
}

pub fn ident(token: Option<&Token>) -> Option<&str> {
    match token {
        Some(Token::Ident(text)) => Some(text),
        _ => None,
    }
}

pub fn punct(token: Option<&Token>) -> Option<char> {
    match token {
        Some(Token::Punct(punct)) => Some(*punct),
        _ => None,
    }
}

/// Drops comments and lifetimes.
pub fn tokenize(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let starts_with = |index: usize, prefix: &str| {
        prefix.chars().enumerate().all(|(offset, wanted)| at(index + offset) == wanted)
    };
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < text.len() {
        if starts_with(i, "//") {
            while i < text.len() && at(i) != '\n' {
                i += 1;
            }
        } else if starts_with(i, "/*") {
            let mut depth = 0;
            loop {
                (i, depth) = match () {
                    () if starts_with(i, "/*") => (i + 2, depth + 1),
                    () if starts_with(i, "*/") => (i + 2, depth - 1),
                    () => (i + 1, depth),
                };
                if depth == 0 || i >= text.len() {
                    break;
                }
            }
        } else if at(i) == '"' {
            let start = i;
            i = end_of_literal(&text, i, '"');
            tokens.push(Token::Literal(text[start..i.min(text.len())].iter().collect()));
        } else if at(i) == '\'' {
            if at(i + 1) == '\\' || at(i + 2) == '\'' {
                i = end_of_literal(&text, i, '\'');
                tokens.push(Token::Literal(String::new()));
            } else {
                i = end_of_ident(&text, i + 1);
            }
        } else if is_ident_char(at(i)) {
            let start = i;
            i = end_of_ident(&text, i);
            let found: String = text[start..i].iter().collect();
            let hashes = (i..).take_while(|&index| at(index) == '#').count();
            if matches!(found.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                let close = format!("\"{}", "#".repeat(hashes));
                i += hashes + 1;
                while i < text.len() && !starts_with(i, &close) {
                    i += 1;
                }
                i += close.len();
                tokens.push(Token::Literal(text[start..i.min(text.len())].iter().collect()));
            } else {
                tokens.push(Token::Ident(found));
            }
        } else if starts_with(i, "::") {
            tokens.push(Token::PathSeparator);
            i += 2;
        } else {
            if !at(i).is_whitespace() {
                tokens.push(Token::Punct(at(i)));
            }
            i += 1;
        }
    }
    tokens
}

fn is_ident_char(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Index behind the identifier that begins at `start`.
fn end_of_ident(text: &[char], start: usize) -> usize {
    start + text[start..].iter().take_while(|&&c| is_ident_char(c)).count()
}

/// Index behind the literal that begins at `start`.
fn end_of_literal(text: &[char], start: usize, quote: char) -> usize {
    let mut i = start + 1;
    while i < text.len() && text[i] != quote {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The code without its `#[cfg(test)]` items, and the names of the test modules that have a file.
pub fn strip_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        if let Some(end) = end_of_test_attribute(tokens, i) {
            i = end;
            while punct(tokens.get(i)) == Some('#') {
                i = end_of_brackets(tokens, i + 1);
            }
            if ident(tokens.get(i)) == Some("mod") && punct(tokens.get(i + 2)) == Some(';') {
                modules.extend(ident(tokens.get(i + 1)).map(str::to_owned));
            }
            i = end_of_item(tokens, i);
        } else {
            kept.push(tokens[i].clone());
            i += 1;
        }
    }
    (kept, modules)
}

/// Index behind the `#[cfg(test)]` or `#[cfg(all(test, …))]` that begins at `start`.
fn end_of_test_attribute(tokens: &[Token], start: usize) -> Option<usize> {
    let is_attribute =
        punct(tokens.get(start)) == Some('#') && punct(tokens.get(start + 1)) == Some('[');
    if !is_attribute || ident(tokens.get(start + 2)) != Some("cfg") {
        return None;
    }
    let end = end_of_brackets(tokens, start + 1);
    let names =
        |wanted: &str| tokens[start..end].iter().any(|token| ident(Some(token)) == Some(wanted));
    (names("test") && !names("not") && !names("any")).then_some(end)
}

/// Index behind the bracket that closes the one at `start`.
fn end_of_brackets(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(start) {
        match punct(Some(token)) {
            Some('(' | '[' | '{') => depth += 1,
            Some(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// Index behind the body or the semicolon of the item that begins at `start`.
fn end_of_item(tokens: &[Token], start: usize) -> usize {
    let mut i = start;
    while i < tokens.len() {
        match punct(tokens.get(i)) {
            Some('{') => return end_of_brackets(tokens, i),
            Some('(' | '[') => i = end_of_brackets(tokens, i),
            Some(';') => return i + 1,
            _ => i += 1,
        }
    }
    i
}

/// Every path in the code of `file_module`, with `use` trees expanded and `super` and `self` resolved.
pub fn paths(tokens: &[Token], file_module: &[String]) -> Vec<NamedPath> {
    let mut found = Vec::new();
    let mut braces: Vec<Option<String>> = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let continues = i >= 2
            && tokens[i - 1] == Token::PathSeparator
            && (ident(tokens.get(i - 2)).is_some() || punct(tokens.get(i - 2)) == Some('>'));
        let is_path = tokens.get(i + 1) == Some(&Token::PathSeparator);
        if ident(tokens.get(i)).is_some() && is_path && !continues {
            let imported = i >= 1 && ident(tokens.get(i - 1)) == Some("use");
            let mut tree = Vec::new();
            i = expand_tree(tokens, i, Vec::new(), &mut tree);
            let inline = braces.iter().flatten().cloned();
            let module: Vec<String> = file_module.iter().cloned().chain(inline).collect();
            let resolved = tree.into_iter().map(|path| resolve(path, &module));
            found.extend(resolved.map(|parts| NamedPath { parts, imported }));
            continue;
        }
        match punct(tokens.get(i)) {
            Some('{') => {
                let is_module = i >= 2 && ident(tokens.get(i - 2)) == Some("mod");
                let name = ident(tokens.get(i.wrapping_sub(1))).filter(|_| is_module);
                braces.push(name.map(str::to_owned));
            }
            Some('}') => {
                braces.pop();
            }
            _ => {}
        }
        i += 1;
    }
    found
}

/// Appends the paths of the `use` tree or path at `i` to `paths` and returns the index behind it.
fn expand_tree(
    tokens: &[Token],
    mut i: usize,
    mut path: Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    loop {
        match tokens.get(i) {
            Some(Token::Ident(part)) => {
                path.push(part.clone());
                i += 1;
                if tokens.get(i) != Some(&Token::PathSeparator) {
                    paths.push(path);
                    return i;
                }
                i += 1;
            }
            Some(Token::Punct('{')) => {
                let end = end_of_brackets(tokens, i);
                i += 1;
                while i + 1 < end {
                    i = match tokens.get(i) {
                        Some(Token::Punct(',')) => i + 1,
                        Some(Token::Ident(keyword)) if keyword == "as" => i + 2,
                        _ => expand_tree(tokens, i, path.clone(), paths),
                    };
                }
                return end;
            }
            other => {
                let glob = other == Some(&Token::Punct('*'));
                path.extend(glob.then(|| "*".to_owned()));
                paths.push(path);
                // The caller reads the paths inside a turbofish.
                return if other == Some(&Token::Punct('<')) { i } else { i + 1 };
            }
        }
    }
}

fn resolve(mut path: Vec<String>, module: &[String]) -> Vec<String> {
    if path.len() > 1 {
        // `use model::{self}` names the module.
        path.pop_if(|last| last == "self");
    }
    let ups = path.iter().take_while(|part| *part == "super" || *part == "self").count();
    let levels = path.iter().take(ups).filter(|part| *part == "super").count();
    let root = ["crate".to_owned()];
    match path.first().map(String::as_str) {
        Some("self" | "super") => {
            let remaining = module.len().saturating_sub(levels);
            [&root[..], &module[..remaining], &path[ups..]].concat()
        }
        Some("bms_reader") => [&root[..], &path[1..]].concat(),
        _ => path,
    }
}
