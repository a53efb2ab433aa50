//! The `status` of a broker's error answer (RFC 7628 section 3.2.2), read from its JSON.

/// The value of the outermost object's member `status`, if it is a string.
///
/// A scanner, no validator: it tells strings and nesting apart, so that neither a `status` inside
/// of another value nor one inside of a string is taken for the answer's. `None` for what it cannot
/// read.
pub(super) fn status_of(json: &str) -> Option<String> {
    let mut rest = json.trim_start().strip_prefix('{')?;
    let mut depth = 0_usize;
    // The last string at the outermost level, which is a member's name if a colon follows.
    let mut name = None;
    while let Some(next) = rest.chars().next() {
        let after = &rest[next.len_utf8()..];
        rest = match next {
            '"' => {
                let (text, after) = string(after)?;
                name = (depth == 0).then_some(text);
                after
            }
            ':' if depth == 0 && name.take().as_deref() == Some("status") => {
                let (text, _) = string(after.trim_start().strip_prefix('"')?)?;
                return Some(text);
            }
            '{' | '[' => {
                depth += 1;
                after
            }
            '}' | ']' => {
                depth = depth.checked_sub(1)?;
                after
            }
            _ => after,
        };
    }
    None
}

/// A string after its opening quote, and what follows its closing one.
fn string(json: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut chars = json.chars();
    loop {
        match chars.next()? {
            '"' => return Some((text, chars.as_str())),
            '\\' => match chars.next()? {
                'u' => {
                    let digits = chars.as_str().get(..4)?;
                    let code = u32::from_str_radix(digits, 16).ok()?;
                    // Halves of pairs are not put together: a status has no such characters.
                    text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                    chars = chars.as_str()[4..].chars();
                }
                'b' | 'f' | 'n' | 'r' | 't' => text.push(' '),
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_status_is_found_wherever_it_stands() {
        let invalid = Some("invalid_token".to_owned());
        let found = [
            r#"{"status":"invalid_token"}"#,
            r#" { "status" : "invalid_token" , "scope":"a b" }"#,
            r#"{"scope":"status","status":"invalid_token"}"#,
            r#"{"openid-configuration":"\"status\":\"x\"","status":"invalid_token"}"#,
            r#"{"more":{"status":"inner","of":["status"]},"status":"invalid\u005ftoken"}"#,
        ];
        for json in found {
            assert_eq!(status_of(json), invalid, "{json}");
        }
        assert_eq!(status_of(r#"{"status":"a\nb\"\\"}"#), Some("a b\"\\".to_owned()));
        assert_eq!(status_of(r#"{"status":"\ud83d"}"#), Some("\u{fffd}".to_owned()));
    }

    #[test]
    fn what_is_no_status_is_none() {
        let none = [
            "",
            "no",
            "{",
            "{}",
            "}",
            r#""status":"x""#,
            r#"{"status":1}"#,
            r#"{"status":null,"x":"y"}"#,
            r#"{"status":"unclosed"#,
            r#"{"status":"\u12"}"#,
            r#"{"status":"\uüüü"}"#,
            r#"{"a":{"status":"x"}}"#,
            r#"{"status","x"}"#,
            r#"}{"status":"x"}"#,
        ];
        for json in none {
            assert_eq!(status_of(json), None, "{json}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(
            any in ".{0,100}",
            json in r#"\{("status"|:|,|\{|\}|\[|\]|"|\\u00|\\|ü|a){0,20}"#,
        ) {
            let _ = (status_of(&any), status_of(&json));
        }
    }
}
