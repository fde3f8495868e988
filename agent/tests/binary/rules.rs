//! Rules in the running agent: what they record and announce, over restarts, reloads and full disks.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use test_servers::{Mosquitto, wait_for};

use super::support::{Agent, Answer, Setup, Watch, get};

/// Files around an agent: metrics that a test sets, rules, and a spool that outlives the process.
pub(super) struct Files {
    folder: TempDir,
}

impl Files {
    pub(super) fn new(rules: &str) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        std::fs::create_dir(files.path("textfiles")).unwrap();
        files.rules(rules);
        files
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Replaces the rule file.
    fn rules(&self, groups: &str) {
        std::fs::write(self.path("rules.yml"), format!("groups:\n{groups}")).unwrap();
    }

    /// Replaces the metrics.
    pub(super) fn metrics(&self, text: &str) {
        let unfinished = self.path("textfiles/unfinished");
        std::fs::write(&unfinished, format!("{text}\n")).unwrap();
        std::fs::rename(unfinished, self.path("textfiles/test.prom")).unwrap();
    }

    /// The states of alerts as they are on the disk.
    fn states(&self) -> String {
        std::fs::read_to_string(self.path("spool/alerts.state")).unwrap_or_default()
    }

    pub(super) fn setup(&self, broker: &Mosquitto) -> Setup {
        Setup::with_broker(&broker.url())
            .set("path.textfile", self.path("textfiles"))
            .set("spool.directory", self.path("spool"))
            .set("rules.files", vec![self.path("*.yml")])
            .set("rules.interval", "100ms")
    }
}

/// The alerts' records of a state, without what came twice.
pub(super) fn transitions(watch: &Watch, state: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut records = watch.payloads("alerts");
    records.retain(|record| {
        let number = (record["boot"].as_str().unwrap().to_owned(), record["seq"].as_u64().unwrap());
        record["state"] == state && seen.insert(number)
    });
    records
}

/// Waits until so many alerts began to fire, or were resolved, and returns the last.
fn comes(watch: &Watch, state: &str, count: usize) -> Value {
    wait_for(&format!("{count} alerts {state}"), || transitions(watch, state).into_iter().nth(count - 1))
}

/// Waits until the retained list has so many alerts.
fn active(watch: &Watch, boot: &Value, count: usize) -> Value {
    watch.wait("alerts/active", &format!("{count} alerts in the list"), |all| {
        let last = all.last()?;
        (last["boot"] == *boot && last["alerts"].as_array()?.len() == count).then(|| last.clone())
    })
}

/// Waits until every rule was evaluated a few times more.
fn goes_on(agent: &Agent) {
    let name = "utilizer_agent_rule_evaluations_total";
    let before = agent.metric_becomes(name, |_| true);
    agent.metric_becomes(name, |now| now >= before + 10.0);
}

const HIGH: &str = r#"
- name: g
  rules:
  - {record: "t:double", expr: 2 * t_value, labels: {kind: made}}
  - alert: High
    expr: t:double > 10
    labels: {severity: page, floor: '{{ $externalLabels.floor }}'}
    annotations: {text: '{{ $labels.disk }} of {{ $labels.instance }} has {{ $value | humanize }}'}
"#;

#[test]
fn an_alert_fires_and_resolves_and_what_is_recorded_goes_everywhere() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let files = Files::new(HIGH);
    files.metrics("t_value{disk=\"a\"} 3\nt_value{disk=\"b\"} 1");
    let agent = files
        .setup(&broker)
        .set("labels", toml::Table::from_iter([("floor".to_owned(), "2".into())]))
        .set("publish.include", vec!["t:*", "ALERTS"])
        .start();
    let boot = watch.status("online", 0)["boot"].clone();
    active(&watch, &boot, 0);
    agent.metric_becomes(r#"t:double{disk="a",kind="made"}"#, |value| value == 6.0);
    assert!(!agent.get("/metrics").body.contains("ALERTS"));

    files.metrics("t_value{disk=\"a\"} 7\nt_value{disk=\"b\"} 1");
    let fired = comes(&watch, "firing", 1);
    let alert = fired["alert"].clone();
    let labels = json!({
        "alertname": "High", "disk": "a", "kind": "made", "instance": "h", "job": "node", "severity": "page",
        "floor": "2",
    });
    assert_eq!(alert["labels"], labels);
    assert_eq!(alert["annotations"], json!({"text": "a of h has 14"}));
    assert_eq!((&alert["value"], &fired["host"], &fired["boot"]), (&json!(14.0), &json!("h"), &boot));
    assert_eq!(alert["active_at"], alert["fired_at"]);
    assert!(alert.get("resolved_at").is_none() && alert["fingerprint"].as_str().unwrap().len() == 16, "{alert}");
    assert_eq!(active(&watch, &boot, 1)["alerts"][0], alert);
    let series = r#"ALERTS{alertname="High",alertstate="firing",disk="a",floor="2",kind="made",severity="page"}"#;
    agent.metric_becomes(series, |value| value == 1.0);
    agent.metric_becomes(r#"utilizer_agent_alerts{alertstate="firing"}"#, |count| count == 1.0);
    let families = |all: &[Value]| {
        let families = all.last()?["families"].as_array()?.clone();
        (families.len() == 2).then_some(families)
    };
    let families = watch.wait("metrics", "a message with what rules made", families);
    assert_eq!((&families[0]["name"], &families[1]["name"]), (&json!("ALERTS"), &json!("t:double")));
    let sample = families[1]["samples"].as_array().unwrap().iter().find(|sample| sample["labels"]["disk"] == "a");
    assert_eq!(sample.unwrap()["labels"], json!({"disk": "a", "kind": "made"}));

    files.metrics("t_value{disk=\"b\"} 1");
    let resolved = comes(&watch, "resolved", 1)["alert"].clone();
    for same in ["fingerprint", "labels", "annotations", "value", "active_at", "fired_at"] {
        assert_eq!(resolved[same], alert[same], "{same}");
    }
    assert!(resolved["resolved_at"].as_str() > alert["fired_at"].as_str(), "{resolved}");
    active(&watch, &boot, 0);
    wait_for("the series ends", || agent.metric(series).is_none().then_some(()));
    assert_eq!(agent.metric(r#"t:double{disk="a",kind="made"}"#), None);
    assert_eq!(transitions(&watch, "firing").len() + transitions(&watch, "resolved").len(), 2);
}

/// Long enough that each state is found on the disk before it is over, also on a busy machine.
const SLOW: &str = r#"
- name: g
  rules:
  - {alert: Slow, expr: t_value > 10, for: 2s, keep_firing_for: 2s}
"#;

fn states_survive(signal: Signal) {
    let broker = Mosquitto::start("persistence true");
    let watch = Watch::start(&broker);
    let files = Files::new(SLOW);
    files.metrics("t_value 3");
    let setup = files.setup(&broker);
    let restart = |mut agent: Agent, change: &dyn Fn()| {
        agent.signal(signal);
        agent.ended();
        change();
        let agent = setup.start();
        agent.address();
        agent
    };

    let agent = setup.start();
    agent.metric_becomes("t_value", |value| value == 3.0);
    files.metrics("t_value 20");
    let began = wait_for("it is pending", || {
        let page = agent.get("/metrics").body;
        page.contains(r#"alertstate="pending""#).then_some(())?;
        files.states().contains("Slow").then_some(())?;
        page.lines().find_map(|line| line.strip_prefix("ALERTS_FOR_STATE{alertname=\"Slow\"} ")?.parse::<f64>().ok())
    });

    let agent = restart(agent, &|| ());
    let fired = comes(&watch, "firing", 1);
    let active_at: wire::Timestamp = serde_json::from_value(fired["alert"]["active_at"].clone()).unwrap();
    assert_eq!((active_at.as_millis() / 1000) as f64, began, "its time as pending went on");

    wait_for("it fires on the disk", || files.states().contains("fired_at").then_some(()));
    let agent = restart(agent, &|| ());
    goes_on(&agent);
    let boot = watch.wait("status", "the third run", |all| {
        let mut boots: Vec<_> = all.iter().map(|status| status["boot"].clone()).collect();
        boots.dedup();
        boots.get(2).cloned()
    });
    assert_eq!(active(&watch, &boot, 1)["alerts"][0]["fired_at"], fired["alert"]["fired_at"]);

    files.metrics("t_value 3");
    wait_for("its end is waited for", || files.states().contains("missing_since").then_some(()));
    assert!(transitions(&watch, "resolved").is_empty(), "it fires for some time more");
    let agent = restart(agent, &|| ());
    let resolved = comes(&watch, "resolved", 1);
    assert_eq!(resolved["alert"]["fired_at"], fired["alert"]["fired_at"]);

    // What ends while nobody looks is said by the next run.
    files.metrics("t_value 30");
    comes(&watch, "firing", 2);
    wait_for("it fires on the disk", || files.states().contains("fired_at").then_some(()));
    let agent = restart(agent, &|| files.rules("- name: g\n  rules: []\n"));
    comes(&watch, "resolved", 2);
    assert_eq!(agent.metric("utilizer_agent_rules"), Some(0.0));
    wait_for("nothing is on the disk", || (!files.states().contains("Slow")).then_some(()));
    assert_eq!([transitions(&watch, "firing").len(), transitions(&watch, "resolved").len()], [2, 2]);
}

#[test]
fn states_go_on_after_a_stop() {
    states_survive(Signal::TERM);
}

#[test]
fn states_go_on_after_a_kill() {
    states_survive(Signal::KILL);
}

#[test]
fn a_reload_keeps_states_and_a_bad_file_keeps_the_rules() {
    const NAME: &str = "utilizer_agent_rules_last_reload_successful";
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let files = Files::new(HIGH);
    files.metrics("t_value{disk=\"a\"} 7");
    let agent = files.setup(&broker).start();
    let boot = watch.status("online", 0)["boot"].clone();
    comes(&watch, "firing", 1);
    assert_eq!(agent.metric(NAME), Some(1.0));

    let more = HIGH.replace("humanize", "humanize1024") + "  - {alert: Always, expr: vector(1)}\n";
    files.rules(&more);
    agent.signal(Signal::HUP);
    agent.says("3 rules are in force");
    assert_eq!(comes(&watch, "firing", 2)["alert"]["labels"]["alertname"], "Always");
    active(&watch, &boot, 2);

    for (number, bad, place) in [
        (1, "- name: g\n  rules:\n  - {record: a, expr: 'sum(t_value'}\n", "rules.yml:4:"),
        (2, "- name: g\n  rules:\n  - {record: a, expr: 'limitk(1, t_value)'}\n", "limitk"),
        (3, "- name: g\n  ruls: []\n", "rules.yml:3:3: unknown key groups[0].ruls"),
    ] {
        files.rules(bad);
        agent.signal(Signal::HUP);
        agent.says_times("the configuration is not reloaded, the old one stays", number);
        agent.says(place);
        agent.metric_becomes(NAME, |successful| successful == 0.0);
    }
    assert_eq!(agent.metric("utilizer_agent_rules"), Some(3.0));
    // The old ones work on.
    files.metrics("t_value{disk=\"b\"} 7");
    assert_eq!(comes(&watch, "firing", 3)["alert"]["annotations"]["text"], "b of h has 14");
    assert_eq!(comes(&watch, "resolved", 1)["alert"]["labels"]["disk"], "a");

    // The rule that is gone takes its alert along.
    files.rules(HIGH);
    agent.signal(Signal::HUP);
    agent.metric_becomes(NAME, |successful| successful == 1.0);
    assert_eq!(comes(&watch, "resolved", 2)["alert"]["labels"]["alertname"], "Always");
    goes_on(&agent);
    assert_eq!([transitions(&watch, "firing").len(), transitions(&watch, "resolved").len()], [3, 2]);
}

#[test]
fn a_bad_file_at_the_start_is_named_with_its_place() {
    let broker = Mosquitto::start("");
    let files = Files::new("- name: g\n  rules:\n  - alert: A\n    expr: rate(t_value)\n");
    let mut agent = files.setup(&broker).start();
    assert_eq!(agent.ended().code(), Some(2));
    agent.says("rules.yml:5:16: group \"g\", rule 1, \"A\": could not parse expression: expected type range vector in call to function \"rate\", got instant vector");
}

#[test]
fn a_recorded_name_that_a_collector_has_stays_among_rules() {
    let broker = Mosquitto::start("");
    let groups = "- name: g\n  rules:\n  - {record: t_value, expr: 'vector(5)', labels: {by: rule}}\n  \
                  - {record: t:seen, expr: 't_value{by=\"rule\"}'}\n";
    let files = Files::new(groups);
    files.metrics("t_value 3");
    let agent = files.setup(&broker).start();
    agent.says("the rule that records t_value has the name of a metric of this host: only other rules see it");
    agent.metric_becomes(r#"t:seen{by="rule"}"#, |value| value == 5.0);
    goes_on(&agent);
    let page = agent.get("/metrics").body;
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("t_value") || line.contains(" t_value ")).collect();
    assert!(lines.len() == 3 && lines.contains(&"t_value 3"), "{lines:?}");
    assert_eq!(agent.log().matches("has the name of a metric").count(), 1);
}

fn query(agent: &Agent, text: &str) -> (u16, Value) {
    let escaped: String = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let Answer { status, body, .. } = agent.get(&format!("/api/v1/query?query={escaped}"));
    (status, serde_json::from_str(&body).unwrap_or_else(|e| panic!("no JSON ({e}): {body}")))
}

#[test]
fn queries_see_what_rules_keep_and_the_last_reading() {
    let broker = Mosquitto::start("");
    let files = Files::new(
        "- name: g\n  rules:\n  - {record: 't:most', expr: 'max_over_time(t_value[1m])'}\n  \
         - {record: 't:sum', expr: 'sum by (instance) (t_value)'}\n  - {record: 't:unseen', expr: 't:sum * 0'}\n",
    );
    files.metrics("t_value{disk=\"a\"} 7\nt_other{disk=\"a\",code=\"\"} 2");
    let agent = files.setup(&broker).start();
    agent.metric_becomes(r#"t:most{disk="a"}"#, |value| value == 7.0);
    files.metrics("t_value{disk=\"a\"} 3\nt_other{disk=\"a\"} 2");
    agent.metric_becomes(r#"t_value{disk="a"}"#, |value| value == 3.0);
    let answers = |text: &str, labels: &Value, value: &str| {
        let (status, answer) = query(&agent, text);
        assert_eq!((status, &answer["status"]), (200, &json!("success")), "{answer}");
        let result = &answer["data"]["result"];
        assert_eq!((result.as_array().map(Vec::len), &result[0]["metric"]), (Some(1), labels), "{answer}");
        assert_eq!(result[0]["value"][1], value, "{answer}");
    };
    let host = |rest: &[(&str, &str)]| {
        let all = [("instance", "h"), ("job", "node")].into_iter().chain(rest.iter().copied());
        Value::from(all.map(|(name, value)| (name.to_owned(), value.into())).collect::<serde_json::Map<_, _>>())
    };
    // What rules keep has a past, all else is there as of the last reading.
    answers("max_over_time(t_value[10m])", &host(&[("disk", "a")]), "7");
    answers(r#"t_other{disk=~"a|b"} * 2"#, &host(&[("disk", "a")]), "4");
    answers(r#"{__name__=~"t_v.*|t_other"} == 2"#, &host(&[("__name__", "t_other"), ("disk", "a")]), "2");
    answers("up", &host(&[("__name__", "up")]), "1");
    answers("utilizer_agent_rules", &host(&[("__name__", "utilizer_agent_rules")]), "3");
    // What rules made, once, with the labels that they gave it: whether another rule looks at it or not.
    agent.metric_becomes("t:unseen", |value| value == 0.0);
    answers("t:sum * 0", &json!({"instance": "h"}), "0");
    answers("t:unseen", &json!({"__name__": "t:unseen", "instance": "h"}), "0");
    answers("cpu_percent >= bool 0 or vector(1)", &json!({}), "1");
    let (status, answer) = query(&agent, "1 / 0");
    assert_eq!(
        (status, &answer["data"]["resultType"], &answer["data"]["result"][1]),
        (200, &json!("scalar"), &json!("+Inf"))
    );
    assert_eq!(query(&agent, "t_value offset 1w").1["data"]["result"], json!([]));
    assert_eq!(query(&agent, "t_value[5m]").1["data"]["resultType"], "matrix");

    for (text, status, kind, why) in [
        ("", 400, "bad_data", "1:1: "),
        ("sum(\nt_value", 400, "bad_data", "2:8: "),
        ("limitk(1, t_value)", 400, "bad_data", "limitk"),
        ("t_value[1h:1ms]", 422, "execution", "give subqueries longer steps"),
        ("{disk=\"a\"} + on (job) {disk=\"a\"}", 422, "execution", "many-to-many"),
    ] {
        let (found, answer) = query(&agent, text);
        assert_eq!(
            (found, &answer["status"], &answer["errorType"]),
            (status, &json!("error"), &json!(kind)),
            "{answer}"
        );
        assert!(answer["error"].as_str().unwrap().contains(why), "{text}: {answer}");
    }
    for path in ["/api/v1/query", "/api/v1/query?query=up&time=soon"] {
        assert_eq!(agent.get(path).status, 400);
    }
}

/// Pushes until nothing more is taken.
fn fill(agent: &Agent) {
    for bytes in [1_000_000, 20_000, 2_000, 200] {
        let record = json!({"job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 1, "metadata": {"x": "x".repeat(bytes)}});
        while agent.post("/v1/pipeline", &record.to_string()).status == 202 {}
    }
}

#[test]
fn a_full_spool_loses_no_transitions() {
    let broker = Mosquitto::start("persistence true");
    let watch = Watch::start(&broker);
    let files = Files::new(HIGH);
    files.metrics("t_value{disk=\"a\"} 3");
    let setup = files.setup(&broker).set("interval", "300ms").set("spool.max_bytes", "4MiB");
    let mut agent = setup.start();
    watch.status("online", 0);
    agent.metric_becomes(r#"t:double{disk="a",kind="made"}"#, |value| value == 6.0);
    broker.stop();
    agent.says("no connection to the broker");
    fill(&agent);
    files.metrics("t_value{disk=\"a\"} 7");
    agent.says("alert fires: ");
    goes_on(&agent);
    assert_eq!(agent.metric("utilizer_agent_alerts_lost_total"), Some(0.0));

    // Whether it found room by now or not.
    agent.stop();
    let agent = setup.start();
    agent.metric_becomes(r#"utilizer_agent_alerts{alertstate="firing"}"#, |count| count == 1.0);
    broker.again();
    let fired = comes(&watch, "firing", 1);
    files.metrics("t_value{disk=\"a\"} 3");
    assert_eq!(comes(&watch, "resolved", 1)["alert"]["fired_at"], fired["alert"]["fired_at"]);
    assert_eq!(transitions(&watch, "firing").len(), 1);
}

#[test]
fn without_a_broker_alerts_are_in_the_log_and_on_the_page() {
    let files = Files::new(HIGH);
    files.metrics("t_value{disk=\"a\"} 7");
    let setup = Setup::new()
        .set("path.textfile", files.path("textfiles"))
        .set("spool.directory", files.path("spool"))
        .set("rules.files", vec![files.path("*.yml")])
        .set("rules.interval", "100ms");
    let agent = setup.start();
    agent.says("alert fires: {alertname=\"High\"");
    agent.metric_becomes(r#"utilizer_agent_alerts{alertstate="firing"}"#, |count| count == 1.0);
    files.metrics("");
    agent.says("alert is over: {alertname=\"High\"");
    assert!(!Path::new(&files.path("spool/metrics")).exists());
}

/// Kills at moments that fall around the beginnings and ends of alerts; more with `KILLS`, for whoever looks for rare ones.
#[test]
fn every_beginning_has_its_end_however_often_the_agent_is_killed() {
    let kills: usize = std::env::var("KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(6);
    let broker = Mosquitto::start("persistence true");
    let watch = Watch::start(&broker);
    let files = Files::new("- name: g\n  rules:\n  - {alert: High, expr: t_value > 10}\n");
    files.metrics("t_value 3");
    let setup = files.setup(&broker);
    let mut random = 1_u64;
    for _ in 0..kills {
        let mut agent = setup.start();
        agent.metric_becomes("utilizer_agent_rule_evaluations_total", |count| count > 0.0);
        for value in [20, 3] {
            files.metrics(&format!("t_value {value}"));
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            std::thread::sleep(std::time::Duration::from_millis(30 + (random >> 33) % 200));
            if (random >> 60).is_multiple_of(2) {
                break;
            }
        }
        agent.signal(Signal::KILL);
        agent.ended();
    }
    files.metrics("t_value 3");
    let _agent = setup.start();
    let of = |state| -> BTreeSet<String> {
        transitions(&watch, state).iter().map(|record| record["alert"]["fired_at"].to_string()).collect()
    };
    wait_for("each has its end", || {
        let (fired, resolved) = (of("firing"), of("resolved"));
        (!fired.is_empty() && fired == resolved).then_some(())
    });
    assert_eq!(transitions(&watch, "firing").len(), of("firing").len(), "none is told twice");
}

/// More than can be answered: rules go on, and those for whom there is no place are told at once.
#[test]
fn rules_go_on_while_more_queries_come_than_can_be_answered() {
    let broker = Mosquitto::start("");
    let files = Files::new("- name: g\n  rules:\n  - {record: 't:copy', expr: t_value}\n");
    files.metrics("t_value 3");
    let agent = files.setup(&broker).start();
    agent.metric_becomes("t:copy", |value| value == 3.0);
    let heavy = "/api/v1/query?query=sum_over_time(count_over_time(up[1d:1s])[1d:1s])";
    let over = AtomicBool::new(false);
    let address = agent.address();
    std::thread::scope(|scope| {
        let heavy = |_| {
            scope.spawn(|| {
                let mut refused = None;
                while !over.load(Ordering::Relaxed) {
                    let answer = get(address, heavy);
                    match answer.status {
                        422 => assert!(answer.body.contains(r#""errorType":"execution""#), "{}", answer.body),
                        503 => refused = Some(answer.body),
                        other => panic!("{other}: {}", answer.body),
                    }
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
                refused
            })
        };
        let threads: Vec<_> = (0..12).map(heavy).collect();
        let (_, answer) = wait_for("there is no place left", || Some(query(&agent, "up")).filter(|it| it.0 == 503));
        assert_eq!((&answer["status"], &answer["errorType"]), (&json!("error"), &json!("unavailable")));
        assert!(answer["error"].as_str().unwrap().contains("queries wait already"), "{answer}");
        files.metrics("t_value 4");
        agent.metric_becomes("t:copy", |value| value == 4.0);
        over.store(true, Ordering::Relaxed);
        let refused = threads.into_iter().filter_map(|thread| thread.join().unwrap()).count();
        assert!(refused > 0);
    });
    let (status, answer) = query(&agent, "t_value");
    assert_eq!((status, &answer["data"]["result"][0]["value"][1]), (200, &json!("4")));
}
