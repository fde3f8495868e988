use super::*;
use crate::Value;
use crate::eval::evaluate;
use crate::sample::{NAME, STALE, is_stale};
use crate::window::Limits;

const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;

fn rules(text: &str) -> Rules {
    Rules::load(&[("r.yml", text)]).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

/// One alert over `m`, with the rule's other keys.
fn one(keys: &str) -> String {
    format!("groups:\n- name: g\n  interval: 1m\n  rules:\n  - {{alert: A, expr: m > 0, {keys}}}\n")
}

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    Labels::new(pairs)
}

struct Bench {
    engine: Engine,
    store: Memory,
}

impl Bench {
    fn new(text: &str) -> Self {
        Self::with(text, Settings::default())
    }

    fn with(text: &str, settings: Settings) -> Self {
        Self { engine: Engine::new(rules(text), settings), store: Memory::new() }
    }

    fn set(&mut self, series: &str, time: Millis, value: f64) {
        self.store.add(&labels(series), Sample { time, value });
    }

    /// Evaluates the first group, after the sample of `m` (none: its end). What changed, in short, and what failed.
    fn step(&mut self, at: Millis, value: Option<f64>) -> String {
        self.set("__name__=m,x=1", at, value.unwrap_or(STALE));
        self.round(at)
    }

    fn round(&mut self, at: Millis) -> String {
        let round = self.engine.evaluate(&Due { group: 0, at, missed: 0 }, &mut self.store);
        let alert = |alert: &Alert| format!("{} {}", alert.state.as_str(), alert.labels.get("x"));
        let mut all: Vec<String> = round.transitions.iter().map(alert).collect();
        all.extend(round.faults.into_iter().map(|fault| fault.message));
        all.join("; ")
    }

    fn states(&self) -> Vec<&'static str> {
        self.engine.alerts().map(|alert| alert.state.as_str()).collect()
    }

    /// Stops and starts anew, over the same or an empty store.
    fn restart(&mut self, text: &str, now: Millis, settings: Settings) -> Vec<Alert> {
        let json = serde_json::to_string(&self.engine.saved()).unwrap();
        self.engine = Engine::new(rules(text), settings);
        self.engine.restore(&serde_json::from_str(&json).unwrap(), now).unwrap()
    }

    fn query(&self, text: &str, at: Millis) -> String {
        let value = evaluate(&crate::parse(text).unwrap(), &self.store, at, &Options::default()).unwrap();
        let Value::Vector(elements) = value else { panic!("{value:?}") };
        elements.iter().map(|(labels, value)| format!("{labels} {value}")).collect::<Vec<_>>().join("; ")
    }
}

#[test]
fn an_alert_is_pending_fires_and_resolves() {
    let text = one("for: 2m, labels: {x: '{{ $labels.x }}', sev: high}, annotations: {text: 'is {{ $value }}'}");
    let mut bench = Bench::new(&text);
    assert_eq!(bench.step(0, Some(1.0)), "");
    assert_eq!(bench.states(), ["pending"]);
    assert_eq!(bench.query("ALERTS", 0), r#"ALERTS{alertname="A", alertstate="pending", sev="high", x="1"} 1"#);
    assert_eq!(bench.step(MINUTE, Some(2.0)), "");
    assert_eq!(bench.step(2 * MINUTE, Some(3.0)), "firing 1");
    let alert = bench.engine.alerts().next().unwrap().clone();
    assert_eq!((alert.active_at, alert.fired_at, alert.resolved_at), (0, Some(2 * MINUTE), None));
    assert_eq!((alert.annotations.get("text"), alert.value), ("is 3", 3.0));
    assert_eq!(alert.labels, labels("alertname=A,sev=high,x=1"));
    assert_eq!(bench.query("ALERTS", 2 * MINUTE), r#"ALERTS{alertname="A", alertstate="firing", sev="high", x="1"} 1"#);
    assert_eq!(bench.query("ALERTS_FOR_STATE", 2 * MINUTE), r#"ALERTS_FOR_STATE{alertname="A", sev="high", x="1"} 0"#);
    assert_eq!(bench.step(3 * MINUTE, None), "resolved 1");
    assert_eq!(bench.query("ALERTS or ALERTS_FOR_STATE", 3 * MINUTE), "");
    assert_eq!(bench.engine.alerts().next().unwrap().resolved_at, Some(3 * MINUTE));
    // It is remembered for a while; when it comes back it is another.
    assert_eq!(bench.step(4 * MINUTE, Some(1.0)), "");
    assert_eq!(bench.states(), ["pending"]);
    assert_eq!(bench.step(5 * MINUTE, None), "");
    assert_eq!(bench.states(), [""; 0]);
    assert_eq!((bench.engine.counts().fired, bench.engine.counts().resolved), (1, 1));
}

#[test]
fn what_all_templates_of_a_rule_take_is_bounded_and_its_alerts_go_on() {
    let text = one("labels: {x: '{{ $labels.x }}'}, annotations: {text: '{{ query \"count(m)\" | first | value }}'}");
    let options = Options { max_samples: 200, ..Options::default() };
    let mut bench = Bench::with(&text, Settings { options, ..Settings::default() });
    for x in 0..30 {
        bench.set(&format!("__name__=m,x={x}"), 0, 1.0);
    }
    let said = bench.round(0);
    assert!(said.contains("looks at more than 400 samples") && said.matches("firing").count() == 30, "{said}");
    let texts: Vec<String> = bench.engine.alerts().map(|alert| alert.annotations.get("text").to_owned()).collect();
    let good = texts.iter().filter(|text| *text == "30").count();
    assert!((2..29).contains(&good), "{texts:?}");
}

#[test]
fn an_evaluation_that_nobody_waits_for_leaves_alerts_as_they_are() {
    /// Given up after so many questions whether it is.
    struct Patience<'a>(&'a mut Memory, std::cell::Cell<usize>);
    impl Storage for Patience<'_> {
        fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<crate::Series> {
            self.0.series(selector, after, until, most)
        }
        fn given_up(&self) -> bool {
            self.1.set(self.1.get().saturating_sub(1));
            self.1.get() == 0
        }
    }
    impl Store for Patience<'_> {
        fn add(&mut self, labels: &Labels, sample: Sample) {
            self.0.add(labels, sample);
        }
        fn covered_since(&self, _: &Selector) -> Option<Millis> {
            Some(Millis::MIN)
        }
    }
    let text = one("annotations: {text: '{{ query \"sum(m)\" | first | value }}'}");
    let mut bench = Bench::new(&text);
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    bench.set("__name__=m,x=1", MINUTE, STALE);
    bench.set("__name__=m,x=2", MINUTE, 7.0);
    let mut patience = 0;
    let round = loop {
        patience += 1;
        let mut store = Patience(&mut bench.store, patience.into());
        let round = bench.engine.evaluate(&Due { group: 0, at: MINUTE, missed: 0 }, &mut store);
        if round.faults.is_empty() && !round.transitions.is_empty() {
            break round;
        }
        assert!(round.transitions.is_empty() && bench.states() == ["firing"], "{patience}: {round:?}");
    };
    assert!(patience > 5, "{patience}");
    assert_eq!(round.transitions.iter().map(|alert| alert.state.as_str()).collect::<Vec<_>>(), ["resolved", "firing"]);
    assert_eq!(round.transitions[1].annotations.get("text"), "7");
}

#[test]
fn what_could_not_be_read_neither_resolves_nor_begins_anew() {
    /// Says of `m` that it could not be read.
    struct Unread<'a>(&'a mut Memory);
    impl Storage for Unread<'_> {
        fn series(&self, selector: &Selector, after: Millis, until: Millis, most: usize) -> Vec<crate::Series> {
            self.0.series(selector, after, until, most)
        }
    }
    impl Store for Unread<'_> {
        fn add(&mut self, labels: &Labels, sample: Sample) {
            self.0.add(labels, sample);
        }
        fn covered_since(&self, _: &Selector) -> Option<Millis> {
            Some(Millis::MIN)
        }
        fn doubtful(&self, selector: &Selector) -> bool {
            selector.matchers.iter().any(|matcher| matcher.name == NAME && matcher.matches("m"))
        }
    }
    let text = "groups:\n- name: g\n  rules:\n  - {record: r, expr: m * 1}\n  - {alert: A, expr: r > 0, for: 2m}\n";
    let (text, mut bench) = (format!("{text}  - {{alert: B, expr: n > 0}}\n"), Bench::new(""));
    bench.engine = Engine::new(rules(&text), Settings::default());
    let unread = |bench: &mut Bench, minute: Millis| {
        bench.set("__name__=m,x=1", minute * MINUTE, STALE);
        bench.set("__name__=n,x=2", minute * MINUTE, STALE);
        let due = Due { group: 0, at: minute * MINUTE, missed: 0 };
        let round = bench.engine.evaluate(&due, &mut Unread(&mut bench.store));
        round.transitions.iter().map(|alert| alert.state.as_str()).collect::<Vec<_>>().join(" ")
    };
    bench.set("__name__=n,x=2", 0, 1.0);
    assert_eq!(bench.step(0, Some(1.0)), "firing 2");
    assert_eq!(unread(&mut bench, 1), "resolved", "the other was read");
    assert_eq!(bench.step(2 * MINUTE, Some(1.0)), "firing 1", "for two minutes");
    for minute in 3..30 {
        assert_eq!(unread(&mut bench, minute), "");
    }
    assert_eq!(bench.query("ALERTS", 29 * MINUTE), r#"ALERTS{alertname="A", alertstate="firing", x="1"} 1"#);
    assert_eq!(bench.step(30 * MINUTE, None), "resolved 1", "it was read, and is gone");
    assert_eq!(unread(&mut bench, 46), "");
    assert_eq!(bench.states(), [""; 0]);
}

#[test]
fn a_resolved_alert_is_remembered_for_a_quarter_of_an_hour() {
    let mut bench = Bench::new(&one(""));
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    assert_eq!(bench.step(MINUTE, None), "resolved 1");
    assert_eq!(bench.step(16 * MINUTE, None), "");
    assert_eq!(bench.states(), ["resolved"]);
    bench.step(17 * MINUTE, None);
    assert!(bench.states().is_empty());
}

#[test]
fn an_alert_may_fire_on_for_a_while() {
    let mut bench = Bench::new(&one("keep_firing_for: 3m"));
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    assert_eq!(bench.step(MINUTE, None), "");
    assert_eq!(bench.step(2 * MINUTE, Some(1.0)), "");
    assert_eq!(bench.step(3 * MINUTE, None), "");
    assert_eq!(bench.step(5 * MINUTE, None), "");
    assert_eq!(bench.query("ALERTS", 5 * MINUTE), r#"ALERTS{alertname="A", alertstate="firing", x="1"} 1"#);
    assert_eq!(bench.step(6 * MINUTE, None), "resolved 1");
}

/// The same fingerprint as Alertmanager's, whose hash of no labels is that of no bytes.
#[test]
fn fingerprints_are_stable() {
    assert_eq!(fingerprint(&Labels::none()), "cbf29ce484222325");
    let one = fingerprint(&labels("alertname=A,x=1"));
    assert_eq!(one.len(), 16);
    assert_ne!(one, fingerprint(&labels("alertname=A,x=2")));
}

#[test]
fn a_failed_evaluation_leaves_the_alerts_alone() {
    let text = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: m + on (x) n > 0}\n";
    let mut bench = Bench::new(text);
    bench.set("__name__=n,x=1", 0, 1.0);
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    bench.set("__name__=n,x=1,y=2", MINUTE, 1.0);
    assert!(bench.step(MINUTE, Some(1.0)).contains("many-to-many matching not allowed"));
    assert_eq!(bench.states(), ["firing"]);
    assert!(bench.engine.health().next().unwrap().error.is_some());
    // Said once, not each time.
    assert_eq!(bench.step(2 * MINUTE, Some(1.0)), "");
    assert_eq!((bench.engine.counts().failures, bench.engine.counts().evaluations), (2, 3));
}

#[test]
fn equal_label_sets_fail_the_rule() {
    let mut bench = Bench::new(&one("labels: {x: ''}"));
    bench.set("__name__=m,x=2", 0, 1.0);
    let said = bench.step(0, Some(1.0));
    assert_eq!(said, "vector contains metrics with the same labelset after applying alert labels");
    let text = "groups:\n- name: g\n  rules:\n  - {record: r, expr: m, labels: {x: ''}}\n";
    let mut bench = Bench::new(text);
    bench.set("__name__=m,x=2", 0, 1.0);
    assert_eq!(bench.step(0, Some(1.0)), "vector contains metrics with the same labelset after applying rule labels");
}

#[test]
fn a_limit_clears_the_alerts() {
    let text = one("").replace("interval: 1m", "limit: 1");
    let mut bench = Bench::new(&text);
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    bench.set("__name__=m,x=2", MINUTE, 1.0);
    // The new one was never announced; what fired before comes to its end.
    assert_eq!(bench.step(MINUTE, Some(1.0)), "resolved 1; exceeded limit of 1 with 2 alerts");
    assert!(bench.states().is_empty());
    assert_eq!(bench.step(2 * MINUTE, Some(1.0)), "");
    bench.set("__name__=m,x=2", 3 * MINUTE, STALE);
    assert_eq!(bench.step(3 * MINUTE, Some(1.0)), "firing 1");
    // Those that only fire on count too.
    let mut bench = Bench::new(&one("keep_firing_for: 1h").replace("interval: 1m", "limit: 1"));
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    bench.set("__name__=m,x=2", MINUTE, 1.0);
    assert_eq!(bench.step(MINUTE, None), "resolved 1; exceeded limit of 1 with 2 alerts");
    let mut bench = Bench::new("groups:\n- name: g\n  limit: 1\n  rules:\n  - {record: r, expr: m}\n");
    bench.set("__name__=m,x=2", 0, 1.0);
    assert_eq!(bench.step(0, Some(1.0)), "exceeded limit of 1 with 2 series");
}

#[test]
fn a_template_that_fails_says_so_and_the_alert_goes_on() {
    let mut bench = Bench::new(&one("annotations: {a: '{{ query \"n\" | first | value }}', b: '{{ $labels.x }}'}"));
    let said = bench.step(0, Some(1.0));
    let text = "<error expanding template: 1:16: error calling first: first() called on vector with no elements>";
    assert_eq!(said, format!("firing 1; a: {text}"));
    let alert = bench.engine.alerts().next().unwrap();
    assert_eq!((alert.annotations.get("a"), alert.annotations.get("b")), (text, "1"));
    bench.set("__name__=n", MINUTE, 7.0);
    assert_eq!(bench.step(MINUTE, Some(1.0)), "");
    assert_eq!(bench.engine.alerts().next().unwrap().annotations.get("a"), "7");
}

#[test]
fn what_is_recorded_is_seen_by_later_rules_and_ends() {
    let text = "groups:\n- name: g\n  labels: {job: j, y: g}\n  rules:\n  - {record: 'a:m', expr: m * 2, labels: {y: r}}\n  \
                - {record: one, expr: '1'}\n  - {alert: A, expr: 'a:m > 3'}\n  - {record: firing, expr: 'ALERTS'}\n";
    let mut bench = Bench::new(text);
    assert_eq!(bench.step(0, Some(2.0)), "firing 1");
    let recorded = |bench: &Bench| {
        let all = bench.engine.recorded().map(|(labels, sample)| format!("{labels} {} @{}", sample.value, sample.time));
        all.collect::<Vec<_>>()
    };
    assert_eq!(
        recorded(&bench),
        [
            r#"a:m{job="j", x="1", y="r"} 4 @0"#,
            r#"one{job="j", y="g"} 1 @0"#,
            r#"firing{alertname="A", alertstate="firing", job="j", x="1", y="g"} 1 @0"#,
        ]
    );
    assert_eq!(bench.engine.alert_series().count(), 2);
    assert_eq!(bench.step(MINUTE, None), "resolved 1");
    assert_eq!(recorded(&bench), [r#"one{job="j", y="g"} 1 @60000"#]);
    // Its end is marked, so that it is not seen for five minutes more.
    assert_eq!(bench.query(r#"{__name__=~"a:m|firing"}"#, MINUTE), "");
    let series = bench.store.all().iter().find(|series| series.labels.get(NAME) == "a:m").unwrap();
    assert!(is_stale(series.samples[1].value));
}

#[test]
fn a_query_offset_looks_back() {
    let text = one("").replace("interval: 1m", "query_offset: 1m");
    let mut bench = Bench::new(&text);
    assert_eq!(bench.step(10 * MINUTE, Some(1.0)), "");
    assert_eq!(bench.round(11 * MINUTE), "firing 1");
    assert_eq!(bench.engine.alerts().next().unwrap().active_at, 11 * MINUTE);
    assert_eq!(bench.engine.alert_series().next().unwrap().1.time, 10 * MINUTE);
}

#[test]
fn a_restart_amid_pending_goes_on_counting() {
    let text = one("for: 10m");
    let mut bench = Bench::new(&text);
    for minute in 0..=6 {
        assert_eq!(bench.step(minute * MINUTE, Some(1.0)), "");
    }
    // Away for an hour: three minutes are left, as if the next evaluation had come in time.
    assert!(bench.restart(&text, 66 * MINUTE, Settings::default()).is_empty());
    for minute in 66..=68 {
        assert_eq!(bench.step(minute * MINUTE, Some(1.0)), "", "{minute}");
    }
    assert_eq!(bench.step(69 * MINUTE, Some(1.0)), "firing 1");
    let alert = bench.engine.alerts().next().unwrap();
    assert_eq!((alert.active_at, alert.fired_at), (0, Some(69 * MINUTE)));
}

#[test]
fn a_restart_amid_firing_says_nothing_twice() {
    let text = one("for: 1m");
    let mut bench = Bench::new(&text);
    bench.step(0, Some(1.0));
    assert_eq!(bench.step(MINUTE, Some(f64::INFINITY)), "firing 1");
    bench.restart(&text, 3 * MINUTE, Settings::default());
    assert_eq!(bench.engine.alerts().next().unwrap().value, f64::INFINITY);
    assert_eq!(bench.step(3 * MINUTE, Some(1.0)), "");
    bench.restart(&text, 100 * MINUTE, Settings::default());
    // What went away meanwhile is resolved.
    assert_eq!(bench.step(100 * MINUTE, None), "resolved 1");
    bench.restart(&text, 101 * MINUTE, Settings::default());
    assert_eq!(bench.step(101 * MINUTE, None), "");
}

#[test]
fn a_restart_amid_firing_on_goes_on_counting() {
    let text = one("keep_firing_for: 5m");
    let mut bench = Bench::new(&text);
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    assert_eq!(bench.step(MINUTE, None), "");
    assert_eq!(bench.step(2 * MINUTE, None), "");
    bench.restart(&text, 62 * MINUTE, Settings::default());
    // Two of the five minutes had passed with the evaluation that would have come next.
    for minute in 62..=64 {
        assert_eq!(bench.step(minute * MINUTE, None), "", "{minute}");
    }
    assert_eq!(bench.step(65 * MINUTE, None), "resolved 1");
}

/// After a restart the window is empty: nothing is resolved, and nothing new fires, until it can be told.
#[test]
fn a_window_that_is_still_empty_changes_nothing() {
    let text = "groups:\n- name: g\n  interval: 1m\n  rules:\n  \
                - {alert: A, expr: 'sum_over_time(m[10m]) > 5', labels: {x: a}}\n  \
                - {alert: B, expr: 'absent(n)', labels: {x: b}}\n  \
                - {alert: C, expr: 'count_over_time(m[10m]) < 5', labels: {x: c}}\n  \
                - {alert: D, expr: 'm > 100', labels: {x: d}}\n";
    let settings = Settings { settle: 60 * MINUTE, ..Settings::default() };
    let empty = || Window::new(rules(text).needs(), Limits::default()).unwrap();
    let mut window = empty();
    let source = window.source([("job", "j")]);
    let mut engine = Engine::new(rules(text), settings.clone());
    let step = |engine: &mut Engine, window: &mut Window, source, minute: Millis, value: f64| {
        let mut round = window.round(source, minute * MINUTE - SECOND).unwrap();
        for name in ["m", "n"] {
            if round.family(name) && (name == "m" || minute < 100) {
                round.sample(std::iter::empty(), value);
            }
        }
        round.end();
        let round = engine.evaluate(&Due { group: 0, at: minute * MINUTE, missed: 0 }, window);
        assert_eq!(round.faults, []);
        let text = |alert: &Alert| format!("{} {}", alert.state.as_str(), alert.labels.get("x"));
        round.transitions.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    for minute in 1..=10 {
        assert_eq!(step(&mut engine, &mut window, source, minute, 1.0), "", "{minute}");
    }
    assert_eq!(step(&mut engine, &mut window, source, 11, 1.0), "firing a");
    // A restart. In the first minutes the sum is too small, and the count too.
    let saved = engine.saved();
    let (mut window, mut engine) = (empty(), Engine::new(rules(text), settings));
    let source = window.source([("job", "j")]);
    engine.restore(&saved, 20 * MINUTE).unwrap();
    for minute in 20..=40 {
        assert_eq!(step(&mut engine, &mut window, source, minute, 1.0), "", "{minute}");
    }
    // What only looks at the newest sample is believed at once.
    assert_eq!(step(&mut engine, &mut window, source, 41, 101.0), "firing d");
    // From here on n is missing: that is so at once, as its end was seen.
    assert_eq!(step(&mut engine, &mut window, source, 100, 0.1), "resolved a firing b firing c resolved d");
}

#[test]
fn what_must_be_waited_for_without_end_is_not() {
    let text = "groups:\n- name: g\n  interval: 1m\n  rules:\n  - {alert: A, expr: 'count_over_time(m[7d]) > 0'}\n";
    let mut engine = Engine::new(rules(text), Settings { settle: 10 * MINUTE, ..Settings::default() });
    let mut window = Window::new(rules(text).needs(), Limits::default()).unwrap();
    let source = window.source([("job", "j")]);
    let mut fired_at = None;
    for minute in 1..20 {
        let mut round = window.round(source, minute * MINUTE - SECOND).unwrap();
        assert!(round.family("m"));
        round.sample(std::iter::empty(), 1.0);
        round.end();
        let round = engine.evaluate(&Due { group: 0, at: minute * MINUTE, missed: 0 }, &mut window);
        fired_at = fired_at.or(round.transitions.first().map(|_| minute));
    }
    assert_eq!(fired_at, Some(11));
}

#[test]
fn a_reload_keeps_states() {
    let text = one("for: 2m, labels: {sev: a}");
    let mut bench = Bench::new(&text);
    bench.step(0, Some(1.0));
    bench.step(MINUTE, Some(1.0));
    // Other annotations, another `for`, another expression, another group: the same alert.
    let other = text
        .replace("name: g", "name: h")
        .replace("for: 2m", "for: 90s, annotations: {b: c}")
        .replace("m > 0", "m >= 1");
    assert!(bench.engine.reload(rules(&other), MINUTE, &mut bench.store).is_empty());
    assert_eq!(bench.step(2 * MINUTE, Some(1.0)), "firing 1");
    assert_eq!(bench.engine.alerts().next().unwrap().active_at, 0);
    // Another label: another alert.
    let resolved = bench.engine.reload(rules(&text.replace("sev: a", "sev: b")), 3 * MINUTE, &mut bench.store);
    assert_eq!(resolved.len(), 1);
    assert_eq!((resolved[0].state, resolved[0].resolved_at), (State::Resolved, Some(3 * MINUTE)));
    assert_eq!(bench.query("ALERTS", 3 * MINUTE), "");
    assert!(bench.engine.reload(Rules::default(), 3 * MINUTE, &mut bench.store).is_empty());
    assert_eq!(bench.engine.next(3 * MINUTE), None);
    assert_eq!(bench.engine.due(3 * MINUTE), None);
}

#[test]
fn rules_of_one_name_keep_their_own_states() {
    let text = "groups:\n- name: g\n  rules:\n  - {alert: A, expr: m > 0}\n  - {alert: A, expr: m > 5}\n";
    let mut bench = Bench::new(text);
    assert_eq!(bench.step(0, Some(1.0)), "firing 1");
    bench.restart(text, MINUTE, Settings::default());
    assert_eq!(bench.step(MINUTE, Some(6.0)), "firing 1");
    assert!(bench.engine.reload(rules(text), MINUTE, &mut bench.store).is_empty());
    assert_eq!(bench.step(2 * MINUTE, Some(1.0)), "resolved 1");
    assert_eq!(bench.states(), ["firing", "resolved"]);
}

#[test]
fn a_rule_that_is_gone_after_a_restart_resolves_its_alerts() {
    let mut bench = Bench::new(&one(""));
    bench.step(0, Some(1.0));
    let resolved = bench.restart(&one("labels: {other: '1'}"), MINUTE, Settings::default());
    assert_eq!(resolved.iter().map(|alert| alert.state).collect::<Vec<_>>(), [State::Resolved]);
    let saved = Saved { v: VERSION + 1, ..bench.engine.saved() };
    assert!(bench.engine.restore(&saved, 0).unwrap_err().contains("version 2"));
}

#[test]
fn groups_have_their_own_schedules() {
    let text = "groups:\n- {name: a, interval: 10s, rules: [{record: a, expr: '1'}]}\n\
                - {name: b, interval: 10s, rules: [{record: b, expr: '1'}]}\n- {name: c, rules: [{record: c, expr: '1'}]}\n";
    let mut engine = Engine::new(rules(text), Settings::default());
    let now = 1_700_000_000_000;
    assert_eq!(engine.due(now), None);
    let first = engine.next(now).unwrap();
    assert!(first > now && first <= now + 10 * SECOND);
    let mut times = vec![Vec::new(); 3];
    for at in (now..=now + 120 * SECOND).step_by(500) {
        while let Some(due) = engine.due(at) {
            assert!(due.at <= at && due.at > at - 500 && due.missed == 0, "{due:?}");
            times[due.group].push(due.at);
        }
    }
    assert_eq!(times.iter().map(Vec::len).collect::<Vec<_>>(), [12, 12, 2]);
    assert!(times[0].windows(2).all(|two| two[1] - two[0] == 10 * SECOND));
    assert_ne!(times[0][0], times[1][0]);
    // The places do not depend on when it was started.
    let mut other = Engine::new(rules(text), Settings::default());
    assert_eq!(other.next(first - 1), Some(first));
}

#[test]
fn missed_intervals_are_left_out_and_counted() {
    let mut bench = Bench::new(&one(""));
    let next = bench.engine.next(0).unwrap();
    let due = bench.engine.due(next + 5 * MINUTE + SECOND).unwrap();
    assert_eq!(due, Due { group: 0, at: next + 5 * MINUTE, missed: 5 });
    assert_eq!(bench.engine.due(next + 5 * MINUTE + SECOND), None);
    assert_eq!(bench.engine.next(next + 5 * MINUTE + SECOND), Some(next + 6 * MINUTE));
    assert_eq!(bench.engine.counts().missed, 5);
}

#[test]
fn a_clock_that_jumps_is_survived() {
    let mut bench = Bench::new(&one("for: 3m, keep_firing_for: 3m"));
    bench.step(1000 * MINUTE, Some(1.0));
    bench.step(1001 * MINUTE, Some(1.0));
    // A day ahead: one minute passed.
    let day = 1440 * MINUTE;
    assert_eq!(bench.step(day + 1002 * MINUTE, Some(1.0)), "");
    // And back again.
    bench.store.clear();
    assert_eq!(bench.step(1003 * MINUTE, Some(1.0)), "firing 1");
    assert_eq!(bench.step(1004 * MINUTE, None), "");
    bench.store.clear();
    assert_eq!(bench.step(500 * MINUTE, None), "");
    assert_eq!(bench.step(501 * MINUTE, None), "");
    assert_eq!(bench.step(502 * MINUTE, None), "resolved 1");
    let alert = bench.engine.alerts().next().unwrap();
    assert!(alert.active_at <= alert.fired_at.unwrap() && alert.fired_at <= alert.resolved_at);
    // The schedule follows the clock.
    let next = bench.engine.next(2000 * MINUTE).unwrap();
    assert!(next > 2000 * MINUTE);
    assert!(bench.engine.next(100 * MINUTE).unwrap() <= 101 * MINUTE);
}

/// Labels that change each time leave an alert behind each time.
#[test]
fn alerts_that_come_and_go_do_not_pile_up() {
    let settings = Settings { max_results: 3, ..Settings::default() };
    let mut bench = Bench::with(&one("labels: {v: '{{ $value }}'}"), settings);
    for at in 0..100 {
        bench.step(at * SECOND, Some(at as f64 + 1.0));
    }
    assert!(bench.engine.alerts().count() <= 7, "{}", bench.engine.alerts().count());
}
