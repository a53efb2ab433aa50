//! Configurations in property names, from a map, a `.properties` file or the environment.

use std::collections::BTreeMap;
use std::path::Path;

use super::names::{Given, GivenNames, Names, Spelling};
use super::producer_config::ProducerConfig;
use super::properties_file;
use super::property::{self, Action, Property, Reading, Show, all_properties};
use super::property_draft::Draft;
use super::property_parse::Setting;
use super::property_table::{OTHERS, UNSUPPORTED};
use super::topic_properties;
use crate::error::BuildError;
use crate::logging as log;
use crate::problem::Problem;

impl ProducerConfig {
    /// Reads properties in the names of Kafka's `ProducerConfig`, of librdkafka and of Krackle, and
    /// this client's own ones, which begin with `tidegate.`:
    /// [`config::reference()`](crate::config::reference()) lists them all. Their order does not
    /// matter; of a repeated name the last one counts. Errors, also those of
    /// [`ProducerConfig::validate`], name a setting as it is named here.
    ///
    /// A property of another client that has no meaning here is accepted with one warning, which
    /// says why. As with the Java client, `delivery.timeout.ms` is raised to `linger.ms` +
    /// `request.timeout.ms` if it was not given; as with librdkafka, no request waits longer than
    /// `message.timeout.ms`. The result is not validated yet, so that code may add to it: building
    /// the producer does that.
    ///
    /// # Errors
    ///
    /// [`BuildError::UnknownProperty`] for a name that is not known, with the nearest one that is;
    /// [`BuildError::InvalidSetting`] for a value that cannot be read, and for what this client
    /// cannot do; [`BuildError::Conflict`] for two names of one thing with different values, and
    /// for properties of TLS (`ssl.…`) or logins without `security.protocol`.
    pub fn from_properties<K, V>(
        properties: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BuildError>
    where
        K: AsRef<str>,
        V: AsRef<str>,
    {
        let properties: Vec<(K, V)> = properties.into_iter().collect();
        let (mut given, mut of_topics) = (Vec::new(), Vec::new());
        for (name, value) in &properties {
            let name = name.as_ref().trim();
            match property::property(name) {
                None if name.starts_with(topic_properties::PREFIX) => {
                    of_topics.push(topic_properties::split(name, value.as_ref().trim())?);
                }
                Some(property) => {
                    given.push(Given { name, property, value: value.as_ref().trim() })
                }
                None => warn_of_another(&Spelling::Properties, name, name)?,
            }
        }
        let mut config = read(given.clone(), Spelling::Properties)?;
        config.topics = topic_properties::read_topics(&of_topics, &given, &config)?;
        Ok(config)
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
        Self::from_properties_text(&read_file(path.as_ref())?)
    }
}

/// The text of a file of properties.
pub(super) fn read_file(path: &Path) -> Result<String, BuildError> {
    std::fs::read_to_string(path).map_err(|error| BuildError::System {
        what: "the properties file",
        problem: Problem::from(error).at(path.display()),
    })
}

/// The configuration that properties come to. Of a repeated name the last one counts.
pub(super) fn read(
    mut given: Vec<Given<'_>>,
    spelling: Spelling,
) -> Result<ProducerConfig, BuildError> {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, one) in given.iter().enumerate() {
        last.insert(one.name, index);
    }
    let mut index = 0;
    given.retain(|one| {
        index += 1;
        last.get(one.name) == Some(&(index - 1))
    });
    let mut draft = Draft::new();
    let mut names = GivenNames { spelling, read: Vec::new() };
    let mut sayings = BTreeMap::new();
    for one in given {
        let Given { name, property, value } = one;
        let setting = Setting { name, property, value };
        match &property.action {
            Action::Ignore(same) if Property::may_stand(same, value) => {}
            Action::Ignore(_) => log::warn!("{name} has no effect: {}", property.words),
            Action::Refuse(same) if Property::may_stand(same, value) => {}
            Action::Refuse(_) => return Err(setting.refuse(property.words)),
            Action::Read(reading) => {
                (reading.read)(&mut draft, setting)?;
                agree(&mut sayings, one, reading, &draft)?;
                names.read.push(one);
            }
        }
    }
    let mut config = draft.finish(&names)?;
    config.names = Names::new(&names, &config);
    Ok(config)
}

/// What has been said of each thing that a property sets: the first property, and the value.
type Sayings<'a> = BTreeMap<&'static str, (Given<'a>, String)>;

/// Checks that no property has said otherwise of the same thing.
fn agree<'a>(
    sayings: &mut Sayings<'a>,
    given: Given<'a>,
    reading: &Reading,
    draft: &Draft,
) -> Result<(), BuildError> {
    // An empty value leaves what it sets as it is. Secrets are not copied to compare them.
    if given.value.is_empty() {
        return Ok(());
    }
    let is_field = matches!(reading.show, Show::Config(_));
    let field = if is_field { property::shown(reading.sets, &draft.config) } else { None };
    let shown = field.unwrap_or_default();
    let Some((other, said)) = sayings.get(reading.sets) else {
        sayings.insert(reading.sets, (given, shown));
        return Ok(());
    };
    let is_same = if is_field { *said == shown } else { other.value == given.value };
    if is_same {
        return Ok(());
    }
    let value = |given: &Given<'_>| match given.property.is_secret {
        true => String::new(),
        false => format!(" = {}", given.value),
    };
    Err(BuildError::Conflict(format!(
        "{}{} and {}{} set the same thing to different values: leave one of them out",
        other.name,
        value(other),
        given.name,
        value(&given),
    )))
}

/// Warns of `name`, which would be the property `property`, if it is another program's.
///
/// # Errors
///
/// It is nobody's that is known, or one that must not be overlooked.
pub(super) fn warn_of_another(
    spelling: &Spelling,
    name: &str,
    property: &str,
) -> Result<(), BuildError> {
    let of = |table: &'static [(&'static str, &'static str)]| {
        table.iter().find(|(beginning, _)| property.starts_with(beginning)).map(|entry| entry.1)
    };
    // A slip of one letter in a name that is known is more likely than a name of the family.
    let nearest = nearest(property);
    let is_slip = nearest.is_some_and(|known| edit_distance(property, known) <= 1);
    match (of(OTHERS), of(UNSUPPORTED)) {
        (Some(reason), _) if !is_slip => {
            log::warn!("{name} has no effect: {reason}");
            Ok(())
        }
        (_, Some(reason)) if nearest.is_none() => {
            Err(BuildError::Conflict(format!("property \"{name}\" cannot be used: {reason}")))
        }
        _ => {
            let nearest = nearest.map(|property| spelling.spell(property));
            Err(BuildError::UnknownProperty { name: shown_name(name), nearest })
        }
    }
}

/// A name as an error shows it. What is no name may be a line of a key or of a password whose line
/// before lacks its backslash: it is not shown.
fn shown_name(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    // Lines of keys have 64 characters without a dot.
    let is_name = name.chars().all(is_plain) && name.len() <= NAME_LEN_MAX;
    match is_name && (name.len() < KEY_LINE_LEN || name.contains(['.', '_'])) {
        true => name.to_owned(),
        false => "(not shown: it looks like the value of the line before, which may lack its \
                  backslash)"
            .to_owned(),
    }
}

/// The longest name that an error shows.
const NAME_LEN_MAX: usize = 100;

/// What is as long as this and has no dot is no name.
const KEY_LINE_LEN: usize = 40;

/// The known name that is most like `name`, if one is near: within a third of its length, with
/// case, underscores and dashes not counted as differences. Else one that has it in it, as the
/// names of most fields of [`ProducerConfig`] are in those of their properties.
pub(super) fn nearest(name: &str) -> Option<&'static str> {
    let longest = all_properties().map(|known| known.name.len()).max().unwrap_or(0);
    if name.len() > 2 * longest {
        return None;
    }
    let plain = name.to_ascii_lowercase().replace(['_', '-'], ".");
    // Many write the field.
    if let Some(main) = property::main_property(&plain.replace('.', "_")) {
        return Some(main.name);
    }
    let own = format!("tidegate.{plain}");
    let distance = |known: &str| edit_distance(&plain, known).min(1 + edit_distance(&own, known));
    // Of two that are as near, the one that does something is meant.
    let place = |known: &Property| (distance(known.name), known.reading().is_none(), known.name);
    let best = all_properties().map(place).min()?;
    let near = (best.0 <= plain.chars().count() / 3).then_some(best.2);
    near.or_else(|| containing(&plain))
}

/// The shortest known name that has the words of `plain` in it; one that begins with them, if any.
fn containing(plain: &str) -> Option<&'static str> {
    let bare = |name| str::strip_prefix(name, "tidegate.").unwrap_or(name);
    let words = bare(plain);
    let words_are_own = words != plain;
    // Many names have "ms" or "max" in them, and none is meant.
    if words.len() < 4 {
        return None;
    }
    let words = format!(".{words}.");
    let places = all_properties().filter_map(|known| {
        let at = format!(".{}.", bare(known.name)).find(&words)?;
        let is_foreign = words_are_own && bare(known.name) == known.name;
        Some((known.reading().is_none(), is_foreign, at > 0, known.name.len(), known.name))
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
mod alias_tests;
#[cfg(test)]
mod sasl_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
