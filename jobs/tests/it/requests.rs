//! What is asked for and what is answered.

use std::thread;

use serde_json::json;

use super::support::{Daemon, answer, shell};

#[test]
fn a_command_gets_the_json_and_its_end_is_answered() {
    let jobs = shell("copy", "cat; echo \"$UTILIZER_JOB $UTILIZER_JOB_ID $HOME${{SECRET-unset}}\" >&2; exit 3", "");
    let mut daemon = Daemon::start_with(&jobs, &[("SECRET", "hush"), ("HOME", "/h")]);
    let body = r#"{"alerts": [{"token": "xyzzy-token"}],  "ü": 1}"#;
    let got = daemon.run("copy", Some("a-1"), body);
    assert_eq!(got.status, 200, "{got:?}");
    let result = got.json();
    assert_eq!((&result["id"], &result["job"], &result["outcome"]), (&json!("a-1"), &json!("copy"), &json!("exited")));
    assert_eq!(
        (&result["exit_code"], &result["signal"], &result["timed_out"]),
        (&json!(3), &json!(null), &json!(false))
    );
    assert_eq!(result["stdout_tail"], body, "as it was sent, to the byte");
    assert_eq!(result["stderr_tail"], "copy a-1 unset\n", "nothing of the daemon's environment but PATH");
    assert_eq!(result["stdout_bytes"], body.len());
    assert_eq!(daemon.metric(r#"utilizer_jobs_runs_total{job="copy",outcome="failed"}"#), Some(1.0));
    assert_eq!(daemon.metric(r#"utilizer_jobs_run_seconds_count{job="copy"}"#), Some(1.0));
    // What was handed in is in no log, audit or page.
    daemon.program.stop();
    let audit = std::fs::read_to_string(daemon.path("audit.log")).unwrap();
    assert!(!audit.contains("xyzzy-token") && !daemon.program.log().contains("xyzzy-token"), "{audit}");
    assert_eq!(daemon.events("a-1"), ["start", "end"]);
    let start = &daemon.audit()[0];
    assert_eq!(start["peer"]["uid"], rustix::process::getuid().as_raw());
    assert_eq!(start["peer"]["pid"], std::process::id());
    assert_eq!(start["argv"][0], "/bin/sh");
}

#[test]
fn an_id_runs_once_and_is_answered_as_the_first_time() {
    let jobs = shell("once", "echo run >> $DIR/ran; cat $DIR/go 2>/dev/null; echo done", "env = [\"DIR\"]")
        + &shell("other", "true", "");
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(&jobs, &[("DIR", folder.path().to_str().unwrap())]);
    let first = daemon.run("once", Some("x:1"), "{}");
    for _ in 0..3 {
        let again = daemon.run("once", Some("x:1"), r#"{"other": "body"}"#);
        assert_eq!((again.status, &again.body), (200, &first.body));
        assert_eq!((first.header("idempotency-replayed"), again.header("idempotency-replayed")), (None, Some("true")));
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("ran")).unwrap(), "run\n");
    // An id is one of its job: a notification may start several.
    let other = daemon.run("other", Some("x:1"), "{}");
    assert_eq!(
        (other.status, other.json()["job"].as_str(), other.header("idempotency-replayed")),
        (200, Some("other"), None)
    );
    assert_eq!(daemon.get("/v1/run/once/x:1").body, first.body);
    assert_eq!(daemon.get("/v1/run/once/x:2").status, 404);
    assert_eq!(daemon.metric("utilizer_jobs_requests_repeated_total"), Some(3.0));
    // Without an id, each request is a run.
    let ids: Vec<_> = (0..2).map(|_| daemon.run("once", None, "").json()["id"].to_string()).collect();
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_running_id_is_told_and_goes_on_without_its_asker() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo $$ > $DIR/pid; while [ ! -e $DIR/go ]; do sleep 0.05; done; echo end";
    let daemon =
        Daemon::start_with(&shell("wait", script, "env = [\"DIR\"]"), &[("DIR", folder.path().to_str().unwrap())]);
    let stream = daemon.begin("wait", "w", "{}");
    test_servers::wait_for("it runs", || folder.path().join("pid").exists().then_some(()));
    let second = daemon.run("wait", Some("w"), "{}");
    assert_eq!((second.status, second.header("retry-after")), (409, Some("1")), "{second:?}");
    assert_eq!(second.json()["state"], "running");
    let busy = daemon.run("wait", Some("v"), "{}");
    assert_eq!((busy.status, busy.header("retry-after")), (429, Some("1")), "{busy:?}");
    assert_eq!(daemon.metric("utilizer_jobs_running"), Some(1.0));
    drop(stream);
    std::fs::write(folder.path().join("go"), "").unwrap();
    let result = test_servers::wait_for("the run ends", || {
        Some(daemon.run("wait", Some("w"), "{}")).filter(|answer| answer.status == 200)
    });
    assert_eq!(result.json()["stdout_tail"], "end\n");
    assert_eq!(daemon.events("w"), ["start", "end"]);
}

#[test]
fn rates_and_cooldowns_hold_also_over_a_restart() {
    let jobs =
        shell("rated", "true", "rate = { count = 2, per = \"1h\" }") + &shell("cool", "true", "cooldown = \"30m\"");
    let mut daemon = Daemon::start(&jobs);
    assert_eq!(daemon.run("rated", None, "").status, 200);
    assert_eq!(daemon.run("rated", None, "").status, 200);
    assert_eq!(daemon.run("cool", None, "").status, 200);
    for round in 0..2 {
        let rated = daemon.run("rated", None, "");
        let wait: u64 = rated.header("retry-after").unwrap().parse().unwrap();
        assert!(rated.status == 429 && (3000..=3600).contains(&wait), "{round}: {rated:?}");
        let cool = daemon.run("cool", Some("refused"), "");
        let wait: u64 = cool.header("retry-after").unwrap().parse().unwrap();
        assert!(cool.status == 429 && (1500..=1800).contains(&wait), "{round}: {cool:?}");
        daemon.again();
    }
    assert_eq!(daemon.get("/v1/run/cool/refused").status, 404, "an id that was refused is free");
}

#[test]
fn a_hundred_at_once_each_run_once() {
    let jobs = shell("many", "sleep 0.2; cat", "max_concurrent = 100\nrate = { count = 0 }");
    let mut daemon = Daemon::start_with(&jobs, &[("UTILIZER_JOBS__JOBS__MAX_CONCURRENT", "40")]);
    let daemon_ref = &daemon;
    let counts = thread::scope(|scope| {
        // Each id twice, at the same time.
        let asked: Vec<_> = (0..100)
            .map(|n| {
                scope.spawn(move || {
                    loop {
                        let id = format!("id-{}", n / 2);
                        let got = daemon_ref.run("many", Some(&id), &format!("{{\"n\":{}}}", n / 2));
                        match got.status {
                            200 => {
                                assert_eq!(got.json()["stdout_tail"], format!("{{\"n\":{}}}", n / 2));
                                return 1;
                            }
                            409 | 429 => thread::sleep(std::time::Duration::from_millis(20)),
                            _ => panic!("{got:?}"),
                        }
                    }
                })
            })
            .collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
    });
    assert_eq!(counts, 100);
    assert_eq!(daemon.metric(r#"utilizer_jobs_runs_total{job="many",outcome="succeeded"}"#), Some(50.0));
    assert_eq!(daemon.metric("utilizer_jobs_running"), Some(0.0));
    daemon.program.stop();
    let audit = daemon.audit();
    for event in ["start", "end"] {
        assert_eq!(audit.iter().filter(|line| line["event"] == event).count(), 50);
    }
}

#[test]
fn jobs_are_listed_without_their_commands() {
    let jobs = shell("plain", "echo hidden-word", "description = \"Does it\"")
        + "[[job]]\nname = \"unit\"\nargv = [\"/bin/echo\", \"{unit}\", \"{n}\"]\n[job.params.unit]\nvalues = [\"a\"]\nfrom = \"/commonLabels/name\"\n\
           [job.params.n]\npattern = \"[0-9]+\"\n";
    let daemon = Daemon::start(&jobs);
    let listed = daemon.get("/v1/jobs");
    assert!(!listed.body.contains("hidden-word"));
    let jobs = listed.json();
    assert_eq!(jobs["jobs"][0]["description"], "Does it");
    assert_eq!(
        jobs["jobs"][1]["params"],
        json!({"unit": {"from": "/commonLabels/name", "values": ["a"]}, "n": {"from": "/params/n", "pattern": "[0-9]+"}})
    );
    let ran = daemon.run("unit", None, r#"{"commonLabels": {"name": "a"}, "params": {"n": 7}}"#);
    assert_eq!(ran.json()["stdout_tail"], "a 7\n");
    assert_eq!((daemon.get("/healthz").status, daemon.get("/readyz").status, daemon.get("/").status), (200, 200, 200));
}

#[test]
fn a_keep_alive_connection_asks_often() {
    use std::io::Write;
    let daemon = Daemon::start(&shell("echo", "cat", ""));
    let mut stream = std::os::unix::net::UnixStream::connect(daemon.path("jobs.sock")).unwrap();
    let one = "POST /v1/run/echo HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(one.as_bytes()).unwrap();
    stream.write_all(one.replace("host: x", "host: x\r\nconnection: close").as_bytes()).unwrap();
    let mut text = answer(stream);
    text.head += &text.body.clone();
    assert_eq!(text.head.matches("\"outcome\":\"exited\"").count(), 2, "{text:?}");
}
