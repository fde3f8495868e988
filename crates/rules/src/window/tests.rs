use super::*;
use crate::needs::needs;
use crate::parse::parse;
use crate::sample::{STALE, is_stale};
use crate::testing::{Memory, Random};

const SECOND: Millis = 1000;
const MINUTE: Millis = 60 * SECOND;
const START: Millis = 1_700_000_000_123;
const LIMITS: Limits = Limits { series: 1000, bytes: 1 << 20, max_age: 24 * 3600 * SECOND };

fn of(expressions: &[&str]) -> Vec<Need> {
    expressions.iter().flat_map(|text| needs(&parse(text).unwrap())).collect()
}

fn window(expressions: &[&str]) -> Window {
    Window::new(of(expressions), LIMITS).unwrap()
}

fn selector(text: &str) -> Selector {
    of(&[text]).remove(0).selector
}

type Given<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Gives a round, of one family after the other.
fn give(window: &mut Window, source: Source, time: Millis, samples: &[Given<'_>]) -> Ended {
    let mut round = window.round(source, time).unwrap();
    for (name, labels, value) in samples {
        if round.family(name) {
            round.sample(labels.iter().copied(), *value);
        }
    }
    round.end()
}

/// What a selector finds, as text.
fn shown(window: &Window, text: &str, until: Millis) -> String {
    let mut out = String::new();
    for series in window.series(&selector(text), until - 5 * MINUTE, until, usize::MAX) {
        let values = series.samples.iter().map(|sample| match sample.value {
            value if is_stale(value) => " stale".to_owned(),
            value => format!(" {value}"),
        });
        out += &format!("{}{}\n", series.labels, values.collect::<String>());
    }
    out
}

#[test]
fn only_what_a_selector_matches_is_kept() {
    let mut window = window(&[r#"rate(cpu{mode!="idle"}[1m])"#, "up == 0"]);
    let source = window.source([("job", "node"), ("instance", "a:9100")]);
    let mut round = window.round(source, START).unwrap();
    assert!(round.family("cpu") && !round.family("memory") && round.family("up"));
    round.sample([].into_iter(), 1.0);
    assert!(round.family("cpu"));
    round.sample([("mode", "user")].into_iter(), 2.0);
    round.sample([("mode", "idle")].into_iter(), 3.0);
    let ended = round.end();
    assert_eq!((ended.taken, ended.new, ended.ended, ended.left_out), (2, 2, 0, None));
    assert_eq!(window.usage().series, 2);
    let all = "cpu{instance=\"a:9100\", job=\"node\", mode=\"user\"} 2\nup{instance=\"a:9100\", job=\"node\"} 1\n";
    assert_eq!(shown(&window, r#"{job="node"}"#, START), all);
    assert_eq!(window.matched(&selector("up")), 1);
}

#[test]
fn a_label_of_the_sample_gives_way_to_that_of_the_source() {
    let mut window = window(&["a"]);
    let source = window.source([("job", "node"), ("instance", "x")]);
    give(&mut window, source, START, &[("a", &[("job", "mine"), ("exported_job", "old"), ("instance", "")], 1.0)]);
    let expected = "a{exported_exported_job=\"mine\", exported_job=\"old\", instance=\"x\", job=\"node\"} 1\n";
    assert_eq!(shown(&window, "a", START), expected);
}

#[test]
fn what_a_round_does_not_have_has_ended() {
    let mut window = window(&["a", "b"]);
    let (one, two) = (window.source([("s", "1")]), window.source([("s", "2")]));
    let both: &[Given<'_>] = &[("a", &[("x", "1")], 1.0), ("a", &[("x", "2")], 2.0), ("b", &[], 3.0)];
    give(&mut window, one, START, both);
    give(&mut window, two, START, both);
    assert_eq!(give(&mut window, one, START + SECOND, &both[1..2]).ended, 2);
    assert_eq!(give(&mut window, one, START + 2 * SECOND, &both[1..]).new, 1);
    window.fail(one, START + 3 * SECOND);
    window.fail(one, START + 4 * SECOND);
    window.remove(two, START + 4 * SECOND);
    assert_eq!(window.round(two, START + 5 * SECOND).unwrap_err(), Refused::NoSource);
    let expected = "a{s=\"1\", x=\"1\"} 1 stale\na{s=\"1\", x=\"2\"} 2 2 2 stale\nb{s=\"1\"} 3 stale 3 stale\n";
    let others = "a{s=\"2\", x=\"1\"} 1 stale\na{s=\"2\", x=\"2\"} 2 stale\nb{s=\"2\"} 3 stale\n";
    assert_eq!(shown(&window, r#"{s="1"}"#, START + MINUTE), expected);
    assert_eq!(shown(&window, r#"{s="2"}"#, START + MINUTE), others);
}

#[test]
fn a_label_set_counts_once_a_round_and_once_a_moment() {
    let mut window = window(&["a"]);
    let (one, two) = (window.source([("", "")]), window.source([("", "")]));
    let ended = give(&mut window, one, START, &[("a", &[], 1.0), ("a", &[("__name__", "b")], 2.0)]);
    assert_eq!((ended.taken, window.counts().duplicates), (1, 1));
    assert_eq!(give(&mut window, two, START, &[("a", &[], 3.0)]).taken, 0);
    assert_eq!(window.counts().not_newer, 1);
    assert_eq!(shown(&window, "a", START), "a 1\n");
}

#[test]
fn a_clock_that_goes_back_is_waited_for_or_starts_the_window_anew() {
    let mut window = window(&["a"]);
    let (one, two) = (window.source([("s", "1")]), window.source([("s", "2")]));
    for source in [one, two] {
        give(&mut window, source, START, &[("a", &[], 1.0)]);
    }
    assert_eq!(window.round(one, START).unwrap_err(), Refused::NotNewer { time: START, last: START });
    assert!(window.round(one, START - PATIENCE).is_err());
    assert_eq!((window.counts().rounds_refused, window.counts().restarts), (2, 0));
    let earlier = START - PATIENCE - 1;
    give(&mut window, one, earlier, &[("a", &[], 2.0)]);
    assert_eq!((window.counts().restarts, window.covered_since(&selector("a"))), (1, None), "one has still to come");
    assert_eq!(shown(&window, "a", START), "a{s=\"1\"} 2\n");
    give(&mut window, two, earlier, &[("a", &[], 2.0)]);
    assert_eq!((window.counts().restarts, window.covered_since(&selector("a"))), (1, Some(earlier + 1)));
    // Far ahead and back again: nothing is left of before, and nothing breaks.
    for time in [i64::MAX, i64::MIN + 1, i64::MAX - 1, 0] {
        give(&mut window, one, time, &[("a", &[], 3.0)]);
        window.fail(two, time);
        assert_eq!(shown(&window, r#"a{s="1"}"#, time.max(i64::MIN + 5 * MINUTE)).matches('3').count(), 1, "{time}");
    }
    assert_eq!(window.counts().restarts, 3);
}

#[test]
fn the_selector_to_blame_for_too_many_series_is_named() {
    let limits = Limits { series: 10, ..LIMITS };
    let mut window = Window::new(of(&["many{x=~\".+\"}", "few"]), limits).unwrap();
    let source = window.source([("s", "1")]);
    let explode = |window: &mut Window, time, first: u32, count: u32| {
        let mut round = window.round(source, time).unwrap();
        assert!(round.family("many"));
        for n in first..first + count {
            round.sample([("x", n.to_string().as_str())].into_iter(), 1.0);
        }
        if round.family("few") {
            round.sample([].into_iter(), 1.0);
        }
        round.end()
    };
    let ended = explode(&mut window, START, 0, 100_000);
    let error = ended.left_out.unwrap();
    assert_eq!((ended.taken, error.left_out), (10, 99_991));
    assert_eq!(
        error.to_string(),
        "the rules select more than 10 series, 99991 are left out; many{x=~\".+\"} matches most, 100000: narrow it, or \
         raise the limit on series"
    );
    let usage = window.usage();
    assert!(usage.series == 10 && usage.other_bytes < 500_000, "{usage:?}");
    assert_eq!(explode(&mut window, START + SECOND, 0, 20).left_out.unwrap().left_out, 11);
    // When the first ones have grown old, others get their place.
    let ended = explode(&mut window, START + 7 * MINUTE, 15, 5);
    assert_eq!((ended.taken, ended.left_out), (6, None));
}

#[test]
fn a_range_longer_than_the_window_may_be_is_refused() {
    let error = Window::new(of(&["a", "rate(b{c=\"d\"}[2d])"]), LIMITS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "b{c=\"d\"} is needed for 172800 s back, but the window keeps at most 86400 s: shorten the range, or raise the \
         limit on the window's age"
    );
    let mut window = window(&["a"]);
    let source = window.source([("s", "1")]);
    give(&mut window, source, START, &[("a", &[], 1.0)]);
    assert!(window.retarget(of(&["b[2d]"])).is_err());
    assert_eq!(shown(&window, "a", START), "a{s=\"1\"} 1\n");
}

#[test]
fn what_is_still_needed_outlives_a_reload() {
    let mut window = window(&["a", r#"b{x="1"}"#, "avg_over_time(c[1h])"]);
    let source = window.source([("", "")]);
    let given: &[Given<'_>] =
        &[("a", &[], 1.0), ("b", &[("x", "1")], 2.0), ("b", &[("x", "2")], 3.0), ("c", &[], 4.0), ("d", &[], 5.0)];
    for n in 0..20 {
        give(&mut window, source, START + n * MINUTE, given);
    }
    let last = START + 19 * MINUTE;
    window.retarget(of(&["avg_over_time(a[10m])", "b", "c", "d"])).unwrap();
    let count = |window: &Window, text| {
        window.series(&selector(text), i64::MIN, last, usize::MAX).iter().map(|s| s.samples.len()).sum()
    };
    let counts: [usize; 4] = ["a", "b", "c", "d"].map(|text| count(&window, text));
    assert_eq!(counts, [6, 6, 6, 0]);
    let since = ["a", "b", "c", "d"].map(|text| window.covered_since(&selector(text)));
    assert_eq!(since, [Some(last - 5 * MINUTE), None, Some(START), None]);
    // What vanishes with the reload has ended all the same; what was not wanted is.
    assert_eq!(give(&mut window, source, last + MINUTE, &given[2..]).ended, 2);
    assert_eq!(window.covered_since(&selector("b")), Some(last + MINUTE));
    let expected = "b{x=\"1\"} 2 2 2 2 stale\nb{x=\"2\"} 3\n";
    assert_eq!(shown(&window, "b", last + MINUTE), expected);
    window.retarget(of(&["e"])).unwrap();
    assert_eq!(window.usage(), Usage { series: 0, other_bytes: window.usage().other_bytes, ..Usage::default() });
}

#[test]
fn labels_have_an_end() {
    let mut window = window(&["a"]);
    let source = window.source([("", "")]);
    let long = "x".repeat(20_000);
    assert_eq!(give(&mut window, source, START, &[("a", &[("x", &long)], 1.0), ("a", &[], 2.0)]).taken, 1);
    assert_eq!(window.counts().labels_too_long, 1);
}

impl Random {
    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }

    fn value(&mut self) -> f64 {
        match self.below(8) {
            0 => f64::from_bits(self.below(u64::MAX)),
            1 => f64::NAN,
            2 => self.below(1000) as f64 / 7.0,
            3 => STALE,
            4 => self.below(10_000) as f64 / 100.0,
            _ => self.below(5) as f64,
        }
    }
}

const EXPRESSIONS: &[&str] = &[
    "a",
    "rate(a[1m])",
    r#"avg_over_time(a{x="1"}[10m])"#,
    r#"b{x=~"1|2",y!="0"}"#,
    r#"max_over_time(b{y=""}[3m])"#,
    r#"{__name__=~"a|c"}"#,
    r#"{s="2"}"#,
    r#"count_over_time({x="3",__name__!="c"}[7m])"#,
    "c offset 4m",
    "c unless d",
    r#"rate(d{x!~"1|2"}[30s] offset 2m)"#,
    "max_over_time(made[2m])",
];

/// The window beside a storage that forgets nothing: where a need is covered, both answer the same.
struct Model {
    window: Window,
    memory: Memory,
    needs: Vec<Need>,
    /// Per source: its handle, the label sets of its last round that go on, the time of it.
    sources: [(Source, Vec<Labels>, Option<Millis>); 3],
    newest: Millis,
}

impl Model {
    fn new(random: &mut Random) -> Self {
        let needs = Self::some_needs(random);
        let mut window = Window::new(needs.clone(), LIMITS).unwrap();
        let sources = ["1", "2", "3"].map(|name| (window.source([("s", name)]), Vec::new(), None));
        Self { window, memory: Memory::new(), needs, sources, newest: START }
    }

    fn some_needs(random: &mut Random) -> Vec<Need> {
        EXPRESSIONS.iter().filter(|_| random.one_in(2)).flat_map(|text| of(&[text])).collect()
    }

    fn retarget(&mut self, random: &mut Random) {
        self.needs = Self::some_needs(random);
        self.window.retarget(self.needs.clone()).unwrap();
    }

    fn end(memory: &mut Memory, gone: impl IntoIterator<Item = Labels>, time: Millis) {
        gone.into_iter().for_each(|labels| memory.add(&labels, Sample { time, value: STALE }));
    }

    fn fail(&mut self, of: usize, time: Millis) {
        let (source, had, last) = &mut self.sources[of];
        self.window.fail(*source, time);
        let time = last.map_or(time, |last| time.max(last + 1));
        *last = Some(time);
        self.newest = self.newest.max(time);
        Self::end(&mut self.memory, had.drain(..), time);
    }

    fn round(&mut self, random: &mut Random, of: usize, time: Millis) {
        let (source, had, last) = &mut self.sources[of];
        let mut round = match (self.window.round(*source, time), *last) {
            (Err(refused), Some(last)) => {
                assert!(time <= last && last - time <= PATIENCE, "{refused}");
                return;
            }
            (Err(refused), None) => panic!("{refused}"),
            (Ok(_), Some(last)) if time <= last => {
                // It started anew. The round that did so is given up.
                assert!(last - time > PATIENCE);
                self.memory.clear();
                self.newest = time;
                for (_, had, last) in &mut self.sources {
                    had.clear();
                    *last = None;
                }
                self.sources[of].2 = Some(time);
                return;
            }
            (Ok(round), _) => round,
        };
        *last = Some(time);
        self.newest = self.newest.max(time);
        let mut has = Vec::new();
        let mut goes_on = Vec::new();
        for name in ["a", "b", "c", "d"] {
            if random.one_in(10) {
                continue;
            }
            let wanted = round.family(name);
            for (x, y) in [("1", "0"), ("1", "1"), ("2", ""), ("3", ""), ("3", "0"), ("", "")] {
                if random.one_in(8) {
                    continue;
                }
                let value = random.value();
                if wanted {
                    let pairs = if random.one_in(20) { [("y", y), ("x", x)] } else { [("x", x), ("y", y)] };
                    round.sample(pairs.into_iter(), value);
                }
                let s = (of + 1).to_string();
                let labels = Labels::new([(NAME, name), ("s", &s), ("x", x), ("y", y)]);
                self.memory.add(&labels, Sample { time, value });
                // A series that the source itself has ended is not ended again.
                if !is_stale(value) {
                    goes_on.push(labels.clone());
                }
                has.push(labels);
            }
        }
        round.end();
        let gone: Vec<Labels> = had.iter().filter(|labels| !has.contains(labels)).cloned().collect();
        Self::end(&mut self.memory, gone, time);
        *had = goes_on;
    }

    /// A rule makes samples.
    fn make(&mut self, random: &mut Random, time: Millis) {
        let labels = Labels::new([(NAME, "made"), ("x", *random.pick(&["1", "2", "3"]))]);
        let newest = self.memory.all().iter().find(|series| series.labels == labels).and_then(|s| s.samples.last());
        let sample = Sample { time, value: random.value() };
        if newest.is_none_or(|newest| newest.time < time) {
            self.newest = self.newest.max(time);
            self.window.add(&labels, sample);
            self.memory.add(&labels, sample);
        }
    }

    fn compare(&self, random: &mut Random, seed: u64) {
        for need in &self.needs {
            let Some(since) = self.window.covered_since(&need.selector) else { continue };
            let until = self.newest - *random.pick(&[0, 0, 0, 1, 5000]);
            let after = (until - need.back.min(*random.pick(&[i64::MAX, MINUTE, 1]))).max(since - 1);
            let found = self.window.series(&need.selector, after, until, usize::MAX);
            let expected = self.memory.series(&need.selector, after, until, usize::MAX);
            let bits = |all: &[Series]| -> Vec<_> {
                // The end of what was before the range says nothing: it may be there or not.
                let values = |s: &Series| -> Vec<_> {
                    let values = s.samples.iter().skip_while(|sample| is_stale(sample.value));
                    values.map(|sample| (sample.time, sample.value.to_bits())).collect()
                };
                let all = all.iter().map(|series| (series.labels.clone(), values(series)));
                all.filter(|(_, values)| !values.is_empty()).collect()
            };
            assert_eq!(bits(&found), bits(&expected), "seed {seed}, {}", need.selector);
            let latest = self.window.latest(&need.selector, after, until);
            let newest: Vec<_> =
                found.iter().filter_map(|s| Some((s.labels.clone(), s.samples.last()?.time))).collect();
            assert_eq!(latest.iter().map(|(l, s)| (l.clone(), s.time)).collect::<Vec<_>>(), newest, "seed {seed}");
        }
    }
}

#[test]
fn the_window_answers_like_a_storage_that_forgets_nothing() {
    for seed in 0..10 {
        let mut random = Random(seed);
        let mut model = Model::new(&mut random);
        let mut now = START;
        for _ in 0..400 {
            now += match random.below(300) {
                0 => 20 * MINUTE,
                1 => -2 * MINUTE,
                2 => -20 * SECOND,
                3..50 => 1,
                _ => *random.pick(&[SECOND, 10 * SECOND, 9_993]),
            };
            let of = usize::try_from(random.below(3)).unwrap();
            match random.below(100) {
                0 => model.retarget(&mut random),
                1..4 => model.fail(of, now),
                4..20 => model.make(&mut random, now),
                _ => model.round(&mut random, of, now),
            }
            model.compare(&mut random, seed);
        }
    }
}

/// Bytes that a series may need beside its samples in the tests below: short labels.
const PER_SERIES: usize = 2000;

#[test]
fn memory_stays_bounded_whatever_comes() {
    let limits = Limits { series: 50, bytes: 20_000, max_age: 24 * 3600 * SECOND };
    for seed in 0..2 {
        let mut random = Random(seed);
        let mut window = Window::new(of(&["max_over_time({job=\"x\"}[1d])", "a", "rate(b[1h])"]), limits).unwrap();
        let sources = ["x", "y"].map(|job| window.source([("job", job)]));
        let (mut now, mut most, mut left_out) = (START, Usage::default(), 0);
        for n in 0..1000 {
            now += *random.pick(&[1, SECOND, 10 * SECOND, 10 * SECOND, MINUTE]);
            let source = *random.pick(&sources);
            if random.one_in(50) {
                window.fail(source, now);
                continue;
            }
            let mut round = window.round(source, now).unwrap();
            // Names and labels that never come again, and some that always do; values that no encoding makes small.
            for family in 0..random.below(60) {
                let name =
                    if random.one_in(3) { format!("new_{n}_{family}") } else { ["a", "b", "c"][n % 3].to_owned() };
                if !round.family(&name) {
                    continue;
                }
                for series in 0..random.below(6) {
                    let label = if random.one_in(4) { format!("{n}-{family}-{series}") } else { series.to_string() };
                    let value = f64::from_bits(random.below(u64::MAX));
                    round.sample([("series", label.as_str()), ("of", "all")].into_iter(), value);
                }
            }
            left_out += round.end().left_out.map_or(0, |error| error.left_out);
            if n % 10 == 0 {
                let usage = window.usage();
                most.series = most.series.max(usage.series);
                most.sample_bytes = most.sample_bytes.max(usage.sample_bytes);
                most.other_bytes = most.other_bytes.max(usage.other_bytes);
            }
        }
        assert_eq!(most.series, limits.series, "seed {seed}");
        assert!(left_out > 0 && window.counts().forgotten_early > 0, "seed {seed}: {:?}", window.counts());
        // A series may begin although the budget is used up.
        assert!(most.sample_bytes <= limits.bytes + limits.series * 128, "seed {seed}: {most:?}");
        // What a source had in its last round is remembered as well: at most 1024 that are not kept, and as many names.
        let remembered = sources.len() * 2 * 1024 * 256;
        assert!(most.other_bytes <= limits.series * PER_SERIES + remembered, "seed {seed}: {most:?}");
    }
}

#[test]
fn what_a_flood_took_is_given_back() {
    let mut window = Window::new(of(&["a", "b"]), Limits { series: 20_000, ..LIMITS }).unwrap();
    let source = window.source([("job", "x")]);
    let small: &[Given<'_>] = &[("a", &[("n", "1")], 1.0), ("b", &[], 2.0)];
    give(&mut window, source, START, small);
    let before = window.usage();
    let mut round = window.round(source, START + SECOND).unwrap();
    assert!(round.family("a"));
    for n in 0..20_000 {
        round.sample([("n", n.to_string().as_str())].into_iter(), 1.0);
    }
    assert_eq!(round.end().taken, 20_000 - 1);
    assert_eq!(window.usage().series, 20_000);
    for n in 1..20 {
        give(&mut window, source, START + n * MINUTE, small);
    }
    let after = window.usage();
    assert_eq!(after.series, before.series);
    assert!(after.other_bytes < before.other_bytes + 10_000, "{before:?} {after:?}");
    assert!(after.sample_bytes < 500, "{after:?}");
}

#[test]
fn what_a_look_takes_is_known_before_and_more_than_is_wanted_is_not_read() {
    let mut window = window(&["a", "b > 0"]);
    let source = window.source([("job", "node")]);
    let names: Vec<String> = (0..6).map(|n| n.to_string()).collect();
    let mut round = window.round(source, START).unwrap();
    for family in ["a", "b"] {
        assert!(round.family(family));
        names[..if family == "a" { 4 } else { 6 }].iter().for_each(|n| round.sample([("n", &**n)].into_iter(), 1.0));
    }
    round.end();
    for (text, count) in [("a", 4), ("a{n=\"x\"}", 4), ("{n=\"x\"}", 10), ("c", 0)] {
        assert_eq!(window.examined(&selector(text)), count, "{text}");
    }
    let read = |most| window.series(&selector("a"), START - MINUTE, START, most).len();
    assert_eq!([0, 2, 3, 4, 9].map(read), [1, 3, 4, 4, 4]);
}
