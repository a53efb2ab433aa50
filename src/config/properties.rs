//! Configurations in Kafka's property names, from a map or a `.properties` file.

use std::path::Path;

use super::producer_config::ProducerConfig;
use super::properties_file;
use super::property_oauth::OAUTH;
use super::property_parse::Setting;
use super::property_partitioner::PARTITIONER;
use super::property_sasl::SASL;
use super::property_socks5::SOCKS5;
use super::property_table::{Draft, KAFKA, OWN, Property, UNSUPPORTED};
use super::property_tls::TLS;
use crate::error::BuildError;
use crate::problem::Problem;

impl ProducerConfig {
    /// Reads properties in the names of Kafka's `ProducerConfig`, and this client's own ones, which
    /// begin with `tidegate.`. Their order does not matter; of a repeated name the last one counts.
    ///
    /// As with the Java client, `delivery.timeout.ms` is raised to `linger.ms` +
    /// `request.timeout.ms` if it was not given. The result is not validated yet, so that code may
    /// add to it: building the producer does that.
    ///
    /// # Errors
    ///
    /// [`BuildError::UnknownProperty`] for a name that is not known, with the nearest one that is;
    /// [`BuildError::InvalidSetting`] for a value that cannot be read or a setting of Kafka's that
    /// this client has no use for; [`BuildError::Conflict`] for properties of TLS (`ssl.…`) without
    /// `security.protocol`.
    pub fn from_properties<K, V>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BuildError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let mut draft = Draft::new();
        for (name, value) in properties {
            apply(&mut draft, name.as_ref().trim(), value.as_ref().trim())?;
        }
        draft.finish()
    }

    /// Reads the text of a `.properties` file, in the syntax of `java.util.Properties`.
    ///
    /// # Errors
    ///
    /// Those of [`ProducerConfig::from_properties`], and [`BuildError::InvalidProperties`].
    pub fn from_properties_text(text: &str) -> Result<Self, BuildError> {
        Self::from_properties(properties_file::parse(text)?)
    }

    /// Reads a `.properties` file, in UTF-8.
    ///
    /// # Errors
    ///
    /// Those of [`ProducerConfig::from_properties_text`], and [`BuildError::System`] if the file
    /// cannot be read.
    pub fn from_properties_file(path: impl AsRef<Path>) -> Result<Self, BuildError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| BuildError::System {
            what: "the properties file",
            problem: Problem::from(error).at(path.display()),
        })?;
        Self::from_properties_text(&text)
    }
}

fn all_properties() -> impl Iterator<Item = &'static Property> {
    let names = KAFKA.iter().chain(TLS).chain(SASL).chain(OAUTH).chain(SOCKS5);
    names.chain(PARTITIONER).chain(OWN)
}

fn apply(draft: &mut Draft, name: &str, value: &str) -> Result<(), BuildError> {
    if let Some((name, read)) = all_properties().find(|(known, _)| *known == name) {
        return read(draft, Setting { name, value });
    }
    let nearest = nearest(name);
    let unsupported = UNSUPPORTED.iter().find(|(beginning, _)| name.starts_with(beginning));
    match unsupported {
        // A slip in a name that is known is more likely than another name of the family.
        Some((_, reason)) if nearest.is_none() => {
            Err(BuildError::Conflict(format!("property \"{name}\" cannot be used: {reason}")))
        }
        _ => Err(BuildError::UnknownProperty { name: name.to_owned(), nearest }),
    }
}

/// The known name that is most like `name`, if one is near: within a third of its length, with
/// case, underscores and dashes not counted as differences. Else one that has it in it, as the
/// names of most fields of [`ProducerConfig`] are in those of their properties.
fn nearest(name: &str) -> Option<&'static str> {
    let longest = all_properties().map(|(known, _)| known.len()).max().unwrap_or(0);
    if name.len() > 2 * longest {
        return None;
    }
    let plain = name.to_ascii_lowercase().replace(['_', '-'], ".");
    let own = format!("tidegate.{plain}");
    let distance = |known: &str| edit_distance(&plain, known).min(1 + edit_distance(&own, known));
    let best = all_properties().map(|(known, _)| (distance(known), *known)).min()?;
    let near = (best.0 <= plain.chars().count() / 3).then_some(best.1);
    near.or_else(|| containing(&plain))
}

/// The shortest known name that has the words of `plain` in it; one that begins with them, if any.
fn containing(plain: &str) -> Option<&'static str> {
    let bare = |name| str::strip_prefix(name, "tidegate.").unwrap_or(name);
    let words = bare(plain);
    // Many names have "ms" or "max" in them, and none is meant.
    if words.len() < 4 {
        return None;
    }
    let words = format!(".{words}.");
    let places = all_properties().filter_map(|(known, _)| {
        let at = format!(".{}.", bare(known)).find(&words)?;
        Some((at > 0, known.len(), *known))
    });
    places.min().map(|(.., known)| known)
}

/// How many characters must be inserted, removed, replaced or swapped with their neighbour to make
/// one of the other.
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = last[j] + usize::from(a != b);
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

#[cfg(test)]
mod sasl_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
