//! The shortest histories that show what a rule is for.

use crate::sim::{Faults, Outcome, PG, Rules, World};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;

/// One host and both groups, nothing goes wrong but what `happens`. Records are made until `produce_until`; the clock of
/// [`Outcome::drained`] begins at `heal`.
fn history(rules: &Rules, produce_until: u64, heal: u64, happens: impl FnOnce(&mut World)) -> Outcome {
    let mut world = World::plain(1, rules, 1, Faults::none());
    (world.plan.produce_until, world.plan.heal) = (produce_until, heal);
    world.plan.end = heal + 24 * 60 * MINUTE;
    world.plan.most_drain = u64::MAX;
    world.start_all(0);
    happens(&mut world);
    world.finish(u64::MAX)
}

fn drained(outcome: &Outcome) -> u64 {
    assert!(outcome.found.is_empty(), "{:?}", outcome.found);
    outcome.drained.unwrap()
}

#[test]
fn a_long_trouble_is_over_soon_after_it_ends_because_the_wait_has_a_cap() {
    let run = |rules: &Rules| {
        history(rules, 10 * MINUTE, 5 * 60 * MINUTE, |world| {
            // The exporters are full for hours: they take nothing, and say nothing.
            world.after(MINUTE, |world| world.faults.exporter_records = 0);
            world.after(5 * 60 * MINUTE, |world| world.faults.exporter_records = usize::MAX);
        })
    };
    let most = 25 * MINUTE;
    assert!(drained(&run(&Rules::RIGHT)) < most);
    assert!(drained(&run(&Rules { no_cap: true, ..Rules::RIGHT })) > most);
}

#[test]
fn a_lost_online_is_made_up_for_by_a_probe() {
    let run = |rules: &Rules| {
        history(rules, 200 * SECOND, 300 * SECOND, |world| {
            // All exporters die, which the agent is told; that they are back it is not.
            world.after(50 * SECOND, |world| {
                for exporter in 0..world.exporters.len() {
                    world.exporter_crash(exporter, 200 * SECOND);
                }
            });
            world.after(240 * SECOND, |world| world.faults.drop = 10_000);
            world.after(270 * SECOND, |world| world.faults.drop = 0);
        })
    };
    assert!(drained(&run(&Rules::RIGHT)) < 30 * MINUTE);
    let broken = run(&Rules { no_probe: true, ..Rules::RIGHT });
    assert!(broken.drained.is_none(), "{broken:?}");
}

#[test]
fn a_lost_confirmation_is_made_up_for_by_a_whole_one_and_nothing_is_sent_again() {
    let run = |rules: &Rules| {
        history(rules, 130 * SECOND, 140 * SECOND, |world| {
            // What is held is confirmed; that it was committed is lost on the way.
            world.after(20 * SECOND, |world| world.stores.iter_mut().for_each(|store| store.down = true));
            world.after(170 * SECOND, |world| world.faults.drop_confirmation = 10_000);
            world.after(175 * SECOND, |world| world.stores.iter_mut().for_each(|store| store.down = false));
            world.after(280 * SECOND, |world| world.faults.drop_confirmation = 0);
        })
    };
    let (right, broken) = (run(&Rules::RIGHT), run(&Rules { delta_only: true, ..Rules::RIGHT }));
    assert!(drained(&right) < 12 * MINUTE, "{right:?}");
    assert!(drained(&broken) >= 12 * MINUTE, "{broken:?}");
    assert!(broken.published > right.published, "every record was sent again: {broken:?}, {right:?}");
}

#[test]
fn a_member_that_comes_back_without_its_disk_is_sent_its_records_again() {
    let run = |rules: &Rules| {
        history(rules, 130 * SECOND, 900 * SECOND, |world| {
            world.after(20 * SECOND, |world| world.stores.iter_mut().for_each(|store| store.down = true));
            world.after(200 * SECOND, |world| {
                for exporter in 0..world.exporters.len() {
                    world.exporter_crash(exporter, 60 * SECOND);
                    world.exporters[exporter].lose_disk();
                }
            });
            world.after(900 * SECOND, |world| world.stores.iter_mut().for_each(|store| store.down = false));
        })
    };
    assert!(drained(&run(&Rules::RIGHT)) < 35 * MINUTE);
    let broken = run(&Rules { endless_lease: true, ..Rules::RIGHT });
    assert!(broken.drained.is_none(), "{broken:?}");
}

/// Found in seed 1008908: declared lost, then a dead letter of a member that came back, then the commit is undone.
#[test]
fn a_failover_takes_back_that_a_lost_record_is_a_dead_letter() {
    let outcome = history(&Rules::RIGHT, 2 * MINUTE, 20 * MINUTE, |world| {
        (world.faults.failover, world.faults.poison) = (true, 10_000);
        world.stores[PG as usize].down = true;
        // One member is away with what it holds, the other one books what the host gives up meanwhile.
        world.after(MINUTE, |world| {
            world.exporter_crash(0, 10 * MINUTE);
            world.stores[PG as usize].down = false;
            world.faults.agent_bytes = 0;
        });
        world.after(15 * MINUTE, |world| {
            let dead = &world.stores[PG as usize].dead;
            assert!(!dead.is_disjoint(&world.given_up), "nothing that was given up is a dead letter: {dead:?}");
            world.fail_over(PG);
        });
    });
    drained(&outcome);
}
