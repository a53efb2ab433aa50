//! The rules must fire: each is shown what it has to find, and what it has to leave alone.

use std::collections::BTreeMap;

use super::rules;
use super::source::{Import, Source};

fn imports(path: &str, raw: &str) -> Vec<String> {
    let imports = Source::new(path, raw).imports();
    imports.into_iter().map(|Import { name, .. }| name).collect()
}

/// Asserts that `rule` finds something in `raw` exactly if `expected`.
fn fires(rule: fn(&Source) -> Vec<String>, path: &str, raw: &str, expected: bool) {
    let problems = rule(&Source::new(path, raw));
    assert_eq!(!problems.is_empty(), expected, "{path}: {raw}\n{problems:?}");
}

#[test]
fn imports_are_found_in_all_their_forms() {
    let shard = "src/engine/shard/pack.rs";
    assert_eq!(imports(shard, "use crate::batch::Lane;"), ["batch"]);
    assert_eq!(
        imports(shard, "use crate::{io::{A, B}, error, batch::*};"),
        ["io", "error", "batch"]
    );
    assert_eq!(imports(shard, "use super::super::io::Loop;"), ["io"]);
    assert_eq!(imports(shard, "fn f() { super::super::io::run(); }"), ["io"]);
    assert_eq!(imports("src/engine/shard/mod.rs", "use super::io;"), ["io"]);
    assert_eq!(imports("src/engine/shard/mod.rs", "mod inner { use super::super::io; }"), ["io"]);
    assert_eq!(imports("src/engine/shard/mod.rs", "mod inner { use super::io; }"), [""; 0]);
    assert_eq!(imports("src/error.rs", "use super::protocol::X;"), ["protocol"]);
    assert_eq!(imports(shard, "use super::pack; use super::{timers, ready};"), [""; 0]);
    assert_eq!(imports(shard, "mod a { mod b {} } use super::super::io;"), ["io"]);
}

#[test]
fn comments_strings_and_tests_do_not_count() {
    let shard = "src/engine/shard/pack.rs";
    for ignored in [
        "// use crate::io;",
        "//! [`crate::io`]\n/* a /* nested */ use crate::io; */",
        "const A: &str = \"crate::io \\\" crate::io\";",
        "const A: &str = r#\"crate::io \" crate::io\"#;",
        "#[cfg(test)]\nmod tests { use crate::io; }",
        "#[cfg(test)]\n#[path = \"x.rs\"]\nmod tests { fn f() { if a { crate::io::x() } } }",
        "#[cfg(all(test, not(loom)))]\nuse crate::io;",
    ] {
        assert_eq!(imports(shard, ignored), [""; 0], "{ignored}");
    }
    for counted in [
        "const Q: char = '\"'; use crate::io; const R: char = '\"';",
        "fn f<'a>(x: &'a str) -> &'a str { crate::io::x() }",
        "const E: char = '\\''; use crate::io;",
        "#[cfg(test)]\nmod tests { fn f() {} }\nuse crate::io;",
        "#[cfg(not(test))]\nuse crate::io;",
        "#[cfg(any(test, feature = \"x\"))]\nuse crate::io;",
    ] {
        assert_eq!(imports(shard, counted), ["io"], "{counted}");
    }
}

#[test]
fn layers_fire_upward_sideways_and_on_the_unknown() {
    let rule = rules::layers;
    fires(
        rule,
        "src/engine/shard/mod.rs",
        "use crate::{batch, config, error, protocol::X};",
        false,
    );
    fires(rule, "src/engine/shard/mod.rs", "use crate::io::X;", true);
    fires(rule, "src/engine/shard/mod.rs", "use crate::producer::X;", true);
    fires(rule, "src/engine/buffer/pool.rs", "use crate::sync::X;", true);
    fires(rule, "src/producer/mod.rs", "use crate::consumer::X;", true);
    fires(rule, "src/engine/shard/mod.rs", "use crate::Payload;", true);
    fires(rule, "src/engine/shard/mod.rs", "use crate::*;", true);
    fires(rule, "src/io/mod.rs", "use crate::embedded::X;", true);
    fires(rule, "src/embedded/mod.rs", "use crate::protocol::X;", true);
    fires(rule, "src/error.rs", "use crate::policy::X;", true);
    fires(rule, "src/config/mod.rs", "use crate::{policy::X, error::Y};", false);
    fires(rule, "src/config/mod.rs", "use crate::cluster::X;", true);
    fires(rule, "src/helpers/mod.rs", "", true);
    fires(rule, "src/helpers.rs", "", true);
    fires(rule, "src/lib.rs", "pub use crate::producer::Producer;", false);
}

#[test]
fn cycles_are_found() {
    let mut uses = BTreeMap::new();
    for (path, raw) in [
        ("src/engine/policy/mod.rs", "use crate::config::X;"),
        ("src/config/mod.rs", "use crate::error::X;"),
        ("src/error.rs", "use crate::protocol::X;"),
    ] {
        rules::add_uses(&Source::new(path, raw), &mut uses);
    }
    assert_eq!(rules::cycle(&uses), None);
    let back = Source::new("src/engine/protocol/a.rs", "use crate::config::X;");
    rules::add_uses(&back, &mut uses);
    let cycle = rules::cycle(&uses).expect("there is one");
    assert_eq!(cycle, "config -> error -> protocol -> config");
}

#[test]
fn drivers_and_unsafe_fire_outside_their_files() {
    let rule = rules::drivers;
    for forbidden in [
        "use std::net::TcpStream;",
        "fn f() { let now = std::time::Instant::now(); }",
        "fn f() { SystemTime::now(); }",
        "fn f(x: Instant) { x.elapsed(); }",
        "fn f() { std::thread::spawn(g); }",
        "fn f() { thread::Builder::new(); }",
        "use mio::Poll;",
        "use socket2::Socket;",
    ] {
        fires(rule, "src/engine/shard/mod.rs", forbidden, true);
        fires(rule, "src/io/mod.rs", forbidden, false);
        fires(rule, "src/embedded/mod.rs", forbidden, false);
        let tests = format!("#[cfg(test)]\nmod tests {{ {forbidden} }}");
        fires(rule, "src/engine/shard/mod.rs", &tests, false);
    }
    fires(rule, "src/engine/shard/mod.rs", "use std::time::{Duration, Instant};", false);

    let rule = rules::unsafe_code;
    for forbidden in [
        "fn f() { unsafe { g() } }",
        "unsafe impl Send for X {}",
        "unsafe fn f() {}",
        "#![allow(unsafe_code)]",
    ] {
        fires(rule, "src/engine/shard/mod.rs", forbidden, true);
        fires(rule, "src/engine/sync/open_lock.rs", forbidden, false);
        fires(rule, "src/engine/sync/cell_store.rs", forbidden, false);
    }
    fires(rule, "src/engine/shard/mod.rs", "// unsafe\n#![deny(unsafe_code)]", false);
}

#[test]
fn sizes_fire_and_tests_are_not_counted() {
    let rule = rules::sizes;
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines));
    fires(rule, "src/engine/shard/mod.rs", &body(68), false);
    fires(rule, "src/engine/shard/mod.rs", &body(69), true);
    fires(rule, "src/engine/shard/tests.rs", &body(69), false);
    let typed =
        format!("impl X {{\nfn f(a: [u8; 4]) -> Y\nwhere Z: W {{\n{}}}\n}}", "g();\n".repeat(69));
    fires(rule, "src/engine/shard/mod.rs", &typed, true);
    fires(rule, "src/engine/shard/mod.rs", &format!("trait T {{ fn f(); }}\n{}", body(60)), false);

    let code = "const A: u8 = 1;\n";
    fires(rule, "src/engine/shard/mod.rs", &code.repeat(600), false);
    fires(rule, "src/engine/shard/mod.rs", &code.repeat(601), true);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", code.repeat(300));
    fires(rule, "src/engine/shard/mod.rs", &format!("{}{tests}", code.repeat(600)), false);

    fires(rule, "src/engine/shard/mod.rs", &format!("//{}", "ä".repeat(98)), false);
    fires(rule, "tests/x.rs", &format!("//{}", "x".repeat(99)), true);
}

#[test]
fn leftovers_docs_and_strangers_fire() {
    let rule = rules::leftovers;
    fires(rule, "tests/x.rs", &format!("// {}: later", concat!("TO", "DO")), true);
    fires(rule, "src/a.rs", &format!("/* {} */", concat!("FIX", "ME")), true);
    for marker in ["todo!()", "unimplemented!(\"x\")", "dbg!(x)"] {
        fires(rule, "src/a.rs", &format!("fn f() {{ {marker} }}"), true);
    }
    fires(rule, "src/a.rs", "fn todo() {} // a to-do list; todo", false);

    let rule = rules::module_docs;
    fires(rule, "src/engine/shard/mod.rs", "mod pack;", true);
    fires(rule, "src/engine/shard/mod.rs", "//! shard\n", true);
    fires(rule, "src/engine/shard/mod.rs", "//! Layer 4: everything a loop does.\n", false);
    fires(rule, "src/engine/shard/pack.rs", "mod x;", false);

    let listed = "Cargo.toml\nsrc/lib.rs\n.ci/run\nnotes/plan.md\nscratch.rs\n";
    assert_eq!(rules::top_level(listed), ["notes", "scratch.rs"]);
}

#[test]
fn a_dependency_that_only_tests_or_comments_name_is_unused() {
    let manifest = "[dependencies]\na-b = \"1\"\nc = { version = \"1\" }\n\n[features]\nd = []\n";
    let unused =
        |path: &str, raw: &str| rules::unused_dependencies(manifest, &[Source::new(path, raw)]);
    assert_eq!(unused("src/x.rs", "use a_b::X; fn f() { c::g() }"), [""; 0]);
    assert_eq!(unused("src/x.rs", "use a_b::X; // c::g"), ["c"]);
    assert_eq!(unused("src/x.rs", "use c::X; #[cfg(test)] mod tests { use a_b::X; }"), ["a-b"]);
    assert_eq!(unused("tests/x.rs", "use a_b::X; use c::X;"), ["a-b", "c"]);
}
