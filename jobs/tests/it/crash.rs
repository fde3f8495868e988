//! What is left when the daemon is killed.

use std::fs;

use serde_json::Value;
use test_servers::wait_for;

use super::support::{Daemon, shell};

#[test]
fn an_id_runs_once_also_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DIR", folder.path().to_str().unwrap())];
    let jobs = shell(
        "count",
        "echo $UTILIZER_JOB_ID >> $DIR/ran; cat",
        "env = [\"DIR\"]\nmax_concurrent = 8\nrate = { count = 0 }",
    );
    let mut daemon = Daemon::start_with(&jobs, &environment);
    let mut answered = Vec::new();
    for round in 0..15 {
        // Killed at any point between the request and its answer.
        let id = format!("round-{round}");
        let stream = daemon.begin("count", &id, "{\"a\":1}");
        std::thread::sleep(std::time::Duration::from_micros(u64::from(round % 5u32) * 1500));
        daemon.program.kill();
        drop(stream);
        daemon.program = super::support::run(daemon.folder.path(), &environment);
        let got = daemon.run("count", Some(&id), "{\"a\":1}");
        assert_eq!(got.status, 200, "{got:?}");
        let outcome = got.json()["outcome"].as_str().unwrap().to_owned();
        assert!(["exited", "unknown"].contains(&outcome.as_str()), "{got:?}");
        answered.push((id, outcome, got.body));
    }
    let ran = fs::read_to_string(folder.path().join("ran")).unwrap_or_default();
    daemon.program.kill();
    daemon.program = super::support::run(daemon.folder.path(), &environment);
    for (id, outcome, body) in &answered {
        let times = ran.lines().filter(|line| line == id).count();
        assert!(times <= 1 && (outcome != "exited" || times == 1), "{id} {outcome}: {times}\n{ran}");
        // The answer stays the same, whatever dies.
        assert_eq!(&daemon.run("count", Some(id), "{}").body, body);
        // Whatever ran has a start in the audit, and each start has its end or is reported.
        let events = daemon.events(id);
        assert!(times == 0 || events.contains(&"start".to_owned()), "{id}: {events:?}");
        let starts = events.iter().filter(|event| *event == "start").count();
        let ends = events.iter().filter(|event| *event != "start").count();
        assert!(starts <= ends, "{id}: {events:?}");
    }
}

#[test]
fn a_start_without_an_end_is_reported_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [("DIR", folder.path().to_str().unwrap())];
    let jobs = shell("long", "echo run >> $DIR/ran; exec sleep 60", "env = [\"DIR\"]\ntimeout = \"1h\"");
    let mut daemon = Daemon::start_with(&jobs, &environment);
    let stream = daemon.begin("long", "l-1", "{}");
    wait_for("it runs", || folder.path().join("ran").exists().then_some(()));
    daemon.program.kill();
    drop(stream);
    assert_eq!(daemon.events("l-1"), ["start"]);
    // The crash came in the middle of a line.
    let torn = |name: &str| {
        let path = daemon.path(name);
        fs::write(&path, fs::read(&path).unwrap().into_iter().chain(*b"{\"event\":\"sta").collect::<Vec<_>>()).unwrap();
    };
    torn("state/runs.ndjson");
    daemon.program = super::support::run(daemon.folder.path(), &environment);
    daemon.program.says("the daemon ended before it saw the end");
    assert_eq!(daemon.events("l-1"), ["start", "interrupted"]);
    let got = daemon.run("long", Some("l-1"), "{}");
    assert_eq!((got.status, got.json()["outcome"].as_str()), (200, Some("unknown")), "{got:?}");
    assert_eq!(daemon.metric(r#"utilizer_jobs_runs_total{job="long",outcome="unknown"}"#), Some(1.0));
    assert_eq!(fs::read_to_string(folder.path().join("ran")).unwrap(), "run\n");
    // Reported once.
    daemon.program.kill();
    daemon.program = super::support::run(daemon.folder.path(), &environment);
    assert_eq!(daemon.events("l-1"), ["start", "interrupted"]);
    // A dead daemon ends nothing; its unit does.
    end_all(&folder);
}

/// Ends the commands that a killed daemon left, by what they have open.
fn end_all(folder: &tempfile::TempDir) {
    let wanted = format!("DIR={}", folder.path().display());
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environ = fs::read(entry.path().join("environ")).unwrap_or_default();
        let mine = environ.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes());
        let job = environ.split(|byte| *byte == 0).any(|pair| pair.starts_with(b"UTILIZER_JOB="));
        if let (true, Some(pid)) = (mine && job, entry.file_name().to_str().and_then(|name| name.parse().ok())) {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
    }
}

#[test]
fn what_cannot_be_noted_is_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = shell("noted", "echo run >> $DIR/ran", "env = [\"DIR\"]");
    let daemon = Daemon::start_with(&jobs, &[("DIR", folder.path().to_str().unwrap())]);
    fs::remove_file(daemon.path("audit.log")).unwrap();
    fs::create_dir(daemon.path("audit.log")).unwrap();
    let got = daemon.run("noted", Some("n"), "{}");
    assert!(got.status == 503 && got.header("retry-after") == Some("30"), "{got:?}");
    assert!(got.body.contains("can't write the audit") && got.body.contains("is no regular file"), "{got:?}");
    assert_eq!(daemon.get("/readyz").status, 503);
    assert!(!folder.path().join("ran").exists());
    // Once it is mended, the same id runs.
    fs::remove_dir(daemon.path("audit.log")).unwrap();
    assert_eq!(daemon.run("noted", Some("n"), "{}").json()["exit_code"], 0);
    assert_eq!(
        (daemon.get("/readyz").status, fs::read_to_string(folder.path().join("ran")).unwrap().as_str()),
        (200, "run\n")
    );
    assert_eq!(daemon.events("n"), ["start", "end"]);
}

#[test]
fn a_state_file_full_of_the_past_is_written_anew() {
    let jobs = shell("talks", "head -c 65536 /dev/zero | tr '\\0' x", "rate = { count = 0 }\nmax_output = \"64KiB\"");
    let mut daemon = Daemon::start(&jobs);
    for n in 0..40 {
        assert_eq!(daemon.run("talks", Some(&format!("t-{n}")), "{}").json()["stdout_bytes"], 65536);
    }
    daemon.again();
    let first: Value = daemon.run("talks", Some("t-0"), "{}").json();
    assert_eq!((first["stdout_bytes"].as_u64(), first["id"].as_str()), (Some(65536), Some("t-0")));
    assert!(!daemon.path("state/runs.ndjson.new").exists());
}
