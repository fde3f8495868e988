//! Many seeds, and what must hold in all of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::sim::{Rules, World};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Runs seeds until there were so many steps, or so many seeds; panics at the first that breaks a rule.
fn hold(seeds: std::ops::Range<u64>, most_steps: u64) {
    let (next, steps, published, republished) =
        (AtomicU64::new(seeds.start), AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    let drains = std::sync::Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || steps.load(Ordering::Relaxed) >= most_steps {
                        break;
                    }
                    let outcome = World::run(seed, &Rules::RIGHT, u64::MAX);
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    published.fetch_add(outcome.published, Ordering::Relaxed);
                    republished.fetch_add(outcome.republished, Ordering::Relaxed);
                    drains.lock().unwrap().extend(outcome.drained);
                    assert!(
                        outcome.found.is_empty(),
                        "seed {seed}: {:#?}\nreplay: UTILIZER_SEED={seed} cargo test -p utilizer-delivery --test it replay",
                        outcome.found
                    );
                }
            });
        }
    });
    let mut drains = drains.into_inner().unwrap();
    drains.sort_unstable();
    let steps = steps.into_inner();
    println!(
        "{} seeds, {steps} steps, {} published of which {} again, drained in the middle after {} s, at most {} s; {:.1} s",
        drains.len(),
        published.into_inner(),
        republished.into_inner(),
        drains.get(drains.len() / 2).copied().unwrap_or(0) / 1000,
        drains.last().copied().unwrap_or(0) / 1000,
        started.elapsed().as_secs_f64()
    );
}

#[test]
fn a_thousand_histories_keep_every_promise() {
    hold(0..number("UTILIZER_SEEDS", 1_000), u64::MAX);
}

/// `make sim-long`.
#[test]
#[ignore = "takes minutes; `make sim-long` runs it"]
fn a_hundred_million_steps_keep_every_promise() {
    hold(number("UTILIZER_FIRST_SEED", 1_000_000)..u64::MAX, number("UTILIZER_STEPS", 100_000_000));
}

/// One seed, for a closer look: `UTILIZER_SEED=7 cargo test -p utilizer-delivery --test it replay -- --nocapture`.
#[test]
fn replay() {
    let Ok(seed) = std::env::var("UTILIZER_SEED") else { return };
    let outcome = World::run(seed.parse().unwrap(), &Rules::RIGHT, u64::MAX);
    println!("{outcome:#?}");
    let found: BTreeMap<_, _> = outcome.found;
    assert!(found.is_empty(), "{found:#?}");
}

/// All that is found in many seeds, not only the first: UTILIZER_SEEDS=200 … survey -- --ignored --nocapture
#[test]
#[ignore = "for a closer look"]
fn survey() {
    let first = number("UTILIZER_FIRST_SEED", 0);
    let mut all: BTreeMap<_, (u64, u64, String)> = BTreeMap::new();
    let (mut steps, mut drains) = (0, Vec::new());
    let started = Instant::now();
    for seed in first..first + number("UTILIZER_SEEDS", 100) {
        let outcome = World::run(seed, &Rules::RIGHT, u64::MAX);
        steps += outcome.steps;
        drains.extend(outcome.drained);
        for (fault, (_, first)) in outcome.found {
            all.entry(fault).or_insert((0, seed, first)).0 += 1;
        }
    }
    drains.sort_unstable();
    let at = |share: usize| drains.get(drains.len() * share / 100).copied().unwrap_or(0) / 1000;
    println!(
        "{steps} steps in {:.1} s; drained: {} {} {} {:?}",
        started.elapsed().as_secs_f64(),
        at(50),
        at(90),
        at(99),
        drains.last()
    );
    all.iter().for_each(|(fault, (seeds, seed, first))| println!("{fault:?} in {seeds} seeds, first {seed}: {first}"));
}
