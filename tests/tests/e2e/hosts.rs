//! Which hosts there are, and whether they live.

use rustix::process::Signal;

use super::site::{HOST, Site, postgres, wait_for};

#[test]
fn a_host_is_online_until_it_stops_and_offline_when_it_is_killed() {
    let site = Site::new();
    let database = postgres().create_database();
    let _exporter =
        site.start_ready("utilizer-exporter-postgres", &site.postgres_exporter("a", &postgres().url(&database)));
    let becomes = |state: &str, boots: usize| -> String {
        wait_for(&format!("{HOST} becomes {state}"), || {
            let row = postgres().psql(
                &database,
                "SELECT host, state, interval_seconds, inventory->>'cpu_count', version, boot FROM hosts",
            );
            let cpus = std::thread::available_parallelism().unwrap();
            let version = env!("CARGO_PKG_VERSION");
            let boot = row.strip_prefix(&format!("{HOST}|{state}|1|{cpus}|{version}|"))?;
            assert!(boots == 1 || !boot.is_empty());
            Some(boot.to_owned())
        })
    };

    let mut agent = site.start("utilizer-agent", &site.agent(), &[]);
    let first = becomes("online", 1);
    agent.stop();
    assert_eq!(becomes("offline", 1), first, "a clean stop tells of the run that ends");

    let mut agent = site.start("utilizer-agent", &site.agent(), &[]);
    let second = becomes("online", 2);
    assert_ne!(first, second, "each run has an id of its own");
    agent.signal(Signal::KILL);
    assert_eq!(agent.ended(), None, "it was killed");
    assert_eq!(becomes("offline", 2), second, "the broker publishes the last will");

    // The state is kept by the broker: who comes later sees it.
    let messages = site.subscribe("utilizer/v1/telemetry/+/status");
    wait_for("the retained status", || {
        messages.messages().iter().any(|(_, status)| status["state"] == "offline").then_some(())
    });
}
