//! Random histories beside a model of what a log is: records by index, and a place from which on they are wanted.

use std::collections::BTreeMap;

use utilizer_spool::{Log, Options, ReadError, Reader};

use crate::{Sequence, folder};

#[derive(Default)]
struct Model {
    records: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    first: u64,
    next: u64,
}

fn read(reader: &mut Reader, model: &Model, index: u64) {
    let mut buffer = b"left from before".to_vec();
    match reader.read(index, &mut buffer) {
        Ok(None) => assert!(index >= model.next),
        Ok(Some(entry)) => {
            assert_eq!(entry.index, index);
            let (head, body) = &model.records[&index];
            assert_eq!((entry.head, entry.body), (&head[..], &body[..]));
            assert!(entry.appended_ms > 1_600_000_000_000);
        }
        Err(ReadError::Gone { first }) => assert!(index < model.first && first == model.first),
        Err(error) => panic!("{index}: {error}"),
    }
}

#[test]
fn agrees_with_a_map_of_records() {
    for seed in 0..150 {
        let mut sequence = Sequence(seed);
        let dir = folder();
        let options = Options {
            segment_bytes: 200 + sequence.below(3000),
            reserve_bytes: sequence.below(2) * 500,
            max_record: 100_000,
        };
        let mut model = Model::default();
        let (mut log, _) = Log::open(dir.path(), options).unwrap();
        let mut readers = vec![log.reader(), log.reader()];
        for _ in 0..150 {
            match sequence.below(16) {
                0..=8 => {
                    let most = if sequence.below(20) == 0 { 90_000 } else { 300 };
                    let (head, body) = (sequence.bytes(20), sequence.bytes(most));
                    assert_eq!(log.append(&head, &body).unwrap(), model.next);
                    model.records.insert(model.next, (head, body));
                    model.next += 1;
                }
                9 => {
                    log.sync().unwrap();
                    assert_eq!(log.synced(), model.next);
                }
                10 => {
                    let to = model.first + sequence.below(model.next - model.first + 3);
                    log.trim(to).unwrap();
                    model.first = to.min(model.next).max(model.first);
                }
                11 => {
                    let oldest = log.oldest();
                    assert_eq!(oldest.is_none(), model.first == model.next);
                    let dropped = log.drop_oldest().unwrap();
                    assert_eq!(dropped, oldest);
                    if let Some(dropped) = dropped {
                        assert_eq!(dropped.from, model.first);
                        model.first = dropped.to + 1;
                    }
                }
                12 if sequence.below(3) == 0 => {
                    drop(log);
                    let recovered;
                    (log, recovered) = Log::open(dir.path(), options).unwrap();
                    assert_eq!((recovered.torn_bytes, recovered.bad_segments.len()), (0, 0));
                    readers = vec![log.reader(), log.reader()];
                }
                13 => {
                    let mut buffer = Vec::new();
                    let from = log.first();
                    let in_order = (from..log.next()).map(|i| readers[0].read(i, &mut buffer).unwrap().unwrap().index);
                    assert!(in_order.eq(from..model.next));
                }
                _ => {
                    let reader = sequence.below(2) as usize;
                    read(&mut readers[reader], &model, sequence.below(model.next + 2));
                }
            }
            assert_eq!((log.first(), log.next()), (model.first, model.next));
            assert!(log.synced() <= log.next());
            let files = std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap);
            let segments = files.filter(|f| f.file_name().to_string_lossy().ends_with(".seg"));
            let (count, bytes) = segments.fold((0, 0), |(n, b), file| (n + 1, b + file.metadata().unwrap().len()));
            assert_eq!((log.segments(), log.bytes()), (count, bytes));
            model.records = model.records.split_off(&model.first);
        }
        let report = utilizer_spool::inspect(dir.path()).unwrap();
        let report = &report.logs[0];
        assert_eq!((report.first, report.next), (model.first, model.next));
        assert_eq!((report.records, report.gaps.len()), (model.next - model.first, 0));
    }
}

#[test]
fn a_record_that_is_too_large_is_refused_with_its_size() {
    let dir = folder();
    let (mut log, _) = Log::open(dir.path(), Options { max_record: 10, ..Options::default() }).unwrap();
    let error = log.append(b"12345", b"123456").unwrap_err();
    assert!(error.to_string().contains("11 bytes") && error.to_string().contains("10 bytes"), "{error}");
    assert_eq!(log.append(b"", b"").unwrap(), 0, "an empty record is one");
    assert!(log.reader().read(0, &mut Vec::new()).unwrap().unwrap().body.is_empty());
}

#[test]
fn a_sync_on_another_thread_covers_what_was_appended_before() {
    let dir = folder();
    let (mut log, _) = Log::open(dir.path(), Options { segment_bytes: 100, ..Options::default() }).unwrap();
    (0..10).for_each(|_| assert!(log.append(b"", &[0; 60]).is_ok()));
    let syncer = log.sync_handle();
    log.append(b"", b"later").unwrap();
    let syncer = std::thread::spawn(move || syncer.run().map(|()| syncer)).join().unwrap().unwrap();
    assert_eq!(log.synced(), 0);
    log.mark_synced(syncer);
    assert_eq!(log.synced(), 10);
    log.sync().unwrap();
    assert_eq!(log.synced(), 11);
}

#[test]
fn a_second_process_is_refused() {
    let dir = folder();
    let (log, _) = Log::open(dir.path(), Options::default()).unwrap();
    let error = Log::open(dir.path(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("in use by another process"), "{error}");
    drop(log);
    assert!(Log::open(dir.path(), Options::default()).is_ok());
}

#[test]
fn a_reader_follows_the_log_from_another_thread() {
    let dir = folder();
    let (mut log, _) = Log::open(dir.path(), Options { segment_bytes: 5000, ..Options::default() }).unwrap();
    let mut reader = log.reader();
    let follower = std::thread::spawn(move || {
        let (mut buffer, mut index) = (Vec::new(), 0u64);
        while index < 3000 {
            match reader.read(index, &mut buffer) {
                Ok(Some(entry)) => {
                    assert_eq!(entry.body, index.to_le_bytes());
                    index += 1;
                }
                Ok(None) => std::thread::yield_now(),
                Err(ReadError::Gone { first }) => index = first,
                Err(error) => panic!("{error}"),
            }
        }
    });
    for index in 0..3000u64 {
        log.append(b"", &index.to_le_bytes()).unwrap();
        if index % 500 == 499 {
            log.trim(index - 400).unwrap();
        }
    }
    follower.join().unwrap();
}
