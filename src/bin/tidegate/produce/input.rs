//! Cuts an input into records at a delimiter, in bounded memory.

use std::io::{self, Read};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// What stands between two delimiters.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Bytes(&'a [u8]),
    /// It has more bytes than a record may have, and was skipped.
    TooLong,
}

/// The pieces of `input` between delimiters, one after the other.
pub(crate) struct Pieces<R> {
    input: R,
    delimiter: Vec<u8>,
    bytes_max: usize,
    buffer: Vec<u8>,
    /// Where the next piece begins in the buffer.
    start: usize,
    /// No delimiter begins between `start` and here.
    searched: usize,
    /// The beginning of the current piece was thrown away.
    is_skipping: bool,
    at_end: bool,
}

impl<R: Read> Pieces<R> {
    /// Pieces of at most `bytes_max` bytes. The last one may lack its delimiter.
    pub(crate) fn new(input: R, delimiter: &[u8], bytes_max: usize) -> Self {
        assert!(!delimiter.is_empty(), "an empty delimiter stands everywhere");
        Pieces {
            input,
            delimiter: delimiter.to_vec(),
            bytes_max,
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            is_skipping: false,
            at_end: false,
        }
    }

    /// Whether the next piece, or the end, is known without reading on.
    pub(crate) fn is_next_known(&mut self) -> bool {
        self.at_end || self.find().is_some()
    }

    /// Reads on; for a terminal or a pipe this waits for its writer.
    ///
    /// # Errors
    /// Those of the input.
    pub(crate) fn read(&mut self) -> io::Result<()> {
        self.make_room();
        let filled = self.buffer.len();
        self.buffer.resize(filled + READ_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        self.buffer.truncate(filled + *read.as_ref().unwrap_or(&0));
        self.at_end = read? == 0;
        Ok(())
    }

    /// The next piece, once it is known; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Piece<'_>> {
        let (start, end, next) = match self.find() {
            Some(at) => (self.start, at, at + self.delimiter.len()),
            None if self.start < self.buffer.len() || self.is_skipping => {
                (self.start, self.buffer.len(), self.buffer.len())
            }
            None => return None,
        };
        (self.start, self.searched) = (next, next);
        if std::mem::take(&mut self.is_skipping) || end - start > self.bytes_max {
            return Some(Piece::TooLong);
        }
        Some(Piece::Bytes(&self.buffer[start..end]))
    }

    /// Where the next delimiter begins.
    fn find(&mut self) -> Option<usize> {
        let rest = &self.buffer[self.searched..];
        let found = match self.delimiter.as_slice() {
            [byte] => rest.iter().position(|other| other == byte),
            delimiter => rest.windows(delimiter.len()).position(|window| window == delimiter),
        };
        match found {
            Some(at) => {
                self.searched += at;
                Some(self.searched)
            }
            None => {
                // A delimiter may have begun in the last bytes.
                let tail = self.delimiter.len() - 1;
                self.searched = self.buffer.len().saturating_sub(tail).max(self.searched);
                None
            }
        }
    }

    /// Throws away what was given out, and what is too long anyway.
    fn make_room(&mut self) {
        if self.buffer.len() - self.start > self.bytes_max + self.delimiter.len() {
            self.is_skipping = true;
            self.start = self.searched;
        }
        self.buffer.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Slow<'a>(&'a [u8], usize);

    impl Read for Slow<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let take = self.1.min(self.0.len()).min(into.len());
            into[..take].copy_from_slice(&self.0[..take]);
            self.0 = &self.0[take..];
            Ok(take)
        }
    }

    fn pieces(input: &[u8], step: usize, delimiter: &[u8], max: usize) -> Vec<Option<Vec<u8>>> {
        let mut reader = Pieces::new(Slow(input, step), delimiter, max);
        let mut all = Vec::new();
        loop {
            while !reader.is_next_known() {
                reader.read().expect("it gives bytes");
                assert!(reader.buffer.len() <= READ_BYTES + max + 2 * delimiter.len());
            }
            match reader.next() {
                Some(Piece::Bytes(bytes)) => all.push(Some(bytes.to_vec())),
                Some(Piece::TooLong) => all.push(None),
                None => return all,
            }
        }
    }

    fn text(pieces: &[&str]) -> Vec<Option<Vec<u8>>> {
        pieces.iter().map(|piece| Some(piece.as_bytes().to_vec())).collect()
    }

    #[test]
    fn an_input_is_cut_at_each_delimiter_however_it_arrives() {
        for step in 1..9 {
            assert_eq!(pieces(b"a\n\nbc\n", step, b"\n", 9), text(&["a", "", "bc"]));
            assert_eq!(pieces(b"a\n\nbc", step, b"\n", 9), text(&["a", "", "bc"]));
            assert_eq!(pieces(b"a::b:c::", step, b"::", 9), text(&["a", "b:c"]));
            assert_eq!(pieces(b"a:", step, b"::", 9), text(&["a:"]));
            assert_eq!(pieces(b"", step, b"\n", 9), text(&[]));
            assert_eq!(pieces(b"\n", step, b"\n", 9), text(&[""]));
        }
    }

    #[test]
    fn bytes_that_are_no_text_pass_through() {
        let all: Vec<u8> = (0..=255).filter(|byte| *byte != 0).collect();
        let input = [&all[..], &[0], &all[..]].concat();
        assert_eq!(pieces(&input, 7, &[0], 300), [Some(all.clone()), Some(all)]);
    }

    #[test]
    fn a_piece_that_is_too_long_is_skipped_in_bounded_memory_and_counted() {
        let long = [b'x'; 100_000];
        for step in [1_000, 1 << 20] {
            let input = [b"a\n", &long[..], b"\nb\n", &long[..]].concat();
            let found = pieces(&input, step, b"\n", 10);
            assert_eq!(found, [Some(b"a".to_vec()), None, Some(b"b".to_vec()), None]);
        }
        assert_eq!(pieces(b"12345\n123456\n", 1, b"\n", 5), [Some(b"12345".to_vec()), None]);
    }
}
