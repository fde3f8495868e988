//! A disk without room.

use super::Sequence;
use super::shim::Shim;
use crate::{AppendError, Log, Options};

const OPTIONS: Options = Options { segment_bytes: 1000, reserve_bytes: 600, max_record: 1000 };

#[test]
fn a_full_disk_refuses_records_and_lets_them_go() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = Shim::disk(u64::MAX, 20_000);
    let (mut log, _) = Log::open_on(dir.path(), OPTIONS, &disk).unwrap();
    let mut random = Sequence(1);
    for round in 0..50u8 {
        let refused = loop {
            if let Err(error) = log.append(b"head", &vec![round; random.below(300) as usize]) {
                break error;
            }
        };
        assert!(matches!(refused, AppendError::NoSpace(_)), "{refused}");
        let next = log.next();
        assert!(matches!(log.append(b"", &[0; 900]), Err(AppendError::NoSpace(_))), "still full");
        assert_eq!(log.next(), next, "a refused record has no number");

        let state = vec![round; 300];
        log.write_state("s", &state).unwrap();
        assert_eq!(Log::read_state(dir.path(), "s").unwrap(), Some(state));
        log.sync().unwrap();
        let oldest = log.drop_oldest().unwrap().unwrap();
        assert_eq!(log.first(), oldest.to + 1);
        log.trim(oldest.to + 3).unwrap();
        assert!(log.append(b"", b"there is room again").is_ok(), "round {round}");
    }
    let (first, next) = (log.first(), log.next());
    drop(log);
    let (log, recovered) = Log::open(dir.path(), OPTIONS).unwrap();
    assert_eq!((log.first(), log.next(), recovered.torn_bytes), (first, next, 0));
    let mut reader = log.reader();
    let mut buffer = Vec::new();
    assert!((first..next).all(|index| reader.read(index, &mut buffer).unwrap().is_some()));
}

#[test]
fn a_log_opens_on_a_disk_that_is_full_to_the_last_byte() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, shim) = Shim::disk(u64::MAX, u64::MAX);
    let (mut log, _) = Log::open_on(dir.path(), OPTIONS, &disk).unwrap();
    for _ in 0..40 {
        log.append(b"", &[7; 200]).unwrap();
    }
    drop(log);
    shim.set_room(shim.used());
    let (mut log, _) = Log::open_on(dir.path(), OPTIONS, &disk).unwrap();
    assert!(matches!(log.append(b"", &[0; 300]), Err(AppendError::NoSpace(_))));
    // Even the last segment goes: the reserve has room for the one that replaces it.
    log.trim(u64::MAX).unwrap();
    assert_eq!((log.first(), log.segments(), log.bytes()), (40, 1, 32));
    log.append(b"", &[0; 300]).unwrap();
}

#[test]
fn what_lets_others_be_trimmed_finds_the_reserves_room() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, shim) = Shim::disk(u64::MAX, 20_000);
    let (mut log, _) = Log::open_on(dir.path(), OPTIONS, &disk).unwrap();
    while log.append(b"", &[7; 50]).is_ok() {}
    let mut found = 0u64;
    while log.append_in_need(b"", &[8; 50]).is_ok() {
        found += 1;
        assert!(log.append(b"", &[7; 50]).is_err(), "what is left of the reserve is no room for others");
    }
    assert!((4..600 / 50).contains(&found), "{found}");
    assert!(matches!(log.append_in_need(b"", &[8; 50]), Err(AppendError::NoSpace(_))), "and then it is full");
    log.sync().unwrap();
    shim.set_room(40_000);
    log.append_in_need(b"", &[8; 50]).unwrap();
    let (first, next) = (log.first(), log.next());
    drop(log);
    let (log, recovered) = Log::open(dir.path(), OPTIONS).unwrap();
    assert_eq!((log.first(), log.next(), recovered.torn_bytes), (first, next, 0));
}

#[test]
fn side_files_are_replaced_on_a_full_disk_as_often_as_need_be() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _) = Shim::disk(u64::MAX, 20_000);
    let (mut log, _) = Log::open_on(dir.path(), OPTIONS, &disk).unwrap();
    for round in 0..50u8 {
        // Others take every byte that they find.
        for size in [200, 10, 0] {
            while log.append(b"", &vec![7; size]).is_ok() {}
        }
        log.write_state("s", &[round; 200]).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(Log::read_state(dir.path(), "s").unwrap(), Some(vec![round; 200]));
    }
}

#[test]
fn what_goes_for_room_goes_also_where_it_is_small() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(dir.path(), OPTIONS).unwrap();
    log.append(b"", b"small").unwrap();
    let before = log.bytes();
    assert!(log.begin_trim(1).unwrap().is_none(), "a trim alone goes on in the same segment");
    log.append(b"", b"small").unwrap();
    let trim = log.begin_drop_to(2).unwrap().unwrap();
    trim.run().unwrap();
    log.end_trim(trim).unwrap();
    assert!(log.bytes() < before);
    assert_eq!((log.first(), log.next(), log.segments()), (2, 2, 1));
}
