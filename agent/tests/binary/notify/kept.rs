//! Other configurations while it runs, and disks without room.

use rustix::process::Signal;
use test_servers::wait_for;

use super::super::delivery::Mounted;
use super::super::support::{Hooks, Reply};
use super::{QUICK, Scene, of_webhook};

#[test]
fn a_reload_takes_other_receivers_and_keeps_what_was_told() {
    let (scene, old, new) = (Scene::new(), Hooks::start(), Hooks::start());
    let to = |name: &str, hooks: &Hooks| format!("[route]\nreceiver = '{name}'\n{QUICK}{}", scene.webhook(name, hooks));
    let first = scene.setup(&to("old", &old));
    let mut agent = first.start();
    scene.down(&["a"]);
    old.hears("firing", "unit", "a");
    agent.metric_becomes(&of_webhook("sent_total", "old"), |sent| sent == 1.0);
    // What waits for one that goes is given up, and said.
    old.answers(|_, _| Reply::Status(503));
    scene.down(&["a", "b"]);
    old.hears("firing", "unit", "b");
    agent.metric_becomes(&of_webhook("retries_total", "old"), |retries| retries >= 1.0);
    agent.reload(&scene.setup(&to("new", &new)));
    agent.says("a notification of 1 alerts to old/webhook/0 was given up: the configuration has it no more");
    let report = new.waits("the report", |told| told.header("utilizer-reason") == "failure");
    assert_eq!(report.alerts("receiver")[0].2, "old/webhook/0");
    scene.down(&["a", "b", "c"]);
    new.hears("firing", "unit", "c");
    // The new one is told what still fires, too, and of its end.
    new.hears("firing", "unit", "a");
    scene.down(&["c"]);
    new.hears("resolved", "unit", "a");

    for (number, (bad, place)) in [
        ("[route]\nreceiver = 'nwe'\n", "notify.route.receiver: there is no receiver \"nwe\"; there are: new"),
        ("[route]\nreciever = 'new'\n", "unknown key notify.route.reciever; did you mean receiver"),
        ("max_alerts = 0\n[route]\nreceiver = 'new'\n", "notify.max_alerts"),
        ("[route]\nreceiver = 'new'\nescalation = 'up'\n", "notify.route.escalation"),
        ("[[inhibit]]\ntarget_matchers = ['a=b']\n[route]\nreceiver = 'new'\n", "notify.inhibit[0].source_matchers"),
    ]
    .into_iter()
    .enumerate()
    {
        let setup = scene.setup(&format!("{bad}{}", scene.webhook("new", &new)));
        agent.reload(&setup);
        agent.says_times("the configuration is not reloaded, the old one stays", number + 1);
        let said = agent.log();
        let line = said.lines().rev().find(|line| line.contains(place));
        assert!(line.is_some_and(|line| line.contains("agent.toml:")), "{place}: {said}");
    }
    scene.down(&["c", "d"]);
    new.hears("firing", "unit", "d");
    agent.stop();
    scene.keeps_no_secrets();
}

#[test]
fn a_full_disk_keeps_nobody_from_being_told() {
    let Some(disk) = Mounted::new("2m") else { return };
    let (scene, hooks) = (Scene::new(), Hooks::start());
    let notify = format!("[route]\nreceiver = 'ops'\n{QUICK}{}", scene.webhook("ops", &hooks));
    let states = disk.path().join("spool");
    let setup = scene.setup(&notify).set("spool.directory", states.display().to_string());
    let mut agent = setup.start();
    scene.down(&["a"]);
    hooks.hears("firing", "unit", "a");
    let file = states.join("notifications.state");
    wait_for("the state", || file.exists().then_some(()));
    // Somebody else fills the disk to the last byte.
    assert!(std::fs::write(disk.path().join("other"), vec![0; 4 << 20]).is_err());
    scene.down(&["a", "b"]);
    hooks.hears("firing", "unit", "b");
    agent.says("can't be written to ");
    agent.metric_becomes("utilizer_notify_state_failures_total", |count| count >= 1.0);
    // And back.
    std::fs::remove_file(disk.path().join("other")).unwrap();
    let failures = "utilizer_notify_state_failures_total";
    wait_for("the states are written again", || {
        let before = agent.metric(failures);
        std::thread::sleep(std::time::Duration::from_secs(6));
        (agent.metric(failures) == before).then_some(())
    });
    assert!(std::fs::read_to_string(&file).unwrap().contains("b is down"));
    agent.signal(Signal::KILL);
    agent.ended();
    let agent = setup.start();
    scene.down(&["b", "c"]);
    hooks.hears("firing", "unit", "c");
    hooks.hears("resolved", "unit", "a");
    agent.metric_becomes(&of_webhook("waiting", "ops"), |waiting| waiting == 0.0);
}
