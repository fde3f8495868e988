//! Kills at random moments: nothing is lost, and what comes twice can be told by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rustix::process::Signal;
use test_servers::wait_for;

use super::super::support::{Hooks, Reply};
use super::{QUICK, Scene};

/// How many kills, where `UTILIZER_KILLS` does not say.
const KILLS: usize = 12;

/// Numbers that look random (xorshift), by a seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        for shift in [13_i32, -7, 17] {
            self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
        }
        self.0 % bound
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn kills_lose_nothing_and_double_only_what_is_under_way() {
    let kills = number("UTILIZER_KILLS").map_or(KILLS, |kills| kills as usize);
    let seed = number("UTILIZER_FIRST_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("UTILIZER_FIRST_SEED={seed} plays this again");
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let scene = Scene::new();
    // Slow enough to be killed under way, and not always willing.
    let hooks = Hooks::with(|number, _| match number % 5 {
        1 => Reply::Status(503),
        3 => Reply::Slowly(0),
        _ => Reply::Slowly(60),
    });
    let notify = format!("[route]\nreceiver = 'ops'\n{QUICK}{}", scene.webhook("ops", &hooks));
    let setup = scene.setup(&notify);
    for round in 0..kills {
        let mut agent = setup.start();
        agent.address();
        // One begins, one goes on and one ends in each round.
        let units: Vec<_> = (round.saturating_sub(1)..=round).map(|unit| format!("u{unit}")).collect();
        scene.down(&units);
        std::thread::sleep(Duration::from_millis(chance.below(500)));
        if chance.below(3) == 0 {
            // Close to the decision, wherever that is on this machine.
            let unit = format!("unit=\"u{round}\"");
            wait_for("it fires", || agent.get("/metrics").body.contains(&unit).then_some(()));
            std::thread::sleep(Duration::from_micros(chance.below(150_000)));
        }
        agent.signal(Signal::KILL);
        agent.ended();
    }
    let agent = setup.start();
    let last = format!("u{}", kills - 1);
    hooks.hears("firing", "unit", &last);
    scene.down::<&str>(&[]);
    // Of everything that was told, the end comes, too.
    let of = |state: &str| -> BTreeSet<String> {
        let alerts = hooks.told().iter().flat_map(|told| told.alerts("unit")).collect::<Vec<_>>();
        alerts.into_iter().filter(|(_, is, _)| is == state).map(|(.., unit)| unit).collect()
    };
    wait_for("every end", || of("firing").is_subset(&of("resolved")).then_some(()));
    agent.metric_becomes(&super::of_webhook("waiting", "ops"), |waiting| waiting == 0.0);

    let mut bodies: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut states: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut last_id = String::new();
    let mut doubled = 0;
    let told = hooks.told();
    for (at, one) in told.iter().enumerate() {
        // Those that were answered by 503 are sent again in any case.
        let seen = bodies.contains_key(one.id());
        doubled += usize::from(seen && at > 0 && (at - 1) % 5 != 1);
        assert!(!seen || last_id == one.id(), "{} came again after others", one.id());
        last_id = one.id().to_owned();
        bodies.entry(one.id().to_owned()).or_default().insert(one.body.clone());
        for (_, state, unit) in one.alerts("unit") {
            let states = states.entry(unit).or_default();
            if states.last() != Some(&state) {
                states.push(state);
            }
        }
    }
    assert!(bodies.values().all(|bodies| bodies.len() == 1), "an id stands for one body");
    assert!(doubled <= kills, "{doubled} doubles by {kills} kills");
    for (unit, states) in &states {
        // What ended while it waited is told as what it is.
        assert!(states == &["firing", "resolved"] || states == &["resolved"], "{unit}: {states:?}");
    }
    // A unit that was down for less time than it takes to look is none of ours.
    eprintln!("{} requests, {} notifications, {doubled} doubles, {} alerts", told.len(), bodies.len(), states.len());
    scene.hides_secrets(&agent);
}
