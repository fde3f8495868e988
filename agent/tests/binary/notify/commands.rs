//! Commands by the real `utilizer-jobs`: an alert runs one once, whoever is killed meanwhile.

use std::path::Path;

use rustix::process::Signal;
use test_servers::{Program, built, wait_for};

use super::{QUICK, SECRET, Scene};

/// A daemon with these jobs, each by a name and a script.
fn jobs(scene: &Scene, jobs: &[(&str, &str)]) -> Program {
    let path = |name: &str| scene.path(name);
    let mut config = format!(
        "[jobs]\nsocket = {:?}\nstate_dir = {:?}\naudit = {:?}\n",
        path("jobs.sock"),
        path("jobs"),
        path("audit.log")
    );
    std::fs::create_dir_all(path("jobs")).unwrap();
    for (name, script) in jobs {
        config += &format!(
            "[[job]]\nname = {name:?}\nargv = [\"/bin/sh\", \"-c\", {script:?}]\nrate = {{ count = 0 }}\ntimeout = \"5s\"\n\
             working_dir = {:?}\n",
            scene.folder.path().display().to_string()
        );
    }
    std::fs::write(path("jobs.toml"), config).unwrap();
    let program = Program::start(&built("utilizer-jobs"), &["--config", &path("jobs.toml")], &[]);
    program.wait_for("it listens", |_| Path::new(&path("jobs.sock")).exists().then_some(()));
    program
}

fn lines(scene: &Scene, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(scene.path(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn receiver(name: &str, job: &str) -> String {
    format!("[[receivers]]\nname = '{name}'\n[[receivers.command]]\njob = '{job}'\n")
}

fn series(what: &str, receiver: &str) -> String {
    format!(r#"utilizer_notify_{what}{{receiver="{receiver}",integration="command",number="0"}}"#)
}

#[test]
fn an_alert_runs_its_command_once_also_when_the_agent_is_killed_meanwhile() {
    let scene = Scene::new();
    // It goes on when the test says so.
    let script =
        "cat >> input; echo >> input; echo began >> runs; while [ ! -e go ]; do sleep 0.05; done; echo ended >> runs";
    let _jobs = jobs(&scene, &[("mend", script)]);
    let notify = format!("[route]\nreceiver = 'mend'\n{QUICK}{}", receiver("mend", "mend"));
    let setup = scene.setup(&notify).set("jobs.socket", scene.path("jobs.sock"));
    let mut agent = setup.start();
    scene.down(&["a"]);
    wait_for("the command runs", || (lines(&scene, "runs") == ["began"]).then_some(()));
    agent.signal(Signal::KILL);
    agent.ended();

    let agent = setup.start();
    agent.says("a notification did not reach mend/command/0: the job \"mend\" still runs");
    std::fs::write(scene.path("go"), "").unwrap();
    agent.metric_becomes(&series("sent_total", "mend"), |sent| sent == 1.0);
    assert_eq!(lines(&scene, "runs"), ["began", "ended"]);
    // Its end is another notification.
    scene.down::<&str>(&[]);
    agent.metric_becomes(&series("sent_total", "mend"), |sent| sent == 2.0);
    assert_eq!(lines(&scene, "runs"), ["began", "ended", "began", "ended"]);
    let inputs: Vec<serde_json::Value> =
        lines(&scene, "input").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&inputs[0]["status"], &inputs[1]["status"]), (&"firing".into(), &"resolved".into()));
    assert_eq!((&inputs[0]["host"], &inputs[0]["commonLabels"]["unit"]), (&"h".into(), &"a".into()));
    assert_eq!(inputs[0]["values"], serde_json::json!([1.0]));
}

#[test]
fn a_command_that_fails_or_takes_too_long_is_not_run_again() {
    let scene = Scene::new();
    let slow = "trap 'exit 0' TERM; echo slow >> runs; while :; do sleep 0.1; done";
    let daemon = jobs(&scene, &[("fails", "echo fails >> runs; exit 3"), ("slow", slow)]);
    let names = ["fails", "slow", "missing"];
    let routes: String =
        names.iter().map(|name| format!("[[route.routes]]\nreceiver = '{name}'\ncontinue = true\n")).collect();
    let receivers: String = names.iter().map(|name| receiver(name, name)).collect();
    let desk = super::Hooks::start();
    let webhook = scene.webhook("desk", &desk);
    let notify = format!("report_to = 'desk'\n[route]\nreceiver = 'desk'\n{QUICK}{routes}{receivers}{webhook}");
    let agent = scene.setup(&notify).set("jobs.socket", scene.path("jobs.sock")).start();
    scene.down(&["a"]);
    for (name, why) in [
        ("fails", "the job \"fails\" ended with exit code 3"),
        ("slow", "the job \"slow\" did not end by itself: timed_out"),
        ("missing", "it answered 404"),
    ] {
        agent.says(&format!("a notification of 1 alerts to {name}/command/0 was given up: {why}"));
    }
    let reported = |name: &str| {
        let target = format!("{name}/command/0");
        desk.waits(name, |told| told.alerts("receiver").iter().any(|(_, _, of)| *of == target))
    };
    names.iter().for_each(|name| drop(reported(name)));
    let mut runs = lines(&scene, "runs");
    runs.sort_unstable();
    assert_eq!(runs, ["fails", "slow"]);
    assert_eq!(daemon.log().matches(SECRET).count(), 0);
    scene.hides_secrets(&agent);
}

#[test]
fn a_command_waits_for_the_daemon_that_runs_it() {
    let scene = Scene::new();
    let notify = format!("[route]\nreceiver = 'mend'\n{QUICK}{}", receiver("mend", "mend"));
    let agent = scene.setup(&notify).set("jobs.socket", scene.path("jobs.sock")).start();
    scene.down(&["a"]);
    agent.says(&format!("a notification did not reach mend/command/0: can't connect to {}", scene.path("jobs.sock")));
    let _jobs = jobs(&scene, &[("mend", "echo ran >> runs")]);
    agent.metric_becomes(&series("sent_total", "mend"), |sent| sent == 1.0);
    assert_eq!(lines(&scene, "runs"), ["ran"]);
}
