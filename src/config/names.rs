//! Under which names a configuration was set, so that errors and warnings use the user's own.
//!
//! A field that code set is called by the field's name, one that a property set by that property's
//! name, and one that the environment set by the variable's.

use super::producer_config::ProducerConfig;
use super::property::{self, Property};

/// How the names of one configuration are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Spelling {
    /// By fields: it was made in code.
    #[default]
    Fields,
    /// By properties.
    Properties,
    /// By variables of the environment that begin so.
    Variables(String),
}

impl Spelling {
    /// The name of `property` in this spelling.
    pub(super) fn spell(&self, property: &str) -> String {
        match self {
            Spelling::Fields | Spelling::Properties => property.to_owned(),
            Spelling::Variables(prefix) => format!("{prefix}{}", property::variable(property)),
        }
    }
}

/// A property as it was given.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// The name as the user wrote it.
    pub(super) name: &'a str,
    pub(super) property: &'static Property,
    /// Without the blanks around it.
    pub(super) value: &'a str,
}

/// The properties that one configuration is read from, while it is read.
pub(super) struct GivenNames<'a> {
    pub(super) spelling: Spelling,
    pub(super) read: Vec<Given<'a>>,
}

impl GivenNames<'_> {
    /// What the user calls that which `property` sets.
    pub(super) fn of(&self, property: &str) -> String {
        let main = property::property(property).and_then(Property::reading);
        let same = |given: &&Given<'_>| {
            !given.value.is_empty()
                && given.property.reading().map(|it| it.sets) == main.map(|it| it.sets)
        };
        match self.read.iter().find(same) {
            Some(given) => given.name.to_owned(),
            None => self.spelling.spell(property),
        }
    }

    /// Whether anything was given that sets what `property` does.
    pub(super) fn has(&self, property: &str) -> bool {
        let sets = |property: &Property| property.reading().map(|it| it.sets);
        let wanted = property::property(property).and_then(sets);
        self.read.iter().any(|given| sets(given.property) == wanted)
    }
}

/// The names that a finished configuration keeps. Of values it has only those of plain fields,
/// which are no secrets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    spelling: Spelling,
    set: Vec<Named>,
}

#[derive(Clone, Debug)]
struct Named {
    sets: &'static str,
    name: String,
    /// What the field held when it was read; `None` for what is no plain field.
    shown: Option<String>,
}

impl Names {
    pub(super) fn new(given: &GivenNames<'_>, config: &ProducerConfig) -> Self {
        let named = |given: &Given<'_>| {
            let sets = given.property.reading()?.sets;
            let shown = property::shown(sets, config);
            Some(Named { sets, name: given.name.to_owned(), shown })
        };
        let set = given.read.iter().filter(|it| !it.value.is_empty()).filter_map(named).collect();
        Names { spelling: given.spelling.clone(), set }
    }

    fn find(&self, sets: &str) -> Option<&Named> {
        self.set.iter().find(|named| named.sets == sets)
    }

    /// What the user calls a part of something that is no plain field, such as a password;
    /// `in_code` where code set it.
    pub(super) fn of_part(&self, sets: &str, in_code: &str) -> String {
        self.find(sets).map_or_else(|| in_code.to_owned(), |named| named.name.clone())
    }
}

impl ProducerConfig {
    /// What the user calls `field`. Code may have changed it after it was read: then it is called
    /// by its own name.
    pub(crate) fn name_of(&self, field: &'static str) -> String {
        let shown = property::shown(field, self);
        match self.names.find(field) {
            Some(named) if named.shown == shown => return named.name.clone(),
            Some(_) => return field.to_owned(),
            None => {}
        }
        // Whoever wrote properties, and not this one, knows the default by its property.
        let is_default = shown == property::shown(field, &ProducerConfig::default());
        match (property::main_property(field), &self.names.spelling) {
            (Some(main), Spelling::Properties | Spelling::Variables(_)) if is_default => {
                self.names.spelling.spell(main.name)
            }
            _ => field.to_owned(),
        }
    }
}
