//! Segments with bytes that nobody wrote.

use std::fs;
use std::path::PathBuf;

use utilizer_spool::{Log, Options, ReadError};

use crate::{Sequence, folder};

const OPTIONS: Options = Options { segment_bytes: 1500, reserve_bytes: 0, max_record: 1 << 20 };

fn segments(dir: &std::path::Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    files.sort();
    files
}

fn body(index: u64) -> Vec<u8> {
    Sequence(index).bytes(200)
}

fn filled(records: u64) -> tempfile::TempDir {
    let dir = folder();
    let (mut log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    (0..records).for_each(|index| assert!(log.append(b"head", &body(index)).is_ok()));
    dir
}

/// Reads all that can be read, skipping as the errors say: the indices found and the gaps.
fn read_all(log: &Log, check: bool) -> (Vec<u64>, Vec<(u64, u64)>) {
    let (mut reader, mut buffer) = (log.reader(), Vec::new());
    let (mut found, mut gaps) = (Vec::new(), Vec::new());
    let mut index = log.first();
    let mut steps = 0;
    while index < log.next() {
        steps += 1;
        assert!(steps < 5000, "it loops at {index}");
        match reader.read(index, &mut buffer) {
            Ok(entry) => {
                let entry = entry.expect("it is below the end");
                assert!(!check || entry.body == body(index), "a wrong record {index}");
                found.push(index);
                index += 1;
            }
            Err(ReadError::Gap { from, to }) => {
                assert!(from == index && to >= from && to < log.next());
                gaps.push((from, to));
                index = to + 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    (found, gaps)
}

#[test]
fn damage_costs_the_records_that_it_hits_and_no_others() {
    let mut sequence = Sequence(3);
    for _ in 0..150 {
        let dir = filled(60);
        let files = segments(dir.path());
        let file = &files[sequence.below(files.len() as u64) as usize];
        let mut bytes = fs::read(file).unwrap();
        // Behind the segment's header: without that nothing of a segment can be trusted.
        let at = 32 + sequence.below(bytes.len() as u64 - 32) as usize;
        bytes[at] ^= 1 << sequence.below(8);
        fs::write(file, bytes).unwrap();
        let (log, recovered) = Log::open(dir.path(), OPTIONS).unwrap();
        let (found, gaps) = read_all(&log, true);
        let lost = gaps.iter().map(|(from, to)| to - from + 1).sum::<u64>();
        if file == files.last().unwrap() && gaps.is_empty() {
            // The very last record: nothing tells it from a torn one.
            assert!(recovered.torn_bytes > 0 && recovered.bad_segments.is_empty());
            assert_eq!((log.next(), found.len()), (59, 59));
        } else {
            assert_eq!((lost, found.len(), log.next()), (1, 59, 60));
        }
    }
}

#[test]
fn a_segment_without_a_header_or_without_a_file_is_a_gap() {
    let dir = filled(60);
    let files = segments(dir.path());
    assert!(files.len() > 4);
    fs::write(&files[1], b"").unwrap();
    fs::remove_file(&files[2]).unwrap();
    let (log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    let (found, gaps) = read_all(&log, true);
    assert_eq!(found.len() as u64 + gaps.iter().map(|(from, to)| to - from + 1).sum::<u64>(), 60);
    assert_eq!(gaps.len(), 1, "the file that is gone belongs to the one before: {gaps:?}");
    assert_eq!(utilizer_spool::inspect(dir.path()).unwrap().logs[0].gaps, gaps);
}

#[test]
fn a_last_segment_without_a_header_is_set_aside_and_its_numbers_are_not_used_again() {
    let dir = filled(60);
    let last = segments(dir.path()).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    bytes[3] ^= 1;
    fs::write(&last, bytes).unwrap();
    let (mut log, recovered) = Log::open(dir.path(), OPTIONS).unwrap();
    let bad = &recovered.bad_segments[0];
    assert!(bad.path.exists() && bad.to >= 59 && log.next() == bad.to + 1, "{bad:?}");
    assert_eq!(log.append(b"", b"new").unwrap(), bad.to + 1);
    drop(log);
    let (log, recovered) = Log::open(dir.path(), OPTIONS).unwrap();
    assert_eq!((recovered.bad_segments.len(), log.next()), (0, bad.to + 2), "it is said once");
    let (_, gaps) = read_all(&log, false);
    assert_eq!(gaps, [(bad.from, bad.to)]);
    let report = utilizer_spool::inspect(dir.path()).unwrap();
    assert_eq!(report.logs[0].bad_files, std::slice::from_ref(&bad.path));
    assert!(report.to_string().contains("set aside"), "{report}");
}

#[test]
fn any_bytes_are_survived() {
    let mut sequence = Sequence(11);
    for round in 0..400 {
        let dir = filled(30);
        let files = segments(dir.path());
        for file in files.iter().chain([&dir.path().join("cursor")]) {
            let mut bytes = fs::read(file).unwrap();
            for _ in 0..sequence.below(4) {
                let at = sequence.below(bytes.len() as u64) as usize;
                let to = (at + sequence.below(100) as usize).min(bytes.len());
                match sequence.below(5) {
                    0 => bytes[at] = sequence.below(256) as u8,
                    1 => bytes[at..to].fill(0xff),
                    2 => drop(bytes.drain(at..to)),
                    3 => drop(bytes.splice(at..at, sequence.bytes(90))),
                    _ => bytes.truncate(at),
                }
                if bytes.is_empty() {
                    break;
                }
            }
            fs::write(file, bytes).unwrap();
        }
        let (mut log, _) = Log::open(dir.path(), OPTIONS).unwrap();
        read_all(&log, true);
        let next = log.next();
        assert_eq!(log.append(b"head", &body(next)).unwrap(), next, "round {round}");
        log.drop_oldest().unwrap();
        drop(log);
        let (log, _) = Log::open(dir.path(), OPTIONS).unwrap();
        assert_eq!(log.next(), next + 1);
        read_all(&log, true);
        drop(utilizer_spool::inspect(dir.path()).unwrap().to_string());
    }
}

#[test]
fn a_record_inside_a_record_is_never_taken_for_one() {
    let dir = folder();
    let (mut log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    log.append(b"", b"first").unwrap();
    // Whoever sends bodies may know the format, but not the salt.
    let other = filled(5);
    let forged = fs::read(&segments(other.path())[0]).unwrap();
    log.append(b"", &forged).unwrap();
    log.append(b"", b"last").unwrap();
    drop(log);
    let file = &segments(dir.path())[0];
    let mut bytes = fs::read(file).unwrap();
    bytes[32 + 28 + 5 + 1] ^= 1;
    fs::write(file, bytes).unwrap();
    let (log, recovered) = Log::open(dir.path(), OPTIONS).unwrap();
    assert_eq!(read_all(&log, false), (vec![0, 2], vec![(1, 1)]));
    assert_eq!((recovered.bad_segments[0].from, recovered.bad_segments[0].to), (1, 1));
}
