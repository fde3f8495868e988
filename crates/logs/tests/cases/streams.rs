//! Lines on their way to records: which belong together, and which positions are safe.

use std::time::Duration;

use utilizer_logs::{Counts, Origin, Policy, Stream};
use wire::messages::LogRecord;

use super::{Random, now, plan_of, records};

const INPUTS: &[&str] = &[
    "format = \"plain\"\n",
    "format = \"plain\"\nmultiline = { preset = \"traces\", max_lines = 3 }\n",
    "format = \"plain\"\nmultiline = { start = \"^x\", max_bytes = \"1KiB\" }\n",
    "format = \"auto\"\nmultiline = { continue = \"^[ y]\" }\n",
    "format = \"container\"\nmultiline = { preset = \"python\" }\n",
    "format = \"postgres\"\n",
];

/// Each line has a number of its own, so that it is found again.
fn line(random: &mut Random, number: usize) -> String {
    match random.below(12) {
        0 => String::new(),
        1 => format!("  at f.g(h:{number}) n{number}n"),
        2 => format!("Traceback (most recent call last): n{number}n"),
        3 => format!("ValueError: n{number}n"),
        4 => format!("x starts n{number}n"),
        5 => format!("y goes on n{number}n {}", "long ".repeat(random.below(120))),
        6 => format!("2026-11-22T10:00:00Z stdout P part n{number}n"),
        7 => format!("2026-11-22T10:00:00Z stdout F whole n{number}n"),
        8 => format!("2026-11-22T10:00:00Z stderr F other n{number}n"),
        9 => format!(r#"{{"log":"docker n{number}n\n","stream":"stdout","time":"2026-11-22T10:00:00Z"}}"#),
        10 => format!("panic: n{number}n"),
        _ => format!("2026-11-22 10:00:00.123 UTC [7] a@b DETAIL:  n{number}n"),
    }
}

fn numbers(record: &LogRecord) -> Vec<usize> {
    let text = serde_json::to_string(record).unwrap();
    let found = text.split('n').filter_map(|part| part.parse::<usize>().ok());
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// For any lines, with pauses at any place: every line is in exactly one record, in order, and a stream that begins anew
/// at `done()` makes what the first one had not yet made.
#[test]
fn every_line_is_in_one_record_also_when_a_reader_begins_anew() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for round in 0..600 {
        let plan = plan_of(INPUTS[round % INPUTS.len()]);
        let lines: Vec<String> = (0..random.below(40) + 1).map(|number| line(&mut random, number)).collect();
        let ends: Vec<u64> = lines
            .iter()
            .scan(0, |end, line| {
                *end += line.len() as u64 + 1;
                Some(*end)
            })
            .collect();
        let mut policy = Policy::new(&plan);
        let (mut out, mut at, mut restarts) = (Vec::new(), 0, 0);
        while at < lines.len() {
            let mut stream = Stream::new(&plan, Origin::default());
            let mut kept = out.len();
            let mut done = if at == 0 { 0 } else { ends[at - 1] };
            let mut next = at;
            for number in at..lines.len() {
                stream.line(&mut policy, lines[number].as_bytes(), ends[number], 0, now(), &mut out);
                if random.below(10) == 0 {
                    stream.flush(&mut policy, now(), &mut out);
                    assert_eq!(stream.done(), ends[number], "nothing waits");
                    assert_eq!(stream.waiting_since(), None);
                }
                assert!(stream.done() <= ends[number]);
                if stream.done() > done {
                    (done, kept) = (stream.done(), out.len());
                }
                next = number + 1;
                if restarts < 3 && random.below(15) == 0 {
                    restarts += 1;
                    break;
                }
            }
            if next == lines.len() && restarts >= 3 || next == lines.len() && random.below(2) == 0 {
                stream.flush(&mut policy, now(), &mut out);
                at = lines.len();
                continue;
            }
            // Killed here: what is behind the position is read again, and made nothing yet.
            assert_eq!(out.len(), kept, "round {round}: a record came out of lines that the position does not pass");
            at = ends.iter().position(|end| *end > done).unwrap_or(lines.len());
            restarts += usize::from(next == lines.len());
            if restarts > 6 {
                let mut stream = Stream::new(&plan, Origin::default());
                for number in at..lines.len() {
                    stream.line(&mut policy, lines[number].as_bytes(), ends[number], 0, now(), &mut out);
                }
                stream.flush(&mut policy, now(), &mut out);
                at = lines.len();
            }
        }
        let found: Vec<usize> = out.iter().flat_map(numbers).collect();
        let expected: Vec<usize> =
            lines.iter().enumerate().filter(|(_, line)| !line.is_empty()).map(|(number, _)| number).collect();
        assert_eq!(found, expected, "round {round}: {lines:#?}\n{out:#?}");
    }
}

#[test]
fn what_waits_is_told_and_comes_out_when_it_is_due() {
    let plan = plan_of("multiline = { preset = \"java\", timeout = \"2s\" }\n");
    assert_eq!(plan.wait, Duration::from_secs(2));
    let (mut policy, mut stream, mut out) = (Policy::new(&plan), Stream::new(&plan, Origin::default()), Vec::new());
    stream.line(&mut policy, b"ERROR x", 8, 0, now(), &mut out);
    assert_eq!((out.len(), stream.done(), stream.waiting_since()), (0, 0, Some(now())));
    let later = now().plus(Duration::from_secs(1));
    stream.line(&mut policy, b"\tat a.b(C)", 20, 0, later, &mut out);
    assert_eq!((out.len(), stream.done(), stream.waiting_since()), (0, 0, Some(later)));
    stream.flush(&mut policy, later, &mut out);
    assert_eq!((out.len(), stream.done(), stream.waiting_since()), (1, 20, None));
    assert_eq!((out[0].message.as_str(), out[0].timestamp), ("x\n\tat a.b(C)", later));
}

#[test]
fn a_long_line_is_told_with_what_was_cut() {
    let plan = plan_of("max_line = \"256B\"\n");
    let (mut policy, mut stream, mut out) = (Policy::new(&plan), Stream::new(&plan, Origin::default()), Vec::new());
    assert_eq!(plan.max_line, 256);
    stream.line(&mut policy, b"ERROR the beginning", 100_000, 99_000, now(), &mut out);
    assert_eq!(out[0].fields["cut_bytes"], "99000");
    let mut counts = Counts::default();
    policy.counts(&mut counts);
    let cut = counts.iter().find(|(name, _)| *name == "utilizer_log_cut_bytes_total").unwrap().1;
    assert_eq!(cut.samples.values().sum::<f64>(), 99_000.0);
    // The parts of a container's line are one line, and have its bound.
    let plan = plan_of("max_line = \"256B\"\nformat = \"container\"\n");
    let part = |tag: &str| format!("2026-11-22T10:00:00Z stdout {tag} {}", "é".repeat(100));
    let made = records(&plan, &[&part("P"), &part("P"), &part("F")]);
    assert_eq!((made.len(), made[0].message.len(), made[0].fields["cut_bytes"].as_str()), (1, 256, "344"));
}

#[test]
fn junk_is_kept_as_text() {
    let junk: Vec<u8> = (0..=255).cycle().take(1000).filter(|byte| *byte != b'\n').collect();
    for format in ["auto", "json", "logfmt", "access", "syslog", "postgres", "plain", "container"] {
        let plan = plan_of(&format!("format = \"{format}\"\n"));
        let (mut policy, mut stream, mut out) = (Policy::new(&plan), Stream::new(&plan, Origin::default()), Vec::new());
        stream.line(&mut policy, &junk, 1000, 0, now(), &mut out);
        stream.line(&mut policy, "[".repeat(60_000).as_bytes(), 61_001, 0, now(), &mut out);
        stream.line(&mut policy, format!("{{\"a\":{}", "[".repeat(60_000)).as_bytes(), 130_000, 0, now(), &mut out);
        stream.line(&mut policy, "{\"a\":".repeat(10_000).as_bytes(), 190_000, 0, now(), &mut out);
        stream.flush(&mut policy, now(), &mut out);
        assert_eq!((out.len(), stream.done()), (4, 190_000), "{format}");
        assert!(out[0].message.contains('\u{fffd}') && out[3].message.len() == 50_000, "{format}");
    }
}

/// A line's keys do not multiply: below the bound of a line, a record stays below that of a message.
#[test]
fn no_line_makes_a_record_that_is_too_large() {
    let plan = plan_of("format = \"json\"\n");
    let key = "k".repeat(120);
    for line in [
        format!(r#"{{"{key}":{{{}}}}}"#, (0..8000).map(|i| format!("\"{i}\":1")).collect::<Vec<_>>().join(",")),
        format!("{{{}}}", (0..8000).map(|i| format!("\"{i}\":1")).collect::<Vec<_>>().join(",")),
        format!(
            r#"{{{}}}"#,
            (0..400).map(|i| format!(r#""{key}{i}":{{"a":{{"b":1}}}}"#)).collect::<Vec<_>>().join(",")
        ),
    ] {
        let made = records(&plan, &[&line]);
        let size = serde_json::to_vec(&made).unwrap().len();
        assert!(size < 4 * line.len() + 200_000, "{} bytes became {size}", line.len());
    }
}

#[test]
fn where_a_line_comes_from_is_told() {
    let plan = plan_of("service = \"configured\"\n");
    let origin = Origin::of_file("/var/log/pods/shop_web-7d9_0a1b/nginx/0.log");
    let (mut policy, mut out) = (Policy::new(&plan), Vec::new());
    Stream::new(&plan, origin.clone()).line(&mut policy, b"x", 2, 0, now(), &mut out);
    let plan = plan_of("");
    Stream::new(&plan, origin).line(&mut Policy::new(&plan), br#"{"msg":"y","k8s_pod":"own"}"#, 2, 0, now(), &mut out);
    let found: Vec<_> = out.iter().map(|r| (r.service_name.as_str(), r.fields["k8s_pod"].as_str())).collect();
    assert_eq!(found, [("configured", "web-7d9"), ("nginx", "own")]);
    assert_eq!(out[0].fields["file"], "/var/log/pods/shop_web-7d9_0a1b/nginx/0.log");
}

#[test]
fn colours_of_a_terminal_are_left_out() {
    let made =
        records(&plan_of(""), &["\u{1b}[32m2026-11-22 10:00:00\u{1b}[0m \u{1b}[1;31mERROR\u{1b}[0m red \u{1b}x"]);
    assert_eq!((made[0].level.as_str(), made[0].message.as_str()), ("ERROR", "red x"));
}

#[test]
fn entries_of_the_journal_go_the_same_way() {
    let plan = plan_of("journal = {}\ncategory = \"system\"\n");
    let (mut policy, mut stream, mut out) = (Policy::new(&plan), Stream::new(&plan, Origin::default()), Vec::new());
    let fields = [("MESSAGE", "password=hunter2"), ("_SYSTEMD_UNIT", "shop.service"), ("PRIORITY", "3")];
    let fields: Vec<_> = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    stream.journal(&mut policy, &fields, 7, now(), &mut out);
    assert_eq!((stream.done(), out.len()), (7, 1));
    assert_eq!((out[0].message.as_str(), out[0].category.as_str()), ("password=***", "system"));
    assert_eq!((out[0].service_name.as_str(), out[0].level.as_str()), ("shop", "ERROR"));
}
