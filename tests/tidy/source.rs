//! Reads Rust sources as far as the rules need it: comments, strings and tests blanked out, the
//! rest as tokens with their lines.

/// One source file.
pub(crate) struct Source {
    /// From the repository's root, with `/`.
    pub(crate) path: String,
    pub(crate) raw: String,
    pub(crate) tokens: Vec<Token>,
    /// Lines without those of `#[cfg(test)]` items.
    pub(crate) lines: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// An identifier or number, or a single other character.
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
}

/// A path that leaves its file: `crate::name` or its like in `super::`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Import {
    /// The first name below the crate's root.
    pub(crate) name: String,
    pub(crate) line: usize,
}

impl Source {
    pub(crate) fn new(path: &str, raw: &str) -> Self {
        let mut tokens = tokenize(raw);
        let test_lines = remove_tests(&mut tokens);
        let lines = raw.lines().count().saturating_sub(test_lines);
        Source { path: path.to_owned(), raw: raw.to_owned(), tokens, lines }
    }

    /// Whether all of it is tests, by its name.
    pub(crate) fn is_tests(&self) -> bool {
        self.path.ends_with("tests.rs") || self.path.contains("/tests/")
    }

    /// Where the file stands in the tree of modules: `src/a/b.rs` is `[a, b]`, `src/lib.rs` `[]`.
    pub(crate) fn module_path(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        // The folder has no code of its own: its modules stand in the tables by their own names.
        let inner = inner.strip_prefix("engine/").unwrap_or(inner);
        let stem = inner.strip_suffix(".rs").unwrap_or(inner);
        let mut parts: Vec<&str> = stem.split('/').collect();
        if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
            parts.pop();
        }
        parts
    }

    /// The lines at which the tokens of `pattern` (separated by spaces) stand.
    pub(crate) fn find(&self, pattern: &str) -> Vec<usize> {
        let wanted: Vec<&str> = pattern.split(' ').collect();
        let windows = self.tokens.windows(wanted.len());
        windows
            .filter(|window| window.iter().zip(&wanted).all(|(token, text)| token.text == *text))
            .map(|window| window[0].line)
            .collect()
    }

    /// Every function with a body: its name, first line and number of lines.
    pub(crate) fn functions(&self) -> Vec<(String, usize, usize)> {
        let mut functions = Vec::new();
        for (index, pair) in self.tokens.windows(2).enumerate() {
            if pair[0].text != "fn" || !is_name(&pair[1].text) {
                continue;
            }
            let end = item_end(&self.tokens, index);
            if self.text(end) == "}" {
                let lines = self.tokens[end].line - pair[0].line + 1;
                functions.push((pair[1].text.clone(), pair[0].line, lines));
            }
        }
        functions
    }

    /// Everything it imports, or names, from the crate's root.
    pub(crate) fn imports(&self) -> Vec<Import> {
        let file_depth = self.module_path().len();
        let mut imports = Vec::new();
        let mut braces = 0_usize;
        // How deep in braces each inline module around the current token began.
        let mut inline: Vec<usize> = Vec::new();
        for index in 0..self.tokens.len() {
            match self.text(index) {
                "{" => braces += 1,
                "}" => {
                    braces = braces.saturating_sub(1);
                    if inline.last() == Some(&braces) {
                        inline.pop();
                    }
                }
                "mod" if is_name(self.text(index + 1)) && self.text(index + 2) == "{" => {
                    inline.push(braces);
                }
                "crate" if self.is_path_at(index + 1) => {
                    let in_engine = self.text(index + 3) == "engine" && self.is_path_at(index + 4);
                    self.collect(index + if in_engine { 6 } else { 3 }, &mut imports);
                }
                "super" if !self.follows_path(index) => {
                    let mut after = index;
                    let mut depth = file_depth + inline.len();
                    while self.text(after) == "super" && self.is_path_at(after + 1) {
                        depth = depth.saturating_sub(1);
                        after += 3;
                    }
                    if depth == 0 && after > index {
                        self.collect(after, &mut imports);
                    }
                }
                _ => {}
            }
        }
        imports
    }

    fn text(&self, index: usize) -> &str {
        self.tokens.get(index).map_or("", |token| &token.text)
    }

    fn is_path_at(&self, index: usize) -> bool {
        self.text(index) == ":" && self.text(index + 1) == ":"
    }

    fn follows_path(&self, index: usize) -> bool {
        index >= 2 && self.is_path_at(index - 2)
    }

    /// Adds the name at `start`, or each first name of the group in braces there.
    fn collect(&self, start: usize, imports: &mut Vec<Import>) {
        let mut add = |index: usize| {
            if let Some(token) = self.tokens.get(index) {
                imports.push(Import { name: token.text.clone(), line: token.line });
            }
        };
        if self.text(start) != "{" {
            return add(start);
        }
        let mut depth = 0;
        for index in start..self.tokens.len() {
            match self.text(index) {
                "{" => depth += 1,
                "}" if depth == 1 => return,
                "}" => depth -= 1,
                _ if depth == 1 && matches!(self.text(index - 1), "{" | ",") => add(index),
                _ => {}
            }
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The index of the token that ends the item which begins at `start`: its `;` or closing brace.
fn item_end(tokens: &[Token], start: usize) -> usize {
    let (mut round, mut braces) = (0_i32, 0_i32);
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "(" | "[" => round += 1,
            ")" | "]" => round -= 1,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces <= 0 && round <= 0 {
                    return index;
                }
            }
            ";" if round == 0 && braces == 0 => return index,
            _ => {}
        }
    }
    tokens.len().saturating_sub(1)
}

/// Removes `#[cfg(test)]` items; returns how many lines they had.
fn remove_tests(tokens: &mut Vec<Token>) -> usize {
    let mut lines = 0;
    let mut index = 0;
    while index < tokens.len() {
        let Some(attribute_end) = test_attribute_end(tokens, index) else {
            index += 1;
            continue;
        };
        let mut item = attribute_end + 1;
        while tokens.get(item).is_some_and(|token| token.text == "#") {
            item = attribute_close(tokens, item) + 1;
        }
        let end = item_end(tokens, item);
        lines += tokens[end].line - tokens[index].line + 1;
        tokens.drain(index..=end);
    }
    lines
}

fn attribute_close(tokens: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "[" => depth += 1,
            "]" if depth == 1 => return index,
            "]" => depth -= 1,
            _ => {}
        }
    }
    tokens.len() - 1
}

/// The end of an attribute at `start` under which code is compiled for tests only.
fn test_attribute_end(tokens: &[Token], start: usize) -> Option<usize> {
    let text = |index: usize| tokens.get(index).map_or("", |token| token.text.as_str());
    if (text(start), text(start + 1), text(start + 2)) != ("#", "[", "cfg") {
        return None;
    }
    let end = attribute_close(tokens, start);
    let words: Vec<&str> = (start..end).map(text).collect();
    let only_tests = words.contains(&"test") && !words.contains(&"any");
    let negated = words.windows(3).any(|three| three == ["not", "(", "test"]);
    (only_tests && !negated).then_some(end)
}

fn tokenize(raw: &str) -> Vec<Token> {
    let chars = blank(raw);
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut in_word = false;
    for c in chars {
        let is_word = c.is_alphanumeric() || c == '_';
        match tokens.last_mut() {
            Some(token) if is_word && in_word => token.text.push(c),
            _ if c.is_whitespace() => line += usize::from(c == '\n'),
            _ => tokens.push(Token { text: c.to_string(), line }),
        }
        in_word = is_word;
    }
    tokens
}

/// Replaces comments by blanks, and strings and characters by empty ones; lines stay.
fn blank(raw: &str) -> Vec<char> {
    let chars: Vec<char> = raw.chars().collect();
    let mut out = Vec::with_capacity(chars.len());
    let mut index = 0;
    while index < chars.len() {
        let end = literal_end(&chars, index);
        if end == index {
            out.push(chars[index]);
            index += 1;
            continue;
        }
        out.push(' ');
        out.extend(chars[index..end].iter().filter(|c| **c == '\n'));
        index = end;
    }
    out
}

/// Where the comment, string or character that begins at `start` ends; `start` if none does.
fn literal_end(chars: &[char], start: usize) -> usize {
    let at = |index: usize| chars.get(index).copied().unwrap_or('\0');
    let after_word = start > 0 && (chars[start - 1].is_alphanumeric() || chars[start - 1] == '_');
    match (at(start), at(start + 1)) {
        ('/', '/') => find_from(chars, start, |index| at(index) == '\n'),
        ('/', '*') => block_comment_end(chars, start),
        ('"', _) => quoted_end(chars, start, '"'),
        ('r', '"' | '#') if !after_word => raw_string_end(chars, start, start + 1),
        ('b', 'r') if !after_word => raw_string_end(chars, start, start + 2),
        ('\'', '\\') => quoted_end(chars, start, '\''),
        // Else it is a lifetime.
        ('\'', _) if at(start + 2) == '\'' => start + 3,
        _ => start,
    }
}

fn find_from(chars: &[char], start: usize, ends: impl Fn(usize) -> bool) -> usize {
    (start..chars.len()).find(|index| ends(*index)).unwrap_or(chars.len())
}

fn quoted_end(chars: &[char], start: usize, quote: char) -> usize {
    let mut index = start + 1;
    while index < chars.len() && chars[index] != quote {
        index += if chars[index] == '\\' { 2 } else { 1 };
    }
    (index + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], start: usize, after_prefix: usize) -> usize {
    let hashes = chars[after_prefix..].iter().take_while(|c| **c == '#').count();
    let open = after_prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return start;
    }
    let closes = |index: usize| {
        chars[index] == '"'
            && index + hashes < chars.len()
            && chars[index + 1..=index + hashes].iter().all(|c| *c == '#')
    };
    (find_from(chars, open + 1, closes) + 1 + hashes).min(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut index = start;
    while index + 1 < chars.len() {
        match (chars[index], chars[index + 1]) {
            ('/', '*') => (depth, index) = (depth + 1, index + 2),
            ('*', '/') => (depth, index) = (depth - 1, index + 2),
            _ => index += 1,
        }
        if depth == 0 {
            return index;
        }
    }
    chars.len()
}
