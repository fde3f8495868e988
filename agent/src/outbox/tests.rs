//! The spool's side without a broker: numbers, runs, bounds, what a restart finds.

use std::path::Path;
use std::time::Duration;

use wire::chain::{BEFORE, HASH, SEQ};
use wire::messages::{LogRecord, Logs, LossReason, Metrics, Pipeline, TierStatus};
use wire::{BootId, Kind, LabelSet, Ranges, Timestamp, decode_head};

use super::*;
use crate::config::Spool;

fn spool(dir: &Path) -> Spool {
    Spool {
        directory: dir.to_owned(),
        max_bytes: 4 << 20,
        max_age: Duration::from_secs(86_400),
        confirm_by: Vec::new(),
        retry_after: Duration::from_secs(90),
        backlog_rate: 1000,
    }
}

fn start(dir: &Path, boot: &str) -> (Post, Keeping) {
    open(&spool(dir), &"h".parse().unwrap(), boot.parse().unwrap()).unwrap()
}

fn metrics() -> Metrics {
    Metrics { interval_seconds: 1.0, labels: LabelSet::default(), gauges: vec![], families: vec![], processes: vec![] }
}

fn logs(bytes: usize) -> Logs {
    let record: LogRecord = serde_json::from_value(serde_json::json!({
        "timestamp": "2026-01-01T00:00:00Z", "level": "INFO", "message": "x".repeat(bytes),
    }))
    .unwrap();
    Logs { records: vec![record] }
}

fn now() -> Timestamp {
    Timestamp::from_millis(0)
}

/// A group that takes everything announces itself.
fn announce(post: &Post) {
    announce_group(post, "g");
}

fn announce_group(post: &Post, group: &str) {
    let status = serde_json::json!({
        "v": 1, "group": group, "member": "m", "state": "online", "time": "2026-01-01T00:00:00Z", "sink": "test",
        "kinds": Kind::ALL, "durable": true, "version": "0",
    });
    let status: TierStatus = serde_json::from_value(status).unwrap();
    post.lock().tier_status(&status);
}

fn commit(post: &Post, boot: &str, kind: Kind, from: u64, to: u64) {
    let boot: BootId = boot.parse().unwrap();
    let committed = [(boot, [(kind, Ranges::of(from, to))].into())].into();
    let said = Confirmation { v: VERSION, whole: false, held: Default::default(), committed };
    post.lock().confirmed(&"g".parse().unwrap(), &"m".parse().unwrap(), &said);
    post.ring();
}

fn wait_for(what: &str, met: impl Fn() -> bool) {
    let begun = Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Puts another text into a state, as another version would have written it.
fn rewrite(dir: &Path, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let mut state = serde_json::from_slice(&spool::state::read(dir, name).unwrap().unwrap()).unwrap();
    change(&mut state);
    spool::state::write(dir, name, state.to_string().as_bytes()).unwrap();
}

/// All records that are due, by run, kind and number.
fn all_due(post: &Post) -> Vec<(String, Kind, u64)> {
    let mut due = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(300) {
        while let Some(out) = post.lock().take() {
            let head = decode_head(&out.payload).unwrap();
            assert_eq!((head.seq, head.boot.as_ref()), (Some(out.seq), Some(&out.boot)), "the record is another one");
            due.push((out.boot.to_string(), out.kind, out.seq));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    due.sort();
    due
}

#[test]
fn each_run_numbers_its_own_and_finds_what_the_earlier_ones_left() {
    let dir = tempfile::tempdir().unwrap();
    let (post, keeping) = start(dir.path(), "a");
    announce(&post);
    assert_eq!([1, 2, 3].map(|_| post.put(now(), metrics()).unwrap()), [1, 2, 3]);
    assert_eq!(post.put(now(), logs(10)), Ok(1));
    commit(&post, "a", Kind::Metrics, 1, 1);
    wait_for("the first is freed", || post.lock().counts(Kind::Metrics).freed == 1);
    drop((post, keeping));

    // A run that makes nothing, and one that makes something.
    drop(start(dir.path(), "b"));
    let (post, keeping) = start(dir.path(), "c");
    assert_eq!(post.put(now(), metrics()), Ok(1));
    assert_eq!(post.lock().len(), 4);
    drop((post, keeping));

    for lost in [false, true] {
        if lost {
            // Whose records they are stands in them, too.
            std::fs::remove_file(dir.path().join("runs.state")).unwrap();
        }
        let (post, _keeping) = start(dir.path(), if lost { "e" } else { "d" });
        assert_eq!(post.lock().groups().count(), 1, "the group is remembered");
        post.lock().connected();
        post.lock().subscribed();
        announce(&post);
        let expected =
            [("a", Kind::Metrics, 2), ("a", Kind::Metrics, 3), ("a", Kind::Logs, 1), ("c", Kind::Metrics, 1)];
        let expected: Vec<_> = expected.map(|(boot, kind, seq)| (boot.to_owned(), kind, seq)).into();
        assert_eq!(all_due(&post), expected);
    }
}

#[test]
fn a_spool_at_its_bound_gives_up_metrics_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    let large = || Metrics { labels: [("x".to_owned(), "x".repeat(20_000))].into_iter().collect(), ..metrics() };
    wait_for("metrics go", || {
        let _ = post.put(now(), large());
        post.lock().counts(Kind::Metrics).declared > 20
    });
    let outbox = post.lock();
    let (waiting, counts) = (outbox.status(), outbox.counts(Kind::Metrics));
    assert_eq!(waiting.dropped.len(), 1, "{waiting:?}");
    let loss = &waiting.dropped[0];
    assert_eq!((loss.kind, loss.from, loss.reason), (Kind::Metrics, 1, LossReason::Full));
    assert_eq!(outbox.len(), counts.made - counts.declared);
    assert!(outbox.bytes() <= outbox.limit());
}

#[test]
fn what_is_less_valuable_makes_room_and_a_push_never_displaces_its_own_kind() {
    let dir = tempfile::tempdir().unwrap();
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    let full = |error: &PutError| matches!(error, PutError::Full(_));
    let mut taken = 0;
    while post.put(now(), logs(100_000)).is_ok_and(|seq| seq == taken + 1) {
        taken += 1;
    }
    assert!((38..=41).contains(&taken), "{taken}");
    std::thread::sleep(Duration::from_millis(50));
    assert!(post.put(now(), logs(100_000)).is_err_and(|error| full(&error)));
    assert_eq!(post.lock().counts(Kind::Logs).declared, 0);
    assert!(matches!(post.put(now(), logs(2 << 20)), Err(PutError::Large(..))));
    // Job metrics are worth more than logs.
    let pipeline = || -> Pipeline {
        let text = "x".repeat(100_000);
        let row = serde_json::json!({
            "job_id": "j", "stage": "s", "metric_name": "m", "metric_value": 1, "recorded_at": "2026-01-01T00:00:00Z",
            "metadata": {"text": text},
        });
        serde_json::from_value(serde_json::json!({"records": [row]})).unwrap()
    };
    wait_for("room for job metrics", || post.put(now(), pipeline()).is_ok());
    assert!(post.lock().counts(Kind::Logs).declared > 0);
    assert_eq!(post.lock().counts(Kind::Pipeline).declared, 0);
}

#[test]
fn memory_does_not_grow_with_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    post.lock().connected();
    post.lock().subscribed();
    let mut sizes = Vec::new();
    for _ in 0..5 {
        for _ in 0..2000 {
            post.put(now(), metrics()).unwrap();
            // The window is full soon, since nobody answers.
            let _ = post.lock().take();
        }
        sizes.push(post.lock().sender.size());
    }
    assert!(sizes.iter().all(|size| *size < 200), "{sizes:?}");
    assert_eq!(post.lock().len(), 10_000);
}

#[test]
fn what_is_damaged_is_declared_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (post, keeping) = start(dir.path(), "a");
    announce(&post);
    (0..50).for_each(|_| assert!(post.put(now(), logs(5000)).is_ok()));
    drop((post, keeping));
    let segment = dir.path().join("logs/00000000000000000000.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[20_000] ^= 1;
    std::fs::write(&segment, bytes).unwrap();

    let (post, _keeping) = start(dir.path(), "b");
    post.lock().connected();
    post.lock().subscribed();
    announce(&post);
    wait_for("the rest is due", || {
        all_due(&post);
        post.lock().counts(Kind::Logs).declared == 1
    });
    wait_for("the loss is declared", || post.lock().status().dropped.len() == 1);
    let loss = post.lock().status().dropped[0].clone();
    assert_eq!((loss.boot.as_str(), loss.from, loss.to, loss.reason), ("a", 4, 4, LossReason::Corrupt));
    commit(&post, "a", Kind::Logs, 1, 50);
    wait_for("nothing is left", || post.lock().is_empty());
}

#[test]
fn records_of_another_name_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (post, keeping) = start(dir.path(), "a");
    post.put(now(), logs(10)).unwrap();
    drop((post, keeping));
    let (post, keeping) = open(&spool(dir.path()), &"other".parse().unwrap(), "b".parse().unwrap()).unwrap();
    assert!(post.lock().is_empty());
    assert_eq!(post.put(now(), logs(10)), Ok(1));
    drop((post, keeping));
    assert!(dir.path().join("of-h/logs/00000000000000000000.seg").exists());
    assert!(dir.path().join("of-h/runs.state").exists());
}

#[test]
fn a_name_that_changes_to_and_fro_sets_aside_each_time() {
    let dir = tempfile::tempdir().unwrap();
    for (run, host) in ["h", "other", "h", "other", "h"].into_iter().enumerate() {
        let opened = open(&spool(dir.path()), &host.parse().unwrap(), format!("run-{run}").parse().unwrap());
        let (post, _keeping) = opened.unwrap();
        assert!(post.lock().is_empty());
        assert_eq!(post.put(now(), logs(10)), Ok(1));
    }
    for aside in ["of-h", "of-other", "of-h.2", "of-other.2"] {
        assert!(dir.path().join(aside).join("logs/00000000000000000000.seg").exists(), "{aside}");
    }
}

#[test]
fn alerts_make_room_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    post.put(now(), logs(10)).unwrap();
    let alert = serde_json::json!({
        "state": "firing",
        "alert": {"fingerprint": "0", "labels": {}, "value": 1, "active_at": now(), "fired_at": now()},
    });
    let alert: wire::messages::AlertTransition = serde_json::from_value(alert).unwrap();
    post.put(now(), alert).unwrap();
    post.put(now(), Pipeline { records: vec![] }).unwrap();
    let mut outbox = post.lock();
    for (pressed, gone) in [
        (Kind::Metrics, None),
        (Kind::Logs, None),
        (Kind::Pipeline, Some(Kind::Logs)),
        (Kind::Jobs, Some(Kind::Logs)),
        (Kind::Alerts, Some(Kind::Logs)),
    ] {
        outbox.press(pressed);
        assert_eq!(keeper::over_bounds(&mut outbox, false).map(|(kind, ..)| kind), gone, "for {pressed}");
    }
    // What is worth more is not forgotten for what is worth less.
    outbox.press(Kind::Alerts);
    outbox.press(Kind::Pipeline);
    assert_eq!(outbox.pressed, Some(Kind::Alerts));
    drop(outbox);
    for (at, kind) in Kind::BY_WORTH.into_iter().enumerate() {
        assert_eq!(kind.worth(), at);
    }
}

#[test]
fn what_can_not_be_read_for_now_is_not_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    post.put(now(), logs(10)).unwrap();
    let too_old = || {
        let mut outbox = post.lock();
        outbox.max_age = Duration::ZERO;
        keeper::over_bounds(&mut outbox, true).map(|(kind, ..)| kind)
    };
    std::thread::sleep(Duration::from_millis(2));
    let (file, away) = (dir.path().join("logs/00000000000000000000.seg"), dir.path().join("away"));
    std::fs::rename(&file, &away).unwrap();
    // Reading a folder fails as a disk does.
    std::fs::create_dir(&file).unwrap();
    assert_eq!(too_old(), None);
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&away, &file).unwrap();
    assert_eq!(too_old(), Some(Kind::Logs));
}

#[test]
fn kinds_of_a_later_version_are_skipped_and_the_rest_of_its_states_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let (post, keeping) = start(dir.path(), "a");
    announce(&post);
    assert_eq!([(); 3].map(|()| post.put(now(), logs(10)).unwrap()), [1, 2, 3]);
    post.ring();
    wait_for("the group is on disk", || dir.path().join("delivery.state").exists());
    drop((post, keeping));
    rewrite(dir.path(), "delivery", |state| {
        state["groups"]["g"]["m"] = serde_json::json!(["traces", "logs"]);
        state["dropped"] = serde_json::json!([["a", "traces", 1, 2, "full"], ["a", "logs", 1, 1, "other"]]);
    });
    rewrite(dir.path(), "runs", |state| state["runs"][0]["first"]["traces"] = 0.into());

    let (post, _keeping) = start(dir.path(), "b");
    let outbox = post.lock();
    assert_eq!(outbox.groups().count(), 1);
    assert_eq!(outbox.status().dropped.len(), 1);
    assert_eq!(outbox.len(), 2, "what was lost is not sent");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            // A state that was being written has its name by now.
            false if entry.path().extension().is_some_and(|of| of == "new") => {}
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The lines of all records that are due in what a crash left.
fn lines_due(dir: &Path, boot: &str) -> Vec<String> {
    let (post, _keeping) = start(dir, boot);
    post.lock().connected();
    post.lock().subscribed();
    announce(&post);
    let mut lines = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(200) {
        while let Some(out) = post.lock().take() {
            assert_eq!(decode_head(&out.payload).unwrap().seq, Some(out.seq));
            let logs: Logs = wire::decode_body(&out.payload).unwrap();
            lines.extend(logs.records.into_iter().map(|record| record.message));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    lines.sort();
    lines
}

fn four_lines() -> Logs {
    let mut logs = logs(1);
    logs.records = ["1", "2", "3", "4"]
        .map(|line| {
            let mut record = logs.records[0].clone();
            record.message = line.to_owned();
            record
        })
        .into();
    logs
}

#[test]
fn a_crash_while_a_record_is_halved_leaves_the_whole_or_the_halves() {
    let (dir, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    post.lock().connected();
    post.lock().subscribed();
    // What stays before it keeps it in the log.
    assert_eq!((post.put(now(), logs(1)), post.put(now(), four_lines())), (Ok(1), Ok(2)));
    wait_for("the group is on disk", || dir.path().join("delivery.state").exists());
    let wholes = {
        let mut outbox = post.lock();
        assert_eq!(outbox.refused(&"a".parse().unwrap(), Kind::Logs, 2, LossReason::TooLarge), Refused::Halved);
        // Before the keeper sees them.
        std::mem::take(&mut outbox.to_halve)
    };
    let mut image = 0;
    let mut crash = || {
        image += 1;
        let image = images.path().join(image.to_string());
        copy(dir.path(), &image);
        assert_eq!(lines_due(&image, "b"), ["1", "2", "3", "4", "x"], "after step {image:?}");
        // Losses are booked, and forgotten; what was freed is still in the log.
        let (post, keeping) = start(&image, "c");
        commit(&post, "a", Kind::Logs, 2, 4);
        wait_for("nothing is declared", || post.lock().status().dropped.is_empty());
        let dropped = || spool::state::read(&image, "delivery").unwrap().unwrap();
        wait_for("also on disk", || String::from_utf8(dropped()).unwrap().contains("\"dropped\":[]"));
        drop((post, keeping));
        // Under their old numbers, so that ledgers know them; the whole beside its halves they would not.
        assert_eq!(lines_due(&image, "d"), ["1", "2", "3", "4", "x"], "after step {image:?}");
    };
    let reserve = spool::Reserve::take(images.path(), 0).unwrap();
    let mut halving = halve::Halving::default();
    crash();
    halving.begin(&wholes, &post, dir.path(), &reserve).unwrap();
    crash();
    halving.append(wholes, &post);
    crash();
    halving.end(&post, dir.path(), &reserve).unwrap();
    crash();
    // Nobody crashed: the halves are due, and the whole is not.
    let due = all_due(&post);
    assert_eq!(due, [1, 3, 4].map(|seq| ("a".to_owned(), Kind::Logs, seq)));
}

/// It went whole over a broker that takes larger packets than the present one.
#[test]
fn what_a_group_has_whole_does_not_come_to_it_in_halves() {
    let dir = tempfile::tempdir().unwrap();
    let (post, _keeping) = start(dir.path(), "a");
    ["g", "h"].iter().for_each(|group| announce_group(&post, group));
    assert_eq!((post.put(now(), four_lines()), post.put(now(), four_lines())), (Ok(1), Ok(2)));
    commit(&post, "a", Kind::Logs, 1, 1);
    let refused = |seq| post.lock().refused(&"a".parse().unwrap(), Kind::Logs, seq, LossReason::TooLarge);
    assert_eq!((refused(1), refused(2)), (Refused::Declared, Refused::Halved));
    wait_for("the loss is declared", || post.lock().status().dropped.iter().any(|loss| loss.from == 1));
}

/// A board without a battery begins in 1970, and all that it has made would be half a century old when its clock is set.
#[test]
fn the_age_of_records_of_a_clock_that_was_not_set_is_not_known() {
    let now = 1_795_000_000_000;
    assert_eq!(
        [0, 1000, SET_CLOCK, now - 1, now].map(|at| shelf::is_older(at, now)),
        [false, false, true, true, false]
    );
    assert!(!shelf::is_older(1000, 2000));
}

#[test]
fn what_a_killed_run_left_in_the_temporary_folder_is_removed_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let spool_at = |name: &str| dir.path().join(name);
    for left in ["utilizer-spool-left", "other-spool"] {
        let (post, keeping) = start(&spool_at(left), "a");
        post.put(now(), logs(10)).unwrap();
        drop((post, keeping));
    }
    let _running = start(&spool_at("utilizer-spool-running"), "a");
    std::fs::create_dir(spool_at("utilizer-spool-without-lock")).unwrap();
    std::os::unix::fs::symlink(spool_at("other-spool"), spool_at("utilizer-spool-link")).unwrap();
    open::remove_leftovers(dir.path(), Duration::from_secs(3600));
    assert!(spool_at("utilizer-spool-left").exists(), "it may be one that is about to be locked");
    open::remove_leftovers(dir.path(), Duration::ZERO);
    let mut names: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let running = ["utilizer-spool-link", "utilizer-spool-running", "utilizer-spool-without-lock"];
    assert_eq!(names, [&["other-spool"][..], &running[..]].concat());
    assert!(spool_at("other-spool/logs").exists());
}

fn moved(place: u64) -> Moves {
    [("file/a/1".to_owned(), Some(place.to_string()))].into()
}

fn line(number: u64, bytes: usize) -> Vec<u8> {
    let record = &logs(bytes).records[0];
    let mut record = serde_json::to_value(record).unwrap();
    record["service_name"] = number.to_string().into();
    record.to_string().into_bytes()
}

fn places(post: &Post) -> Vec<(String, String)> {
    post.positions("file/a/")
}

fn place(number: u64) -> Vec<(String, String)> {
    vec![("file/a/1".to_owned(), number.to_string())]
}

/// What a kill leaves is what lies in the folder.
#[test]
fn a_kill_leaves_a_record_and_its_place_or_neither() {
    let (dir, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    let mut image = 0;
    let mut killed = |expected: u64| {
        image += 1;
        let image = images.path().join(image.to_string());
        copy(dir.path(), &image);
        let (post, keeping) = start(&image, "b");
        assert_eq!(places(&post), place(expected));
        drop((post, keeping));
        // Also when the state covers it, and when it is lost.
        let (post, keeping) = start(&image, "c");
        assert_eq!(places(&post), place(expected));
        drop((post, keeping));
    };
    assert_eq!(post.put_read(now(), &line(1, 10), &moved(100)), Ok(1));
    killed(100);
    assert_eq!(post.put_read(now(), &[line(2, 10), line(3, 10)].join(&b','), &moved(300)), Ok(2));
    assert_eq!(post.put(now(), logs(10)), Ok(3));
    killed(300);
    // Records are whole, and the header is nobody's business.
    post.lock().connected();
    post.lock().subscribed();
    announce(&post);
    let mut services = Vec::new();
    wait_for("all are due", || post.lock().len() == 3);
    while let Some(out) = post.lock().take() {
        let logs: Logs = wire::decode_body(&out.payload).unwrap();
        services.push(logs.records.into_iter().map(|record| record.service_name).collect::<Vec<_>>());
    }
    assert_eq!(services, [vec!["1"], vec!["2", "3"], vec![""]]);
    // What moved without a record is on the disk soon.
    post.note(&moved(350), true);
    wait_for("the state is written", || dir.path().join("positions.state").exists());
    killed(350);
    // A record that was torn has no place.
    assert_eq!(post.put_read(now(), &line(4, 10), &moved(400)), Ok(4));
    let segment = dir.path().join("logs/00000000000000000000.seg");
    let bytes = std::fs::metadata(&segment).unwrap().len();
    let torn = images.path().join("torn");
    copy(dir.path(), &torn);
    std::fs::File::options()
        .write(true)
        .open(torn.join("logs/00000000000000000000.seg"))
        .unwrap()
        .set_len(bytes - 1)
        .unwrap();
    let (post, _keeping) = start(&torn, "d");
    assert_eq!(places(&post), place(350));
}

#[test]
fn no_record_is_trimmed_whose_place_is_nowhere_else() {
    let (dir, images) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    for number in 1..=200 {
        assert_eq!(post.put_read(now(), &line(number, 9000), &moved(number)), Ok(number));
        commit(&post, "a", Kind::Logs, number, number);
        if number % 20 == 0 {
            std::thread::sleep(Duration::from_millis(300));
            let image = images.path().join(number.to_string());
            copy(dir.path(), &image);
            let (post, _keeping) = start(&image, "b");
            assert_eq!(places(&post), place(number));
        }
    }
    wait_for("segments are trimmed", || post.lock().shelf(Kind::Logs).log.first() > 100);
}

#[test]
fn log_inputs_have_half_of_the_spool_and_displace_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (post, keeping) = start(dir.path(), "a");
    announce(&post);
    assert_eq!(post.put(now(), metrics()), Ok(1));
    let mut taken = 0;
    while post.put_read(now(), &line(taken + 1, 100_000), &moved(taken + 1)).is_ok() {
        taken += 1;
    }
    assert!((19..=21).contains(&taken), "{taken}");
    assert_eq!(places(&post), place(taken), "what found no room has moved nothing");
    post.ring();
    std::thread::sleep(Duration::from_millis(600));
    let outbox = post.lock();
    assert_eq!((outbox.counts(Kind::Logs).declared, outbox.counts(Kind::Metrics).declared), (0, 0));
    drop(outbox);
    assert!(post.put(now(), logs(100_000)).is_ok(), "others still find room");
    drop((post, keeping));
    // A log that is another one does not stand below what the state covers.
    std::fs::remove_dir_all(dir.path().join("logs")).unwrap();
    let (post, keeping) = start(dir.path(), "b");
    assert_eq!(places(&post), place(taken));
    assert_eq!(post.put_read(now(), &line(1, 10), &moved(7)), Ok(1));
    let image = tempfile::tempdir().unwrap();
    copy(dir.path(), image.path());
    drop((post, keeping));
    let (post, _keeping) = start(image.path(), "c");
    assert_eq!(places(&post), place(7));
}

fn audit(message: &str) -> Logs {
    let record: LogRecord = serde_json::from_value(serde_json::json!({
        "timestamp": "2026-01-01T00:00:00Z", "level": "INFO", "message": message, "category": "audit",
    }))
    .unwrap();
    Logs { records: vec![record] }
}

/// The end of each run's chain, once the disk has it.
fn heads(post: &Post, wanted: impl Fn(&[wire::messages::AuditHead]) -> bool) -> Vec<wire::messages::AuditHead> {
    let found = std::cell::RefCell::new(Vec::new());
    wait_for("the ends of the chains are on the disk", || {
        post.ring();
        let told = post.lock().take_audit_heads();
        told.is_some_and(|heads| {
            *found.borrow_mut() = heads;
            wanted(&found.borrow())
        })
    });
    found.into_inner()
}

fn field(post: &Post, boot: &str, seq: u64, name: &str) -> Option<String> {
    let payload = post.lock().shelf(Kind::Logs).read(&boot.parse().unwrap(), seq).unwrap();
    wire::decode_body::<Logs>(&payload).unwrap().records[0].fields.get(name).cloned()
}

#[test]
fn audit_records_are_chained_over_refused_ones_and_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (post, keeping) = start(dir.path(), "a");
    post.put(now(), audit("first")).unwrap();
    assert!(matches!(post.put(now(), audit(&"x".repeat(2 << 20))), Err(PutError::Large(..))));
    post.put(now(), logs(10)).unwrap();
    post.put(now(), audit("second")).unwrap();
    assert_eq!([1, 3].map(|seq| field(&post, "a", seq, SEQ).unwrap()), ["1", "2"]);
    assert_eq!(field(&post, "a", 2, SEQ), None);
    assert_eq!(field(&post, "a", 1, BEFORE), None);
    let told = heads(&post, |heads| heads.first().is_some_and(|head| head.seq == 2));
    assert_eq!(told[0].hash.to_string(), field(&post, "a", 3, HASH).unwrap());
    assert_eq!(post.lock().take_audit_heads(), None, "told once");
    post.lock().audit_heads_untold();
    assert_eq!(post.lock().take_audit_heads(), Some(told.clone()));
    drop((post, keeping));

    let (post, _keeping) = start(dir.path(), "b");
    // Lines of inputs are JSON already.
    let read = wire::encode(&audit("third").records[0]);
    post.put_read(now(), &[line(1, 10), read].join(&b','), &moved(1)).unwrap();
    let payload = post.lock().shelf(Kind::Logs).read(&"b".parse().unwrap(), 1).unwrap();
    let records = wire::decode_body::<Logs>(&payload).unwrap().records;
    let third = &records[1].fields;
    assert_eq!((records.len(), records[0].fields.len(), third[SEQ].as_str()), (2, 0, "1"));
    assert_eq!(third[BEFORE], format!("a 2 {}", told[0].hash));
    assert_eq!(heads(&post, |heads| heads.len() == 2)[1].hash.to_string(), third[HASH]);
    post.put(now(), audit("fourth")).unwrap();
    assert_eq!(field(&post, "b", 2, SEQ).unwrap(), "2");
    assert_eq!(heads(&post, |heads| heads.len() == 2)[0], told[0]);
}

/// An agent that is killed has not written down everything that it spooled.
#[test]
fn the_end_of_a_killed_runs_chain_is_found_in_the_spool() {
    let dir = tempfile::tempdir().unwrap();
    let (post, keeping) = start(dir.path(), "a");
    post.put(now(), audit("first")).unwrap();
    heads(&post, |heads| !heads.is_empty());
    let early = std::fs::read(dir.path().join("audit.state")).unwrap();
    post.put(now(), audit("second")).unwrap();
    post.put(now(), audit("third")).unwrap();
    let hash = field(&post, "a", 3, HASH).unwrap();
    drop((post, keeping));
    std::fs::write(dir.path().join("audit.state"), early).unwrap();

    let (post, _keeping) = start(dir.path(), "b");
    let told = heads(&post, |heads| !heads.is_empty());
    assert_eq!((told[0].boot.as_str(), told[0].seq, told[0].hash.to_string()), ("a", 3, hash));
}

#[test]
fn audit_records_that_are_given_up_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let (post, _keeping) = start(dir.path(), "a");
    announce(&post);
    post.put(now(), audit("stored")).unwrap();
    commit(&post, "a", Kind::Logs, 1, 1);
    for text in ["lost", "lost too"] {
        post.put(now(), audit(text)).unwrap();
    }
    let hash = field(&post, "a", 3, HASH).unwrap();
    // As the keeper does before a segment goes; what is said twice counts once.
    post.lock().note_lost(&"a".parse().unwrap(), Kind::Logs, 1, 3);
    post.lock().note_lost(&"a".parse().unwrap(), Kind::Logs, 1, 3);
    post.put(now(), audit("stored again")).unwrap();
    let told = heads(&post, |heads| !heads[0].lost.is_empty() && heads[0].seq == 4);
    let lost = &told[0].lost;
    assert_eq!((lost.len(), lost[0].from, lost[0].to, lost[0].hash.to_string()), (1, 2, 3, hash));
}
