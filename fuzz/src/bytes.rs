//! What comes as bytes or text and not from a file: requests, pushes, messages, configurations.

use std::sync::LazyLock;

use daemon::http::Web;
use rules::group::{Due, Engine, Settings};
use rules::template::{Data, Template};
use utilizer_agent::collectors::systemd::{Incoming, incoming, rows};
use utilizer_agent::exposition::Format as Exposition;
use utilizer_agent::host;
use utilizer_agent::logs::{journal, syslog};
use utilizer_agent::pattern::Pattern;
use utilizer_agent::push::logs::{Pushed, unzipped};
use utilizer_agent::push::pipeline;
use utilizer_agent::scrape::relabel::{Action, RelabelSection, relabel};
use utilizer_agent::scrape::text::{Format, Page};
use utilizer_logs::{LogsSection, Origin, Plans, Policy, RedactSection, Stream};
use wire::Timestamp;
use wire::messages::{Confirmation, Control, Logs, Metrics, Pipeline, Status};

pub(crate) const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("push-logs", pushed_logs),
    ("log-lines", log_lines),
    ("redaction", |data| with_text(data, redaction)),
    ("push-pipeline", |data| drop(pipeline::parse(data, now()).map(|metrics| wire::encode(&metrics)))),
    ("http-head", |data| with_text(data, http_head)),
    ("pattern", |data| with_text(data, |text| drop(Pattern::new(text).map(|pattern| pattern.matches("sda1"))))),
    ("agent-config", |data| with_text(data, config)),
    ("messages", messages),
    ("web-config", web_config),
    ("netlink", |data| host::attributes(data).for_each(drop)),
    ("systemd", systemd),
    ("spool", segment),
    ("promql", |data| with_text(data, promql)),
    ("template", |data| with_text(data, template)),
    ("journal", journal_file),
    ("syslog-framing", |data| drop(syslog::framing::messages(data.get(1..).unwrap_or_default(), data.len() % 17, 100))),
    ("rule-file", |data| with_text(data, rule_file)),
    ("scrape-page", scrape_page),
    ("relabel", |data| with_text(data, relabelled)),
    ("probes", utilizer_agent::probes::read_anything),
];

fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::UNIX_EPOCH)
}

fn with_text(data: &[u8], run: impl Fn(&str)) {
    if let Ok(text) = std::str::from_utf8(data) {
        run(text);
    }
}

/// The parts of a request that are our own to read; the rest is hyper's.
fn http_head(text: &str) {
    daemon::http::pairs(text).for_each(drop);
    let _ = daemon::http::accepts_gzip(text);
    let _ = Exposition::negotiated(text);
}

fn config(text: &str) {
    let _ = daemon::config::load_text::<utilizer_agent::config::File>(Some("agent.toml".as_ref()), text, "X", []);
}

fn messages(data: &[u8]) {
    let _ = wire::decode_head(data);
    with_text(data, |text| drop(text.parse::<wire::Topic>()));
    let _ = wire::decode_body::<Logs>(data);
    let _ = wire::decode_body::<Metrics>(data);
    let _ = wire::decode_body::<Pipeline>(data);
    let _ = wire::decode_state::<Status>("status", data);
    let _ = wire::decode_state::<Confirmation>("confirmed", data);
    let _ = wire::decode_state::<Control>("control", data);
}

/// What is pushed, as it goes into the spool.
fn pushed_logs(data: &[u8]) {
    static PLANS: LazyLock<Plans> = LazyLock::new(|| plans(&[]));
    for body in [Ok(data.to_vec()), unzipped(data, 1 << 20)].into_iter().flatten() {
        if let Ok(taken) = Pushed::new(&PLANS.push).take(&PLANS.push, &body, now()) {
            assert!(taken.logs.records.len() <= taken.count + 1);
            wire::encode(&taken.logs);
        }
    }
}

fn plans(inputs: &[&str]) -> Plans {
    let sections: Vec<LogsSection> = inputs
        .iter()
        .map(|text| toml::from_str(&format!("files = [\"/{}\"]\n{text}", text.len())).expect("it is an input"))
        .collect();
    Plans::new(&sections, &RedactSection::default(), &|_| None).expect("the inputs have no fault")
}

/// Lines in every format, joined or not: each that is not empty is in a record, and the position is behind the last one.
fn log_lines(data: &[u8]) {
    static PLANS: LazyLock<Plans> = LazyLock::new(|| {
        plans(&[
            "",
            "format = \"json\"",
            "format = \"logfmt\"",
            "format = \"access\"",
            "format = \"syslog\"",
            "format = \"postgres\"",
            "format = \"plain\"\nmultiline = { preset = \"traces\", max_lines = 3 }",
            "format = \"container\"\nmultiline = { preset = \"python\" }",
            "format = \"pattern\"\npattern = '^(?<time>\\S+) (?<level>\\w*) (?<message>.*)$'",
        ])
    });
    for plan in &PLANS.inputs {
        let (mut stream, mut policy) = (Stream::new(plan, Origin::default()), Policy::new(plan));
        let (mut out, mut end) = (Vec::new(), 0);
        for line in data.split(|byte| *byte == b'\n') {
            end += line.len() as u64 + 1;
            stream.line(&mut policy, line, end, 0, now(), &mut out);
            assert!(stream.done() <= end);
        }
        stream.flush(&mut policy, now(), &mut out);
        assert_eq!(stream.done(), end);
        policy.tick(now(), &mut out);
        out.iter().for_each(|record| assert!(record.latency_ms.is_none_or(f64::is_finite)));
    }
}

/// What was hidden once stays as it is.
fn redaction(text: &str) {
    static PLANS: LazyLock<Plans> = LazyLock::new(|| plans(&[]));
    let once = PLANS.redactor.text(text);
    assert_eq!(PLANS.redactor.text(&once), once);
}

/// The file names certificates and keys; one that names files of this machine is refused for what they hold.
fn web_config(data: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    let path = FOLDER.path().join("web.yml");
    std::fs::write(&path, data).expect("the temporary folder can be written");
    if let Err(error) = Web::load(&path) {
        assert!(!error.to_string().is_empty());
    }
}

/// An answer of systemd's, and the list of units in it.
fn systemd(data: &[u8]) {
    if let Ok(Incoming::Return { body, .. }) = incoming(data) {
        let _ = rows(body, |row| assert!(row.name.len() <= data.len()));
    }
}

/// A file of the journal.
fn journal_file(data: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    let path = FOLDER.path().join("x.journal");
    std::fs::write(&path, data).expect("the temporary folder can be written");
    let _ = journal::count_entries(&path, 1000);
}

/// Bytes behind the good header of a log's last segment, and of the one before it. The header's own bytes are found soon
/// enough by a test of the crate; with them a fuzzer would find nothing else.
fn segment(data: &[u8]) {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));
    const HEADER: usize = 32;
    let dir = FOLDER.path().join("log");
    let _ = std::fs::remove_dir_all(&dir);
    let options = spool::Options { segment_bytes: 64, reserve_bytes: 0, max_record: 1 << 16 };
    let (mut log, _) = spool::Log::open(&dir, options).expect("an empty folder is a log");
    for body in [&data[..data.len() / 2], data] {
        log.append(b"", body).expect("there is room");
    }
    drop(log);
    for name in ["00000000000000000000.seg", "00000000000000000001.seg"] {
        let mut bytes = std::fs::read(dir.join(name)).expect("each record has a segment of its own");
        bytes.truncate(HEADER);
        bytes.extend_from_slice(data);
        std::fs::write(dir.join(name), bytes).expect("the folder can be written");
    }
    let (mut log, _) = spool::Log::open(&dir, options).expect("any bytes are survived");
    let (mut reader, mut buffer) = (log.reader(), Vec::new());
    let (mut index, mut steps) = (log.first(), 0);
    while index < log.next() {
        index = match reader.read(index, &mut buffer) {
            Ok(_) => index + 1,
            Err(spool::ReadError::Gap { to, .. }) => to + 1,
            Err(error) => panic!("{error}"),
        };
        steps += 1;
        assert!(steps <= data.len() + 8, "it loops");
    }
    drop(spool::inspect(&dir).expect("the folder can be read").to_string());
    let next = log.next();
    assert_eq!(log.append(b"", b"more").expect("there is room"), next);
}

/// A page of a target: its samples have names and labels, or the line is named that is wrong.
fn scrape_page(data: &[u8]) {
    for format in [Format::Classic, Format::OpenMetrics] {
        let Ok(mut page) = Page::new(data, format) else { continue };
        while let Ok(Some(line)) = page.next_line() {
            if let Ok(labels) = Page::labels(&line) {
                assert!(labels.first().is_some_and(|(name, value)| name == "__name__" && !value.is_empty()));
            }
        }
    }
}

/// Lines of a text as a rule's expression, replacement, target and value.
fn relabelled(text: &str) {
    let mut lines = text.split('\n').map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let (regex, replacement, target_label, value) = (next(), next(), next(), next());
    for action in [Action::Replace, Action::Keep, Action::LabelMap, Action::LabelDrop, Action::Lowercase] {
        let section = RelabelSection {
            regex: regex.clone(),
            replacement: replacement.clone(),
            target_label: target_label.clone(),
            source_labels: vec!["a".to_owned()],
            action,
            ..RelabelSection::default()
        };
        if let Ok(rule) = section.checked() {
            let mut labels = vec![("a".to_owned(), value.clone()), ("b".to_owned(), "x".to_owned())];
            relabel(&[rule], &mut labels);
            assert!(labels.len() <= 4 && labels.iter().skip(2).all(|(_, value)| !value.is_empty()));
        }
    }
}

/// An expression that parses prints as one that parses and prints the same; one that does not says where.
fn promql(text: &str) {
    match rules::parse(text) {
        Ok(expr) => {
            let printed = expr.to_string();
            // Durations and numbers may grow beyond the bound when they are written out.
            if printed.len() <= rules::parse::MAX_BYTES {
                assert_eq!(rules::parse(&printed).map(|again| again.to_string()).as_deref(), Ok(printed.as_str()));
            }
            assert!(rules::needs(&expr).iter().all(|need| need.back >= 0));
        }
        Err(error) => assert!(text.get(error.span.clone()).is_some() && error.line_column(text).0 > 0),
    }
}

/// A template that is accepted becomes a text within its bound, or says where it failed.
fn template(text: &str) {
    let up = || rules::Labels::new([("__name__", "up"), ("instance", "a:9100")]);
    let (labels, work) = (up(), rules::eval::Work::new(&rules::eval::Options::default()));
    let data =
        Data { labels: &labels, value: 0.5, external_labels: &labels, external_url: "http://a/b", at: 1000, work: &work };
    let fault = match Template::parse(text) {
        Ok(template) => match template.render(&data, &|_| Ok(vec![(up(), 1.0), (up().nameless(), f64::NAN)])) {
            Ok(rendered) => return assert!(rendered.len() <= rules::template::MAX_OUTPUT + text.len()),
            Err(fault) => fault,
        },
        Err(fault) => fault,
    };
    assert!(fault.at <= text.len() && !fault.message.contains("BUG: "), "{fault:?}");
}

/// A rule file that is accepted can be evaluated, its states saved, and read again; one that is not says where.
fn rule_file(text: &str) {
    let loaded = match rules::Rules::load(&[("rules.yml", text)]) {
        Ok(loaded) => loaded,
        Err(faults) => return assert!(!faults.is_empty()),
    };
    let mut store = rules::testing::Memory::new();
    for (name, value) in [("up", 0.0), ("node_load1", 7.0)] {
        let labels = rules::Labels::new([("__name__", name), ("instance", "a")]);
        (0..3).for_each(|minute| store.add(&labels, rules::Sample { time: minute * 60_000, value }));
    }
    let mut engine = Engine::new(loaded.clone(), Settings::default());
    for minute in 1..3 {
        for group in 0..loaded.groups.len() {
            let round = engine.evaluate(&Due { group, at: minute * 60_000, missed: 0 }, &mut store);
            assert!(round.faults.iter().all(|fault| !fault.message.contains("BUG: ")), "{:?}", round.faults);
        }
    }
    let saved = engine.saved();
    let mut again = Engine::new(loaded, Settings::default());
    assert_eq!(again.restore(&saved, 180_000), Ok(Vec::new()));
}
