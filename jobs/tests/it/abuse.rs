//! Requests that want more than they may have.

use std::io::Write;
use std::os::unix::net::UnixStream;

use super::support::{Daemon, run_request, shell};

fn with_param() -> String {
    "[[job]]\nname = \"unit\"\nargv = [\"/bin/echo\", \"restart\", \"{unit}\"]\nrate = { count = 0 }\n[job.params.unit]\npattern = \"[a-z@.-]+\\\\.service\"\n".to_owned()
}

#[test]
fn a_value_is_one_argument_within_its_bounds_or_none() {
    let daemon = Daemon::start(&with_param());
    let ask = |value: &str| daemon.run("unit", None, &format!("{{\"params\":{{\"unit\":{value}}}}}"));
    assert_eq!(ask("\"nginx.service\"").json()["stdout_tail"], "restart nginx.service\n");
    for value in [
        "\"nginx.service; reboot\"",
        "\"$(reboot).service\"",
        "\"`reboot`.service\"",
        "\"a.service b.service\"",
        "\"a.service\\nb.service\"",
        "\"a.service\\u0000\"",
        "\"--now.service\"",
        "\"../../etc.service/x\"",
        "\"{unit}.service\"",
        "[\"a.service\"]",
        "{\"a\":\"b.service\"}",
        "null",
        "true",
        "12",
        "\"\"",
    ] {
        let got = ask(value);
        assert_eq!(got.status, 422, "{value}: {got:?}");
        assert!(!got.body.contains("reboot"), "{got:?}");
    }
    for body in [
        "{}",
        "[]",
        "\"x\"",
        "1",
        "{\"params\":[]}",
        "{\"unit\":\"a.service\"}",
        "{\"params\":{\"unit\":\"a.service\"},\"params\":{}}",
    ] {
        assert_eq!(daemon.run("unit", None, body).status, 422, "{body}");
    }
    assert_eq!(daemon.metric(r#"utilizer_jobs_requests_refused_total{reason="params"}"#), Some(22.0));
    assert_eq!(daemon.audit().len(), 2, "only the one that ran is in the audit");
}

#[test]
fn wrong_requests_are_refused_and_the_daemon_goes_on() {
    let daemon = Daemon::start(&shell("x", "cat", "rate = { count = 0 }"));
    let id_of = |id: &str| daemon.run("x", Some(id), "{}").status;
    for (status, got) in [
        (404, daemon.run("y", None, "{}")),
        (404, daemon.run("", None, "{}")),
        (405, daemon.run("x/", None, "{}")),
        (404, daemon.get("/v1/run/x/a")),
        (404, daemon.run("..%2fx", None, "{}")),
        (404, daemon.run("%78", None, "{}")),
        (404, daemon.get("/v1/nothing")),
        (404, daemon.get("/v1/run/x/")),
        (405, daemon.get("/v1/run/x")),
        (405, daemon.send(&run_request("x", None, "{}").replace("/v1/run/x", "/v1/jobs"))),
        (400, daemon.run("x", None, "no json")),
        (400, daemon.run("x", None, "{\"a\":")),
        (400, daemon.run("x", None, "{} {}")),
        (400, daemon.run("x", None, &"[".repeat(100_000))),
        (400, daemon.send("POST /v1/run/x HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n")),
        (400, daemon.send("GET /v1/jobs HTTP/1.1 extra\r\n\r\n")),
        (400, daemon.send("\0\0\0\0\r\n\r\n")),
        (
            413,
            daemon.send("POST /v1/run/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 1048577\r\n\r\n"),
        ),
        (422, daemon.send(&run_request("x", Some("a"), "{}").replace("host: x", "host: x\r\nidempotency-key: b"))),
        (431, daemon.send(&format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(5000)))),
    ] {
        assert_eq!(got.status, status, "{got:?}");
    }
    for id in ["", " ", "a b", "ü", "a/b", "a\u{7f}", &"x".repeat(129)] {
        assert!([400, 422].contains(&id_of(id)), "{id:?}");
    }
    assert_eq!(id_of(&"x".repeat(128)), 200);
    // A body that is longer than it says, by chunks.
    let chunk = format!("40000\r\n{}\r\n", "1".repeat(0x40000)).repeat(5);
    let chunked = format!(
        "POST /v1/run/x HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"
    );
    assert!([413, 0].contains(&daemon.send(&chunked).status));
    let secret = daemon.run("x", None, "{\"password\": \"hush-hush\", broken");
    assert!(
        secret.status == 400 && secret.body.contains("line 1, column") && !secret.body.contains("hush"),
        "{secret:?}"
    );
    assert_eq!(daemon.run("x", None, "").json()["stdout_tail"], "{}");
    assert_eq!(daemon.metric("utilizer_jobs_running"), Some(0.0));
    assert!(!daemon.program.log().contains("hush-hush") && !daemon.program.log().contains("BUG"));
}

#[test]
fn who_says_nothing_does_not_keep_others_out() {
    let daemon = Daemon::start(&shell("x", "cat", "rate = { count = 0 }\nmax_concurrent = 8"));
    // Half a head, half a body, a large body of which nothing comes: more of these than are read at once.
    let stalled: Vec<UnixStream> = (0..90)
        .map(|n| {
            let mut stream = UnixStream::connect(daemon.path("jobs.sock")).unwrap();
            let text = match n % 3 {
                0 => "POST /v1/run/x HTT",
                1 => "POST /v1/run/x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{",
                _ => "POST /v1/run/x HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n{",
            };
            stream.write_all(text.as_bytes()).unwrap();
            stream
        })
        .collect();
    for n in 0..20 {
        assert_eq!(daemon.run("x", None, "{}").status, 200, "{n}");
    }
    drop(stalled);
    assert_eq!(daemon.run("x", None, &format!("\"{}\"", "x".repeat(100_000))).status, 200);
}
