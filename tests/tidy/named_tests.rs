//! The manual's page of rules and faults against the tests that there are.

use std::collections::{BTreeMap, BTreeSet};

/// Rows of each kind that the page must have: `c01` to `c68`, `f01` to `f55`.
const ROWS: [(char, u32); 2] = [('c', 68), ('f', 55)];

/// The names of the tests in a source: functions under `#[test]`, and those that a table names for
/// a runner of the test's own.
pub(crate) fn tests_of(raw: &str) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    let mut is_test = false;
    for line in raw.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ")
            && std::mem::take(&mut is_test)
        {
            tests.extend(word(rest));
        }
        for (at, _) in line.match_indices("name: \"") {
            tests.extend(word(&line[at + "name: \"".len()..]));
        }
    }
    tests
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    (end > 0).then(|| text[..end].to_owned())
}

/// The tags in a test's name, `c07` or `f15`.
fn tags(test: &str) -> impl Iterator<Item = &str> {
    test.split('_').filter(|part| {
        let is_kind = part.starts_with(['c', 'f']);
        is_kind && part.len() == 3 && part[1..].bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// What is wrong with the page, given all tests.
pub(crate) fn problems(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut problems = Vec::new();
    let rows: BTreeMap<&str, &str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "))
        .filter(|(tag, _)| tags(tag).next().is_some())
        .collect();
    for (kind, last) in ROWS {
        for number in 1..=last {
            let tag = format!("{kind}{number:02}");
            let Some(row) = rows.get(&*tag) else {
                problems.push(format!("{tag} has no row"));
                continue;
            };
            let named: Vec<_> = row.split('`').skip(1).step_by(2).collect();
            if named.is_empty() && !row.starts_with("not yet") {
                problems.push(format!("{tag} has no test, and does not say why"));
            }
            for name in named {
                if !tests.contains(name) {
                    problems.push(format!("{tag}: there is no test {name}"));
                }
                if !tags(name).any(|other| other == tag) {
                    problems.push(format!("{tag}: {name} is not named after it"));
                }
            }
        }
    }
    for test in tests {
        for tag in tags(test) {
            if !rows.get(tag).is_some_and(|row| row.contains(&format!("`{test}`"))) {
                problems.push(format!("{test} is not in the row of {tag}"));
            }
        }
    }
    problems
}
