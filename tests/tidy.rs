//! The rules of the source tree, held by a test: which module may use which, where sockets, clocks,
//! threads and `unsafe` may stand, how long things may be, and what the repository may hold.
//!
//! The tables below are the rules. An exception is an entry there, with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[path = "tidy/doc_examples.rs"]
mod doc_examples;
#[path = "tidy/error_page.rs"]
mod error_page;
#[path = "tidy/feature_page.rs"]
mod feature_page;
#[path = "tidy/named_tests.rs"]
mod named_tests;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/self_test.rs"]
mod self_test;
#[path = "tidy/source.rs"]
mod source;

use source::Source;

/// The layers: a module uses only those with a lower number, and [`SHARED`].
const LAYERS: &[(&str, u8)] = &[
    ("planted", 0),
    ("random", 0),
    ("protocol", 0),
    ("event", 1),
    ("meter", 0),
    ("buffer", 0),
    ("sync", 0),
    ("policy", 1),
    ("cluster", 1),
    ("batch", 2),
    ("connection", 3),
    ("shard", 4),
    ("fetch", 4),
    ("io", 5),
    ("producer", 6),
    ("consumer", 6),
];

/// Modules that every layer may use, and what they use themselves: errors carry the protocol's
/// ids and codes, a configuration carries policies; the logger is code of the application's.
const SHARED: &[(&str, &[&str])] = &[
    ("problem", &["protocol"]),
    ("error", &["problem", "protocol"]),
    ("config", &["error", "problem", "protocol", "policy", "logging"]),
    ("locking", &[]),
    ("user_code", &[]),
    ("logging", &["user_code"]),
];

/// Modules that use nothing of the rest: the embedded broker is the client's opposite in every
/// test, so that sharing code would hide errors; the manual is text.
const APART: &[&str] = &["embedded", "manual"];

/// Where `unsafe` may stand. `*` stands for the rest of a file's name.
const UNSAFE_FILES: &[&str] = &[
    // Segments are handed out as raw parts of one mapping.
    "src/engine/buffer/arena.rs",
    // A lock and an owner of their own making, over an UnsafeCell.
    "src/engine/sync/open_lock.rs",
    "src/engine/sync/owner.rs",
    // Completion cells are reached by address and freed by whoever drops the last count.
    "src/engine/sync/cell*",
    // System calls that no crate wraps.
    "src/io/sys*",
];

/// Folders that may open sockets, read clocks and spawn threads: the drivers, and what is no part
/// of the client.
const DRIVERS: &[&str] = &["src/io/", "src/embedded/", "src/bin/", "src/main.rs"];

/// What only they may use, as tokens.
const DRIVERS_ONLY: &[&str] = &[
    "std : : net",
    "Instant : : now",
    "SystemTime : : now",
    ". elapsed (",
    "thread : : spawn",
    "thread : : scope",
    "thread : : Builder",
    "thread : : sleep",
    "mio : :",
    "socket2 : :",
];

/// What stands nowhere.
const NOWHERE: &[&str] = &["todo !", "unimplemented !", "dbg !"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;

/// What the repository's top level holds, dotfiles aside.
const TOP_LEVEL: &[&str] = &[
    "Cargo.toml",
    "Cargo.lock",
    "README.md",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "src",
    "tests",
    "benches",
    "examples",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust source of the repository.
fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.sort();
    assert!(!paths.is_empty(), "no sources below {}", root().display());
    let read = |path: &String| {
        let raw = std::fs::read_to_string(root().join(path)).expect("sources are readable UTF-8");
        Source::new(path, &raw)
    };
    paths.iter().map(read).collect()
}

fn collect(folder: &Path, paths: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("a listed entry is readable").path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let inner = path.strip_prefix(root()).expect("it was found below the root");
            paths.push(inner.to_string_lossy().replace('\\', "/"));
        }
    }
}

fn check(rule: impl Fn(&Source) -> Vec<String>) {
    let problems: Vec<String> = sources().iter().flat_map(rule).collect();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// The names of all tests.
fn all_tests() -> BTreeSet<String> {
    let mut paths = Vec::new();
    for folder in ["src", "tests"] {
        collect(&root().join(folder), &mut paths);
    }
    paths.retain(|path| !path.starts_with("tests/tidy"));
    paths.iter().flat_map(|path| named_tests::tests_of(&text_of(path))).collect()
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).expect("sources are readable UTF-8")
}

/// The manual names the tests that hold each rule: none is missing, none is invented.
#[test]
fn every_rule_and_fault_has_its_tests() {
    let problems = named_tests::problems(&text_of("src/manual/rules.md"), &all_tests());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// The manual names the tests that show each feature, or says that it is not there yet.
#[test]
fn every_feature_has_its_tests() {
    let problems = feature_page::problems(&text_of("src/manual/features.md"), &all_tests());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_feature_without_test_and_a_test_that_is_not_there_are_seen() {
    let page = text_of("src/manual/features.md");
    let tests = all_tests();
    let seen = |page: &str| feature_page::problems(page, &tests).len();
    assert_eq!(seen(&page), 0);
    assert_eq!(seen(&page.replacen("| purge |", "| something else |", 1)), 1);
    assert_eq!(seen(&page.replacen("`the_smoke_test`", "`no_such_test`", 1)), 1);
    assert_eq!(seen(&page.replacen("`the_smoke_test`", "tested by hand", 1)), 1);
}

#[test]
fn a_rule_without_test_and_a_test_without_row_are_seen() {
    let row = |tag: &str, tests: &str| format!("| {tag} | what | {tests} |\n");
    let rows = |kind: char, last: u32| (1..=last).map(move |n| format!("{kind}{n:02}"));
    let all: Vec<_> = rows('c', 68).chain(rows('f', 55)).collect();
    let page: String = all.iter().map(|tag| row(tag, &format!("`{tag}_test`"))).collect();
    let tests: BTreeSet<_> = all.iter().map(|tag| format!("{tag}_test")).collect();
    assert_eq!(named_tests::problems(&page, &tests), [""; 0]);
    let seen = |page: &str, tests: &BTreeSet<String>| named_tests::problems(page, tests).len();
    assert_eq!(seen(&page.replace(&row("c07", "`c07_test`"), ""), &tests), 2);
    assert_eq!(seen(&page.replace("`f15_test`", ""), &tests), 2);
    assert_eq!(seen(&page.replace("`f15_test`", "`f16_test`"), &tests), 2);
    let more = tests.iter().cloned().chain(["other_c07_too".to_owned()]).collect();
    assert_eq!(seen(&page, &more), 1);
    let raw = "#[test]\nfn c01_a() {\n}\nfn c02_no_test() {}\nTest { name: \"f01_b\", run }";
    assert_eq!(named_tests::tests_of(raw), ["c01_a", "f01_b"].map(String::from).into());
}

/// The manual has a row for each error that an application can meet.
#[test]
fn every_error_is_on_the_page_of_errors() {
    let read = |path: &str| {
        std::fs::read_to_string(root().join(path)).expect("sources are readable UTF-8")
    };
    let page = read("src/manual/errors.md");
    let problems = error_page::ENUMS.iter().flat_map(|(name, source)| {
        error_page::problems(&page, name, &error_page::variants(&read(source), name))
    });
    assert_eq!(problems.collect::<Vec<_>>(), [""; 0]);
}

#[test]
fn an_error_without_row_and_a_row_without_error_are_seen() {
    let raw = "pub enum E {\n    /// Doc.\n    #[error(\"x\")]\n    One(u8),\n    Two {\n        \
               Field: u8,\n    },\n    Three,\n}\n";
    let variants = error_page::variants(raw, "E");
    assert_eq!(variants, ["One", "Two", "Three"]);
    assert_eq!(error_page::variants(raw, "F"), [""; 0]);
    let page = "| [`E`](crate::E) | why |\n|---|---|\n| `One` | |\n| `Two` | |\n| `Three` | |\n";
    let seen = |page: &str| error_page::problems(page, "E", &variants);
    assert_eq!(seen(page), [""; 0]);
    assert_eq!(seen(&page.replace("| `Two` | |\n", "")), ["E::Two has no row"]);
    assert_eq!(seen(&page.replace("`Three`", "`Four`")).len(), 2);
    assert_eq!(seen(&page.replace("`Three`", "`One`")).len(), 2);
    assert_eq!(error_page::problems(page, "E", &[]).len(), 4);
}

/// Whoever meets a public item in the documentation sees how it is used, in code that is tested.
#[test]
fn every_public_item_has_an_example_that_runs() {
    let problems = doc_examples::problems(&sources());
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn an_item_without_an_example_that_runs_is_seen() {
    let list = "//! pub use a::Not;\npub mod p {\n    pub use crate::io::{\n        B,\n    };\n}\n\
                pub mod internals {\n    pub use crate::x::*;\n}\n#[cfg(x)]\npub use a::b::{C, d};";
    let exports = doc_examples::exports("src/lib.rs", list);
    let found: Vec<_> = exports.iter().map(|it| (&*it.name, &*it.from)).collect();
    assert_eq!(found, [("B", "src/io"), ("C", "src/a/b"), ("d", "src/a/b")]);
    let [export] = &doc_examples::exports("src/config/mod.rs", "pub use a::E;")[..] else {
        panic!("there is one");
    };
    assert_eq!((&*export.name, &*export.from), ("E", "src/config/a"));

    let seen = |kind: &str| {
        let docs = format!("/// Says.\n///\n/// ```{kind}\n/// f();\n/// ```\n");
        let raw = format!("{docs}pub struct A;\n\n/// Says.\n#[x(\n    y\n)]\npub enum B {{}}\n");
        assert_eq!(doc_examples::has_example(&raw, "B"), Some(false));
        assert_eq!(doc_examples::has_example(&raw, "C"), None);
        let raw = format!("{docs}#[x(\n    y\n)]\n#[z]\npub(crate) fn c() {{}}\npub fn d() {{}}\n");
        assert_eq!(doc_examples::has_example(&raw, "c"), None);
        assert_eq!(doc_examples::has_example(&raw, "d"), Some(false));
        let raw = format!("{docs}#[x(\n    y\n)]\n#[z]\npub trait C<T>: Send {{\n}}\n");
        doc_examples::has_example(&raw, "C").expect("it is there")
    };
    assert!(seen("") && seen("rust"));
    assert!(["text", "no_run", "ignore", "compile_fail", "toml"].into_iter().all(|it| !seen(it)));
}

#[test]
fn modules_use_only_layers_below() {
    check(rules::layers);
}

#[test]
fn modules_form_no_cycle() {
    let mut uses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        rules::add_uses(&source, &mut uses);
    }
    assert_eq!(rules::cycle(&uses), None);
}

#[test]
fn sockets_clocks_and_threads_stay_in_io() {
    check(rules::drivers);
}

#[test]
fn no_panic_of_the_logger_reaches_the_client() {
    check(rules::logging);
}

#[test]
fn unsafe_stays_in_the_listed_files() {
    check(rules::unsafe_code);
}

#[test]
fn files_functions_and_lines_are_short() {
    check(rules::sizes);
}

#[test]
fn nothing_is_left_undone() {
    check(rules::leftovers);
}

#[test]
fn modules_say_what_they_are_for() {
    check(rules::module_docs);
}

/// In the sources without their tests: what only tests need belongs to `[dev-dependencies]`.
#[test]
fn every_dependency_is_used() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("it is readable");
    assert_eq!(rules::unused_dependencies(&manifest, &sources()), Vec::<String>::new());
}

#[test]
fn the_top_level_holds_nothing_else() {
    let listed = Command::new("git").arg("ls-files").current_dir(root()).output();
    // A packaged source has no history to ask.
    let Ok(listed) = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    else {
        return;
    };
    assert_eq!(rules::top_level(&listed), Vec::<String>::new());
}
