//! A small history, ended after each of its bytes.

use std::path::Path;
use std::sync::Arc;

use super::Sequence;
use super::shim::Shim;
use crate::{Log, Options, ReadError};

const OPTIONS: Options = Options { segment_bytes: 300, reserve_bytes: 100, max_record: 1000 };

/// What was promised up to the end.
#[derive(Debug, Default)]
struct Promised {
    appended: u64,
    synced: u64,
    /// Trimmed to, and where a trim that did not return may have come to.
    first: u64,
    first_at_most: u64,
    /// States written, and one that did not return.
    state: u64,
    state_at_most: u64,
}

fn record(index: u64) -> (Vec<u8>, Vec<u8>) {
    let mut sequence = Sequence(index + 77);
    let head = (0..sequence.below(5)).map(|i| (index + i) as u8).collect();
    let body = (0..sequence.below(120)).map(|i| (index * 7 + i) as u8).collect();
    (head, body)
}

/// Runs until the disk ends; `None` if not even opening came to its end.
fn history(dir: &Path, left: u64, rounds: u64) -> (Promised, Arc<Shim>) {
    let (disk, shim) = Shim::disk(left, u64::MAX);
    let mut promised = Promised::default();
    let Ok((mut log, _)) = Log::open_on(dir, OPTIONS, &disk) else { return (promised, shim) };
    let mut sequence = Sequence(5);
    for round in 0..rounds {
        for _ in 0..2 + sequence.below(3) {
            let (head, body) = record(promised.appended);
            match log.append(&head, &body) {
                Ok(index) => assert_eq!(index, promised.appended),
                Err(_) => return (promised, shim),
            }
            promised.appended += 1;
        }
        if round % 2 == 0 {
            if log.sync().is_err() {
                return (promised, shim);
            }
            promised.synced = promised.appended;
        }
        if round % 3 == 1 {
            // All of it at times, so that the last segment goes too.
            let to = if round % 6 == 1 { promised.appended } else { promised.first + sequence.below(8) };
            promised.first_at_most = to.min(promised.appended).max(promised.first);
            if log.trim(to).is_err() {
                return (promised, shim);
            }
            promised.first = promised.first_at_most;
        }
        if round % 4 == 2 {
            promised.state_at_most = promised.state + 1;
            if log.write_state("s", &promised.state_at_most.to_le_bytes()).is_err() {
                return (promised, shim);
            }
            promised.state = promised.state_at_most;
        }
        if round % 5 == 4 {
            let oldest = log.oldest();
            promised.first_at_most = oldest.map_or(promised.first, |oldest| oldest.to + 1);
            match log.drop_oldest() {
                Ok(dropped) => assert_eq!(dropped, oldest),
                Err(_) => return (promised, shim),
            }
            promised.first = promised.first_at_most;
        }
    }
    (promised, shim)
}

/// Opens what is left and reads it; `gaps` says whether unsynced records may be missing in the middle.
fn check(dir: &Path, promised: &Promised, gaps: bool, power_cut: bool, what: &str) {
    // Not on the real disk: nothing is promised of it here, and syncing takes its time.
    let (disk, _) = Shim::disk(u64::MAX, u64::MAX);
    let (mut log, recovered) = Log::open_on(dir, OPTIONS, &disk).unwrap_or_else(|error| panic!("{what}: {error}"));
    let (first, next) = (log.first(), log.next());
    // Of a segment that can't be read at all nobody knows how many records it had.
    let unknown = if power_cut && !recovered.bad_segments.is_empty() { OPTIONS.segment_bytes / 28 } else { 0 };
    assert!(first <= promised.first_at_most + unknown, "{what}: {first} of {promised:?}");
    assert!(next >= promised.synced && next <= promised.appended + unknown, "{what}: {next} of {promised:?}");
    if !power_cut {
        assert!(first >= promised.first, "{what}: {first} of {promised:?}");
        assert_eq!(next, promised.appended, "{what}");
    }
    // A number that was given is not given again, unless nobody can have it.
    assert!(next >= promised.first, "{what}");
    let mut reader = log.reader();
    let mut buffer = Vec::new();
    let mut index = first;
    while index < next {
        match reader.read(index, &mut buffer) {
            Ok(entry) => {
                let (head, body) = record(index);
                let entry = entry.unwrap();
                assert_eq!((entry.index, entry.head, entry.body), (index, &head[..], &body[..]), "{what}");
                index += 1;
            }
            Err(ReadError::Gap { from, to }) => {
                assert!(gaps && from >= promised.synced && to < next, "{what}: gap {from}-{to} of {promised:?}");
                index = to + 1;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    let state = Log::read_state(dir, "s").unwrap().map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().unwrap()));
    assert!((promised.state..=promised.state_at_most).contains(&state), "{what}: state {state} of {promised:?}");

    // It goes on.
    for _ in 0..3 {
        log.append(b"h", b"again").unwrap();
    }
    log.sync().unwrap();
    drop(log);
    let (log, recovered) = Log::open_on(dir, OPTIONS, &disk).unwrap();
    assert_eq!((log.next(), recovered.torn_bytes), (next + 3, 0), "{what}");
    let mut reader = log.reader();
    for index in next..next + 3 {
        assert_eq!(reader.read(index, &mut buffer).unwrap().unwrap().body, b"again", "{what}");
    }
}

/// In memory where there is such a place: thousands of folders are made.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

#[test]
fn a_crash_after_any_byte_leaves_all_that_was_written() {
    let mut ends = 0;
    for left in 1.. {
        let dir = folder();
        let (promised, shim) = history(dir.path(), left, 11);
        check(dir.path(), &promised, false, false, &format!("after {left} bytes"));
        if !shim.ended() {
            break;
        }
        ends = left;
    }
    assert!(ends > 2000, "the history has {ends} bytes and operations only");
}

#[test]
fn a_power_cut_after_any_byte_leaves_all_that_was_synced() {
    let mut random = Sequence(99);
    for left in 1.. {
        let (dir, after) = (folder(), folder());
        let (promised, shim) = history(dir.path(), left, 11);
        shim.power_cut(after.path(), &mut random);
        check(after.path(), &promised, true, true, &format!("cut after {left} bytes"));
        if !shim.ended() {
            break;
        }
    }
}
