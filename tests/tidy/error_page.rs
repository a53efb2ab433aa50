//! The manual's page of errors against the enums that it is about.

/// The enums that the page has a table for, and the sources that they stand in.
pub(crate) const ENUMS: &[(&str, &str)] = &[
    ("BuildError", "src/error.rs"),
    ("SendErrorKind", "src/error.rs"),
    ("PressureScope", "src/error.rs"),
    ("DeliveryErrorCause", "src/error/delivery.rs"),
    ("FlushError", "src/error/ends.rs"),
    ("CloseError", "src/error/ends.rs"),
    ("CreateTopicErrorKind", "src/error/topics.rs"),
    ("ConsumeErrorCause", "src/error/consume.rs"),
    ("ProblemKind", "src/problem.rs"),
];

/// The variants of an enum of a source that is formatted: a variant begins its line, indented once.
pub(crate) fn variants<'a>(raw: &'a str, name: &str) -> Vec<&'a str> {
    let Some((_, rest)) = raw.split_once(&format!("pub enum {name} {{\n")) else {
        return Vec::new();
    };
    let body = rest.split("\n}").next().unwrap_or_default();
    let variant = |line: &'a str| {
        let line = line.strip_prefix("    ")?;
        let end = line.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(line.len());
        (line.starts_with(|c: char| c.is_ascii_uppercase())).then_some(&line[..end])
    };
    body.lines().filter_map(variant).collect()
}

/// The first cells of the table whose header names the enum.
fn rows<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    // The name begins rows of other tables as well: below a header stands a line of dashes.
    let header = format!("| [`{name}`](crate::{name}) |");
    let lines: Vec<_> = page.lines().collect();
    let is_header = |two: &[&str]| two[0].starts_with(&header) && two[1].starts_with("|---");
    let begin = lines.windows(2).position(is_header).map_or(lines.len(), |header| header + 2);
    let rows = lines[begin..].iter().take_while(|line| line.starts_with('|'));
    rows.filter_map(|row| row.strip_prefix("| `")?.split('`').next()).collect()
}

/// What is wrong with the table of one enum.
pub(crate) fn problems(page: &str, name: &str, variants: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    if variants.is_empty() {
        problems.push(format!("{name} was not found"));
    }
    let rows = rows(page, name);
    for variant in variants {
        match rows.iter().filter(|row| *row == variant).count() {
            1 => {}
            0 => problems.push(format!("{name}::{variant} has no row")),
            _ => problems.push(format!("{name}::{variant} has several rows")),
        }
    }
    let invented = rows.iter().filter(|row| !variants.contains(row));
    problems.extend(invented.map(|row| format!("{name}::{row} does not exist")));
    problems
}
