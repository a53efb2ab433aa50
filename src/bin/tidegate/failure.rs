//! How a command ends that does not end well.

use std::fmt;
use std::io;
use std::process::ExitCode;

use tidegate::BuildError;

use crate::terminal::say;

/// Something failed: records, a connection, a check.
const FAILED: u8 = 1;
/// The arguments or the settings cannot be used. clap ends with the same for those it refuses.
const WRONG_USAGE: u8 = 2;

/// Why a command ends early, or did not do all that it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The arguments or the settings cannot be used.
    Usage(String),
    /// Something failed, in words.
    Failed(String),
    /// What failed has been told already.
    Told,
    /// Nobody reads the standard output any more, as with `| head`: no failure of this command.
    OutputClosed,
}

impl Failure {
    pub(crate) fn usage(words: impl fmt::Display) -> Failure {
        Failure::Usage(words.to_string())
    }

    pub(crate) fn failed(words: impl fmt::Display) -> Failure {
        Failure::Failed(words.to_string())
    }

    /// Tells the user, and gives the exit status.
    pub(crate) fn report(self) -> ExitCode {
        match self {
            Failure::Usage(words) => {
                say(format_args!("tidegate: {words}"));
                ExitCode::from(WRONG_USAGE)
            }
            Failure::Failed(words) => {
                say(format_args!("tidegate: {words}"));
                ExitCode::from(FAILED)
            }
            Failure::Told => ExitCode::from(FAILED),
            Failure::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

/// Errors of settings are wrong usage; those of the system are not.
impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        match error {
            BuildError::System { .. } => Failure::failed(error),
            error => Failure::usage(error),
        }
    }
}

/// Errors of writing to the standard output.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => Failure::failed(format_args!("the output cannot be written: {error}")),
        }
    }
}
