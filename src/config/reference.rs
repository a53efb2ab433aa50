//! The table of all properties, for people and for programs.

use std::fmt;

use super::property::{Action, NOT_GIVEN, Origin, Property, Show, all_properties};
use super::property_draft::Draft;

/// What becomes of a property.
///
/// ```
/// use tidegate::config::{Answer, reference};
///
/// let reference = reference();
/// let refused = reference.entries().filter(|entry| entry.answer() == Answer::Refused);
/// assert!(refused.map(|entry| entry.name()).any(|name| name == "transactional.id"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Answer {
    /// It sets something.
    Read,
    /// It has no meaning here: it is accepted, and one warning says why.
    NoEffect,
    /// It asks for something that this client cannot do: it is an error, which says what to do.
    Refused,
}

/// One property: a row of the [`Reference`].
///
/// ```
/// use tidegate::config::reference;
///
/// let reference = reference();
/// for entry in reference.entries().filter(|entry| entry.name() == "linger.ms") {
///     assert_eq!((entry.sets(), entry.unit(), entry.default()), (Some("linger"), "ms", "0"));
/// }
/// ```
#[derive(Clone)]
pub struct Entry {
    property: &'static Property,
    default: String,
}

/// Every property that [`ProducerConfig::from_properties`](crate::ProducerConfig::from_properties)
/// knows: those of Kafka's `ProducerConfig` first, then this client's own, librdkafka's and
/// Krackle's, each in the order of the alphabet.
///
/// Its `Display` is a table in Markdown, that of [`manual::configuration`].
///
/// [`manual::configuration`]: crate::manual::configuration
///
/// ```
/// use tidegate::config::{Entry, reference};
///
/// // What a program must not show when it prints its properties.
/// let secrets: Vec<Entry> = reference().into_iter().filter(Entry::is_secret).collect();
/// assert!(secrets.iter().any(|entry| entry.name() == "ssl.key.password"));
/// ```
#[derive(Clone, Debug)]
pub struct Reference {
    entries: Vec<Entry>,
}

/// The table of all properties.
///
/// ```
/// let reference = tidegate::config::reference();
/// println!("{reference}");
///
/// let linger = reference.entries().find(|entry| entry.name() == "queue.buffering.max.ms");
/// assert_eq!(linger.and_then(|entry| entry.sets()), Some("linger"));
/// ```
pub fn reference() -> Reference {
    let draft = Draft::new();
    let entry = |property: &'static Property| {
        let default = match property.reading().map(|reading| reading.show) {
            Some(Show::Config(show)) => show(&draft.config),
            Some(Show::Draft(show)) => show(&draft),
            Some(Show::Unset) | None => String::new(),
        };
        Entry { property, default }
    };
    let mut entries: Vec<Entry> = all_properties().map(entry).collect();
    entries.sort_by_key(|entry| (place(entry.property.origin), entry.property.name));
    Reference { entries }
}

fn place(origin: Origin) -> Option<usize> {
    Origin::ALL.iter().position(|other| *other == origin)
}

impl Reference {
    /// The properties, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}

impl IntoIterator for Reference {
    type Item = Entry;
    type IntoIter = std::vec::IntoIter<Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl Entry {
    /// The property's name, as in `linger.ms`.
    pub fn name(&self) -> &'static str {
        self.property.name
    }

    /// Whose name it is.
    pub fn origin(&self) -> Origin {
        self.property.origin
    }

    /// What becomes of it.
    pub fn answer(&self) -> Answer {
        match self.property.action {
            Action::Read(_) => Answer::Read,
            Action::Ignore(_) => Answer::NoEffect,
            Action::Refuse(_) => Answer::Refused,
        }
    }

    /// What sets the same in code, if it is read: a field of
    /// [`ProducerConfig`](crate::ProducerConfig), or a method of [`TlsConfig`](crate::TlsConfig)
    /// and the like.
    pub fn sets(&self) -> Option<&'static str> {
        self.property.reading().map(|reading| reading.sets)
    }

    /// What its value is counted in: `ms`, `µs`, `bytes` or `KiB`; empty for what is no quantity
    /// and for plain numbers.
    pub fn unit(&self) -> &'static str {
        self.property.reading().map(|reading| reading.unit.name()).unwrap_or_default()
    }

    /// What is in effect where it is not given, as its value would be written; empty where that is
    /// nothing.
    pub fn default(&self) -> &str {
        &self.default
    }

    /// A sentence: what it means, or, if it is not read, why it means nothing here.
    pub fn meaning(&self) -> &'static str {
        self.property.words
    }

    /// Whether its value is a secret, which no error shows.
    pub fn is_secret(&self) -> bool {
        self.property.is_secret
    }

    fn cells(&self) -> [String; 6] {
        let code = |text: &str| match text {
            "" => String::new(),
            text => format!("`{text}`"),
        };
        let (sets, meaning) = match self.property.action {
            Action::Read(reading) => (code(reading.sets), self.meaning().to_owned()),
            Action::Ignore(same) => ("no effect".to_owned(), self.sentence("Not warned of", same)),
            Action::Refuse(same) => ("refused".to_owned(), self.sentence("Accepted", same)),
        };
        let origin = self.origin().to_string();
        let unit = self.unit().to_owned();
        [code(self.name()), origin, sets, unit, code(&self.default), meaning]
    }

    /// Why it is not read, as a sentence, and the values that may stand nevertheless.
    fn sentence(&self, may_stand: &str, same: &[&str]) -> String {
        let mut chars = self.meaning().chars();
        let first: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
        let values: Vec<String> = same
            .iter()
            .filter(|value| !NOT_GIVEN.contains(value))
            .map(|value| format!("`{value}`"))
            .collect();
        let values = match values.as_slice() {
            [] => String::new(),
            values => format!(" {may_stand}: {}.", values.join(", ")),
        };
        format!("{first}{}.{values}", chars.as_str())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("name", &self.name())
            .field("origin", &self.origin())
            .field("answer", &self.answer())
            .field("sets", &self.sets())
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["property", "of", "sets", "unit", "default", "meaning"].map(str::to_owned);
        let rows: Vec<[String; 6]> = self.entries.iter().map(Entry::cells).collect();
        let mut widths = head.each_ref().map(String::len);
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        // The last column is of sentences, which need no padding.
        widths[5] = head[5].len();
        let line = |f: &mut fmt::Formatter<'_>, row: &[String; 6]| {
            for (width, cell) in widths.iter().zip(row) {
                write!(f, "| {cell:width$} ", width = *width)?;
            }
            writeln!(f, "|")
        };
        line(f, &head)?;
        for width in widths {
            write!(f, "|{}", "-".repeat(width + 2))?;
        }
        writeln!(f, "|")?;
        rows.iter().try_for_each(|row| line(f, row))
    }
}
