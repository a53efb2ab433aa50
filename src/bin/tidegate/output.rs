//! The standard output, whose reader may leave at any time.

use std::fmt;
use std::io::{self, BufWriter, StdoutLock, Write};

use crate::failure::Failure;

/// Lines to the standard output, buffered.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    pub(crate) fn new() -> Output {
        Output(BufWriter::new(io::stdout().lock()))
    }

    /// Writes a line. It may stay in the buffer until [`Output::flush`].
    ///
    /// # Errors
    /// [`Failure::OutputClosed`] if nobody reads any more.
    pub(crate) fn line(&mut self, line: impl fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.0, "{line}")?)
    }

    /// Writes bytes. They may stay in the buffer until [`Output::flush`].
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        Ok(self.0.write_all(bytes)?)
    }

    /// Hands what is in the buffer to the reader.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.0.flush()?)
    }

    /// Writes all of it, and flushes.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(bytes)?;
        self.flush()
    }
}
