//! A writer of JSON objects, for statistics that must not cost a dependency.

use std::fmt::{self, Write};

/// An object in the making. The closing brace is written by [`write_object`] or
/// [`Object::object`], which began it.
pub(super) struct Object<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    is_first: bool,
}

/// Writes an object, with the members that `fill` adds.
pub(super) fn write_object(
    out: &mut fmt::Formatter<'_>,
    fill: impl FnOnce(&mut Object<'_, '_>) -> fmt::Result,
) -> fmt::Result {
    out.write_char('{')?;
    fill(&mut Object { out: &mut *out, is_first: true })?;
    out.write_char('}')
}

impl Object<'_, '_> {
    /// Adds a text.
    pub(super) fn text(&mut self, name: &str, value: &str) -> fmt::Result {
        self.name(name)?;
        write_text(self.out, value)
    }

    /// Adds a whole number.
    pub(super) fn number(&mut self, name: &str, value: impl Into<i128>) -> fmt::Result {
        self.name(name)?;
        write!(self.out, "{}", value.into())
    }

    /// Adds an object.
    pub(super) fn object(
        &mut self,
        name: &str,
        fill: impl FnOnce(&mut Object<'_, '_>) -> fmt::Result,
    ) -> fmt::Result {
        self.name(name)?;
        write_object(self.out, fill)
    }

    fn name(&mut self, name: &str) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.out.write_char(',')?;
        }
        write_text(self.out, name)?;
        self.out.write_char(':')
    }
}

/// What RFC 8259 wants escaped: quotes, backslashes and control characters.
fn write_text(out: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            control if control < ' ' => write!(out, "\\u{:04x}", u32::from(control))?,
            other => out.write_char(other)?,
        }
    }
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sample<'a>(&'a str);

    impl fmt::Display for Sample<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write_object(f, |object| {
                object.text(self.0, self.0)?;
                object.object("empty", |_| Ok(()))?;
                object.object("inner", |inner| inner.number("least", i64::MIN))?;
                object.number("most", u64::MAX)
            })
        }
    }

    #[test]
    fn every_character_survives_a_parser() {
        let every: String = (0..=0x2030).filter_map(char::from_u32).collect();
        let text = Sample(&every).to_string();
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            &every: &every,
            "empty": {},
            "inner": { "least": i64::MIN },
            "most": u64::MAX,
        });
        assert_eq!(parsed, expected);
    }
}
