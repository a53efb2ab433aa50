//! Words, quotes and comments, by the rules of Java's `StreamTokenizer` as Kafka's `JaasConfig`
//! sets it up.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use crate::engine::policy::sasl::error::SaslError;
use crate::engine::policy::sasl::secret::Secret;

/// One token. A word may be a part of a password.
pub(super) enum Token {
    Word(Secret),
    Equals,
    Semicolon,
    /// A character that can begin nothing.
    Other,
    End,
}

/// Takes a text apart, and knows where it is.
pub(super) struct Tokenizer<'a> {
    chars: Peekable<Chars<'a>>,
    /// Bytes of the text: no word has more, so that none is moved while it grows.
    bytes: usize,
    at: Place,
    /// Where the last token began.
    token_at: Place,
}

#[derive(Clone, Copy)]
struct Place {
    line: usize,
    column: usize,
}

impl<'a> Tokenizer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let start = Place { line: 1, column: 1 };
        Tokenizer { chars: text.chars().peekable(), bytes: text.len(), at: start, token_at: start }
    }

    /// The next token.
    ///
    /// # Errors
    ///
    /// A quote or a comment is not closed.
    pub(super) fn next(&mut self) -> Result<Token, SaslError> {
        self.skip_blanks_and_comments()?;
        self.token_at = self.at;
        match self.peek() {
            None => Ok(Token::End),
            Some(quote @ ('"' | '\'')) => {
                self.take();
                self.quoted(quote)
            }
            Some(c) if is_word(c) => Ok(Token::Word(self.word())),
            Some(c) => {
                self.take();
                Ok(match c {
                    '=' => Token::Equals,
                    ';' => Token::Semicolon,
                    _ => Token::Other,
                })
            }
        }
    }

    /// What is wrong at the last token, with its place.
    pub(super) fn unusable(&self, what: impl fmt::Display) -> SaslError {
        let Place { line, column } = self.token_at;
        super::unusable(format_args!("at line {line}, column {column}: {what}"))
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().copied()
    }

    fn take(&mut self) -> Option<char> {
        let taken = self.chars.next()?;
        self.at = match taken {
            '\n' => Place { line: self.at.line + 1, column: 1 },
            _ => Place { column: self.at.column + 1, ..self.at },
        };
        Some(taken)
    }

    fn skip_blanks_and_comments(&mut self) -> Result<(), SaslError> {
        while let Some(c) = self.peek() {
            if c == '/' {
                self.token_at = self.at;
                self.take();
                self.comment()?;
            } else if c <= ' ' {
                self.take();
            } else {
                break;
            }
        }
        Ok(())
    }

    /// A comment behind its first slash. One slash is enough for the rest of the line.
    fn comment(&mut self) -> Result<(), SaslError> {
        if self.peek() != Some('*') {
            while self.peek().is_some_and(|c| !matches!(c, '\n' | '\r')) {
                self.take();
            }
            return Ok(());
        }
        self.take();
        while let Some(c) = self.take() {
            if c == '*' && self.peek() == Some('/') {
                self.take();
                return Ok(());
            }
        }
        Err(self.unusable("a comment that /* begins is not closed by */"))
    }

    fn word(&mut self) -> Secret {
        let mut word = String::with_capacity(self.bytes);
        while let Some(c) = self.peek().filter(|c| is_word(*c)) {
            word.push(c);
            self.take();
        }
        Secret::from(word)
    }

    /// A word behind its opening quote.
    fn quoted(&mut self, quote: char) -> Result<Token, SaslError> {
        // Twice the bytes: an octal escape beyond ASCII makes two of three, others make less.
        let mut word = zeroize::Zeroizing::new(String::with_capacity(2 * self.bytes));
        while let Some(c) = self.take() {
            match c {
                '\n' | '\r' => break,
                '\\' => match self.escape() {
                    Some(escaped) => word.push(escaped),
                    None => break,
                },
                c if c == quote => {
                    return Ok(Token::Word(Secret::from(std::mem::take(&mut *word))));
                }
                c => word.push(c),
            }
        }
        Err(self.unusable("a quote is not closed on its line; write a line's end in it as \\n"))
    }

    /// The character that an escape stands for, behind its backslash.
    fn escape(&mut self) -> Option<char> {
        Some(match self.take()? {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            first @ '0'..='7' => {
                // Up to \377; of \477 the last digit is a character of its own.
                let digits_max = if first <= '3' { 3 } else { 2 };
                let mut code = first.to_digit(8)?;
                for _ in 1..digits_max {
                    let Some(digit) = self.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    self.take();
                }
                char::from_u32(code)?
            }
            other => other,
        })
    }
}

/// What words without quotes are made of. Java's set leaves out most of the control characters
/// that are not ASCII.
fn is_word(c: char) -> bool {
    c > ' ' && !matches!(c, '=' | ';' | '"' | '\'' | '/') && !matches!(c, '\u{81}'..='\u{9f}')
}
