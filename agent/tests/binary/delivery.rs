//! Nothing is forgotten before every group of exporters has it: through kills, outages, full disks. The test plays the
//! exporters.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};
use test_servers::{Mosquitto, wait_for};

use super::support::{Agent, Setup, Watch};

/// Publishes as an exporter or an operator would.
fn say(broker: &Mosquitto, topic: &str, payload: &Value, retain: bool) {
    let port = broker.port().to_string();
    let payload = payload.to_string();
    let mut command = Command::new("mosquitto_pub");
    command.args(["-V", "5", "-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", &format!("utilizer/v1/{topic}")]);
    command.args(["-m", if payload == "null" { "" } else { &payload }]);
    if retain {
        command.arg("-r");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A group with one member announces itself.
fn announce(broker: &Mosquitto, group: &str) {
    let status = json!({
        "v": 1, "group": group, "member": "m", "state": "online", "time": "2026-01-01T00:00:00Z", "sink": "test",
        "kinds": ["metrics", "logs", "pipeline"], "durable": true, "version": "0",
    });
    say(broker, &format!("tier/{group}/m/status"), &status, true);
}

fn withdraw(broker: &Mosquitto, group: &str) {
    say(broker, &format!("tier/{group}/m/status"), &Value::Null, true);
}

fn commit(broker: &Mosquitto, group: &str, boot: &Value, kind: &str, from: u64, to: u64) {
    let ranges = json!({ boot.as_str().unwrap(): { kind: [[from, to]] } });
    let confirmation = json!({"v": 1, "whole": false, "committed": ranges});
    say(broker, &format!("command/h/confirmed/{group}/m"), &confirmation, false);
}

fn setup(broker: &Mosquitto, spool: &Path) -> Setup {
    Setup::with_broker(&broker.url())
        .set("interval", "1h")
        .set("spool.directory", spool.display().to_string())
        .set("spool.retry_after", "1s")
}

fn push(agent: &Agent, number: u64) {
    assert_eq!(agent.post("/v1/logs", &format!(r#"{{"message":"line {number}"}}"#)).status, 202);
}

/// Waits until the host's status lists these groups.
fn lists(watch: &Watch, groups: &[&str]) -> Value {
    let wanted = json!(groups);
    watch.wait("status", &format!("a status with the groups {groups:?}"), |all| {
        let last = all.last()?;
        (last.get("groups").unwrap_or(&json!([])) == &wanted && last["state"] == "online").then(|| last.clone())
    })
}

/// How often a log record came, by run and number.
fn came(watch: &Watch, boot: &Value, seq: u64) -> usize {
    watch.payloads("logs").iter().filter(|record| record["boot"] == *boot && record["seq"] == seq).count()
}

fn logs_waiting(agent: &Agent, count: f64) {
    agent.metric_becomes(r#"utilizer_spool_records{kind="logs"}"#, |records| records == count);
}

#[test]
fn a_killed_agent_sends_again_what_no_group_committed() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let spool = tempfile::tempdir().unwrap();
    announce(&broker, "pg");
    let setup = setup(&broker, spool.path());
    let mut agent = setup.start();
    let boot = lists(&watch, &["pg"])["boot"].clone();
    (1..=4).for_each(|number| push(&agent, number));
    watch.wait("logs", "four records", |all| (all.len() >= 4).then_some(()));
    agent.metric_becomes(r#"utilizer_records_acknowledged_total{kind="logs"}"#, |acknowledged| acknowledged >= 4.0);
    logs_waiting(&agent, 4.0);
    commit(&broker, "pg", &boot, "logs", 1, 2);
    agent.metric_becomes(r#"utilizer_records_freed_total{kind="logs"}"#, |freed| freed == 2.0);
    logs_waiting(&agent, 2.0);
    agent.signal(Signal::KILL);
    agent.ended();

    // The group is remembered, also where the broker knows nothing of it any more.
    withdraw(&broker, "pg");
    let before = [3, 4].map(|seq| came(&watch, &boot, seq));
    let agent = setup.start();
    agent.says("records of earlier runs wait in");
    let status = lists(&watch, &["pg"]);
    assert_ne!(status["boot"], boot);
    assert_eq!(status["lowest_unconfirmed"][boot.as_str().unwrap()]["logs"], 3, "{status}");
    wait_for("what was not committed, again", || {
        [3, 4].iter().zip(before).all(|(seq, before)| came(&watch, &boot, *seq) > before).then_some(())
    });
    commit(&broker, "pg", &boot, "logs", 1, 4);
    logs_waiting(&agent, 0.0);
    // And what is new has a number of its own.
    push(&agent, 5);
    wait_for("a record of the new run", || (came(&watch, &status["boot"], 1) > 0).then_some(()));
    assert!(agent.metric(r#"utilizer_records_retransmitted_total{kind="logs"}"#).is_some());
}

#[test]
fn a_record_waits_for_each_group_until_that_is_retired() {
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let spool = tempfile::tempdir().unwrap();
    announce(&broker, "pg");
    announce(&broker, "ch");
    let mut agent = setup(&broker, spool.path()).set("spool.confirm_by", vec!["later"]).start();
    let boot = lists(&watch, &["ch", "later", "pg"])["boot"].clone();
    push(&agent, 1);
    wait_for("the record", || (came(&watch, &boot, 1) > 0).then_some(()));
    commit(&broker, "pg", &boot, "logs", 1, 1);
    commit(&broker, "ch", &boot, "logs", 1, 1);
    wait_for("it comes again for the third", || (came(&watch, &boot, 1) > 1).then_some(()));
    logs_waiting(&agent, 1.0);
    assert_eq!(agent.metric(r#"utilizer_group_online{group="pg"}"#), Some(1.0));
    assert_eq!(agent.metric(r#"utilizer_group_online{group="later"}"#), Some(0.0));

    let retire =
        json!({"v": 1, "action": "retire_group", "group": "later", "author": "anna", "time": "2026-06-01T00:00:00Z"});
    say(&broker, "command/h/control", &retire, false);
    lists(&watch, &["ch", "pg"]);
    logs_waiting(&agent, 0.0);
    agent.says("anna retires the group later");
    agent.stop();
    // The goodbye names what is waited for, too.
    let goodbye = watch.status("offline", 1);
    assert_eq!(goodbye["groups"], json!(["ch", "pg"]));
}

#[test]
fn a_batch_that_is_too_large_for_the_broker_goes_in_parts() {
    let broker = Mosquitto::start("max_packet_size 6000");
    let watch = Watch::start(&broker);
    let spool = tempfile::tempdir().unwrap();
    let agent = setup(&broker, spool.path()).start();
    agent.says("connected to the broker");
    let lines: Vec<_> = (0..10).map(|number| json!({"message": format!("{number} {}", "x".repeat(1000))})).collect();
    assert_eq!(agent.post("/v1/logs", &json!(lines).to_string()).status, 202);
    let numbers = |record: &Value| -> Vec<u64> {
        let lines = record["records"].as_array().unwrap().iter();
        lines.map(|line| line["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap()).collect()
    };
    watch.wait("logs", "every line in some part", |all| {
        let mut lines: Vec<u64> = all.iter().flat_map(numbers).collect();
        lines.sort_unstable();
        lines.dedup();
        (lines == (0..10).collect::<Vec<_>>()).then_some(())
    });
    // The number that never comes is declared.
    let status = watch.wait("status", "the number that was split", |all| {
        all.iter().rev().find(|status| status.get("dropped").is_some()).cloned()
    });
    assert_eq!((&status["dropped"][0][1], &status["dropped"][0][4]), (&json!("logs"), &json!("too_large")));
    // One line alone can't be split.
    assert_eq!(agent.post("/v1/logs", &json!({"message": "x".repeat(9000)}).to_string()).status, 202);
    agent.says("such records are declared lost in the host's status");
    logs_waiting(&agent, 0.0);
}

#[test]
fn two_agents_do_not_share_a_spool() {
    let broker = Mosquitto::start("");
    let spool = tempfile::tempdir().unwrap();
    let first = setup(&broker, spool.path()).start();
    first.address();
    let mut second = setup(&broker, spool.path()).set("host", "other").start();
    assert_eq!(second.ended().code(), Some(2));
    second.says("is in use by another process");
    assert!(second.log().contains(&spool.path().display().to_string()), "{}", second.log());
    assert_eq!(first.get("/healthz").status, 200);
}

#[test]
fn a_spool_that_was_configured_is_used_or_the_agent_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let below = folder.path().join("file/spool");
    let mut agent =
        Setup::with_broker("mqtt://127.0.0.1:1").set("spool.directory", below.display().to_string()).start();
    assert_eq!(agent.ended().code(), Some(2));
    agent.says(&format!("can't use {}", below.display()));
    agent.says("`spool.directory` chooses the folder");
}

/// An agent started by hand, by a user who may not write the packages' folder.
#[test]
fn without_the_default_folder_the_users_own_serves_and_a_temporary_one_in_the_end() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    let home = tempfile::tempdir().unwrap();
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"];
    std::os::unix::fs::chown(home.path(), Some(65534), Some(65534)).unwrap();
    // A folder that only root may write stands for it: the default itself belongs to whoever runs the tests.
    let setup = Setup::with_broker(&broker.url())
        .set("spool.directory", "/var/lib/utilizer/spool")
        .readable_by_all()
        .run_by(&nobody);
    let default = Path::new("/var/lib/utilizer/spool");
    if default.exists() {
        return;
    }
    let mut agent = setup.clone().environment("XDG_STATE_HOME", home.path().display().to_string()).start();
    agent.says(&format!("the spool is in {}/utilizer/spool instead", home.path().display()));
    watch.metrics(2);
    agent.stop();
    assert!(home.path().join("utilizer/spool/metrics/cursor").exists());

    let mut agent = setup.environment("TMPDIR", home.path().display().to_string()).start();
    agent.says("are lost with this run of the agent: set `spool.directory`");
    watch.metrics(4);
    assert_eq!(agent.metric("utilizer_spool_limit_bytes"), Some(f64::from(16 << 20)));
    agent.stop();
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["utilizer"], "the temporary folder goes with the agent");
}

/// A file system of its own, for as long as this lives.
pub(super) struct Mounted(tempfile::TempDir);

impl Mounted {
    /// `None` where this system lets nobody mount.
    pub(super) fn new(bytes: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn a_full_disk_costs_records_with_a_word_and_no_more() {
    let Some(disk) = Mounted::new("3m") else { return };
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    announce(&broker, "pg");
    let spool = disk.0.path().join("spool");
    let agent = setup(&broker, &spool).set("interval", "100ms").start();
    let boot = lists(&watch, &["pg"])["boot"].clone();
    push(&agent, 1);
    wait_for("the record", || (came(&watch, &boot, 1) > 0).then_some(()));
    // Somebody else fills the disk to the last byte.
    let filled = fs::write(disk.0.path().join("other"), vec![0; 4 << 20]);
    assert!(filled.is_err());
    agent.says("readings are dropped: the spool is full (no space left on the disk of");
    let refused = wait_for("a push is refused", || {
        let answer = agent.post("/v1/logs", &json!({"message": "x".repeat(100_000)}).to_string());
        (answer.status == 503).then_some(answer)
    });
    assert!(refused.body.contains("no space left on the disk"), "{}", refused.body);
    assert_eq!(agent.get("/metrics").status, 200);
    // What is committed can still be let go, and a new group is still remembered.
    announce(&broker, "ch");
    lists(&watch, &["ch", "pg"]);
    ["pg", "ch"].iter().for_each(|group| commit(&broker, group, &boot, "logs", 1, 1));
    logs_waiting(&agent, 0.0);
    assert!(!agent.log().contains("can't be kept"), "{}", agent.log());

    fs::remove_file(disk.0.path().join("other")).unwrap();
    agent.says("the spool takes readings again");
    push(&agent, 2);
}

/// Who fills the disk would take what is given up as well, until nothing is left.
#[test]
fn pushes_on_a_full_disk_are_refused_and_displace_nothing() {
    let Some(disk) = Mounted::new("3m") else { return };
    let broker = Mosquitto::start("");
    let watch = Watch::start(&broker);
    announce(&broker, "pg");
    let setup = setup(&broker, &disk.0.path().join("spool")).set("interval", "100ms");
    let readings = r#"utilizer_spool_records{kind="metrics"}"#;
    // What an earlier run has left waits for its group; this run reads nothing that could displace it.
    let mut agent = setup.start();
    lists(&watch, &["pg"]);
    agent.metric_becomes(readings, |records| records >= 3.0);
    agent.stop();
    let agent = setup.set("interval", "1h").start();
    let kept = agent.metric_becomes(readings, |records| records >= 3.0);
    assert!(fs::write(disk.0.path().join("other"), vec![0; 4 << 20]).is_err());

    let push_large = || agent.post("/v1/logs", &json!({"message": "x".repeat(100_000)}).to_string());
    let mut taken = 0;
    let refused = loop {
        match push_large() {
            answer if answer.status == 202 => taken += 1,
            answer => break answer,
        }
    };
    assert!(refused.body.contains("no space left on the disk"), "{}", refused.body);
    assert!((0..20).all(|_| push_large().status == 503));
    // Whatever those asked for was done before this one is on disk and goes.
    fs::remove_file(disk.0.path().join("other")).unwrap();
    push(&agent, 2);
    let all_came = || watch.payloads("logs").iter().any(|record| record["seq"] == taken + 1);
    wait_for("the record after them", || all_came().then_some(()));
    logs_waiting(&agent, f64::from(taken + 1));
    assert_eq!(agent.metric(readings), Some(kept));
    assert_eq!(agent.metric(r#"utilizer_records_dropped_total{kind="metrics"}"#).unwrap_or(0.0), 0.0);
}

/// What it would take goes into files that nobody finds again.
#[test]
fn an_agent_whose_spool_is_removed_says_so_and_ends() {
    let broker = Mosquitto::start("");
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 3] = [
        ("all of it", |spool| fs::remove_dir_all(spool).unwrap()),
        ("one kind", |spool| fs::remove_dir_all(spool.join("logs")).unwrap()),
        ("another in its place", |spool| {
            fs::rename(spool, spool.with_extension("old")).unwrap();
            fs::create_dir(spool).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("spool");
        let mut agent = setup(&broker, &spool).start();
        push(&agent, 1);
        harm(&spool);
        // The keeper looks whenever something is taken.
        agent.post("/v1/logs", r#"{"message":"line 2"}"#);
        assert_eq!(agent.ended().code(), Some(1), "{what}: {}", agent.log());
        let said = agent.log();
        assert!(said.contains("ERROR the spool's ") && said.contains("was removed, or replaced"), "{said}");
    }
}
