//! The fuzz targets, for libFuzzer. They are those of `tests/fuzzing`, memory bounds included.

#[path = "../../fuzzing/targets/mod.rs"]
mod targets;

pub use targets::run;

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;
