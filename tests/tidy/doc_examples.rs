//! Every public item against the examples in its documentation.

use super::source::Source;

/// The sources that say what is public: the crate's root, and its public modules.
const LISTS: [&str; 3] = ["src/lib.rs", "src/config/mod.rs", "src/embedded/mod.rs"];

/// Items whose examples do not run, by the reason.
const WITHOUT: &[(&str, &[&str])] = &[];

/// An item that a list makes public.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Export {
    pub(crate) name: String,
    /// Where it comes from: `src/engine/policy` for `pub use engine::policy::{...}` at the root.
    /// That is a folder or, with `.rs`, a file.
    pub(crate) from: String,
}

/// What the `pub use` lists of a source make public. They have one level of braces at most.
pub(crate) fn exports(path: &str, raw: &str) -> Vec<Export> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let mut code = raw.lines().filter(is_code).collect::<Vec<_>>().join("\n");
    // It is opened for this crate's own tests, and no part of the documentation.
    if let Some((before, rest)) = code.split_once("pub mod internals {") {
        let (_, after) = rest.split_once("\n}").expect("the module ends");
        code = format!("{before}{after}");
    }
    let folder = path.rsplit_once('/').expect("every source is in a folder").0;
    let mut exports = Vec::new();
    for statement in code.split("pub use ").skip(1) {
        let list = statement.split(';').next().unwrap_or_default();
        let (from, names) = list.rsplit_once("::").expect("it names a module and an item");
        let (folder, from) = match from.strip_prefix("crate::") {
            Some(from) => ("src", from),
            None => (folder, from),
        };
        let from = format!("{folder}/{}", from.replace("::", "/"));
        let names = names.split(['{', ',', '}']).map(str::trim).filter(|name| !name.is_empty());
        exports.extend(names.map(|name| Export { name: name.to_owned(), from: from.clone() }));
    }
    exports
}

/// Whether the documentation of an item has an example that runs; `None` if the source does not
/// define the item.
pub(crate) fn has_example(raw: &str, name: &str) -> Option<bool> {
    let mut docs: Vec<&str> = Vec::new();
    let mut in_attribute = false;
    for line in raw.lines() {
        if let Some(doc) = line.strip_prefix("///") {
            docs.push(doc.trim());
        } else if in_attribute || line.starts_with("#[") {
            in_attribute = !line.ends_with(']');
        } else if defines(line, name) {
            return Some(runs(&docs));
        } else {
            docs.clear();
        }
    }
    None
}

fn defines(line: &str, name: &str) -> bool {
    let Some((kind, rest)) = line.strip_prefix("pub ").and_then(|rest| rest.split_once(' ')) else {
        return false;
    };
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    ["struct", "enum", "trait", "type", "fn"].contains(&kind) && &rest[..end] == name
}

/// Whether one of the blocks of code is a test: `text`, `no_run`, `ignore` and their like are not.
fn runs(docs: &[&str]) -> bool {
    let fences = docs.iter().filter_map(|line| line.strip_prefix("```"));
    fences.step_by(2).any(|kind| kind.is_empty() || kind == "rust")
}

fn without() -> impl Iterator<Item = &'static str> {
    WITHOUT.iter().flat_map(|(_, names)| names.iter().copied())
}

/// What is wrong with the documentation of all that is public.
pub(crate) fn problems(sources: &[Source]) -> Vec<String> {
    let lists = sources.iter().filter(|source| LISTS.contains(&&*source.path));
    let exports: Vec<_> = lists.flat_map(|list| exports(&list.path, &list.raw)).collect();
    let mut problems = Vec::new();
    for Export { name, from } in &exports {
        let is_within = |source: &&Source| {
            let rest = source.path.strip_prefix(&**from).unwrap_or_default();
            (rest == ".rs" || rest.starts_with('/')) && !source.is_tests()
        };
        let mut found =
            sources.iter().filter(is_within).filter_map(|it| has_example(&it.raw, name));
        let may_lack = without().any(|it| it == name);
        match found.next() {
            None => problems.push(format!("{name} is not defined in {from}")),
            Some(false) if !may_lack => problems.push(format!("{name} has no example that runs")),
            Some(true) if may_lack => problems.push(format!("{name} has an example now")),
            Some(_) => {}
        }
        if found.next().is_some() {
            problems.push(format!("{name} is defined twice in {from}"));
        }
    }
    let is_public = |name: &str| exports.iter().any(|export| export.name == name);
    let unknown = without().filter(|name| !is_public(name));
    problems.extend(unknown.map(|name| format!("{name} is not public")));
    problems
}
