//! What a property is: its name, where the name comes from, and what this client does with it.
//!
//! The tables (`property_table`, `property_own`, `property_librdkafka` and so on) are lists of
//! these, and the one place where a name, a unit and a meaning are written. `properties` reads
//! with them, `reference` prints them.

use std::fmt;
use std::time::Duration;

use super::producer_config::{Acks, ClusterChange, OnDrop, ProducerConfig};
use super::property_draft::Draft;
use super::property_parse::Setting;
use super::security::SecurityProtocol;
use super::wait_strategy::WaitStrategy;
use super::{new_topic, property_partitioner, property_socks5, property_table, property_tls};
use super::{property_krackle, property_librdkafka, property_oauth, property_own, property_sasl};
use crate::error::BuildError;

/// Whose name a property is. A name that several have counts as that of the first in this order.
///
/// ```
/// use tidegate::config::{Origin, reference};
///
/// let reference = reference();
/// let own = reference.entries().filter(|entry| entry.origin() == Origin::Tidegate);
/// assert!(own.map(|entry| entry.name()).any(|name| name == "tidegate.metrics.log.interval.ms"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// Apache Kafka's Java producer: `ProducerConfig` of Kafka 4.3.
    Kafka,
    /// This client.
    Tidegate,
    /// librdkafka, with the clients in other languages that are built on it.
    Librdkafka,
    /// Krackle, BlackBerry's producer for Kafka 0.8.
    Krackle,
}

impl Origin {
    pub(super) const ALL: [Origin; 4] =
        [Origin::Kafka, Origin::Tidegate, Origin::Librdkafka, Origin::Krackle];
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Kafka => "Kafka",
            Origin::Tidegate => "tidegate",
            Origin::Librdkafka => "librdkafka",
            Origin::Krackle => "Krackle",
        })
    }
}

/// What a property's value is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// It is no quantity, or a plain number.
    None,
    Milliseconds,
    Microseconds,
    Bytes,
    Kibibytes,
}

impl Unit {
    pub(super) fn name(self) -> &'static str {
        match self {
            Unit::None => "",
            Unit::Milliseconds => "ms",
            Unit::Microseconds => "µs",
            Unit::Bytes => "bytes",
            Unit::Kibibytes => "KiB",
        }
    }
}

/// What reads a value into the draft.
pub(super) type Reader = fn(&mut Draft, Setting<'_>) -> Result<(), BuildError>;

/// How what a property sets is shown: its default, and whether two properties agree.
#[derive(Clone, Copy)]
pub(super) enum Show {
    /// A field of the configuration.
    Config(fn(&ProducerConfig) -> String),
    /// Something that is put together from several properties.
    Draft(fn(&Draft) -> String),
    /// It has no value unless it is given.
    Unset,
}

/// One property.
#[derive(Clone, Copy)]
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) origin: Origin,
    /// What it means, or why it means nothing here.
    pub(super) words: &'static str,
    /// Whether its value must never be shown.
    pub(super) is_secret: bool,
    pub(super) action: Action,
}

/// What is done with a property.
#[derive(Clone, Copy)]
pub(super) enum Action {
    /// It is read.
    Read(Reading),
    /// It has no effect, and a warning says why, unless the value is one of these: what it asks
    /// for is what this client does anyway.
    Ignore(&'static [&'static str]),
    /// It is an error, unless the value is one of these.
    Refuse(&'static [&'static str]),
}

/// How a property is read.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// The field, or the method, that does the same in code. Properties that set the same thing
    /// have the same text here, and must not contradict each other.
    pub(super) sets: &'static str,
    pub(super) unit: Unit,
    pub(super) show: Show,
    pub(super) read: Reader,
}

/// What templates write for a value that is not given.
pub(super) const NOT_GIVEN: &[&str] = &["", "null"];

impl Property {
    /// One that is read.
    pub(super) const fn read(
        name: &'static str,
        origin: Origin,
        sets: &'static str,
        unit: Unit,
        show: Show,
        words: &'static str,
        read: Reader,
    ) -> Property {
        let action = Action::Read(Reading { sets, unit, show, read });
        Property { name, origin, words, is_secret: false, action }
    }

    /// One whose value is taken as it is, and is unset by default.
    pub(super) const fn text(
        name: &'static str,
        origin: Origin,
        sets: &'static str,
        words: &'static str,
        read: Reader,
    ) -> Property {
        Property::read(name, origin, sets, Unit::None, Show::Unset, words, read)
    }

    /// One that has no effect; `words` say why. The values in `same` are not warned of.
    pub(super) const fn ignored(
        name: &'static str,
        origin: Origin,
        same: &'static [&'static str],
        words: &'static str,
    ) -> Property {
        Property { name, origin, words, is_secret: false, action: Action::Ignore(same) }
    }

    /// One that cannot be had; `words` say why and what to do. The values in `same` may stand.
    pub(super) const fn refused(
        name: &'static str,
        origin: Origin,
        same: &'static [&'static str],
        words: &'static str,
    ) -> Property {
        Property { name, origin, words, is_secret: false, action: Action::Refuse(same) }
    }

    /// The same, with a value that must never be shown.
    pub(super) const fn secret(self) -> Property {
        Property { is_secret: true, ..self }
    }

    pub(super) fn reading(&self) -> Option<&Reading> {
        match &self.action {
            Action::Read(reading) => Some(reading),
            Action::Ignore(_) | Action::Refuse(_) => None,
        }
    }

    /// Whether `value` is one that a property which is not read may have without a word.
    pub(super) fn may_stand(same: &[&str], value: &str) -> bool {
        same.iter().any(|other| other.eq_ignore_ascii_case(value))
    }

    /// The name in capitals, as a variable of the environment has it behind its prefix.
    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }
}

/// A property's name as a variable of the environment has it behind its prefix.
pub(super) fn variable(name: &str) -> String {
    let bare = name.strip_prefix("tidegate.").unwrap_or(name);
    bare.to_ascii_uppercase().replace(['.', '-'], "_")
}

/// Every property that is known.
pub(super) fn all_properties() -> impl Iterator<Item = &'static Property> {
    let tables = [
        property_table::KAFKA,
        property_tls::TLS,
        property_sasl::SASL,
        property_oauth::OAUTH,
        property_socks5::SOCKS5,
        new_topic::CREATE_TOPICS,
        property_partitioner::PARTITIONER,
        property_own::OWN,
        property_librdkafka::LIBRDKAFKA,
        property_krackle::KRACKLE,
    ];
    tables.into_iter().flatten()
}

/// The property of this name.
pub(super) fn property(name: &str) -> Option<&'static Property> {
    all_properties().find(|property| property.name == name)
}

/// The property that a field or method is named by where none was used: the first of those that
/// set it, which is Kafka's where Kafka has one.
pub(super) fn main_property(sets: &str) -> Option<&'static Property> {
    all_properties().find(|property| property.reading().is_some_and(|it| it.sets == sets))
}

/// What a field of the configuration holds, in the words and the unit of its main property; `None`
/// for what is no field.
pub(super) fn shown(sets: &str, config: &ProducerConfig) -> Option<String> {
    match main_property(sets)?.reading()?.show {
        Show::Config(show) => Some(show(config)),
        Show::Draft(_) | Show::Unset => None,
    }
}

/// Makes a table entry that stores what `$read` makes of the value in a field of the configuration.
macro_rules! field {
    ($name:literal, $origin:ident, $field:ident, $unit:ident, $read:ident, $words:literal) => {
        $crate::config::property::Property::read(
            $name,
            $crate::config::property::Origin::$origin,
            stringify!($field),
            $crate::config::property::Unit::$unit,
            $crate::config::property::shown_field!($field, $unit),
            $words,
            |draft, setting| {
                draft.config.$field = setting.$read()?.into();
                Ok(())
            },
        )
    };
}
pub(super) use field;

/// Shows a field of the configuration.
macro_rules! shown_field {
    ($field:ident, $unit:ident) => {
        $crate::config::property::Show::Config(|config| {
            $crate::config::property::Shown::shown(
                &config.$field,
                $crate::config::property::Unit::$unit,
            )
        })
    };
}
pub(super) use shown_field;

/// What can be shown as a property's value.
pub(super) trait Shown {
    fn shown(&self, unit: Unit) -> String;
}

impl Shown for Duration {
    fn shown(&self, unit: Unit) -> String {
        let (whole, rest) = match unit {
            Unit::Microseconds => (self.as_micros(), self.as_nanos() % 1_000),
            _ => (self.as_millis(), self.as_nanos() % 1_000_000),
        };
        match (rest, unit) {
            (0, _) => whole.to_string(),
            (_, Unit::Microseconds) => format!("{whole}.{rest:03}"),
            _ => format!("{whole}.{rest:06}").trim_end_matches('0').to_owned(),
        }
    }
}

impl Shown for usize {
    fn shown(&self, unit: Unit) -> String {
        match unit {
            Unit::Kibibytes => (self / 1_024).to_string(),
            _ => self.to_string(),
        }
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self, unit: Unit) -> String {
        self.as_ref().map(|value| value.shown(unit)).unwrap_or_default()
    }
}

impl Shown for u32 {
    fn shown(&self, _unit: Unit) -> String {
        self.to_string()
    }
}

impl Shown for bool {
    fn shown(&self, _unit: Unit) -> String {
        self.to_string()
    }
}

impl Shown for String {
    fn shown(&self, _unit: Unit) -> String {
        self.clone()
    }
}

impl Shown for Vec<String> {
    fn shown(&self, _unit: Unit) -> String {
        self.join(",")
    }
}

impl Shown for Vec<usize> {
    fn shown(&self, _unit: Unit) -> String {
        self.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
    }
}

impl Shown for Acks {
    fn shown(&self, _unit: Unit) -> String {
        match self {
            Acks::All => "all".to_owned(),
            Acks::None | Acks::Leader => self.code().to_string(),
        }
    }
}

impl Shown for WaitStrategy {
    fn shown(&self, _unit: Unit) -> String {
        match self {
            WaitStrategy::Block => "block".to_owned(),
            WaitStrategy::Spin => "spin".to_owned(),
            WaitStrategy::SpinThenBlock(time) => time.shown(Unit::Microseconds),
        }
    }
}

impl Shown for ClusterChange {
    fn shown(&self, _unit: Unit) -> String {
        match self {
            ClusterChange::Follow => "follow".to_owned(),
            ClusterChange::Fail => "fail".to_owned(),
        }
    }
}

impl Shown for OnDrop {
    fn shown(&self, unit: Unit) -> String {
        match self {
            OnDrop::Wait(time) => time.shown(unit),
            OnDrop::Detach => "detach".to_owned(),
        }
    }
}

impl Shown for SecurityProtocol {
    fn shown(&self, _unit: Unit) -> String {
        self.name().to_owned()
    }
}
