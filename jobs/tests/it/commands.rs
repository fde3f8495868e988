//! How commands run and end.

use std::time::{Duration, Instant};

use super::support::{Daemon, answer, gone, shell};

#[test]
fn the_time_limit_ends_the_whole_group() {
    let folder = tempfile::tempdir().unwrap();
    // The grandchild takes no notice of being asked, and holds the pipes.
    let script =
        "(trap '' TERM; echo $$ > $DIR/child; sh -c 'echo $$ > $DIR/grandchild; sleep 1000' & sleep 1000) & wait";
    let jobs = shell("slow", script, "timeout = \"300ms\"\nenv = [\"DIR\"]");
    let daemon = Daemon::start_with(&jobs, &[("DIR", folder.path().to_str().unwrap())]);
    let got = daemon.run("slow", Some("s"), "{}");
    let result = got.json();
    assert_eq!(
        (got.status, result["outcome"].as_str(), result["timed_out"].as_bool()),
        (200, Some("timed_out"), Some(true))
    );
    assert_eq!(result["signal"], 15);
    let grandchild = std::fs::read_to_string(folder.path().join("grandchild")).unwrap();
    gone(grandchild.trim());
    assert_eq!(daemon.metric(r#"utilizer_jobs_runs_total{job="slow",outcome="timed_out"}"#), Some(1.0));
}

#[test]
fn who_takes_no_notice_of_being_asked_is_killed() {
    let daemon = Daemon::start(&shell("deaf", "trap '' TERM; while :; do sleep 0.1; done", "timeout = \"200ms\""));
    let result = daemon.run("deaf", None, "{}").json();
    assert_eq!((result["outcome"].as_str(), result["signal"].as_i64()), (Some("timed_out"), Some(9)));
}

#[test]
fn what_a_command_leaves_running_holds_up_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = shell("leaves", "sleep 1000 & echo $! > $DIR/left; echo ready", "env = [\"DIR\"]")
        + &shell(
            "escapes",
            "setsid sh -c 'echo $$ > $DIR/escaped; exec sleep 1000' & sleep 0.3; echo ready",
            "env = [\"DIR\"]",
        );
    let daemon = Daemon::start_with(&jobs, &[("DIR", folder.path().to_str().unwrap())]);
    let result = daemon.run("leaves", None, "{}").json();
    assert_eq!((result["exit_code"].as_i64(), result["stdout_tail"].as_str()), (Some(0), Some("ready\n")));
    gone(std::fs::read_to_string(folder.path().join("left")).unwrap().trim());
    // Out of the group it is out of reach, but nobody waits for it.
    let result = daemon.run("escapes", None, "{}").json();
    assert_eq!((result["exit_code"].as_i64(), result["stdout_tail"].as_str()), (Some(0), Some("ready\n")));
    let escaped = std::fs::read_to_string(folder.path().join("escaped")).unwrap();
    let pid = rustix::process::Pid::from_raw(escaped.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn endless_output_is_bounded_and_counted() {
    let jobs = shell("endless", "yes", "timeout = \"500ms\"\nmax_output = \"1KiB\"")
        + &shell("binary", "printf '\\377\\376\\000x'", "")
        + &shell("silent", "exec <&- >&- 2>&-; sleep 0.3; exit 4", "");
    let daemon = Daemon::start(&jobs);
    let result = daemon.run("endless", None, "{}").json();
    assert_eq!(result["stdout_tail"].as_str().unwrap().len(), 1024);
    assert!(result["stdout_bytes"].as_u64().unwrap() > 10_000, "{result}");
    assert!(daemon.metric(r#"utilizer_jobs_output_dropped_bytes_total{job="endless"}"#).unwrap() > 9000.0);
    assert_eq!(daemon.run("binary", None, "{}").json()["stdout_tail"], "\u{fffd}\u{fffd}\0x");
    assert_eq!(daemon.run("silent", None, "{}").json()["exit_code"], 4, "closed pipes are no end");
}

#[test]
fn a_command_need_not_read_what_it_is_handed() {
    let jobs = shell("deaf", "exit 0", "") + &shell("counts", "wc -c", "");
    let daemon = Daemon::start(&jobs);
    let body = format!("\"{}\"", "x".repeat((1 << 20) - 2));
    assert_eq!(daemon.run("deaf", None, &body).json()["exit_code"], 0);
    assert_eq!(daemon.run("counts", None, &body).json()["stdout_tail"].as_str().unwrap().trim(), (1 << 20).to_string());
}

#[test]
fn what_cannot_be_started_is_an_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "text").unwrap();
    let jobs = format!(
        "[[job]]\nname = \"missing\"\nargv = [\"/nowhere/program\"]\n[[job]]\nname = \"plain\"\nargv = [{plain:?}]\n{}{}",
        shell("folder", "true", "working_dir = \"/nowhere\""),
        shell("signal", "kill -USR1 $$", ""),
    );
    let daemon = Daemon::start(&jobs);
    assert!(daemon.program.log().contains("job missing: /nowhere/program can't be run as it is: No such file"));
    for (job, why) in [
        ("missing", "can't start /nowhere/program in /: No such file"),
        ("plain", "Permission denied"),
        ("folder", "in /nowhere: No such file"),
    ] {
        let got = daemon.run(job, Some(job), "{}");
        let result = got.json();
        assert_eq!(
            (got.status, result["outcome"].as_str(), result["exit_code"].as_i64()),
            (200, Some("not_started"), None)
        );
        assert!(result["error"].as_str().unwrap().contains(why), "{result}");
        assert_eq!(daemon.events(job), ["start", "end"]);
    }
    let result = daemon.run("signal", None, "{}").json();
    assert_eq!((result["outcome"].as_str(), result["signal"].as_i64()), (Some("signaled"), Some(10)));
}

#[test]
fn a_stop_ends_commands_and_answers_who_waits() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = shell(
        "deaf",
        "trap '' TERM; echo $$ > $DIR/pid; while :; do sleep 0.1; done",
        "env = [\"DIR\"]\ntimeout = \"1h\"",
    );
    let mut daemon = Daemon::start_with(&jobs, &[("DIR", folder.path().to_str().unwrap())]);
    let stream = daemon.begin("deaf", "d", "{}");
    let pid = test_servers::wait_for("it runs", || {
        std::fs::read_to_string(folder.path().join("pid")).ok().filter(|text| text.ends_with('\n'))
    });
    let begun = Instant::now();
    daemon.program.signal(rustix::process::Signal::TERM);
    // While it stops, nothing new begins.
    let refused = test_servers::wait_for("requests are refused", || {
        Some(daemon.run("deaf", Some("new"), "{}")).filter(|answer| answer.status != 429)
    });
    assert!(refused.status == 503 && refused.header("retry-after").is_some(), "{refused:?}");
    let got = answer(stream);
    assert_eq!((got.status, got.json()["outcome"].as_str()), (200, Some("stopped")), "{got:?}");
    assert_eq!(daemon.program.ended(), Some(0));
    // 5 s are promised; a machine under load gets some more.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    gone(pid.trim());
    assert_eq!(daemon.events("d"), ["start", "end"]);
    assert!(!daemon.path("jobs.sock").exists());
}
