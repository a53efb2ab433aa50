//! Examples as processes.
//!
//! `cargo test` builds the examples; `cargo test --test NAME` alone does not.

use std::path::PathBuf;
use std::process::Command;

/// A command that runs an example, which lies beside the folder of the tests.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("a test knows where it lies");
    let profile = test.ancestors().nth(2).expect("tests lie in target/PROFILE/deps");
    let mut path: PathBuf = profile.join("examples").join(name);
    path.set_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --examples`, with `--release` if the tests have it",
        path.display()
    );
    Command::new(path)
}
