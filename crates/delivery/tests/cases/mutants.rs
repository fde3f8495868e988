//! The protocol with one rule broken must be caught: what a rule is there for stays known, and the simulation is sharp.

use crate::sim::{Fault, Rules, World};

/// Seeds until a mutant must be caught.
const MOST_SEEDS: u64 = 1_500;

fn caught(mutant: &str, rules: &Rules, by: &[Fault]) {
    let mut found = None;
    for seed in 0..MOST_SEEDS {
        let outcome = World::run(seed, rules, u64::MAX);
        let wrong = outcome.found.iter().find(|(fault, _)| by.contains(fault));
        if let Some((fault, (_, what))) = wrong {
            found = Some(format!("{mutant}: {fault:?} in seed {seed}: {what}"));
            break;
        }
    }
    println!("{}", found.unwrap_or_else(|| panic!("{mutant}: not caught in {MOST_SEEDS} seeds")));
}

macro_rules! mutants {
    ($($(#[$doc:meta])* $name:ident: $($fault:ident)|+;)*) => {
        $(
            $(#[$doc])*
            #[test]
            fn $name() {
                caught(stringify!($name), &Rules { $name: true, ..Rules::RIGHT }, &[$(Fault::$fault),+]);
            }
        )*
    };
}

mutants! {
    free_on_puback: FreedEarly;
    no_ledger: Doubled;
    confirm_before_commit: FreedEarly;
    endless_lease: Stuck;
    dropped_without_boot: Lost | FalselyLost;
    no_look_up: Doubled;
    no_check_of_outstanding: Doubled;
    no_query_id: Doubled;
    lost_is_final: Lost | Doubled | FreedEarly | FalselyLost | Late | Stuck;
    declared_after_eviction: Lost;
    declared_once: Declared;
    exporter_evicts: Stuck | Late;
    dead_letter_not_booked: Stuck;
    retire_once: Stuck;
    share_shards: Stuck | Late;
    reshard_without_ledgers: Doubled;
    forget_by_age: Doubled;
}
