//! `utilizer check rules`.

use std::io::Write;
use std::process::{Command, Stdio};

const UTILIZER: &str = env!("CARGO_BIN_EXE_utilizer");

/// Exit code and stdout, called in a folder with these files.
fn check(files: &[(&str, &str)], words: &[&str], stdin: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut command = Command::new(UTILIZER);
    command.args(["check", "rules"]).args(words).current_dir(folder.path());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

const RULES: &str =
    "groups:\n  - name: g\n    rules:\n      - alert: Busy\n        expr: rate(busy_total{a=\"1\"}[10m]) > 1\n";

#[test]
fn faults_are_told_with_their_places() {
    let bad = "groups:\n  - name: g\n    rules:\n      - alert: A\n        expr: up @ 5\n      - alert: B\n        \
               expr: rate(up)\n";
    let (code, text) = check(&[("good.yml", RULES), ("bad.yml", bad)], &["good.yml", "bad.yml"], "");
    let lines: Vec<&str> = text.lines().collect();
    assert!(code == Some(1) && lines.len() == 3, "{text}");
    assert!(lines[0].starts_with("bad.yml:5:18: ") && lines[0].contains("\"@\""), "{text}");
    assert!(lines[1].starts_with("bad.yml:7:20: ") && lines[1].contains("range vector"), "{text}");
    assert_eq!(lines[2], "2 faults in 2 files");
}

#[test]
fn good_files_tell_what_they_read() {
    let (code, text) = check(&[("r.yml", RULES)], &["r.yml"], "");
    let wanted = "r.yml: 1 rule in 1 group\nThey read:\n  busy_total{a=\"1\"}, back 10m\n";
    assert_eq!((code, text.as_str()), (Some(0), wanted));
    let metrics = "# TYPE busy_total counter\nbusy_total{a=\"1\"} 1\nbusy_total{a=\"1\",b=\"c d\"} 2 1700000000000\n\
                   other 1\n";
    let (_, text) = check(&[("r.yml", RULES)], &["--metrics", "-", "r.yml"], metrics);
    assert!(text.ends_with("back 10m, 2 series on this host\n"), "{text}");
    let (_, text) = check(&[("r.yml", RULES)], &["--metrics", "-", "r.yml"], "other 1\n");
    assert!(text.ends_with("back 10m, nothing on this host\n"), "{text}");
}

#[test]
fn unit_tests_run_over_the_files_that_they_name() {
    let test = |fires: &str| {
        format!(
            "rule_files: ['../rules/*.yml']\ntests:\n  - interval: 1m\n    \
             input_series: [ {{ series: 'busy_total{{a=\"1\"}}', values: 0+120x20 }} ]\n    \
             alert_rule_test: [ {{ eval_time: 15m, alertname: Busy, exp_alerts: [{fires}] }} ]\n"
        )
    };
    let (good, bad) = (test("{ exp_labels: { a: 1 } }"), test(""));
    let files = [("rules/r.yml", RULES), ("tests/good.yml", &good), ("tests/bad.yml", &bad)];
    let (code, text) = check(&files, &["--test", "tests/good.yml"], "");
    assert_eq!((code, text.as_str()), (Some(0), "tests/good.yml: SUCCESS\n"));
    let (code, text) = check(&files, &["--test", "tests/good.yml", "tests/bad.yml"], "");
    let wanted = "tests/bad.yml: FAILED\n  tests/bad.yml:5:24: alert Busy at 15m: expected (-) and got (+):\n      \
                  + {a=\"1\", alertname=\"Busy\"} {}\n";
    assert!(code == Some(1) && text.ends_with(wanted), "{text}");
    let (code, text) = check(&[("t.yml", "rule_files: [none.yml]\n")], &["--test", "t.yml"], "");
    assert_eq!((code, text.as_str()), (Some(0), "t.yml: no file fits none.yml\nt.yml: SUCCESS\n"));
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let (code, text) = check(&[], &["none.yml"], "");
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert_eq!(check(&[], &[], "").0, Some(2));
}
