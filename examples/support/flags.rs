//! Command-line flags for the examples: `--name value` or `--name=value`, nothing else.

use std::fmt::Display;
use std::str::FromStr;

/// The flags that were given. Every flag takes a value; of a repeated one the last counts.
pub struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Reads this process's arguments. `--help` prints `usage` and ends the process.
    ///
    /// # Errors
    /// A flag that is not in `known`, or that has no value.
    pub fn from_arguments(known: &[&'static str], usage: &str) -> Result<Flags, String> {
        let mut arguments = std::env::args().skip(1);
        let mut given = Vec::new();
        while let Some(argument) = arguments.next() {
            if argument == "--help" || argument == "-h" {
                println!("{usage}");
                std::process::exit(0);
            }
            let (name, value) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let Some(name) = known.iter().find(|known| **known == name) else {
                return Err(format!("unknown argument {argument:?}\n{usage}"));
            };
            // A value may begin with a dash: `--acks -1`.
            let value = value.or_else(|| arguments.next());
            given.push((*name, value.ok_or_else(|| format!("{name} needs a value\n{usage}"))?));
        }
        Ok(Flags(given))
    }

    /// A flag's value.
    pub fn text(&self, name: &str) -> Option<&str> {
        let mut latest_first = self.0.iter().rev();
        latest_first.find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// A flag's value as a number or another type that is read from text.
    ///
    /// # Errors
    /// The value cannot be read as one.
    pub fn number<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, String> {
        let read = |value: &str| value.parse().map_err(|why| format!("{name} {value}: {why}"));
        self.text(name).map(read).transpose()
    }
}
