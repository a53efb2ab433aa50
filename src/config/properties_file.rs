//! The syntax of `.properties` files, as `java.util.Properties` defines it.

use std::iter::Peekable;
use std::str::Chars;

use crate::error::BuildError;

/// The pairs of a properties text, in order.
///
/// `key=value`, `key:value` or `key value`, one per line; `#` or `!` in front makes a comment; a
/// backslash at a line's end joins it with the next one, whose leading blanks do not count;
/// `\t \n \r \f \uXXXX` are escapes, and a backslash in front of anything else stands for that.
///
/// # Errors
///
/// [`BuildError::InvalidProperties`] for a malformed `\u` escape.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, BuildError> {
    let mut pairs = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let start = trim_blanks(line);
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while ends_in_continuation(&logical) {
            logical.pop();
            let Some((_, next)) = lines.next() else { break };
            logical.push_str(trim_blanks(next));
        }
        let pair = split_pair(&logical);
        let invalid = |reason| BuildError::InvalidProperties { line: index + 1, reason };
        pairs.push(pair.map_err(invalid)?);
    }
    Ok(pairs)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\x0c')
}

fn trim_blanks(line: &str) -> &str {
    line.trim_start_matches(is_blank)
}

/// Whether a line ends in an odd number of backslashes: an even number are escaped ones.
fn ends_in_continuation(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

fn split_pair(line: &str) -> Result<(String, String), &'static str> {
    let mut chars = line.chars().peekable();
    let key = unescape_until(&mut chars, |c| is_blank(c) || matches!(c, '=' | ':'))?;
    while chars.next_if(|c| is_blank(*c)).is_some() {}
    if chars.next_if(|c| matches!(c, '=' | ':')).is_some() {
        while chars.next_if(|c| is_blank(*c)).is_some() {}
    }
    let value = unescape_until(&mut chars, |_| false)?;
    Ok((key, value))
}

/// Takes characters up to an unescaped one for which `ends` holds. Works in UTF-16, because `\u`
/// escapes write characters beyond 0xffff as two surrogates.
fn unescape_until(
    chars: &mut Peekable<Chars<'_>>,
    ends: impl Fn(char) -> bool,
) -> Result<String, &'static str> {
    let mut units: Vec<u16> = Vec::new();
    while let Some(c) = chars.next_if(|c| !ends(*c)) {
        let plain = match c {
            '\\' => match chars.next() {
                Some('u') => {
                    units.push(unicode_escape(chars)?);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\x0c',
                Some(other) => other,
                None => continue,
            },
            other => other,
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "a \\u escape writes half of a surrogate pair")
}

fn unicode_escape(chars: &mut Peekable<Chars<'_>>) -> Result<u16, &'static str> {
    let mut unit = 0;
    for _ in 0..4 {
        let digit = chars.next().and_then(|c| c.to_digit(16));
        let digit = digit.ok_or("\\u needs four hexadecimal digits")?;
        unit = (unit << 4) | digit as u16;
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        parse(text).expect("the text is well-formed")
    }

    fn pair(text: &str) -> (String, String) {
        let mut all = pairs(text);
        assert_eq!(all.len(), 1, "{text:?}: {all:?}");
        all.remove(0)
    }

    #[test]
    fn separators_comments_and_blanks() {
        let text = "# a comment\n! another \\\n\n  \t\na=1\r\n  b : 2\nc 3\nd\ne=\nf==x\n";
        let expected = [("a", "1"), ("b", "2"), ("c", "3"), ("d", ""), ("e", ""), ("f", "=x")];
        let found = pairs(text);
        let found: Vec<(&str, &str)> =
            found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn continuations_join_lines() {
        let servers = pair("bootstrap.servers=a:1,\\\n    b:2,\\\n\tc:3\n");
        assert_eq!(servers.1, "a:1,b:2,c:3");
        // An escaped backslash at the end continues nothing.
        let found = pairs("path=c:\\\\\nnext=1");
        assert_eq!(found, [("path".into(), "c:\\".into()), ("next".into(), "1".into())]);
        // A comment sign on a continued line is no comment; the end of the text ends it all.
        assert_eq!(pair("a=1\\\n#2").1, "1#2");
        assert_eq!(pair("a=1\\").1, "1");
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(pair("a\\=b\\:c\\ d=x"), ("a=b:c d".into(), "x".into()));
        assert_eq!(pair("a=\\t\\n\\r\\f\\q\\u0041").1, "\t\n\r\x0cqA");
        assert_eq!(pair("a=\\ud83d\\uDE00").1, "\u{1f600}");
        for malformed in ["ok=1\na=\\u12", "ok=1\na=\\u12g4", "ok=1\na=\\ud83d"] {
            let error = parse(malformed);
            assert!(
                matches!(error, Err(BuildError::InvalidProperties { line: 2, .. })),
                "{malformed}: {error:?}"
            );
        }
    }
}
