//! Feeds every fuzz target with golden bytes, the corpus, and seeded mutations of both, for a
//! bounded time. `TIDEGATE_FUZZ_SECONDS` sets it; what failed is printed, as hexadecimal, and fails
//! again when it is put into `tests/fuzz/corpus/TARGET/`.

mod corpus;
mod targets;

use std::panic::catch_unwind;
use std::time::{Duration, Instant};

use targets::TARGETS;

#[global_allocator]
static ALLOCATOR: targets::memory::Counting = targets::memory::Counting;

/// Mutations of one target, at most.
const MUTATIONS_MAX: u32 = 2_000_000;

/// Time for each target.
fn time_for_each() -> Duration {
    let seconds = std::env::var("TIDEGATE_FUZZ_SECONDS").ok();
    let seconds = seconds.map(|text| text.parse::<f64>().expect("a number of seconds"));
    Duration::from_secs_f64(seconds.unwrap_or(5.0) / TARGETS.len() as f64)
}

/// The generator of Steele, Lea and Flood: any seed will do.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// Changes a few places of `bytes`: flips, sets, cuts, repeats, or takes over from `other`.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const TELLING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, 0xfe, 4, 0x10];
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = TELLING[random.below(TELLING.len())],
            2 if at < bytes.len() => bytes[at] = random.next() as u8,
            3 => bytes.truncate(at),
            4 => {
                let end = (at + random.below(8)).min(bytes.len());
                bytes[at..end].fill(TELLING[random.below(TELLING.len())]);
            }
            5 if bytes.len() < 4_096 => {
                let part = bytes[at..(at + random.below(40)).min(bytes.len())].to_vec();
                bytes.splice(at..at, part);
            }
            _ if !other.is_empty() && bytes.len() < 4_096 => {
                let from = random.below(other.len());
                let end = (from + random.below(60)).min(other.len());
                bytes.splice(at..at, other[from..end].iter().copied());
            }
            _ => {}
        }
    }
}

fn check(target: &targets::Target, bytes: &[u8]) {
    if let Err(panic) = catch_unwind(|| (target.run)(bytes)) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{} fails on {hex}", target.name);
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn f25_no_bytes_from_outside_panic_or_take_memory_that_they_do_not_carry() {
    for target in TARGETS {
        let seeds = corpus::seeds(target.name);
        assert!(!seeds.is_empty(), "{} begins with nothing", target.name);
        check(target, &[]);
        seeds.iter().for_each(|seed| check(target, seed));
        let end = Instant::now() + time_for_each();
        let mut random = Random(1);
        let (mut runs, mut bytes) = (0, Vec::new());
        while runs < MUTATIONS_MAX && (runs % 64 != 0 || Instant::now() < end) {
            bytes.clone_from(&seeds[random.below(seeds.len())]);
            let other = &seeds[random.below(seeds.len())];
            mutate(&mut bytes, other, &mut random);
            check(target, &bytes);
            runs += 1;
        }
        println!("{}: {} seeds, {runs} mutations", target.name, seeds.len());
    }
}

/// libFuzzer takes files: `TIDEGATE_FUZZ_CORPUS=FOLDER` has them written there.
#[test]
fn writes_the_seeds_as_files() {
    let Ok(folder) = std::env::var("TIDEGATE_FUZZ_CORPUS") else { return };
    for target in TARGETS {
        let folder = std::path::Path::new(&folder).join(target.name);
        std::fs::create_dir_all(&folder).unwrap();
        for (index, seed) in corpus::seeds(target.name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index:03}")), seed).unwrap();
        }
    }
}

#[test]
#[should_panic(expected = "bytes were taken")]
fn memory_over_the_limit_is_noticed() {
    targets::memory::bounded(1_000, || drop(Vec::<u8>::with_capacity(1_001)));
}

#[test]
fn every_target_has_its_program() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for target in TARGETS {
        let program = format!("fuzz_targets/{}.rs", target.name);
        assert!(folder.join(&program).is_file(), "{program}");
        assert!(manifest.contains(&program), "{program} is not in tests/fuzz/Cargo.toml");
    }
}
