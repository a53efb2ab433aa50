//! The rules, each from a source to the problems it has.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;
use super::{
    APART, DRIVERS, DRIVERS_ONLY, FILE_LINES_MAX, FUNCTION_LINES_MAX, LAYERS, LINE_CHARS_MAX,
    NOWHERE, SHARED, TOP_LEVEL, UNSAFE_FILES,
};

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn shared(module: &str) -> Option<&'static [&'static str]> {
    SHARED.iter().find(|(name, _)| *name == module).map(|(_, uses)| *uses)
}

/// The top-level module a source belongs to, unless it is the root, a binary or no part of `src`.
fn module_of(source: &Source) -> Option<&str> {
    if !source.path.starts_with("src/") || source.path.starts_with("src/bin/") {
        return None;
    }
    source.module_path().first().copied()
}

/// Whether the table lets module `from` use module `to`.
fn allowed(from: &str, to: &str) -> Result<(), &'static str> {
    if from == to {
        return Ok(());
    }
    if APART.contains(&from) {
        return Err("it stands apart and uses nothing of the rest");
    }
    if let Some(uses) = shared(from) {
        return if uses.contains(&to) { Ok(()) } else { Err("it is not in the table of SHARED") };
    }
    if shared(to).is_some() {
        return Ok(());
    }
    match (layer(from), layer(to)) {
        (Some(upper), Some(lower)) if lower < upper => Ok(()),
        (Some(_), Some(_)) => Err("it is not in a layer below"),
        _ => Err("name a module of a layer below, by its own path"),
    }
}

pub(crate) fn layers(source: &Source) -> Vec<String> {
    let Some(module) = module_of(source) else { return Vec::new() };
    let known = layer(module).is_some() || shared(module).is_some() || APART.contains(&module);
    if !known {
        return vec![format!("{}: module {module} is in no table of tests/tidy.rs", source.path)];
    }
    if source.is_tests() {
        return Vec::new();
    }
    let problem = |name: &str, line: usize| {
        let reason = allowed(module, name).err()?;
        Some(format!("{}:{line}: {module} uses {name}: {reason}", source.path))
    };
    source.imports().iter().filter_map(|import| problem(&import.name, import.line)).collect()
}

pub(crate) fn add_uses(source: &Source, uses: &mut BTreeMap<String, BTreeSet<String>>) {
    let Some(module) = module_of(source).filter(|_| !source.is_tests()) else { return };
    let entry = uses.entry(module.to_owned()).or_default();
    entry.extend(source.imports().into_iter().map(|import| import.name));
    entry.remove(module);
}

/// A cycle among modules, as `a -> b -> a`.
pub(crate) fn cycle(uses: &BTreeMap<String, BTreeSet<String>>) -> Option<String> {
    fn visit<'a>(
        module: &'a str,
        uses: &'a BTreeMap<String, BTreeSet<String>>,
        path: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<String> {
        if let Some(start) = path.iter().position(|other| *other == module) {
            return Some(format!("{} -> {module}", path[start..].join(" -> ")));
        }
        if !done.insert(module) {
            return None;
        }
        path.push(module);
        let mut used = uses.get(module).into_iter().flatten();
        let found = used.find_map(|used| visit(used, uses, path, done));
        path.pop();
        found
    }
    let mut done = BTreeSet::new();
    uses.keys().find_map(|module| visit(module, uses, &mut Vec::new(), &mut done))
}

pub(crate) fn drivers(source: &Source) -> Vec<String> {
    let free = DRIVERS.iter().any(|driver| source.path.starts_with(driver));
    if free || !source.path.starts_with("src/") || source.is_tests() {
        return Vec::new();
    }
    let problem = |pattern: &&str| {
        let text = pattern.replace(' ', "");
        let path = &source.path;
        let message = move |line| format!("{path}:{line}: {text} stands only in src/io");
        source.find(pattern).into_iter().map(message).collect::<Vec<_>>()
    };
    DRIVERS_ONLY.iter().flat_map(problem).collect()
}

pub(crate) fn unsafe_code(source: &Source) -> Vec<String> {
    let listed = UNSAFE_FILES.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(beginning) => source.path.starts_with(beginning),
        None => source.path == *pattern,
    });
    if listed || !source.path.starts_with("src/") {
        return Vec::new();
    }
    let lines = [source.find("unsafe"), source.find("allow ( unsafe_code")].concat();
    let message = |line| format!("{}:{line}: unsafe outside the listed files", source.path);
    lines.into_iter().map(message).collect()
}

pub(crate) fn sizes(source: &Source) -> Vec<String> {
    let path = &source.path;
    let mut problems = Vec::new();
    for (index, line) in source.raw.lines().enumerate() {
        let chars = line.chars().count();
        if chars > LINE_CHARS_MAX {
            let number = index + 1;
            problems.push(format!("{path}:{number}: {chars} columns, over {LINE_CHARS_MAX}"));
        }
    }
    if !path.starts_with("src/") || source.is_tests() {
        return problems;
    }
    if source.lines > FILE_LINES_MAX {
        problems.push(format!("{path}: {} lines, over {FILE_LINES_MAX}", source.lines));
    }
    for (name, line, lines) in source.functions() {
        if lines > FUNCTION_LINES_MAX {
            problems.push(format!("{path}:{line}: fn {name} has {lines} lines"));
        }
    }
    problems
}

pub(crate) fn leftovers(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    for pattern in NOWHERE {
        for line in source.find(pattern) {
            problems.push(format!("{}:{line}: {}", source.path, pattern.replace(' ', "")));
        }
    }
    // Put together here, so that this file does not find itself.
    for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
        for (index, line) in source.raw.lines().enumerate() {
            let mut words = line.split(|c: char| !c.is_alphanumeric());
            if words.any(|other| other == word) {
                problems.push(format!("{}:{}: {word}", source.path, index + 1));
            }
        }
    }
    problems
}

/// The application's logger may panic: the client logs through `crate::logging`, under the name of
/// the crate. Settings are read on the application's own thread.
pub(crate) fn logging(source: &Source) -> Vec<String> {
    let module = module_of(source);
    let exempt = module.is_none_or(|module| ["embedded", "config", "logging"].contains(&module));
    let logs = source.find("log : :").into_iter().next();
    match logs {
        Some(line) if !exempt && source.find("logging as log").is_empty() => {
            vec![format!("{}:{line}: logs without `use crate::logging as log`", source.path)]
        }
        _ => Vec::new(),
    }
}

pub(crate) fn module_docs(source: &Source) -> Vec<String> {
    let needs = source.path.starts_with("src/") && source.path.ends_with("/mod.rs");
    let first = source.raw.lines().next().unwrap_or_default();
    let text = first.strip_prefix("//!").unwrap_or_default();
    // A word or two say nothing.
    if !needs || text.split_whitespace().count() >= 3 {
        return Vec::new();
    }
    vec![format!("{}: does not open with what the module is for (//!)", source.path)]
}

/// What stands at the top level, by the list of all files, and should not.
pub(crate) fn top_level(listed: &str) -> Vec<String> {
    let entries: BTreeSet<&str> =
        listed.lines().filter_map(|path| path.split('/').next()).collect();
    let foreign = |entry: &&str| !entry.starts_with('.') && !TOP_LEVEL.contains(entry);
    entries.into_iter().filter(foreign).map(str::to_owned).collect()
}

/// The crates of the manifest's `[dependencies]` that no source below `src` names.
pub(crate) fn unused_dependencies(manifest: &str, sources: &[Source]) -> Vec<String> {
    let section = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let entries = section.take_while(|line| !line.starts_with('['));
    let names = entries.filter_map(|line| Some(line.split_once('=')?.0.trim()));
    let names: Vec<&str> = names.filter(|name| !name.starts_with('#')).collect();
    assert!(!names.is_empty(), "the manifest has no dependencies, or this does not read it");
    let unused = |name: &&str| {
        let path = format!("{} : :", name.replace('-', "_"));
        let mut ours = sources.iter().filter(|source| source.path.starts_with("src/"));
        ours.all(|source| source.find(&path).is_empty())
    };
    names.into_iter().filter(unused).map(str::to_owned).collect()
}
