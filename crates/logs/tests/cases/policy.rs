//! What leaves the host, and what is counted.

use std::time::Duration;

use utilizer_logs::{Counts, Origin, Policy, Stream};
use wire::messages::LogRecord;

use super::{now, plan_of, records};

/// What is counted, as it stands on a page.
fn page(policy: &Policy) -> String {
    let mut counts = Counts::default();
    policy.counts(&mut counts);
    let mut page = String::new();
    for (name, counter) in counts.iter() {
        for (labels, value) in &counter.samples {
            let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
            page += &format!("{name} {} {value}\n", labels.join(","));
        }
    }
    page
}

struct Feed {
    stream: Stream,
    policy: Policy,
    out: Vec<LogRecord>,
}

impl Feed {
    fn new(text: &str) -> Self {
        let plan = plan_of(text);
        Self { stream: Stream::new(&plan, Origin::default()), policy: Policy::new(&plan), out: Vec::new() }
    }

    fn line(&mut self, seconds: u64, text: &str) {
        let end = self.stream.done() + 1;
        let at = now().plus(Duration::from_secs(seconds));
        self.stream.line(&mut self.policy, text.as_bytes(), end, 0, at, &mut self.out);
        assert_eq!(self.stream.done(), end, "what is left out moves the position too");
    }
}

#[test]
fn lines_get_their_category() {
    let plan = plan_of(
        "category = \"application\"\n\
         [[categories]]\nname = \"security\"\nmatch = 'login (failed|refused)'\n\
         [[categories]]\nname = \"audit\"\nservices = [\"sudo\", \"su\"]\n\
         [[categories]]\nname = \"accuracy\"\nfields = { metric_type = '^prediction' }\n\
         [[categories]]\nname = \"trouble\"\nlevels = [\"error\", \"CRITICAL\"]\n",
    );
    let made = records(
        &plan,
        &[
            r#"{"msg":"login failed for anna","level":"error"}"#,
            r#"{"msg":"x","service":"sudo"}"#,
            r#"{"msg":"x","metric_type":"prediction_performance"}"#,
            r#"{"msg":"x","level":"fatal"}"#,
            r#"{"msg":"x","category":"its own"}"#,
            r#"{"msg":"x"}"#,
        ],
    );
    let found: Vec<_> = made.iter().map(|record| record.category.as_str()).collect();
    assert_eq!(found, ["security", "audit", "accuracy", "trouble", "its own", "application"]);
}

#[test]
fn what_is_to_be_dropped_is_counted_and_dropped() {
    let mut feed = Feed::new("name = \"web\"\n[[drop]]\nmatch = 'GET /healthz'\nlevels = [\"INFO\"]\n");
    for line in ["INFO GET /healthz 200", "ERROR GET /healthz 500", "INFO GET / 200"] {
        feed.line(0, line);
    }
    assert_eq!(feed.out.iter().map(|r| r.message.as_str()).collect::<Vec<_>>(), ["GET /healthz 500", "GET / 200"]);
    let page = page(&feed.policy);
    assert!(page.contains("utilizer_log_left_out_total input=web,why=drop 1\n"), "{page}");
    assert!(page.contains("utilizer_log_lines_total input=web,level=INFO,service= 2\n"), "{page}");
}

#[test]
fn sampling_and_limits_are_by_service_spare_errors_and_are_told() {
    let mut feed = Feed::new(
        "name = \"app\"\ncategory = \"application\"\n\
         [[sample]]\none_in = 10\nlevels = [\"DEBUG\"]\n[limit]\nrate = 2\nburst = 4\ntell_every = \"30s\"\n",
    );
    let mut told = Vec::new();
    feed.policy.tick(now(), &mut told);
    for number in 0..20 {
        feed.line(0, &format!(r#"{{"level":"debug","service":"a","msg":"d{number}"}}"#));
    }
    assert_eq!(feed.out.len(), 2, "one in ten");
    for number in 0..20 {
        feed.line(0, &format!(r#"{{"level":"info","service":"a","msg":"i{number}"}}"#));
        feed.line(0, &format!(r#"{{"level":"error","service":"a","msg":"e{number}"}}"#));
    }
    feed.line(0, r#"{"level":"info","service":"b","msg":"another's"}"#);
    // Two lines of debugging took two of four.
    assert_eq!(feed.out.len(), 2 + 2 + 20 + 1);
    feed.line(1, r#"{"level":"info","service":"a","msg":"a second later"}"#);
    feed.line(1, r#"{"level":"info","service":"a","msg":"a second later"}"#);
    feed.line(1, r#"{"level":"info","service":"a","msg":"left out"}"#);
    assert_eq!(feed.out.len(), 27);
    feed.policy.tick(now().plus(Duration::from_secs(29)), &mut told);
    assert!(told.is_empty());
    feed.policy.tick(now().plus(Duration::from_secs(30)), &mut told);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].message, "37 lines were left out within 30 s: 18 by sampling, 19 over the limit of 2 a second");
    assert_eq!((told[0].service_name.as_str(), told[0].category.as_str()), ("a", "application"));
    assert_eq!((told[0].fields["left_out_sample"].as_str(), told[0].fields["left_out_limit"].as_str()), ("18", "19"));
    feed.policy.tick(now().plus(Duration::from_secs(90)), &mut told);
    assert_eq!(told.len(), 1, "nothing more was left out");
    let page = page(&feed.policy);
    assert!(page.contains("utilizer_log_left_out_total input=app,why=limit 19\n"), "{page}");
    assert!(page.contains("utilizer_log_left_out_total input=app,why=sample 18\n"), "{page}");
}

#[test]
fn nothing_is_spared_where_nothing_is_to_be() {
    let mut feed = Feed::new("[[sample]]\none_in = 2\n[limit]\nspare = \"none\"\n");
    (0..4).for_each(|_| feed.line(0, "FATAL x"));
    assert_eq!(feed.out.len(), 2);
}

#[test]
fn a_clock_that_is_set_back_gives_no_more_lines() {
    let mut feed = Feed::new("[limit]\nrate = 1\nburst = 1\n");
    feed.line(100, "INFO x");
    feed.line(0, "INFO x");
    feed.line(0, "INFO x");
    assert_eq!(feed.out.len(), 1);
    feed.line(1, "INFO x");
    assert_eq!(feed.out.len(), 2);
}

#[test]
fn counters_are_families_with_bounded_labels() {
    let mut feed = Feed::new(
        "name = \"in\"\nservice = \"shop\"\n\
         [[count]]\nname = \"orders_total\"\nhelp = \"Orders.\"\nmatch = 'order (?<state>\\w+)'\nby = [\"service\", \"state\"]\n\
         max_series = 2\n\
         [[count]]\nname = \"errors_total\"\nlevels = [\"ERROR\", \"FATAL\"]\n\
         [[count]]\nname = \"by_field_total\"\nby = [\"http.status\"]\nfields = { 'http.status' = '^5' }\n\
         [[drop]]\nmatch = 'order'\n",
    );
    for state in ["paid", "paid", "failed", "lost", "gone"] {
        feed.line(0, &format!("INFO order {state}"));
    }
    feed.line(0, "ERROR x");
    feed.line(0, r#"{"msg":"x","http":{"status":503}}"#);
    feed.line(0, r#"{"msg":"x","http":{"status":200}}"#);
    let page = page(&feed.policy);
    let own: Vec<_> = page.lines().filter(|line| !line.starts_with("utilizer_")).collect();
    let expected = [
        "by_field_total input=in,http_status=503 1",
        "errors_total input=in 1",
        "orders_total input=in,service=other,state=other 2",
        "orders_total input=in,service=shop,state=failed 1",
        "orders_total input=in,service=shop,state=paid 2",
    ];
    assert_eq!(own, expected, "also what was dropped is counted");
}

#[test]
fn a_label_holds_no_secret() {
    let mut feed = Feed::new("[[count]]\nname = \"x_total\"\nby = [\"who\", \"token\"]\n");
    feed.line(0, r#"{"msg":"x","who":"anna@example.org","token":"abc123"}"#);
    let page = page(&feed.policy);
    assert!(page.contains("who=***,token=*** 1\n"), "{page}");
}

/// Lines as Debian's sshd, sudo and su write them.
#[test]
fn failed_logins_and_changes_of_user_are_known() {
    let mut feed = Feed::new(
        "name = \"auth\"\nformat = \"syslog\"\n[[count]]\npreset = \"failed_logins\"\nby = [\"service\"]\n[[count]]\npreset = \"sudo\"\n",
    );
    for line in [
        "Nov 22 10:00:00 h sshd[7]: Failed password for root from 192.0.2.9 port 50101 ssh2",
        "Nov 22 10:00:00 h sshd[7]: Failed password for invalid user admin from 192.0.2.9 port 50101 ssh2",
        "Nov 22 10:00:00 h sshd-session[7]: error: maximum authentication attempts exceeded for root from 192.0.2.9 port 1 ssh2",
        "Nov 22 10:00:00 h login[7]: FAILED LOGIN (1) on '/dev/tty1' FOR 'anna', Authentication failure",
        "Nov 22 10:00:00 h sudo: pam_unix(sudo:auth): authentication failure; logname=anna uid=1000",
        "Nov 22 10:00:00 h sudo:     anna : TTY=pts/0 ; PWD=/home/anna ; USER=root ; COMMAND=/usr/bin/ls",
        "Nov 22 10:00:00 h sudo:     bob : user NOT in sudoers ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/id",
        "Nov 22 10:00:00 h su[7]: (to root) anna on pts/1",
        "Nov 22 10:00:00 h su[7]: pam_unix(su-l:session): session opened for user root(uid=0) by anna(uid=1000)",
        "Nov 22 10:00:00 h sshd[7]: Accepted publickey for anna from 192.0.2.7 port 1 ssh2",
        "Nov 22 10:00:00 h CRON[7]: pam_unix(cron:session): session opened for user root(uid=0) by (uid=0)",
    ] {
        feed.line(0, line);
    }
    let page = page(&feed.policy);
    for expected in [
        "utilizer_log_failed_logins_total input=auth,service=sshd 2\n",
        "utilizer_log_failed_logins_total input=auth,service=sshd-session 1\n",
        "utilizer_log_failed_logins_total input=auth,service=login 1\n",
        "utilizer_log_failed_logins_total input=auth,service=sudo 1\n",
        "utilizer_log_privilege_escalations_total input=auth 4\n",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
}

#[test]
fn what_is_odd_is_counted() {
    let mut feed = Feed::new("name = \"in\"\nformat = \"json\"\n");
    for line in [
        "no JSON",
        r#"{"msg":"x","time":"soon"}"#,
        r#"{"msg":"x","time":"2024-01-01T00:00:00Z"}"#,
        r#"{"msg":"x","time":"2030-01-01T00:00:00Z"}"#,
        r#"{"msg":"x","time":"2026-11-22T11:59:00Z"}"#,
    ] {
        feed.line(0, line);
    }
    let page = page(&feed.policy);
    for expected in [
        "utilizer_log_strange_lines_total input=in 1\n",
        "utilizer_log_bad_times_total input=in,time=ahead 1\n",
        "utilizer_log_bad_times_total input=in,time=behind 1\n",
        "utilizer_log_bad_times_total input=in,time=none 1\n",
    ] {
        assert!(page.contains(expected), "{expected}\n{page}");
    }
}

#[test]
fn services_are_bounded() {
    let mut feed = Feed::new("");
    for number in 0..1000 {
        feed.line(0, &format!(r#"{{"msg":"x","service":"s{number}"}}"#));
    }
    assert_eq!(feed.out.len(), 1000);
    let page = page(&feed.policy);
    assert!(page.contains("service=other 900\n") && page.matches("utilizer_log_lines_total").count() == 101, "{page}");
}
