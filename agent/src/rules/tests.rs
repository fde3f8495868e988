//! The thread with a spool and without a broker.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tokio::sync::watch;
use wire::Kind;
use wire::messages::TierStatus;

use super::runner::{Handle, Parts, Running, bounded, spawn};
use super::series::Shared;
use super::{QueryError, RulesSection};
use crate::collectors::CollectorSettings;
use crate::config::{Config, File, Spool};
use crate::host::HostRoot;
use crate::outbox::{self, Keeping, Post};
use crate::sampler::{Made, Reading, Sampler};

fn reading() -> Reading {
    let mut sampler = Sampler::new(&HostRoot::default(), &CollectorSettings::default(), Made::default());
    Arc::into_inner(sampler.forgetful(Duration::from_millis(100))).unwrap()
}

fn config(folder: &Path, groups: &str, floor: &str) -> Arc<Config> {
    config_keeping(folder, groups, floor, false)
}

fn config_keeping(folder: &Path, groups: &str, floor: &str, keep: bool) -> Arc<Config> {
    let file = folder.join("r.yml");
    std::fs::write(&file, format!("groups:\n{groups}")).unwrap();
    let files = vec![file.display().to_string()];
    let rules = RulesSection { files, interval: Duration::from_millis(100), ..RulesSection::default() };
    let rules = RulesSection { keep_last_state_on_missing: keep, ..rules };
    let labels = serde_json::from_value(json!({"floor": floor})).unwrap();
    Arc::new(Config::from_file(File { rules, labels, ..File::default() }).unwrap())
}

/// State, label `floor` and when it began to fire.
type Said = (String, String, String);

/// A run of the agent, as far as rules and the spool go.
struct Run {
    handle: Handle,
    running: Running,
    post: Post,
    _keeping: Keeping,
    _readings: watch::Sender<Option<Arc<Reading>>>,
}

impl Run {
    fn start(folder: &Path, boot: &str, config: Arc<Config>) -> Self {
        let spool = Spool {
            directory: folder.join("spool"),
            max_bytes: 64 << 20,
            max_age: Duration::from_secs(86_400),
            confirm_by: Vec::new(),
            retry_after: Duration::from_secs(90),
            backlog_rate: 1000,
        };
        let (post, keeping) = outbox::open(&spool, &"h".parse().unwrap(), boot.parse().unwrap()).unwrap();
        let (send, readings) = watch::channel(None);
        let parts = Parts {
            config,
            readings,
            describe: Box::new(|_, _| ()),
            series: Shared::default(),
            post: Some(post.clone()),
            states: spool.directory,
            scraped: tokio::sync::mpsc::channel(1).1,
        };
        let (handle, running) = spawn(parts).unwrap();
        send.send_replace(Some(Arc::new(reading())));
        Self { handle, running, post, _keeping: keeping, _readings: send }
    }

    /// All transitions that are in the spool.
    fn told(&self) -> Vec<Said> {
        let status: TierStatus = serde_json::from_value(json!({
            "v": 1, "group": "g", "member": "m", "state": "online", "time": "2026-01-01T00:00:00Z", "sink": "test",
            "kinds": Kind::ALL, "durable": true, "version": "0",
        }))
        .unwrap();
        self.post.lock().connected();
        self.post.lock().tier_status(&status);
        self.post.ring();
        let told: RefCell<BTreeMap<(String, u64), Said>> = RefCell::default();
        wait_for("all are due, once the group stands on the disk", || {
            let mut outbox = self.post.lock();
            told.borrow_mut().extend(std::iter::from_fn(|| outbox.take()).map(|out| {
                let record: Json = serde_json::from_slice(&out.payload).unwrap();
                let text = |value: &Json| value.as_str().unwrap().to_owned();
                let alert = &record["alert"];
                let said = (text(&record["state"]), text(&alert["labels"]["floor"]), text(&alert["fired_at"]));
                ((out.boot.to_string(), out.seq), said)
            }));
            told.borrow().len() as u64 == outbox.len()
        });
        told.into_inner().into_values().collect()
    }

    fn made(&self) -> u64 {
        self.post.lock().counts(Kind::Alerts).made
    }

    /// Waits until so many transitions are in the spool, and then until everything was evaluated twice more.
    fn becomes(&self, made: u64) {
        let evaluated = || self.handle.told().counts.evaluations;
        wait_for("transitions are in the spool", || self.made() >= made);
        let before = evaluated();
        wait_for("evaluations go on", || evaluated() > before + 1 || self.handle.told().rules == 0);
        assert_eq!(self.made(), made);
    }

    /// As a crash does: nothing is written at the end.
    fn crash(self) {
        assert!(self.running.stop().is_some());
    }
}

fn wait_for(what: &str, met: impl Fn() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn on_disk(folder: &Path) -> Json {
    serde_json::from_slice(&spool::state::read(&folder.join("spool"), "alerts").unwrap().unwrap()).unwrap()
}

const ALWAYS: &str = "- {name: g, rules: [{alert: Always, expr: 'vector(1)'}]}\n";
const NONE: &str = "- {name: g, rules: [{record: a, expr: 'vector(1)'}]}\n";

#[test]
fn a_transition_stands_in_the_states_before_it_is_told() {
    let (folder, state) = loop {
        let folder = tempfile::tempdir().unwrap();
        let run = Run::start(folder.path(), "a", config(folder.path(), ALWAYS, "1"));
        let mut seen = Instant::now();
        while run.made() == 0 {
            seen = Instant::now();
        }
        let state = on_disk(folder.path());
        let took = seen.elapsed();
        run.crash();
        // It stands there for half a second: on a busy machine it may be over.
        if took < Duration::from_millis(300) {
            break (folder, state);
        }
    };
    let folder = folder.path();
    assert_eq!((&state["from"], state["announcing"].as_array().unwrap().len()), (&json!(0), 1), "{state}");
    spool::state::write(&folder.join("spool"), "alerts", state.to_string().as_bytes()).unwrap();

    // After it was put into the spool: that is seen, and its end is told.
    let run = Run::start(folder, "b", config(folder, NONE, "1"));
    run.becomes(1);
    let told = run.told();
    let [fired, resolved] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&*fired.0, &*resolved.0, &fired.2), ("firing", "resolved", &resolved.2));
    run.crash();

    // Before: it is told now. The spool is of the time before the first run's.
    for after in [NONE, ALWAYS] {
        std::fs::remove_dir_all(folder.join("spool")).unwrap();
        std::fs::create_dir(folder.join("spool")).unwrap();
        spool::state::write(&folder.join("spool"), "alerts", state.to_string().as_bytes()).unwrap();
        let run = Run::start(folder, "c", config(folder, after, "1"));
        run.becomes(if after == NONE { 2 } else { 1 });
        assert_eq!(run.told()[..], told[..run.made() as usize]);
        run.crash();
    }
}

#[test]
fn alerts_that_fire_end_under_old_labels_and_begin_under_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let run = Run::start(folder, "a", config(folder, ALWAYS, "1"));
    run.becomes(1);
    run.handle.reload(config(folder, ALWAYS, "2"));
    run.becomes(3);
    run.crash();
    // And the same over a restart; what has no rule any more ends under the labels that it was told with.
    let run = Run::start(folder, "b", config(folder, ALWAYS, "3"));
    run.becomes(2);
    run.crash();
    let run = Run::start(folder, "c", config(folder, NONE, "4"));
    run.becomes(1);
    let told = run.told();
    let found: Vec<(&str, &str)> = told.iter().map(|(state, floor, _)| (state.as_str(), floor.as_str())).collect();
    let (firing, resolved) = ("firing", "resolved");
    assert_eq!(found, [(firing, "1"), (resolved, "1"), (firing, "2"), (resolved, "2"), (firing, "3"), (resolved, "3")]);
    assert!(told.iter().all(|one| one.2 == told[0].2), "it began once: {told:?}");
    run.crash();
}

#[tokio::test]
async fn a_sampler_that_hangs_is_a_target_that_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "- {name: g, rules: [{record: load, expr: 'node_load1 * up'}]}\n", "1");
    let (send, readings) = watch::channel(None);
    let parts = Parts {
        config,
        readings,
        describe: Box::new(|_, _| ()),
        series: Shared::default(),
        post: None,
        states: folder.path().to_owned(),
        scraped: tokio::sync::mpsc::channel(1).1,
    };
    let (handle, running) = spawn(parts).unwrap();
    let becomes = async |expr: &str, values: &[f64]| {
        let expr = rules::parse(expr).unwrap();
        let same = |value: &rules::Value| match value {
            rules::Value::Vector(found) => found.iter().map(|(_, value)| *value).eq(values.iter().copied()),
            _ => false,
        };
        while !handle.query(expr.clone(), None).await.is_ok_and(|value| same(&value)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let patience = Duration::from_secs(20);
    send.send_replace(Some(Arc::new(reading())));
    tokio::time::timeout(patience, becomes("up{job='node'}", &[1.0])).await.unwrap();
    tokio::time::timeout(patience, becomes("count(node_load1)", &[1.0])).await.unwrap();
    let endless = rules::parse("sum_over_time(count_over_time(up[1d:1s])[1d:1s])").unwrap();
    let error = handle.query(endless, None).await.unwrap_err();
    assert!(matches!(&error, QueryError::Failed(_)), "{error}");
    send.send_replace(Some(Arc::new(reading().made(Duration::from_secs(60)))));
    tokio::time::timeout(patience, becomes("up{job='node'}", &[0.0])).await.unwrap();
    tokio::time::timeout(patience, becomes("count(node_load1)", &[])).await.unwrap();
    assert!(running.stop().is_some());
}

#[test]
fn a_round_may_make_more_transitions_than_may_wait() {
    const RULES: usize = 75;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let expr = r#"topk(150, label_replace({__name__=~"node_.+"}, "of", "$1", "__name__", "(.+)"))"#;
    let rule = |at| format!("  - {{alert: A{at}, expr: '{expr}'}}\n");
    let rules: String = (0..RULES).map(rule).collect();
    let run = Run::start(folder, "a", config(folder, &format!("- name: g\n  rules:\n{rules}"), "1"));
    wait_for("all are in the spool", || run.made() >= 150 * RULES as u64);
    assert_eq!(run.handle.told().lost, 0);
    run.crash();
}

#[test]
fn answers_are_no_longer_than_an_agent_can_hold() {
    let matrix = |series: usize| {
        let samples = vec![rules::Sample { time: 0, value: 1.0 }; 125_000];
        rules::Value::Matrix(vec![rules::Series { labels: rules::Labels::none(), samples }; series])
    };
    assert!(bounded(matrix(2)).is_ok());
    let error = bounded(matrix(3)).unwrap_err();
    assert!(error.starts_with("the answer has 375000 samples, 250000 are the most"), "{error}");
    assert!(bounded(rules::Value::Scalar(1.0)).is_ok());
}

#[test]
fn alerts_stay_what_they_are_while_their_collector_fails_where_that_is_wanted() {
    const HIGH: &str = "- {name: g, rules: [{alert: High, expr: 'node_load1 > 5'}]}\n";
    for keep in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path().join("proc");
        std::fs::create_dir(&proc).unwrap();
        let root = HostRoot { proc: proc.clone(), ..HostRoot::default() };
        let settings =
            CollectorSettings { disable_defaults: true, enable: vec!["loadavg".to_owned()], ..Default::default() };
        let run = Run::start(folder.path(), "a", config_keeping(folder.path(), HIGH, "1", keep));
        let mut sampler = Sampler::new(&root, &settings, Made::default());
        let mut reads = |load: &str| {
            std::fs::write(proc.join("loadavg"), load).unwrap();
            std::thread::sleep(Duration::from_millis(2));
            run._readings.send_replace(Some(sampler.forgetful(Duration::from_millis(100))));
        };
        reads("7.00 1.00 1.00 1/100 1\n");
        run.becomes(1);
        reads("nonsense\n");
        run.becomes(if keep { 1 } else { 2 });
        reads("1.00 1.00 1.00 1/100 1\n");
        run.becomes(2);
        run.crash();
    }
}

#[test]
fn an_evaluation_is_cut_short_by_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let endless = "sum_over_time(count_over_time(vector(1)[1d:1s])[30d:1s])";
    let groups =
        format!("- {{name: g, rules: [{{record: a, expr: '{endless}'}}, {{record: b, expr: '{endless}'}}]}}\n");
    let run = Run::start(folder, "a", config(folder, &groups, "1"));
    // Until it evaluates, most probably.
    std::thread::sleep(Duration::from_millis(300));
    run.crash();
}
