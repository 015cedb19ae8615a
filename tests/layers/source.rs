//! A reader of tokens, not a compiler: it knows comments, literals, `use` trees and
//! `#[cfg(test)]`, which is what it takes to see who names whom.

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    Word(String),
    /// `::`
    Join,
    Mark(char),
    Literal,
}

pub fn word(token: Option<&Token>) -> Option<&str> {
    match token {
        Some(Token::Word(text)) => Some(text),
        _ => None,
    }
}

pub fn mark(token: Option<&Token>) -> Option<char> {
    match token {
        Some(Token::Mark(mark)) => Some(*mark),
        _ => None,
    }
}

/// Comments vanish, literals lose their content, lifetimes are dropped.
pub fn tokens(source: &str) -> Vec<Token> {
    let text: Vec<char> = source.chars().collect();
    let at = |index: usize| text.get(index).copied().unwrap_or('\0');
    let starts = |index: usize, what: &str| {
        what.chars().enumerate().all(|(offset, wanted)| at(index + offset) == wanted)
    };
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    let mut list = Vec::new();
    let mut i = 0;
    while i < text.len() {
        if starts(i, "//") {
            while i < text.len() && at(i) != '\n' {
                i += 1;
            }
        } else if starts(i, "/*") {
            let mut depth = 0;
            loop {
                (i, depth) = match () {
                    () if starts(i, "/*") => (i + 2, depth + 1),
                    () if starts(i, "*/") => (i + 2, depth - 1),
                    () => (i + 1, depth),
                };
                if depth == 0 || i >= text.len() {
                    break;
                }
            }
        } else if at(i) == '"' {
            i = quoted(&text, i, '"');
            list.push(Token::Literal);
        } else if at(i) == '\'' {
            if at(i + 1) == '\\' || at(i + 2) == '\'' {
                i = quoted(&text, i, '\'');
                list.push(Token::Literal);
            } else {
                i += 1;
                while is_word(at(i)) {
                    i += 1;
                }
            }
        } else if is_word(at(i)) {
            let start = i;
            while is_word(at(i)) {
                i += 1;
            }
            let found: String = text[start..i].iter().collect();
            let hashes = (i..).take_while(|&index| at(index) == '#').count();
            if matches!(found.as_str(), "r" | "br" | "cr") && at(i + hashes) == '"' {
                let close = format!("\"{}", "#".repeat(hashes));
                i += hashes + 1;
                while i < text.len() && !starts(i, &close) {
                    i += 1;
                }
                i += close.len();
                list.push(Token::Literal);
            } else {
                list.push(Token::Word(found));
            }
        } else if starts(i, "::") {
            list.push(Token::Join);
            i += 2;
        } else {
            if !at(i).is_whitespace() {
                list.push(Token::Mark(at(i)));
            }
            i += 1;
        }
    }
    list
}

/// The place behind a literal that begins at `start`.
fn quoted(text: &[char], start: usize, end: char) -> usize {
    let mut i = start + 1;
    while i < text.len() && text[i] != end {
        i += if text[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The code without its `#[cfg(test)]` items, and the names of test modules in files of their own.
pub fn without_tests(list: &[Token]) -> (Vec<Token>, Vec<String>) {
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut i = 0;
    while i < list.len() {
        if let Some(end) = test_attribute(list, i) {
            i = end;
            while mark(list.get(i)) == Some('#') {
                i = balanced(list, i + 1);
            }
            if word(list.get(i)) == Some("mod") && mark(list.get(i + 2)) == Some(';') {
                modules.extend(word(list.get(i + 1)).map(str::to_owned));
            }
            i = item(list, i);
        } else {
            kept.push(list[i].clone());
            i += 1;
        }
    }
    (kept, modules)
}

/// The place behind `#[cfg(test)]` or `#[cfg(all(test, …))]`, when one begins here.
fn test_attribute(list: &[Token], start: usize) -> Option<usize> {
    let head = mark(list.get(start)) == Some('#') && mark(list.get(start + 1)) == Some('[');
    if !head || word(list.get(start + 2)) != Some("cfg") {
        return None;
    }
    let end = balanced(list, start + 1);
    let has = |wanted: &str| list[start..end].iter().any(|token| word(Some(token)) == Some(wanted));
    (has("test") && !has("not") && !has("any")).then_some(end)
}

/// The place behind the bracket that opens at `start`.
fn balanced(list: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (i, token) in list.iter().enumerate().skip(start) {
        match mark(Some(token)) {
            Some('(' | '[' | '{') => depth += 1,
            Some(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    list.len()
}

/// The place behind the item that begins at `start`: its body or its semicolon.
fn item(list: &[Token], start: usize) -> usize {
    let mut i = start;
    while i < list.len() {
        match mark(list.get(i)) {
            Some('{') => return balanced(list, i),
            Some('(' | '[') => i = balanced(list, i),
            Some(';') => return i + 1,
            _ => i += 1,
        }
    }
    i
}

/// Every path that the code names, `use` trees spread out, `super` and `self` resolved. Paths into
/// this crate begin with `crate`.
pub fn paths(list: &[Token], file: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut braces: Vec<Option<String>> = Vec::new();
    let mut i = 0;
    while i < list.len() {
        let continued = i >= 2
            && list[i - 1] == Token::Join
            && (word(list.get(i - 2)).is_some() || mark(list.get(i - 2)) == Some('>'));
        if word(list.get(i)).is_some() && list.get(i + 1) == Some(&Token::Join) && !continued {
            let mut tree = Vec::new();
            i = spread(list, i, Vec::new(), &mut tree);
            let module: Vec<String> =
                file.iter().cloned().chain(braces.iter().flatten().cloned()).collect();
            found.extend(tree.into_iter().map(|path| resolve(path, &module)));
            continue;
        }
        match mark(list.get(i)) {
            Some('{') => {
                let named = i >= 2 && word(list.get(i - 2)) == Some("mod");
                braces.push(word(list.get(i.wrapping_sub(1))).filter(|_| named).map(str::to_owned));
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

/// Spreads the path or `use` tree at `i` into `tree`; the place behind it.
fn spread(list: &[Token], i: usize, head: Vec<String>, tree: &mut Vec<Vec<String>>) -> usize {
    let (mut i, mut path) = (i, head);
    loop {
        match list.get(i) {
            Some(Token::Word(part)) => {
                path.push(part.clone());
                i += 1;
                if list.get(i) != Some(&Token::Join) {
                    tree.push(path);
                    return i;
                }
                i += 1;
            }
            Some(Token::Mark('{')) => {
                let end = balanced(list, i);
                i += 1;
                while i + 1 < end {
                    i = match list.get(i) {
                        Some(Token::Mark(',')) => i + 1,
                        Some(Token::Word(rename)) if rename == "as" => i + 2,
                        _ => spread(list, i, path.clone(), tree),
                    };
                }
                return end;
            }
            other => {
                let glob = other == Some(&Token::Mark('*'));
                path.extend(glob.then(|| "*".to_owned()));
                tree.push(path);
                // A turbofish holds paths of its own: leave it to the caller.
                return if other == Some(&Token::Mark('<')) { i } else { i + 1 };
            }
        }
    }
}

fn resolve(path: Vec<String>, module: &[String]) -> Vec<String> {
    let ups = path.iter().take_while(|part| *part == "super" || *part == "self").count();
    let levels = path.iter().take(ups).filter(|part| *part == "super").count();
    let root = ["crate".to_owned()];
    match path.first().map(String::as_str) {
        Some("self" | "super") => {
            let stays = module.len().saturating_sub(levels);
            [&root[..], &module[..stays], &path[ups..]].concat()
        }
        Some("bms_reader") => [&root[..], &path[1..]].concat(),
        _ => path,
    }
}
